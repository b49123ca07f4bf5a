"""Missing values are filled as by loops over entries and times, for every pattern of missing values."""

from itertools import pairwise
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax.paths
from rungax.paths import backward_hermite_coefficients, linear_interpolation, rectilinear_interpolation

from ..compare import assert_trees_close
from ..gradients.measure import along, difference_quotient, direction_like, weigh
from .reference import Series, corners, filled_linearly, hermite, replaced

NAN = np.nan
ENTRIES = 3
FUNCTIONS = (linear_interpolation, rectilinear_interpolation, backward_hermite_coefficients)

# Compiled once for each length and choice of options, because hypothesis calls them hundreds of times.
LINEAR = jax.jit(linear_interpolation, static_argnames="fill_forward_nans_at_end")
RECTILINEAR = jax.jit(rectilinear_interpolation)
HERMITE = jax.jit(backward_hermite_coefficients, static_argnames="fill_forward_nans_at_end")


@st.composite
def with_gaps(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Times and values with several entries, any of which may be missing."""
    n = draw(st.sampled_from([2, 5]))
    gaps = draw(st.lists(st.sampled_from([0.01, 0.3, 1.0, 7.0]), min_size=n, max_size=n))
    missing = draw(st.lists(st.booleans(), min_size=n * ENTRIES, max_size=n * ENTRIES))
    ys = np.random.default_rng(draw(st.integers(0, 99))).uniform(-1, 1, (n, ENTRIES))
    return np.cumsum(gaps) - 2.0, np.where(np.reshape(missing, (n, ENTRIES)), NAN, ys)


OPTIONS = {"series": with_gaps(), "replaces": st.booleans(), "fills": st.booleans()}
QUICKLY = hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
FIRST, NOTHING, SLOPE = np.array([3.0, -1.0, 0.5]), np.full(3, NAN), np.array([0.7, -2.0, 1.0])


def entries(ts: np.ndarray, ys: np.ndarray, replaces: bool, fills: bool) -> list[Series]:
    return [replaced(Series(ts, ys[:, i]), FIRST[i] if replaces else None, fills) for i in range(ENTRIES)]


@hypothesis.given(**OPTIONS)
@QUICKLY
def test_missing_values_lie_on_the_line_between_neighbouring_observations(
    series: Any, replaces: bool, fills: bool
) -> None:
    found = LINEAR(*series, fill_forward_nans_at_end=fills, replace_nans_at_start=FIRST if replaces else NOTHING)
    expected = np.stack([filled_linearly(entry) for entry in entries(*series, replaces, fills)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)
    seen = ~np.isnan(series[1])
    np.testing.assert_array_equal(np.asarray(found)[seen], series[1][seen])


@hypothesis.given(series=with_gaps(), replaces=st.booleans())
@QUICKLY
def test_rectilinear_paths_move_first_in_time_and_then_in_the_values(series: Any, replaces: bool) -> None:
    ts, ys = RECTILINEAR(*series, FIRST if replaces else NOTHING)
    expected = [corners(entry) for entry in entries(*series, replaces, fills=False)]
    np.testing.assert_array_equal(ts, expected[0].ts)
    np.testing.assert_array_equal(ys, np.stack([entry.ys for entry in expected], axis=1))
    assert len(ts) == len(ys) == 2 * len(series[0]) - 1


@hypothesis.given(**OPTIONS, starts=st.booleans())
@QUICKLY
def test_the_cubics_are_the_spline_through_the_observations(
    series: Any, replaces: bool, fills: bool, starts: bool
) -> None:
    ts, ys = series
    options = {"replace_nans_at_start": FIRST if replaces else NOTHING} | ({"deriv0": SLOPE} if starts else {})
    d, c, b, a = (np.asarray(x) for x in HERMITE(ts, ys, fill_forward_nans_at_end=fills, **options))
    assert a.shape == (len(ts) - 1, ENTRIES)
    for i, entry in enumerate(entries(ts, ys, replaces, fills)):
        spline = hermite(entry, SLOPE[i] if starts else None)
        for row, (start, end) in enumerate(pairwise(ts)):
            # Not at the knots themselves, where the path may become NaN.
            s = np.linspace(0.02, 0.98, 5) * (end - start)
            found = ((d[row, i] * s + c[row, i]) * s + b[row, i]) * s + a[row, i]
            expected = np.full(5, NAN) if spline is None else spline(start + s)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_a_knot_without_observations_does_not_change_the_path() -> None:
    ts, ys = np.array([0.0, 1.0, 2.5, 4.0]), np.array([1.0, -1.0, 2.0, 0.0])
    more_ts, more_ys = np.array([0.0, 1.0, 1.2, 2.0, 2.5, 4.0]), np.array([1.0, -1.0, NAN, NAN, 2.0, 0.0])
    times = np.linspace(0.0, 4.0, 41)

    @jax.jit
    def cubic(ts: Any, ys: Any) -> Any:
        path = rungax.paths.CubicInterpolation(ts, backward_hermite_coefficients(ts, ys))
        return jax.vmap(path.evaluate)(times), jax.vmap(path.derivative)(times)

    @jax.jit
    def linear(ts: Any, ys: Any) -> Any:
        return jax.vmap(rungax.paths.LinearInterpolation(ts, linear_interpolation(ts, ys)).evaluate)(times)

    assert_trees_close(cubic(more_ts, more_ys), cubic(ts, ys), rtol=1e-12, atol=1e-12)
    assert_trees_close(linear(more_ts, more_ys), linear(ts, ys), rtol=1e-12, atol=1e-12)


def test_the_derivative_of_the_cubics_is_continuous_across_a_gap() -> None:
    ts, ys = np.array([0.0, 1.0, 3.0, 4.0, 6.0]), np.array([0.0, 1.0, NAN, 2.0, 0.0])
    path = rungax.paths.CubicInterpolation(ts, backward_hermite_coefficients(ts, ys))
    for t in ts[1:-1]:
        np.testing.assert_allclose(path.derivative(t, left=True), path.derivative(t, left=False), rtol=1e-13)


def test_the_cubics_do_not_look_ahead() -> None:
    ts, ys = np.arange(6.0), np.array([0.0, 1.0, NAN, 2.0, 0.0, 1.0])
    rows = backward_hermite_coefficients(ts, ys)
    for later in (4, 5):
        changed = ys.copy()
        changed[later:] = NAN
        assert_trees_close(
            [x[: later - 1] for x in backward_hermite_coefficients(ts, changed)], [x[: later - 1] for x in rows]
        )


def test_values_without_observations_are_nan_or_replaced() -> None:
    ts, ys = np.arange(5.0), np.array([NAN, NAN, 2.0, 4.0, NAN])
    np.testing.assert_array_equal(linear_interpolation(ts, ys), ys)
    replaced = linear_interpolation(ts, ys, fill_forward_nans_at_end=True, replace_nans_at_start=0.0)
    np.testing.assert_allclose(replaced, [0.0, 1.0, 2.0, 4.0, 4.0])
    _, corner = rectilinear_interpolation(ts, ys)
    np.testing.assert_array_equal(corner, [NAN, NAN, NAN, NAN, 2.0, 2.0, 4.0, 4.0, 4.0])
    _, corner = rectilinear_interpolation(ts, ys, 1.0)
    np.testing.assert_array_equal(corner, [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 4.0])
    for power in backward_hermite_coefficients(ts, ys):
        np.testing.assert_array_equal(np.isnan(power), [True, True, False, True])


def test_a_series_without_observations_stays_at_its_replacement() -> None:
    ts, ys = np.arange(3.0), np.full(3, NAN)
    assert np.isnan(linear_interpolation(ts, ys, fill_forward_nans_at_end=True)).all()
    filled = linear_interpolation(ts, ys, fill_forward_nans_at_end=True, replace_nans_at_start=2.0)
    np.testing.assert_array_equal(filled, [2.0, 2.0, 2.0])
    path = backward_hermite_coefficients(ts, ys, fill_forward_nans_at_end=True, replace_nans_at_start=2.0)
    assert_trees_close(path, tuple(jnp.full(2, x) for x in (0.0, 0.0, 0.0, 2.0)))


def test_one_time_is_a_series() -> None:
    assert_trees_close(linear_interpolation([1.0], jnp.array([2.0])), jnp.array([2.0]))
    assert_trees_close(rectilinear_interpolation([1.0], jnp.array([2.0])), (jnp.array([1.0]), jnp.array([2.0])))


# Pytrees, dtypes, transformations

TS = np.array([0.0, 0.5, 0.7, 2.0, 3.0])
TREE = {
    "a": np.array([1.0, NAN, NAN, 2.0, 3.0], np.float32),
    "b": (np.array([[1.0 + 1.0j, 2.0j], [NAN, 0.0], [0.5, NAN], [1.0, 1.0], [NAN, 1.0j]]),),
}
FIRST_OF_TREE = {"a": 0.5, "b": (np.array([1.0, 2.0j]),)}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_leaves_of_a_pytree_are_treated_one_by_one_and_keep_their_dtypes(function: Any) -> None:
    found = function(TS, TREE, replace_nans_at_start=FIRST_OF_TREE)
    a = function(TS, TREE["a"], replace_nans_at_start=0.5)
    b = function(TS, TREE["b"][0], replace_nans_at_start=np.array([1.0, 2.0j]))
    if function is linear_interpolation:
        assert_trees_close(found, {"a": a, "b": (b,)})
        kinds = jax.tree.leaves(jax.tree.map(lambda x: x.dtype, found))
    elif function is rectilinear_interpolation:
        assert_trees_close(found, (a[0], {"a": a[1], "b": (b[1],)}))
        kinds = [x.dtype for x in jax.tree.leaves(found[1])]
    else:
        assert_trees_close(found, tuple({"a": x, "b": (y,)} for x, y in zip(a, b, strict=True)))
        kinds = [x.dtype for x in jax.tree.leaves(found[0])]
    assert kinds == [np.float32, np.complex128]


def test_a_complex_series_is_its_real_and_imaginary_parts() -> None:
    ys = np.array([1.0 + 1.0j, NAN, 2.0 - 1.0j, 0.5j, NAN])
    parts = (
        backward_hermite_coefficients(TS, ys.real),
        backward_hermite_coefficients(TS, np.where(np.isnan(ys), NAN, ys.imag)),
    )
    found = backward_hermite_coefficients(TS, ys)
    for x, re, im in zip(found, *parts, strict=True):
        np.testing.assert_allclose(
            np.asarray(x)[:3], (np.asarray(re) + 1j * np.asarray(im))[:3], rtol=1e-13, atol=1e-15
        )
        assert np.isnan(x[3])


def test_times_may_have_double_and_values_single_precision() -> None:
    ts = 1e6 + np.array([0.0, 0.125, 0.25, 0.5])
    ys = np.array([0.0, NAN, 1.0, 2.0], np.float32)
    np.testing.assert_allclose(linear_interpolation(ts, ys), [0.0, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(backward_hermite_coefficients(ts, ys)[2], [4.0, 4.0, 4.0])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_batch_of_series_by_vmap_is_each_by_itself(function: Any) -> None:
    generator = np.random.default_rng(0)
    ts = np.cumsum(generator.uniform(0.1, 1.0, (4, 6)), axis=1)
    ys = np.where(generator.uniform(size=(4, 6, 2)) < 0.4, NAN, generator.uniform(size=(4, 6, 2)))
    one = jax.jit(function)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *[one(t, y) for t, y in zip(ts, ys, strict=True)])
    same_ts = jax.tree.map(lambda *x: jnp.stack(x), *[one(ts[0], y) for y in ys])

    @jax.jit
    def together(ts: Any, ys: Any) -> Any:
        return jax.vmap(function)(ts, ys), jax.vmap(function, in_axes=(None, 0))(ts[0], ys)

    assert_trees_close(together(ts, ys), (stacked, same_ts), rtol=1e-14)


@pytest.mark.parametrize(
    ("function", "fills"),
    [
        *((function, True) for function in FUNCTIONS),
        (backward_hermite_coefficients, False),
        # Without the derivatives of cubics, the same values are filled.
        *(pytest.param(f, False, marks=pytest.mark.slow) for f in (linear_interpolation, rectilinear_interpolation)),
    ],
)
def test_derivatives_agree_with_difference_quotients_and_are_zero_for_missing_values(
    function: Any, fills: bool
) -> None:
    ys = np.array([[NAN, 1.0], [2.0, NAN], [NAN, NAN], [1.0, 0.0], [NAN, 3.0]])
    options: dict[str, Any] = {"fill_forward_nans_at_end": fills} if function is not rectilinear_interpolation else {}
    if function is backward_hermite_coefficients:
        options["deriv0"] = jnp.array([0.3, -0.5])
    x = {"ts": TS, "ys": ys, "first": np.array([0.5, -0.5])}

    def measure(x: Any) -> jax.Array:
        return weigh(function(x["ts"], x["ys"], replace_nans_at_start=x["first"] if fills else None, **options))

    direction = direction_like(x)

    @jax.jit
    def value_and_derivatives(x: Any) -> Any:
        """The value, its gradient, and its derivative in that direction."""
        return *jax.value_and_grad(measure)(x), jax.jvp(measure, (x,), (direction,))[1]

    _, gradient, by_jvp = value_and_derivatives(x)
    assert np.isfinite(np.concatenate([np.ravel(g) for g in jax.tree.leaves(gradient)])).all()
    assert (np.asarray(gradient["ys"])[np.isnan(ys)] == 0).all()
    expected = difference_quotient(lambda x: value_and_derivatives(x)[0], x, direction)
    np.testing.assert_allclose(along(gradient, direction), expected, rtol=1e-8)
    np.testing.assert_allclose(by_jvp, expected, rtol=1e-8)


def test_a_spline_depends_differentiably_on_its_initial_derivative() -> None:
    ys = np.array([0.0, 1.0, NAN, 1.0, 2.0])

    @jax.jit
    def measure(slope: Any) -> jax.Array:
        return weigh(backward_hermite_coefficients(TS, ys, deriv0=slope))

    np.testing.assert_allclose(jax.grad(measure)(0.3), difference_quotient(measure, 0.3, 1.0), rtol=1e-8)


# Invalid input


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("ts", [[0.0, 2.0, 1.0], [0.0, 1.0, 1.0], [0.0, NAN, 1.0], [NAN, 1.0, 2.0]])
def test_times_that_do_not_increase_are_an_error_or_nan_at_run_time(function: Any, ts: Any) -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        function(ts, jnp.zeros(3))
    found = jax.jit(function)(jnp.array(ts), jnp.zeros(3))
    values = found[1] if function is rectilinear_interpolation else found
    assert all(np.isnan(x).all() for x in jax.tree.leaves(values))


def test_times_known_at_trace_time_do_not_raise_then() -> None:
    found = jax.jit(lambda ys: linear_interpolation(np.array([0.0, 0.0, 1.0]), ys))(jnp.zeros(3))
    assert np.isnan(found).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_known_times_of_jax_that_do_not_increase_are_an_error(function: Any) -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        function(jnp.asarray([0.0, 2.0, 1.0]), jnp.zeros(3))


def test_the_message_shows_only_the_times_out_of_order() -> None:
    ts = np.arange(1000.0)
    ts[500] = 3.0
    with pytest.raises(ValueError, match=r"\[\.\.\., 498, 499, 3, 501, \.\.\.\]"):
        linear_interpolation(ts, np.zeros(1000))


@pytest.mark.parametrize(
    ("ts", "ys", "options", "words"),
    [
        (np.zeros((2, 3)), np.zeros(3), {}, "one-dimensional"),
        (1.0, np.zeros(3), {}, "one-dimensional"),
        (TS, np.zeros(3), {}, "first axis of `ys`"),
        (TS, {"a": 0.0}, {}, r"leaf \['a'\] of `ys`"),
        (TS, np.zeros((5, 2)), {"replace_nans_at_start": np.zeros(3)}, "`replace_nans_at_start` must fit"),
        (TS, np.zeros((5, 2)), {"replace_nans_at_start": 1.0j}, "`replace_nans_at_start` must fit"),
        (TS, {"a": np.zeros(5)}, {"replace_nans_at_start": {"b": 1.0}}, "`replace_nans_at_start` must have the struct"),
        (TS, {"a": np.zeros(5)}, {"deriv0": (1.0,)}, "`deriv0` must have the structure of `ys`"),
        (TS[:1], np.zeros(1), {}, "length at least 2"),
    ],
)
def test_messages_explain_what_does_not_fit(ts: Any, ys: Any, options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        backward_hermite_coefficients(ts, ys, **options)
