"""Imports point downwards only; private and version-dependent JAX lives in `jaxkit` alone.

Everything is read from the source with `ast`, imports inside functions and under `TYPE_CHECKING` included. The checks
are functions of a module's name and text, so that planted violations can show that they see what they should.
"""

import ast
import pathlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

PACKAGE = "rungax"
SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src" / PACKAGE

# A part (a module or a folder of the package) imports from later lines only, and from itself.
LAYERS = (
    ("derivative_error", "initial_values"),
    ("solve",),
    ("report",),
    ("resolve",),
    ("checks", "solution"),
    ("call", "deprecated"),
    ("adjoints",),
    ("loop", "setup"),
    ("solvers", "controllers", "saving", "events", "progress"),
    ("plan",),
    ("step",),
    ("terms", "nonlinear", "interpolation"),
    ("brownian",),
    ("paths",),
    ("stops", "sparsity"),
    ("results",),
    ("jaxkit",),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

# These import whatever they like, and nobody imports them.
UNRESTRICTED = ("__init__", "citation")

# JAX that is private, or changes without a deprecation period. So is every name with an underscore of any third party.
VERSION_DEPENDENT = ("jax._src", "jax.interpreters", "jax.extend", "jax.core")
ONLY_HOME = "jaxkit"


class Module(NamedTuple):
    name: str  # dotted, from the package on
    is_package: bool
    text: str

    @property
    def part(self) -> str:
        return part_of(self.name)


class Reference(NamedTuple):
    line: int
    name: str  # dotted and absolute


def part_of(name: str) -> str:
    """The part of the package that `name` belongs to; names of the package itself belong to `__init__`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (*LEVEL, *UNRESTRICTED) else "__init__"


def modules() -> list[Module]:
    found: list[Module] = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found.append(Module(name, is_package, path.read_text(encoding="utf-8")))
    return found


def absolute(module: Module, node: ast.ImportFrom) -> str:
    """What a `from ... import` imports from, as an absolute dotted name."""
    if node.level == 0:
        return node.module or ""
    package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    package = package[: len(package) - (node.level - 1)]
    return ".".join([*package, node.module] if node.module else package)


def imports(module: Module) -> Iterator[tuple[Reference, str]]:
    """Every name that is imported, with the local name by which the module then calls it (the root, if dotted)."""
    for node in ast.walk(ast.parse(module.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Reference(node.lineno, alias.name), alias.asname or alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            for alias in node.names:
                yield Reference(node.lineno, f"{base}.{alias.name}"), alias.asname or alias.name


def attributes(module: Module) -> Iterator[Reference]:
    """Every dotted use of an imported name, such as `jax.core.Tracer`, by the name it has where it is defined."""
    bound = {
        local: reference.name if reference.name.split(".")[0] != local else local
        for reference, local in imports(module)
    }
    for node in ast.walk(ast.parse(module.text)):
        chain: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            chain.insert(0, inner.attr)
            inner = inner.value
        if chain and isinstance(inner, ast.Name) and inner.id in bound:
            yield Reference(inner.lineno, ".".join([bound[inner.id], *chain]))


def upward_imports(module: Module) -> list[str]:
    if module.part in UNRESTRICTED:
        return []
    violations: list[str] = []
    for (line, name), _ in imports(module):
        target = part_of(name)
        if name.split(".")[0] != PACKAGE or target == module.part:
            continue
        if target in UNRESTRICTED or LEVEL[target] <= LEVEL[module.part]:
            violations.append(f"{module.name}:{line}: {module.part!r} must not import {target!r} ({name})")
    return violations


def is_version_dependent(name: str) -> bool:
    root, *rest = name.split(".")
    if root == PACKAGE or root in sys.stdlib_module_names:
        return False
    private = any(part.startswith("_") and not part.endswith("__") for part in rest)
    return private or any(f"{name}.".startswith(f"{prefix}.") for prefix in VERSION_DEPENDENT)


def version_dependent_uses(module: Module) -> list[str]:
    if module.part == ONLY_HOME:
        return []
    references = {reference for reference, _ in imports(module)} | set(attributes(module))
    return [
        f"{module.name}:{line}: {name} belongs in {PACKAGE}.{ONLY_HOME}"
        for line, name in sorted(references)
        if is_version_dependent(name)
    ]


def test_imports_point_downwards() -> None:
    assert [violation for module in modules() for violation in upward_imports(module)] == []


def test_version_dependent_jax_is_only_in_jaxkit() -> None:
    assert [violation for module in modules() for violation in version_dependent_uses(module)] == []


def test_every_part_of_the_package_has_a_layer() -> None:
    parts = {path.stem for path in SOURCE.glob("*.py")} | {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert parts, f"no modules in {SOURCE}"
    assert parts <= {*LEVEL, *UNRESTRICTED}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rungax.loop", "from .solve import diffeqsolve"),
        ("rungax.loop", "from rungax.adjoints.base import AbstractAdjoint"),
        ("rungax.loop", "import rungax.checks as checks"),
        ("rungax.loop", "from . import solve"),
        ("rungax.loop", "from . import Tsit5"),
        ("rungax.loop", "import rungax"),
        ("rungax.loop", "from .citation import citation"),
        ("rungax.solvers.base", "from ..saving.times import save_times"),
        ("rungax.solvers.base", "from .. import controllers"),
        ("rungax.solvers.tableaus.tsit5", "from ...events import locate"),
        ("rungax.step", "def late():\n    from .solvers import AbstractSolver"),
        ("rungax.step", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .loop import integrate"),
        ("rungax.jaxkit.loops", "from ..results import RESULTS"),
        ("rungax.checks", "from .solution import Solution"),
    ],
)
def test_a_planted_upward_import_is_caught(name: str, text: str) -> None:
    assert len(upward_imports(Module(name, False, text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "from jax._src import core",
        "import jax._src.core",
        "import jax.extend as jex",
        "from jax import core",
        "from jax.interpreters import batching",
        "from jax.extend.core import Primitive",
        "from equinox._module import Module",
        "from optimistix import _misc",
        "import jax\nx = jax.core.Tracer",
        "import jax\nx = jax.interpreters.ad.Zero(1)",
        "import jax.numpy as jnp\nx = jnp._private",
        "from jax import lax\ndef f():\n    return lax._while(1)",
    ],
)
def test_planted_version_dependent_jax_is_caught(text: str) -> None:
    assert version_dependent_uses(Module("rungax.loop", False, text)) != []
    assert version_dependent_uses(Module("rungax.jaxkit.loops", False, text)) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (("rungax.solve", False), "from .loop import integrate\nfrom rungax.jaxkit import any_element"),
        (("rungax.solvers", True), "from .base import AbstractSolver\nfrom . import tableau\nfrom ..step import Step"),
        (
            ("rungax.solvers.tableaus.tsit5", False),
            "from .types.butcher import ButcherTableau\nfrom ...paths import base",
        ),
        (("rungax", True), "from .solve import diffeqsolve\nfrom .citation import citation\nfrom . import solvers"),
        (("rungax.citation", False), "from . import solve\nimport rungax"),
        (("rungax.loop", False), "import sys\nimport jax\nx = jax.lax.cond, jax.__version__, sys._getframe"),
        (("rungax.loop", False), "from .jaxkit import _own\nimport jax\nx = jax.numpy.array(1), _own._helper"),
    ],
)
def test_legal_imports_pass(module: tuple[str, bool], text: str) -> None:
    planted = Module(*module, text)
    violations = [*upward_imports(planted), *version_dependent_uses(planted)]
    assert violations == []
