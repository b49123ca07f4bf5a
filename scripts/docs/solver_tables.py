"""A hook of the manual that makes tables of the solvers from the facts that they state.

The tables replace the line `<!-- solvers -->` of a page and the line below it, which is for readers of the source.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

import rungax

PLACE = re.compile(r"^<!-- solvers -->\n.*$", re.MULTILINE)
WRAPPERS = (rungax.Auto, rungax.HalfSolver)
"""Solvers whose facts are those of the solvers inside them."""

type Solver = rungax.AbstractSolver[Any]
type Columns = dict[str, Callable[[Solver], object]]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the tables where the page has the line for them."""
    del page, config, files
    return PLACE.sub(lambda _: "\n\n".join(tables()), markdown)


def tables() -> Iterator[str]:
    """A table for each family; every solver is in one of them."""
    left = solvers()
    for heading, belongs, columns in FAMILIES:
        rows = [solver for solver in solvers() if belongs(solver)]
        left = [solver for solver in left if solver not in rows]
        yield f"### {heading}\n\n{table(rows, columns)}"
    assert not left, f"no table shows {left}"


def solvers() -> list[Solver]:
    """Every public solver that does not contain another one, in the order of the public names."""
    classes = [value for value in vars(rungax).values() if inspect.isclass(value)]
    found = [cls for cls in classes if issubclass(cls, rungax.AbstractSolver) and cls not in WRAPPERS]
    return [cls() for cls in found if not cls.__name__.startswith("Abstract")]


def table(rows: list[Solver], columns: Columns) -> str:
    """A table in Markdown, with a row for each solver."""
    lines = [["solver", *columns], ["---"] * (len(columns) + 1)]
    for solver in rows:
        name = type(solver).__name__
        facts = [str(fact(solver)) for fact in columns.values()]
        lines.append([f"[`{name}`][rungax.{name}]", *facts])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(solver: Solver) -> str:
    """The first sentence of the solver's docstring."""
    return (inspect.getdoc(type(solver)) or "").split("\n\n")[0].replace("\n", " ")


# ------------------------------------------------------------------------------------------------------- the families

ODE = rungax.ODETerm(lambda t, y, args: -y)
PATH = rungax.UnsafeBrownianPath((), jax.random.key(0), rungax.SpaceTimeTimeLevyArea)
SDE = rungax.MultiTerm(ODE, rungax.ControlTerm(lambda t, y, args: jnp.array(1.0), PATH))


def order(solver: Solver) -> object:
    """The order of convergence, for equations without noise."""
    return solver.order(ODE)


def estimate(solver: Solver) -> object:
    """The order of the error estimate in the step size, or a dash if there is none."""
    has_one = isinstance(solver, rungax.AbstractAdaptiveSolver) and stages_have_estimate(solver)
    return solver.error_order(ODE) if has_one else "–"


def stages_have_estimate(solver: Solver) -> bool:
    """False if the method has a Butcher tableau without weights for the error."""
    tableau = getattr(solver, "tableau", None)
    return not isinstance(tableau, rungax.ButcherTableau) or tableau.b_error is not None


def evaluations(solver: Solver) -> object:
    """The number of stages in a step, without the first if it is the last one of the step before."""
    tableau = getattr(solver, "tableau", None)
    return 1 if tableau is None else tableau.num_stages - bool(tableau.fsal)


def steps_may_adapt(solver: Solver) -> str:
    """Yes if steps may be adapted to the solver's error estimate; or whether they may be to that of `HalfSolver`."""
    if not solver.facts.safe_with_adaptive_steps:
        return "no"
    return "yes" if isinstance(solver, rungax.AbstractAdaptiveSolver) else "with `HalfSolver`"


def areas(solver: Solver) -> str:
    """The Lévy areas that a Brownian path must have, in addition to its increments."""
    if issubclass(solver.facts.minimal_levy_area, rungax.AbstractSpaceTimeTimeLevyArea):
        return "H, K"
    return "H" if issubclass(solver.facts.minimal_levy_area, rungax.AbstractSpaceTimeLevyArea) else "–"


def noise(solver: Solver) -> str:
    """The kind of noise, or of equation, that the solver is for."""
    if is_for_langevin(solver):
        return "Langevin only"
    return {"general": "any", "diagonal": "scalar, diagonal"}.get(solver.facts.noise, solver.facts.noise)


def is_for_langevin(solver: Solver) -> bool:
    """True if the solver accepts the terms of the underdamped Langevin equation only."""
    return isinstance(solver, rungax.AbstractFosterLangevinSRK)


def strong_orders(solver: Solver) -> str:
    """The strong order, and the orders for simpler noise if they are higher."""
    higher = HIGHER_STRONG_ORDERS.get(type(solver).__name__, {})
    return "; ".join([f"{solver.strong_order(SDE):g}", *(f"{kind} {order:g}" for kind, order in higher.items())])


def weak_order(solver: Solver) -> str:
    """The weak order, or a dash if none is claimed."""
    order = solver.weak_order(SDE)
    return "–" if order is None else f"{order:g}"


def interpretation(solver: Solver) -> str:
    """The interpretation of the stochastic integral."""
    return " or ".join(sorted(solver.facts.interpretations))


def is_stiff(solver: Solver) -> bool:
    """True if the solver solves linear systems."""
    return solver.facts.uses_jacobian


def is_pair(solver: Solver) -> bool:
    """True if the solver is for a pair of terms."""
    return isinstance(solver.facts.term_structure, tuple)


PLAIN: Columns = {"order": order, "error estimate": estimate, "description": summary}
STAGED: Columns = {"order": order, "error estimate": estimate, "stages a step": evaluations, "description": summary}
NOISY: Columns = {
    "equation": interpretation,
    "noise": noise,
    "strong order": strong_orders,
    "weak order": weak_order,
    "Lévy areas": areas,
    "adaptive steps": steps_may_adapt,
}
HIGHER_STRONG_ORDERS = {
    "Euler": {"additive": 1},
    "Heun": {"commutative": 1},
    "Midpoint": {"commutative": 1},
    "Ralston": {"commutative": 1},
    "EulerHeun": {"commutative": 1},
    "ReversibleHeun": {"commutative": 1},
    "DRI1": {"commutative": 1},
    "SPaRK": {"commutative": 1, "additive": 1.5},
    "GeneralShARK": {"commutative": 1, "additive": 1.5},
    "SlowRK": {"commutative": 1.5},
}
"""Strong orders for simpler noise, as the docstrings give them: a solver cannot know whether noise commutes."""

FAMILIES: tuple[tuple[str, Callable[[Solver], bool], Columns], ...] = (
    ("Explicit methods", lambda solver: isinstance(solver, rungax.AbstractERK | rungax.Euler), STAGED),
    (
        "Methods for stiff equations",
        lambda solver: is_stiff(solver) and not isinstance(solver, rungax.AbstractIMEXRK),
        STAGED,
    ),
    ("Implicit–explicit methods", lambda solver: isinstance(solver, rungax.AbstractIMEXRK), STAGED),
    ("Symplectic methods, for a pair of terms", is_pair, PLAIN),
    ("Reversible methods", lambda solver: isinstance(solver, rungax.LeapfrogMidpoint | rungax.ReversibleHeun), PLAIN),
    ("Methods for equations with noise", lambda solver: bool(solver.facts.interpretations), NOISY),
)
