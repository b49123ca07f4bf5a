"""Derivatives are right, or estimated to be wrong, where the solution is much easier than its derivatives.

The steps of a solve at rest are too long for its neighbours. `error_control="tangents"` makes derivatives right there,
in every mode; `derivative_error` says how wrong they are without it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
import optimistix as optx
import pytest
from hypothesis import given, settings, strategies as st

import rungax
from rungax import PIDController, derivative_error, diffeqsolve

from ..catalogue import slow_unless
from ..problems.ordinary import (
    BELL,
    CLOCKED_TORUS,
    COMPLEX_OSCILLATOR,
    DECAY,
    KEPLER,
    LOTKA_VOLTERRA,
    OSCILLATOR,
    SPRING,
)
from ..problems.stiff import ROBERTSON, VAN_DER_POL

TOL = 1e-6
PID = PIDController(rtol=TOL, atol=TOL)
END = 10.0

RESOLVED = {
    "tape": rungax.RecursiveCheckpointAdjoint(error_control="tangents"),
    "forward": rungax.ForwardMode(error_control="tangents"),
    "direct": rungax.DirectAdjoint(error_control="tangents"),
}


class Case(NamedTuple):
    """A solution that is easy: its field, its state, its parameters; and the direction of a derivative that is not."""

    field: Callable[..., Any]
    y0: jax.Array
    args: jax.Array
    of_y0: jax.Array
    of_args: jax.Array
    derivative: np.ndarray


def linear(rate: float) -> Case:
    one, zero = jnp.asarray(1.0), jnp.asarray(0.0)
    return Case(lambda t, y, rate: rate * y, zero, jnp.asarray(rate), one, zero, np.exp(rate * END))


def pair(t: Any, y: jax.Array, p: jax.Array) -> jax.Array:
    return jnp.stack([-0.1 * y[0], -50 * y[1] + p * y[0]])


def last_layer(t: jax.Array, y: jax.Array, p: jax.Array) -> jax.Array:
    return p[0] * jnp.sin(6 * t) + p[1] * y


CASES = {
    "growth": linear(1.0),
    "decay": linear(-1.0),
    "fast decay": linear(-100.0),
    "a last layer of zeros": Case(
        last_layer,
        jnp.asarray(0.0),
        jnp.zeros(2),
        jnp.asarray(0.0),
        jnp.asarray([1.0, 0.0]),
        np.asarray((1 - np.cos(6 * END)) / 6),
    ),
    "a coupling of zero": Case(
        pair,
        jnp.asarray([1.0, 0.0]),
        jnp.asarray(0.0),
        jnp.zeros(2),
        jnp.asarray(1.0),
        np.asarray([0.0, (np.exp(-0.1 * END) - np.exp(-50 * END)) / 49.9]),
    ),
}

SOLVERS = {
    "Tsit5": rungax.Tsit5(),
    "Dopri8": rungax.Dopri8(),
    "Kvaerno5": rungax.Kvaerno5(),
    "Rodas5P": rungax.Rodas5P(),
}
STIFFLY_ACCURATE = {"Kvaerno5", "Rodas5P"}


@functools.cache
def end_of(field: Callable[..., Any], solver: rungax.AbstractSolver[Any], adjoint: Any) -> Callable[..., Any]:
    """The state at the end and the number of attempts, as a function of state and parameters."""

    def end(y0: jax.Array, args: jax.Array) -> tuple[jax.Array, jax.Array]:
        solution = diffeqsolve(
            field, solver, 0.0, END, None, y0, args, stepsize_controller=PID, adjoint=adjoint, max_steps=1024
        )
        return solution.ys[-1], solution.num_steps

    return end


@functools.cache
def derivative_of(field: Callable[..., Any], solver: rungax.AbstractSolver[Any], adjoint: Any, mode: str) -> Any:
    """The derivative along a direction, by forward or by reverse mode."""
    end = end_of(field, solver, adjoint)

    def forward(y0: jax.Array, args: jax.Array, *directions: jax.Array) -> jax.Array:
        return jax.jvp(lambda *x: end(*x)[0], (y0, args), directions)[1]

    def reverse(y0: jax.Array, args: jax.Array, *directions: jax.Array) -> jax.Array:
        rows = jax.jacrev(lambda *x: end(*x)[0], (0, 1))(y0, args)
        return sum(jnp.tensordot(row, x, x.ndim) for row, x in zip(rows, directions, strict=True))

    return jax.jit({"forward": forward, "reverse": reverse}[mode])


def assert_right(found: Any, case: Case) -> None:
    """Right to a hundred times the tolerance, relative to the size of the derivative."""
    size = np.max(np.abs(case.derivative))
    assert np.max(np.abs(found - case.derivative)) <= 100 * TOL * (size if size > 1e-30 else 1.0)


OFTEN = {("Tsit5", "tape", "reverse")}
WAYS = [
    pytest.param(solver, adjoint, mode, marks=slow_unless((solver, adjoint, mode) in OFTEN))
    for solver in SOLVERS
    for adjoint, modes in {"tape": ("reverse", "forward"), "forward": ("forward",), "direct": ("reverse",)}.items()
    for mode in modes
]


@pytest.mark.parametrize(("solver", "adjoint", "mode"), WAYS)
def test_with_tangents_in_the_error_control_the_derivative_is_right(solver: str, adjoint: str, mode: str) -> None:
    for case in CASES.values():
        derivative = derivative_of(case.field, SOLVERS[solver], RESOLVED[adjoint], mode)
        assert_right(derivative(case.y0, case.args, case.of_y0, case.of_args), case)


@functools.cache
def estimated(field: Callable[..., Any], solver: rungax.AbstractSolver[Any], adjoint: Any) -> Any:
    def estimate(y0: jax.Array, args: jax.Array, *directions: jax.Array) -> Any:
        stacked = tuple(x[None] for x in directions)
        found = derivative_error(
            field, solver, 0.0, END, None, y0, args, stepsize_controller=PID, adjoint=adjoint, directions=stacked
        )
        return jax.tree.map(lambda x: x[0, -1], found)

    return jax.jit(estimate)


PLAIN = rungax.RecursiveCheckpointAdjoint()


@pytest.mark.parametrize("solver", [pytest.param(s, marks=slow_unless(s == "Tsit5")) for s in SOLVERS])
def test_the_estimated_error_is_large_where_the_derivative_is_wrong(solver: str) -> None:
    for case in CASES.values():
        found = estimated(case.field, SOLVERS[solver], PLAIN)(case.y0, case.args, case.of_y0, case.of_args)
        derivative = derivative_of(case.field, SOLVERS[solver], PLAIN, "forward")
        plain = derivative(case.y0, case.args, case.of_y0, case.of_args)
        np.testing.assert_allclose(found.derivative, plain, rtol=1e-9, atol=1e-14)
        # A stiffly accurate method is right in the fast component at any step size.
        if case is CASES["a coupling of zero"] and solver in STIFFLY_ACCURATE:
            assert_right(plain, case)
            continue
        wrong = np.max(np.abs(plain - case.derivative))
        assert wrong > 100 * TOL * np.max(np.abs(case.derivative))
        assert np.max(found.error) > 100 * TOL * np.max(np.abs(plain))


@pytest.mark.slow
@pytest.mark.parametrize("solver", list(SOLVERS))
def test_the_estimated_error_is_small_with_tangents_in_the_error_control(solver: str) -> None:
    for case in CASES.values():
        found = estimated(case.field, SOLVERS[solver], RESOLVED["tape"])(case.y0, case.args, case.of_y0, case.of_args)
        assert_right(found.derivative, case)
        size = np.max(np.abs(case.derivative))
        assert np.max(found.error) <= 100 * TOL * (size if size > 1e-30 else 1.0)


GOOD = [
    BELL,
    CLOCKED_TORUS,
    COMPLEX_OSCILLATOR,
    DECAY,
    KEPLER,
    LOTKA_VOLTERRA,
    OSCILLATOR,
    SPRING,
    ROBERTSON,
]


@pytest.mark.parametrize("problem", [pytest.param(p, marks=slow_unless(p in (DECAY, SPRING)), id=p.name) for p in GOOD])
def test_the_estimated_error_is_small_where_the_derivative_is_good(problem: Any) -> None:
    stiff = "stiff" in problem.traits
    solver = rungax.Kvaerno5() if stiff else rungax.Tsit5()
    args = jax.tree.map(jnp.asarray, problem.args)
    found = derivative_error(
        problem.field, solver, problem.t0, problem.t1, None, problem.y0, args,
        stepsize_controller=PIDController(rtol=TOL, atol=1e-3 * TOL),
    )  # fmt: skip
    size = max(np.max(np.abs(x)) for x in jax.tree.leaves(found.derivative))
    assert max(np.max(x) for x in jax.tree.leaves(found.error)) < 100 * TOL * size


@pytest.mark.slow
def test_the_estimated_error_is_the_true_one_where_the_problem_magnifies_errors() -> None:
    """The end of Van der Pol's equation lies before a fast transition: its derivative is 3 % off at 1e-8."""

    def found(tol: float) -> Any:
        return derivative_error(
            VAN_DER_POL.field, rungax.Kvaerno5(), VAN_DER_POL.t0, VAN_DER_POL.t1, None, jnp.asarray(VAN_DER_POL.y0),
            stepsize_controller=PIDController(rtol=tol, atol=1e-3 * tol),
        )  # fmt: skip

    coarse, fine = found(1e-8), found(1e-10)
    true = np.abs(coarse.derivative - fine.derivative)
    assert np.all(true > 100 * 1e-8 * np.abs(fine.derivative))
    assert np.all((true / 3 < coarse.error) & (coarse.error < 3 * true))


@functools.cache
def plane_end() -> Any:
    """The last state of a linear system of two equations, at rest, and its derivatives by the state."""
    end = end_of(lambda t, y, matrix: matrix @ y, rungax.Tsit5(), RESOLVED["tape"])
    return jax.jit(jax.jacrev(lambda matrix: end(jnp.zeros(2), matrix)[0])), jax.jit(
        lambda matrix: jax.jacrev(lambda y0: end(y0, matrix)[0])(jnp.zeros(2))
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-2.0, 0.5), min_size=4, max_size=4))
def test_random_linear_systems_at_rest(entries: list[float]) -> None:
    matrix = jnp.asarray(entries).reshape(2, 2)
    expected = jax.scipy.linalg.expm(END * matrix)
    found = plane_end()[1](matrix)
    # One norm for both columns: a direction that decays faster is resolved relative to the slower one.
    assert jnp.max(jnp.abs(found - expected)) <= 100 * TOL * jnp.max(jnp.abs(expected))


def test_the_solution_does_not_depend_on_what_is_differentiated() -> None:
    end = end_of(pair, rungax.Tsit5(), RESOLVED["tape"])
    y0, args = jnp.asarray([1.0, 0.3]), jnp.asarray(0.5)
    value, steps = jax.jit(end)(y0, args)
    for argument in (0, 1):
        loss = lambda *x: (end(*x)[0][1], end(*x))
        other, other_steps = jax.jit(jax.grad(loss, argument, has_aux=True))(y0, args)[1]
        assert int(other_steps) == int(steps)
        np.testing.assert_allclose(other, value, rtol=1e-13)
    plain = jax.jit(end_of(pair, rungax.Tsit5(), PLAIN))(y0, args)[1]
    assert int(plain) < int(steps)


@pytest.mark.slow
def test_a_batch_is_a_loop() -> None:
    end = end_of(pair, rungax.Tsit5(), RESOLVED["tape"])
    y0, args = jnp.asarray([[1.0, 0.0], [0.0, 0.0], [0.2, 3.0]]), jnp.asarray([0.0, 1.0, 2.0])
    one = jax.jit(jax.value_and_grad(lambda *x: (end(*x)[0][1], end(*x)[1]), (0, 1), has_aux=True))
    together = jax.vmap(one)(y0, args)
    for i in range(3):
        alone = one(y0[i], args[i])
        assert int(alone[0][1]) == int(together[0][1][i])
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(a, b[i], rtol=1e-9, atol=1e-12)


# -------------------------------------------------------------------------------------------------------------- events


def restarted(adjoint: Any) -> Callable[[jax.Array], jax.Array]:
    """A state at rest which an effect pushes by nothing at a time that depends on the push: its last value."""

    def end(push: jax.Array) -> jax.Array:
        event = rungax.Event(
            lambda t, y, args, **kwargs: y[0] - 1.0 - args,
            effect=lambda t, y, args: jnp.stack([y[0], y[1] + args]),
            root_finder=optx.Newton(1e-10, 1e-10),
            direction=True,
        )
        solution = diffeqsolve(
            lambda t, y, args: jnp.stack([jnp.ones_like(y[0]), -3.0 * y[1]]), rungax.Tsit5(), 0.0, 4.0, None,
            jnp.zeros(2), push, stepsize_controller=PID, event=event, adjoint=adjoint,
        )  # fmt: skip
        return solution.ys[-1, 1]

    return end


@pytest.mark.slow
def test_tangents_go_through_effects() -> None:
    push, expected = jnp.asarray(0.0), np.exp(-9.0)
    wrong = jax.jit(jax.grad(restarted(PLAIN)))(push)
    assert abs(wrong - expected) > 100 * TOL * expected
    found = jax.jit(jax.grad(restarted(RESOLVED["tape"])))(push)
    assert abs(found - expected) < 100 * TOL * expected


# -------------------------------------------------------------------------------------------------- limits and messages


@pytest.mark.slow
def test_states_of_any_dtype_backwards_and_past_a_jump() -> None:
    y0 = {"a": jnp.asarray([1.0 + 0.5j]), "b": jnp.asarray(0.5, jnp.float32)}

    def field(t: Any, y: Any, rate: Any) -> Any:
        on = jnp.where(t < 0.6, 1.0, 2.0)
        return {"a": (rate * on * 1j).astype(y["a"].dtype) * y["a"], "b": (-rate).astype(y["b"].dtype) * y["b"]}

    def end(rate: jax.Array, adjoint: Any) -> jax.Array:
        controller = rungax.ClipStepSizeController(PIDController(rtol=1e-5, atol=1e-5), jump_ts=jnp.asarray([0.6]))
        ys = diffeqsolve(
            field, rungax.Tsit5(), 1.0, 0.0, None, y0, rate, stepsize_controller=controller, adjoint=adjoint
        ).ys
        return jnp.real(ys["a"][-1, 0]) + ys["b"][-1].astype(jnp.float64)

    found, expected = (jax.jit(jax.grad(end), static_argnums=1)(jnp.asarray(1.3), a) for a in (RESOLVED["tape"], PLAIN))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_a_tangent_that_overflows_does_not_end_the_solve() -> None:
    y0 = jnp.asarray(0.0, jnp.float32)
    solution = diffeqsolve(
        lambda t, y, args: y, rungax.Tsit5(), 0.0, 200.0, None, y0,
        stepsize_controller=PIDController(rtol=1e-3, atol=1e-3), adjoint=RESOLVED["tape"],
    )  # fmt: skip
    assert solution.ys[-1] == 0.0


def test_given_steps_stay_as_they_are() -> None:
    found = [
        diffeqsolve(lambda t, y, args: -y, rungax.Heun(), 0.0, 1.0, 0.1, jnp.asarray(1.0), adjoint=adjoint)
        for adjoint in (PLAIN, RESOLVED["tape"])
    ]
    assert found[0].ys == found[1].ys
    assert found[0].num_steps == found[1].num_steps


def test_closures_count_as_parameters() -> None:
    def end(p: jax.Array) -> jax.Array:
        field = lambda t, y, args: last_layer(t, y, p)
        return diffeqsolve(
            field, rungax.Tsit5(), 0.0, END, None, jnp.asarray(0.0), stepsize_controller=PID, adjoint=RESOLVED["tape"]
        ).ys[-1]

    case = CASES["a last layer of zeros"]
    assert_right(jax.jit(jax.grad(end))(jnp.zeros(2)) @ case.of_args, case)


def noisy() -> rungax.MultiTerm:
    path = rungax.VirtualBrownianTree(0.0, 1.0, tol=0.1, shape=(), key=jax.random.key(0))
    return rungax.MultiTerm(rungax.ODETerm(lambda t, y, args: -y), rungax.ControlTerm(lambda t, y, args: 0.1, path))


class Unbounded(rungax.AbstractStepSizeController[None, Any]):
    """A controller that rejects nothing but might, and has no tolerances."""

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any
    ) -> tuple[Any, None]:
        return t0 + dt0, None

    def adapt_step_size(
        self, t0: Any, t1: Any, y0: Any, y1_candidate: Any, args: Any, y_error: Any, error_order: Any, state: None
    ) -> tuple[Any, Any, Any, Any, None, Any]:
        return jnp.asarray(True), t1, 2 * t1 - t0, jnp.asarray(False), None, rungax.RESULTS.successful


def solved(**options: Any) -> Any:
    settings: dict[str, Any] = {"adjoint": RESOLVED["tape"], "stepsize_controller": PID, **options}
    terms = settings.pop("terms", lambda t, y, args: -y)
    solver = settings.pop("solver", rungax.Tsit5())
    function = settings.pop("function", diffeqsolve)
    return function(terms, solver, 0.0, 1.0, 0.1, jnp.asarray(1.0), **settings)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: rungax.ForwardMode(error_control="all"), ValueError, ("`error_control`", "'tangents'", "'all'")),
        (lambda: rungax.DirectAdjoint(num_tangents=0), ValueError, ("`num_tangents`", "at least 1", "0")),
        (lambda: solved(terms=noisy(), solver=rungax.Heun()), ValueError, ("error_control='tangents'", "Brownian")),
        (lambda: solved(stepsize_controller=Unbounded()), ValueError, ("adaptive controller", "Unbounded")),
        (lambda: solved(stepsize_controller=PIDController(0.0, 1e-3)), ValueError, ("above 0", "rtol=0.0")),
        (
            lambda: solved(function=derivative_error, terms=noisy(), solver=rungax.Heun(), adjoint=PLAIN),
            ValueError,
            ("`derivative_error`", "Brownian"),
        ),
        (
            lambda: solved(function=derivative_error, adjoint=rungax.BacksolveAdjoint()),
            NotImplementedError,
            ("`derivative_error`", "BacksolveAdjoint"),
        ),
        (
            lambda: solved(
                function=derivative_error, solver=rungax.Euler(), stepsize_controller=rungax.ConstantStepSize()
            ),
            ValueError,
            ("`derivative_error`", "Euler"),
        ),
        (
            lambda: solved(function=derivative_error, directions=(jnp.ones(()), None)),
            ValueError,
            ("directions", "stacked"),
        ),
        (lambda: solved(function=derivative_error, directions=0), ValueError, ("directions", "at least 1", "0")),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], Any], error: type[Exception], words: tuple[str, ...]) -> None:
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)


def test_the_estimate_of_a_failed_solve() -> None:
    with pytest.raises(RuntimeError, match="max_steps"):
        solved(function=derivative_error, max_steps=1)
    found = solved(function=derivative_error, max_steps=1, throw=False)
    assert np.isnan(found.derivative).all()
    assert np.isnan(found.error).all()


@pytest.mark.slow
def test_the_estimate_has_derivatives_in_forward_mode() -> None:
    """The derivative by the initial state of `exp(-t) * y0`'s derivative by the rate is `-t * exp(-t)`."""

    def by_rate(y0: jax.Array) -> jax.Array:
        found = derivative_error(
            lambda t, y, rate: -rate * y, rungax.Tsit5(), 0.0, 1.0, None, y0, jnp.asarray(1.0),
            stepsize_controller=PID, adjoint=PLAIN, directions=(jnp.zeros(1), jnp.ones(1)),
        )  # fmt: skip
        return found.derivative[0, -1]

    np.testing.assert_allclose(jax.jacfwd(by_rate)(jnp.asarray(1.0)), -np.exp(-1.0), rtol=1e-4)


def test_random_directions_are_always_the_same() -> None:
    once, again = (solved(function=derivative_error, directions=n, adjoint=PLAIN) for n in (None, 2))
    assert isinstance(once, rungax.DerivativeError)
    np.testing.assert_array_equal(once.derivative, again.derivative)
    assert once.derivative.shape == (2, 1)
