"""A step may bring the order of its error estimate, and propose the size of the next step."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax.step import Proposal, Step


class Proposing(rungax.Heun):
    """Heun's method, which proposes a factor for the next step and states an order of its own."""

    factor: float | None = None
    order_of_estimate: int | None = None

    def proposal(self, step: Step) -> Proposal:
        return Proposal(self.order_of_estimate, self.factor)


def sizes(solver: rungax.AbstractSolver[Any], controller: rungax.AbstractStepSizeController[Any, Any]) -> np.ndarray:
    """The sizes of the accepted steps, without the last, which is cut."""
    solution = rungax.diffeqsolve(
        lambda t, y, args: -y,
        solver,
        0.0,
        1.0,
        0.01,
        1.0,
        saveat=rungax.SaveAt(t0=True, steps=True),
        stepsize_controller=controller,
        max_steps=256,
    )
    ts = np.asarray(solution.ts)
    return np.diff(ts[np.isfinite(ts)])[:-1]


LOOSE = rungax.PIDController(rtol=1e3, atol=1e3, factormax=4.0)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 1.0), (1.5, 1.5), (100.0, 4.0)])
def test_the_proposed_factor_is_taken_within_the_bounds(factor: float, expected: float) -> None:
    found = sizes(Proposing(factor=factor), LOOSE)
    np.testing.assert_allclose(found[1:] / found[:-1], expected, rtol=1e-9)


def test_a_proposal_is_clipped_to_the_controllers_times() -> None:
    found = np.cumsum(sizes(Proposing(factor=1.0), rungax.ClipStepSizeController(LOOSE, step_ts=[0.055])))
    assert np.abs(found - 0.055).min() < 1e-15


def test_controllers_of_fixed_steps_take_no_proposal() -> None:
    np.testing.assert_allclose(sizes(Proposing(factor=2.0), rungax.ConstantStepSize()), 0.01, rtol=1e-9)


def test_the_order_of_the_step_decides_the_factor() -> None:
    """With the elementary rule the factor is safety · error^(-1/order)."""
    controller = rungax.PIDController(rtol=1e-4, atol=1e-4, factormax=1e6)
    stated, own = (sizes(Proposing(order_of_estimate=k), controller) for k in (None, 4))
    error = (0.9 * stated[0] / stated[1]) ** 2
    np.testing.assert_allclose(own[1] / own[0], 0.9 * error ** (-1 / 4), rtol=1e-4)


def test_by_default_there_is_no_proposal() -> None:
    assert rungax.Tsit5().proposal(jnp.zeros(())) is None


@pytest.mark.parametrize(("factor", "accepted", "expected"), [(0.5, False, 0.5), (0.9, False, 0.8), (0.9, True, 0.9)])
def test_after_a_rejection_the_earlier_end_is_taken(factor: float, accepted: bool, expected: float) -> None:
    end = LOOSE.next_end_for_factor(factor, accepted, jnp.ones(()), jnp.zeros(()), jnp.asarray(0.8), None)
    np.testing.assert_allclose(end, expected, rtol=1e-12)


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan])
def test_what_is_not_a_factor_leaves_the_size_to_the_controller(factor: float) -> None:
    np.testing.assert_allclose(sizes(Proposing(factor=factor), LOOSE), sizes(Proposing(), LOOSE), rtol=1e-12)
