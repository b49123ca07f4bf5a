"""`citation` prints BibTeX of what a call uses and of nothing else; every solver has a source."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
import pytest

import rungax
from rungax.citation.bibliography import BIBTEX, LIBRARY as REFERENCES, SOURCES

SOLVERS = [
    value
    for name, value in vars(rungax).items()
    if inspect.isclass(value) and issubclass(value, rungax.AbstractSolver) and not name.startswith("Abstract")
]


@pytest.fixture
def cite(capsys: pytest.CaptureFixture[str]) -> Any:
    """The keys of the printed entries, after a look at the print itself."""

    def cited(*args: Any, **kwargs: Any) -> list[str]:
        assert rungax.citation(*args, **kwargs) is None
        printed = capsys.readouterr().out
        assert printed.startswith("% ")
        assert printed.count("{") == printed.count("}")
        return re.findall(r"^@\w+\{([^,]+),$", printed, flags=re.MULTILINE)

    return cited


def field(t: Any, y: Any, args: Any) -> Any:
    return y


def condition(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
    return y


LIBRARIES = ["jax", "rungax"]


def test_the_libraries_are_always_cited(cite: Any) -> None:
    assert cite() == LIBRARIES


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda cls: cls.__name__)
def test_every_solver_has_a_source(solver: type, cite: Any) -> None:
    assert solver.__name__ in SOURCES
    made = solver(rungax.Euler()) if solver is rungax.HalfSolver else solver()
    keys = cite(solver=made)
    assert set(SOURCES[solver.__name__]) <= set(keys)
    assert len(keys) == len(set(keys))


def test_a_whole_call_is_cited_by_position_and_name(cite: Any) -> None:
    keys = cite(
        rungax.ODETerm(field),
        rungax.Dopri5(),
        0.0,
        1.0,
        None,
        jnp.ones(2),
        saveat=rungax.SaveAt(t1=True),
        stepsize_controller=rungax.PIDController(1e-3, 1e-6),
        adjoint=rungax.BacksolveAdjoint(
            stepsize_controller=rungax.PIDController(1e-3, 1e-6, norm=rungax.adjoint_rms_seminorm)
        ),
    )
    expected = {"dormand1980", "shampine1986", "soderlind2003", "hairer1996", "chen2018", "kidger2021seminorms"}
    assert set(keys) == {*LIBRARIES, *expected}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"solver": None}, {"tsitouras2011", "steinebach2023", "petzold1983"}),
        ({"solver": None, "y0": jnp.ones(200)}, {"tsitouras2011", "shampine1997", "petzold1983"}),
        ({"solver": rungax.HalfSolver(rungax.RK4())}, {"hairer1993", "kutta1901"}),
        ({"solver": rungax.Kvaerno3(root_finder=optx.Newton(1e-3, 1e-3))}, {"kvaerno2004", "optimistix", "lineax"}),
        ({"adjoint": rungax.ImplicitAdjoint(linear_solver=lx.LU())}, {"blondel2022", "lineax"}),
        ({"adjoint": rungax.ReversibleAdjoint()}, {"mccallum2024"}),
        ({"adjoint": rungax.DirectAdjoint()}, set()),
        ({"stepsize_controller": rungax.ConstantStepSize()}, set()),
        ({"event": rungax.Event(condition, optx.Newton(1e-3, 1e-3))}, {"optimistix"}),
        ({"event": rungax.Event(condition)}, set()),
        ({"saveat": rungax.SaveAt(t1=True, internals=True)}, {"pal2021"}),
        ({"y0": jnp.ones(2), "max_steps": 3, "throw": False}, set()),
    ],
    ids=lambda x: "+".join(sorted(x)) or "nothing",
)
def test_what_is_given_is_cited(given: dict[str, Any], expected: set[str], cite: Any) -> None:
    assert expected <= set(cite(**given))
    if not expected:
        assert cite(**given) == LIBRARIES


def test_a_brownian_tree_is_found_inside_terms(cite: Any) -> None:
    tree = rungax.VirtualBrownianTree(0.0, 1.0, 1e-2, (), jax.random.key(0), levy_area=rungax.SpaceTimeLevyArea)
    terms = rungax.MultiTerm(rungax.ODETerm(field), rungax.ControlTerm(field, tree))
    assert {"jelincic2024", "foster2020"} <= set(cite(terms))


def test_an_unknown_argument_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="step_size"):
        rungax.citation(step_size=0.1)


@pytest.fixture
def rules() -> Iterator[list[Any]]:
    before = list(rungax.citation_rules)
    yield rungax.citation_rules
    rungax.citation_rules[:] = before


def test_parameter_names_choose_what_a_rule_gets(rules: list[Any], cite: Any) -> None:
    class Mine(eqx.Module):
        pass

    def of_pair(terms: Any, args: Any) -> Any:
        return ["@misc{mine,\n}", "@misc{yours,\n}"] if isinstance(args, Mine) else None

    rules += [of_pair, lambda throw, t0=None: "@misc{thrown,\n}" if t0 is None else "@misc{started,\n}"]
    assert cite(args=Mine()) == LIBRARIES
    assert cite(rungax.ODETerm(field), args=Mine()) == [*LIBRARIES, "mine", "yours"]
    assert cite(rungax.ODETerm(field), args=None, throw=False) == [*LIBRARIES, "thrown"]
    assert cite(t0=0.0, throw=False) == [*LIBRARIES, "started"]


def test_the_library_of_references_is_complete_and_used() -> None:
    used = {key for keys in SOURCES.values() for key in keys} | {*LIBRARIES, "pal2021"}
    assert used == set(REFERENCES)
    assert len(REFERENCES) == len(re.findall("^@", BIBTEX, flags=re.MULTILINE))
    for key, entry in REFERENCES.items():
        kind = entry[1 : entry.index("{")]
        needed = {"author", "title", "year"} | ({"journal", "volume"} if kind == "article" else set())
        fields = re.findall(r"^  (\w+) = \{", entry, flags=re.MULTILINE)
        assert needed <= set(fields), key
        assert len(fields) == len(set(fields)), key
        assert entry.count("{") == entry.count("}"), key
        assert entry.isascii(), key


def test_every_source_is_a_name_of_the_library() -> None:
    libraries = {"optimistix", "lineax"}
    assert [name for name in SOURCES if name not in libraries and not hasattr(rungax, name)] == []
