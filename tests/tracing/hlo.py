"""Reading compiled programs: which operations a loop's body holds, with everything it calls."""

import re
from collections.abc import Callable
from typing import Any

import jax

COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|\w*computations?)=\{?(%[\w.\-]+(?:, %[\w.\-]+)*)")
WHILE = re.compile(r"= .* while\(")
TARGET = re.compile(r'custom-call\S*\(.*custom_call_target="([^"]*)"')


OPTIMIZED = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
"""The compiler's defaults, which `tests/conftest.py` lowers for all other programs."""


def compiled(function: Callable[..., Any], *args: Any) -> jax.stages.Compiled:
    """The program of `function`, compiled as users compile it."""
    return jax.jit(function).lower(*args).compile(compiler_options=OPTIMIZED)


def compiled_text(function: Callable[..., Any], *args: Any) -> str:
    """The instructions of the compiled program of `function`."""
    return compiled(function, *args).as_text()


def computations(text: str) -> dict[str, list[str]]:
    """The instructions of every computation in a program."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if start := COMPUTATION.match(line):
            current = found[start[1]] = []
        elif line.startswith("  "):
            current.append(line)
    return found


def called(lines: list[str]) -> set[str]:
    """The computations that these instructions call."""
    return {name.strip("% ") for line in lines for match in CALLED.finditer(line) for name in match[1].split(",")}


def count_loops(text: str) -> int:
    return sum(WHILE.search(line) is not None for lines in computations(text).values() for line in lines)


def custom_calls_in_loops(text: str) -> set[str]:
    """The targets of all custom calls (library routines, host callbacks) in any loop's body or condition."""
    known = computations(text)
    loops = [line for lines in known.values() for line in lines if WHILE.search(line)]
    waiting = called(loops)
    seen: set[str] = set()
    targets: set[str] = set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        targets |= {match[1] for line in known[name] for match in [TARGET.search(line)] if match}
        waiting |= called(known[name]) - seen
    return targets
