"""Every known solution of a stiff problem is certified: SciPy's Radau, an independent code, agrees with it."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

from ..catalogue import slow_unless
from ..problems.base import Problem
from ..problems.emep import EMEP, EMEP_JUMPS
from ..problems.ivp_test_set import BEAM
from ..problems.stiff import (
    AKZO_JUMP,
    CLOCKED_KAPS,
    E5,
    E5_EARLY,
    E5_LONG,
    HIRES,
    MEDICAL_AKZO,
    OREGONATOR,
    POLLUTION,
    ROBERTSON,
    ROBERTSON_LATE,
    ROBERTSON_LONG,
    STANDARD,
    STIFF_CONJUGATE,
    VAN_DER_POL,
    WITH_EXACT_SOLUTIONS,
)

# Radau's tolerances, relative and absolute, and the allowed relative error of each component. Values below the absolute
# tolerance count as zero.
LIMITS = {
    ROBERTSON.name: (1e-10, 1e-17, 1e-9),
    ROBERTSON_LONG.name: (1e-9, 1e-22, 1e-8),
    HIRES.name: (1e-10, 1e-13, 1e-8),
    OREGONATOR.name: (1e-9, 1e-10, 1e-8),
    VAN_DER_POL.name: (1e-9, 1e-10, 1e-8),
    POLLUTION.name: (1e-10, 1e-26, 1e-9),
    E5_EARLY.name: (1e-8, 1e-24, 1e-8),
    E5.name: (1e-8, 1e-25, 1e-4),
    E5_LONG.name: (1e-8, 1e-26, 1e-2),
    MEDICAL_AKZO.name: (1e-9, 1e-14, 1e-8),
    ROBERTSON_LATE.name: (1e-9, 1e-21, 1e-8),
    EMEP.name: (1e-9, 10.0, 1e-6),
    BEAM.name: (1e-9, 1e-9, 1e-4),
}
JUMPS = {MEDICAL_AKZO.name: (AKZO_JUMP,), EMEP.name: EMEP_JUMPS}
OFTEN = (HIRES, CLOCKED_KAPS, STIFF_CONJUGATE)
"""Nothing of the library is at work here, so that a few show that the certificate itself works."""


def cases(problems: tuple[Problem, ...]) -> list[Any]:
    return [pytest.param(p, marks=slow_unless(p in OFTEN), id=p.name) for p in problems]


@pytest.mark.parametrize("problem", cases((*STANDARD, ROBERTSON_LATE, EMEP, BEAM)))
def test_reference_is_certified(problem: Problem) -> None:
    rtol, atol, accuracy = LIMITS[problem.name]
    arrived = radau(problem, [problem.t0, *JUMPS.get(problem.name, ()), problem.t1], rtol, atol)
    np.testing.assert_allclose(arrived, problem.final, rtol=accuracy, atol=atol)


@pytest.mark.parametrize("problem", cases(WITH_EXACT_SOLUTIONS))
def test_exact_solution_is_certified(problem: Problem) -> None:
    assert problem.exact is not None
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), problem.exact(problem.t0), problem.y0)
    arrived = radau(problem, [problem.t0, problem.t1], 1e-10, 1e-12)
    np.testing.assert_allclose(arrived, as_real(ravel_pytree(problem.final)[0]), rtol=1e-8, atol=1e-10)


def radau(problem: Problem, ends: list[float], rtol: float, atol: float) -> np.ndarray:
    """The state at the last of `ends` as one real array; SciPy restarts at each of them."""
    slope = real_field(problem)
    jacobian = jax.jit(jax.jacfwd(slope, argnums=1))
    state = as_real(ravel_pytree(problem.y0)[0])
    sparse = len(state) > 100
    for start, end in itertools.pairwise(ends):
        # A field that jumps has its old value just before the jump and its new one just after it.
        shifted = start if start == ends[0] else np.nextafter(start, np.inf)
        solved = solve_ivp(
            jax.jit(slope),
            (shifted, end if end == ends[-1] else np.nextafter(end, -np.inf)),
            state,
            method="Radau",
            jac=(lambda t, x: scipy.sparse.csc_array(np.asarray(jacobian(t, x)))) if sparse else jacobian,
            first_step=1e-8 * (end - shifted),
            rtol=rtol,
            atol=atol,
        )
        assert solved.success, solved.message
        state = solved.y[:, -1]
    return state


def real_field(problem: Problem) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The field of the flattened state as a real array: SciPy needs one, and complex derivatives may not exist."""
    flat, unravel = ravel_pytree(problem.y0)
    is_complex = np.iscomplexobj(flat)

    def slope(t: jax.Array, x: jax.Array) -> jax.Array:
        y = unravel(jax.lax.complex(*jnp.split(x, 2)) if is_complex else x)
        rates, _ = ravel_pytree(problem.field(t, y, problem.args))
        return jnp.concatenate([rates.real, rates.imag]) if is_complex else rates

    return slope


def as_real(flat: jax.Array) -> np.ndarray:
    parts = [flat.real, flat.imag] if np.iscomplexobj(flat) else [flat]
    return np.concatenate([np.asarray(part) for part in parts])
