"""Every way of saving is the same under transformations, backwards in time, and when the solve is differentiated."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import SAVES, slow_unless, time_and_product
from ..compare import assert_trees_close
from ..problems.fields import ARGS
from .examples import START, driven

FRACTIONS = np.array([0.0, 0.13, 0.5, 0.77, 1.0])
"""Where in its interval a dense solution is evaluated."""
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


def seen_in_a_mirror(t: Any, y: Any, args: Any) -> Any:
    return -driven(-t, y, args)


def saved_in_a_mirror(t: Any, y: Any, args: Any) -> Any:
    return time_and_product(-t, y, args)


class Subject:
    """A way of saving, of a solve with fixed steps; its programs are compiled once."""

    def __init__(self, name: str):
        self.saveat = SAVES[name]

    def saved(self, t0: Any, t1: Any, y0: Any, mirror: bool = False) -> Any:
        """All that is saved, times apart; a dense solution is evaluated."""
        saveat = self.saveat(lambda fractions: t0 + (t1 - t0) * fractions)
        if mirror:
            is_sub = lambda x: isinstance(x, rungax.SubSaveAt)
            turned = lambda sub: (
                eqx.tree_at(lambda s: s.fn, sub, saved_in_a_mirror) if sub.fn is time_and_product else sub
            )
            saveat = eqx.tree_at(lambda s: s.subs, saveat, jax.tree.map(turned, saveat.subs, is_leaf=is_sub))
        field = seen_in_a_mirror if mirror else driven
        solution = rungax.diffeqsolve(
            field, rungax.Bosh3(), t0, t1, (t1 - t0) / 8, y0, ARGS, saveat=saveat, max_steps=8, throw=False
        )
        dense = None
        if solution.interpolation is not None:
            times = t0 + (t1 - t0) * FRACTIONS
            dense = jax.vmap(solution.evaluate)(times), jax.vmap(solution.evaluate)(times[:-1], times[1:])
        states = solution.solver_state, solution.controller_state, solution.made_jump
        return solution.ts, (solution.ys, dense, solution.internals), states, solution.stats["num_steps"]

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        return jax.jit(self.saved)


CONTAINED = ("t0", "t1", "ts", "steps", "every third step", "states")
"""Ways of saving that "fn" contains, or that `loop/test_saved_slots.py` and `loop/test_continued.py` have alone."""
OFTEN = tuple(name for name in SAVES if name not in CONTAINED)


@pytest.fixture(scope="module")
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(request.param)


def with_saves(often: tuple[str, ...]) -> pytest.MarkDecorator:
    """Every way of saving as the subject; those not named in `often` are slow."""
    saves = [pytest.param(name, marks=slow_unless(name in often)) for name in SAVES]
    return pytest.mark.parametrize("subject", saves, indirect=True, scope="module")


INPUTS = (np.asarray(0.0), np.asarray(1.0), START)


@with_saves(("fn",))
def test_jit_is_eager(subject: Subject) -> None:
    assert_trees_close(subject.saved(*INPUTS), subject.compiled(*INPUTS), **ROUNDING)


@with_saves(OFTEN)
def test_vmap_is_a_loop(subject: Subject) -> None:
    batch = np.array([0.0, 1.0, 0.5]), np.array([1.0, -0.5, 0.5]), np.stack([START, 2 * START, -START])
    together = jax.jit(jax.vmap(subject.saved))(*batch)
    for i in range(3):
        found = jax.tree.map(lambda x, i=i: x[i], together)
        assert_trees_close(found, subject.compiled(*(x[i] for x in batch)), **ROUNDING)


@with_saves(OFTEN)
def test_backwards_it_is_the_mirror_image(subject: Subject) -> None:
    """Values are the same, and times have the other sign; saved functions see the true time."""
    ts, values, _, steps = subject.compiled(np.asarray(1.5), np.asarray(-0.5), START)
    mirror = jax.jit(lambda *inputs: subject.saved(*inputs, mirror=True))(np.asarray(-1.5), np.asarray(0.5), START)
    assert_trees_close((values, steps), (mirror[1], mirror[3]), **ROUNDING)
    assert_trees_close(ts, jax.tree.map(lambda t: jnp.where(jnp.isinf(t), t, -t), mirror[0]), **ROUNDING)


@with_saves(OFTEN)
def test_differentiated_it_has_the_same_values(subject: Subject) -> None:
    """In reverse and in forward mode."""
    t0, t1, y0 = INPUTS

    @jax.jit
    def primals(y0: Any) -> tuple[Any, Any]:
        function = lambda y0: subject.saved(t0, t1, y0)
        return jax.vjp(function, y0)[0], jax.jvp(function, (y0,), (y0,))[0]

    for found in primals(y0):
        assert_trees_close(found, subject.compiled(*INPUTS), **ROUNDING)
