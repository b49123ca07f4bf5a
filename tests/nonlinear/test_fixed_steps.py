"""With fixed steps, implicit solvers need no tolerances, and rounding in a stage is not reported as divergence."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from rungax import RESULTS, KenCarp4, MultiTerm, ODETerm, VeryChord, diffeqsolve

from ..catalogue import IMPLICIT, SPLIT, name, terms_for


@pytest.mark.parametrize("solver", IMPLICIT + SPLIT, ids=name)
def test_the_default_tolerances_solve_a_stiff_equation(solver: Any) -> None:
    """Nonlinear and stiff: 1 / (1 + t) attracts its neighbours at the rate of a thousand."""
    field = lambda t, y, args: -1e3 * (y - 1 / (1 + t)) * (1 + y * y) - 1 / (1 + t) ** 2
    terms = terms_for(solver, field, explicit=0)
    y1 = diffeqsolve(terms, solver, 0.0, 1.0, 0.1, jnp.asarray(1.0)).ys[0]
    np.testing.assert_allclose(y1, 0.5, rtol=1e-3)


@pytest.mark.parametrize("rates", [(-1.0, -0.5), (-1e-3, -1e3)], ids=str)
def test_rounding_is_not_divergence(rates: tuple[float, float]) -> None:
    """A linear equation is solved by one correction, so that the second one consists of rounding errors."""
    explicit, implicit = (ODETerm(lambda t, y, args, r=r: r * y) for r in rates)
    finder = VeryChord(rtol=1e-5, atol=1e-6)
    y0 = jnp.linspace(1.0, 3.0, 5)
    solution = diffeqsolve(MultiTerm(explicit, implicit), KenCarp4(root_finder=finder), 0.0, 2.0, 0.01, y0, throw=False)
    assert solution.result == RESULTS.successful
    np.testing.assert_allclose(solution.ys[0], np.asarray(y0) * np.exp(2 * sum(rates)), rtol=1e-4, atol=1e-5)
