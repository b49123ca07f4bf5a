"""Every solver has its stated strong order, for every kind of noise it supports and in its own interpretation.

Errors are measured at the end of solves with fixed steps, along the path of the reference (see `measure`). A test
passes if the 99 % bootstrap interval of the measured order is within 0.15 of the stated order, so a method that is
better than stated fails like one that is worse.
"""

from typing import NamedTuple

import numpy as np
import pytest

from rungax import (
    DRI1,
    SEA,
    SRA1,
    SRIW1,
    Euler,
    EulerHeun,
    GeneralShARK,
    Heun,
    ItoMilstein,
    Midpoint,
    Ralston,
    ReversibleHeun,
    ShARK,
    SlowRK,
    SPaRK,
    StratonovichMilstein,
)
from rungax.solvers import AbstractSolver

from ..catalogue import slow_unless
from ..problems.stochastic import BY_KIND, CLOSED, GEOMETRIC, INTERPRETATIONS, SCALAR, Interpretation, Kind
from . import measure

# Many paths of many steps: they take longer to run than to compile.
pytestmark = pytest.mark.usefixtures("optimized")

KINDS: tuple[Kind, ...] = ("additive", "diagonal", "scalar", "commutative", "general")

COVERED: dict[str, tuple[Kind, ...]] = {
    "additive": ("additive",),
    "diagonal": ("diagonal", "scalar"),
    "commutative": ("additive", "diagonal", "scalar", "commutative"),
    "general": KINDS,
}
"""The kinds of problem that each value of a solver's `noise` covers."""


def orders(additive=None, diagonal=None, scalar=None, commutative=None, general=None) -> dict[Kind, float]:
    """The expected order for each kind of noise: the stated order, or a higher one where theory gives it."""
    found = zip(KINDS, (additive, diagonal, scalar, commutative, general), strict=True)
    return {kind: order for kind, order in found if order is not None}


SOLVERS: list[tuple[AbstractSolver, dict[Kind, float]]] = [
    (Euler(), orders(1, 0.5, 0.5, 0.5, 0.5)),
    (ItoMilstein(), orders(1, 1, 1, 1, 0.5)),
    (SRIW1(), orders(diagonal=1.5, scalar=1.5)),
    (DRI1(), orders(1, 1, 1, 1, 0.5)),
    (EulerHeun(), orders(1, 1, 1, 1, 0.5)),
    (Heun(), orders(1, 1, 1, 1, 0.5)),
    (Midpoint(), orders(1, 1, 1, 1, 0.5)),
    (Ralston(), orders(1, 1, 1, 1, 0.5)),
    (ReversibleHeun(), orders(1, 1, 1, 1, 0.5)),
    (StratonovichMilstein(), orders(1, 1, 1, 1, 0.5)),
    (SPaRK(), orders(1.5, 1, 1, 1, 0.5)),
    (GeneralShARK(), orders(1.5, 1, 1, 1, 0.5)),
    (SlowRK(), orders(1.5, 1.5, 1.5, 1.5, 0.5)),
    (SEA(), orders(1)),
    (SRA1(), orders(1.5)),
    (ShARK(), orders(1.5)),
]


class Claim(NamedTuple):
    """A solver, the problem it is measured on, and the order it should show."""

    solver: AbstractSolver
    kind: Kind
    interpretation: Interpretation
    order: float


def name_of(solver: AbstractSolver) -> str:
    return type(solver).__name__


def own_interpretation(solver: AbstractSolver) -> Interpretation:
    return "Itô" if "Itô" in solver.interpretations else "Stratonovich"


ONE_PER_FAMILY = ("Euler", "SRIW1", "Heun", "ReversibleHeun", "SlowRK", "SRA1")
"""One solver of each family but Milstein's and `DRI1`, whose programs are dear.

Their steps and those of the others are compared with their formulas in `test_itos.py` and `test_srk_step.py`;
`Midpoint` and `Ralston` are `Heun` with another tableau.
"""

MAIN: dict[str, tuple[Kind, ...]] = {
    "additive": ("additive",),
    "diagonal": ("diagonal",),
    "commutative": (),
    "general": (),
}
"""The claims that are tested by default one by one, for the solvers of `ONE_PER_FAMILY`; the others are marked slow.

Solvers for general noise are tested in pairs of claims below. That `SRIW1` treats one source for all entries like
one source for each is in `test_itos.py`.
"""


def claims() -> list:
    """Every claim. For additive noise both interpretations have the same limit."""
    found = []
    for solver, promised in SOLVERS:
        for kind, order in promised.items():
            claim = Claim(solver, kind, own_interpretation(solver), order)
            marks = slow_unless(kind in MAIN[solver.noise] and name_of(solver) in ONE_PER_FAMILY)
            found.append(pytest.param(claim, id=f"{name_of(solver)}-{kind}", marks=marks))
    return found


def measured(solver: AbstractSolver, problem, interpretation: Interpretation, backwards: bool = False) -> measure.Order:
    return measure.order_of(measure.strong_errors(solver, problem, interpretation, backwards))


@pytest.mark.parametrize("claim", claims())
def test_strong_order(claim):
    order = measured(claim.solver, BY_KIND[claim.kind], claim.interpretation)
    assert measure.shows(order, claim.order), order


PAIR: tuple[Kind, Kind] = ("commutative", "general")


BOTH = measure.together(*(BY_KIND[kind] for kind in PAIR))
"""One program for the two kinds that show most."""


def orders_of_pair(solver: AbstractSolver) -> dict[Kind, measure.Order]:
    """The orders for both kinds of noise of `PAIR`, measured in one solve in the solver's own interpretation."""
    found = np.split(measure.solutions(solver, BOTH), len(PAIR), axis=2)
    exact = [measure.reference(BY_KIND[kind], own_interpretation(solver)) for kind in PAIR]
    squares = [np.sum((x - y) ** 2, axis=2) for x, y in zip(found, exact, strict=True)]
    return dict(zip(PAIR, map(measure.order_of, squares), strict=True))


@pytest.mark.parametrize(
    ("solver", "promised"),
    [
        pytest.param(*claim, id=name_of(claim[0]), marks=slow_unless(name_of(claim[0]) in ONE_PER_FAMILY))
        for claim in SOLVERS
        if claim[0].noise == "general"
    ],
)
def test_strong_orders_for_commutative_and_general_noise(solver, promised):
    """The one order needs the products of increments, the other shows that the noise is no longer commutative."""
    for kind, order in orders_of_pair(solver).items():
        assert measure.shows(order, promised[kind]), (kind, order)


@pytest.mark.parametrize(("solver", "promised"), SOLVERS, ids=[name_of(solver) for solver, _ in SOLVERS])
def test_the_table_is_what_solvers_state(solver, promised):
    """The order that a solver states is that for the most general kind of noise it supports."""
    covered = COVERED[solver.noise]
    problem = BY_KIND[covered[-1]]
    stated = solver.strong_order(measure.terms(problem, measure.tree(measure.keys(1)[0], problem.shape)))
    assert promised[covered[-1]] == stated
    assert set(covered) <= set(promised)
    assert solver.interpretations == (
        {"Itô", "Stratonovich"} if solver.noise == "additive" else {own_interpretation(solver)}
    )


# ------------------------------------------------------------------------------------------------------------ the limit


@pytest.mark.parametrize(
    ("interpretation", "name"),
    [
        ("Itô", "spiral"),  # the noise is a matrix
        pytest.param("Stratonovich", "sinh", marks=pytest.mark.slow),  # the noise is an operator
        pytest.param("Stratonovich", "spiral", marks=pytest.mark.slow),
        *(pytest.param(which, "geometric", marks=pytest.mark.slow) for which in INTERPRETATIONS),
    ],
)
def test_the_reference_agrees_with_closed_forms(interpretation, name):
    problem, paths = CLOSED[name], 200
    exact = measure.reference(problem, interpretation, paths=paths)
    distance = measure.reference(problem, interpretation, use_exact=False, paths=paths) - exact
    assert np.sqrt(np.mean(distance**2)) < 5e-5 * np.sqrt(np.mean(exact**2))


def solves(closed: str, solver: AbstractSolver) -> bool:
    """True if the solver supports the kind of noise and the interpretation of the closed form."""
    return CLOSED[closed].kind in COVERED[solver.noise] and not (
        closed == "sinh" and own_interpretation(solver) == "Itô"
    )


ONE_OF_AN_INTERPRETATION = ("Euler", "Heun")
"""One solver of each interpretation; the order of every solver along the reference is tested above."""


@pytest.mark.parametrize(
    ("solver", "closed"),
    [
        pytest.param(
            solver,
            closed,
            id=f"{name_of(solver)}-{closed}",
            marks=slow_unless(closed == "geometric" and name_of(solver) in ONE_OF_AN_INTERPRETATION),
        )
        for solver, _ in SOLVERS
        for closed in CLOSED
        if solves(closed, solver)
    ],
)
def test_the_limit_is_the_closed_form(solver, closed):
    """Drift and noise of these equations commute, so the order may be higher than stated; only the limit is tested."""
    problem, interpretation = CLOSED[closed], own_interpretation(solver)
    squares = measure.strong_errors(solver, problem, interpretation)
    size = np.mean(np.sum(measure.reference(problem, interpretation) ** 2, axis=1))
    assert measure.order_of(squares).low > dict(SOLVERS)[solver][problem.kind] - measure.TOLERANCE
    assert np.sqrt(squares[-1].mean() / size) < 0.1


# ------------------------------------------------------------------------------------------------- power of the tests


def test_euler_is_not_of_order_one():
    order = measured(Euler(), GEOMETRIC, "Itô")
    assert not measure.shows(order, 1.0)
    assert measure.shows(order, 0.5)


@pytest.mark.parametrize(("solver", "wrong"), [(Heun(), "Itô"), (Euler(), "Stratonovich")], ids=["Heun", "Euler"])
@pytest.mark.parametrize(
    "problem", [GEOMETRIC, pytest.param(SCALAR, marks=pytest.mark.slow)], ids=["geometric", "scalar"]
)
def test_the_other_interpretation_is_detected(solver, wrong, problem):
    """The error does not decrease with the step size."""
    assert measured(solver, problem, wrong).high < 0.25


def test_the_order_of_one_half_for_general_noise_is_detected():
    """Heun's method does not pass for a method of order 1 if the noise does not commute."""
    assert not measure.shows(orders_of_pair(Heun())["general"], 1.0)


# ----------------------------------------------------------------------------------------------------------- backwards


BACKWARDS = [
    (SlowRK(), "commutative"),  # its order 1.5 shows a wrong sign of any part of the increments
    (SRA1(), "additive"),
    (SEA(), "additive"),
    (ShARK(), "additive"),
    (SPaRK(), "commutative"),
    (GeneralShARK(), "commutative"),
    (SPaRK(), "additive"),
    (GeneralShARK(), "additive"),
    (SlowRK(), "additive"),
]


@pytest.mark.slow  # `test_same_path.py` has the increments of solves backwards
@pytest.mark.parametrize(
    ("solver", "kind"), [pytest.param(*case, id=f"{name_of(case[0])}-{case[1]}") for case in BACKWARDS]
)
def test_backwards_in_time(solver, kind):
    """From 1 to 0 along the same path."""
    order = measured(solver, BY_KIND[kind], "Stratonovich", backwards=True)
    assert measure.shows(order, dict(SOLVERS)[solver][kind]), order
