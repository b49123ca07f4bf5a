"""Rejected attempts are counted by their cause: the error, the equations of a stage, an event; under `vmap` too."""

from typing import Any

import equinox as eqx
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from hypothesis import strategies as st

import rungax

from ..fakes import FailsOnLongSteps, undemanding

CAUSES = ("error", "nonlinear_solve", "event")
FIELD = rungax.ODETerm(lambda t, y, args: jnp.stack([y[1], -y[0]]))
Y0 = np.array([1.0, 0.0])
NEWTON = optx.Newton(rtol=1e-8, atol=1e-8)
EVENT = rungax.Event(lambda t, y, args, **kwargs: y[0] - 0.3, NEWTON, effect=lambda t, y, args: y)


def by_cause(solution: rungax.Solution) -> dict[str, int]:
    """The counts by cause, after a check that they and the accepted steps are all attempts."""
    stats = solution.stats
    found = {cause: int(stats[f"num_rejected_by_{cause}"]) for cause in CAUSES}
    assert sum(found.values()) == int(stats["num_rejected_steps"])
    assert int(stats["num_steps"]) == int(stats["num_accepted_steps"]) + int(stats["num_rejected_steps"])
    return found


def solve(solver: Any, **options: Any) -> rungax.Solution:
    options = {"dt0": 1.0, "throw": False, **options}
    return rungax.diffeqsolve(FIELD, solver, 0.0, 10.0, y0=Y0, **options)


def test_error_control_rejects_by_the_error() -> None:
    found = by_cause(solve(rungax.Tsit5(), dt0=5.0, stepsize_controller=rungax.PIDController(1e-8, 1e-8)))
    assert found["error"] > 0
    assert found == {"error": found["error"], "nonlinear_solve": 0, "event": 0}


def test_a_value_that_is_not_finite_counts_as_an_error() -> None:
    root = lambda t, y, args: -jnp.sqrt(y - 0.1)
    solution = rungax.diffeqsolve(
        root, rungax.Tsit5(), 0.0, 1.8, 1.0, 1.0, stepsize_controller=rungax.PIDController(1e-4, 1e-4), throw=False
    )
    found = by_cause(solution)
    assert found["error"] > 0
    assert sum(found.values()) == found["error"]


def test_stages_that_are_not_solved_reject_by_the_nonlinear_solve() -> None:
    finder = FailsOnLongSteps(rtol=1e-8, atol=1e-8, limit=0.3)
    found = by_cause(solve(rungax.ImplicitEuler(root_finder=finder), stepsize_controller=undemanding()))
    assert found["nonlinear_solve"] > 0
    assert sum(found.values()) == found["nonlinear_solve"]


@pytest.mark.parametrize(
    "controller",
    [rungax.ConstantStepSize(), pytest.param(rungax.StepTo(np.linspace(0.0, 10.0, 11)), marks=pytest.mark.slow)],
)
def test_a_search_rejects_by_the_event(controller: Any) -> None:
    dt0 = 1.0 if isinstance(controller, rungax.ConstantStepSize) else None
    found = by_cause(solve(rungax.Bosh3(), dt0=dt0, event=EVENT, stepsize_controller=controller))
    assert found["event"] >= 3, "the condition passes zero three times in ten"
    assert sum(found.values()) == found["event"]


# ------------------------------------------------------------------------------------------------------- all at once


class Counting(rungax.PIDController):
    """Error control that counts its own rejections: of steps with a finite error, and of those reported unsolved."""

    def init(self, *args: Any) -> tuple[Any, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        t_next, state = super().init(*args)
        return t_next, (state, jnp.zeros(2, jnp.int32))

    def adapt_step_size(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, t0: Any, t1: Any, y0: Any, y1_candidate: Any, args: Any, y_error: Any, error_order: Any, state: Any
    ) -> Any:
        inner, rejected = state
        accepted, *rest, inner, result = super().adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, inner
        )
        is_solved = jnp.all(jnp.isfinite(y_error))
        rejected = rejected + jnp.where(accepted, 0, jnp.stack([is_solved, ~is_solved]).astype(jnp.int32))
        return accepted, *rest, (inner, rejected), result


@eqx.filter_jit
def counted(tolerance: jax.Array, limit: jax.Array, dt0: jax.Array) -> rungax.Solution:
    """A solve with all causes: loose, with stages that fail in steps longer than `limit`, and with an event."""
    finder = FailsOnLongSteps(rtol=1e-8, atol=1e-8, limit=limit)  # pyright: ignore[reportArgumentType]
    controller = Counting(rtol=tolerance, atol=tolerance)
    saveat = rungax.SaveAt(t1=True, controller_state=True)
    solver = rungax.TRBDF2(root_finder=finder)
    return solve(solver, dt0=dt0, event=EVENT, stepsize_controller=controller, saveat=saveat)


LOOSE = {"tolerance": st.floats(1e-5, 1e-2), "limit": st.floats(0.05, 1.0), "dt0": st.floats(0.1, 5.0)}


@hypothesis.given(**LOOSE)
@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
def test_the_causes_are_those_that_the_controller_saw(tolerance: float, limit: float, dt0: float) -> None:
    solution = counted(jnp.asarray(tolerance), jnp.asarray(limit), jnp.asarray(dt0))
    found = by_cause(solution)
    assert [found["error"], found["nonlinear_solve"]] == solution.controller_state.controller_state[1].tolist()


@pytest.mark.slow
def test_vmap_equals_the_loop() -> None:
    tolerance = jnp.asarray(10.0 ** np.linspace(-5, -2, 6))
    limit, dt0 = jnp.asarray([0.03, 1.0, 0.1, 0.5, 0.4, 0.2]), jnp.asarray([0.1, 0.9, 1.0, 2.0, 0.5, 3.0])
    together = jax.vmap(counted)(tolerance, limit, dt0)
    alone = [counted(*values) for values in zip(tolerance, limit, dt0, strict=True)]
    for name in ("num_accepted_steps", "num_rejected_by_error", "num_rejected_by_nonlinear_solve"):
        np.testing.assert_array_equal(together.stats[name], [solution.stats[name] for solution in alone])
    # When a search is near enough depends on rounding.
    events = np.asarray([solution.stats["num_rejected_by_event"] for solution in alone])
    assert np.all(np.abs(together.stats["num_rejected_by_event"] - events) <= 6)
    total = {cause: sum(by_cause(solution)[cause] for solution in alone) for cause in CAUSES}
    assert min(total.values()) > 0, total
