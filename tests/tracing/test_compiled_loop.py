"""No loop of a compiled solve holds a custom call or a host callback, which would slow every step down.

XLA compiles a loop of nothing but its own operations into one native function. The programs are those that are
representative of all others; planted violations show that the reading of programs finds what it should.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import slow_unless
from .hlo import compiled_text, count_loops, custom_calls_in_loops
from .solves import DAMPING, Y0, adaptive, counted_pendulum, solve

TS = np.linspace(0.0, 1.0, 100)


def final(y0: Any, **options: Any) -> Any:
    return solve(counted_pendulum(), y0, throw=False, **options).ys


def noisy(key: jax.Array, adaptive: bool = False) -> Any:
    """Euler–Maruyama with fixed steps, or SPaRK with error control, along a Brownian tree."""
    path = rungax.VirtualBrownianTree(0.0, 1.0, 1e-3, (), key, levy_area=rungax.SpaceTimeLevyArea)
    drift = rungax.ODETerm(lambda t, y, args: -y)
    terms = rungax.MultiTerm(drift, rungax.ControlTerm(lambda t, y, args: 0.5 * y, path))
    controller = rungax.PIDController(rtol=1e-3, atol=1e-3) if adaptive else rungax.ConstantStepSize()
    solver = rungax.SPaRK() if adaptive else rungax.Euler()
    y0 = jnp.array(1.0)
    return rungax.diffeqsolve(terms, solver, 0.0, 1.0, 0.01, y0, stepsize_controller=controller, throw=False).ys


STOCHASTIC = {
    "fixed": noisy,
    "fixed, vmap": jax.vmap(noisy),
    "adaptive": lambda key: noisy(key, adaptive=True),
}


@pytest.mark.parametrize(
    "program",
    [pytest.param(program, id=name, marks=slow_unless(name != "fixed")) for name, program in STOCHASTIC.items()],
)
def test_no_custom_call_in_the_loop_of_a_stochastic_solve(program: Callable[[Any], Any], request: Any) -> None:
    key = jax.random.key(0)
    text = compiled_text(program, jax.random.split(key, 3) if "vmap" in request.node.name else key)
    assert count_loops(text) >= 2
    assert custom_calls_in_loops(text) == set()


PROGRAMS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "adaptive, ts": (2, lambda y0: final(y0, saveat=rungax.SaveAt(ts=TS), **adaptive())),
    "fixed": (1, final),
    "adaptive, ts, vmap": (2, jax.vmap(lambda y0: final(y0, saveat=rungax.SaveAt(ts=TS), **adaptive()))),
    "adaptive, dense": (
        1,
        lambda y0: (
            solve(
                counted_pendulum(), y0, throw=False, max_steps=64, saveat=rungax.SaveAt(dense=True), **adaptive()
            ).interpolation
        ),
    ),
    "adaptive, steps": (1, lambda y0: final(y0, max_steps=64, saveat=rungax.SaveAt(steps=True), **adaptive())),
}


@pytest.mark.parametrize(("num_loops", "program"), PROGRAMS.values(), ids=PROGRAMS.keys())
def test_no_custom_call_in_a_loop(num_loops: int, program: Callable[[Any], Any], request: Any) -> None:
    y0 = np.stack([Y0] * 3) if "vmap" in request.node.name else Y0
    text = compiled_text(program, y0)
    assert count_loops(text) >= num_loops
    assert custom_calls_in_loops(text) == set()


def printing(t: Any, y: Any, args: Any) -> Any:
    jax.debug.print("{}", t)
    return -args * y


def branching(t: Any, y: Any, args: Any) -> Any:
    """A callback in a branch, that is in a computation which the loop's body only calls."""
    return jax.lax.cond(t > 0.5, lambda: printing(t, y, args), lambda: -args * y)


def factorising(t: Any, y: Any, args: Any) -> Any:
    return jnp.linalg.solve(jnp.eye(2) + t * jnp.ones((2, 2)), args * y)


@pytest.mark.parametrize(
    ("field", "target"),
    [(printing, "callback"), (branching, "callback"), (factorising, "lapack")],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_a_planted_custom_call_is_found(field: Callable[..., Any], target: str) -> None:
    text = compiled_text(lambda y0: solve(field, y0, DAMPING, solver=rungax.Euler(), throw=False).ys, Y0)
    assert any(target in name for name in custom_calls_in_loops(text))


def test_a_custom_call_outside_the_loop_is_not_found() -> None:
    text = compiled_text(lambda y0: final(jnp.linalg.solve(jnp.eye(2) + 1, y0), solver=rungax.Euler()), Y0)
    assert "lapack" in text
    assert custom_calls_in_loops(text) == set()
