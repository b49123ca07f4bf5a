"""Any two of solver, output, controller, state and transform work together: values agree with exact solutions."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import CONTROLLERS, SOLVERS, estimates_error, name, order, slow_unless, terms_for
from ..problems.base import Problem
from ..problems.ordinary import BELL, COMPLEX_OSCILLATOR, OSCILLATOR, SPRING
from .pairs import Combination, pairwise

ENDS = (1.0, 0.5)
"""The end of the interval: the first, and under `vmap` both."""
FRACTIONS = np.array([0.0, 0.3, 0.3, 0.85, 1.0])

BY_NAME = {name(solver): solver for solver in SOLVERS}
STATES = {"pytree": SPRING, "complex": COMPLEX_OSCILLATOR, "float32": OSCILLATOR, "scalar": BELL}


def doubled(t: Any, y: Any, args: Any) -> Any:
    return {"time": t, "doubled": jax.tree.map(lambda leaf: leaf + leaf, y)}


@dataclass(frozen=True)
class Output:
    """What is asked for of one `SubSaveAt`, and how many slots that fills for so many steps."""

    t0: bool = False
    t1: bool = False
    ts: bool = False
    steps: int = 0
    double: bool = False

    def sub(self, ts: Any) -> rungax.SubSaveAt:
        fn = doubled if self.double else rungax.save_y
        return rungax.SubSaveAt(t0=self.t0, t1=self.t1, ts=ts if self.ts else None, steps=self.steps, fn=fn)

    def times(self, steps: np.ndarray, t1: float) -> np.ndarray:
        """The times that are saved if the steps end at `steps`."""
        saved = steps[self.steps - 1 :: self.steps] if self.steps else steps[:0]
        last_is_saved = saved.size > 0 and saved[-1] == steps[-1]
        ends = [0.0] * self.t0, [t1] * (self.t1 and not last_is_saved)
        # A requested time comes before the step that ends there.
        inside = np.concatenate([FRACTIONS * t1 if self.ts else FRACTIONS[:0], saved])
        return np.concatenate([ends[0], np.sort(inside), ends[1]])


# The first entry of each reports the steps, from which the others are judged.
STEPS = Output(steps=1)
OUTPUTS = {
    "ends": (Output(t0=True, t1=True),),
    "ts": (Output(ts=True),),
    "every step": (Output(t0=True, steps=1),),
    "every third step": (Output(steps=3, t1=True),),
    "fn": (Output(t0=True, t1=True, ts=True, double=True),),
    "several": (Output(ts=True, steps=2), Output(t1=True, double=True)),
    "dense": (),
    "dense and ts": (Output(ts=True, t1=True),),
}

FACTORS = {
    "solver": list(BY_NAME),
    "output": list(OUTPUTS),
    "controller": list(CONTROLLERS),
    "state": list(STATES),
    "transform": ["eager", "jit", "vmap"],
}
FEW = FACTORS | {
    "solver": ["Euler", "Bosh3", "Vern7", "Kvaerno3", "KenCarp3"],
    "output": ["every third step", "fn", "dense and ts"],
    "controller": ["constant", "StepTo", "PID, dt0=None", "PID, clipped"],
}
"""A solver of each kind and, of outputs and controllers, those that make use of every option once."""


def possible(solver: str, controller: str, **others: str) -> bool:
    return estimates_error(BY_NAME[solver]) or not controller.startswith("PID")


@jax.jit
def evaluate(solution: rungax.Solution, times: Any) -> Any:
    return jax.vmap(solution.evaluate)(times)


def solve(t1: Any, combination: Combination) -> tuple[Any, Any, Any]:
    """Saved times and values, and dense values, for an interval from 0 to `t1`."""
    solver, output, controller, state, _ = combination
    problem = STATES[state]
    t1 = jnp.asarray(t1, "float32" if state == "float32" else "float64")
    fractions = jnp.asarray(FRACTIONS, t1.dtype)
    stepsize_controller, dt0 = CONTROLLERS[controller](jnp.zeros_like(t1), t1)
    dense = output.startswith("dense")
    solution = rungax.diffeqsolve(
        terms_for(BY_NAME[solver], problem.field),
        BY_NAME[solver],
        jnp.zeros_like(t1),
        t1,
        dt0,
        start(problem, state),
        problem.args,
        saveat=rungax.SaveAt(subs=[o.sub(fractions * t1) for o in (STEPS, *OUTPUTS[output])], dense=dense),
        stepsize_controller=stepsize_controller,
        max_steps=64 if order(BY_NAME[solver]) > 3 else 2048,
    )
    return solution.ts, solution.ys, evaluate(solution, fractions * t1) if dense else None


def start(problem: Problem, state: str) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype("float32"), problem.y0) if state == "float32" else problem.y0


def run(combination: Combination) -> list[tuple[float, Any]]:
    """Ends and what the solves that go there return."""
    transform = combination[-1]
    if transform == "vmap":
        together = jax.jit(jax.vmap(lambda t1: solve(t1, combination)))(jnp.asarray(ENDS))
        return [(t1, jax.tree.map(lambda leaf, i=i: leaf[i], together)) for i, t1 in enumerate(ENDS)]
    if transform == "jit":
        return [(ENDS[0], jax.jit(lambda t1: solve(t1, combination))(ENDS[0]))]
    return [(ENDS[0], solve(ENDS[0], combination))]


def tolerance(combination: Combination) -> float:
    """Sixteen steps on problems with frequency 2, or a tolerance of 1e-6."""
    solver, _, controller, state, _ = combination
    accuracy = 1e-4 if controller.startswith("PID") else {1: 0.3, 2: 0.02, 3: 2e-3}.get(order(BY_NAME[solver]), 1e-4)
    return max(accuracy, 1e-5 if state == "float32" else 0.0)


def assert_values_are_exact(problem: Problem, times: np.ndarray, values: Any, accuracy: float) -> None:
    assert problem.exact is not None
    exact = jax.tree.map(lambda *leaves: np.stack(leaves), *(problem.exact(float(t)) for t in times))
    assert jax.tree.structure(values) == jax.tree.structure(exact)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=accuracy * np.abs(b).max()), values, exact)


def check(combination: Combination) -> None:
    _, output, _, state, _ = combination
    problem, accuracy = STATES[state], tolerance(combination)
    for t1, (ts, ys, dense) in run(combination):
        steps = np.asarray(ts[0])
        made = int(np.isfinite(steps).sum())
        assert made > 0
        assert steps[made - 1] == t1
        for asked, times, values in zip((STEPS, *OUTPUTS[output]), ts, ys, strict=True):
            expected = asked.times(steps[:made], t1)
            used = expected.size
            np.testing.assert_allclose(times[:used], expected, rtol=1e-6)
            assert np.isinf(times[used:]).all()
            kept = jax.tree.map(lambda leaf, used=used: leaf[:used], values)
            if asked.double:
                np.testing.assert_array_equal(kept["time"], times[:used])
                kept = jax.tree.map(lambda leaf: leaf / 2, kept["doubled"])
            assert_values_are_exact(problem, times[:used], kept, accuracy)
        if output.startswith("dense"):
            assert_values_are_exact(problem, FRACTIONS * t1, dense, accuracy)


PLAN = pairwise(FEW, possible)
OFTEN = (
    ("Euler", "every third step", "constant", "pytree", "eager"),
    ("Euler", "fn", "StepTo", "complex", "jit"),
    ("Bosh3", "every third step", "StepTo", "float32", "vmap"),
    ("Bosh3", "fn", "PID, dt0=None", "scalar", "eager"),
    ("Vern7", "fn", "PID, clipped", "float32", "eager"),
    ("Kvaerno3", "every third step", "StepTo", "float32", "eager"),
    ("KenCarp3", "dense and ts", "StepTo", "float32", "eager"),
)
"""The cheapest combinations of the plan with every value."""


def test_every_value_is_in_a_case_that_runs_often() -> None:
    assert set(OFTEN) <= set(PLAN)
    for values, occurring in zip(FEW.values(), zip(*OFTEN, strict=True), strict=True):
        assert set(occurring) == set(values)


@pytest.mark.parametrize("combination", [pytest.param(c, id="-".join(c), marks=slow_unless(c in OFTEN)) for c in PLAN])
def test_pairs(combination: Combination) -> None:
    check(combination)


@pytest.mark.slow
@pytest.mark.parametrize("combination", pairwise(FACTORS, possible), ids="-".join)
def test_pairs_with_every_solver(combination: Combination) -> None:
    check(combination)


def test_the_plan_has_every_possible_pair() -> None:
    plan = [frozenset(enumerate(c)) for c in PLAN]
    for (i, first), (j, second) in combinations(enumerate(FEW.values()), 2):
        for a in first:
            for b in second:
                impossible = (i, j) == (0, 2) and not possible(solver=a, controller=b)
                assert impossible != any({(i, a), (j, b)} <= combination for combination in plan), (a, b)
