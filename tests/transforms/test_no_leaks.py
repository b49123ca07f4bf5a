"""`jax.checking_leaks()` passes: no rule of a derivative holds traced values of a trace that is over."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx
import pytest

import rungax

from ..catalogue import slow_unless

ADJOINTS: dict[str, tuple[rungax.AbstractAdjoint, tuple[str, ...]]] = {
    "default": (rungax.RecursiveCheckpointAdjoint(), ("grad", "jacfwd", "vmap")),
    "direct": (rungax.DirectAdjoint(), ("grad", "jacfwd")),
    "forward": (rungax.ForwardMode(), ("jacfwd",)),
    "reversible": (rungax.ReversibleAdjoint(), ("grad", "jacfwd")),
    "backsolve": (rungax.BacksolveAdjoint(), ("grad",)),
}
"""All but `ImplicitAdjoint`: the linear solve of Lineax holds traced values itself."""
MODES: dict[str, Callable[..., Any]] = {"grad": jax.grad, "jacfwd": jax.jacfwd, "vmap": jax.vmap}


def end(rate: Any, adjoint: Any, terms: Any = None, solver: Any = None, **options: Any) -> jax.Array:
    """The state at the end of a solve whose field captures `rate`."""
    settings: dict[str, Any] = {"max_steps": 16, "dt0": 0.25, **options}
    terms = rungax.ODETerm(lambda t, y, args: -rate * y) if terms is None else terms
    solver = rungax.Heun() if solver is None else solver
    return jnp.sum(rungax.diffeqsolve(terms, solver, 0.0, 1.0, y0=jnp.ones(2), adjoint=adjoint, **settings).ys)


def with_noise(rate: Any, adjoint: Any) -> jax.Array:
    path = rungax.VirtualBrownianTree(0.0, 1.0, 0.05, (), jax.random.key(0))
    drift = rungax.ODETerm(lambda t, y, args: -rate * y)
    return end(rate, adjoint, rungax.MultiTerm(drift, rungax.ControlTerm(lambda t, y, args: 0.1 + 0 * y, path)))


def with_event(rate: Any, adjoint: Any) -> jax.Array:
    condition = lambda t, y, args, **kwargs: y[0] - 0.7 * rate
    return end(rate, adjoint, event=rungax.Event(condition, optx.Newton(1e-8, 1e-8)))


KINDS: dict[str, Callable[[Any, Any], jax.Array]] = {
    "closure": end,
    "noise": with_noise,
    "event": with_event,
    "implicit stages": lambda rate, adjoint: end(rate, adjoint, solver=rungax.Kvaerno3()),
    "a large bound": lambda rate, adjoint: end(rate, adjoint, max_steps=10**8),
}
REFUSED = {
    ("event", "backsolve"),
    ("a large bound", "direct"),
    ("implicit stages", "reversible"),
}
OFTEN = {("closure", "default", "grad"), ("closure", "direct", "grad"), ("noise", "default", "jacfwd")}


@pytest.fixture
def _few_objects() -> Iterator[None]:
    """Leaks are looked for among all objects, after each trace: those that are there before do not count."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_few_objects")
@pytest.mark.parametrize(
    ("kind", "name", "mode"),
    [
        pytest.param(kind, name, mode, marks=slow_unless((kind, name, mode) in OFTEN))
        for kind in KINDS
        for name, (_, modes) in ADJOINTS.items()
        for mode in modes
        if (kind, name) not in REFUSED
    ],
)
def test_no_traced_value_outlives_its_trace(kind: str, name: str, mode: str) -> None:
    function = MODES[mode](lambda rate: KINDS[kind](rate, ADJOINTS[name][0]))
    with jax.checking_leaks():
        jax.jit(function)(jnp.ones(2) if mode == "vmap" else jnp.asarray(1.0))
