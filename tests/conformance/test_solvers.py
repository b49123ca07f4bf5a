"""Every solver is the same under transformations, in both directions of time, in two parts, and in all modes."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import EVERY_SOLVER, IMPLICIT, LANGEVIN, SPLIT, STOCHASTIC, any_terms, name
from ..compare import assert_trees_close
from ..gradients.measure import assert_derivative, weigh
from ..problems.fields import ARGS
from .examples import solve, start_of

FAMILIES = (
    *("Euler", "Tsit5", "Vern7", "Kvaerno3", "KenCarp3", "Rodas4"),
    *("VelocityVerlet", "LeapfrogMidpoint", "ReversibleHeun", "HalfSolver", "EulerHeun", "SPaRK", "ALIGN"),
)
"""One solver of each kind; the others repeat them and are marked as slow."""

T0, T1 = 0.0, 1.0
TS = np.array([0.3, 0.8])


class Subject:
    """A solver on its example; its programs are compiled once."""

    def __init__(self, solver: rungax.AbstractSolver[Any]):
        self.solver = solver
        self.y0 = start_of(solver)
        # Newton's iteration stops at another rounding in another program.
        self.rtol = 1e-7 if solver in IMPLICIT + SPLIT else 1e-11

    def saved(self, y0: Any, args: Any, t0: Any, t1: Any) -> Any:
        """Values between steps and at the end."""
        ts = jnp.asarray(TS).astype(jnp.result_type(t0)) * (t1 - t0) + t0
        return solve(self.solver, y0, args, t0, t1, saveat=rungax.SaveAt(ts=ts, t1=True)).ys

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        return jax.jit(self.saved)

    @property
    def inputs(self) -> tuple[Any, Any, Any, Any]:
        return self.y0, ARGS, np.asarray(T0), np.asarray(T1)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(solver, id=name(solver), marks=[] if name(solver) in FAMILIES else [pytest.mark.slow])
        for solver in EVERY_SOLVER
    ],
)
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(request.param)


def test_jit_is_eager(subject: Subject) -> None:
    assert_trees_close(subject.saved(*subject.inputs), subject.compiled(*subject.inputs), rtol=subject.rtol)


def test_vmap_is_a_loop(subject: Subject) -> None:
    scale = np.array([0.5, 1.0])
    batch = jax.tree.map(lambda x: np.stack([s * x for s in scale]), subject.inputs[:2])
    together = jax.jit(jax.vmap(subject.saved, (0, 0, None, None)))(*batch, *subject.inputs[2:])
    for i in range(scale.size):
        y0, args = jax.tree.map(lambda x, i=i: x[i], batch)
        found = jax.tree.map(lambda x, i=i: x[i], together)
        assert_trees_close(found, subject.compiled(y0, args, *subject.inputs[2:]), rtol=subject.rtol, atol=1e-13)


def test_single_precision_is_kept(subject: Subject) -> None:
    single = jax.tree.map(lambda x: np.asarray(x, np.float32), subject.inputs)
    found = subject.compiled(*single)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found)} == {"float32"}
    if subject.solver not in STOCHASTIC + LANGEVIN:  # noise follows another path in another precision
        assert_trees_close(found, subject.compiled(*subject.inputs), rtol=1e-3, atol=1e-4, dtypes=False)


def test_there_and_back_again(subject: Subject) -> None:
    """Both ways the error is that of the method: the smaller, the higher its order."""
    y0, args, t0, t1 = subject.inputs
    last = lambda tree: jax.tree.map(lambda x: x[-1], tree)
    there = last(subject.compiled(y0, args, t0, t1))
    back = last(subject.compiled(there, args, t1, t0))
    assert max(np.abs(a - b).max() for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(y0), strict=True)) > 0.1
    assert_trees_close(
        back,
        jax.tree.map(jnp.asarray, y0),
        atol=0.15 if order_of(subject.solver) < 2 else 0.02 if order_of(subject.solver) < 3 else 1e-3,
    )


def order_of(solver: rungax.AbstractSolver[Any]) -> float:
    try:
        return solver.order(any_terms(solver)) or 1
    except ValueError:
        return 1


def test_a_continued_solve_is_the_whole(subject: Subject) -> None:
    """From half way on, with the states that the first half hands out."""
    y0, args, t0, t1 = subject.inputs
    everything = rungax.SaveAt(t1=True, solver_state=True, controller_state=True, made_jump=True)
    middle = 0.5 * (t0 + t1)

    @jax.jit
    def parts(y0: Any, args: Any) -> tuple[Any, Any]:
        whole = solve(subject.solver, y0, args, t0, t1, saveat=everything)
        first = solve(subject.solver, y0, args, t0, middle, steps=8, saveat=everything)
        states = {key: getattr(first, key) for key in ("solver_state", "controller_state", "made_jump")}
        y1 = jax.tree.map(lambda x: x[-1], first.ys)
        second = solve(subject.solver, y1, args, middle, t1, steps=8, saveat=everything, **states)
        return second.ys, whole.ys

    assert_trees_close(*parts(y0, args), rtol=subject.rtol)


def test_all_modes_of_differentiation_agree(subject: Subject) -> None:
    def loss(inputs: Any) -> jax.Array:
        return weigh(solve(subject.solver, *inputs, *subject.inputs[2:], saveat=rungax.SaveAt(t1=True)).ys)

    assert_derivative(loss, subject.inputs[:2], rtol=1e-6 if subject.rtol > 1e-10 else 1e-7)
