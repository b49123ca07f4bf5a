"""Interpolations between knots agree with NumPy and SciPy, also beyond the ends and at jumps."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate

import rungax
from rungax.paths import (
    AbstractGlobalInterpolation,
    CubicInterpolation,
    LinearInterpolation,
    backward_hermite_coefficients,
)

from ..catalogue import slow_unless
from ..compare import assert_trees_close
from ..gradients.measure import along, difference_quotient, direction_like, weigh
from ..tracing.hlo import compiled_text

GENERATOR = np.random.default_rng(1)
TS = np.cumsum(GENERATOR.uniform(0.1, 1.0, 9)) - 2.0
YS = GENERATOR.uniform(-1.0, 1.0, (9, 2))
SLOPES = GENERATOR.uniform(-1.0, 1.0, (9, 2))
TREE = {"a": YS.astype(np.float32), "b": (YS[:, 0] + 1j * YS[:, 1],), "c": GENERATOR.uniform(size=(9, 2, 3))}
INSIDE = np.linspace(TS[0], TS[-1], 101)
OUTSIDE = np.array([TS[0] - 1.0, TS[0] - 1e-3, TS[-1] + 1e-3, TS[-1] + 1.0])


@partial(jax.jit, static_argnames="left")
def values(path: Any, times: Any, left: bool = True) -> Any:
    return jax.vmap(lambda t: path.evaluate(t, left=left))(jnp.asarray(times))


@partial(jax.jit, static_argnames="left")
def values_and_slopes(path: Any, times: Any, left: bool) -> Any:
    """The values, their derivatives by time in forward mode, and those that the path states."""
    forwards = jax.jvp(lambda times: values(path, times, left), (times,), (jnp.ones_like(times),))
    return *forwards, slopes(path, times, left)


@partial(jax.jit, static_argnames="left")
def slopes(path: Any, times: Any, left: bool = True) -> Any:
    return jax.vmap(lambda t: path.derivative(t, left=left))(jnp.asarray(times))


def cubic_of(spline: Any) -> CubicInterpolation:
    """A piecewise cubic of SciPy as a `CubicInterpolation`; the coefficients are in the same order."""
    return CubicInterpolation(spline.x, tuple(spline.c))


def linear() -> LinearInterpolation:
    return LinearInterpolation(TS, TREE)


def cubic() -> CubicInterpolation:
    return CubicInterpolation(TS, backward_hermite_coefficients(TS, TREE))


PATHS = {"linear": linear, "cubic": cubic}


# Values


def test_lines_are_those_of_numpy() -> None:
    expected = np.stack([np.interp(INSIDE, TS, y) for y in YS.T], axis=1)
    path = LinearInterpolation(TS, YS)
    np.testing.assert_allclose(values(path, INSIDE), expected, rtol=1e-13, atol=1e-15)
    for left in (True, False):
        np.testing.assert_array_equal(values(path, TS, left), YS)


def test_lines_extend_beyond_the_ends() -> None:
    expected = scipy.interpolate.interp1d(TS, YS, axis=0, fill_value="extrapolate")(OUTSIDE)
    np.testing.assert_allclose(values(LinearInterpolation(TS, YS), OUTSIDE), expected, rtol=1e-12)


@pytest.mark.parametrize("side", ["inside", "outside"])
def test_cubics_are_those_of_scipy(side: str) -> None:
    times = INSIDE if side == "inside" else OUTSIDE
    spline = scipy.interpolate.CubicHermiteSpline(TS, YS, SLOPES)
    path = cubic_of(spline)
    np.testing.assert_allclose(values(path, times), spline(times), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(slopes(path, times), spline(times, 1), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("make", PATHS.values(), ids=PATHS.keys())
def test_the_derivative_is_that_of_the_value_in_every_dtype(make: Any) -> None:
    path = make()
    times = jnp.array([TS[0] - 0.5, 0.3, TS[3], TS[-1] + 0.2])
    for left in (True, False):
        value, by_jvp, derivative = values_and_slopes(path, times, left)
        assert_trees_close(derivative, by_jvp, rtol=1e-5, atol=1e-6)
        assert [x.dtype for x in jax.tree.leaves(derivative)] == [np.float32, np.complex128, np.float64]
        assert [x.shape for x in jax.tree.leaves(value)] == [(4, 2), (4,), (4, 2, 3)]


@pytest.mark.parametrize("make", PATHS.values(), ids=PATHS.keys())
def test_an_increment_of_any_pytree_is_a_difference_of_values(make: Any) -> None:
    path = make()
    for a, b in ((-1.0, 0.7), (0.7, -1.0), (-5.0, 9.0), (0.2, 0.2)):
        difference = jax.tree.map(jnp.subtract, path.evaluate(b), path.evaluate(a))
        assert_trees_close(path.evaluate(a, b), difference)


def test_the_ends_of_a_path_are_its_first_and_last_knot() -> None:
    for make in PATHS.values():
        path = make()
        assert isinstance(path, AbstractGlobalInterpolation)
        assert (path.t0, path.t1) == (TS[0], TS[-1])


def test_a_dense_solution_is_a_path() -> None:
    term = rungax.ODETerm(lambda t, y, args: jax.tree.map(jnp.negative, y))
    y0 = {"a": jnp.array(1.0), "b": jnp.arange(2.0)}
    solution = rungax.diffeqsolve(term, rungax.Tsit5(), 0.0, 1.0, 0.1, y0, saveat=rungax.SaveAt(dense=True))
    path = solution.interpolation
    assert isinstance(path, AbstractGlobalInterpolation)
    difference = jax.tree.map(jnp.subtract, path.evaluate(0.7), path.evaluate(0.2))
    assert_trees_close(path.evaluate(0.2, 0.7), difference)
    assert_trees_close(path.value(0.2), path.evaluate(0.2))
    assert all(np.isnan(x).all() for x in jax.tree.leaves(path.evaluate(1.1)))


# Jumps


def test_at_repeated_times_the_path_jumps() -> None:
    path = LinearInterpolation([0.0, 1.0, 1.0, 1.0, 2.0], np.array([0.0, 2.0, 77.0, 5.0, 4.0]))
    assert (path.evaluate(1.0), path.evaluate(1.0, left=False)) == (2.0, 5.0)
    assert (path.derivative(1.0), path.derivative(1.0, left=False)) == (2.0, -1.0)
    assert (path.evaluate(0.5), path.evaluate(1.5)) == (1.0, 4.5)
    assert (path.evaluate(0.5, 1.0), path.evaluate(0.5, 1.0, left=False)) == (1.0, 4.0)
    assert (path.evaluate(1.0, 1.5), path.evaluate(1.0, 1.5, left=False)) == (2.5, -0.5)
    cubic = CubicInterpolation(
        [0.0, 1.0, 1.0, 2.0], tuple(np.array(x) for x in ([0, 9, 0], [0, 9, 0], [2, 9, 3], [0, 9, 4]))
    )
    assert (cubic.evaluate(1.0), cubic.evaluate(1.0, left=False)) == (2.0, 4.0)
    assert (cubic.derivative(1.0), cubic.derivative(1.0, left=False)) == (2.0, 3.0)


def test_a_jump_at_an_end_counts_and_beyond_it_the_path_is_constant() -> None:
    path = LinearInterpolation([0.0, 0.0, 1.0, 1.0], np.array([3.0, 1.0, 2.0, 7.0]))
    found = [[float(path.evaluate(t, left=left)) for left in (True, False)] for t in (-1.0, 0.0, 0.5, 1.0, 2.0)]
    assert found == [[3.0, 3.0], [3.0, 1.0], [1.5, 1.5], [2.0, 7.0], [7.0, 7.0]]
    found = [[float(path.derivative(t, left=left)) for left in (True, False)] for t in (-1.0, 0.0, 0.5, 1.0, 2.0)]
    assert found == [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    step = LinearInterpolation([0.0, 0.0], np.array([3.0, 1.0]))
    assert [float(step.evaluate(t)) for t in (-1.0, 0.0, 1.0)] == [3.0, 3.0, 1.0]
    gradient = jax.grad(lambda ys: LinearInterpolation([0.0, 0.0, 1.0, 1.0], ys).evaluate(2.0))(path.ys)
    np.testing.assert_array_equal(gradient, [0.0, 0.0, 0.0, 1.0])
    by_ts = jax.grad(lambda ts: LinearInterpolation(ts, path.ys).evaluate(2.0))(path.ts)
    np.testing.assert_array_equal(by_ts, np.zeros(4))


def test_a_time_just_past_a_knot_of_less_precision_is_past_it() -> None:
    path = LinearInterpolation(np.array([0.0, 1.0, 1.0, 2.0], np.float32), np.array([0.0, 0.0, 1.0, 1.0], np.float32))
    assert path.evaluate(np.nextafter(1.0, 2.0)) == 1.0
    assert path.evaluate(np.nextafter(1.0, 0.0)) == 0.0
    assert path.evaluate(0.5).dtype == np.float32


# Transformations


@pytest.mark.parametrize("make", PATHS.values(), ids=PATHS.keys())
def test_every_transformation_gives_the_same(make: Any) -> None:
    path = make()
    by_hand = jax.tree.map(lambda *x: jnp.stack(x), *[path.evaluate(t) for t in INSIDE[::20]])
    assert_trees_close(jax.vmap(path.evaluate)(INSIDE[::20]), by_hand, rtol=1e-6)
    assert_trees_close(values(path, INSIDE[::20]), by_hand, rtol=1e-5)


def test_a_batch_of_series_is_each_by_itself() -> None:
    ts = np.stack([TS, TS + 0.1, 2 * TS])
    ys = np.stack([YS, -YS, 3 * YS])

    @jax.jit
    def ask(ts: Any, ys: Any) -> Any:
        cubic = CubicInterpolation(ts, backward_hermite_coefficients(ts, ys))
        return LinearInterpolation(ts, ys).evaluate(0.3), cubic.evaluate(0.3), cubic.derivative(0.3)

    each = jax.tree.map(lambda *x: jnp.stack(x), *[ask(t, y) for t, y in zip(ts, ys, strict=True)])
    assert_trees_close(jax.jit(jax.vmap(ask))(ts, ys), each, rtol=1e-12)
    paths = jax.vmap(LinearInterpolation)(ts, ys)
    assert_trees_close(jax.jit(jax.vmap(lambda path: path.evaluate(0.3)))(paths), each[0], rtol=1e-13)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=slow_unless(kind == "cubic")) for kind in PATHS])
def test_derivatives_by_values_knots_and_time_agree_with_difference_quotients(kind: str) -> None:
    x = {"ts": TS, "ys": YS, "t": np.array([-0.3, 1.1, 4.0])}

    def measure(x: Any) -> jax.Array:
        ts, ys = x["ts"], x["ys"]
        path = (
            LinearInterpolation(ts, ys)
            if kind == "linear"
            else CubicInterpolation(ts, backward_hermite_coefficients(ts, ys))
        )
        return weigh((values(path, x["t"]), slopes(path, x["t"])))

    direction = direction_like(x)

    @jax.jit
    def value_and_derivatives(x: Any) -> Any:
        """The value, its gradient, and its derivative in that direction."""
        return *jax.value_and_grad(measure)(x), jax.jvp(measure, (x,), (direction,))[1]

    _, gradient, by_jvp = value_and_derivatives(x)
    expected = difference_quotient(lambda x: value_and_derivatives(x)[0], x, direction, h=1e-4)
    np.testing.assert_allclose(along(gradient, direction), expected, rtol=1e-7)
    np.testing.assert_allclose(by_jvp, expected, rtol=1e-7)


# Cost


def passes(text: str, n: int) -> list[str]:
    """The instructions of a compiled program that produce `n` numbers, or loop."""
    made = re.compile(rf"= \(?\w+\[{n}[\],].*|= .* while\(.*")
    return [
        found[0] for line in text.splitlines() for found in [made.search(line)] if found and "parameter(" not in line
    ]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=slow_unless(kind == "cubic")) for kind in PATHS])
def test_a_value_costs_a_search_and_no_pass_over_the_knots(kind: str) -> None:
    n = 10_000
    ts = np.arange(float(n))
    y = np.zeros((n, 3)) if kind == "linear" else np.zeros((n - 1, 3))
    path = LinearInterpolation(ts, y) if kind == "linear" else CubicInterpolation(ts, [y] * 4)
    for ask in (lambda path, t: path.evaluate(t), lambda path, t: path.derivative(t)):
        assert passes(compiled_text(ask, path, 0.5), n) == []
    planted = compiled_text(lambda path, t: jnp.sum(path.ts < t), path, 0.5)
    assert passes(planted, n) != []


# Invalid input


@pytest.mark.parametrize("ts", [[0.0, 2.0, 1.0], [0.0, np.nan, 1.0], [np.nan, 0.0, 1.0]])
def test_times_out_of_order_are_an_error_or_nan_at_run_time(ts: Any) -> None:
    with pytest.raises(ValueError, match="in order, repeats allowed"):
        LinearInterpolation(ts, np.zeros(3))
    with pytest.raises(ValueError, match="in order, repeats allowed"):
        CubicInterpolation(ts, [np.zeros(2)] * 4)
    found = jax.jit(lambda ts: LinearInterpolation(ts, np.zeros(3)).evaluate(0.5))(jnp.array(ts))
    assert np.isnan(found)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LinearInterpolation(TS, YS[1:]), "Expected: length 9\nFound:    shape \\(8, 2\\)"),
        (lambda: LinearInterpolation(TS, list(YS[:, 0])), r"leaf \[0\] of `ys`"),
        (lambda: LinearInterpolation(TS[:1], YS[:1]), "length at least 2"),
        (lambda: LinearInterpolation(YS, YS), "one-dimensional"),
        (lambda: CubicInterpolation(TS, (YS,) * 4), "one less than there are knots"),
        (lambda: CubicInterpolation(TS, (YS[1:],) * 3), "Found:    3 of them"),
        (lambda: CubicInterpolation(TS, YS), "Found:    ndarray"),
        (lambda: linear().evaluate("noon"), "A time must be numbers"),
        (lambda: cubic().derivative(["noon"]), "A time must be numbers"),
    ],
)
def test_messages_explain_what_does_not_fit(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_integers_and_lists_are_accepted() -> None:
    path = LinearInterpolation([0, 1, 2], np.array([0, 2, 6]))
    assert path.evaluate(1.5) == 4.0
    assert path.evaluate(1) == 2.0
    assert path.ts.dtype == path.ys.dtype == np.float64
