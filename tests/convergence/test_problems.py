"""Every known solution is certified: SciPy's DOP853, which knows nothing of ours, arrives there."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

from ..catalogue import slow_unless
from ..problems.base import Problem
from ..problems.detest import DETEST
from ..problems.ordinary import SMALL

OFTEN = (DETEST[0], *SMALL[:2])
"""Nothing of the library is at work here, so that a few show that the certificate itself works."""


@pytest.mark.parametrize(
    "problem",
    [pytest.param(problem, id=problem.name, marks=slow_unless(problem in OFTEN)) for problem in (*DETEST, *SMALL)],
)
def test_solution_is_certified(problem: Problem) -> None:
    start, unravel = ravel_pytree(problem.y0)
    field = jax.jit(lambda t, y: ravel_pytree(problem.field(t, unravel(y), problem.args))[0])

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        return np.asarray(field(t, y))

    solved = solve_ivp(slope, (problem.t0, problem.t1), np.asarray(start), method="DOP853", rtol=1e-13, atol=1e-15)
    expected = np.asarray(ravel_pytree(problem.final)[0])
    np.testing.assert_allclose(solved.y[:, -1], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "problem", [p for p in (*DETEST, *SMALL) if p.exact is not None], ids=lambda problem: problem.name
)
def test_exact_solution_starts_at_the_initial_state(problem: Problem) -> None:
    assert problem.exact is not None
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), problem.exact(problem.t0), problem.y0)
