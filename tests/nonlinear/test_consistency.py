"""Consistent states: the search for them, their derivatives, the slopes there, and what is said if there are none."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax import lax

import rungax
from rungax import Krylov, SparseLinearOperator, SparsityPattern
from rungax.jaxkit import FlatSpace
from rungax.nonlinear import (
    consistent,
    consistent_slope,
    differential_slope,
    holomorphic_tag,
    is_consistent,
    worst_equations,
)
from rungax.report.leaves import entry_name
from rungax.results import RESULTS

from ..gradients.measure import assert_derivative, weigh
from .singular import T0, amplifier, parts, weights


def find(
    function: Any, mass: Any, y: Any, args: Any = None, t: Any = T0, tolerance: float = 1e-10, **options: Any
) -> Any:
    """The consistent state, and whether it was found."""

    @jax.jit
    def compute(mass: Any, y: Any, args: Any, t: Any) -> Any:
        field, spaces, algebra = parts(function, mass, y, args, t=t, **options)
        return consistent(field, spaces, algebra, weights(field, tolerance), t, y)

    return compute(mass, jnp.asarray(y), args, jnp.asarray(t))


def found(function: Any, mass: Any, y: Any, args: Any = None, **options: Any) -> Any:
    state, result = find(function, mass, y, args, **options)
    assert result == RESULTS.successful
    return state


# A pendulum-like set: two differential entries, two algebraic ones that they determine.
DIAGONAL = np.asarray([1.0, 0.0, 2.0, 0.0])


def coupled(t: Any, y: Any, args: Any) -> Any:
    a, z, b, w = y
    k = args["k"]
    return jnp.stack([-a + z, z + 0.1 * z**3 - a * b - k * jnp.sin(t), -b * w, w - jnp.exp(-k * a) + 0.1 * z])


ARGS = {"k": jnp.asarray(1.3)}
START = np.asarray([0.7, 0.2, -0.4, 1.5])


def check_solution(state: Any, function: Any, mass: Any, start: Any, args: Any, tolerance: float = 1e-10) -> None:
    """Both equations, M (y - y0) = 0 and W* f = 0, in NumPy."""
    u, sizes, _ = np.linalg.svd(mass)
    null = u[:, sizes <= 1e-12 * sizes.max()]
    slope = np.asarray(function(T0, jnp.asarray(state), args))
    np.testing.assert_allclose(null.conj().T @ slope, 0, atol=tolerance)
    np.testing.assert_allclose(mass @ (np.asarray(state) - start) / sizes.max(), 0, atol=1e-14)


def test_differential_entries_stay_and_algebraic_ones_are_solved_for() -> None:
    state = found(coupled, jnp.asarray(DIAGONAL), START, ARGS)
    check_solution(state, coupled, np.diag(DIAGONAL), START, ARGS)
    np.testing.assert_array_equal(state[jnp.asarray([0, 2])], START[[0, 2]])


MIXED = np.diag([1.0, 0.0, 1.0, 1.0]) + np.diag([0.0, 0.0, 1.0], 1) + np.diag([0.0, 0.0, 1.0], -1)
"""A mass matrix of blocks, of which the last has rank one and no row of zeros."""


@pytest.mark.parametrize("kind", ["full", "sparse", pytest.param("tridiagonal", marks=pytest.mark.slow)])
def test_a_matrix_without_zero_rows(kind: str) -> None:
    """For each storage of the Jacobian: full, banded, or sparse and widened by what is combined."""
    dense = lx.MatrixLinearOperator(jnp.asarray(MIXED))
    pattern = SparsityPattern(np.asarray([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 1]]))
    mass, options = {
        "full": (jnp.asarray(MIXED), {}),
        "tridiagonal": (rungax.BandedLinearOperator.of(dense, 1, 1), {"sparsity": pattern}),
        "sparse": (SparseLinearOperator.of(dense, SparsityPattern(MIXED)), {"sparsity": pattern}),
    }[kind]
    state = found(coupled, mass, START, ARGS, **options)
    check_solution(state, coupled, MIXED, START, ARGS)


def amplified(t: Any, y: Any, args: Any) -> Any:
    """A field with currents like exponentials, as in the transistor amplifier."""
    current = 1e-6 * (jnp.exp(jnp.clip(y / 0.026, -50.0, 50.0)) - 1)
    return -y / 9000 + jnp.roll(y, 1) / 20000 - 0.1 * current + 0.1 * jnp.sin(t) / 1000


def test_the_transistor_amplifier_has_tiny_masses() -> None:
    start = np.linspace(-0.1, 0.1, 8)
    state = found(amplified, jnp.asarray(amplifier()), start, tolerance=1e-8)
    check_solution(state, amplified, amplifier(), start, None, 1e-10)


@pytest.mark.parametrize("solver", [Krylov(), lx.QR()], ids=["Krylov", "QR"])
def test_a_linear_solver_that_the_user_gave(solver: Any) -> None:
    state = found(coupled, jnp.asarray(DIAGONAL), START, ARGS, solver=solver)
    check_solution(state, coupled, np.diag(DIAGONAL), START, ARGS)


def test_a_large_band_stays_a_band() -> None:
    """No full matrix of this size is formed: it would have 1e10 entries."""
    size = 100_000
    mass = jnp.asarray(np.tile([1.0, 0.0], size // 2))

    def line(t: Any, y: Any, args: Any) -> Any:
        around = jnp.pad(y[:-1], (1, 0)) + jnp.pad(y[1:], (0, 1))
        return around - 3 * y - 0.1 * y**3

    state = found(line, mass, np.linspace(0, 1, size), tags=lx.tridiagonal_tag)
    assert float(jnp.max(jnp.abs(line(0.0, state, None)[1::2]))) < 1e-9


@pytest.mark.parametrize("dtype", [np.float32, np.complex128], ids=["float32", "complex"])
def test_other_numbers(dtype: Any) -> None:
    start = np.asarray([0.5, 0.2], dtype) * (1 + 1j if dtype is np.complex128 else 1)
    square = lambda t, y, args: jnp.stack([-y[0], y[1] * y[1] - y[0] - 1])
    tolerance, real = (1e-5 if dtype is np.float32 else 1e-10), start.real.dtype
    options = {"t": np.asarray(T0, real), "tolerance": tolerance, "tags": holomorphic_tag}
    state = found(square, jnp.asarray([1.0, 0.0], real), start, **options)
    assert state.dtype == dtype
    np.testing.assert_allclose(state[1] ** 2, start[0] + 1, rtol=tolerance)


# ------------------------------------------------------------------------------------------------------- step control


@pytest.mark.parametrize("start", [2.0, 20.0, -300.0])
def test_a_start_from_which_newtons_method_alone_diverges(start: float) -> None:
    """Beyond 1.39 the iteration for `arctan(z) = 0` goes away from the solution."""
    full = start - np.arctan(start) * (1 + start**2)
    assert abs(full) > abs(start)
    function = lambda t, y, args: jnp.stack([-y[0], jnp.arctan(y[1] - y[0])])
    state = found(function, jnp.asarray([1.0, 0.0]), np.asarray([0.5, 0.5 + start]))
    np.testing.assert_allclose(state, [0.5, 0.5], atol=1e-12)


def test_the_units_of_equations_do_not_count_in_a_hard_start() -> None:
    """Units that differ by a factor of 1e16 between equations that must both be solved with shortened steps."""
    function = lambda t, y, args: jnp.stack([1e-8 * jnp.arctan(y[0] - 1), 1e8 * jnp.arctan(y[1] + y[0])])
    state = found(function, jnp.zeros(2), np.asarray([15.0, 9.0]))
    np.testing.assert_allclose(state, [1.0, -1.0], rtol=1e-9)


# --------------------------------------------------------------------------------------------- what is consistent stays


def test_a_consistent_state_stays_bit_for_bit() -> None:
    """Also where the residual is not zero but the correction is far below the tolerance, and a negative zero."""
    function = lambda t, y, args: jnp.stack([y[2], 1e6 * (y[1] - y[0]), -y[2]])
    start = np.asarray([0.3, 0.3 + 1e-13, -0.0])
    state = found(function, jnp.asarray([1.0, 0.0, 0.0]), start, tolerance=1e-8)
    np.testing.assert_array_equal(np.asarray(state).view(np.int64), start.view(np.int64))


def test_an_inconsistent_state_is_one_by_its_correction() -> None:
    """Not by the residual, which has the units of an equation."""

    @jax.jit
    def holds(factor: Any, distance: Any) -> Any:
        function = lambda t, y, args: jnp.stack([-y[0], args * (y[1] - y[0])])
        y = jnp.stack([jnp.ones(()), 1.0 + distance])
        field, spaces, algebra = parts(function, jnp.asarray([1.0, 0.0]), y, factor)
        return is_consistent(field, spaces, algebra, weights(field, 1e-6), T0, y)

    for factor in (1e-9, 1.0, 1e9):
        assert holds(factor, 1e-7)
        assert not holds(factor, 1e-4)


# ------------------------------------------------------------------------------------------------------------- failures


def unsolvable(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([-y[0], y[1] ** 2 + args])


@pytest.mark.parametrize("start", [0.0, 1.0, 0.01])
def test_equations_without_a_solution(start: float) -> None:
    state, result = find(unsolvable, jnp.asarray([1.0, 0.0]), [1.0, start], jnp.asarray(1.0))
    assert result == RESULTS.inconsistent_initial_values
    np.testing.assert_array_equal(state, [1.0, start])


@pytest.mark.parametrize("case", ["state", "differential equation", "algebraic equation"])
def test_what_is_not_finite_is_said(case: str) -> None:
    factors = {"state": (1, 1), "differential equation": (np.nan, 1), "algebraic equation": (1, np.nan)}[case]
    function = lambda t, y, args: jnp.stack([args[0] * y[0], args[1] * y[1]])
    y = [np.nan if case == "state" else 1.0, 1.0]
    _, result = find(function, jnp.asarray([1.0, 0.0]), y, jnp.asarray(factors, float))
    assert result == RESULTS.nonfinite


def test_the_worst_equations_are_relative_to_their_units() -> None:
    """An equation in large units has a large residual and a small error."""
    y = {"a": jnp.ones(2), "b": jnp.asarray([[1.0, 1.0], [1.0, 1.0]])}
    factors = {"a": jnp.asarray([1e8, 1.0]), "b": jnp.asarray([[1.0, 1e-3], [1.0, 1.0]])}
    wanted = {"a": jnp.asarray([1.0 + 1e-6, 1.0]), "b": jnp.asarray([[1.0, 5.0], [1.5, 0.0]])}
    field_of = lambda t, y, args: jax.tree.map(lambda f, y, w: f * (y - w), factors, y, wanted)
    mass = {"a": 0.0, "b": jnp.asarray([[0.0, 0.0], [0.0, 1.0]])}
    p = parts(field_of, mass, y)
    vector = p.field.space.ravel(y)
    rows, residuals = jax.jit(lambda y: worst_equations(p.field, p.spaces, jnp.asarray(T0), y))(vector)
    names = [entry_name("y", p.field.space, int(row)) for row in rows]
    assert names == ["y['b'][0, 1]", "y['b'][1, 0]", "y['a'][0]"]
    np.testing.assert_allclose(residuals, [4e-3, 0.5, 100.0], rtol=1e-6)


def test_an_equation_that_nothing_can_fulfil_is_the_worst() -> None:
    p = parts(lambda t, y, args: jnp.stack([1e-3 + 0 * y[0], y[1] - 100.0]), jnp.zeros(2), jnp.ones(2))
    rows, _ = worst_equations(p.field, p.spaces, jnp.asarray(T0), jnp.ones(2))
    assert int(rows[0]) == 0


def test_names_of_entries() -> None:
    space = FlatSpace({"a": jnp.zeros(()), "b": jnp.zeros(3, complex)})
    names = [entry_name("y", space, i) for i in range(space.size)]
    assert names == ["y['a']", "y['b'][0]", "y['b'][1]", "y['b'][2]", "y['b'][0]", "y['b'][1]", "y['b'][2]"]


# ---------------------------------------------------------------------------------------------------------- derivatives


def at_rank(inputs: Any) -> jax.Array:
    """A mass matrix of rank two of four, with all its freedom: the product of two factors."""
    return inputs["left"] @ inputs["right"]


FACTORS = {
    "left": np.random.default_rng(0).normal(size=(4, 2)),
    "right": np.random.default_rng(1).normal(size=(2, 4)),
}


def find_by(inputs: Any, mass: Any) -> jax.Array:
    args, t = {"k": inputs["k"]}, inputs["t"]
    field, spaces, algebra = parts(coupled, mass, inputs["y"], args, t=t)
    return consistent(field, spaces, algebra, weights(field, 1e-12), t, inputs["y"])[0]


INPUTS = {"y": START, "k": np.asarray(1.3), "t": np.asarray(0.3)}


def test_derivatives_by_state_time_and_arguments() -> None:
    compute = jax.jit(lambda inputs: weigh(find_by(inputs, jnp.asarray(DIAGONAL))))
    gradient = assert_derivative(compute, INPUTS, rtol=1e-7)
    # The guess for the algebraic entries has no effect at all.
    np.testing.assert_allclose(np.asarray(gradient["y"])[[1, 3]], 0, atol=1e-14)
    assert np.all(np.abs(np.asarray(gradient["y"])[[0, 2]]) > 1e-3)


def test_derivatives_by_a_full_matrix() -> None:
    compute = jax.jit(lambda inputs: weigh(find_by(inputs, at_rank(inputs))))
    gradient = assert_derivative(compute, INPUTS | FACTORS, rtol=1e-6, h=1e-4)
    null = np.linalg.svd(at_rank(FACTORS))[2][2:]
    np.testing.assert_allclose(null @ np.asarray(gradient["y"]), 0, atol=1e-11)
    assert np.any(np.abs(np.asarray(gradient["left"])) > 1e-3)


def test_there_are_no_derivatives_by_zeros_of_a_diagonal() -> None:
    """The solution jumps when an algebraic equation becomes a differential one; and here it depends on no entry."""
    compute = lambda mass: jnp.sum(find_by(jax.tree.map(jnp.asarray, INPUTS), mass))
    np.testing.assert_array_equal(jax.jit(jax.grad(compute))(jnp.asarray(DIAGONAL)), 0)


def test_a_consistent_state_has_the_same_derivatives() -> None:
    """Although no iteration has moved it."""
    mass = jnp.asarray(DIAGONAL)
    state = found(coupled, mass, START, ARGS, tolerance=1e-13)
    derivative = jax.jit(jax.jacfwd(lambda y: find_by({"y": y, "k": ARGS["k"], "t": jnp.asarray(T0)}, mass)))
    np.testing.assert_allclose(derivative(state), derivative(jnp.asarray(START)), rtol=1e-9, atol=1e-12)


# ----------------------------------------------------------------------------------------------------------- transforms


def test_a_batch_is_its_elements() -> None:
    """Elements that are consistent stay as they are, others move, and some fail."""
    starts = jnp.asarray([[1.0, 0.5], [4.0, 2.0], [-1.0, 0.3], [2.0, 40.0]])
    masses = jnp.asarray([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    function = lambda t, y, args: jnp.stack([-y[0], y[1] ** 2 - y[0]])

    def compute(y: Any, mass: Any) -> Any:
        field, spaces, algebra = parts(function, mass, y)
        return consistent(field, spaces, algebra, weights(field), T0, y)

    states, results = jax.jit(jax.vmap(compute))(starts, masses)
    one = jax.jit(compute)
    for i, (y, mass) in enumerate(zip(starts, masses, strict=True)):
        state, result = one(y, mass)
        np.testing.assert_allclose(states[i], state, rtol=1e-14)
        assert (
            bool(rungax.is_successful(result))
            == (i != 2)
            == bool(rungax.is_successful(jax.tree.map(lambda x, i=i: x[i], results)))
        )
    np.testing.assert_array_equal(states[jnp.asarray([1, 2, 3])], starts[jnp.asarray([1, 2, 3])])
    np.testing.assert_allclose(states[0], [1.0, 1.0], rtol=1e-12)


def test_inside_loops_and_branches() -> None:
    """As after an effect of an event, with derivatives through a loop of fixed length."""

    def compute(y: Any) -> Any:
        p = parts(coupled, jnp.asarray(DIAGONAL), y, ARGS)

        def again(i: Any, y: Any) -> Any:
            find = lambda: consistent(*p, weights(p.field), T0, y + jnp.asarray([0.1, 0.0, 0.0, 0.0]))[0]
            return lax.cond(i % 2 == 0, find, lambda: y)

        return lax.fori_loop(0, 3, again, y)

    state = jax.jit(compute)(jnp.asarray(START))
    check_solution(state, coupled, np.diag(DIAGONAL), START + np.asarray([0.2, 0, 0, 0]), ARGS)
    assert "callback" not in str(jax.make_jaxpr(compute)(jnp.asarray(START)))
    derivative = jax.jit(jax.jacrev(compute))(jnp.asarray(START))
    np.testing.assert_allclose(derivative, jax.jit(jax.jacfwd(compute))(jnp.asarray(START)), rtol=1e-9, atol=1e-12)


# --------------------------------------------------------------------------------------------------------------- slopes


def slopes(inputs: Any, mass: Any) -> tuple[jax.Array, jax.Array]:
    args, t = {"k": inputs["k"]}, inputs["t"]
    p = parts(coupled, mass, inputs["y"], args, t=t)
    return consistent_slope(*p, t, inputs["y"]), differential_slope(*p, t, inputs["y"])


@pytest.mark.parametrize("kind", ["diagonal", "full", "regular"])
def test_the_slope_is_that_of_the_equation(kind: str) -> None:
    r"""$M y' = f$ but for its algebraic part, and $P (J y' + \partial_t f) = 0$; the differential part is $M^+ f$."""
    regular = np.eye(4) + 0.3 * np.random.default_rng(2).normal(size=(4, 4))
    mass = {"diagonal": np.diag(DIAGONAL), "full": at_rank(FACTORS), "regular": regular}[kind]
    given = jnp.asarray(np.diagonal(mass) if kind == "diagonal" else mass)
    y, t = jnp.asarray(START), jnp.asarray(T0)
    slope, differential = jax.jit(lambda y: slopes({"y": y, "k": ARGS["k"], "t": t}, given))(y)
    f = np.asarray(coupled(t, y, ARGS))
    jacobian, by_time = (np.asarray(jax.jacfwd(lambda t, y: coupled(t, y, ARGS), i)(t, y)) for i in (1, 0))
    u, sizes, _ = np.linalg.svd(mass)
    null = u[:, sizes <= 1e-12 * sizes.max()]
    range_ = u[:, sizes > 1e-12 * sizes.max()]
    np.testing.assert_allclose(range_.T @ (mass @ slope - f), 0, atol=1e-12)
    np.testing.assert_allclose(null.T @ (jacobian @ slope + by_time), 0, atol=1e-12)
    np.testing.assert_allclose(differential, np.linalg.pinv(mass, rcond=1e-12) @ f, rtol=1e-10, atol=1e-12)


def test_derivatives_of_slopes() -> None:
    compute = jax.jit(lambda inputs: weigh(slopes(inputs, at_rank(inputs))))
    assert_derivative(compute, INPUTS | FACTORS, rtol=1e-6, h=1e-4)
    by_mass = jax.jit(jax.grad(lambda mass: weigh(slopes(jax.tree.map(jnp.asarray, INPUTS), mass))))
    gradient = by_mass(jnp.asarray(DIAGONAL))
    np.testing.assert_array_equal(np.asarray(gradient)[[1, 3]], 0)
    assert np.all(np.asarray(gradient)[[0, 2]] != 0)


@pytest.mark.parametrize("kind", ["sparse", pytest.param("tridiagonal", marks=pytest.mark.slow)])
def test_derivatives_of_slopes_by_the_entries_of_a_matrix_of_blocks(kind: str) -> None:
    """They agree with those of the full matrix, along changes that keep the rank."""
    pattern = SparsityPattern(MIXED)
    jacobian = SparsityPattern(np.asarray([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 1]]))
    inputs = jax.tree.map(jnp.asarray, INPUTS)
    matrix = lambda s: (jnp.eye(4) + s * jnp.diag(jnp.asarray([1.0, 2.0, -1.0, 0.5]))) @ jnp.asarray(MIXED)

    def by_entries(s: Any) -> Any:
        sparse = SparseLinearOperator.of(lx.MatrixLinearOperator(matrix(s)), pattern)
        mass = sparse if kind == "sparse" else rungax.BandedLinearOperator.of(sparse, 1, 1)
        p = parts(coupled, mass, inputs["y"], ARGS, sparsity=jacobian)
        return consistent_slope(*p, inputs["t"], inputs["y"])

    by_all = lambda s: slopes(inputs, matrix(s))[0]
    compute = jax.jit(lambda s: (jax.jacfwd(by_all)(s), jax.jacfwd(by_entries)(s), jax.jacrev(by_entries)(s)))
    expected, *both = compute(jnp.asarray(0.0))
    for found in both:
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    assert np.any(np.abs(expected) > 0.01)
