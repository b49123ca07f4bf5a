"""The manual answers what people look for, quotes messages that exist, and calls unsupported what is refused."""

import ast
import functools
import inspect
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax
import pytest

import rungax

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

ANSWERS = {
    "recompile": "troubleshooting.md",
    "FAQ": "troubleshooting.md",
    "callback": "troubleshooting.md",
    "delay": "limits.md",
    "DAE": "how_to/dae.md",
    "mass matrix": "how_to/dae.md",
    "constraint": "how_to/dae.md",
    "Kalman": "limits.md",
    "LSODA": "how_to/from_scipy.md",
    "odeint": "how_to/from_scipy.md",
    "PDE": "how_to/pde.md",
    "forcing": "how_to/forcing.md",
    "NumPyro": "how_to/bayes.md",
    "BlackJAX": "how_to/bayes.md",
    "Bayesian": "how_to/bayes.md",
    "plot": "how_to/saving.md",
    "citation": "how_to/citing.md",
}
"""The words that people search for, and the page that answers each."""


def words_of(page: str) -> str:
    """The text of a page without its code, which the search shows less prominently."""
    return re.sub(r"^ *```.*?^ *```$", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("word", ANSWERS)
def test_the_search_finds_a_page(word: str) -> None:
    assert re.search(rf"\b{word}", words_of(ANSWERS[word]), re.IGNORECASE)


LINK = re.compile(r"\]\((?!\w+:)([\w./-]+)[^)\s]*\)")
PAGES = [str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_of_the_repository(page: str) -> None:
    """Also those to examples and notebooks, of which the build of the manual makes pages."""
    path = ROOT / page
    links = LINK.findall(re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL))
    assert [link for link in links if not (path.parent / link).exists()] == []


# ----------------------------------------------------------------------------------------------------- troubleshooting

TROUBLESHOOTING = words_of("troubleshooting.md")


def test_every_result_is_explained() -> None:
    listed = (inspect.getdoc(rungax.RESULTS) or "").partition("\nAttributes\n")[2].partition("\nRaises\n")[0]
    names = {name for line in re.findall(r"^[a-z].*$", listed, re.MULTILINE) for name in line.split(", ")}
    assert len(names) > 15
    headings = " ".join(re.findall(r"^### (.*)$", TROUBLESHOOTING, re.MULTILINE))
    results = TROUBLESHOOTING.partition("\n## Results")[2].partition("\n## ")[0]
    others = {"successful", "singular", "breakdown", "stagnation", "conlim", "nonfinite_input"}
    assert {name for name in names if f"`{name}`" not in headings} <= others
    assert {name for name in names if f"`{name}`" not in results} == {"successful"}


@functools.cache
def strings() -> str:
    """All strings in the package's source, those of f-strings with `{}` for each value, and none of docstrings."""
    found: list[str] = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(x.value) if isinstance(x, ast.Constant) else "{}" for x in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
                found.append(node.value)
    return "\n".join(found)


MESSAGES = re.findall(
    r"^\| (.*?) \|", TROUBLESHOOTING.partition("\n## Other messages")[2].partition("\nThree errors")[0], re.MULTILINE
)[2:]


def test_messages_are_listed() -> None:
    assert len(MESSAGES) > 20


@pytest.mark.parametrize("message", MESSAGES)
def test_a_listed_message_is_raised(message: str) -> None:
    assert message in strings()


# -------------------------------------------------------------------------------------------------------------- limits


def solve(terms: Any = lambda t, y, args: -y, solver: Any = None, y0: Any = 1.0, **options: Any) -> Any:
    given: dict[str, Any] = {"t0": 0.0, "t1": 1.0, "dt0": 0.1, **options}
    return rungax.diffeqsolve(terms, solver or rungax.Tsit5(), y0=y0, **given)


def path(cls: Any = rungax.VirtualBrownianTree, shape: tuple[int, ...] = ()) -> Any:
    if cls is rungax.UnsafeBrownianPath:
        return cls(shape, jax.random.key(0), levy_area=rungax.SpaceTimeLevyArea)
    return cls(0.0, 1.0, 1e-2, shape, jax.random.key(0), levy_area=rungax.SpaceTimeLevyArea)


def noisy(path: Any, field: Any = lambda t, y, args: y) -> Any:
    return rungax.MultiTerm(rungax.ODETerm(lambda t, y, args: -y), rungax.ControlTerm(field, path))


ADAPTIVE: dict[str, Any] = {"stepsize_controller": rungax.PIDController(rtol=1e-3, atol=1e-3)}
EVENT = rungax.Event(lambda t, y, args, **kwargs: y - 0.5, effect=lambda t, y, args: y + 1)

REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "history": (lambda: solve(lambda t, y, args, history: -y), ValueError, "What else it needs belongs in `args`"),
    "shape of the slope": (lambda: solve(lambda t, y, args: jnp.stack([y, y])), ValueError, "The shape of"),
    "shape after an effect": (
        lambda: solve(event=rungax.Event(lambda t, y, args, **kwargs: y - 0.5, effect=lambda t, y, args: (y, y))),
        ValueError,
        "must return a state like `y`",
    ),
    "general noise": (
        lambda: solve(noisy(path(shape=(2,)), lambda t, y, args: jnp.ones((2, 2))), rungax.SRIW1(), jnp.ones(2)),
        ValueError,
        "diagonal noise",
    ),
    "automatic choice with noise": (
        lambda: rungax.diffeqsolve(noisy(path()), None, 0.0, 1.0, 0.1, 1.0),
        ValueError,
        "without noise",
    ),
    "adaptive steps along an unsafe path": (
        lambda: solve(noisy(path(rungax.UnsafeBrownianPath)), rungax.Heun(), **ADAPTIVE),
        ValueError,
        "draws anew",
    ),
    "iterative solver with a Jacobian": (
        lambda: solve(
            rungax.ODETerm(lambda t, y, args: -y, jacobian=lambda t, y, args: -jnp.eye(2)),
            rungax.Rodas5P(linear_solver=lineax.GMRES(1e-8, 1e-8)),
            jnp.ones(2),
        ),
        ValueError,
        "Expected: no `jacobian`",
    ),
    "second derivatives without a bound": (
        lambda: jax.eval_shape(jax.hessian(lambda y0: solve(y0=y0, max_steps=None).ys[-1]), 1.0),
        ValueError,
        "needs a bound",
    ),
    "effects in a reversible solve": (
        lambda: solve(event=EVENT, adjoint=rungax.ReversibleAdjoint()),
        NotImplementedError,
        "cannot undo",
    ),
    "events with a backward solve": (
        lambda: jax.grad(lambda y0: solve(y0=y0, event=EVENT, adjoint=rungax.BacksolveAdjoint()).ys[-1])(1.0),
        NotImplementedError,
        "does not find events",
    ),
}
"""The limits that `docs/limits.md` says raise an error: how each is met, and the error."""


@pytest.mark.parametrize("limit", REFUSED)
def test_what_is_called_unsupported_is_refused(limit: str) -> None:
    act, error, message = REFUSED[limit]
    with pytest.raises(error, match=re.escape(message)):
        act()


def test_implicit_methods_warn_of_noise() -> None:
    with pytest.warns(UserWarning, match="its limit with noise is not known"):
        jax.eval_shape(lambda y0: solve(noisy(path()), rungax.ImplicitEuler(), y0).ys, 1.0)


@pytest.mark.parametrize("name", ["LSODA", "Radau", "Adams", "JumpTerm", "DelayTerm", "MassTerm"])
def test_what_is_called_missing_is_missing(name: str) -> None:
    assert not hasattr(rungax, name)
