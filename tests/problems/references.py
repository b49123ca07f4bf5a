"""Stiff problems with the tolerances, patterns and jumps with which `BDF` is compared with SciPy's BDF and with CVODE.

`benchmarks/bdf.py` runs all three, and writes the steps and errors of the other two to `bdf_references.csv`.
"""

import csv
import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse

import rungax

from .base import Problem, traits
from .emep import EMEP, EMEP_JUMPS
from .grids import HEATING, brusselator, exact_heat, heat
from .ivp_test_set import BEAM, RING_MODULATOR
from .stiff import HIRES, MEDICAL_AKZO, POLLUTION, ROBERTSON_LATE

TOLERANCES = tuple(10.0**-k for k in range(3, 11))
MAX_STEPS = 1_000_000
WIDTH = 16
TABLE = pathlib.Path(__file__).with_name("bdf_references.csv")


class Case(NamedTuple):
    """A problem, the ratio of its tolerances, the pattern of a sparse Jacobian, and the tolerances of its runs.

    The methods restart at `jumps`. Where the stability of the formulas decides the step sizes, `oscillates` is true.
    """

    problem: Problem
    scale: float
    pattern: scipy.sparse.csc_array | None = None
    tolerances: tuple[float, ...] = TOLERANCES
    oscillates: bool = False
    jumps: tuple[float, ...] = ()

    @property
    def pieces(self) -> list[tuple[float, float]]:
        """The intervals between the jumps; the field has its new value at a jump."""
        starts, ends = (
            (self.problem.t0, *self.jumps),
            (*(np.nextafter(t, -np.inf) for t in self.jumps), self.problem.t1),
        )
        return list(zip(starts, ends, strict=True))

    def error(self, y: np.ndarray) -> float:
        """The root mean square of the components' errors, each relative to the larger of its size and `scale`."""
        reference = self.problem.final
        return float(np.sqrt(np.mean(((y - reference) / np.maximum(np.abs(reference), self.scale)) ** 2)))

    def solve(self, solver: rungax.AbstractSolver, rtol: object) -> rungax.Solution:
        """The solution by a method of this library."""
        problem, controller = self.problem, rungax.PIDController(rtol, self.scale * rtol)
        if self.jumps:
            controller = rungax.ClipStepSizeController(controller, jump_ts=np.array(self.jumps))
        return rungax.diffeqsolve(
            rungax.ODETerm(problem.field, sparsity=self.pattern), solver, problem.t0, problem.t1, None,
            jnp.asarray(problem.y0), problem.args, stepsize_controller=controller, max_steps=MAX_STEPS, throw=False,
        )  # fmt: skip


def _akzo_pattern() -> scipy.sparse.csc_array:
    return scipy.sparse.csc_array(scipy.sparse.diags_array([1.0] * 5, offsets=range(-2, 3), shape=(400, 400)))


def _heat() -> Case:
    grid, t1 = heat(WIDTH), 0.1
    reference = tuple(exact_heat(WIDTH, t1, 1.0).tolist())
    problem = Problem("Heat", grid.field, grid.y0, 0.0, t1, 1.0, reference=reference, traits=traits("stiff"))
    return Case(problem, 1e-3, grid.pattern)


def _brusselator() -> Case:
    """The two-dimensional Brusselator; the reference is a tight solve by a method of another family."""
    grid, t1, args = brusselator(WIDTH), 11.5, (3.4, 10.0)
    controller = rungax.ClipStepSizeController(rungax.PIDController(1e-11, 1e-13), jump_ts=[HEATING])
    term = rungax.ODETerm(grid.field, sparsity=grid.pattern)
    solution = rungax.diffeqsolve(
        term,
        rungax.Rodas5P(),
        0.0,
        t1,
        None,
        jnp.asarray(grid.y0),
        args,
        stepsize_controller=controller,
        max_steps=None,
    )
    reference = tuple(np.asarray(solution.ys)[-1].tolist())
    problem = Problem("Brusselator", grid.field, grid.y0, 0.0, t1, args, reference=reference, traits=traits("stiff"))
    return Case(problem, 1e-2, grid.pattern)


_CASES: dict[str, Callable[[], Case]] = {
    "HIRES": lambda: Case(HIRES, 1e-4),
    "Robertson": lambda: Case(ROBERTSON_LATE, 1e-10),
    "Pollution": lambda: Case(POLLUTION, 1e-6),
    "Medical Akzo": lambda: Case(MEDICAL_AKZO, 1e-4, _akzo_pattern()),
    "EMEP": lambda: Case(EMEP, 1e4, jumps=EMEP_JUMPS),
    "Heat": _heat,
    "Brusselator": _brusselator,
    "Beam": lambda: Case(BEAM, 1e-2, oscillates=True, tolerances=TOLERANCES[:6]),
    "Ring modulator": lambda: Case(RING_MODULATOR, 1e-2, oscillates=True, tolerances=TOLERANCES[:4]),
}
NAMES = tuple(_CASES)


@functools.cache
def case(name: str) -> Case:
    """The case of one of `NAMES`."""
    return _CASES[name]()


class Reference(NamedTuple):
    """The accepted steps and the errors of SciPy's BDF and of CVODE; an error is NaN if the solver fails."""

    scipy_steps: int
    cvode_steps: int
    scipy_error: float
    cvode_error: float

    @property
    def largest_error(self) -> float:
        """The larger of the two errors, without a solver that fails."""
        return float(np.nanmax([self.scipy_error, self.cvode_error]))


def references() -> dict[tuple[str, float], Reference]:
    """The stored steps and errors, by case and relative tolerance."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {
        (name, float(rtol)): Reference(int(steps[0]), int(steps[1]), float(steps[2]), float(steps[3]))
        for name, rtol, *steps in rows
    }
