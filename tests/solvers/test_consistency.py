"""Initial values of differential-algebraic equations: made consistent, checked or left alone; and what is refused."""

from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import RESULTS, ODETerm, PIDController, SaveAt, diffeqsolve

from ..catalogue import order, slow_unless
from ..problems.constrained import (
    CHEMICAL_AKZO,
    COMPLEX_LINEAR,
    CONSTRAINED,
    MASS_OF_STATE,
    PENDULUM,
    RLC,
    TRANSISTOR_AMPLIFIER,
    Constrained,
)

# `y' = -z`, `z = ratio y - sin t`.
DIAGONAL = jnp.array([1.0, 0.0])
GUESS, RIGHT = jnp.array([1.0, 0.3]), jnp.array([1.0, 2.0])


def _field(t: Any, y: Any, ratio: Any) -> Any:
    return jnp.stack([-y[1], y[1] - ratio * y[0] + jnp.sin(t).astype(y.dtype)])


def solve(term: Any, solver: Any, y0: Any, ratio: Any = 2.0, **options: Any) -> rungax.Solution:
    given: dict[str, Any] = {"stepsize_controller": PIDController(1e-6, 1e-6), "throw": False, **options}
    return diffeqsolve(term, solver, 0.0, 1.0, None, y0, ratio, **given)


# --------------------------------------------------------------------------------------------- what the options mean


def test_the_algebraic_part_is_solved_for_by_default() -> None:
    """The saved state at the start is the consistent one."""
    term = ODETerm(_field, mass=DIAGONAL)
    found = solve(term, rungax.Rodas5P(), GUESS, saveat=SaveAt(t0=True, t1=True))
    expected = solve(term, rungax.Rodas5P(), RIGHT, saveat=SaveAt(t0=True, t1=True))
    np.testing.assert_allclose(found.ys[0], RIGHT, rtol=1e-10)
    np.testing.assert_allclose(found.ys, expected.ys, rtol=1e-8)


@pytest.mark.parametrize(
    ("consistency", "y0", "result"),
    [
        ("check", GUESS, RESULTS.inconsistent_initial_values),
        ("check", RIGHT, RESULTS.successful),
        ("none", RIGHT, RESULTS.successful),
    ],
)
def test_values_are_checked_or_left_alone(consistency: Any, y0: Any, result: Any) -> None:
    term = ODETerm(_field, mass=DIAGONAL, consistency=consistency)
    solution = solve(term, rungax.Rodas5P(), y0, saveat=SaveAt(t0=True))
    assert solution.result == result
    np.testing.assert_array_equal(solution.ys[0], y0)


def first_state(term: Any, t0: float, y0: Any, args: Any) -> Any:
    """The state from which a solve starts."""
    solution = diffeqsolve(term, rungax.ImplicitEuler(), t0, t0 + 1e-9, 1e-9, y0, args, saveat=SaveAt(t0=True))
    return jax.tree.map(lambda x: x[0], solution.ys)


def perturbed(case: Constrained) -> Any:
    """The initial state, changed in the kernel of the mass matrix, so that a solve could find it again."""
    y0, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(jnp.asarray, case.problem.y0))
    _, sizes, kernel = np.linalg.svd(case.matrix(case.problem.t0, y0))
    change = kernel[sizes < 1e-9 * sizes.max()].sum(axis=0).conj()
    return unravel(y0 + 0.05 * change)


OFTEN = (TRANSISTOR_AMPLIFIER,)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=slow_unless(case in OFTEN)) for case in CONSTRAINED]
)
def test_the_consistent_values_of_every_problem_are_found(case: Constrained) -> None:
    """From values near them that have the same `M y`; if the mass depends on the state, other ones may be nearer."""
    problem = case.problem
    found = first_state(case.term(), problem.t0, perturbed(case), problem.args)
    y = np.asarray(jax.flatten_util.ravel_pytree(found)[0])
    exact = np.asarray(jax.flatten_util.ravel_pytree(problem.y0)[0])
    if case is not MASS_OF_STATE:
        np.testing.assert_allclose(y, exact, atol=1e-8)
        return
    given = np.asarray(jax.flatten_util.ravel_pytree(perturbed(case))[0])
    np.testing.assert_allclose(case.matrix(0.0, given) @ (y - given), 0.0, atol=1e-8)
    np.testing.assert_allclose(problem.field(0.0, jnp.asarray(y), None)[1], 0.0, atol=1e-8)


@pytest.mark.slow
def test_consistent_values_have_derivatives() -> None:
    values = lambda ratio, y0: first_state(ODETerm(_field, mass=DIAGONAL), 0.0, y0, ratio)
    by_ratio = jax.jacfwd(values)(jnp.array(2.0), GUESS)
    by_start = jax.jacrev(values, argnums=1)(jnp.array(2.0), GUESS)
    np.testing.assert_allclose(by_ratio, [0.0, 1.0], atol=1e-10)
    np.testing.assert_allclose(by_start, [[1.0, 0.0], [2.0, 0.0]], atol=1e-10)


def test_the_values_can_be_had_without_a_solve() -> None:
    function = getattr(rungax, "consistent_initial_values", None)
    if function is None:
        pytest.skip("not public yet")
    found = function(ODETerm(_field, mass=DIAGONAL), 0.0, GUESS, 2.0)
    np.testing.assert_allclose(found, RIGHT, rtol=1e-10)


def test_no_consistent_values_is_a_result() -> None:
    term = ODETerm(lambda t, y, args: jnp.stack([y[1], y[1] ** 2 + 1]), mass=DIAGONAL)
    assert solve(term, rungax.Rodas5P(), GUESS).result == RESULTS.inconsistent_initial_values


@pytest.mark.parametrize("consistency", ["solve", pytest.param("none", marks=pytest.mark.slow)])
def test_a_higher_index_is_a_result(consistency: Any) -> None:
    """Of the elements of a batch that have it, and only of those."""

    def end(share: Any) -> Any:
        def field(t: Any, y: Any, args: Any) -> Any:
            return jnp.stack([-y[1], y[0] - jnp.sin(t) - share * y[1]])

        solution = solve(ODETerm(field, mass=DIAGONAL, consistency=consistency), rungax.Rodas5P(), jnp.zeros(2))
        return solution.result == RESULTS.index_above_one, solution.result == RESULTS.successful

    above, successful = jax.jit(jax.vmap(end))(jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(above, [True, False])
    np.testing.assert_array_equal(successful, [False, True])


def test_the_pendulum_with_its_length_as_constraint_has_a_higher_index() -> None:
    def field(t: Any, y: Any, gravity: Any) -> Any:
        x, z, u, w, tension = y
        return jnp.stack([u, w, -tension * x, -tension * z - gravity, x**2 + z**2 - 1])

    term = ODETerm(field, mass=PENDULUM.mass)
    solution = solve(term, rungax.Rodas5P(), jnp.asarray(PENDULUM.problem.y0), PENDULUM.problem.args)
    assert solution.result == RESULTS.index_above_one


# --------------------------------------------------------------------------------------------------------- other cases


def test_single_precision_with_a_time_in_double_precision() -> None:
    term = ODETerm(_field, mass=DIAGONAL.astype(jnp.float32))
    found = solve(
        term, rungax.Rodas5P(), GUESS.astype(jnp.float32), jnp.float32(2.0),
        stepsize_controller=PIDController(1e-3, 1e-3),
    )  # fmt: skip
    assert found.ys.dtype == jnp.float32
    exact = solve(ODETerm(_field, mass=DIAGONAL), rungax.Rodas5P(), GUESS)
    np.testing.assert_allclose(found.ys[-1], exact.ys[-1], atol=1e-3)


def test_an_equation_may_be_algebraic_altogether() -> None:
    """`y³ + y = t` along time."""
    term = ODETerm(lambda t, y, args: y**3 + y - t, mass=0.0)
    y = solve(term, rungax.Rodas5P(), jnp.array(0.5)).ys[-1]
    np.testing.assert_allclose(y**3 + y, 1.0, atol=1e-5)


JUMP = 0.5


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(rungax.Rodas5P(), id="Rodas5P"),
        pytest.param(rungax.TRBDF2(), marks=pytest.mark.slow, id="TRBDF2"),
        pytest.param(rungax.Kvaerno5(), marks=pytest.mark.slow, id="Kvaerno5"),
        pytest.param(rungax.BDF(), marks=pytest.mark.slow, id="BDF"),
    ],
)
def test_algebraic_unknowns_jump_with_an_input_at_a_time_that_is_given(solver: Any) -> None:
    def field(t: Any, y: Any, args: Any) -> Any:
        return jnp.stack([-y[1], y[1] - jnp.where(t < JUMP, 1.0, 3.0) * y[0]])

    controller = rungax.ClipStepSizeController(PIDController(1e-6, 1e-6), jump_ts=jnp.array([JUMP]))
    solution = solve(ODETerm(field, mass=DIAGONAL), solver, jnp.ones(2), stepsize_controller=controller)
    assert solution.result == RESULTS.successful
    end = np.exp(-JUMP - 3 * (1 - JUMP))
    # Without a constraint, on `y' = -y` and then `y' = -3 y`, the method of order 2 has an error of 1.4e-4.
    np.testing.assert_allclose(solution.ys[-1], [end, 3 * end], rtol=3e-4 if order(solver) == 2 else 1e-4)


@pytest.mark.slow
def test_a_solve_goes_backwards_in_time() -> None:
    term = ODETerm(_field, mass=DIAGONAL)
    there = solve(term, rungax.Kvaerno5(), GUESS)
    back = diffeqsolve(
        term, rungax.Kvaerno5(), 1.0, 0.0, None, there.ys[-1], 2.0, stepsize_controller=PIDController(1e-6, 1e-6)
    )
    np.testing.assert_allclose(back.ys[-1], RIGHT, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", [RLC, CHEMICAL_AKZO, COMPLEX_LINEAR], ids=lambda case: case.name)
@pytest.mark.parametrize("solver", [None, rungax.Auto()], ids=["None", "Auto"])
def test_a_method_is_chosen(solver: Any, case: Constrained) -> None:
    problem = case.problem
    y0 = jax.tree.map(jnp.asarray, problem.y0)
    solution = diffeqsolve(
        case.term(), solver, problem.t0, problem.t1, None, y0, problem.args,
        stepsize_controller=PIDController(1e-6, case.scale * 1e-6),
    )  # fmt: skip
    assert case.error(jax.tree.map(lambda x: x[-1], solution.ys)) < 1e-4


# ------------------------------------------------------------------------------------------------------ what is refused


def refused(expected: str, term: Any, solver: Any = None, **options: Any) -> None:
    with pytest.raises(ValueError, match=r"(?s)Expected:.*Found:") as caught:
        solve(term, solver or rungax.Rodas5P(), GUESS, **options)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "mass", [jnp.ones(3), jnp.ones((3, 3)), [1.0, 0.0, 1.0], "M"], ids=["3", "3×3", "list", "text"]
)
def test_a_mass_that_does_not_fit_is_refused(mass: Any) -> None:
    refused("matrix of shape (2, 2)", ODETerm(_field, mass=mass))


def test_an_index_that_rises_at_a_jump_ends_the_solve() -> None:
    """The algebraic unknown drops out of its equation at t = 0.5."""

    def field(t: Any, y: Any, args: Any) -> Any:
        return jnp.stack([-y[0], jnp.where(t < JUMP, y[1], 0.0) - y[0]])

    controller = rungax.ClipStepSizeController(PIDController(1e-6, 1e-6), jump_ts=jnp.array([JUMP]))
    found = solve(ODETerm(field, mass=DIAGONAL), rungax.Rodas5P(), GUESS, stepsize_controller=controller)
    assert found.result == RESULTS.index_above_one


def test_a_list_of_numbers_is_a_diagonal() -> None:
    found = solve(ODETerm(_field, mass=[1.0, 0.0]), rungax.Rodas5P(), GUESS)
    np.testing.assert_array_equal(found.ys, solve(ODETerm(_field, mass=DIAGONAL), rungax.Rodas5P(), GUESS).ys)


def test_another_way_of_consistency_is_refused() -> None:
    with pytest.raises(ValueError, match=r"(?s)consistency=.*Expected: \"solve\".*Found:    'never'"):
        ODETerm(_field, mass=DIAGONAL, consistency="never")  # pyright: ignore[reportArgumentType]


def test_solvers_without_a_method_for_it_are_refused() -> None:
    refused("`Tsit5` cannot", ODETerm(_field, mass=DIAGONAL), rungax.Tsit5())
    refused("`Rodas5P` cannot", ODETerm(_field, mass=lambda t, y, args: DIAGONAL))


def test_an_explicit_method_takes_a_regular_mass_only() -> None:
    regular = solve(ODETerm(_field, mass=jnp.array([1.0, 2.0])), rungax.Tsit5(), GUESS)
    implicit = solve(ODETerm(_field, mass=jnp.array([1.0, 2.0])), rungax.Kvaerno5(), GUESS)
    np.testing.assert_allclose(regular.ys, implicit.ys, atol=1e-5)
    traced = jax.jit(lambda mass: solve(ODETerm(_field, mass=mass), rungax.Tsit5(), GUESS).result)(DIAGONAL)
    assert traced == RESULTS.singular_mass


@pytest.mark.parametrize("adjoint", [rungax.BacksolveAdjoint(), rungax.ReversibleAdjoint()], ids=["back", "reversible"])
def test_adjoints_that_solve_backwards_are_refused(adjoint: Any) -> None:
    def end(y0: Any) -> Any:
        return solve(ODETerm(_field, mass=jnp.array([1.0, 2.0])), rungax.Tsit5(), y0, adjoint=adjoint).ys[-1, 0]

    with pytest.raises(ValueError, match="terms without a mass matrix"):
        jax.grad(end)(GUESS)


def test_a_mass_belongs_to_a_whole_equation() -> None:
    both = rungax.MultiTerm(ODETerm(_field, mass=DIAGONAL), ODETerm(_field))
    refused("a single `ODETerm`", both, rungax.KenCarp3())
