"""A step after a jump is a step from the solver's restarted state: nothing of its earlier state counts any more."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import pytest

import rungax
from rungax import (
    AbstractTerm,
    Auto,
    Euler,
    HalfSolver,
    Heun,
    ImplicitEuler,
    KenCarp4,
    Kvaerno3,
    LeapfrogMidpoint,
    LocalLinearInterpolation,
    MultiTerm,
    ODETerm,
    ReversibleHeun,
    Rodas5P,
    Tsit5,
    VelocityVerlet,
)
from rungax.solvers.common.restart import after_jump

from ..catalogue import slow_unless
from ..compare import assert_trees_close
from ..steps import make_step

T0, T1 = jnp.asarray(0.5), jnp.asarray(0.75)
START, AFTER_JUMP = (
    (jnp.asarray([1.0, 0.3]), jnp.asarray([0.2, -0.7])),
    (jnp.asarray([0.4, 2.0]), jnp.asarray([1.0, 0.0])),
)


def field(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(lambda x: jnp.cos(t) * x - x * x, y)


ONE_TERM = ODETerm(field)
SOLVERS: dict[str, tuple[Any, Any]] = {
    "Tsit5": (Tsit5(), ONE_TERM),
    "Heun": (Heun(), ONE_TERM),
    "Kvaerno3": (Kvaerno3(), ONE_TERM),
    "KenCarp4": (KenCarp4(), MultiTerm(ONE_TERM, ONE_TERM)),
    "ReversibleHeun": (ReversibleHeun(), ONE_TERM),
    "LeapfrogMidpoint": (LeapfrogMidpoint(), ONE_TERM),
    "VelocityVerlet": (VelocityVerlet(), (ONE_TERM, ONE_TERM)),
    "HalfSolver": (HalfSolver(Tsit5()), ONE_TERM),
    "Auto": (Auto(Heun(), ImplicitEuler()), ONE_TERM),
}
each = pytest.mark.parametrize("case", [pytest.param(case, marks=slow_unless(case != "Auto")) for case in SOLVERS])
often = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=slow_unless(case not in ("Auto", "KenCarp4"))) for case in SOLVERS]
)


def parts(case: str, t0: Any, t1: Any, y0: Any, solver_state: Any, made_jump: Any) -> dict[str, Any]:
    step = make_step(*SOLVERS[case], t0, t1, y0, solver_state=solver_state, made_jump=made_jump)
    return {part: getattr(step, part) for part in ("y1", "y_error", "dense_info", "solver_state")}


@cache
def step(case: str) -> Callable[..., dict[str, Any]]:
    """One step, in one program for all times, states and jumps."""
    return jax.jit(partial(parts, case))


@cache
def states(case: str) -> dict[str, Any]:
    """States to make the step after the jump from: one that a restart changes, the restarted and the initial one."""
    solver, terms = SOLVERS[case]
    first = jax.jit(lambda: solver.init(terms, jnp.asarray(0.0), T0, START, None))()
    before = step(case)(jnp.asarray(0.0), T0, START, first, jnp.asarray(False))["solver_state"]

    @jax.jit
    def begun() -> tuple[Any, Any]:
        restarted = solver.restart(terms, T0, T1, AFTER_JUMP, None, before)
        return restarted, solver.init(terms, T0, T1, AFTER_JUMP, None)

    return dict(zip(("before", "restarted", "initial"), (before, *begun()), strict=True))


def from_state(case: str, state: str, made_jump: bool) -> dict[str, Any]:
    return step(case)(T0, T1, AFTER_JUMP, states(case)[state], jnp.asarray(made_jump))


@each
def test_a_step_after_a_jump_starts_from_the_restarted_state(case: str) -> None:
    found = from_state(case, "before", made_jump=True)
    assert_trees_close(found, from_state(case, "restarted", made_jump=False), rtol=1e-14, atol=1e-15)


@often
def test_a_step_after_a_jump_known_while_tracing_starts_from_the_restarted_state(case: str) -> None:
    found = jax.jit(partial(parts, case, made_jump=True))(T0, T1, AFTER_JUMP, states(case)["before"])
    assert_trees_close(found, from_state(case, "restarted", made_jump=False), rtol=1e-14, atol=1e-15)


@each
def test_the_solution_is_that_of_a_solve_which_starts_at_the_jump(case: str) -> None:
    found, expected = from_state(case, "before", made_jump=True), from_state(case, "initial", made_jump=False)
    assert_trees_close(found["y1"], expected["y1"], rtol=1e-5)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=slow_unless(case not in ("Auto", "KenCarp4", "Kvaerno3"))) for case in SOLVERS]
)
def test_each_element_of_a_batch_restarts_on_its_own(case: str) -> None:
    y1 = lambda made_jump: parts(case, T0, T1, AFTER_JUMP, states(case)["before"], made_jump)["y1"]
    found = jax.jit(jax.vmap(y1))(jnp.asarray([True, False]))
    alone = [from_state(case, "before", made_jump=flag)["y1"] for flag in (True, False)]
    assert_trees_close(found, jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone), rtol=1e-12)


class Counter(rungax.AbstractSolver[Any]):
    """Counts its steps since the start or the last jump."""

    term_structure: ClassVar[Any] = AbstractTerm
    interpolation_cls = LocalLinearInterpolation

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        return jnp.asarray(0)

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        count = after_jump(self, terms, t0, t1, y0, args, solver_state, made_jump)
        return y0, None, {"y0": y0, "y1": y0}, count + 1, rungax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)


def test_by_default_a_solver_restarts_as_it_starts() -> None:
    for made_jump, expected in ((False, 4), (True, 1), (jnp.asarray(False), 4), (jnp.asarray(True), 1)):
        step = make_step(Counter(), ONE_TERM, T0, T1, START, solver_state=jnp.asarray(3), made_jump=made_jump)
        assert int(step.solver_state) == expected


@pytest.mark.parametrize("solver", [Euler(), Heun(), Rodas5P()])
def test_a_solver_without_state_asks_nothing_of_a_jump(solver: Any) -> None:
    """The program has no more branches than the one for equations that never jump."""

    def branches(made_jump: Any) -> int:
        program = jax.make_jaxpr(lambda y: make_step(solver, ONE_TERM, T0, T1, y, made_jump=made_jump).y1)(START)
        return str(program).count("cond[")

    assert branches(jnp.asarray(True)) == branches(False)
