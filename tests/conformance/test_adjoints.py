"""Every adjoint agrees with the default, and is the same under transformations and backwards in time."""

from collections.abc import Callable, Collection
from functools import cache, cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import ADJOINTS, slow_unless
from ..compare import assert_trees_close
from ..gradients.measure import weigh

FORWARD_ONLY = ("ForwardMode",)
REVERSE_ONLY = ("BacksolveAdjoint",)

RATES = {"rate": np.asarray(1.3), "level": np.asarray(0.7)}
START = np.asarray([1.0, 0.5])


def relaxing(t: Any, y: Any, args: Any) -> Any:
    """Tends to a steady state, which depends on both parameters."""
    return args["rate"] * (args["level"] - y) - 0.2 * y**3


def relaxing_backwards(t: Any, y: Any, args: Any) -> Any:
    return -relaxing(-t, y, args)


class Subject:
    """An adjoint on an equation that comes to rest; its programs are compiled once."""

    def __init__(self, name: str):
        self.name, self.adjoint = name, ADJOINTS[name]
        # The derivative of a steady state is that of the end of a long solve.
        self.t1 = 20.0 if name == "ImplicitAdjoint" else 2.0

    def loss(self, y0: Any, args: Any, direction: float = 1.0) -> jax.Array:
        field = relaxing if direction > 0 else relaxing_backwards
        t1 = direction * self.t1
        solution = rungax.diffeqsolve(
            field, rungax.RK4(), 0.0, t1, t1 / 64, y0, args, adjoint=self.adjoint, max_steps=64, throw=False
        )
        return weigh(solution.ys)

    def derivative(self, y0: Any, args: Any, direction: float = 1.0) -> Any:
        """By the mode that the adjoint has."""
        mode = jax.jacfwd if self.name in FORWARD_ONLY else jax.grad
        return mode(self.loss, argnums=(0, 1))(y0, args, direction)

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        return jax.jit(self.derivative)


@cache
def by_default(t1: float) -> tuple[Any, Any]:
    """Value and derivative by the default adjoint, of a solve until `t1`."""
    subject = Subject("RecursiveCheckpointAdjoint")
    subject.t1 = t1
    return jax.jit(jax.value_and_grad(subject.loss, argnums=(0, 1)))(START, RATES)


@pytest.fixture(scope="module")
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(request.param)


def with_adjoints(often: Collection[str]) -> pytest.MarkDecorator:
    """Every adjoint as the subject; those not named in `often` are slow."""
    adjoints = [pytest.param(name, marks=slow_unless(name in often)) for name in ADJOINTS]
    return pytest.mark.parametrize("subject", adjoints, indirect=True, scope="module")


OWN_LOOPS = ("RecursiveCheckpointAdjoint", "BacksolveAdjoint", "ReversibleAdjoint")
"""Adjoints with a backward loop of their own; JAX differentiates the loop of the others, or of one step."""


@with_adjoints(ADJOINTS)
def test_a_derivative_is_that_of_the_default(subject: Subject) -> None:
    _, expected = by_default(subject.t1)
    assert_trees_close(subject.compiled(START, RATES), expected, rtol=1e-3, atol=1e-6)


@with_adjoints(ADJOINTS)
def test_the_value_does_not_depend_on_the_adjoint(subject: Subject) -> None:
    value = jax.jit(subject.loss)(START, RATES)
    # The reversible adjoint makes a method of its own.
    rtol = 1e-5 if subject.name == "ReversibleAdjoint" else 1e-13
    np.testing.assert_allclose(value, by_default(subject.t1)[0], rtol=rtol)


@with_adjoints(("RecursiveCheckpointAdjoint", "ForwardMode"))
def test_jit_is_eager(subject: Subject) -> None:
    assert_trees_close(subject.derivative(START, RATES), subject.compiled(START, RATES), rtol=1e-10, atol=1e-13)


@with_adjoints((*OWN_LOOPS, "ImplicitAdjoint"))
def test_vmap_is_a_loop(subject: Subject) -> None:
    scale = np.asarray([0.5, 1.0, 2.0])
    batch = np.stack([s * START for s in scale]), jax.tree.map(lambda x: x * scale, RATES)
    together = jax.jit(jax.vmap(subject.derivative))(*batch)
    for i in range(scale.size):
        y0, args = jax.tree.map(lambda x, i=i: x[i], batch)
        found = jax.tree.map(lambda x, i=i: x[i], together)
        assert_trees_close(found, subject.compiled(y0, args), rtol=1e-9, atol=1e-12)


@with_adjoints((*OWN_LOOPS, "ForwardMode"))
def test_backwards_it_is_the_mirror_image(subject: Subject) -> None:
    """From 0 backwards with the mirrored field."""
    found = jax.jit(lambda y0, args: subject.derivative(y0, args, -1.0))(START, RATES)
    assert_trees_close(found, subject.compiled(START, RATES), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", [*FORWARD_ONLY, *REVERSE_ONLY])
def test_a_mode_that_an_adjoint_has_not_is_refused(name: str) -> None:
    mode = jax.grad if name in FORWARD_ONLY else jax.jacfwd
    with pytest.raises(ValueError, match=f"`{name}`"):
        mode(Subject(name).loss)(START, RATES)


def test_the_derivative_is_a_difference_quotient() -> None:
    subject, h = Subject("RecursiveCheckpointAdjoint"), 1e-5
    expected = subject.compiled(START, RATES)
    loss = jax.jit(subject.loss)
    for name in RATES:
        up, down = (loss(START, {**RATES, name: RATES[name] + s * h}) for s in (1, -1))
        np.testing.assert_allclose(expected[1][name], (up - down) / (2 * h), rtol=1e-5)
    assert jnp.abs(expected[1]["rate"]) > 1e-3
