"""Whatever solver, output, controller, state and transform meet: reverse mode, forward mode and quotients agree.

All pairs of values of two of these occur, and each value with every test run. Difference quotients are taken on the
steps that the solve chose, in double precision.
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

from ..catalogue import estimates_error, slow_unless
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
MAX_STEPS = 64
FACTORS = {
    "solver": tuple(SOLVERS),
    "save": SAVED,
    "control": CONTROLS,
    "state": tuple(STATES),
    "transform": TRANSFORMS,
}


def is_possible(solver: str, control: str, **others: str) -> bool:
    return control != "PID" or estimates_error(SOLVERS[solver])


QUICK = {
    "solver": ("Euler", "Heun", "Tsit5"),
    "save": SAVED,
    "control": CONTROLS,
    "state": ("pytree", "complex", "float32"),
    "transform": ("jit", "vmap"),
}
"""A method without and with an error estimate, and one with an interpolation of its own; and the states that need more
than an array of double precision. That eager solves are as compiled ones is in `test_transforms.py`.
"""

OFTEN = (
    ("Heun", "t1", "PID", "float32", "vmap"),
    ("Euler", "ts", "StepTo", "complex", "vmap"),
    ("Euler", "dense", "StepTo", "float32", "jit"),
    ("Euler", "steps", "constant", "pytree", "jit"),
    ("Tsit5", "t1", "constant", "complex", "jit"),
)
"""Every value of `QUICK` with every test run; all pairs of its values, and of all values, with the slow tests."""

PAIRS = pairwise(QUICK, is_possible)
CASES = [*PAIRS, *(case for case in pairwise(FACTORS, is_possible) if case not in PAIRS)]


def controls(control: str, times: Any, grid: np.ndarray | None = None) -> dict[str, Any]:
    """The choice of steps; with `grid`, an adaptive solve's steps, which move with its ends."""
    t0, t1 = times
    if control == "constant":
        return {"stepsize_controller": ConstantStepSize(), "dt0": DT0}
    if control == "PID" and grid is None:
        return {"stepsize_controller": PIDController(rtol=1e-3, atol=1e-4), "dt0": None}
    places = np.asarray([0.0, 0.1, 0.3, 0.35, 0.7, 1.0]) if grid is None else grid
    return {"stepsize_controller": StepTo(stretched(places, t0, t1)), "dt0": None}


def loss_of(case: Combination, grid: np.ndarray | None = None) -> Callable[[Any], jax.Array]:
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
        return weigh(answers(solution, jnp.asarray(ts)) if save == "dense" else solution.ys)

    return loss


@jax.jit  # also where the solve is eager: one program and not one for each operation
def answers(solution: Any, ts: Any) -> Any:
    return jax.vmap(solution.evaluate)(ts), solution.derivative(ts[0])


def derivatives_of(loss: Callable[[Any], jax.Array]) -> Callable[..., Any]:
    """Value, gradient and derivative in a direction by forward mode, as a function of inputs and direction."""
    return lambda x, direction: (*jax.value_and_grad(loss)(x), jax.jvp(loss, (x,), (direction,))[1])


def transformed(function: Callable[..., Any], transform: str) -> Callable[..., Any]:
    if transform == "eager":
        return function
    if transform == "jit":
        return jax.jit(function)

    batched = jax.jit(jax.vmap(lambda y0, rest, *others: function((y0, *rest), *others), (0, None, None)))

    def first_element_of_two(inputs: Any, direction: Any) -> Any:
        """Of which the second has another state, and so other steps."""
        y0, *rest = inputs
        elements = jax.tree.map(lambda x: np.stack([x, (1.3 * x).astype(np.result_type(x))]), y0)
        return jax.tree.map(lambda x: x[0], batched(elements, rest, direction))

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


def test_every_value_is_in_a_case_that_runs_often() -> None:
    assert set(OFTEN) <= set(PAIRS)
    for values, occurring in zip(QUICK.values(), zip(*OFTEN, strict=True), strict=True):
        assert set(occurring) == set(values)


@pytest.mark.parametrize("case", [pytest.param(c, id="-".join(c), marks=slow_unless(c in OFTEN)) for c in CASES])
def test_reverse_forward_and_quotients_agree(case: Combination) -> None:
    """The quotients are those of the value that the gradient computes, unless it has other steps or another precision.

    `test_saving.py` shows that this value is the one of a solve that is not differentiated.
    """
    solver, _, control, state, transform = case
    y0 = STATES[state][1]
    inputs = (y0, ARGS, (np.asarray(T0), np.asarray(T1)))
    direction = direction_like(inputs)
    derivatives = transformed(derivatives_of(loss_of(case)), transform)
    value: Any = lambda x: derivatives(x, direction)[0]
    _, gradient, by_forward = derivatives(inputs, direction)
    by_reverse = along(gradient, direction)
    if control == "PID" or state == "float32" or transform == "eager":
        # The state in double precision; with the grid, steps are those of the solve in single precision.
        grid = accepted_grid(solver, state) if control == "PID" else None
        value = jax.jit(loss_of(case, grid=grid))
    quotient = float(difference_quotient(value, in_double(inputs), in_double(direction), 1e-4))
    assert abs(quotient) > 1e-3, "a derivative of zero shows nothing"
    single = state == "float32"
    assert float(by_forward) == pytest.approx(by_reverse, rel=1e-4 if single else 1e-10)
    assert by_reverse == pytest.approx(quotient, rel=1e-3 if single else 1e-7)
