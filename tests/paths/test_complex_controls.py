"""The product of a complex matrix field and a complex increment conjugates neither."""

from typing import Any

import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from rungax import ControlTerm, Euler, diffeqsolve

MATRIX = np.asarray([[1j, 2.0], [0.5 - 1j, 3j]])
SLOPE = np.asarray([1.0 + 1j, 2.0])

FORMS: dict[str, Any] = {
    "array": jnp.asarray,
    "operator": lambda matrix: lx.MatrixLinearOperator(jnp.asarray(matrix)),
}


@pytest.mark.parametrize("form", FORMS)
def test_complex_matrices_are_not_conjugated(form: str) -> None:
    control = lambda t0, t1: jnp.asarray(t1 - t0, complex) * SLOPE
    term = ControlTerm(lambda t, y, args: FORMS[form](MATRIX), control)
    product = term.vf_prod(0.0, jnp.zeros(2, complex), None, jnp.asarray(SLOPE))
    np.testing.assert_allclose(product, MATRIX @ SLOPE, rtol=1e-14)
    y1 = diffeqsolve(term, Euler(), 0.0, 1.0, 0.5, jnp.zeros(2, complex)).ys[0]
    np.testing.assert_allclose(y1, MATRIX @ SLOPE, rtol=1e-14)
