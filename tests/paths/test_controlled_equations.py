"""Equations driven by interpolated data agree with matrix exponentials, SciPy and ordinary equations."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.integrate
import scipy.interpolate
import scipy.linalg

import rungax
from rungax import ClipStepSizeController, ControlTerm, Heun, ODETerm, PIDController, SaveAt, StepTo, Tsit5, diffeqsolve
from rungax.paths import (
    CubicInterpolation,
    LinearInterpolation,
    backward_hermite_coefficients,
    linear_interpolation,
    rectilinear_interpolation,
)

from ..compare import assert_trees_close
from ..gradients.measure import along, difference_quotient, direction_like, weigh
from ..tracing.hlo import compiled_text, count_loops, custom_calls_in_loops

NAN = np.nan
# Two matrices that do not commute, so that the solution depends on the order of the path's pieces.
MATRICES = np.array([[[0.1, 1.0], [-0.8, 0.0]], [[0.3, 0.2], [0.5, -0.4]]])
Y0 = np.array([1.0, -0.5])
TS = np.array([0.0, 0.6, 1.0, 1.9, 2.5])
XS = np.array([[0.0, 0.0], [0.8, -0.3], [0.2, 0.9], [1.0, 1.1], [1.4, -0.2]])
TIGHT = PIDController(rtol=1e-9, atol=1e-9)


def field(t: Any, y: Any, args: Any) -> Any:
    """dy = A_1 y dx_1 + A_2 y dx_2."""
    del t, args
    return (jnp.asarray(MATRICES, y.dtype) @ y).T


def exact(xs: np.ndarray, y0: np.ndarray) -> np.ndarray:
    """The state at every knot, for the straight lines between them."""
    states = [y0]
    for increment in np.diff(xs, axis=0):
        states.append(scipy.linalg.expm(np.tensordot(increment, MATRICES, axes=1)) @ states[-1])
    return np.stack(states)


def by_ode(path: Any, y0: Any, t0: Any, t1: Any, **options: Any) -> Any:
    options = {"stepsize_controller": TIGHT, "dt0": None} | options
    return diffeqsolve(ControlTerm(field, path).to_ode(), Tsit5(), t0, t1, y0=y0, **options)


def aware_of(ts: Any) -> ClipStepSizeController:
    """A controller that ends steps at the knots of straight lines, where the derivative of the path jumps."""
    return ClipStepSizeController(TIGHT, jump_ts=ts)


def smooth_between(ts: Any) -> ClipStepSizeController:
    """A controller that ends steps at the knots of a spline, where its second derivative jumps."""
    return ClipStepSizeController(TIGHT, step_ts=ts)


# Exact solutions


@jax.jit
def saved_along_lines(times: Any, y0: Any) -> Any:
    """The states at `times`, in either direction, of a solve that knows the knots."""
    path, options = LinearInterpolation(TS, XS), {"saveat": SaveAt(ts=times), "stepsize_controller": aware_of(TS)}
    return by_ode(path, y0, times[0], times[-1], **options).ys


@pytest.mark.parametrize("backwards", [False, True])
def test_along_straight_lines_the_solution_is_a_product_of_exponentials(backwards: bool) -> None:
    states = exact(XS, Y0)
    times, states = (TS[::-1], states[::-1]) if backwards else (TS, states)
    np.testing.assert_allclose(saved_along_lines(times, states[0]), states, rtol=2e-8)


def test_a_controller_that_knows_the_knots_makes_fewer_steps() -> None:
    path = LinearInterpolation(TS, XS)
    aware, unaware = (
        jax.jit(lambda c=c: by_ode(path, Y0, 0.0, 2.5, stepsize_controller=c))() for c in (aware_of(TS), TIGHT)
    )
    assert int(aware.stats["num_rejected_steps"]) == 0
    assert int(aware.stats["num_steps"]) < int(unaware.stats["num_steps"]) / 3
    np.testing.assert_allclose(unaware.ys, aware.ys, rtol=1e-6)


@eqx.filter_jit  # one program for both directions
def driven_by_increments(solver: Any, grid: Any, y0: Any) -> Any:
    term, options = ControlTerm(field, LinearInterpolation(TS, XS)), {"stepsize_controller": StepTo(grid)}
    return diffeqsolve(term, solver, grid[0], grid[-1], None, y0, **options).ys[-1]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("solver", "order"), [(Heun(), 2), pytest.param(Tsit5(), 5, marks=pytest.mark.slow)])
def test_a_solver_is_driven_by_the_increments_themselves(solver: Any, order: int, backwards: bool) -> None:
    states = exact(XS, Y0)[:: -1 if backwards else 1]
    errors = []
    for parts in (8, 16):
        # Steps end at the knots, so that the path is straight within each step.
        grid = np.interp(np.arange(4 * parts + 1) / parts, np.arange(5), TS)[:: -1 if backwards else 1]
        errors.append(np.max(np.abs(driven_by_increments(solver, grid, states[0]) - states[-1])))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@pytest.mark.slow
def test_steps_that_end_elsewhere_converge_too() -> None:
    term, end = ControlTerm(field, LinearInterpolation(TS, XS)), exact(XS, Y0)[-1]
    found = jax.jit(lambda dt0: diffeqsolve(term, Heun(), 0.0, 2.5, dt0, Y0).ys[-1])
    errors = [np.max(np.abs(found(2.5 / n) - end)) for n in (70, 1100)]
    assert errors[1] < errors[0] / 10 < 1e-3


@pytest.mark.slow
def test_solving_back_returns_to_the_start() -> None:
    path = CubicInterpolation(TS, backward_hermite_coefficients(TS, XS))
    options = {"stepsize_controller": smooth_between(TS)}
    end = jax.jit(lambda y0, t0, t1: by_ode(path, y0, t0, t1, **options).ys[-1])
    np.testing.assert_allclose(end(end(Y0, 0.0, 2.5), 2.5, 0.0), Y0, rtol=2e-8)


def test_a_jump_of_the_path_is_part_of_its_increments() -> None:
    path = LinearInterpolation([0.0, 1.0, 1.0, 2.0], np.array([0.0, 1.0, 4.0, 2.0]))
    term = ControlTerm(lambda t, y, args: jnp.ones(()), path)
    end = jax.jit(lambda t0, t1, dt0: diffeqsolve(term, Heun(), t0, t1, dt0, jnp.array(0.0)).ys[-1])
    for steps in (2, 3, 5):
        for t0, t1 in ((0.0, 2.0), (2.0, 0.0)):
            np.testing.assert_allclose(end(t0, t1, (t1 - t0) / steps), np.sign(t1 - t0) * 2.0, rtol=1e-13)


# Equivalent ordinary equations


def test_along_a_spline_it_is_the_ordinary_equation_with_its_derivative() -> None:
    path = CubicInterpolation(TS, backward_hermite_coefficients(TS, XS, deriv0=np.array([1.0, -2.0])))
    slopes = np.concatenate([[[1.0, -2.0]], np.diff(XS, axis=0) / np.diff(TS)[:, None]])
    spline = scipy.interpolate.CubicHermiteSpline(TS, XS, slopes)
    dense = scipy.integrate.solve_ivp(
        lambda t, y: np.tensordot(spline(t, 1), MATRICES, axes=1) @ y,
        (0.0, 2.5),
        Y0,
        "DOP853",
        TS,
        rtol=1e-11,
        atol=1e-11,
    )
    options = {"stepsize_controller": smooth_between(TS), "saveat": SaveAt(ts=TS)}
    found = jax.jit(lambda: by_ode(path, Y0, 0.0, 2.5, **options).ys)()
    np.testing.assert_allclose(found, dense.y.T, rtol=1e-7, atol=1e-8)
    by_hand = ODETerm(lambda t, y, args: field(t, y, args) @ path.derivative(t))
    other = jax.jit(lambda: diffeqsolve(by_hand, Tsit5(), 0.0, 2.5, None, Y0, **options).ys)()
    np.testing.assert_allclose(found, other, rtol=1e-12)


@pytest.mark.slow
def test_one_channel_of_any_path_has_a_closed_form() -> None:
    """dy = a y dx has the solution y = exp(a x)."""
    xs = {"a": XS[:, 0], "b": (XS[:, 1] + 0.5j * XS[:, 0],)}
    path = CubicInterpolation(TS, backward_hermite_coefficients(TS, xs))
    y0 = {"a": jnp.array(2.0), "b": (jnp.array(1.0 + 1.0j),)}

    def growth(t: Any, y: Any, args: Any) -> Any:
        return jax.tree.map(lambda y: 0.7 * y, y)

    term, options = ControlTerm(growth, path).to_ode(), {"stepsize_controller": smooth_between(TS)}
    found = jax.jit(lambda: diffeqsolve(term, Tsit5(), 0.0, 2.5, None, y0, **options).ys)()
    expected = jax.tree.map(lambda y, x: y * np.exp(0.7 * (x[-1] - x[0])), y0, xs)
    assert_trees_close(jax.tree.map(lambda y: y[-1], found), expected, rtol=1e-7)


def test_an_operator_maps_any_pytree_to_any_other() -> None:
    path = LinearInterpolation(TS, {"x": XS[:, 0], "z": XS[:, 1]})

    def operator(t: Any, y: Any, args: Any) -> Any:
        like = {k: jax.ShapeDtypeStruct((), jnp.float64) for k in ("x", "z")}
        first, second = field(t, y, args).T
        return lx.FunctionLinearOperator(lambda dx: first * dx["x"] + second * dx["z"], like)

    term = ControlTerm(operator, path).to_ode()
    found = jax.jit(lambda: diffeqsolve(term, Tsit5(), 0.0, 2.5, None, Y0, stepsize_controller=aware_of(TS)).ys[-1])()
    np.testing.assert_allclose(found, exact(XS, Y0)[-1], rtol=1e-7)


def test_a_solution_drives_another_equation() -> None:
    """x' = -x and dy = y dx: y = exp(x - x(0)), forwards and backwards."""
    decay = ODETerm(lambda t, y, args: -y)
    solution = diffeqsolve(
        decay,
        Tsit5(),
        0.0,
        2.0,
        None,
        jnp.array(1.0),
        stepsize_controller=TIGHT,
        saveat=SaveAt(dense=True),
        max_steps=512,
    )
    assert solution.interpolation is not None
    term = ControlTerm(lambda t, y, args: y, solution.interpolation).to_ode()
    options = {"stepsize_controller": TIGHT}
    end = jax.jit(lambda t0, t1: diffeqsolve(term, Tsit5(), t0, t1, None, jnp.array(1.0), **options).ys[-1])
    for t0, t1 in ((0.0, 2.0), (2.0, 0.0)):
        np.testing.assert_allclose(end(t0, t1), np.exp(np.exp(-t1) - np.exp(-t0)), rtol=1e-6)


def test_later_observations_do_not_change_earlier_predictions() -> None:
    """The path is parametrised by the index of the corner, with time among the values."""
    xs = np.where(np.arange(10).reshape(5, 2) % 3 == 1, NAN, XS)
    xs[0] = 0.0

    @jax.jit
    def follow(xs: Any) -> Any:
        ts, corners = rectilinear_interpolation(TS, xs)
        path = LinearInterpolation(np.arange(9.0), (ts, corners))

        def vf(t: Any, y: Any, args: Any) -> Any:
            like = (jax.ShapeDtypeStruct((), jnp.float64), jax.ShapeDtypeStruct((2,), jnp.float64))
            return lx.FunctionLinearOperator(lambda dx: -0.5 * y * dx[0] + field(t, y, args) @ dx[1], like)

        options = {"stepsize_controller": StepTo(np.linspace(0.0, 8.0, 33)), "saveat": SaveAt(ts=np.arange(9.0))}
        return diffeqsolve(ControlTerm(vf, path), Heun(), 0.0, 8.0, None, Y0, **options).ys

    changed = xs.copy()
    changed[3:] = 7.0
    before, after = follow(xs), follow(changed)
    np.testing.assert_array_equal(before[:6], after[:6])
    assert not np.allclose(before[6:], after[6:])


def test_single_precision_stays_single() -> None:
    path = LinearInterpolation(TS.astype(np.float32), XS.astype(np.float32))
    controller = ClipStepSizeController(PIDController(rtol=1e-4, atol=1e-4), jump_ts=TS.astype(np.float32))
    t0, t1 = np.float32(0.0), np.float32(2.5)
    found = by_ode(path, Y0.astype(np.float32), t0, t1, stepsize_controller=controller)
    assert found.ys.dtype == found.ts.dtype == np.float32
    np.testing.assert_allclose(found.ys[-1], exact(XS, Y0)[-1], rtol=3e-4)


# Transformations


def solve_lines(ts: Any, xs: Any, y0: Any = Y0) -> Any:
    path = LinearInterpolation(ts, linear_interpolation(ts, xs))
    return by_ode(path, y0, ts[0], ts[-1], stepsize_controller=aware_of(ts)).ys[-1]


def solve_spline(ts: Any, xs: Any, y0: Any = Y0) -> Any:
    path = CubicInterpolation(ts, backward_hermite_coefficients(ts, xs))
    return by_ode(path, y0, ts[0], ts[-1], stepsize_controller=smooth_between(ts)).ys[-1]


def solve_increments(ts: Any, xs: Any, y0: Any = Y0) -> Any:
    path = LinearInterpolation(ts, linear_interpolation(ts, xs))
    return diffeqsolve(ControlTerm(field, path), Heun(), ts[0], ts[-1], None, y0, stepsize_controller=StepTo(ts)).ys[-1]


SOLVES = {"lines": solve_lines, "spline": solve_spline, "increments": solve_increments}
WITH_GAPS = np.where(np.arange(10).reshape(5, 2) % 4 == 3, NAN, XS)
BATCH = np.stack([TS, 2 * TS, TS**2]), np.stack([WITH_GAPS, XS, 0.5 - XS])


def state_and_gradient(solve: Any, ts: Any, xs: Any, y0: Any) -> Any:
    """The final state, and the gradient of a function of it with respect to the series and the initial state."""
    y, pull = jax.vjp(lambda xs, y0: solve(ts, xs, y0), xs, y0)
    return y, dict(zip(("xs", "y0"), pull(jax.grad(weigh)(y)), strict=True))


@functools.cache
def compiled(name: str) -> Any:
    """`state_and_gradient` of one of the `SOLVES`: a function of one series."""
    return jax.jit(functools.partial(state_and_gradient, SOLVES[name]))


@pytest.mark.parametrize("name", [pytest.param("lines", marks=pytest.mark.slow), "increments"])
def test_a_batch_of_series_is_each_by_itself(name: str) -> None:
    each = np.stack([compiled(name)(ts, xs, Y0)[0] for ts, xs in zip(*BATCH, strict=True)])
    np.testing.assert_allclose(jax.jit(jax.vmap(SOLVES[name]))(*BATCH), each, rtol=1e-11)


@pytest.mark.slow
def test_a_batch_of_splines_and_their_derivatives_are_those_of_each() -> None:
    each = [compiled("spline")(ts, xs, Y0) for ts, xs in zip(*BATCH, strict=True)]
    states, gradients = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    batch = jax.vmap(functools.partial(state_and_gradient, solve_spline), in_axes=(0, 0, None))
    found = jax.jit(batch)(*BATCH, Y0)
    np.testing.assert_allclose(found[0], states, rtol=1e-11)
    assert_trees_close(found[1], gradients, rtol=1e-9, atol=1e-12)


# The gradient along lines has a closed form, which is tested below.
@pytest.mark.parametrize("name", [pytest.param("lines", marks=pytest.mark.slow), "spline", "increments"])
def test_derivatives_with_respect_to_the_series_agree_with_difference_quotients(name: str) -> None:
    x = {"xs": WITH_GAPS, "y0": Y0}
    direction = direction_like(x)
    expected = difference_quotient(lambda x: weigh(compiled(name)(TS, x["xs"], x["y0"])[0]), x, direction)
    _, gradient = compiled(name)(TS, WITH_GAPS, Y0)
    assert (np.asarray(gradient["xs"])[np.isnan(WITH_GAPS)] == 0).all()
    np.testing.assert_allclose(along(gradient, direction), expected, rtol=1e-6)
    measure = lambda x: weigh(SOLVES[name](TS, x["xs"], x["y0"]))
    by_jvp = jax.jit(lambda x: jax.jvp(measure, (x,), (direction,))[1])(x)
    np.testing.assert_allclose(by_jvp, expected, rtol=1e-6)


@pytest.mark.slow
def test_the_derivative_with_respect_to_a_series_has_a_closed_form() -> None:
    """y = exp(x_n - x_0), independent of the values between."""

    def final(xs: Any) -> Any:
        path = LinearInterpolation(TS, xs)
        term = ControlTerm(lambda t, y, args: y, path).to_ode()
        return diffeqsolve(term, Tsit5(), 0.0, 2.5, None, jnp.array(1.0), stepsize_controller=aware_of(TS)).ys[-1]

    gradient = jax.jit(jax.grad(final))(XS[:, 0])
    np.testing.assert_allclose(gradient, np.exp(XS[-1, 0]) * np.array([-1.0, 0.0, 0.0, 0.0, 1.0]), atol=1e-6)


@pytest.mark.parametrize("kind", [pytest.param("plain", marks=pytest.mark.slow), "batch"])
def test_no_custom_call_in_the_loop(kind: str) -> None:
    def solve(ts: Any, xs: Any) -> Any:
        path = CubicInterpolation(ts, backward_hermite_coefficients(ts, xs))
        controller = ClipStepSizeController(TIGHT, jump_ts=ts)
        return by_ode(path, Y0, ts[0], ts[-1], stepsize_controller=controller, throw=False).ys

    text = compiled_text(jax.vmap(solve), *BATCH) if kind == "batch" else compiled_text(solve, TS, XS)
    assert count_loops(text) >= 1
    assert custom_calls_in_loops(text) == set()


def test_a_path_without_a_derivative_gives_no_ordinary_equation() -> None:
    path = rungax.VirtualBrownianTree(0.0, 1.0, 1e-2, (2,), jax.random.key(0))
    with pytest.raises((NotImplementedError, RuntimeError), match="derivative"):
        by_ode(path, Y0, 0.0, 1.0)
