"""`SmallLU` is as accurate as LAPACK, and works in loops, batches, shards and derivatives."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from rungax.nonlinear.lu import SmallLU, SmallLUState

from ..catalogue import slow_unless
from ..compare import assert_trees_close
from ..tracing.hlo import compiled_text

SOLVER = SmallLU()


@eqx.filter_jit
def factorised(matrix: Any) -> SmallLUState:
    return SOLVER.init(lx.MatrixLinearOperator(jnp.asarray(matrix)), {})


@jax.jit
def solved(matrix: Any, b: Any) -> Array:
    return SOLVER.compute(factorised(matrix), jnp.asarray(b), {})[0]


@jax.jit
def by_lineax(matrix: Array, b: Array) -> Array:
    return lx.linear_solve(lx.MatrixLinearOperator(matrix), b, solver=SOLVER).value


def backward_error(matrix: np.ndarray, x: Any, b: np.ndarray) -> float:
    """The smallest relative change of matrix and right-hand side that makes `x` exact, in units of machine epsilon."""
    x = np.asarray(x)
    size = np.linalg.norm(matrix, np.inf) * np.linalg.norm(x, np.inf) + np.linalg.norm(b, np.inf)
    return float(np.linalg.norm(matrix @ x - b, np.inf) / size / np.finfo(matrix.dtype).eps)


def normal(rng: np.random.Generator, *shape: int, dtype: Any = np.float64) -> np.ndarray:
    values = rng.normal(size=shape)
    return (values + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


def of_condition(rng: np.random.Generator, n: int, condition: float, dtype: Any = np.float64) -> np.ndarray:
    """A matrix with singular values spread evenly in their logarithm between 1 and 1 / `condition`."""
    left, right = (np.linalg.qr(normal(rng, n, n, dtype=dtype))[0] for _ in range(2))
    return ((left * np.geomspace(1, 1 / condition, n)) @ right).astype(dtype)


def permuted(rng: np.random.Generator, n: int) -> np.ndarray:
    """A cyclic permutation plus a strictly lower triangle: no leading block is regular."""
    return np.roll(np.eye(n), 1, axis=1) + np.tril(normal(rng, n, n), -2)


MATRICES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "one": lambda rng: normal(rng, 1, 1),
    "two": lambda rng: np.array([[0.0, 2.0], [3.0, 1.0]]),
    "random": lambda rng: normal(rng, 5, 5),
    "zero pivots": lambda rng: permuted(rng, 5),
    "condition 1e6": lambda rng: of_condition(rng, 5, 1e6),
    "condition 1e12": lambda rng: of_condition(rng, 5, 1e12),
    "graded rows": lambda rng: normal(rng, 5, 5) * np.geomspace(1e-12, 1e12, 5)[:, None],
    "graded columns": lambda rng: normal(rng, 5, 5) * np.geomspace(1e12, 1e-12, 5),
    "stiff": lambda rng: np.eye(3) - 1e3 * np.array([[-0.04, 1e4, 1e4], [0.04, -1e4 - 6e3, -1e4], [0.0, 6e3, 0.0]]),
    "complex": lambda rng: normal(rng, 5, 5, dtype=np.complex128),
    "imaginary pivots": lambda rng: np.array([[1.0, 2.0], [3.0j, 1.0]]),
    "complex, condition 1e12": lambda rng: of_condition(rng, 5, 1e12, dtype=np.complex128),
    "single": lambda rng: normal(rng, 5, 5, dtype=np.float32),
    "single, condition 1e6": lambda rng: of_condition(rng, 5, 1e6, dtype=np.float32),
    "single complex": lambda rng: normal(rng, 4, 4, dtype=np.complex64),
}


@jax.jit
def in_every_orientation(matrix: Array, b: Array) -> dict[str, Array]:
    state = factorised(matrix)
    transpose, _ = SOLVER.transpose(state, {})
    states = {
        "plain": state,
        "transpose": transpose,
        "conjugate": SOLVER.conj(state, {})[0],
        "adjoint": SOLVER.conj(transpose, {})[0],
        "transpose twice": SOLVER.transpose(transpose, {})[0],
    }
    return {name: SOLVER.compute(state, b, {})[0] for name, state in states.items()}


@pytest.mark.parametrize("name", [pytest.param(name, marks=slow_unless(name != "single complex")) for name in MATRICES])
def test_solutions_are_backward_stable_in_every_orientation(name: str) -> None:
    rng = np.random.default_rng(0)
    matrix = MATRICES[name](rng)
    b = normal(rng, matrix.shape[0], dtype=matrix.dtype)

    matrices = {
        "plain": matrix,
        "transpose": matrix.T,
        "conjugate": matrix.conj(),
        "adjoint": matrix.conj().T,
        "transpose twice": matrix,
    }
    for orientation, x in in_every_orientation(matrix, b).items():
        assert x.dtype == matrix.dtype
        assert backward_error(matrices[orientation], x, b) < 10, orientation


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_many_matrices_are_solved_as_accurately_as_by_lapack(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    matrices = np.stack([of_condition(rng, 4, 10.0**power, dtype) for power in rng.uniform(0, 12, size=200)])
    b = normal(rng, 200, 4, dtype=dtype)
    found = np.asarray(jax.jit(jax.vmap(solved))(matrices, b))
    expected = np.linalg.solve(matrices, b[..., None])[..., 0]
    ours, lapacks = (
        np.array([backward_error(*case) for case in zip(matrices, x, b, strict=True)]) for x in (found, expected)
    )
    assert ours.max() < 5 * lapacks.max()
    assert np.median(ours) < 2 * np.median(lapacks)


def test_the_factors_are_those_of_a_row_pivoted_matrix() -> None:
    matrix = normal(np.random.default_rng(2), 6, 6)
    state = factorised(matrix)
    factors = np.asarray(state.factors)
    lower, upper = np.tril(factors, -1) + np.eye(6), np.triu(factors, 1) + np.eye(6)
    product = lower @ np.diag(1 / np.asarray(state.reciprocals)) @ upper
    np.testing.assert_allclose(product, matrix[np.asarray(state.permutation)], rtol=0, atol=1e-14)
    assert np.abs(lower).max() <= 1


def test_vmap_is_a_loop() -> None:
    rng = np.random.default_rng(3)
    matrices, b = normal(rng, 3, 2, 4, 4), normal(rng, 3, 2, 4)
    expected = np.stack([[solved(matrices[i, j], b[i, j]) for j in range(2)] for i in range(3)])
    one, two = jax.jit(jax.vmap(solved))(matrices[0], b[0]), jax.jit(jax.vmap(jax.vmap(solved)))(matrices, b)
    assert_trees_close(one, jnp.asarray(expected[0]), rtol=1e-12)
    assert_trees_close(two, jnp.asarray(expected), rtol=1e-12)
    assert_trees_close(jax.jit(jax.vmap(jax.vmap(by_lineax)))(matrices, b), two, rtol=1e-12)


def test_a_batch_may_share_a_matrix_or_a_right_hand_side() -> None:
    rng = np.random.default_rng(4)
    matrices, b = normal(rng, 3, 4, 4), normal(rng, 3, 4)
    for axes, args in (((None, 0), (matrices[0], b)), ((0, None), (matrices, b[0]))):
        expected = np.linalg.solve(args[0], np.broadcast_to(args[1], (3, 4))[..., None])[..., 0]
        assert_trees_close(jax.jit(jax.vmap(solved, axes))(*args), jnp.asarray(expected), rtol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "solve"),
    [
        pytest.param(dtype, solve, marks=slow_unless((dtype, solve) in ((np.complex128, solved), (float, by_lineax))))
        for dtype in (float, np.complex128)
        for solve in (solved, by_lineax)
    ],
)
def test_derivatives_equal_the_closed_form(dtype: Any, solve: Callable[..., Array]) -> None:
    rng = np.random.default_rng(5)
    matrix, b = permuted(rng, 4).astype(dtype) + 0.1 * normal(rng, 4, 4, dtype=dtype), normal(rng, 4, dtype=dtype)
    changes = normal(rng, 4, 4, dtype=dtype), normal(rng, 4, dtype=dtype)
    weights = normal(rng, 4, dtype=dtype)

    @jax.jit
    def derivatives(*point: Any) -> tuple[Any, Any]:
        return jax.jvp(solve, point, changes), jax.vjp(solve, *point)[1](weights)

    (x, dx), cotangents = derivatives(matrix, b)
    expected = np.linalg.solve(matrix, changes[1] - changes[0] @ np.asarray(x))
    np.testing.assert_allclose(dx, expected, rtol=1e-11)

    adjoint = np.linalg.solve(matrix.T, weights)
    np.testing.assert_allclose(cotangents[0], -np.outer(adjoint, np.asarray(x)), rtol=1e-11)
    np.testing.assert_allclose(cotangents[1], adjoint, rtol=1e-11)


@pytest.mark.slow  # the closed form says the same with more digits
@pytest.mark.parametrize("solve", [solved, by_lineax])
def test_derivatives_equal_finite_differences(solve: Callable[..., Array]) -> None:
    rng = np.random.default_rng(6)
    matrix, direction, b = normal(rng, 3, 3), normal(rng, 3, 3), normal(rng, 3)

    @jax.jit
    @jax.value_and_grad
    def along(s: Array) -> Array:
        return jnp.sum(solve(matrix + s * direction, b) ** 2)

    slope = (float(along(1e-5)[0]) - float(along(-1e-5)[0])) / 2e-5
    np.testing.assert_allclose(along(0.0)[1], slope, rtol=1e-7)


@pytest.mark.parametrize("solve", [solved, pytest.param(by_lineax, marks=pytest.mark.slow)])
def test_second_derivatives_mix_modes(solve: Callable[..., Array]) -> None:
    rng = np.random.default_rng(7)
    matrix, direction, b = normal(rng, 3, 3), normal(rng, 3, 3), normal(rng, 3)
    along = lambda s: solve(matrix + s * direction, b)
    found = jax.jit(jax.jacrev(jax.jacfwd(along)))(jnp.asarray(0.0))
    step = np.linalg.solve(matrix, direction)
    np.testing.assert_allclose(found, 2 * step @ step @ np.linalg.solve(matrix, b), rtol=1e-10)


@eqx.filter_jit
def results(matrix: Array) -> tuple[Any, Any]:
    """That of the factors, and that of lineax."""
    b = jnp.ones(matrix.shape[0])
    by_lineax = lx.linear_solve(lx.MatrixLinearOperator(matrix), b, solver=SOLVER, throw=False)
    return SOLVER.compute(factorised(matrix), b, {})[1], by_lineax.result


@pytest.mark.parametrize(
    "matrix", [np.zeros((1, 1)), np.ones((2, 2)), np.diag([1.0, 0.0, 2.0]), np.full((2, 2), np.nan)]
)
def test_a_singular_matrix_is_reported(matrix: np.ndarray) -> None:
    for result in results(jnp.asarray(matrix)):
        assert bool(result == lx.RESULTS.singular)


def test_each_matrix_of_a_batch_has_its_own_result() -> None:
    matrices = jnp.stack([jnp.eye(2), jnp.ones((2, 2))])
    regular = jax.vmap(lambda m: SOLVER.compute(factorised(m), jnp.ones(2), {})[1] == lx.RESULTS.successful)
    assert jax.jit(regular)(matrices).tolist() == [True, False]


def test_an_operator_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`operator` must be square.*\n.*\nFound:    2 equations, 3 unknowns\n"):
        SOLVER.init(lx.MatrixLinearOperator(jnp.ones((2, 3))), {})


def test_no_library_routine_is_called() -> None:
    solve = jax.vmap(lambda m, b: SOLVER.compute(factorised(m), b, {})[0])
    text = compiled_text(solve, jnp.ones((3, 5, 5)), jnp.ones((3, 5)))
    assert "custom-call" not in text
    assert " while(" not in text


def test_the_state_is_the_carry_of_a_loop() -> None:
    rng = np.random.default_rng(8)
    matrix, b = normal(rng, 3, 3), normal(rng, 3)

    @jax.jit
    def alternating(matrix: Array, b: Array) -> Array:
        """Solutions with `matrix` and `2 * matrix` in turn: the arrays of the state change, its static parts do not."""

        def advance(carry: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
            i, arrays, x = carry
            x, _, _ = SOLVER.compute(eqx.combine(arrays, statics), x, {})
            return i + 1, eqx.filter(factorised((2 - i % 2) * matrix), eqx.is_array), x

        arrays, statics = eqx.partition(factorised(matrix), eqx.is_array)
        return lax.while_loop(lambda carry: carry[0] < 4, advance, (jnp.asarray(0), arrays, b))[2]

    expected = np.linalg.matrix_power(np.linalg.inv(matrix), 4) @ b / 4
    np.testing.assert_allclose(alternating(matrix, b), expected, rtol=1e-11)
    assert jax.tree.structure(factorised(matrix)) == jax.tree.structure(jax.jit(factorised)(2 * matrix))


def test_sharded_systems_are_solved() -> None:
    rng = np.random.default_rng(9)
    matrices, b = normal(rng, 4, 3, 3), normal(rng, 4, 3)
    split = PartitionSpec("batch")

    @jax.jit
    def sharded(matrices: Array, b: Array) -> Array:
        mesh = Mesh(np.array(jax.devices()[:4]), ("batch",))
        return jax.shard_map(jax.vmap(looped), mesh=mesh, in_specs=(split, split), out_specs=split)(matrices, b)

    def looped(matrix: Array, b: Array) -> Array:
        state = factorised(matrix)
        again = lambda _, carry: (factorised(matrix), SOLVER.compute(carry[0], carry[1], {})[0])
        return lax.fori_loop(0, 2, again, (state, b))[1]

    assert_trees_close(np.asarray(sharded(matrices, b)), np.asarray(jax.jit(jax.vmap(looped))(matrices, b)), rtol=1e-12)


@pytest.mark.slow  # a batch may share a matrix, and shards may hold systems, each in a test above
def test_a_matrix_shared_by_all_shards() -> None:
    rng = np.random.default_rng(10)
    matrix, b = normal(rng, 3, 3), normal(rng, 4, 3)
    mesh = Mesh(np.array(jax.devices()[:4]), ("batch",))
    split = PartitionSpec("batch")
    solve = jax.vmap(solved, (None, 0))
    sharded = jax.jit(jax.shard_map(solve, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split))
    assert_trees_close(np.asarray(sharded(matrix, b)), np.asarray(solve(matrix, b)), rtol=1e-12)


@pytest.mark.parametrize("orientation", [pytest.param("plain", marks=pytest.mark.slow), "transpose"])
def test_unknowns_and_equations_are_pytrees(orientation: str) -> None:
    """Pytrees of different structure, with scalars and matrices among their leaves."""

    def field(x: dict[str, Array], args: Any) -> tuple[Array, Array]:
        del args
        p, q = x["p"], x["q"]
        return jnp.stack([p * q[0, 0], q[0, 1] + p]), jnp.sin(q[:, 1]) - 3 * q[:, 0] - p

    x = {"p": jnp.asarray(2.0), "q": jnp.arange(1.0, 5.0).reshape(2, 2) / 3}
    operator = lx.JacobianLinearOperator(field, x)
    with pytest.raises(ValueError, match="square"):
        SOLVER.init(operator, {})
    x["r"] = jnp.asarray([[0.5]])
    square = lambda x, args: (*field(x, args), x["r"][0, 0] * x["p"], x["r"] + x["q"][1:, 1:])

    @jax.jit
    def every(x: dict[str, Array]) -> dict[str, Any]:
        operator = lx.JacobianLinearOperator(square, x)
        operator = operator.T if orientation == "transpose" else operator
        b = jax.tree.map(lambda s: jnp.linspace(1.0, 2.0, s.size).reshape(s.shape), operator.out_structure())
        solution = lx.linear_solve(operator, b, solver=SOLVER, throw=False).value
        direct, _, _ = SOLVER.compute(SOLVER.init(operator, {}), b, {})
        lapack = lx.linear_solve(operator, b, solver=lx.LU(), throw=False).value
        return {"b": b, "product": operator.mv(solution), "solution": solution, "direct": direct, "lapack": lapack}

    found = every(x)
    assert_trees_close(found["solution"], found["lapack"], rtol=1e-12)
    assert_trees_close(found["product"], found["b"], rtol=1e-12)
    assert_trees_close(found["direct"], found["solution"], rtol=1e-14)


def test_every_leaf_keeps_its_dtype() -> None:
    """A matrix with blocks of two dtypes is factorised in the wider one."""
    single = jnp.float32
    blocks = {
        "p": {"p": jnp.ones((1, 1), single), "q": jnp.ones((1, 2))},
        "q": {"p": jnp.ones((2, 1), single), "q": 3 * jnp.eye(2)},
    }
    structure = {"p": jax.ShapeDtypeStruct((1,), single), "q": jax.ShapeDtypeStruct((2,), jnp.float64)}

    @jax.jit
    def factors_and_solution(blocks: Any, b: Any) -> tuple[Array, Any]:
        state = SOLVER.init(lx.PyTreeLinearOperator(blocks, structure), {})
        return state.factors, SOLVER.compute(state, b, {})[0]

    factors, x = factors_and_solution(blocks, {"p": jnp.ones(1, single), "q": jnp.arange(2.0)})
    assert factors.dtype == jnp.float64
    expected = np.linalg.solve([[1.0, 1.0, 1.0], [1.0, 3.0, 0.0], [1.0, 0.0, 3.0]], [1.0, 0.0, 1.0])
    assert_trees_close(x, {"p": jnp.asarray(expected[:1], single), "q": jnp.asarray(expected[1:])}, rtol=1e-7)


def test_a_complex_vector_and_a_real_matrix() -> None:
    rng = np.random.default_rng(11)
    matrix, b = normal(rng, 3, 3), normal(rng, 3, dtype=np.complex128)
    np.testing.assert_allclose(solved(matrix, b), np.linalg.solve(matrix, b), rtol=1e-12)
