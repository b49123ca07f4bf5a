"""With fixed steps every solver converges at the order it states.

The order itself is measured on steps alone, which share their programs with `test_one_step.py`.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import KINDS, SOLVERS, SPLIT, name, order, rounding, slow_unless, solved_exactly, terms_for
from ..problems.base import Problem
from ..problems.ordinary import CLOCKED_TORUS, GRADED
from ..tableaus.methods import METHODS, SPLIT_METHODS
from ..tableaus.test_rosenbrock import METHODS as ROSENBROCK_METHODS
from .graded import after_steps, each
from .measure import TOLERANCE, graded_order, slope

PUBLISHED: dict[str, Any] = {**METHODS, **SPLIT_METHODS, **ROSENBROCK_METHODS}

NUM_STEPS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 32, 64])


def errors_of_solves(solver: rungax.AbstractSolver[Any], problem: Problem, num_steps: np.ndarray) -> np.ndarray:
    """Errors at the end, shape (runs, components), relative to the largest component. Stages are solved to rounding."""
    terms, method = terms_for(solver, problem.field), solved_exactly(solver)

    @jax.jit
    def final(dt0: jax.Array) -> jax.Array:
        saveat = rungax.SaveAt(t1=True)
        solution = rungax.diffeqsolve(
            terms, method, problem.t0, problem.t1, dt0, problem.y0, problem.args, saveat=saveat, throw=False
        )
        return solution.ys[-1]

    ends = [final(jnp.asarray((problem.t1 - problem.t0) / n)) for n in num_steps]
    return np.abs(np.array(ends) - problem.final) / np.abs(problem.final).max()


def assert_order_is_as_stated(solver: rungax.AbstractSolver[Any], explicit: float | None = None) -> None:
    ends = np.array([after_steps(solver, n, explicit) for n in NUM_STEPS])
    errors = np.abs(ends - GRADED.final) / np.abs(GRADED.final)
    measured = graded_order(1 / NUM_STEPS, errors, rounding(solver))
    assert abs(measured - order(solver)) <= TOLERANCE, f"{name(solver)} states order {order(solver)}: {measured:.3f}"


@pytest.mark.parametrize("solver", SOLVERS[1:], ids=name)
def test_coefficients_and_order_are_those_of_the_published_method(solver: Any) -> None:
    """Whose order conditions are tested in `tableaus/`; Euler's method is written out."""
    published = PUBLISHED[name(solver)]
    assert solver.tableau == getattr(published, "tableau", published)
    assert order(solver) == published.order


@pytest.mark.parametrize("solver", each(SOLVERS))
def test_order(solver: rungax.AbstractSolver[Any]) -> None:
    assert_order_is_as_stated(solver)


# `stiff/test_order_reduction.py` measures the order with an implicit term alone too.
@pytest.mark.parametrize(
    "explicit",
    [pytest.param(0.0, id="wholly implicit", marks=pytest.mark.slow), pytest.param(1.0, id="wholly explicit")],
)
@pytest.mark.parametrize(
    "solver",
    [pytest.param(s, id=name(s), marks=[] if name(s) == "KenCarp3" else [pytest.mark.slow]) for s in SPLIT],
)
def test_order_with_one_term_alone(solver: rungax.AbstractSolver[Any], explicit: float) -> None:
    assert_order_is_as_stated(solver, explicit)


# On a problem without grading the error has every power of the step from the order on. Verner made the first of them
# small in his efficient pairs; before it dominates, rounding does. So here only the lower side is for everyone.
# `stiff/test_fixed_steps.py` has nonlinear problems for solvers with two terms.
NONLINEAR = [
    pytest.param(s, id=name(s), marks=slow_unless(name(s) in KINDS and not isinstance(s, rungax.AbstractIMEXRK)))
    for s in SOLVERS
]


@pytest.mark.parametrize("solver", NONLINEAR)
def test_order_is_reached_on_a_nonlinear_problem(solver: rungax.AbstractSolver[Any]) -> None:
    num_steps = np.unique(np.round(2 ** np.arange(2, 9.1, 0.25)).astype(int))
    errors = errors_of_solves(solver, CLOCKED_TORUS, num_steps).max(axis=1)
    clean = np.flatnonzero(errors > 100 * rounding(solver))[-5:]  # the last octave before rounding
    assert slope(1 / num_steps[clean], errors[clean]) >= order(solver) - TOLERANCE


def perturbed(solver: rungax.AbstractERK, stage: int, amount: float) -> rungax.AbstractSolver[Any]:
    """`solver` with `amount` shifted between the first two coefficients of a stage, which keeps its node."""
    tableau = solver.tableau
    a_lower = [row.copy() for row in tableau.a_lower]
    a_lower[stage][:2] += [amount, -amount]
    changed = rungax.ButcherTableau(tableau.c, tableau.b_sol, tableau.b_error, a_lower)
    return type(name(solver), (type(solver),), {"tableau": changed})()


@pytest.mark.parametrize("stated", [pytest.param(4, marks=pytest.mark.slow), 6])
def test_mislabelled_order_is_caught(stated: int) -> None:
    mislabelled = type("Mislabelled", (rungax.Tsit5,), {"order": lambda self, terms: stated})()
    with pytest.raises(AssertionError, match=f"states order {stated}: 5\\.0"):
        assert_order_is_as_stated(mislabelled)


@pytest.mark.parametrize(
    ("solver", "stage"),
    [
        pytest.param(rungax.Tsit5(), 3, id="Tsit5"),
        pytest.param(rungax.Vern8(), 9, id="Vern8", marks=pytest.mark.slow),
    ],
)
def test_wrong_digit_is_caught(solver: rungax.AbstractERK, stage: int) -> None:
    with pytest.raises(AssertionError, match=f"states order {order(solver)}: 2\\.0"):
        assert_order_is_as_stated(perturbed(solver, stage, 1e-6))


@pytest.mark.parametrize("part", ["explicit", "implicit"])
def test_wrong_coupling_is_caught(part: str) -> None:
    """A digit that is wrong in one of two parts."""
    true = rungax.KenCarp4.tableau
    explicit, implicit = true.tableaus
    changed = explicit if part == "explicit" else implicit
    a_lower = [row.copy() for row in changed.a_lower]
    a_lower[3][:2] += [1e-6, -1e-6]
    wrong = rungax.ButcherTableau(
        changed.c, changed.b_sol, changed.b_error, a_lower, changed.a_diagonal, changed.a_predictor, c1=changed.c1
    )
    tableau = rungax.MultiButcherTableau(*((wrong, implicit) if part == "explicit" else (explicit, wrong)))
    mislabelled = type("KenCarp4", (rungax.KenCarp4,), {"tableau": tableau})()
    with pytest.raises(AssertionError, match=r"states order 4: 2\.0"):
        assert_order_is_as_stated(mislabelled)


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(solver, id=name(solver), marks=slow_unless(name(solver) == "Tsit5"))
        for solver in (rungax.Midpoint(), rungax.RK4(), rungax.Tsit5(), rungax.Vern7())
    ],
)
def test_scanned_stages_are_the_unrolled_ones(solver: rungax.AbstractSolver[Any]) -> None:
    """A field so large that the stages become a loop in the program gives the same steps."""

    def large(t: Any, y: Any, args: Any) -> Any:
        value = CLOCKED_TORUS.field(t, y, args)
        for _ in range(200):
            value = -value
        return value

    errors = errors_of_solves(solver, CLOCKED_TORUS, np.array([8]))
    scanned = errors_of_solves(solver, replace(CLOCKED_TORUS, field=large), np.array([8]))
    np.testing.assert_allclose(scanned, errors, atol=1e-14)
