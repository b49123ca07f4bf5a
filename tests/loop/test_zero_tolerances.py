"""Without an absolute tolerance, an entry that is zero is measured against zero: it may stay there, or leave it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import RESULTS, PIDController
from rungax.jaxkit import FlatSpace
from rungax.nonlinear import ErrorWeights, Tolerances

from ..catalogue import SOLVERS, WRAPPERS, estimates_error, name, slow_unless, terms_for

OFTEN = ("Tsit5", "Kvaerno3", "ImplicitEuler", "Rodas4")
ADAPTIVE = [
    pytest.param(s, id=name(s), marks=slow_unless(name(s) in OFTEN)) for s in SOLVERS + WRAPPERS if estimates_error(s)
]


def fill(t: Any, y: Any, args: Any) -> Any:
    """The first entry decays, the second one fills from the first at the rate of `args`, the third one is at rest."""
    return jnp.stack([-y[0], args * y[0] ** 2, -y[2]])


@pytest.mark.parametrize("solver", ADAPTIVE)
def test_an_entry_may_stay_at_zero_or_leave_it(solver: rungax.AbstractSolver[Any]) -> None:
    @jax.jit
    def solve(rate: jax.Array, y0: jax.Array) -> rungax.Solution:
        return rungax.diffeqsolve(
            terms_for(solver, fill), solver, 0.0, 1.0, None, y0, rate,
            stepsize_controller=PIDController(rtol=1e-3, atol=0), throw=False,
        )  # fmt: skip

    for rate in (0.0, 1.0):
        solution = solve(jnp.asarray(rate), jnp.asarray([1.0, 0.0, 0.0]))
        assert solution.result == RESULTS.successful
        expected = [np.exp(-1.0), rate * (1 - np.exp(-2.0)) / 2, 0.0]
        np.testing.assert_allclose(solution.ys[0], expected, rtol=0.05, atol=0.0)
    at_rest = solve(jnp.asarray(1.0), jnp.zeros(3))
    assert at_rest.result == RESULTS.successful
    np.testing.assert_array_equal(at_rest.ys[0], np.zeros(3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("y", [[0.0, 0.0], [0.0, 3.0], [1e-30, 0.0]])
def test_weights_of_stage_equations_are_finite(y: list[float], dtype: str) -> None:
    vector = jnp.asarray(y, dtype)
    for rtol, atol in ((1e-3, 0.0), (0.0, 0.0), (jnp.asarray([1e-3, 0.0], dtype), 0.0)):
        weights = ErrorWeights.of(Tolerances(rtol, atol, jnp.max), FlatSpace(vector))
        size_of = weights.at(vector)
        assert float(size_of(jnp.zeros_like(vector))) == 0.0
        assert float(size_of(jnp.ones_like(vector))) > 1.0


def test_a_steady_state_at_zero_is_steady_and_one_that_is_no_number_is_not() -> None:
    """With tolerances for each entry, an entry at rest at zero has a bound of zero."""
    tolerances = {"rtol": jnp.full(2, 1e-3), "atol": jnp.zeros(2), "norm": jnp.max}
    condition = rungax.steady_state_event(**tolerances)

    def holds(rate: float) -> bool:
        terms = rungax.ODETerm(lambda t, y, args: jnp.stack([rate * y[0], y[1] * 0]))
        y = jnp.asarray([1.0, 0.0])
        return bool(
            condition(0.0, y, None, terms=terms, solver=rungax.Tsit5(), stepsize_controller=PIDController(1, 1))
        )

    assert holds(-1e-6)
    assert not holds(-1.0)
    assert not holds(float("nan"))


def test_two_tolerances_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match=r"(?s)at least one of them positive.*rtol=0, atol=0"):
        PIDController(rtol=0.0, atol=0)
