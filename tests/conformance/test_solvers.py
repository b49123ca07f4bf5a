"""Every solver is the same under transformations, in both directions of time, in two parts, and in all modes."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import EVERY_SOLVER, IMPLICIT, LANGEVIN, SPLIT, STOCHASTIC, any_terms, name, slow_unless
from ..compare import assert_trees_close
from ..gradients.measure import assert_derivative, weigh
from ..problems.fields import ARGS
from .examples import STEPS, solve, start_of

FAMILIES = (
    *("Euler", "Tsit5", "Kvaerno3", "KenCarp3", "Rodas4"),
    *("VelocityVerlet", "LeapfrogMidpoint", "ReversibleHeun", "HalfSolver", "SPaRK", "ALIGN"),
)
"""One solver of each kind; the others repeat them and are marked as slow."""
CHEAP = tuple(family for family in FAMILIES if family not in ("Kvaerno3", "KenCarp3", "SPaRK", "ALIGN"))
"""Without those that iterate or have noise, whose programs are large.

`gradients/` and `stochastic/` have batches of such solves, and compare derivatives with difference quotients.
"""
ROUNDED = tuple(family for family in FAMILIES if family not in ("Kvaerno3", "KenCarp3", "Rodas4", "HalfSolver"))
"""Without those for stiff equations, which `stiff/test_states.py` solves in single precision, and without a wrapper."""

T0, T1 = 0.0, 1.0
TS = np.array([0.3, 0.8])


class Subject:
    """A solver on its example; its programs are compiled once."""

    def __init__(self, solver: rungax.AbstractSolver[Any]):
        self.solver = solver
        self.y0 = start_of(solver)
        # Newton's iteration stops at another rounding in another program.
        self.rtol = 1e-7 if solver in IMPLICIT + SPLIT else 1e-11

    def solution(self, y0: Any, args: Any, t0: Any, t1: Any, **options: Any) -> Any:
        """Values between steps and at the end, and the states there."""
        ts = jnp.asarray(TS).astype(jnp.result_type(t0)) * (t1 - t0) + t0
        saveat = rungax.SaveAt(ts=ts, t1=True, solver_state=True, controller_state=True, made_jump=True)
        solution = solve(self.solver, y0, args, t0, t1, saveat=saveat, **options)
        return solution.ys, {key: getattr(solution, key) for key in ("solver_state", "controller_state", "made_jump")}

    def saved(self, y0: Any, args: Any, t0: Any, t1: Any) -> Any:
        return self.solution(y0, args, t0, t1)[0]

    @cached_property
    def compiled_solution(self) -> Callable[..., Any]:
        """With `dt0` as its last argument."""
        return jax.jit(lambda y0, args, t0, t1, dt0: self.solution(y0, args, t0, t1, dt0=dt0))

    def compiled(self, y0: Any, args: Any, t0: Any, t1: Any) -> Any:
        return self.compiled_solution(y0, args, t0, t1, (t1 - t0) / STEPS)[0]

    @property
    def inputs(self) -> tuple[Any, Any, Any, Any]:
        return self.y0, ARGS, np.asarray(T0), np.asarray(T1)


@pytest.fixture(scope="module")
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(request.param)


def with_solvers(often: tuple[str, ...]) -> pytest.MarkDecorator:
    """Every solver as the subject; those not named in `often` are slow."""
    solvers = [
        pytest.param(solver, id=name(solver), marks=slow_unless(name(solver) in often)) for solver in EVERY_SOLVER
    ]
    return pytest.mark.parametrize("subject", solvers, indirect=True, scope="module")


@with_solvers(("Tsit5", "Rodas4", "VelocityVerlet"))
def test_jit_is_eager(subject: Subject) -> None:
    assert_trees_close(subject.saved(*subject.inputs), subject.compiled(*subject.inputs), rtol=subject.rtol)


@with_solvers(CHEAP)
def test_vmap_is_a_loop(subject: Subject) -> None:
    scale = np.array([0.5, 1.0])
    batch = jax.tree.map(lambda x: np.stack([s * x for s in scale]), subject.inputs[:2])
    together = jax.jit(jax.vmap(subject.saved, (0, 0, None, None)))(*batch, *subject.inputs[2:])
    for i in range(scale.size):
        y0, args = jax.tree.map(lambda x, i=i: x[i], batch)
        found = jax.tree.map(lambda x, i=i: x[i], together)
        assert_trees_close(found, subject.compiled(y0, args, *subject.inputs[2:]), rtol=subject.rtol, atol=1e-13)


@with_solvers(ROUNDED)
def test_single_precision_is_kept(subject: Subject) -> None:
    single = jax.tree.map(lambda x: np.asarray(x, np.float32), subject.inputs)
    noisy = subject.solver in STOCHASTIC + LANGEVIN  # then the path is another one in another precision
    found = jax.eval_shape(subject.saved, *single) if noisy else subject.compiled(*single)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found)} == {"float32"}
    if not noisy:
        assert_trees_close(found, subject.compiled(*subject.inputs), rtol=1e-3, atol=1e-4, dtypes=False)


@with_solvers(FAMILIES)
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
        atol={1: 0.15, 2: 0.02}.get(int(order_of(subject.solver)), 1e-3),
    )


def order_of(solver: rungax.AbstractSolver[Any]) -> float:
    try:
        return solver.order(any_terms(solver)) or 1
    except ValueError:
        return 1


@with_solvers(FAMILIES)
def test_a_continued_solve_is_the_whole(subject: Subject) -> None:
    """From half way on, with the states that the first half hands out."""
    y0, args, t0, t1 = subject.inputs
    middle, dt0 = 0.5 * (t0 + t1), (t1 - t0) / STEPS
    whole, _ = subject.compiled_solution(y0, args, t0, t1, dt0)
    first, states = subject.compiled_solution(y0, args, t0, middle, dt0)

    @jax.jit
    def rest(y0: Any, args: Any, states: Any) -> Any:
        return solve(subject.solver, y0, args, middle, t1, dt0=dt0, saveat=rungax.SaveAt(t1=True), **states).ys

    last = lambda tree: jax.tree.map(lambda x: x[-1:], tree)
    found = rest(jax.tree.map(lambda x: x[-1], first), args, states)
    assert_trees_close(found, last(whole), rtol=subject.rtol)


@with_solvers(CHEAP)
def test_all_modes_of_differentiation_agree(subject: Subject) -> None:
    def loss(inputs: Any) -> jax.Array:
        return weigh(solve(subject.solver, *inputs, *subject.inputs[2:], saveat=rungax.SaveAt(t1=True)).ys)

    assert_derivative(loss, subject.inputs[:2], rtol=1e-6 if subject.rtol > 1e-10 else 1e-7)
