"""What a solve saves has the right derivative, whatever is saved, and is the same whether differentiated or not."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import Bosh3, ConstantStepSize, PIDController, SaveAt, StepTo, SubSaveAt, diffeqsolve

from ..catalogue import slow_unless
from ..compare import assert_trees_close
from ..problems.fields import ARGS, pendulum
from .measure import accepted_times, assert_derivative, weigh

Y0 = np.asarray([1.0, 0.5])
MAX_STEPS = 16
LOOSE = PIDController(rtol=1e-4, atol=1e-5)


def energy(t: Any, y: Any, args: Any) -> Any:
    """A function of everything that a saved function may use, with outcomes that have no derivative among them."""
    return {
        "energy": args["stiffness"] * y[0] ** 2 + t * y[1],
        "up": y[0] > 0,
        "count": jnp.asarray(3) + (t < 0).astype(int),
    }


SAVES: dict[str, SaveAt] = {
    "t0": SaveAt(t0=True, fn=energy),
    "t1": SaveAt(t1=True),
    "ts": SaveAt(ts=np.asarray([0.0, 0.2, 0.2, 0.55, 1.0])),
    "steps": SaveAt(steps=True),
    "every third step": SaveAt(steps=3, t1=True),
    "every ninetieth step": SaveAt(steps=90, t1=True),
    "ts, steps": SaveAt(t0=True, ts=np.asarray([0.1, 0.11, 0.75]), steps=True, t1=True),
    "ts, every second step": SaveAt(ts=np.asarray([0.0, 0.11, 0.5, 1.0]), steps=2, t1=True),
    "dense": SaveAt(dense=True),
    "fn": SaveAt(ts=np.asarray([0.3, 0.8]), fn=energy),
    "subs": SaveAt(
        subs={
            "ends": SubSaveAt(t0=True, t1=True),
            "pair": (SubSaveAt(ts=np.asarray([0.4])), SubSaveAt(steps=2, fn=energy)),
        },
        dense=True,
    ),
}


def asked(solution: rungax.Solution) -> Any:
    """All that is saved, and what dense output answers inside and at the ends."""
    if solution.interpolation is None:
        return solution.ts, solution.ys
    times = jnp.asarray([0.0, 0.21, 0.5, 1.0])
    times = solution.t0 + (solution.t1 - solution.t0) * times
    dense = jax.vmap(solution.evaluate)(times), jax.vmap(solution.derivative)(times)
    return solution.ts, solution.ys, dense, solution.evaluate(times[1], times[2])


def solve(inputs: Any, saveat: SaveAt, controller: Any = LOOSE, dt0: Any = None, **options: Any) -> rungax.Solution:
    y0, args = inputs
    settings: dict[str, Any] = {
        "solver": Bosh3(),
        "t0": 0.0,
        "t1": 1.0,
        "max_steps": MAX_STEPS,
        "saveat": saveat,
        **options,
    }
    return diffeqsolve(rungax.ODETerm(pendulum), dt0=dt0, y0=y0, args=args, stepsize_controller=controller, **settings)


INPUTS = (Y0, ARGS)


@pytest.fixture(scope="module")
def grid() -> np.ndarray:
    """The steps that the controller takes: difference quotients are taken without letting it choose others."""
    return accepted_times(solve(INPUTS, SaveAt(t0=True, steps=True)))


def often(name: str) -> Any:
    """The cases of `SAVES`, slow unless it is the one named."""
    return [pytest.param(n, marks=slow_unless(n == name)) for n in SAVES]


@pytest.mark.parametrize("name", often("fn"))
def test_derivatives_of_what_is_saved(name: str, grid: np.ndarray) -> None:
    saveat = SAVES[name]
    assert 4 <= grid.size <= MAX_STEPS

    def function(inputs: Any, **options: Any) -> jax.Array:
        return weigh(asked(solve(inputs, saveat, **options)))

    assert_derivative(function, INPUTS, lambda inputs: function(inputs, controller=StepTo(grid)), rtol=1e-8)


def backwards(sub: SubSaveAt) -> SubSaveAt:
    """The same for an interval from 1 to 0."""
    ts = None if sub.ts is None else 1.0 - np.asarray(sub.ts)
    return SubSaveAt(t0=sub.t0, t1=sub.t1, ts=ts, steps=sub.steps, fn=sub.fn)


@pytest.mark.slow
@pytest.mark.parametrize("name", often("ts, steps"))
def test_derivatives_backwards_in_time(name: str) -> None:
    """On a grid whose last step is shortened, times descending."""
    subs = jax.tree.map(backwards, SAVES[name].subs, is_leaf=lambda x: isinstance(x, SubSaveAt))
    saveat = SaveAt(subs=subs, dense=SAVES[name].dense)

    def function(inputs: Any) -> jax.Array:
        return weigh(asked(solve(inputs, saveat, ConstantStepSize(), -0.15, t0=1.0, t1=0.0)))

    assert_derivative(function, INPUTS, rtol=1e-8)


# ------------------------------------------------------------------------- the same values, differentiated or not

# `t0`, `t1`, `dt0`, all traced, of solves that come to their end, or do not, or cannot begin.
SPANS: dict[str, tuple[float, float, float]] = {
    "forwards": (0.0, 1.0, 0.15),
    "backwards": (1.0, 0.0, -0.15),
    "over no time": (0.5, 0.5, 0.15),
    "every step used": (0.0, 1.0, 1 / MAX_STEPS),
    "too few steps": (0.0, 1.0, 0.02),
    "invalid": (0.0, 1.0, -0.15),
}
OKAY = ("forwards", "backwards", "over no time", "every step used")


def at_places(places: Any, t0: Any, t1: Any) -> Any:
    return t0 + (t1 - t0) * np.asarray(places)


def all_outputs(inputs: Any, span: Any, **options: Any) -> Any:
    """Slots, times, padding, values that are no numbers, counts; everything that can be saved at once."""
    t0, t1, dt0 = span
    ts = at_places([0.0, 0.11, 0.5, 1.0], t0, t1)
    subs = [
        SubSaveAt(t0=True, fn=energy),
        SubSaveAt(t0=True, ts=ts, steps=True, t1=True),
        SubSaveAt(ts=ts[1:3], steps=2, t1=True, fn=energy),
        SubSaveAt(steps=3),
        SubSaveAt(ts=ts, t1=True),
    ]
    options = {"solver": rungax.Heun(), "controller": ConstantStepSize(), "dt0": dt0, "throw": False, **options}
    solution = solve(inputs, SaveAt(subs=subs, dense=True), t0=t0, t1=t1, **options)
    counts = {name: count for name, count in solution.stats.items() if name != "max_steps"}
    times = at_places([0.0, 0.21, 0.5, 1.0], t0, t1)
    dense = jax.vmap(solution.evaluate)(times), jax.vmap(solution.derivative)(times)
    return solution.ts, solution.ys, dense, counts, rungax.is_okay(solution.result)


def primal_of_vjp(inputs: Any, span: Any) -> Any:
    return jax.vjp(all_outputs, inputs, span)[0]


def primal_of_jvp(inputs: Any, span: Any) -> Any:
    return jax.jvp(lambda inputs: all_outputs(inputs, span), (inputs,), (inputs,))[0]


PLAIN, BY_VJP, BY_JVP = (jax.jit(function) for function in (all_outputs, primal_of_vjp, primal_of_jvp))


@pytest.mark.parametrize("name", SPANS)
def test_differentiated_or_not_the_values_are_the_same(name: str) -> None:
    span = tuple(map(np.asarray, SPANS[name]))
    plain = PLAIN(INPUTS, span)
    assert_trees_close(BY_VJP(INPUTS, span), plain, rtol=1e-12, atol=1e-13)
    counts, okay = plain[-2:]
    assert bool(okay) == (name in OKAY)
    assert (int(counts["num_steps"]) > 0) == (name not in ("over no time", "invalid"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SPANS)
def test_in_forward_mode_the_values_are_the_same(name: str) -> None:
    span = tuple(map(np.asarray, SPANS[name]))
    assert_trees_close(BY_JVP(INPUTS, span), PLAIN(INPUTS, span), rtol=1e-12, atol=1e-13)


@pytest.mark.slow
def test_the_values_of_an_adaptive_solve_are_the_same() -> None:
    """Each by itself; `test_derivatives_of_what_is_saved` compares their sum."""
    span = tuple(map(np.asarray, SPANS["forwards"]))
    function = lambda inputs: all_outputs(inputs, span, solver=Bosh3(), controller=LOOSE)
    plain = jax.jit(function)(INPUTS)
    assert_trees_close(jax.jit(lambda x: jax.vjp(function, x)[0])(INPUTS), plain, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("jacobian", [pytest.param(jax.jacfwd, marks=pytest.mark.slow), jax.jacrev])
def test_over_no_time_everything_saved_moves_with_the_start(jacobian: Callable[..., Any]) -> None:
    def saved(y0: Any) -> Any:
        ts = np.full(2, 0.5)
        saveat = SaveAt(t0=True, ts=ts, t1=True, steps=True, dense=True)
        solution = solve((y0, ARGS), saveat, solver=rungax.Heun(), t0=0.5, t1=0.5)
        return solution.ys, solution.evaluate(0.5)

    ys, value = jax.jit(jacobian(saved))(Y0)
    np.testing.assert_array_equal(value, np.eye(2))
    np.testing.assert_array_equal(ys[:4], np.stack([np.eye(2)] * 4))
    np.testing.assert_array_equal(ys[4:], 0.0)


@pytest.mark.parametrize("jacobian", [pytest.param(jax.jacfwd, marks=pytest.mark.slow), jax.jacrev])
def test_slots_that_stay_empty_have_no_derivative(jacobian: Callable[..., Any]) -> None:
    """Not even a NaN: infinite padding must not be computed with."""

    def saved(y0: Any) -> Any:
        fn = lambda t, y, args: jnp.sqrt(y[0] ** 2 + t) / y[0]
        ys = solve((y0, ARGS), SaveAt(steps=True, t1=True, fn=fn), StepTo(np.asarray([0.0, 0.3, 1.0]))).ys
        return ys, ys

    slopes, values = jax.jit(jacobian(saved, has_aux=True))(Y0)
    assert np.isfinite(values).tolist() == [True] * 2 + [False] * 14
    assert np.isfinite(slopes).all()
    assert np.any(slopes[:2] != 0, axis=1).all()
    np.testing.assert_array_equal(slopes[2:], 0.0)


@pytest.mark.parametrize("jacobian", [pytest.param(jax.jacfwd, marks=pytest.mark.slow), jax.jacrev])
def test_states_saved_before_a_solve_fails_have_their_derivatives(jacobian: Callable[..., Any]) -> None:
    """`test_failed_solves.py` shows it of every adjoint."""

    def saved(y0: Any, max_steps: int = 4) -> Any:
        saveat = SaveAt(steps=True, t1=True)
        ys = solve((y0, ARGS), saveat, ConstantStepSize(), 0.15, max_steps=max_steps, throw=False).ys
        assert ys is not None
        return ys[:4], ys[:4]

    slopes, values = jax.jit(jacobian(saved, has_aux=True))(Y0)
    assert np.isfinite(values).all()
    complete = jax.jit(jacobian(lambda y0: saved(y0, 16), has_aux=True))(Y0)[0]
    np.testing.assert_allclose(slopes, complete, rtol=1e-12)


def test_what_has_no_derivative_is_saved_all_the_same() -> None:
    def function(inputs: Any) -> Any:
        ys = solve(inputs, SaveAt(ts=np.asarray([0.3, 0.8]), fn=energy)).ys
        assert ys is not None
        return jnp.sum(ys["energy"]), ys

    (_, ys), gradient = jax.jit(jax.value_and_grad(function, has_aux=True))(INPUTS)
    assert ys["up"].dtype == bool
    assert list(ys["up"]) == [True, True]
    assert list(ys["count"]) == [3, 3]
    assert np.isfinite(jax.tree.leaves(gradient)[0]).all()


@pytest.mark.slow
def test_the_solver_state_moves_where_it_is_asked_for() -> None:
    """A solve continued from another: the derivative of both together is that of one solve over the whole interval.

    With every run, `test_continuation.py` compares with difference quotients.
    """

    def in_two(inputs: Any) -> jax.Array:
        _, args = inputs
        options = {"saveat": SaveAt(t1=True, solver_state=True), "controller": ConstantStepSize(), "dt0": 0.125}
        first = solve(inputs, t1=0.5, **options)
        second = solve((first.ys[0], args), t0=0.5, t1=1.0, solver_state=first.solver_state, **options)
        return weigh(second.ys)

    def in_one(inputs: Any) -> jax.Array:
        return weigh(solve(inputs, SaveAt(t1=True), ConstantStepSize(), 0.125).ys)

    assert_trees_close(jax.jit(jax.grad(in_two))(INPUTS), jax.jit(jax.grad(in_one))(INPUTS), rtol=1e-12)


def test_a_saved_start_is_safe_where_the_end_has_no_derivative() -> None:
    """The square root is saved of 1, and the solve ends at 0, where the root's slope is infinite."""

    def start(y0: Any) -> Any:
        solution = diffeqsolve(
            lambda t, y, args: -jnp.ones_like(y), rungax.Euler(), 0.0, 1.0, 0.5, y0,
            saveat=SaveAt(t0=True, fn=lambda t, y, args: jnp.sqrt(y)), max_steps=2,
        )  # fmt: skip
        return solution.ys[0]

    np.testing.assert_allclose(jax.jit(jax.grad(start))(1.0), 0.5, rtol=1e-14)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(start))(1.0), 0.5, rtol=1e-14)
