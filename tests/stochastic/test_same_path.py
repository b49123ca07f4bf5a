"""The increments of a solve are those that the path's `evaluate` returns."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from rungax import (
    RESULTS,
    ControlTerm,
    Euler,
    MultiTerm,
    ODETerm,
    PIDController,
    SaveAt,
    StepTo,
    diffeqsolve,
)
from rungax.brownian import BrownianIncrement, SpaceTimeLevyArea, SpaceTimeTimeLevyArea, VirtualBrownianTree
from rungax.interpolation import LocalLinearInterpolation
from rungax.solvers import AbstractItoSolver
from rungax.terms import AbstractTerm

from ..catalogue import slow_unless
from ..compare import assert_trees_close

NAMES = ("W", "H", "K")
ROUNDING = 4e-15
SHAPES: dict[str, Any] = {
    "vector": (3,),
    "pytree": {"a": jax.ShapeDtypeStruct((2, 2), jnp.float64), "b": (jax.ShapeDtypeStruct((), jnp.float32),)},
    "complex": {"z": jax.ShapeDtypeStruct((2,), jnp.complex128)},
}


def fields_of(increment) -> dict[str, Any]:
    """`W`, and `H` and `K` if the increment has them."""
    return {name: getattr(increment, name) for name in NAMES if hasattr(increment, name)}


class ReturnsIncrements(AbstractItoSolver[None]):
    """A scripted solver whose state after a step is the increment over it, and whose error estimate is its size."""

    term_structure: ClassVar[Any] = AbstractTerm
    interpolation_cls = LocalLinearInterpolation

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        y1 = fields_of(terms.contr(t0, t1, use_levy=True))
        return y1, jax.tree.map(jnp.abs, y1), {"y0": y0, "y1": y1}, None, RESULTS.successful

    def func(self, terms, t0, y0, args):
        return y0

    def strong_order(self, terms):
        return 0.0


@eqx.filter_jit  # one program for both directions, if the times are arrays
def increments_of_solve(path, t0, t1, dt0, controller=None, max_steps=64):
    """The starts, ends and increments of all steps of a solve, and the numbers of accepted and of all steps."""
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), fields_of(path.evaluate(0.5, 0.6, use_levy=True)))
    like = jax.eval_shape(lambda: path.evaluate(0.5, 0.6))
    term = ControlTerm(lambda t, y, args: lx.FunctionLinearOperator(lambda w: dict.fromkeys(zero, w), like), path)
    options = {} if controller is None else {"stepsize_controller": controller}
    solution = diffeqsolve(
        term,
        ReturnsIncrements(),
        t0,
        t1,
        dt0,
        zero,
        saveat=SaveAt(steps=True),
        max_steps=max_steps,
        throw=False,
        **options,
    )
    starts = jnp.concatenate([jnp.asarray(t0).astype(float)[None], solution.ts[:-1]])
    return starts, solution.ts, solution.ys, solution.num_accepted_steps, solution.num_steps


def tree(key, area=SpaceTimeLevyArea, shape=(3,)):
    return VirtualBrownianTree(0.0, 1.0, 1e-3, shape, key, levy_area=area)


@jax.jit
def by_hand(path, starts, ends):
    return fields_of(jax.vmap(lambda a, b: path.evaluate(a, b, use_levy=True))(starts, ends))


def accepted(tree_of_arrays, count):
    return jax.tree.map(lambda x: x[: int(count)], tree_of_arrays)


SPANS = {"forwards": np.array([0.1, 0.9]), "backwards": np.array([0.9, 0.1])}
CONTROLLERS = {
    "constant": (0.06, None),
    "adaptive": (0.3, PIDController(rtol=0.0, atol=0.1)),
}


# Both kinds of steps and both directions; `BrownianIncrement` is in the tests below.
OFTEN = {
    (SpaceTimeLevyArea, "complex", "adaptive", "backwards"),
    (SpaceTimeTimeLevyArea, "pytree", "constant", "forwards"),
}


@pytest.mark.parametrize(
    ("area", "shape", "steps", "span"),
    [
        pytest.param(*case, id="-".join((case[0].__name__, *case[1:])), marks=slow_unless(case in OFTEN))
        for area, shape in [
            (BrownianIncrement, "vector"),
            (SpaceTimeLevyArea, "vector"),
            (SpaceTimeLevyArea, "complex"),
            (SpaceTimeLevyArea, "pytree"),
            (SpaceTimeTimeLevyArea, "vector"),
            (SpaceTimeTimeLevyArea, "pytree"),
        ]
        for steps in CONTROLLERS
        for span in SPANS
        for case in [(area, shape, steps, span)]
    ],
)
def test_increments_of_a_solve_are_those_by_hand(area, shape, steps, span, key):
    """Also in a solve backwards, which needs increments from the later to the earlier time."""
    path, (t0, t1) = tree(key, area, SHAPES[shape]), SPANS[span]
    dt0, controller = CONTROLLERS[steps]
    starts, ends, increments, count, attempts = increments_of_solve(path, t0, t1, np.sign(t1 - t0) * dt0, controller)
    assert count > 8
    assert (attempts > count) == (steps == "adaptive")
    expected = accepted(by_hand(path, starts, ends), count)  # the times after the last step are infinite
    for name, value in accepted(increments, count).items():
        single = {"rtol": 1e-6, "atol": 1e-6} if shape == "pytree" else {"rtol": 0.0, "atol": ROUNDING}
        assert_trees_close(value, expected[name], **single)


def test_the_way_back_is_the_same_path(key):
    """Over the same steps in the other direction, `W` and `K` change their sign and `H` does not."""
    path = tree(key, SpaceTimeTimeLevyArea)
    times = jnp.linspace(0.0, 1.0, 9)
    _, _, there, count, _ = increments_of_solve(path, times[0], times[-1], None, StepTo(times))
    _, _, back, _, _ = increments_of_solve(path, times[-1], times[0], None, StepTo(times[::-1]))
    for name, sign in zip(NAMES, (-1.0, 1.0, -1.0), strict=True):
        assert_trees_close(
            accepted(back, count)[name][::-1], sign * accepted(there, count)[name], rtol=0.0, atol=ROUNDING
        )


@pytest.mark.slow
@pytest.mark.parametrize("steps", ["constant", "adaptive"])
def test_batch_elements_with_different_times(steps, key):
    """Under `vmap`, with different keys and ends for each element."""
    keys = jax.random.split(key, 5)
    starts_of, ends_of = jnp.asarray([0.0, 0.9, 0.2, 1.0, 0.31]), jnp.asarray([1.0, 0.1, 0.7, 0.0, 0.94])
    dt0, controller = CONTROLLERS[steps]

    def element(key, t0, t1):
        return increments_of_solve(tree(key), t0, t1, jnp.sign(t1 - t0) * dt0, controller)

    starts, ends, increments, counts, _ = jax.jit(jax.vmap(element))(keys, starts_of, ends_of)
    assert len(set(np.asarray(counts).tolist())) > 1, "the test is weaker if all elements make the same number of steps"
    for i, count in enumerate(counts):
        mine = accepted((starts[i], ends[i], jax.tree.map(lambda x, i=i: x[i], increments)), count)
        assert_trees_close(mine[2], by_hand(tree(keys[i]), *mine[:2]), rtol=0.0, atol=ROUNDING)


@jax.jit
def driven_by_noise_alone(path, t0, t1):
    """A solve of `dy = dW` by Euler's method, and the path itself at the same times, less its value at `t0`."""
    terms = MultiTerm(
        ODETerm(lambda t, y, args: jnp.zeros_like(y)),
        ControlTerm(lambda t, y, args: lx.DiagonalLinearOperator(jnp.ones(3)), path),
    )
    dt0, saveat = jnp.sign(t1 - t0) * 0.05, SaveAt(steps=True)
    solution = diffeqsolve(terms, Euler(), t0, t1, dt0, jnp.zeros(3), saveat=saveat, max_steps=32)
    at = jax.vmap(path.evaluate)(jnp.concatenate([t0[None], solution.ts]))
    return solution, at[1:] - at[0][None]


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize(
    "area",
    # That the increments are those of the path is tested above for every area.
    [BrownianIncrement, *(pytest.param(a, marks=pytest.mark.slow) for a in (SpaceTimeLevyArea, SpaceTimeTimeLevyArea))],
)
def test_the_solution_of_dy_is_dw(area, span, key):
    solution, expected = driven_by_noise_alone(tree(key, area), *SPANS[span])
    count = int(solution.num_accepted_steps)
    assert count == 16
    assert_trees_close(solution.ys[:count], expected[:count], rtol=0.0, atol=1e-13)


def test_another_path_is_detected(key):
    """These comparisons have power: they detect a path with another Lévy area, which is another sample."""
    (t0, t1), (dt0, controller) = SPANS["forwards"], CONTROLLERS["adaptive"]
    path = tree(key, BrownianIncrement)
    starts, ends, increments, count, _ = increments_of_solve(path, t0, t1, np.sign(t1 - t0) * dt0, controller)
    other = by_hand(tree(key, SpaceTimeLevyArea), starts, ends)
    assert np.abs(accepted(increments, count)["W"] - accepted(other, count)["W"]).max() > 0.1
