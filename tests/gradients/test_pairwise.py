"""Whatever solver, output, controller, state and transform meet: reverse mode, forward mode and quotients agree.

All pairs of values of two of these occur. Difference quotients are taken on the steps that the solve chose, in double
precision.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import ConstantStepSize, ODETerm, PIDController, SaveAt, StepTo, diffeqsolve

from ..catalogue import estimates_error
from ..problems.fields import ARGS, STATES, in_double
from ..transforms.pairs import Combination, pairwise
from .measure import accepted_times, along, difference_quotient, direction_like, stretched, weigh

SOLVERS: dict[str, rungax.AbstractSolver[Any]] = {
    name: getattr(rungax, name)() for name in ("Euler", "Heun", "RK4", "Bosh3", "Tsit5", "Dopri8", "Vern7")
}
SAVED = ("t1", "ts", "steps", "dense")
CONTROLS = ("constant", "StepTo", "PID")
TRANSFORMS = ("jit", "vmap", "eager")
T0, T1, DT0 = 0.1, 1.0, 0.17
MAX_STEPS = 32
FACTORS = {
    "solver": tuple(SOLVERS),
    "save": SAVED,
    "control": CONTROLS,
    "state": tuple(STATES),
    "transform": TRANSFORMS,
}


def is_possible(solver: str, control: str, **others: str) -> bool:
    return control != "PID" or estimates_error(SOLVERS[solver])


QUICK = ("Euler", "Heun", "Bosh3", "Tsit5")
"""Few stages take little time to compile: all pairs with these every day, with the others when there is time."""

CASES = pairwise({**FACTORS, "solver": QUICK}, is_possible)
LONG_CASES = [case for case in pairwise(FACTORS, is_possible) if case not in CASES]


def controls(control: str, times: Any, grid: np.ndarray | None = None) -> dict[str, Any]:
    """The choice of steps; with `grid`, an adaptive solve's steps, which move with its ends."""
    t0, t1 = times
    if control == "constant":
        return {"stepsize_controller": ConstantStepSize(), "dt0": DT0}
    if control == "PID" and grid is None:
        return {"stepsize_controller": PIDController(rtol=1e-3, atol=1e-4), "dt0": None}
    places = np.asarray([0.0, 0.1, 0.3, 0.35, 0.7, 1.0]) if grid is None else grid
    return {"stepsize_controller": StepTo(stretched(places, t0, t1)), "dt0": None}


def loss_of(case: Combination, in_full: bool = False, grid: np.ndarray | None = None) -> Callable[[Any], jax.Array]:
    """The real function of state, arguments and times that is differentiated."""
    solver, save, control, state, _ = case
    field, _ = STATES[state]
    ts = np.asarray([0.22, 0.5, 0.51, 0.93])
    saveat = {
        "t1": SaveAt(t1=True),
        "ts": SaveAt(ts=ts),
        "steps": SaveAt(t0=True, steps=True),
        "dense": SaveAt(dense=True),
    }[save]

    def loss(inputs: Any) -> jax.Array:
        y0, args, times = inputs
        solution = diffeqsolve(
            ODETerm(field),
            SOLVERS[solver],
            *times,
            y0=y0,
            args=args,
            saveat=saveat,
            max_steps=MAX_STEPS,
            **controls(control, times, grid),
        )
        if save == "dense":
            return weigh((jax.vmap(solution.evaluate)(jnp.asarray(ts)), solution.derivative(jnp.asarray(ts[0]))))
        return weigh(solution.ys)

    return loss


def transformed(function: Callable[..., Any], transform: str) -> Callable[..., Any]:
    if transform == "eager":
        return function
    if transform == "jit":
        return jax.jit(function)

    def first_element_of_two(*args: Any) -> Any:
        """Of which the second has another state, and so other steps."""
        other = jax.tree.map(lambda x: (1.3 * x).astype(jnp.result_type(x)), args[0][0])
        elements = jax.tree.map(lambda x, y: jnp.stack([x, y]), args[0][0], other)
        found = jax.jit(jax.vmap(lambda y0: function((y0, *args[0][1:]), *args[1:])))(elements)
        return jax.tree.map(lambda x: x[0], found)

    return first_element_of_two


@cache
def accepted_grid(solver: str, state: str) -> np.ndarray:
    """The steps of the adaptive solve."""
    field, y0 = STATES[state]
    solution = diffeqsolve(
        ODETerm(field),
        SOLVERS[solver],
        T0,
        T1,
        y0=y0,
        args=ARGS,
        saveat=SaveAt(t0=True, steps=True),
        max_steps=MAX_STEPS,
        **controls("PID", (T0, T1)),
    )
    return accepted_times(solution)


@pytest.mark.parametrize("case", [*CASES, *(pytest.param(c, marks=pytest.mark.slow) for c in LONG_CASES)], ids="-".join)
def test_reverse_forward_and_quotients_agree(case: Combination) -> None:
    solver, _, control, state, transform = case
    y0 = STATES[state][1]
    inputs = (y0, ARGS, (np.asarray(T0), np.asarray(T1)))
    direction = direction_like(inputs)
    loss = loss_of(case)
    by_reverse = along(transformed(jax.grad(loss), transform)(inputs), direction)
    by_forward = float(transformed(lambda x, d: jax.jvp(loss, (x,), (d,))[1], transform)(inputs, direction))
    # The state in double precision; with the grid, steps are those of the solve in single precision.
    grid = accepted_grid(solver, state) if control == "PID" else None
    frozen = jax.jit(loss_of(case, grid=grid))
    quotient = float(difference_quotient(frozen, in_double(inputs), in_double(direction), 1e-4))
    assert abs(quotient) > 1e-3, "a derivative of zero shows nothing"
    single = state == "float32"
    assert by_forward == pytest.approx(by_reverse, rel=1e-4 if single else 1e-10)
    assert by_reverse == pytest.approx(quotient, rel=1e-3 if single else 1e-7)
