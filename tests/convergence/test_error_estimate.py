"""A solver's error estimate is the error of an embedded method; solvers without one return none.

`test_one_step.py` measures its order.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import SOLVERS, estimates_error, name, terms_for
from ..problems.ordinary import CLOCKED_TORUS
from ..steps import make_step

START = 1.0

EMBEDDED = [
    *(pytest.param(solver, id=name(solver)) for solver in (rungax.Bosh3(), rungax.Kvaerno3(), rungax.Rodas4())),
    *(
        pytest.param(solver, id=name(solver), marks=pytest.mark.slow)
        for solver in (rungax.Heun(), rungax.Tsit5(), rungax.Vern7(), rungax.KenCarp3())
    ),
]


@pytest.mark.parametrize("solver", EMBEDDED)
def test_estimate_is_of_the_size_of_the_error_of_the_embedded_method(solver: rungax.AbstractSolver[Any]) -> None:
    """Of lower order than the solution, the embedded method has nearly all of the difference as its own error."""
    assert CLOCKED_TORUS.exact is not None
    t0, t1 = jnp.asarray(START), jnp.asarray(START + 1 / 8)
    start, end = CLOCKED_TORUS.exact(START), CLOCKED_TORUS.exact(START + 1 / 8)
    terms = terms_for(solver, CLOCKED_TORUS.field)

    @jax.jit
    def made() -> tuple[Any, Any]:
        step = make_step(solver, terms, t0, t1, jnp.asarray(start))
        return step.y1, step.y_error

    y1, y_error = (np.asarray(x) for x in made())
    np.testing.assert_allclose(np.linalg.norm(y1 - y_error - end), np.linalg.norm(y_error), rtol=0.5)
    assert np.linalg.norm(y1 - end) < np.linalg.norm(y_error)


def test_solvers_without_an_estimate_return_none() -> None:
    start = jnp.ones(2)
    for solver in SOLVERS:
        if not estimates_error(solver):
            terms = terms_for(solver, lambda t, y, args: -y)
            assert make_step(solver, terms, jnp.asarray(0.0), jnp.asarray(0.1), start).y_error is None
