"""One step of every kind of implicit method has the first and second derivatives of the map that it computes.

The step is taken without a solve. Its equations are then solved to a few roundings, so that difference quotients give
the derivative to seven digits.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import rungax
from rungax import ODETerm

from ..catalogue import SPLIT, name, slow_unless, terms_for
from ..steps import make_step
from .measure import along, assert_derivative, difference_quotient, direction_like, weigh

SOLVERS = (
    rungax.TRBDF2(),
    rungax.Kvaerno5(),
    rungax.KenCarp4(),
    rungax.Sil3(),
    rungax.Rosenbrock23(),
    rungax.Rodas5P(),
    rungax.ROS3P(),
)
FEW = [pytest.param(s, id=name(s), marks=slow_unless(name(s) == "Kvaerno5")) for s in SOLVERS]
ONE_OF_EACH = [pytest.param(s, id=name(s)) for s in (rungax.Kvaerno5(), rungax.Rodas5P(), rungax.KenCarp4())]
SECOND = [pytest.param(s, id=name(s), marks=slow_unless(name(s) == "TRBDF2")) for s in SOLVERS]

INPUTS: dict[str, Any] = {
    "y0": np.asarray([1.2, 1.0]),
    "args": {"rate": np.asarray(20.0), "pull": np.asarray(1.5)},
    "t0": np.asarray(0.3),
    "t1": np.asarray(0.4),
}
ELSEWHERE: dict[str, Any] = {**INPUTS, "t0": np.asarray(0.1), "t1": np.asarray(0.24)}


def field(t: Any, y: Any, args: Any) -> Any:
    """A field that is stiff, nonlinear and not autonomous, with derivatives that do not commute."""
    a, b = y
    fast = -args["rate"] * (1 + 0.5 * jnp.sin(3 * t)) * (a - b * b - 0.1 * jnp.cos(t) * a * b)
    return jnp.stack([fast, jnp.sin(args["pull"] * t) * a - args["pull"] * b])


def outcome_of_step(solver: Any, inputs: Any, **options: Any) -> Any:
    """The state, the error estimate, the dense output inside the step; all NaN if its equations were not solved."""
    y0, args, t0, t1 = (inputs[k] for k in ("y0", "args", "t0", "t1"))
    t0, t1 = jnp.asarray(t0), jnp.asarray(t1)
    step = make_step(solver, terms_for(solver, field), t0, t1, y0, args, **options)
    interpolation = solver.interpolation_cls(t0=step.t0, t1=step.t1, **solver.densify(step))
    outcome = step.y1, step.y_error, interpolation.evaluate(step.t0 + 0.4 * (step.t1 - step.t0))
    return jax.tree.map(lambda x: jnp.where(rungax.is_successful(step.result), x, jnp.nan), outcome)


def loss(solver: Any, inputs: Any, **options: Any) -> jax.Array:
    outputs = outcome_of_step(solver, inputs, **options)
    return jnp.where(jnp.isfinite(outputs[0][0]), weigh(outputs), jnp.nan)


@cache
def compiled_loss(solver: Any) -> Callable[[Any], Any]:
    """Value and gradient as a function of all inputs."""
    return jax.jit(jax.value_and_grad(lambda inputs: loss(solver, inputs)))


@cache
def compiled_jacobians(solver: Any) -> Callable[[Any, Any], Any]:
    """The Jacobians of all outputs by all inputs in reverse and in forward mode, and the outputs.

    After a jump the solver state is that of a step elsewhere.
    """
    _, unravel = ravel_pytree(INPUTS)

    def outputs(flat: Any, made_jump: Any) -> Any:
        inputs = unravel(flat)
        start = jax.tree.map(lambda old, new: jnp.where(made_jump, old, new), ELSEWHERE, inputs)
        state = solver.init(terms_for(solver, field), *(start[k] for k in ("t0", "t1", "y0", "args")))
        outcome = jnp.concatenate(outcome_of_step(solver, inputs, solver_state=state, made_jump=made_jump))
        return outcome, outcome

    def both(flat: Any, made_jump: Any) -> Any:
        reverse, outcome = jax.jacrev(outputs, has_aux=True)(flat, made_jump)
        return reverse, jax.jacfwd(outputs, has_aux=True)(flat, made_jump)[0], outcome

    return jax.jit(both)


@cache
def compiled_second_derivative(solver: Any) -> Callable[[Any, Any], Any]:
    """The gradient, and its derivative by forward over reverse mode, as a function of all inputs and a direction."""
    gradient = jax.grad(lambda inputs: loss(solver, inputs))
    return jax.jit(lambda inputs, direction: jax.jvp(gradient, (inputs,), (direction,)))


# ---------------------------------------------------------------------------------------------------- first derivatives


@pytest.mark.parametrize("solver", FEW)
def test_of_everything_at_once(solver: Any) -> None:
    """Of all outputs of the step: reverse mode, forward mode and difference quotients agree."""
    flat = np.asarray(ravel_pytree(INPUTS)[0])
    reverse, forward, _ = compiled_jacobians(solver)(flat, False)
    assert (np.abs(forward).max(axis=0) > 1e-3).all(), "a derivative of zero shows nothing"
    np.testing.assert_allclose(reverse, forward, rtol=1e-11, atol=1e-12)
    columns = [
        difference_quotient(lambda x: compiled_jacobians(solver)(x, False)[2], flat, e) for e in np.eye(flat.size)
    ]
    np.testing.assert_allclose(forward, np.stack(columns, axis=1), rtol=1e-7, atol=1e-9)


ALONE = [("TRBDF2", "args"), ("Rosenbrock23", "t1")]


@pytest.mark.parametrize(
    ("solver", "which"),
    [
        pytest.param(solver, x, id=f"{name(solver)}-{x}", marks=slow_unless((name(solver), x) in ALONE))
        for solver in SOLVERS
        for x in INPUTS
    ],
)
def test_of_one_thing_alone(solver: Any, which: str) -> None:
    """The tangents of the other inputs are known to be zero."""

    def function(x: Any) -> jax.Array:
        return loss(solver, {**INPUTS, which: x})

    assert_derivative(function, INPUTS[which], rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [s for s in FEW if not isinstance(s.values[0], rungax.AbstractRosenbrock)])
def test_the_newton_cache_of_another_step_does_not_change_the_derivative(solver: Any) -> None:
    """The cached Jacobian is from another state, the factorisation from another step size."""
    terms = terms_for(solver, field)

    def state_after_a_step_elsewhere() -> Any:
        t0, t1, y0, args = jnp.asarray(0.28), jnp.asarray(0.37), 0.99 * INPUTS["y0"], INPUTS["args"]
        state = solver.init(terms, t0, t1, y0, args)
        return solver.step(terms, t0, t1, y0, args, state, False)[3]

    elsewhere = state_after_a_step_elsewhere()
    assert not elsewhere.cache.convergence.needs_jacobian, "its Jacobian would be evaluated again"

    def with_cache(inputs: Any) -> jax.Array:
        t0, t1 = jnp.asarray(inputs["t0"]), jnp.asarray(inputs["t1"])
        fresh = solver.init(terms, t0, t1, inputs["y0"], inputs["args"])
        return loss(solver, inputs, solver_state=type(fresh)(fresh.first, elsewhere.cache))

    found, expected = jax.jit(jax.value_and_grad(with_cache))(INPUTS), compiled_loss(solver)(INPUTS)
    assert found[0] != expected[0], "other iterates have other roundings, unless the old Jacobian was not used"
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), found, expected)


@pytest.mark.parametrize("solver", FEW)
def test_after_a_jump_that_is_only_known_at_run_time(solver: Any) -> None:
    """The solver state of the step before has no effect on the derivative."""
    flat = np.asarray(ravel_pytree(INPUTS)[0])
    found, expected = (compiled_jacobians(solver)(flat, made_jump) for made_jump in (True, False))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ONE_OF_EACH)
def test_under_vmap(solver: Any) -> None:
    """Steps of several lengths, one of them zero, as in the replay of a solve."""
    ends = np.asarray([0.45, 0.3, 0.31, 0.6])
    gradient = jax.grad(lambda t1, y0: loss(solver, {**INPUTS, "t1": t1, "y0": y0}), (0, 1))
    batch = jax.jit(jax.vmap(gradient, (0, None)))(ends, INPUTS["y0"])
    alone = jax.jit(gradient)
    for i, t1 in enumerate(ends):
        for found, expected in zip(batch, alone(t1, INPUTS["y0"]), strict=True):
            np.testing.assert_allclose(found[i], expected, rtol=1e-8, atol=1e-10)


# ------------------------------------------------------------------------------------------------- steps of length zero


@pytest.mark.slow
@pytest.mark.parametrize("solver", FEW)
def test_a_step_of_length_zero_has_the_derivative_of_the_field(solver: Any) -> None:
    r"""$y_1 = y_0$ and no error; $\partial y_1 / \partial y_0 = I$, $\partial y_1 / \partial t_1 = f = -\partial y_1 /
    \partial t_0$, and zero with respect to `args`.
    """
    still = {**INPUTS, "t1": INPUTS["t0"]}
    y1, error, inside = outcome_of_step(solver, still)
    np.testing.assert_array_equal(y1, INPUTS["y0"])
    np.testing.assert_array_equal(inside, INPUTS["y0"])
    np.testing.assert_array_equal(error, 0.0)

    slope = np.asarray(field(INPUTS["t0"], INPUTS["y0"], INPUTS["args"]))
    jacobians = [jax.jit(mode(lambda x: outcome_of_step(solver, x)))(still) for mode in (jax.jacfwd, jax.jacrev)]
    for of_y1, of_error, of_inside in jacobians:
        np.testing.assert_allclose(of_y1["y0"], np.eye(2), atol=1e-12)
        np.testing.assert_allclose(of_y1["t1"], slope, rtol=1e-9)
        np.testing.assert_allclose(of_y1["t0"], -slope, rtol=1e-9)
        jax.tree.map(lambda x: np.testing.assert_array_equal(x, 0.0), of_y1["args"])
        # Both solutions of an embedded pair have the same derivative.
        jax.tree.map(lambda x: np.testing.assert_allclose(x, 0.0, atol=1e-8), of_error)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(of_inside))


@pytest.mark.parametrize("solver", SECOND)
def test_a_step_of_length_zero_has_finite_second_derivatives(solver: Any) -> None:
    empty = {**INPUTS, "t1": INPUTS["t0"]}
    flat, unravel = ravel_pytree(empty)
    for direction in np.eye(flat.size):
        for leaf in jax.tree.leaves(compiled_second_derivative(solver)(empty, unravel(jnp.asarray(direction)))):
            assert np.isfinite(leaf).all()


# --------------------------------------------------------------------------------------------------- second derivatives


def assert_second_derivative(solver: Any, *names: str) -> None:
    """Assert that it agrees with the difference of gradients along a direction, in which only `names` move.

    The tangents of the others are zero arrays; `test_of_one_thing_alone` has tangents that are known to be zero.
    """
    drawn = direction_like(INPUTS, seed=1)
    direction = {key: x if key in names else jax.tree.map(np.zeros_like, x) for key, x in drawn.items()}
    compiled = compiled_second_derivative(solver)
    _, found = compiled(INPUTS, direction)
    expected = difference_quotient(lambda inputs: compiled(inputs, direction)[0], INPUTS, direction)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("solver", SECOND)
def test_second_derivative_of_states_and_arguments(solver: Any) -> None:
    assert_second_derivative(solver, "y0", "args")


@pytest.mark.parametrize("solver", SECOND)
def test_second_derivative_of_times(solver: Any) -> None:
    assert_second_derivative(solver, "t0", "t1", "y0")


@pytest.mark.slow
@pytest.mark.parametrize("solver", ONE_OF_EACH)
def test_hessians_in_every_order_of_modes(solver: Any) -> None:
    """They agree, and are symmetric."""

    def function(x: Any) -> jax.Array:
        return loss(solver, {**INPUTS, "y0": x[:2], "args": {"rate": x[2], "pull": x[3]}})

    at = jnp.append(INPUTS["y0"], np.asarray([INPUTS["args"]["rate"], INPUTS["args"]["pull"]]))
    forward_reverse = np.asarray(jax.jit(jax.jacfwd(jax.jacrev(function)))(at))
    np.testing.assert_allclose(forward_reverse, forward_reverse.T, rtol=1e-9, atol=1e-9)
    for outer, inner in ((jax.jacfwd, jax.jacfwd), (jax.jacrev, jax.jacfwd), (jax.jacrev, jax.jacrev)):
        np.testing.assert_allclose(jax.jit(outer(inner(function)))(at), forward_reverse, rtol=1e-9, atol=1e-9)


# --------------------------------------------------------------------------------------------------------------- stages


def test_each_term_of_a_split_equation_has_its_derivative() -> None:
    """One parameter is in the explicit term, one in the implicit term."""
    solver = SPLIT[0]

    def of_rates(rates: Any) -> jax.Array:
        explicit = ODETerm(lambda t, y, args: args[0] * jnp.cos(t + y))
        implicit = ODETerm(lambda t, y, args: -args[1] * y**3)
        terms = rungax.MultiTerm(explicit, implicit)
        t0, t1, y0 = jnp.asarray(0.0), jnp.asarray(0.2), INPUTS["y0"]
        state = solver.init(terms, t0, t1, y0, rates)
        return weigh(solver.step(terms, t0, t1, y0, rates, state, False)[:2])

    rates = np.asarray([1.3, 2.0])
    compiled = jax.jit(jax.value_and_grad(of_rates))
    for direction in np.eye(2):
        expected = difference_quotient(lambda x: compiled(x)[0], rates, direction)
        np.testing.assert_allclose(along(compiled(rates)[1], direction), expected, rtol=1e-7)
