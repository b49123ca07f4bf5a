"""The parts of a solve behave as programs written for Diffrax expect that use them one by one.

Such programs read and make interpolations, and step with solvers and controllers in loops of their own, with Python
floats. The facts about Diffrax here were observed with its version 0.7.2.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import rungax

from ..catalogue import EVERY_SOLVER, IMPLICIT, INTERPOLATIONS, SPLIT, name, slow_unless
from ..compare import assert_trees_close


def decay(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(jnp.negative, y)


# ------------------------------------------------------------------------------------------------------ dense output

DIFFRAX_NAMES = ("ts", "ts_size", "infos", "interpolation_cls", "direction", "t0_if_trivial", "y0_if_trivial")
"""The parameters of the constructor of `DenseInterpolation` there, in this order; each is an attribute too."""

DENSE: dict[str, dict[str, Any]] = {
    "forwards": {"t0": 0.0, "t1": 1.0, "dt0": 0.25},
    "backwards": {"t0": 1.0, "t1": 0.0, "dt0": -0.25},
    "no step": {"t0": 0.5, "t1": 0.5, "dt0": 0.25},
    "equation": {"t0": 0.0, "t1": 1.0, "dt0": 0.25, "solver": rungax.KahanLi8()},
}
"""Solves with dense output; that of the last one needs the equation."""


def dense(solver: Any = rungax.Tsit5(), **times: float) -> rungax.DenseInterpolation:
    pairs = isinstance(solver, rungax.KahanLi8)
    field = lambda t, y, args: -y
    terms = (rungax.ODETerm(lambda t, p, args: p), rungax.ODETerm(field)) if pairs else rungax.ODETerm(decay)
    y0 = (jnp.array([1.0, 2.0]), jnp.array([0.5, 0.0])) if pairs else {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
    solution = rungax.diffeqsolve(terms, solver, y0=y0, saveat=rungax.SaveAt(dense=True), max_steps=6, **times)
    assert solution.interpolation is not None
    return solution.interpolation


@pytest.mark.parametrize("case", DENSE)
def test_times_of_dense_output_are_one_array(case: str) -> None:
    """They are times in the direction of travel, the start first, then the end of each step, then infinity."""
    found, options = dense(**DENSE[case]), DENSE[case]
    direction = -1.0 if options["t1"] < options["t0"] else 1.0
    steps = 4 if options["t1"] != options["t0"] else 0
    ends = [options["t0"] + direction * 0.25 * i for i in range(steps + 1)]
    assert found.ts_size == steps + 1
    np.testing.assert_allclose(found.ts, [*(direction * t for t in ends), *[np.inf] * (6 - steps)], atol=1e-15)
    assert (found.direction, found.t0, found.t1) == (direction, options["t0"], options["t1"])
    assert found.t0_if_trivial == direction * options["t0"]
    assert all(leaf.shape[0] == 6 for leaf in jax.tree.leaves(found.infos))


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=slow_unless(case in ("forwards", "no step"))) for case in DENSE]
)
def test_dense_output_is_made_from_its_parts(case: str) -> None:
    """By name and by position."""
    found = dense(**DENSE[case])
    parts = {name: getattr(found, name) for name in DIFFRAX_NAMES}
    parts["direction"] = int(found.direction)
    again = rungax.DenseInterpolation(**parts)
    assert eqx.tree_equal(rungax.DenseInterpolation(*parts.values()), again)
    times = jnp.array([0.0, 0.1, 0.25, 0.5, 1.0, 1.1])
    both = jax.jit(lambda path: (path.evaluate(times), path.derivative(times, left=False), path.evaluate(0.3, times)))
    assert_trees_close(both(again), both(found), rtol=1e-14)


def test_state_of_a_solve_without_steps_is_not_read_otherwise() -> None:
    """Diffrax reads `t0_if_trivial` and `y0_if_trivial` only then; some programs put any number there."""
    found = dense(**DENSE["forwards"])
    parts = {name: getattr(found, name) for name in DIFFRAX_NAMES}
    parts |= {"t0_if_trivial": 9.0, "y0_if_trivial": {"a": np.zeros(2), "b": 9}}
    again = rungax.DenseInterpolation(**parts)
    assert again.t0 == 0.0
    assert_trees_close(again.evaluate(0.0), {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}, rtol=1e-15)
    empty = rungax.DenseInterpolation(**parts | {"ts_size": 1})
    assert (empty.t0, empty.t1) == (9.0, 9.0)
    assert_trees_close(empty.evaluate(9.0), {"a": jnp.zeros(2), "b": jnp.array(9.0)}, rtol=0)
    assert np.isnan(empty.evaluate(0.0)["b"])


def test_dense_output_has_its_derivative_at_the_start_too() -> None:
    found = dense(**DENSE["forwards"])
    by_time = jax.jvp(found.evaluate, (0.0,), (1.0,))[1]
    assert_trees_close(by_time, {"a": jnp.array([-1.0, -2.0]), "b": jnp.array(-3.0)}, rtol=1e-12)


@pytest.mark.parametrize("case", ["forwards", "equation"])
def test_interpolation_over_one_step_is_made_by_names(case: str) -> None:
    found = dense(**DENSE[case])
    info = jax.tree.map(lambda leaf: leaf[1], found.infos)
    step = found.interpolation_cls(t0=found.ts[1], t1=found.ts[2], **info)
    assert isinstance(step, rungax.AbstractLocalInterpolation)
    assert_trees_close(step.evaluate(0.4), found.evaluate(0.4), rtol=1e-14)


def test_the_class_of_interpolations_is_the_class() -> None:
    assert dense(**DENSE["forwards"], solver=rungax.Euler()).interpolation_cls is rungax.LocalLinearInterpolation


POLYNOMIALS = {
    "ThirdOrderHermitePolynomialInterpolation": 4,
    "FourthOrderPolynomialInterpolation": 5,
    "Tsit5": 5,
    "Bosh3": 4,
    "Vern7": 8,
}
"""Polynomials over a step, and the number of their coefficients."""


@pytest.mark.parametrize("which", POLYNOMIALS)
def test_coefficients_are_those_of_the_polynomial_over_a_step(which: str) -> None:
    """They are stacked along a first axis, the highest power first, in powers of the fraction of the step."""
    if which in INTERPOLATIONS:
        step: Any = INTERPOLATIONS[which]()
    else:
        found = dense(**DENSE["forwards"], solver=getattr(rungax, which)())
        step = found.interpolation_cls(t0=0.0, t1=0.25, **jax.tree.map(lambda leaf: leaf[0], found.infos))
    for theta in (0.0, 0.3, 1.0):
        value, coeffs = step.evaluate(step.t0 + theta * (step.t1 - step.t0)), step.coeffs
        assert jax.tree.map(jnp.shape, coeffs) == jax.tree.map(lambda y: (POLYNOMIALS[which], *y.shape), value)
        found = jax.tree.map(lambda c, theta=theta: np.polyval(np.asarray(c), theta), coeffs)
        assert_trees_close(found, value, rtol=1e-12)


# ------------------------------------------------------------------------------------------------- interpolated data

DATA = ("LinearInterpolation", "CubicInterpolation")
ARRAYS = {
    "none": np.zeros(0),
    "one": np.array([0.4]),
    "many": jnp.array([0.1, 0.75, 1.9, 2.5]),
    "whole numbers": np.array([0, 1, 2]),
    "a list": [0.4, 1.2],
    "two axes": jnp.array([[0.1, 0.7, 1.9], [0.3, -0.5, 2.0]]),
}


def test_interpolated_data_has_a_number_of_knots() -> None:
    for which in DATA:
        path = INTERPOLATIONS[which]()
        assert path.ts_size == len(path.ts)


@pytest.mark.parametrize(
    "times", [pytest.param(n, marks=slow_unless(n in ("none", "a list", "two axes"))) for n in ARRAYS]
)
def test_axes_of_times_come_first(times: str) -> None:
    """So that scalar data gives arrays like the times, as in Diffrax."""
    path, ts = INTERPOLATIONS["LinearInterpolation"](), jnp.asarray(ARRAYS[times])
    found = path.evaluate(ARRAYS[times])
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(lambda y: ts.shape + y.shape, path.evaluate(0.5))
    rows = jax.tree.map(lambda y: y.reshape(ts.size, *y.shape[ts.ndim :]), found)
    for i, t in enumerate(ts.ravel()):
        assert_trees_close(jax.tree.map(lambda y, i=i: y[i], rows), path.evaluate(t), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("which", [*DATA, pytest.param("Solution", marks=pytest.mark.slow)])
def test_arrays_of_times_are_times_one_by_one(which: str) -> None:
    path, ts = INTERPOLATIONS[which](), jnp.asarray(ARRAYS["two axes"])

    def functions(path: Any, t: Any) -> Any:
        values = path.evaluate(t), path.evaluate(t, left=False), path.evaluate(t, t)
        return values, path.derivative(t), path.derivative(t, False), path.evaluate(0.5, t), path.evaluate(t, 0.5)

    found = jax.jit(functions)(path, ts)
    by_one = jax.jit(lambda path, ts: jax.lax.map(lambda t: functions(path, t), ts))(path, ts.ravel())
    by_one = jax.tree.map(lambda y: y.reshape(*ts.shape, *y.shape[1:]), by_one)
    assert_trees_close(found, by_one, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("which", DATA)
def test_scalar_data_at_arrays_of_times(which: str) -> None:
    """Between knots at 0, 1, 2 and 4; these are the numbers that Diffrax gives."""
    ts, ys = jnp.array([0.0, 1.0, 2.0, 4.0]), jnp.array([0.0, 1.0, 3.0, 2.0])
    coefficients = rungax.backward_hermite_coefficients(ts, ys)
    is_linear = which == "LinearInterpolation"
    path = rungax.LinearInterpolation(ts, ys) if is_linear else rungax.CubicInterpolation(ts, coefficients)
    times, third = jnp.array([0.5, 1.0, 3.5]), 2.25 if is_linear else 2.484375
    np.testing.assert_allclose(path.evaluate(times), [0.5, 1.0, third])
    np.testing.assert_allclose(path.evaluate(times, 4.0), [1.5, 1.0, 2.0 - third])
    np.testing.assert_allclose(path.evaluate(0.0, times), [0.5, 1.0, third])
    np.testing.assert_allclose(path.derivative(times), [1.0, 1.0, -0.5 if is_linear else -1.28125])
    np.testing.assert_allclose(path.derivative(times, left=False), [1.0, 2.0, -0.5] if is_linear else [1, 1, -1.28125])


def test_shapes_of_two_times_must_fit() -> None:
    with pytest.raises(ValueError, match="shapes"):
        INTERPOLATIONS["LinearInterpolation"]().evaluate(np.zeros(2), np.zeros(3))


# ------------------------------------------------------------------------------------------------ controllers by hand

PID = rungax.PIDController(rtol=1e-2, atol=1e-3)
INNER = rungax.ClipStepSizeController(PID, step_ts=[0.3, 1], jump_ts=[0.6])
CONTROLLERS: dict[str, tuple[Any, float | None]] = {
    "PID": (PID, 0.5),
    "PID, first step": (PID, None),
    "PI within bounds": (rungax.PIDController(1e-2, 1e-3, pcoeff=0.2, icoeff=0.4, dtmin=0.01, dtmax=0.3), 0.5),
    "constant": (rungax.ConstantStepSize(), 0.3),
    "given": (rungax.StepTo([0.0, 0.1, 0.5, 2.0]), None),
    "clipped": (INNER, 0.5),
    "clipped twice": (rungax.ClipStepSizeController(INNER, step_ts=[0.2]), 0.5),
    "rejected ends": (rungax.ClipStepSizeController(PID, store_rejected_steps=3), 0.5),
    "clipped, rejected ends": (rungax.ClipStepSizeController(INNER, store_rejected_steps=3), None),
}
"""Controllers, and the first step."""


def by_hand(controller: Any, dt0: float | None, t0: Any, t1: Any, y0: Any) -> list[float]:
    """The ends of accepted steps of Heun's method for `y' = -8 y`, by a loop outside `jit` with Python numbers."""
    solver, term, ends = rungax.Heun(), rungax.ODETerm(lambda t, y, args: -8.0 * y), []
    order = solver.error_order(term)
    end, state = controller.init(term, t0, t1, y0, dt0, None, solver.func, order)
    t, y, end = t0, y0, min(float(end), t1)
    while t < t1:
        dt = end - t
        y1, euler = y * (1 - 8 * dt + 32 * dt**2), y * (1 - 8 * dt)
        keep, t, end, made_jump, state, result = controller.adapt_step_size(
            t, end, y, y1, None, y1 - euler, order, state
        )
        assert result == rungax.RESULTS.successful
        assert bool(made_jump) in (False, True)
        t, end = float(t), min(float(end), t1)
        y = y1 if keep else y
        ends += [t] if keep else []
    return ends


LOOPS = [*((which, 1) for which in CONTROLLERS), ("given", -1), ("clipped twice", -1)]
OFTEN = {("constant", 1), ("given", -1), ("clipped, rejected ends", 1)}


@pytest.mark.parametrize(
    ("which", "direction"), [pytest.param(*case, marks=slow_unless(case in OFTEN)) for case in LOOPS]
)
def test_a_loop_of_ones_own_takes_the_steps_of_a_solve(which: str, direction: int) -> None:
    """`wrap`, `init` and `adapt_step_size` take Python floats and integers, for times and for a scalar state."""
    controller, dt0 = CONTROLLERS[which]
    controller = jax.tree.map(lambda x: direction * x if eqx.is_array_like(x) and np.ndim(x) else x, controller)
    term = rungax.ODETerm(lambda t, y, args: -8.0 * direction * y)
    first = None if dt0 is None else direction * dt0
    save = rungax.SaveAt(steps=True)
    solution = rungax.diffeqsolve(
        term, rungax.Heun(), 0, 2 * direction, first, 1, saveat=save, stepsize_controller=controller, max_steps=64
    )
    ends = solution.ts[jnp.isfinite(solution.ts)]
    found = by_hand(controller.wrap(direction), dt0, 0, 2, 1)
    assert len(found) == len(ends) >= 3
    np.testing.assert_allclose(found, np.abs(ends), rtol=1e-6)


# -------------------------------------------------------------------------------------------------------------- errors


def solve(**options: Any) -> rungax.Solution:
    usual = {"terms": rungax.ODETerm(decay), "solver": rungax.Heun(), "t0": 0.0, "t1": 1.0, "dt0": 0.5, "y0": 1.0}
    return rungax.diffeqsolve(**usual | options)


@pytest.mark.parametrize("solver", EVERY_SOLVER, ids=name)
def test_terms_of_another_kind_are_not_compatible(solver: Any) -> None:
    term = rungax.ODETerm(decay)
    with pytest.raises(ValueError, match="Terms are not compatible with solver"):
        solve(terms={"a": term, "b": term}, solver=solver, y0={"a": 1.0, "b": 1.0})


def test_noise_of_another_kind_is_not_compatible() -> None:
    path = rungax.VirtualBrownianTree(0.0, 1.0, 0.1, (), jax.random.key(0))
    noise = rungax.ControlTerm(lambda t, y, args: y, path)
    for solver in (rungax.SEA(), rungax.ShARK(), rungax.SPaRK()):
        with pytest.raises(ValueError, match="Terms are not compatible with solver"):
            solve(terms=rungax.MultiTerm(rungax.ODETerm(decay), noise), solver=solver)
    with pytest.raises(ValueError, match="Terms are not compatible with solver"):
        solve(terms=rungax.MultiTerm(noise, rungax.ODETerm(decay)), solver=rungax.ItoMilstein())


def tree(t0: float = 0.0, t1: float = 1.0) -> rungax.VirtualBrownianTree:
    return rungax.VirtualBrownianTree(t0, t1, 0.1, (), jax.random.key(0))


def unbounded(y0: Any) -> Any:
    return jnp.sum(solve(y0=y0, adjoint=rungax.DirectAdjoint(), max_steps=None).ys)


WRONG_VALUES: dict[str, Any] = {
    "a step of the wrong sign": lambda: solve(dt0=-0.5),
    "a step of the wrong sign backwards": lambda: solve(t0=1.0, t1=0.0),
    "a step of zero": lambda: solve(dt0=0.0),
    "times of steps that begin late": lambda: solve(dt0=None, stepsize_controller=rungax.StepTo([0.1, 1.0])),
    "times of steps that end early": lambda: solve(dt0=None, stepsize_controller=rungax.StepTo([0.0, 0.9])),
    "times of steps in no order": lambda: solve(dt0=None, stepsize_controller=rungax.StepTo([0.0, 0.7, 0.5, 1.0])),
    "times of steps backwards": lambda: solve(dt0=None, stepsize_controller=rungax.StepTo(jnp.array([1.0, 0.0]))),
    "times of steps of another direction": lambda: solve(
        t0=1.0, t1=0.0, dt0=None, stepsize_controller=rungax.StepTo([0.0, 1.0])
    ),
    "times to save in no order": lambda: solve(saveat=rungax.SaveAt(ts=[0.5, 0.2])),
    "times to save outside": lambda: solve(saveat=rungax.SaveAt(ts=[0.5, 2.0])),
    "times to save of another direction": lambda: solve(t0=1.0, t1=0.0, dt0=-0.5, saveat=rungax.SaveAt(ts=[0.2, 0.5])),
    "a path that is too short": lambda: solve(
        terms=rungax.ControlTerm(lambda t, y, args: y, tree(t1=0.5)), solver=rungax.Euler()
    ),
    "a path beyond its end": lambda: tree().evaluate(0.0, 2.0),
    "a path backwards": lambda: tree(1.0, 0.0),
    "knots in no order": lambda: rungax.backward_hermite_coefficients([0.0, 2.0, 1.0], np.zeros(3)),
    "filled knots in no order": lambda: rungax.rectilinear_interpolation([0.0, 2.0, 1.0], np.zeros(3)),
    "a gradient without a bound": lambda: jax.grad(unbounded)(1.0),
}
"""Values for which Diffrax raises a `RuntimeError`, and Rungax a `ValueError` if it knows them."""


@pytest.mark.parametrize("wrong", WRONG_VALUES)
def test_errors_about_values_are_of_both_kinds(wrong: str) -> None:
    for kind in (ValueError, RuntimeError):
        with pytest.raises(kind, match=r"Expected|must be|must lie"):
            WRONG_VALUES[wrong]()


def test_values_known_at_run_time_alone_are_runtime_errors() -> None:
    with pytest.raises(RuntimeError):
        jax.jit(lambda dt0: solve(dt0=dt0).ys)(-0.5)


# -------------------------------------------------------------------------------------------------------- root finders

ROOT_FINDERS = {
    "own": lambda: rungax.Kvaerno3().root_finder,
    "VeryChord": rungax.with_stepsize_controller_tols(rungax.VeryChord),
    "with another option": lambda: rungax.with_stepsize_controller_tols(rungax.VeryChord)(kappa=1e-3),
    "Newton": rungax.with_stepsize_controller_tols(optx.Newton),
    "Chord": lambda: rungax.with_stepsize_controller_tols(optx.Chord)(linear_solver=lx.QR()),
}
LOOSE = rungax.PIDController(rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("solver", IMPLICIT + SPLIT, ids=name)
def test_implicit_solvers_hold_a_root_finder_with_tolerances(solver: Any) -> None:
    """Those that are not set come from the controller."""
    for attribute in ("rtol", "atol", "norm"):
        assert "controller" in repr(getattr(solver.root_finder, attribute))
    changed = eqx.tree_at(lambda solver: solver.root_finder.rtol, solver, 1e-3)
    finder = changed.with_tolerances(LOOSE.tolerances(), jnp.ones(1)).root_finder
    assert (finder.rtol, finder.atol, finder.norm) == (1e-3, 1e-2, LOOSE.norm)


@pytest.mark.parametrize("which", ROOT_FINDERS)
def test_tolerances_of_a_root_finder_take_effect(which: str) -> None:
    field = lambda t, y, args: -50.0 * (y - jnp.cos(t)) + args * y**2
    solver, kind = rungax.Kvaerno3(root_finder=ROOT_FINDERS[which]()), type(ROOT_FINDERS[which]())
    assert isinstance(solver.root_finder, optx.AbstractRootFinder)
    assert not any(eqx.is_array(leaf) or callable(leaf) for leaf in jax.tree.leaves(solver))

    @jax.jit
    def change(rtol: Any) -> jax.Array:
        """The difference from the end of a step whose stages are solved to the tolerance of the controller."""

        def end(solver: Any) -> jax.Array:
            one_step = {"t1": 0.02, "dt0": 0.02, "stepsize_controller": LOOSE}
            return solve(terms=rungax.ODETerm(field), solver=solver, args=3.0, **one_step).ys[0]

        where = lambda solver: (solver.root_finder.rtol, solver.root_finder.atol)
        return end(eqx.tree_at(where, solver, (rtol, rtol))) - end(solver)

    assert kind is type(solver.root_finder)
    assert change(1e-2) == 0.0
    assert 0.0 < abs(change(1e-10)) < 1e-2


def test_arguments_of_a_root_finder_may_be_given_by_position() -> None:
    def make(kappa: float, *, rtol: float, atol: float, norm: Any) -> rungax.VeryChord:
        return rungax.VeryChord(rtol, atol, norm, kappa)

    solver = rungax.Kvaerno3(root_finder=rungax.with_stepsize_controller_tols(make)(1e-4))
    finder = solver.with_tolerances(LOOSE.tolerances(), jnp.ones(1)).root_finder
    assert (finder.kappa, finder.rtol, finder.norm) == (1e-4, 1e-2, LOOSE.norm)
