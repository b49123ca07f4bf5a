"""The stiff problems in NumPy with their Jacobians, and calls of solvers from SciPy and SUNDIALS.

Vector fields in JAX, initial states and reference values come from the tests, `tests/problems/stiff.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.integrate
import scipy.sparse

from tests.problems.base import Problem
from tests.problems.stiff import (
    AKZO_CONVECTION,
    AKZO_DIFFUSION,
    AKZO_RATE,
    E5_EARLY,
    HIRES,
    MEDICAL_AKZO,
    OREGONATOR,
    POLLUTION,
    POLLUTION_FIRST,
    POLLUTION_RATES,
    POLLUTION_SECOND,
    POLLUTION_STOICHIOMETRY,
    ROBERTSON,
    VAN_DER_POL,
    akzo_inflow,
)

try:
    import sksundae
except ImportError:
    sksundae = None


class Stiff(NamedTuple):
    """A problem with the settings of its solvers and the measure of its error.

    The absolute tolerance is `scale` times the relative one, and at least `least`. The error of a component smaller
    than `scale` is measured relative to `scale`. `dt0` is the first step of solvers in JAX; others choose their own.
    `field(t, y)` and `jacobian(t, y)` use NumPy. `band` is the number of diagonals on each side of the main one, if the
    Jacobian is banded; it is then a sparse matrix.
    """

    problem: Problem
    scale: float
    dt0: float
    field: Callable[[float, np.ndarray], Any]
    jacobian: Callable[[float, np.ndarray], Any]
    band: int | None = None
    least: float = 0.0

    def atol(self, rtol: float) -> float:
        return max(self.scale * rtol, self.least)

    def error(self, y: Any) -> float:
        """The root mean square of the components' errors, each relative to the larger of its size and `scale`."""
        reference = self.problem.final
        return float(np.sqrt(np.mean(((np.asarray(y) - reference) / np.maximum(np.abs(reference), self.scale)) ** 2)))

    def relative_error(self, y: Any) -> float:
        """The largest relative error of a component."""
        reference = self.problem.final
        return float(np.max(np.abs(np.asarray(y) / reference - 1)))


# ---------------------------------------------------------------------------------------- solvers that do not use JAX

type Solve = Callable[[], np.ndarray]

SCIPY = ("LSODA", "Radau", "BDF")


def scipy_solve(stiff: Stiff, method: str, rtol: float) -> Solve:
    """A call without arguments that returns the final state, or raises if SciPy fails.

    All methods get the Jacobian, except LSODA for a banded one, which gets the number of its diagonals.
    """
    problem = stiff.problem
    banded = stiff.band is not None and method == "LSODA"
    matrix = {"lband": stiff.band, "uband": stiff.band} if banded else {"jac": stiff.jacobian}
    options: dict[str, Any] = {"method": method, "rtol": rtol, "atol": stiff.atol(rtol), **matrix}

    def call() -> np.ndarray:
        solved = scipy.integrate.solve_ivp(stiff.field, (problem.t0, problem.t1), problem.y0, **options)
        if not solved.success:
            raise RuntimeError(solved.message)
        return solved.y[:, -1]

    return call


def cvode_solve(stiff: Stiff, rtol: float) -> Solve:
    """A call like that of `scipy_solve` for SUNDIALS' CVODE: BDF with the Jacobian, or with banded differences."""
    problem = stiff.problem
    options: dict[str, Any] = {"rtol": rtol, "atol": stiff.atol(rtol), "max_num_steps": 1_000_000}
    if stiff.band is None:
        options["jacfn"] = _cvode_jacobian(stiff)
    else:
        options |= {"linsolver": "band", "lband": stiff.band, "uband": stiff.band}
    # With only two times, it would return the state at every step.
    times = np.array([problem.t0, 0.5 * (problem.t0 + problem.t1), problem.t1])

    def slope(t: float, y: np.ndarray, yp: np.ndarray) -> None:
        yp[:] = stiff.field(t, y)

    def call() -> np.ndarray:
        assert sksundae is not None
        solved = sksundae.cvode.CVODE(slope, **options).solve(times, problem.y0)
        if not solved.success:
            raise RuntimeError(solved.message)
        return solved.y[-1]

    return call


def _cvode_jacobian(stiff: Stiff) -> Callable[..., None]:
    def fill(t: float, y: np.ndarray, yp: np.ndarray, matrix: np.ndarray) -> None:
        del yp
        matrix[:] = stiff.jacobian(t, y)

    return fill


# ------------------------------------------------------------------------------------------------------------ Robertson


def _robertson(t: float, y: np.ndarray) -> list[Any]:
    a, b, c = y
    k1, k2, k3 = ROBERTSON.args
    slow, fast, back = k1 * a, k2 * b * b, k3 * b * c
    return [back - slow, slow - back - fast, fast]


def _robertson_jacobian(t: float, y: np.ndarray) -> list[list[Any]]:
    _, b, c = y
    k1, k2, k3 = ROBERTSON.args
    return [[-k1, k3 * c, k3 * b], [k1, -k3 * c - 2 * k2 * b, -k3 * b], [0.0, 2 * k2 * b, 0.0]]


# ---------------------------------------------------------------------------------------------------------------- HIRES


def _hires(t: float, y: np.ndarray) -> list[Any]:
    a, b, c, d, e, f, g, h = y
    bound = 280.0 * f * h
    return [
        -1.71 * a + 0.43 * b + 8.32 * c + 0.0007,
        1.71 * a - 8.75 * b,
        -10.03 * c + 0.43 * d + 0.035 * e,
        8.32 * b + 1.71 * c - 1.12 * d,
        -1.745 * e + 0.43 * f + 0.43 * g,
        -bound + 0.69 * d + 1.71 * e - 0.43 * f + 0.69 * g,
        bound - 1.81 * g,
        -bound + 1.81 * g,
    ]


_HIRES_LINEAR = np.array(
    [
        [-1.71, 0.43, 8.32, 0.0, 0.0, 0.0, 0.0, 0.0],
        [1.71, -8.75, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, -10.03, 0.43, 0.035, 0.0, 0.0, 0.0],
        [0.0, 8.32, 1.71, -1.12, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, -1.745, 0.43, 0.43, 0.0],
        [0.0, 0.0, 0.0, 0.69, 1.71, -0.43, 0.69, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.81, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.81, 0.0],
    ]
)


def _hires_jacobian(t: float, y: np.ndarray) -> np.ndarray:
    by_f, by_h = 280.0 * y[7], 280.0 * y[5]
    matrix = _HIRES_LINEAR.copy()
    matrix[5:, 5] += (-by_f, by_f, -by_f)
    matrix[5:, 7] += (-by_h, by_h, -by_h)
    return matrix


# ----------------------------------------------------------------------------------- Oregonator, Van der Pol, E5


def _oregonator(t: float, y: np.ndarray) -> list[Any]:
    a, b, c = y
    return [77.27 * (b + a * (1.0 - 8.375e-6 * a - b)), (c - (1.0 + a) * b) / 77.27, 0.161 * (a - c)]


def _oregonator_jacobian(t: float, y: np.ndarray) -> list[list[Any]]:
    a, b, _ = y
    return [
        [77.27 * (1.0 - 2.0 * 8.375e-6 * a - b), 77.27 * (1.0 - a), 0.0],
        [-b / 77.27, -(1.0 + a) / 77.27, 1.0 / 77.27],
        [0.161, 0.0, -0.161],
    ]


def _van_der_pol(t: float, y: np.ndarray) -> list[Any]:
    x, v = y
    return [v, 1e6 * ((1.0 - x * x) * v - x)]


def _van_der_pol_jacobian(t: float, y: np.ndarray) -> list[list[Any]]:
    x, v = y
    return [[0.0, 1.0], [1e6 * (-2.0 * x * v - 1.0), 1e6 * (1.0 - x * x)]]


def _e5(t: float, y: np.ndarray) -> list[Any]:
    a, b, c, d = y
    first, second, third, fourth = 7.89e-10 * a, 1.1e7 * a * c, 1.13e9 * b * c, 1.13e3 * d
    return [-first - second, first - third, (first - third) - (second - fourth), second - fourth]


def _e5_jacobian(t: float, y: np.ndarray) -> list[list[Any]]:
    a, b, c, _ = y
    return [
        [-7.89e-10 - 1.1e7 * c, 0.0, -1.1e7 * a, 0.0],
        [7.89e-10, -1.13e9 * c, -1.13e9 * b, 0.0],
        [7.89e-10 - 1.1e7 * c, -1.13e9 * c, -1.13e9 * b - 1.1e7 * a, 1.13e3],
        [1.1e7 * c, 0.0, 1.1e7 * a, -1.13e3],
    ]


# ------------------------------------------------------------------------------------------------------------ Pollution

_REACTIONS = np.arange(len(POLLUTION_RATES))


def _pollution(t: float, y: np.ndarray) -> np.ndarray:
    z = np.append(y, 1.0)
    return POLLUTION_STOICHIOMETRY @ (POLLUTION_RATES * z[POLLUTION_FIRST] * z[POLLUTION_SECOND])


def _pollution_jacobian(t: float, y: np.ndarray) -> np.ndarray:
    z = np.append(y, 1.0)
    speeds = np.zeros((len(POLLUTION_RATES), len(z)))
    speeds[_REACTIONS, POLLUTION_FIRST] = POLLUTION_RATES * z[POLLUTION_SECOND]
    speeds[_REACTIONS, POLLUTION_SECOND] += POLLUTION_RATES * z[POLLUTION_FIRST]  # no substance reacts with itself
    return POLLUTION_STOICHIOMETRY @ speeds[:, :-1]


# --------------------------------------------------------------------------------------------------------- Medical Akzo


def _medical_akzo(t: float, y: np.ndarray) -> np.ndarray:
    drug, sites = y[0::2], y[1::2]
    before = np.concatenate([[akzo_inflow(t)], drug[:-2]])
    change = -AKZO_RATE * drug * sites
    slopes = np.empty_like(y)
    slopes[1::2] = change
    change[:-1] += AKZO_DIFFUSION * (before - 2.0 * drug[:-1] + drug[1:]) + AKZO_CONVECTION * (drug[1:] - before)
    slopes[0::2] = change
    return slopes


def _medical_akzo_jacobian(t: float, y: np.ndarray) -> Any:
    drug, sites = y[0::2], y[1::2]
    main = np.stack([-AKZO_RATE * sites, -AKZO_RATE * drug], axis=1).reshape(-1)
    main[0:-2:2] -= 2.0 * AKZO_DIFFUSION
    above = np.zeros(len(y) - 1)
    above[0::2] = -AKZO_RATE * drug
    below = np.zeros(len(y) - 1)
    below[0::2] = -AKZO_RATE * sites
    two_above, two_below = np.zeros(len(y) - 2), np.zeros(len(y) - 2)
    two_above[0::2] = AKZO_DIFFUSION + AKZO_CONVECTION
    two_below[0:-2:2] = (AKZO_DIFFUSION - AKZO_CONVECTION)[1:]
    diagonals = [two_below, below, main, above, two_above]
    offsets: Any = [-2, -1, 0, 1, 2]
    return scipy.sparse.diags_array(diagonals, offsets=offsets, format="csc")


STIFF_ROBERTSON = Stiff(ROBERTSON, 1e-2, 1e-4, _robertson, _robertson_jacobian)

WORK_PRECISION = (
    Stiff(HIRES, 1e-4, 1e-4, _hires, _hires_jacobian),
    Stiff(OREGONATOR, 1e-2, 1e-4, _oregonator, _oregonator_jacobian),
    Stiff(POLLUTION, 1e-6, 1e-6, _pollution, _pollution_jacobian),
    Stiff(VAN_DER_POL, 1e-2, 1e-7, _van_der_pol, _van_der_pol_jacobian),
    Stiff(E5_EARLY, 1e-20, 1e-4, _e5, _e5_jacobian, least=1e-24),
    Stiff(MEDICAL_AKZO, 1e-4, 1e-6, _medical_akzo, _medical_akzo_jacobian, band=2),
)
