"""A solve under `jit` equals the same solve called eagerly, by value, in everything it returns."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import rungax

from ..catalogue import CONTROLLERS, SOLVERS, name, order, terms_for
from ..compare import assert_trees_close
from ..problems.ordinary import SPRING
from .outcome import Outcome, everything, outcome

# The eager solve is handed its numbers, the other has some of them as constants, which XLA folds.
ROUNDING = {"rtol": 3e-7, "atol": 3e-7}


ask = jax.jit(outcome)


def solve(t0: Any, t1: Any, y0: Any, args: Any, controller: str, throw: bool) -> Outcome:
    stepsize_controller, dt0 = CONTROLLERS[controller](0.0, 1.0)
    solution = rungax.diffeqsolve(
        SPRING.field,
        rungax.Tsit5(),
        t0,
        t1,
        dt0,
        y0,
        args,
        saveat=everything([0.25, 0.5]),
        stepsize_controller=stepsize_controller,
        max_steps=32,
        throw=throw,
    )
    return ask(solution)


def test_jit_is_eager() -> None:
    """Of a program that raises on failure; the controllers, one by one, are in `conformance/test_controllers.py`."""
    call = (0.0, 1.0, SPRING.y0, SPRING.args, "PID, dt0=None", True)
    assert_trees_close(jax.jit(solve, static_argnums=(4, 5))(*call), solve(*call), **ROUNDING)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda f: jax.jit(lambda y0: jax.jit(f)(y0)), id="jit of jit", marks=pytest.mark.slow),
        # `tracing/test_deployment.py` lowers one and runs it too.
        pytest.param(
            lambda f: lambda y0: jax.jit(f).lower(y0).compile()(y0), id="lowered and compiled", marks=pytest.mark.slow
        ),
    ],
)
def test_other_ways_to_compile(wrap: Callable[[Any], Any]) -> None:
    def final(y0: Any) -> Outcome:
        return solve(0.0, 1.0, y0, SPRING.args, "PID, dt0=None", True)

    y0 = jax.tree.map(jnp.asarray, SPRING.y0)
    assert_trees_close(wrap(final)(y0), final(y0), **ROUNDING)


def test_a_python_number_is_an_array() -> None:
    """What the eager call gets as a Python float gives the same numbers and dtypes as an array of time's dtype."""
    numbers = solve(0.0, 1.0, SPRING.y0, {"stiffness": 4.0, "damping": 0.1}, "PID, dt0=None", True)
    args = {"stiffness": jnp.asarray(4.0), "damping": jnp.asarray(0.1)}
    arrays = solve(jnp.asarray(0.0), jnp.asarray(1.0), SPRING.y0, args, "PID, dt0=None", True)
    assert_trees_close(numbers, arrays, **ROUNDING)


@pytest.mark.parametrize("solver", SOLVERS, ids=name)
def test_solver_may_be_a_static_argument(solver: Any) -> None:
    """Solvers of equal options are equal and hash alike, so that what is compiled for one serves the other."""
    again = type(solver)()
    assert solver == again
    assert hash(solver) == hash(again)
    assert jax.jit(lambda solver: order(solver), static_argnums=0)(solver) == order(again)


# Each family's own way through the loop; explicit methods are above.
STIFF = (rungax.Kvaerno3(), rungax.KenCarp3(), rungax.Rodas4())


@pytest.mark.slow
@pytest.mark.parametrize("solver", STIFF, ids=name)
def test_jit_is_eager_with_solvers_for_stiff_equations(solver: Any) -> None:
    def final(y0: Any) -> Outcome:
        solution = rungax.diffeqsolve(
            terms_for(solver, SPRING.field),
            solver,
            0.0,
            1.0,
            None,
            y0,
            SPRING.args,
            saveat=everything([0.25, 0.5]),
            stepsize_controller=rungax.PIDController(rtol=1e-4, atol=1e-6),
            max_steps=128,
        )
        return outcome(solution)

    y0 = jax.tree.map(jnp.asarray, SPRING.y0)
    # Where an iteration ends depends on rounding, and so does what is left of its error.
    assert_trees_close(jax.jit(final)(y0), final(y0), rtol=1e-5, atol=1e-5)


def test_solution_passes_through_jit() -> None:
    """As an output and as an input, with its methods at work."""

    @jax.jit
    def solution() -> rungax.Solution:
        saveat = rungax.SaveAt(t1=True, dense=True)
        return rungax.diffeqsolve(
            SPRING.field, rungax.Tsit5(), 0.0, 1.0, 0.1, SPRING.y0, SPRING.args, saveat=saveat, max_steps=10
        )

    outside = solution()
    inside = jax.jit(lambda solution: solution.evaluate(0.7))(outside)
    assert_trees_close(inside, outside.evaluate(0.7), rtol=1e-14, atol=1e-14)
    assert outside.result == rungax.RESULTS.successful
