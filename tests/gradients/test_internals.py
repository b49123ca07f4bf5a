"""`Solution.internals` is what one computes by hand from the accepted steps, and so are its derivatives."""

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import (
    RK4,
    BacksolveAdjoint,
    Bosh3,
    DirectAdjoint,
    Dopri5,
    Euler,
    ForwardMode,
    Heun,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    SaveAt,
    SolverInternals,
    StepTo,
    Tsit5,
    diffeqsolve,
)

from ..compare import assert_trees_close
from ..problems.fields import ARGS, STATES, pendulum
from .measure import accepted_times, assert_derivative, stretched

Y0 = np.asarray([1.0, 0.5])
INPUTS = (Y0, ARGS)
FIXED: dict[str, Any] = {"dt0": 0.1}
PID: dict[str, Any] = {"dt0": 1.0, "stepsize_controller": PIDController(rtol=1e-5, atol=1e-6)}


def solve(inputs: Any, **options: Any) -> rungax.Solution:
    """Some steps from 0 to 2, of which every one is accepted."""
    y0, args = inputs
    settings: dict[str, Any] = {"solver": Bosh3(), "t0": 0.0, "t1": 2.0, "max_steps": 256, **FIXED, **options}
    field, saveat = settings.pop("field", pendulum), SaveAt(t0=True, steps=True, internals=True)
    return diffeqsolve(ODETerm(field), y0=y0, args=args, **{"saveat": saveat, **settings})


def weighed(internals: SolverInternals | None) -> jax.Array:
    """Both numbers in one, with a curve, and of like size: the error estimate is small."""
    assert internals is not None
    error, stiffness = internals.error_estimate, internals.stiffness_estimate
    return jnp.sqrt(error) * 1e3 + stiffness + 0.1 * stiffness**2


def loss(inputs: Any, **options: Any) -> jax.Array:
    return weighed(solve(inputs, saveat=SaveAt(internals=True), **options).internals)


# ------------------------------------------------------------------------------------------------------------ values


def by_hand(solution: rungax.Solution, field: Callable[..., Any], args: Any, solver: Any) -> tuple[float, float]:
    """Both sums, by NumPy from the saved times and states: every step is made again."""
    ts, ys = np.asarray(solution.ts), solution.ys
    count = int(np.isfinite(ts).sum())
    states = [np.concatenate([np.ravel(x[i]) for x in jax.tree.leaves(ys)]) for i in range(count)]
    like = jax.tree.map(lambda x: x[0], ys)

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        leaves, tree = jax.tree.flatten(like)
        parts = np.split(y, np.cumsum([x.size for x in leaves])[:-1])
        shaped = [jnp.asarray(part.reshape(x.shape)) for part, x in zip(parts, leaves, strict=True)]
        return np.concatenate([np.ravel(k) for k in jax.tree.leaves(field(t, jax.tree.unflatten(tree, shaped), args))])

    tableau = solver.tableau
    nodes, rows = [0.0, *tableau.c], [np.zeros(0), *tableau.a_lower]
    error_sum = stiffness_sum = 0.0
    for t0, t1, y0, y1 in zip(ts[: count - 1], ts[1:count], states[:-1], states[1:], strict=True):
        h, arguments, ks = t1 - t0, [], []
        for c, row in zip(nodes, rows, strict=True):
            arguments.append(y0 + h * sum((a * k for a, k in zip(row, ks, strict=True)), np.zeros_like(y0)))
            ks.append(slope(t0 + c * h, arguments[-1]))
        np.testing.assert_allclose(arguments[-1], y1, rtol=1e-12, err_msg="the step made by hand is another one")
        error = h * sum(b * k for b, k in zip(tableau.b_error, ks, strict=True))
        error_sum += abs(h) * np.linalg.norm(error)
        stiffness_sum += np.linalg.norm(ks[-1] - ks[-2]) / np.linalg.norm(arguments[-1] - arguments[-2])
    return error_sum, stiffness_sum


FORWARDS, BACKWARDS = (0.0, 2.0), (0.6, 0.0)
OFTEN = [(Tsit5(), "array", FORWARDS), (Dopri5(), "pytree", FORWARDS), (Bosh3(), "complex", BACKWARDS)]
CASES = [
    pytest.param(
        *case, id=f"{type(case[0]).__name__}-{case[1]}-{case[2]}", marks=[] if case in OFTEN else [pytest.mark.slow]
    )
    for case in itertools.product((Tsit5(), Dopri5(), Bosh3()), ("array", "pytree", "complex"), (FORWARDS, BACKWARDS))
]


@pytest.mark.parametrize(("solver", "state", "interval"), CASES)
def test_sums_over_the_steps_by_hand(solver: Any, state: str, interval: tuple[float, float]) -> None:
    field, y0 = STATES[state]
    t0, t1 = interval
    dt0 = 0.1 if t1 > t0 else -0.1
    solution = solve((y0, ARGS), field=field, solver=solver, t0=t0, t1=t1, dt0=dt0)
    assert solution.internals is not None
    error, stiffness = by_hand(solution, field, ARGS, solver)
    # The error estimate is a small difference of large terms.
    np.testing.assert_allclose(solution.internals.error_estimate, error, rtol=1e-8)
    np.testing.assert_allclose(solution.internals.stiffness_estimate, stiffness, rtol=1e-10)


def test_rejected_steps_do_not_count() -> None:
    solution = solve(INPUTS, **PID)
    assert solution.stats["num_rejected_steps"] > 0
    assert solution.internals is not None
    error, stiffness = by_hand(solution, pendulum, ARGS, Bosh3())
    np.testing.assert_allclose(solution.internals.error_estimate, error, rtol=1e-8)
    np.testing.assert_allclose(solution.internals.stiffness_estimate, stiffness, rtol=1e-10)


@pytest.mark.parametrize("rate", [3.0, -0.5])
def test_stiffness_is_the_size_of_the_eigenvalue(rate: float) -> None:
    """On a linear equation, at every step."""
    solution = solve((np.asarray([1.0]), np.asarray(rate)), field=lambda t, y, rate: -rate * y, dt0=0.25)
    assert solution.internals is not None
    np.testing.assert_allclose(solution.internals.stiffness_estimate, 8 * abs(rate), rtol=1e-8)


def test_a_solution_that_stands_still_has_none_of_either_and_no_derivative() -> None:
    """Where the norms have a corner, the derivative is zero and not NaN."""
    rest = (np.zeros(2), {**ARGS, "push": np.asarray(0.0)})
    internals = solve(rest).internals
    assert internals is not None
    assert (float(internals.error_estimate), float(internals.stiffness_estimate)) == (0.0, 0.0)

    def total(inputs: Any) -> jax.Array:
        found = solve(inputs, saveat=SaveAt(internals=True)).internals
        assert found is not None
        return found.error_estimate + found.stiffness_estimate

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(rest)):
        np.testing.assert_array_equal(leaf, 0.0)


def test_they_are_as_wide_as_time_is() -> None:
    field, y0 = STATES["float32"]
    args = jax.tree.map(np.float32, ARGS)
    narrow = solve((y0, args), field=field, t0=np.float32(0), t1=np.float32(2), dt0=np.float32(0.1)).internals
    assert narrow is not None
    assert narrow.stiffness_estimate.dtype == np.float32
    wide = solve(INPUTS).internals
    assert wide is not None
    assert wide.stiffness_estimate.dtype == np.float64


def test_without_asking_there_are_none() -> None:
    assert solve(INPUTS, saveat=SaveAt(t1=True)).internals is None


# ------------------------------------------------------------------------------------------------------- derivatives


@pytest.mark.slow
def test_derivative_with_fixed_steps() -> None:
    """With every run: on the fixed grid of an adaptive solve, and together with saved values."""
    assert_derivative(loss, INPUTS)


def test_derivative_with_adaptive_steps_is_that_on_their_grid() -> None:
    """By state, arguments and both ends, with which the grid stretches."""
    grid = accepted_times(solve(INPUTS, **PID))

    def adaptive(x: Any) -> jax.Array:
        inputs, (t0, t1) = x
        return loss(inputs, t0=t0, t1=t1, **PID)

    def frozen(x: Any) -> jax.Array:
        inputs, (t0, t1) = x
        return loss(inputs, t0=t0, t1=t1, dt0=None, stepsize_controller=StepTo(stretched(grid, t0, t1)))

    assert_derivative(adaptive, (INPUTS, (np.asarray(0.0), np.asarray(2.0))), frozen)


def test_derivative_together_with_saved_values() -> None:
    """A loss of both, as in a regularised fit, by the default adjoint and by forward mode alone."""
    ts = np.asarray([0.3, 1.1, 2.0])

    def fit(inputs: Any, **options: Any) -> jax.Array:
        solution = solve(inputs, saveat=SaveAt(ts=ts, internals=True), **options)
        assert solution.ys is not None
        return jnp.sum(solution.ys**2) + weighed(solution.internals)

    gradient = assert_derivative(fit, INPUTS)
    found = jax.jit(jax.jacfwd(lambda inputs: fit(inputs, adjoint=ForwardMode())))(INPUTS)
    assert_trees_close(found, gradient, rtol=1e-8, atol=1e-10)


CONTROLS = {"PID": PID, "fixed": FIXED}
HALVED = RecursiveCheckpointAdjoint(checkpoints=4)


@cache
def compiled_loss(control: str) -> Callable[[Any], Any]:
    """Value and gradient by the default adjoint."""
    return jax.jit(jax.value_and_grad(lambda inputs: loss(inputs, **CONTROLS[control])))


def gradient_by_default(control: str) -> Any:
    return compiled_loss(control)(INPUTS)[1]


@pytest.mark.parametrize(
    ("adjoint", "control"),
    [
        pytest.param(DirectAdjoint(), "PID", id="direct, PID", marks=pytest.mark.slow),
        pytest.param(HALVED, "fixed", id="halved, fixed", marks=pytest.mark.slow),
        pytest.param(DirectAdjoint(), "fixed", id="direct, fixed", marks=pytest.mark.slow),
        pytest.param(HALVED, "PID", id="halved, PID", marks=pytest.mark.slow),
    ],
)
def test_other_adjoints_agree(adjoint: Any, control: str) -> None:
    found = jax.jit(jax.grad(lambda inputs: loss(inputs, adjoint=adjoint, **CONTROLS[control])))(INPUTS)
    assert_trees_close(found, gradient_by_default(control), rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_second_derivative() -> None:
    """Symmetric, and the difference of the first."""

    def of_state(y0: Any) -> jax.Array:
        return loss((y0, ARGS), solver=Heun())

    def twice(y0: Any) -> Any:
        gradient = jax.grad(of_state)(y0)
        return gradient, gradient

    compiled, h = jax.jit(jax.jacfwd(twice, has_aux=True)), 1e-4
    hessian = np.asarray(compiled(Y0)[0])
    differences = [(compiled(Y0 + h * e)[1] - compiled(Y0 - h * e)[1]) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-8)
    np.testing.assert_allclose(hessian, np.stack(differences), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------- batch elements


def test_vmap_is_a_loop() -> None:
    """Over batch elements with different counts of steps, values and derivatives."""
    elements = [jax.tree.map(lambda x, s=scale: x * s, INPUTS) for scale in (0.1, 1.0, 3.0)]
    assert len({int(solve(element, **PID).num_accepted_steps) for element in elements}) == 3
    stacked = lambda trees: jax.tree.map(lambda *xs: np.stack(xs), *trees)
    batch, looped = stacked(elements), stacked([compiled_loss("PID")(element) for element in elements])
    assert_trees_close(jax.jit(jax.vmap(compiled_loss("PID")))(batch), looped, rtol=1e-8, atol=1e-10)


def test_an_element_that_failed_does_not_spoil_the_others() -> None:
    easy, hard = Y0 * 1e-2, Y0 * 30.0
    counts = [int(solve((y0, ARGS), **PID).num_steps) for y0 in (easy, hard)]
    assert counts[0] < counts[1]
    gradient = jax.grad(lambda y0: loss((y0, ARGS), max_steps=counts[0], throw=False, **PID))
    found = np.asarray(jax.jit(jax.vmap(gradient))(np.stack([easy, hard])))
    np.testing.assert_allclose(found[0], compiled_loss("PID")((easy, ARGS))[1][0], rtol=1e-8)
    assert np.isnan(found[1]).all()


# ---------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("solver", [RK4(), Euler()], ids=["RK4", "Euler"])
def test_a_solver_without_an_error_estimate_is_refused(solver: Any) -> None:
    with pytest.raises(ValueError, match=r"internals=True.*\nExpected: .*embedded.*\nFound: .*\nUse `Tsit5`") as error:
        solve(INPUTS, solver=solver)
    assert f"Found:    {type(solver).__name__}" in str(error.value)


@pytest.mark.parametrize("adjoint", [RecursiveCheckpointAdjoint(), DirectAdjoint()])
def test_a_solve_without_a_bound_is_refused(adjoint: Any) -> None:
    with pytest.raises(ValueError, match=r"SaveAt\(internals=.*\nExpected: `max_steps`.*\nFound: .*None"):
        solve(INPUTS, saveat=SaveAt(internals=True), adjoint=adjoint, max_steps=None)


def test_the_continuous_adjoint_refuses_to_differentiate_them() -> None:
    """They belong to the steps, of which it knows nothing."""
    with pytest.raises((ValueError, NotImplementedError), match="BacksolveAdjoint"):
        solve(INPUTS, saveat=SaveAt(t1=True, internals=True), adjoint=BacksolveAdjoint())
