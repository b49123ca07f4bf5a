"""A banded operator and its solver agree with the dense matrix."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from rungax.nonlinear import BandedLinearOperator, BandedLU

from ..catalogue import slow_unless
from ..compare import assert_trees_close

BANDS = [(0, 0), (0, 2), (2, 0), (1, 1), (2, 1), (1, 3), (4, 2)]
CASES = [(lower, upper, 20) for lower, upper in BANDS] + [(4, 2, 1), (4, 2, 3), (1, 3, 2)]
"""Bands with many rows, and with fewer rows than the width of the band."""
KINDS = [(2, 1, 20, dtype) for dtype in (np.float32, np.complex64, np.complex128)] + [(4, 2, 3, np.complex128)]
OFTEN = [case for case in CASES if case not in [(1, 1, 20), (4, 2, 20), (4, 2, 1), (2, 0, 20), (1, 3, 20)]]
"""The other cases repeat some of these and are marked as slow."""
SOLVER = BandedLU()


def marked(cases: list[tuple[Any, ...]], often: list[tuple[Any, ...]]) -> list[Any]:
    return [pytest.param(*case, marks=slow_unless(case in often)) for case in cases]


def random(shape: tuple[int, ...], seed: int, dtype: Any = np.float64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if np.issubdtype(dtype, np.complexfloating) else x).astype(dtype)


def dense(diagonals: np.ndarray, lower: int, upper: int) -> np.ndarray:
    """The matrix, entry by entry, as the documentation describes the layout."""
    n = diagonals.shape[1]
    matrix = np.zeros((n, n), diagonals.dtype)
    for d in range(lower + upper + 1):
        for i in range(n):
            if 0 <= i + d - lower < n:
                matrix[i, i + d - lower] = diagonals[d, i]
    return matrix


def needs_pivots(lower: int, upper: int, n: int, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    """Diagonals of a regular matrix, with zeros on the main one if there are others on both sides of it."""
    diagonals = random((lower + upper + 1, n), seed, dtype)
    if lower == 0 or upper == 0 or n == 1:
        diagonals[lower] = 3 + np.abs(diagonals[lower])  # triangular: it must not be singular
        return diagonals
    diagonals[lower, ::2] = 0
    diagonals[lower - 1] += 2
    diagonals[lower, -1] = 2
    return diagonals


def tolerance(matrix: np.ndarray) -> float:
    """A bound of the relative error of an elimination with partial pivoting."""
    return float(100 * np.finfo(matrix.dtype).eps * np.linalg.cond(matrix))


def solve(diagonals: Any, b: Any, lower: int, upper: int) -> jax.Array:
    return lx.linear_solve(BandedLinearOperator(diagonals, lower, upper), b, SOLVER).value


# ------------------------------------------------------------------------------------------------------------ operator


@pytest.mark.parametrize(("lower", "upper", "n"), marked(CASES, OFTEN))
def test_operator_is_its_matrix(lower: int, upper: int, n: int) -> None:
    diagonals = random((lower + upper + 1, n), 0, np.complex128)
    matrix, vector = dense(diagonals, lower, upper), random((n,), 1, np.complex128)
    operator = BandedLinearOperator(diagonals, lower, upper)

    @jax.jit
    def views(op: BandedLinearOperator) -> list[Any]:
        return [op.as_matrix(), op.T.as_matrix(), lx.conj(op).as_matrix(), lx.diagonal(op), lx.tridiagonal(op), op.T.T]

    diagonal, *others = (np.diag(matrix, k) for k in (0, -1, 1))
    expected = [matrix, matrix.T, matrix.conj(), diagonal, (diagonal, *others), operator]
    assert_trees_close(views(operator), expected)
    assert_trees_close(eqx.filter_jit(operator.mv)(jnp.asarray(vector)), matrix @ vector, rtol=1e-13, atol=1e-13)
    assert (operator.T.lower, operator.T.upper) == (upper, lower)
    assert operator.in_structure() == operator.out_structure() == jax.ShapeDtypeStruct((n,), np.complex128)


@pytest.mark.parametrize(("lower", "upper"), BANDS)
def test_operator_states_its_shape(lower: int, upper: int) -> None:
    operator = BandedLinearOperator(random((lower + upper + 1, 5), 0), lower, upper)
    assert lx.is_diagonal(operator) == lx.is_symmetric(operator) == (lower + upper == 0)
    assert lx.is_tridiagonal(operator) == (max(lower, upper) < 2)
    assert lx.is_lower_triangular(operator) == (upper == 0)
    assert lx.is_upper_triangular(operator) == (lower == 0)
    for claim in (lx.has_unit_diagonal, lx.is_positive_semidefinite, lx.is_negative_semidefinite):
        assert not claim(operator)
    assert lx.linearise(operator) is lx.materialise(operator) is operator


@pytest.mark.parametrize(("lower", "upper"), [(0, 0), (1, 1), (0, 2), (2, 1)])
def test_lineax_finds_a_solver_for_it(lower: int, upper: int) -> None:
    diagonals, b = needs_pivots(lower, upper, 8), random((8,), 1)
    found = lx.linear_solve(BandedLinearOperator(diagonals, lower, upper), jnp.asarray(b)).value
    assert_trees_close(found, np.linalg.solve(dense(diagonals, lower, upper), b), rtol=1e-9, atol=1e-9)


def test_entries_outside_the_matrix_are_ignored() -> None:
    diagonals = random((4, 3), 0)
    expected = dense(diagonals, 2, 1)
    operator = BandedLinearOperator(np.array([[np.nan, np.inf, 1], [np.nan, 1, 1], [1, 1, 1], [1, 1, np.nan]]), 2, 1)
    assert_trees_close(operator.mv(jnp.ones(3)), np.array([2.0, 3.0, 3.0]))
    diagonals[0, :2] = diagonals[1, 0] = diagonals[3, 2] = np.nan
    b = jnp.ones(3)
    solution = jax.jit(lambda d: solve(d, b, 2, 1))(jnp.asarray(diagonals))
    assert_trees_close(solution, np.linalg.solve(expected, b), rtol=1e-12)
    gradient = jax.jit(jax.grad(lambda d: jnp.sum(solve(d, b, 2, 1))))(jnp.asarray(diagonals))
    assert jnp.all(jnp.where(jnp.isnan(diagonals), gradient == 0, gradient != 0))


def test_diagonals_are_inexact_and_of_strong_type() -> None:
    assert BandedLinearOperator(np.ones((1, 3), np.int32), 0, 0).diagonals.dtype == np.float64
    weak = jnp.broadcast_to(jnp.asarray(1.0), (1, 3))
    assert weak.weak_type
    assert not BandedLinearOperator(weak, 0, 0).diagonals.weak_type


# ----------------------------------------------------------------------------------------------------------- conversion


SOURCES = ["banded", "product", "tridiagonal", "diagonal", "tree", "identity", "dense", "function"]


def _tridiagonal_function(n: int) -> tuple[lx.AbstractLinearOperator, np.ndarray]:
    bands = random((3, n), 4)
    operator = BandedLinearOperator(bands, 1, 1)
    shape = jax.ShapeDtypeStruct((n,), np.float64)
    return lx.FunctionLinearOperator(operator.mv, shape, lx.tridiagonal_tag), dense(bands, 1, 1)


def sources(n: int) -> dict[str, tuple[lx.AbstractLinearOperator, np.ndarray]]:
    """Operators with at most one diagonal on each side, and their matrices."""
    main, below, above = random((n,), 0), random((n - 1,), 1), random((n - 1,), 2)
    tridiagonal = np.diag(main) + np.diag(below, -1) + np.diag(above, 1)
    band = random((2, n), 3)
    narrow = BandedLinearOperator(band, 1, 0)
    arrays = jnp.asarray(main), jnp.asarray(below), jnp.asarray(above)
    return {
        "banded": (narrow, dense(band, 1, 0)),
        "product": (2.0 * narrow, 2 * dense(band, 1, 0)),
        "tridiagonal": (lx.TridiagonalLinearOperator(*arrays), tridiagonal),
        "diagonal": (lx.DiagonalLinearOperator(arrays[0]), np.diag(main)),
        "tree": (lx.DiagonalLinearOperator((arrays[0][:1], arrays[0][1:])), np.diag(main)),
        "identity": (lx.IdentityLinearOperator(jax.ShapeDtypeStruct((n,), np.float32)), np.eye(n, dtype=np.float32)),
        "dense": (lx.MatrixLinearOperator(jnp.asarray(tridiagonal)), tridiagonal),
        "function": _tridiagonal_function(n),
    }


SHAPES = [(1, 1, 6), (2, 1, 6), (1, 4, 2)]
"""The same band, a wider one, and more diagonals than rows; by default each with every second source."""


@pytest.mark.parametrize(
    ("name", "lower", "upper", "n"),
    [
        pytest.param(name, *shape, marks=slow_unless((i + j) % 2 == 0))
        for i, name in enumerate(SOURCES)
        for j, shape in enumerate(SHAPES)
    ],
)
def test_conversion_keeps_the_matrix(name: str, lower: int, upper: int, n: int) -> None:
    operator, matrix = sources(n)[name]
    found = eqx.filter_jit(BandedLinearOperator.of)(operator, lower, upper)
    assert found.diagonals.shape == (lower + upper + 1, n)
    assert_trees_close(found.as_matrix(), matrix)


def test_conversion_of_the_same_band_is_the_operator() -> None:
    operator = BandedLinearOperator(random((3, 5), 0), 1, 1)
    assert BandedLinearOperator.of(operator, 1, 1) is operator


def test_conversion_of_a_full_matrix_drops_entries_outside_the_band() -> None:
    matrix = random((6, 6), 0)
    found = BandedLinearOperator.of(lx.MatrixLinearOperator(jnp.asarray(matrix)), 2, 1)
    assert_trees_close(found.as_matrix(), np.triu(np.tril(matrix, 1), -2))


# ---------------------------------------------------------------------------------------------------------------- solve


@pytest.mark.parametrize(
    ("lower", "upper", "n", "dtype"),
    marked(
        [(*case, np.float64) for case in CASES] + KINDS,
        [(*case, np.float64) for case in OFTEN] + [(4, 2, 3, np.complex128)],
    ),
)
def test_solution_is_the_dense_one(lower: int, upper: int, n: int, dtype: Any) -> None:
    diagonals, b = needs_pivots(lower, upper, n, dtype), random((n,), 1, dtype)
    matrix = dense(diagonals, lower, upper)

    @jax.jit
    def solutions(diagonals: jax.Array, b: jax.Array) -> list[Any]:
        state = SOLVER.init(BandedLinearOperator(diagonals, lower, upper), {})
        transposed, _ = SOLVER.transpose(state, {})
        states = [state, transposed, SOLVER.conj(state, {})[0], SOLVER.conj(transposed, {})[0]]
        return [SOLVER.compute(s, b, {})[:2] for s in [*states, SOLVER.transpose(transposed, {})[0]]]

    found = solutions(jnp.asarray(diagonals), jnp.asarray(b))
    for (x, result), a in zip(found, [matrix, matrix.T, matrix.conj(), matrix.conj().T, matrix], strict=True):
        assert result == lx.RESULTS.successful
        expected = np.linalg.solve(a, b)
        assert_trees_close(x, expected, atol=tolerance(matrix) * float(np.max(np.abs(expected))))


@pytest.mark.parametrize(("lower", "upper"), [(1, 1), (3, 3)])
def test_pivots_are_the_largest_entries_of_their_columns(lower: int, upper: int) -> None:
    diagonals = random((lower + upper + 1, 50), 0)
    state = eqx.filter_jit(SOLVER.init)(BandedLinearOperator(diagonals, lower, upper), {})
    assert jnp.all(jnp.abs(state.multipliers) <= 1 + 1e-15)
    assert set(np.unique(state.pivots)) == set(range(lower + 1))


@jax.jit
def results(operator: BandedLinearOperator) -> list[Any]:
    """Those of a matrix, its transpose and its conjugate, and that of lineax."""
    b = jnp.ones(operator.in_size())
    state = SOLVER.init(operator, {})
    states = [state, SOLVER.transpose(state, {})[0], SOLVER.conj(state, {})[0]]
    by_lineax = lx.linear_solve(operator, b, SOLVER, throw=False)
    return [*(SOLVER.compute(s, b, {})[1] for s in states), by_lineax.result]


@pytest.mark.parametrize("case", ["zero", "zero pivot", "equal columns", "nan"])
def test_singular_matrices_are_reported(case: str) -> None:
    diagonals = {
        "zero": np.zeros((4, 6)),
        "zero pivot": np.stack([np.ones(6), np.ones(6), np.arange(6.0), np.zeros(6)]),
        "equal columns": np.stack([np.zeros(6), np.full(6, 2.0), np.r_[1.0, 2.0, np.ones(4)], np.r_[1.0, np.zeros(5)]]),
        "nan": np.full((4, 6), np.nan),
    }[case]
    if case == "equal columns":
        diagonals[1, 2] = 0
    operator = BandedLinearOperator(diagonals, 2, 1)
    assert all(result == lx.RESULTS.singular for result in results(operator))
    with pytest.raises(Exception, match="not well-posed"):
        jax.block_until_ready(lx.linear_solve(operator, jnp.ones(6), SOLVER).value)


def test_a_right_hand_side_that_is_not_finite_does_not_make_the_matrix_singular() -> None:
    operator = BandedLinearOperator(np.ones((2, 4)), 1, 0)
    solution = lx.linear_solve(operator, jnp.full(4, jnp.nan), SOLVER, throw=False)
    assert solution.result == lx.RESULTS.nonfinite_input


# ----------------------------------------------------------------------------------------------------------- transforms


@jax.jit
def one_solution(diagonals: Any, b: Any) -> jax.Array:
    return solve(diagonals, b, 2, 1)


@pytest.mark.parametrize("batched", [(0, 0), (None, 0), (0, None)])
def test_vmap_is_a_loop(batched: tuple[int | None, int | None]) -> None:
    diagonals = jnp.stack([jnp.asarray(needs_pivots(2, 1, 12, seed=s)) for s in range(4)])
    b = jnp.asarray(random((4, 12), 1))
    arguments = [x if axis == 0 else x[0] for x, axis in zip((diagonals, b), batched, strict=True)]
    found = np.asarray(jax.jit(jax.vmap(one_solution, in_axes=batched))(*arguments))
    arrays = [np.asarray(x) for x in arguments]
    rows = [[x[i] if a == 0 else x for x, a in zip(arrays, batched, strict=True)] for i in range(4)]
    assert_trees_close(found, np.stack([one_solution(*row) for row in rows]), rtol=1e-13, atol=1e-13)


SPECS = [(P("batch"), P("batch")), (P(), P("batch")), (P("batch"), P())]
SYSTEMS = [(2, False), (2, True), (0, False)]


@pytest.mark.parametrize(
    ("lower", "transposed", "specs"),
    [
        pytest.param(*system, specs, marks=slow_unless((i, j) in [(0, 1), (2, 2)]))
        for i, system in enumerate(SYSTEMS)
        for j, specs in enumerate(SPECS)
    ],
)
def test_shard_map_is_vmap(lower: int, transposed: bool, specs: tuple[Any, Any]) -> None:
    diagonals = jnp.stack([jnp.asarray(needs_pivots(lower, 1, 6, seed=s)) for s in range(4)])
    b = jnp.asarray(random((4, 6), 1))

    def solutions(diagonals: jax.Array, b: jax.Array) -> jax.Array:
        def one(d: jax.Array, b: jax.Array) -> jax.Array:
            state = SOLVER.init(BandedLinearOperator(d, lower, 1), {})
            return SOLVER.compute(SOLVER.transpose(state, {})[0] if transposed else state, b, {})[0]

        return jax.vmap(one)(diagonals, b)

    sharded = [x if spec == P("batch") else x[:1] for x, spec in zip((diagonals, b), specs, strict=True)]
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    found = jax.jit(jax.shard_map(solutions, mesh=mesh, in_specs=specs, out_specs=P("batch")))(*sharded)
    whole = [jnp.broadcast_to(x, (4, *x.shape[1:])) for x in sharded]
    assert_trees_close(found, jax.jit(solutions)(*whole), rtol=1e-13, atol=1e-13)


DERIVATIVES = [(2, 1, np.complex128), (0, 2, np.complex128)]
"""The bands and dtypes whose derivatives run with every test run: with and without pivots."""


@pytest.mark.parametrize(
    ("lower", "upper", "dtype"),
    [
        pytest.param(*band, dtype, marks=slow_unless((*band, dtype) in DERIVATIVES))
        for band in [(2, 1), (0, 2), (2, 0)]
        for dtype in (np.float64, np.complex128)
    ],
)
def test_derivatives_are_those_of_the_dense_solution(lower: int, upper: int, dtype: Any) -> None:
    n = 7
    diagonals, b = needs_pivots(lower, upper, n, dtype), random((n,), 1, dtype)
    diagonals_change, b_change = random(diagonals.shape, 2, dtype), random((n,), 3, dtype)
    matrix = dense(diagonals, lower, upper)
    x = np.linalg.solve(matrix, b)
    check: Callable[[Any, Any], None] = lambda found, expected: assert_trees_close(found, expected, 1e-9, 1e-9)

    def function(diagonals: jax.Array, b: jax.Array) -> jax.Array:
        return solve(diagonals, b, lower, upper)

    arrays, changes = (diagonals, b), (diagonals_change, b_change)
    both = jax.jit(lambda x, change: (jax.jvp(function, x, change)[1], jax.vjp(function, *x)[1](change[1])))
    forward, (to_diagonals, to_b) = both(*jax.tree.map(jnp.asarray, (arrays, changes)))
    check(forward, np.linalg.solve(matrix, b_change - dense(diagonals_change, lower, upper) @ x))

    adjoint = np.linalg.solve(matrix.T, b_change)
    band = BandedLinearOperator.of(lx.MatrixLinearOperator(jnp.asarray(-np.outer(adjoint, x))), lower, upper)
    check(to_b, adjoint)
    check(to_diagonals, band.diagonals)


def test_second_derivatives() -> None:
    diagonals, b = jnp.asarray(needs_pivots(2, 1, 5)), jnp.asarray(random((5,), 1))

    def banded(diagonals: jax.Array) -> jax.Array:
        return jnp.sum(solve(diagonals, b, 2, 1) ** 2)

    def full(diagonals: jax.Array) -> jax.Array:
        return jnp.sum(jnp.linalg.solve(BandedLinearOperator(diagonals, 2, 1).as_matrix(), b) ** 2)

    tangent = jnp.asarray(random(diagonals.shape, 2))
    found, expected = (
        jax.jit(lambda t, f=f: jax.jvp(jax.grad(f), (diagonals,), (t,))[1])(tangent) for f in (banded, full)
    )
    assert_trees_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("transposed", [False, True])
def test_state_is_carried_through_a_loop(transposed: bool) -> None:
    diagonals, b = jnp.asarray(needs_pivots(2, 1, 6)), jnp.asarray(random((6,), 1))

    def init(scale: jax.Array) -> Any:
        state = SOLVER.init(BandedLinearOperator(diagonals * scale, 2, 1), {})
        return SOLVER.transpose(state, {})[0] if transposed else state

    @jax.jit
    def run() -> jax.Array:
        arrays, static = eqx.partition(init(jnp.ones(())), eqx.is_array)

        def body(carry: tuple[jax.Array, Any, jax.Array]) -> tuple[jax.Array, Any, jax.Array]:
            k, arrays, _ = carry
            x, _, _ = SOLVER.compute(eqx.combine(arrays, static), b, {})
            new, same = eqx.partition(init(2.0 ** (k + 1)), eqx.is_array)
            assert jax.tree.structure(same) == jax.tree.structure(static)
            return k + 1, new, x

        return lax.while_loop(lambda carry: carry[0] < 3, body, (jnp.zeros(()), arrays, b))[2]

    matrix = dense(np.asarray(diagonals), 2, 1)
    expected = np.linalg.solve(matrix.T if transposed else matrix, b) / 4
    assert_trees_close(run(), expected, rtol=1e-11, atol=1e-11)


def test_statics_are_equal_between_traces() -> None:
    def state() -> Any:
        return eqx.filter_eval_shape(lambda: SOLVER.init(BandedLinearOperator(jnp.ones((4, 6)), 2, 1), {}))

    one, other = jax.tree.structure(state()), jax.tree.structure(state())
    assert one == other
    assert hash(one) == hash(other)


def test_there_is_no_custom_call() -> None:
    text = jax.jit(lambda d, b: SOLVER.compute(SOLVER.init(BandedLinearOperator(d, 2, 1), {}), b, {})[0])
    assert "custom_call" not in text.lower(jnp.ones((4, 6)), jnp.ones(6)).as_text()


# ------------------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BandedLinearOperator(np.ones((3, 5)), 2, 1), ["diagonals", r"\(4, n\)", r"\(3, 5\)"]),
        (lambda: BandedLinearOperator(np.ones(5), 0, 0), ["diagonals", r"\(1, n\)", r"\(5,\)"]),
        (lambda: BandedLinearOperator(np.ones((3, 5)), -1, 1), ["lower", "not negative", "-1"]),
        (lambda: BandedLinearOperator(np.ones((3, 5)), 1, 1.0), ["upper", "integer", r"1\.0"]),
        (lambda: BandedLinearOperator.of(sources(3)["dense"][0], 1, -2), ["upper", "not negative", "-2"]),
        (
            lambda: BandedLinearOperator.of(BandedLinearOperator(np.ones((4, 5)), 2, 1), 1, 3),
            ["at most 1 lower and 3 upper", "2 lower and 1 upper"],
        ),
        (
            lambda: BandedLinearOperator.of(sources(3)["tridiagonal"][0], 1, 0),
            ["at most 1 lower and 0 upper", "1 lower and 1 upper"],
        ),
        (
            lambda: BandedLinearOperator.of(lx.MatrixLinearOperator(jnp.ones((2, 3))), 1, 1),
            ["square", "2 rows and 3 columns"],
        ),
        (lambda: lx.linear_solve(sources(3)["dense"][0], jnp.ones(3), SOLVER), ["a `MatrixLinearOperator`", "of"]),
    ],
)
def test_messages(make: Callable[[], Any], words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"Expected: (.|\n)*Found: ") as error:
        make()
    assert len(str(error.value).splitlines()) <= 5
    for word in words:
        error.match(word)
