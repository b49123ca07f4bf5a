"""Print the oldest versions of the dependencies that pyproject.toml allows, one `name==version` a line, for pip.

    python scripts/oldest_versions.py [EXTRA ...]

The lines are the lower bounds of `dependencies` and of the optional dependencies named. `make test-oldest` installs
them as constraints.
"""

import pathlib
import re
import sys
import tomllib

PYPROJECT = pathlib.Path(__file__).resolve().parent.parent / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[^]]*\])?\s*(>=|==)\s*(?P<bound>[\w.]+)(\s*,.*)?")


def pin(requirement: str) -> str:
    """The requirement `name>=bound` as `name==bound`."""
    match = REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise SystemExit(f"{requirement!r} in {PYPROJECT.name} has no lower bound of the form name>=version")
    return f"{match['name']}=={match['bound']}"


def main(extras: list[str]) -> None:
    with PYPROJECT.open("rb") as file:
        project = tomllib.load(file)["project"]
    optional = project["optional-dependencies"]
    for requirement in (*project["dependencies"], *(line for extra in extras for line in optional[extra])):
        print(pin(requirement))


if __name__ == "__main__":
    main(sys.argv[1:])
