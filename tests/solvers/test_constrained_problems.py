"""Every known solution of a differential-algebraic problem is certified without this library's solvers.

Exact solutions fulfil their equations. The index is 1: the algebraic equations determine the unknowns that the mass
matrix does not. SUNDIALS' IDA, an independent code, arrives at the same states.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import scipy.linalg
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

from ..problems.constrained import (
    CHEMICAL_AKZO,
    CONSTRAINED,
    DIFFUSION,
    PENDULUM,
    RELEASE,
    ROBERTSON_DAE,
    ROBERTSON_LATE_DAE,
    TRANSISTOR_AMPLIFIER,
    VARIABLE_MASS,
    Constrained,
)
from ..problems.stiff import ROBERTSON

EXACT = [case for case in CONSTRAINED if case.problem.exact is not None]
names = lambda case: case.name


def flat(y: Any) -> np.ndarray:
    return np.asarray(ravel_pytree(y)[0])


class Flat(NamedTuple):
    """The equation of a problem between arrays of NumPy."""

    case: Constrained
    slope: Callable[[float, np.ndarray], np.ndarray]
    jacobian: Callable[[float, np.ndarray], np.ndarray]
    y0: np.ndarray

    def mass(self, t: float, y: np.ndarray) -> np.ndarray:
        return self.case.matrix(t, y)


def flattened(case: Constrained) -> Flat:
    y0, unravel = ravel_pytree(jax.tree.map(jax.numpy.asarray, case.problem.y0))
    field = lambda t, y: ravel_pytree(case.problem.field(t, unravel(y), case.problem.args))[0]
    slope = jax.jit(field)
    jacobian = jax.jit(jax.jacfwd(field, argnums=1, holomorphic=np.iscomplexobj(y0)))
    return Flat(case, lambda t, y: np.asarray(slope(t, y)), lambda t, y: np.asarray(jacobian(t, y)), np.asarray(y0))


@pytest.mark.parametrize("case", EXACT, ids=names)
def test_an_exact_solution_fulfils_its_equation(case: Constrained) -> None:
    """Slopes by differences of four times, whose error is of order 4."""
    problem, equation = case.problem, flattened(case)
    assert problem.exact is not None
    np.testing.assert_allclose(flat(problem.exact(problem.t0)), equation.y0, rtol=1e-14, atol=1e-14)
    for part in (0.1, 0.45, 0.8):
        t, step = problem.t0 + part * (problem.t1 - problem.t0), 1e-3 * (problem.t1 - problem.t0)
        at = {k: flat(problem.exact(t + k * step)) for k in (-2, -1, 0, 1, 2)}
        slopes = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)
        right = equation.slope(t, at[0])
        np.testing.assert_allclose(equation.mass(t, at[0]) @ slopes, right, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("case", CONSTRAINED, ids=names)
def test_the_index_is_one_and_the_initial_state_consistent(case: Constrained) -> None:
    """In the first and the last state the derivative of the algebraic equations on the kernel of M is regular."""
    equation, problem = flattened(case), case.problem
    for t, y in ((problem.t0, equation.y0), (problem.t1, flat(problem.final))):
        mass = equation.mass(t, y)
        kernel, rows = scipy.linalg.null_space(mass), scipy.linalg.null_space(mass.conj().T).conj().T
        assert 0 < kernel.shape[1] < len(y)
        scale = np.max(np.abs(equation.jacobian(t, y)), axis=None)
        np.testing.assert_allclose(rows @ equation.slope(t, y), 0.0, atol=1e-12 * max(scale, 1.0))
        inner = rows @ equation.jacobian(t, y) @ kernel
        assert np.linalg.cond(inner) < 1e6


# The tolerances of IDA, relative and absolute, and the allowed error by the measure of the case.
LIMITS = {
    CHEMICAL_AKZO.name: (1e-10, 1e-14, 1e-7),
    TRANSISTOR_AMPLIFIER.name: (1e-7, 1e-7, 3e-7),
    ROBERTSON_DAE.name: (1e-9, 1e-15, 1e-6),
    ROBERTSON_LATE_DAE.name: (1e-8, 1e-14, 1e-6),
}


@pytest.mark.parametrize("case", CONSTRAINED, ids=names)
def test_another_code_arrives_at_the_same_state(case: Constrained) -> None:
    rtol, atol, largest = LIMITS.get(case.name, (1e-9, 1e-9, 1e-6))
    assert case.error(unravelled(case, ida(case, rtol, atol))) < largest


def unravelled(case: Constrained, x: np.ndarray) -> Any:
    y0, unravel = ravel_pytree(jax.tree.map(jax.numpy.asarray, case.problem.y0))
    return unravel(x[: y0.size] + 1j * x[y0.size :] if np.iscomplexobj(y0) else x)


def ida(case: Constrained, rtol: float, atol: float) -> np.ndarray:
    """The last state by IDA, which solves `M y' - f = 0` in real numbers."""
    sksundae = pytest.importorskip("sksundae", reason="the reference code is optional: pip install scikit-sundae")
    equation = flattened(case)
    size, is_complex = equation.y0.size, np.iscomplexobj(equation.y0)

    def merged(x: np.ndarray) -> np.ndarray:
        return x[:size] + 1j * x[size:] if is_complex else x

    def split(y: np.ndarray) -> np.ndarray:
        return np.concatenate([y.real, y.imag]) if is_complex else y

    def residual(t: float, x: np.ndarray, xp: np.ndarray, out: np.ndarray) -> None:
        y, yp = merged(x), merged(xp)
        out[:] = split(equation.mass(t, y) @ yp - equation.slope(t, y))

    def jacobian(t: float, x: np.ndarray, xp: np.ndarray, res: np.ndarray, cj: float, out: np.ndarray) -> None:
        y = merged(x)
        matrix = cj * equation.mass(t, y) - equation.jacobian(t, y)
        out[:] = np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]]) if is_complex else matrix

    problem = case.problem
    # The slopes with the least norm are enough to start from: IDA makes them better in its first small step.
    start = np.linalg.lstsq(equation.mass(problem.t0, equation.y0), equation.slope(problem.t0, equation.y0))[0]
    options: dict[str, Any] = {"rtol": rtol, "atol": atol, "max_num_steps": 100_000, "first_step": 1e-10}
    if case not in VARIABLE_MASS:  # that of another mass has a term with its derivative
        options["jacfn"] = jacobian
    solved = sksundae.ida.IDA(residual, **options).solve(
        np.array([problem.t0, 0.5 * problem.t1, problem.t1]), split(equation.y0), split(start)
    )
    assert solved.success, solved.message
    return solved.y[-1]


# -------------------------------------------------------------------------------- other forms of the same equations


def test_the_pendulum_moves_as_its_angle_does() -> None:
    def slope(t: float, state: np.ndarray) -> list[float]:
        return [state[1], -PENDULUM.problem.args * np.sin(state[0])]

    solved = solve_ivp(slope, (0.0, PENDULUM.problem.t1), [RELEASE, 0.0], "DOP853", rtol=1e-12, atol=1e-12)
    angle, speed = solved.y[:, -1]
    x, z, u, w, _ = PENDULUM.problem.final
    np.testing.assert_allclose([x, z], [np.sin(angle), -np.cos(angle)], atol=1e-10)
    np.testing.assert_allclose([u, w], [speed * np.cos(angle), speed * np.sin(angle)], atol=1e-10)


def test_robertson_has_the_slopes_of_the_equation_without_a_constraint() -> None:
    for seed in range(3):
        y = np.random.default_rng(seed).uniform(0.1, 1.0, 3)
        rates = [case.field(0.0, y, ROBERTSON.args) for case in (ROBERTSON, ROBERTSON_DAE.problem)]
        np.testing.assert_allclose(rates[0][:2], rates[1][:2], rtol=1e-12)
        np.testing.assert_allclose(rates[1][2], y.sum() - 1)


def test_akzo_nobel_without_its_algebraic_unknown() -> None:
    equation = flattened(CHEMICAL_AKZO)

    def whole(y: np.ndarray) -> np.ndarray:
        last = equation.slope(0.0, np.array([*y, 0.0]))[5]
        return np.array([*y, last])

    problem = CHEMICAL_AKZO.problem
    solved = solve_ivp(
        lambda t, y: equation.slope(t, whole(y))[:5],
        (problem.t0, problem.t1),
        equation.y0[:5],
        "Radau",
        rtol=1e-10,
        atol=1e-14,
    )
    np.testing.assert_allclose(whole(solved.y[:, -1]), problem.final, rtol=1e-8)


def test_the_mass_of_diffusion_is_that_of_its_diagonals() -> None:
    np.testing.assert_array_equal(DIFFUSION.mass.as_matrix(), DIFFUSION.matrix(0.0, None))
