"""`BlockTridiagonal` solves like a dense solver, in both orders of the unknowns, on one and on several positions."""

import re
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

import rungax
from rungax.nonlinear import BandedLinearOperator, BlockTridiagonal, SparseLinearOperator
from rungax.sparsity import SparsityPattern

from ..catalogue import slow_unless
from ..compare import assert_trees_close

SIZES = [(1, 6), (2, 5), (3, 4), (3, 1), (2, 2), (4, 0), (18, 3)]
"""Unknowns at each position, and positions; the last by LAPACK."""
OFTEN = [(2, 5), (3, 1)]


def random(shape: tuple[int, ...], seed: int, dtype: Any = np.float64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if np.issubdtype(dtype, np.complexfloating) else x).astype(dtype)


def matrix_of(size: int, number: int, by_species: bool = False, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    """A matrix with dominant blocks on its diagonal, whose rows must be exchanged: the diagonal itself is small."""
    blocks = random((number, size, number, size), seed, dtype)
    distance = np.abs(np.subtract.outer(np.arange(number), np.arange(number)))
    blocks = blocks * (distance <= 1)[:, None, :, None] * 0.3
    places = np.arange(number)
    blocks[places, :, places, :] += 4 * np.roll(np.eye(size), 1, axis=0)
    return (blocks.transpose(1, 0, 3, 2) if by_species else blocks).reshape(size * number, size * number)


def operator_of(matrix: Any, pattern: SparsityPattern | None = None) -> SparseLinearOperator:
    pattern = SparsityPattern(np.asarray(matrix)) if pattern is None else pattern
    return SparseLinearOperator(jnp.asarray(matrix)[pattern.rows, pattern.columns], pattern)


@pytest.mark.parametrize("by_species", [False, True])
@pytest.mark.parametrize(
    ("size", "number", "dtype"),
    [pytest.param(*case, np.float64, marks=slow_unless(case in OFTEN)) for case in SIZES]
    + [pytest.param(2, 4, dtype, marks=pytest.mark.slow) for dtype in (np.float32, np.complex64)]
    + [(2, 4, np.complex128), pytest.param(17, 2, np.complex128, marks=pytest.mark.slow)],
)
def test_solution_is_the_dense_one(size: int, number: int, dtype: Any, by_species: bool) -> None:
    matrix, b = matrix_of(size, number, by_species, dtype), random((size * number,), 1, dtype)
    solver, pattern = BlockTridiagonal(size), SparsityPattern(matrix)

    @jax.jit
    def solutions(matrix: jax.Array, b: jax.Array) -> list[Any]:
        state = solver.init(operator_of(matrix, pattern), {})
        transposed, _ = solver.transpose(state, {})
        states = [state, transposed, solver.conj(state, {})[0], solver.conj(transposed, {})[0]]
        return [solver.compute(s, b, {})[:2] for s in [*states, solver.transpose(transposed, {})[0]]]

    found = solutions(jnp.asarray(matrix), jnp.asarray(b))
    for (x, result), a in zip(found, [matrix, matrix.T, matrix.conj(), matrix.conj().T, matrix], strict=True):
        assert result == lx.RESULTS.successful
        assert x.dtype == dtype
        assert_trees_close(x, np.linalg.solve(a, b), rtol=0, atol=3000 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize(
    "operator",
    [
        BandedLinearOperator(random((5, 8), 0), 2, 2),
        lx.TridiagonalLinearOperator(4 + jnp.ones(8), jnp.ones(7), jnp.ones(7)),
        lx.DiagonalLinearOperator(jnp.arange(1.0, 9.0)),
        lx.MatrixLinearOperator(jnp.asarray(matrix_of(4, 2))),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_other_operators_within_the_blocks(operator: lx.AbstractLinearOperator) -> None:
    solver = BlockTridiagonal(4 if isinstance(operator, lx.MatrixLinearOperator) else 2)
    b = random((8,), 1)
    found = eqx.filter_jit(lambda operator: lx.linear_solve(operator, jnp.asarray(b), solver).value)(operator)
    assert_trees_close(found, np.linalg.solve(operator.as_matrix(), b), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("real_matrix", "real_vector"), [(True, False), pytest.param(False, True, marks=pytest.mark.slow)]
)
def test_real_and_complex_numbers(real_matrix: bool, real_vector: bool) -> None:
    matrix = matrix_of(2, 3, dtype=np.float64 if real_matrix else np.complex128)
    b = random((6,), 1, np.float64 if real_vector else np.complex128)
    solver = BlockTridiagonal(2)
    x = solver.compute(solver.init(operator_of(matrix), {}), jnp.asarray(b), {})[0]
    assert_trees_close(x, np.linalg.solve(matrix, b), rtol=1e-12, atol=1e-12)


# Blocks of two positions in which all entries are present.
FULL = SparsityPattern(np.ones((4, 4)))


@jax.jit
def results(matrix: jax.Array) -> list[Any]:
    """Those of a matrix, its transpose and its conjugate, and that of lineax."""
    solver, operator, b = BlockTridiagonal(2), operator_of(matrix, FULL), jnp.ones(4)
    state = solver.init(operator, {})
    states = [state, solver.transpose(state, {})[0], solver.conj(state, {})[0]]
    return [
        *(solver.compute(s, b, {})[1] for s in states),
        lx.linear_solve(operator, b, solver, throw=False).result,
    ]


@pytest.mark.parametrize("case", ["zero", "last block", "first block", "nan"])
def test_singular_matrices_are_reported(case: str) -> None:
    last, first = np.eye(4), np.eye(4)
    last[2:, 2:] = first[:2, :2] = np.ones((2, 2))
    matrix = {"zero": np.zeros((4, 4)), "last block": last, "first block": first, "nan": np.full((4, 4), np.nan)}[case]
    assert all(result == lx.RESULTS.singular for result in results(jnp.asarray(matrix)))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["zero", "last block"])
def test_singular_large_blocks_are_reported(case: str) -> None:
    matrix = np.eye(36) if case == "last block" else np.zeros((36, 36))
    matrix[35, 35] = 0.0
    solver = BlockTridiagonal(18)
    state = solver.init(operator_of(matrix, SparsityPattern(np.ones((36, 36)))), {})
    assert solver.compute(state, jnp.ones(36), {})[1] == lx.RESULTS.singular


def solve(matrix: Any, b: Any, pattern: SparsityPattern, size: int = 2) -> jax.Array:
    return lx.linear_solve(operator_of(matrix, pattern), b, BlockTridiagonal(size)).value


@pytest.mark.parametrize("batched", [(0, 0), pytest.param((None, 0), marks=pytest.mark.slow)])
def test_vmap_is_a_loop(batched: tuple[int | None, int | None]) -> None:
    matrices = jnp.stack([jnp.asarray(matrix_of(2, 4, seed=seed)) for seed in range(3)])
    b, pattern = jnp.asarray(random((3, 8), 1)), SparsityPattern(matrix_of(2, 4))
    arguments = [x if axis == 0 else x[0] for x, axis in zip((matrices, b), batched, strict=True)]
    found = jax.jit(jax.vmap(lambda m, b: solve(m, b, pattern), in_axes=batched))(*arguments)
    expected = [np.linalg.solve(matrices[i if batched[0] == 0 else 0], b[i]) for i in range(3)]
    assert_trees_close(found, np.stack(expected), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("specs", "transposed"),
    [
        pytest.param(specs, transposed, marks=slow_unless((i, transposed) in [(1, False), (2, True)]))
        for i, specs in enumerate([(P("batch"), P("batch")), (P(), P("batch")), (P("batch"), P())])
        for transposed in (False, True)
    ],
)
def test_shard_map_is_vmap(transposed: bool, specs: tuple[Any, Any]) -> None:
    matrices = jnp.stack([jnp.asarray(matrix_of(2, 3, seed=seed)) for seed in range(4)])
    b, pattern, solver = jnp.asarray(random((4, 6), 1)), SparsityPattern(matrix_of(2, 3)), BlockTridiagonal(2)

    def solutions(matrices: jax.Array, b: jax.Array) -> jax.Array:
        def one(matrix: jax.Array, b: jax.Array) -> jax.Array:
            state = solver.init(operator_of(matrix, pattern), {})
            return solver.compute(solver.transpose(state, {})[0] if transposed else state, b, {})[0]

        return jax.vmap(one)(matrices, b)

    sharded = [x if spec == P("batch") else x[:1] for x, spec in zip((matrices, b), specs, strict=True)]
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    found = jax.jit(jax.shard_map(solutions, mesh=mesh, in_specs=specs, out_specs=P("batch")))(*sharded)
    whole = [jnp.broadcast_to(x, (4, *x.shape[1:])) for x in sharded]
    assert_trees_close(found, jax.jit(solutions)(*whole), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.complex128, marks=pytest.mark.slow)])
def test_derivatives_are_those_of_the_dense_solution(dtype: Any) -> None:
    matrix, b = matrix_of(2, 3, by_species=True, dtype=dtype), random((6,), 1, dtype)
    pattern = SparsityPattern(matrix)
    change, b_change = np.where(matrix != 0, random((6, 6), 2, dtype), 0), random((6,), 3, dtype)
    x = np.linalg.solve(matrix, b)
    function = lambda matrix, b: solve(matrix, b, pattern)
    both = jax.jit(lambda x, change: (jax.jvp(function, x, change)[1], jax.vjp(function, *x)[1](change[1])))
    forward, (to_matrix, to_b) = both(*jax.tree.map(jnp.asarray, ((matrix, b), (change, b_change))))
    adjoint = np.linalg.solve(matrix.T, b_change)
    assert_trees_close(forward, np.linalg.solve(matrix, b_change - change @ x), rtol=1e-10, atol=1e-10)
    assert_trees_close(to_b, adjoint, rtol=1e-10, atol=1e-10)
    assert_trees_close(to_matrix, np.where(matrix != 0, -np.outer(adjoint, x), 0), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_second_derivatives() -> None:
    matrix, b = jnp.asarray(matrix_of(2, 3)), jnp.asarray(random((6,), 1))
    pattern = SparsityPattern(np.asarray(matrix))
    tangent = jnp.where(matrix != 0, jnp.asarray(random((6, 6), 2)), 0)
    loss = {
        "blocks": lambda matrix: jnp.sum(solve(matrix, b, pattern) ** 2),
        "dense": lambda matrix: jnp.sum(jnp.linalg.solve(matrix, b) ** 2),
    }
    found, expected = (jax.jvp(jax.grad(f), (matrix,), (tangent,))[1] for f in loss.values())
    assert_trees_close(found, np.where(matrix != 0, expected, 0), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [2, pytest.param(18, marks=pytest.mark.slow)])
def test_state_is_carried_through_a_loop(size: int) -> None:
    matrix, b = jnp.asarray(matrix_of(size, 2)), jnp.asarray(random((2 * size,), 1))
    pattern, solver = SparsityPattern(np.asarray(matrix)), BlockTridiagonal(size)

    @jax.jit
    def run() -> jax.Array:
        arrays, static = eqx.partition(solver.init(operator_of(matrix, pattern), {}), eqx.is_array)

        def body(carry: tuple[jax.Array, Any, jax.Array]) -> tuple[jax.Array, Any, jax.Array]:
            k, arrays, _ = carry
            x, _, _ = solver.compute(eqx.combine(arrays, static), b, {})
            new, same = eqx.partition(solver.init(operator_of(matrix * 2.0 ** (k + 1), pattern), {}), eqx.is_array)
            assert jax.tree.structure(same) == jax.tree.structure(static)
            return k + 1, new, x

        return lax.while_loop(lambda carry: carry[0] < 3, body, (jnp.zeros(()), arrays, b))[2]

    assert_trees_close(run(), np.linalg.solve(matrix, b) / 4, rtol=1e-10, atol=1e-10)


def test_small_blocks_need_no_custom_call() -> None:
    pattern, solver = SparsityPattern(matrix_of(3, 4)), BlockTridiagonal(3)
    program = jax.jit(lambda m, b: solver.compute(solver.init(operator_of(m, pattern), {}), b, {})[0])
    assert "custom_call" not in program.lower(jnp.asarray(matrix_of(3, 4)), jnp.ones(12)).as_text()


# -------------------------------------------------------------------------------------------------------------- solves


def line(t: Any, y: Any, args: Any) -> Any:
    """Two species that diffuse along a line and react."""
    laplacian = lambda u: 50.0 * (jnp.pad(u, 1)[2:] - 2 * u + jnp.pad(u, 1)[:-2])
    u, v = y["u"], y["v"]
    return {"u": args * laplacian(u) - u * v**2, "v": laplacian(v) + u * v**2 - v}


@pytest.mark.slow
@pytest.mark.parametrize("solver", [rungax.Rosenbrock23, rungax.Kvaerno5])
def test_solves_are_those_of_the_dense_solver(solver: Any) -> None:
    y0 = {"u": jnp.ones(9), "v": jnp.linspace(0.0, 1.0, 9)}
    pattern = rungax.jacobian_sparsity(line, 0.0, y0, 1.0)

    def end(args: jax.Array, linear_solver: Any) -> jax.Array:
        solution = rungax.diffeqsolve(
            rungax.ODETerm(line, sparsity=pattern), solver(linear_solver=linear_solver), 0.0, 0.1, None, y0, args,
            stepsize_controller=rungax.PIDController(rtol=1e-5, atol=1e-7), max_steps=256,
        )  # fmt: skip
        return jnp.sum(solution.ys["u"] ** 2 + solution.ys["v"])

    one = jnp.asarray(1.0)
    found, expected = (jax.value_and_grad(end)(one, linear) for linear in (BlockTridiagonal(2), lx.LU()))
    assert_trees_close(found, expected, rtol=1e-8, atol=1e-8)


# ------------------------------------------------------------------------------------------------------------ messages

RING = np.eye(12) + np.roll(np.eye(12), 1, axis=0)


@pytest.mark.parametrize(
    ("make", "expected", "found"),
    [
        (lambda: BlockTridiagonal(0), "a positive integer", "0"),
        (lambda: BlockTridiagonal(2.0), "a positive integer", "2.0"),
        (lambda: BlockTridiagonal(True), "a positive integer", "True"),
        (lambda: BlockTridiagonal(5).init(operator_of(RING), {}), "a multiple of 5 unknowns", "12 unknowns"),
        (
            lambda: BlockTridiagonal(2).init(operator_of(RING), {}),
            "a pattern that says so",
            "SparsityPattern(size=12, num_entries=24",
        ),
        (
            lambda: BlockTridiagonal(2).init(lx.MatrixLinearOperator(jnp.asarray(RING)), {}),
            "a pattern that says so, `ODETerm(vector_field, sparsity=...)`",
            "a `MatrixLinearOperator`",
        ),
        (
            lambda: BlockTridiagonal(2).init(BandedLinearOperator(np.ones((4, 12)), 3, 0), {}),
            "a pattern that says so",
            "a `BandedLinearOperator`",
        ),
    ],
)
def test_messages(make: Callable[[], Any], expected: str, found: str) -> None:
    with pytest.raises(ValueError, match=f"Expected: {re.escape(expected)}.*\nFound:    {re.escape(found)}") as error:
        make()
    assert len(str(error.value).splitlines()) <= 5
