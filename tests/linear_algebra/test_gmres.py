"""GMRES solves what a dense solver solves, and says so where it does not."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest
from hypothesis import given, settings, strategies as st

import rungax
from rungax.jaxkit import FlatSpace
from rungax.nonlinear import ErrorWeights, SparseLinearOperator, Tolerances
from rungax.nonlinear.krylov.gmres import CONVERGED, NOT_FINITE, STAGNATED, Goal, gmres, gmres_to_digits
from rungax.nonlinear.krylov.incomplete_lu import Tables, tables_of
from rungax.nonlinear.tolerances import Accuracy
from rungax.sparsity import SparsityPattern

from ..catalogue import slow_unless

SIZE = 12
DIGITS = 7 / 8
RESIDUAL = float(np.finfo(float).eps ** DIGITS)


@partial(jax.jit, static_argnums=2)
def solved(matrix: Any, b: Any, restart: int) -> Any:
    """With a preconditioner that is far from the identity and from the inverse."""
    scale = (1 + jnp.arange(b.size) / b.size).astype(b.dtype)
    return gmres_to_digits(lambda v: matrix @ v, lambda v: scale * v, b, DIGITS, restart)


def random_system(seed: int, spread: float, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape) + 1j * rng.normal(size=shape)
    matrix, b = np.eye(SIZE) + spread * draw(SIZE, SIZE) / SIZE**0.5, draw(SIZE)
    return (matrix, b) if dtype is complex else (matrix.real, b.real)


@pytest.mark.parametrize("dtype", [float, complex])
@given(seed=st.integers(0, 2**16), spread=st.floats(0.0, 3.0), size=st.sampled_from([0.0, 1e-200, 1.0, 1e150]))
@settings(max_examples=30, deadline=None)
def test_the_solution_is_that_of_a_dense_solver(dtype: Any, seed: int, spread: float, size: float) -> None:
    matrix, b = random_system(seed, spread, dtype)
    outcome = solved(matrix, size * b, SIZE)
    assert int(outcome.status) == CONVERGED
    expected = np.linalg.solve(matrix, b)
    error = np.linalg.norm(outcome.solution / (size or 1.0) - (expected if size else 0))
    assert error <= 10 * RESIDUAL * np.linalg.cond(matrix) * np.linalg.norm(expected)


def test_a_right_hand_side_of_zero_takes_no_iteration() -> None:
    outcome = solved(np.eye(SIZE), np.zeros(SIZE), SIZE)
    assert int(outcome.iterations) == 0
    assert not np.any(outcome.solution)


def test_a_cycle_of_all_vectors_is_exact_and_a_shorter_one_stagnates() -> None:
    """For a cyclic shift the residual does not change before the last iteration."""
    shift, b = jnp.roll(jnp.eye(SIZE), 1, axis=0), jnp.eye(SIZE)[0]
    iterate = jax.jit(lambda restart: gmres(lambda v: shift @ v, lambda v: v, b, Goal.relative(b, RESIDUAL), restart),
                      static_argnums=0)  # fmt: skip
    whole, short = iterate(SIZE), iterate(SIZE - 1)
    assert (int(whole.status), int(whole.iterations)) == (CONVERGED, SIZE)
    np.testing.assert_allclose(whole.solution, np.linalg.solve(shift, b), atol=1e-14)
    assert (int(short.status), int(short.iterations)) == (STAGNATED, SIZE - 1)


@pytest.mark.parametrize(("entry", "status"), [(0.0, STAGNATED), (np.nan, NOT_FINITE)])
def test_a_matrix_without_a_solution_is_reported(entry: float, status: int) -> None:
    assert int(solved(np.full((SIZE, SIZE), entry), np.ones(SIZE), SIZE).status) == status


def test_elements_of_a_batch_end_on_their_own() -> None:
    """Each has the solution and the number of iterations that it has alone."""
    rng = np.random.default_rng(0)
    spreads = np.array([0.0, 0.3, 1.0, np.nan])
    matrices = np.eye(SIZE) + spreads[:, None, None] * rng.normal(size=(4, SIZE, SIZE)) / SIZE**0.5
    bs = rng.normal(size=(4, SIZE))
    together = jax.jit(jax.vmap(lambda a, b: solved(a, b, SIZE)))(matrices, bs)
    alone = [solved(a, b, SIZE) for a, b in zip(matrices, bs, strict=True)]
    assert together.iterations.tolist() == [int(x.iterations) for x in alone]
    assert together.status.tolist() == [CONVERGED] * 3 + [NOT_FINITE]
    for found, one in zip(together.solution[:3], alone, strict=False):
        np.testing.assert_allclose(found, one.solution, rtol=1e-10)


def test_the_residual_is_measured_in_the_norm_of_the_solve() -> None:
    """One that weighs the first entry most, and one that takes the largest entry."""
    matrix, b = map(jnp.asarray, random_system(3, 1.0, float))
    y = jnp.ones(SIZE)
    atol = jnp.where(jnp.arange(SIZE) == 0, 1e-9, 1e-2)
    for norm in (optx.rms_norm, optx.max_norm):
        weights = ErrorWeights.of(Tolerances(0.0, atol, norm), FlatSpace(y))
        goal = Goal.of(Accuracy(weights, y, 0.5))
        outcome = gmres(lambda v: matrix @ v, lambda v: v, b, goal, SIZE)
        residual = b - matrix @ outcome.solution
        assert norm(residual / atol) <= 0.5
        assert np.linalg.norm(residual) > 1e-5, "no more than was asked for"


# ------------------------------------------------------------------------------------------------------ preconditioners


def random_pattern(seed: int, dtype: Any = float) -> SparseLinearOperator:
    rng = np.random.default_rng(seed)
    pattern = SparsityPattern((rng.random((SIZE, SIZE)) < 0.25) | np.eye(SIZE, dtype=bool))
    values = rng.normal(size=pattern.num_entries)
    values = values + 1j * rng.normal(size=values.size) if dtype is complex else values
    values = values + 6 * (pattern.rows == pattern.columns)
    return SparseLinearOperator(jnp.asarray(values), pattern)


PRECONDITIONERS = {"ilu": "ilu", "jacobi": "jacobi", "blocks": rungax.BlockDiagonal(3, stride=2)}


@pytest.mark.parametrize("name", [pytest.param(n, marks=slow_unless(n != "jacobi")) for n in PRECONDITIONERS])
@pytest.mark.parametrize("dtype", [pytest.param(x, marks=slow_unless(x is complex)) for x in (float, complex)])
def test_a_sparse_operator_is_solved_and_so_are_its_transpose_and_its_conjugate(name: str, dtype: Any) -> None:
    solver = rungax.Krylov(preconditioner=PRECONDITIONERS[name])
    operator, b = random_pattern(0, dtype), jnp.asarray(random_system(0, 1.0, dtype)[1])

    @jax.jit
    def solutions(values: Any) -> Any:
        state = solver.init(SparseLinearOperator(values, operator.pattern), {})
        transposed, _ = solver.transpose(state, {})
        conjugate, _ = solver.conj(transposed, {})
        return [solver.compute(x, b, {})[0] for x in (state, transposed, conjugate)]

    matrix = operator.as_matrix()
    for found, expected in zip(solutions(operator.values), (matrix, matrix.T, matrix.T.conj()), strict=True):
        np.testing.assert_allclose(found, np.linalg.solve(expected, b), rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 2**16))
@settings(max_examples=5, deadline=None)
def test_incomplete_factors_use_the_eliminations_of_the_pattern(seed: int) -> None:
    """All entries (i, j), (i, k), (k, j) with k < min(i, j), also where a row or a column is full."""
    rng = np.random.default_rng(seed)
    mask = (rng.random((SIZE, SIZE)) < rng.uniform(0.05, 0.6)) | np.eye(SIZE, dtype=bool)
    mask[rng.integers(SIZE)] = True
    mask[:, rng.integers(SIZE)] = True
    pattern = SparsityPattern(mask)
    tables = Tables(pattern)
    places = {(int(r), int(c)): n for n, (r, c) in enumerate(zip(pattern.rows, pattern.columns, strict=True))}
    expected = {
        (places[i, j], places[i, k], places[k, j])
        for i, j in places
        for k in range(min(i, j))
        if (i, k) in places and (k, j) in places
    }
    sums = tables.eliminated
    found = list(zip(sums.groups.tolist(), sums.left.tolist(), sums.right.tolist(), strict=True))
    assert len(found) == len(expected)
    assert set(found) == expected
    vector = rng.normal(size=pattern.num_entries)
    direct = np.zeros(pattern.num_entries)
    for target, left, right in expected:
        direct[target] += vector[left] * vector[right]
    np.testing.assert_allclose(sums(jnp.asarray(vector), jnp.asarray(vector)), direct, atol=1e-12)


def test_sweeps_converge_to_the_incomplete_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of elimination in order, on the pattern alone; the sweeps of a step are the first of them."""
    from rungax.nonlinear.krylov import incomplete_lu

    monkeypatch.setattr(incomplete_lu, "FACTOR_SWEEPS", SIZE)
    monkeypatch.setattr(incomplete_lu, "SOLVE_SWEEPS", SIZE)
    operator = random_pattern(1)
    factors, mask = np.array(operator.as_matrix()), np.array(operator.as_matrix()) != 0
    for i in range(SIZE):
        for k in np.flatnonzero(mask[i, :i]):
            factors[i, k] /= factors[k, k]
            factors[i, k + 1 :] -= np.where(mask[i, k + 1 :], factors[i, k] * factors[k, k + 1 :], 0)
    correction = incomplete_lu.IncompleteLU().prepare(None, operator)
    lower, upper = np.tril(factors, -1) + np.eye(SIZE), np.triu(factors)
    b = np.arange(1.0, SIZE + 1)
    np.testing.assert_allclose(correction(jnp.asarray(b)), np.linalg.solve(lower @ upper, b), rtol=1e-12)
    transposed = correction.transposed()(jnp.asarray(b))
    np.testing.assert_allclose(transposed, np.linalg.solve((lower @ upper).T, b), rtol=1e-12)


@pytest.mark.parametrize("stride", [pytest.param(n, marks=slow_unless(n == 2)) for n in (1, 2, 4)])
def test_blocks_are_those_of_the_matrix(stride: int) -> None:
    """Rows that are `stride` apart; the rest of the matrix is left out."""
    operator, b = random_pattern(2), np.arange(1.0, SIZE + 1)
    rows = np.arange(SIZE)
    block = rows // (3 * stride) * stride + rows % stride
    matrix = np.where(block[:, None] == block[None, :], operator.as_matrix(), 0)
    correction = rungax.BlockDiagonal(3, stride).prepare(None, operator)
    np.testing.assert_allclose(correction(jnp.asarray(b)), np.linalg.solve(matrix, b), rtol=1e-12)
    np.testing.assert_allclose(correction.transposed()(jnp.asarray(b)), np.linalg.solve(matrix.T, b), rtol=1e-12)


def test_a_dense_row_and_column_take_a_number_of_terms_proportional_to_the_entries() -> None:
    n = 20_000
    rows = np.arange(n)
    arrow = SparsityPattern.of_entries(n, np.r_[rows, rows, 0 * rows], np.r_[rows, 0 * rows, rows])
    assert tables_of(arrow).eliminated.groups.size == n - 1


# ----------------------------------------------------------------------------------------------------------- bad input


def function(t: Any, y: Any, args: Any, gamma: Any) -> Any:
    return lambda residual: residual


NOT_AN_INTEGER: Any = 2.5
BAD = {
    "restart": (lambda: rungax.Krylov(restart=0), r"Expected: a positive integer\nFound:    0"),
    "restart, not an integer": (lambda: rungax.Krylov(restart=NOT_AN_INTEGER), r"Found:    2\.5"),
    "name": (
        lambda: rungax.Krylov(preconditioner="lu"),
        r'Expected: "ilu", "jacobi", `BlockDiagonal.*\nFound:    \'lu\'',
    ),
    "class": (lambda: rungax.Krylov(preconditioner=rungax.BlockDiagonal), "give an instance, not a class"),
    "parameters": (
        lambda: rungax.Krylov(preconditioner=lambda t, y, args: function(t, y, args, 0)),
        r"Expected: preconditioner\(t, y, args, gamma\).*\nFound:    <lambda>\(t, y, args\)",
    ),
    "block size": (lambda: rungax.BlockDiagonal(0), r"`BlockDiagonal\(size=...\)`.*\nExpected: a positive integer"),
    "stride": (lambda: rungax.BlockDiagonal(2, stride=-1), r"`BlockDiagonal\(stride=...\)`"),
    "no entries": (
        lambda: rungax.Krylov(preconditioner="ilu").init(lx.MatrixLinearOperator(jnp.eye(2)), {}),
        "Expected: a `SparseLinearOperator`",
    ),
    "no time": (
        lambda: rungax.Krylov(preconditioner=function).init(random_pattern(0), {}),
        "A function is called by implicit and Rosenbrock methods only",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_blocks_that_do_not_divide_the_unknowns_are_refused() -> None:
    solver = rungax.Krylov(preconditioner=rungax.BlockDiagonal(5))
    with pytest.raises(ValueError, match=r"size \* stride divides the number of unknowns, 12\nFound:    size=5"):
        eqx.filter_eval_shape(solver.init, random_pattern(0), {})
