"""The coefficients of stochastic Runge–Kutta methods satisfy the order conditions of the stated order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from rungax.brownian import AbstractBrownianIncrement, AbstractSpaceTimeLevyArea, AbstractSpaceTimeTimeLevyArea
from rungax.solvers import AbstractAdaptiveSolver, AbstractItoSolver, AbstractStratonovichSolver
from rungax.solvers.stochastic.srk.methods import SEA, SRA1, GeneralShARK, ShARK, SlowRK, SPaRK
from rungax.solvers.stochastic.srk.step import AbstractSRK
from rungax.solvers.tableaus.types.stochastic import AdditiveCoeffs, GeneralCoeffs, StochasticButcherTableau

ADDITIVE = (SEA, SRA1, ShARK)
SOLVERS = (*ADDITIVE, SPaRK, GeneralShARK, SlowRK)
ROUNDING = 1e-14


# ----------------------------------------------------------------------------------------------------------- conditions


@dataclass(frozen=True, eq=False)
class Weights:
    """A tableau as matrices and vectors; pairs are the coefficients of `W` and of `H`.

    The step has length one: `E W² = 1`, `E H² = 1/12`, `E W H = 0`.
    """

    tableau: StochasticButcherTableau

    @property
    def b(self) -> np.ndarray:
        return self.tableau.b_sol

    @property
    def c(self) -> np.ndarray:
        return np.append(0.0, self.tableau.c)

    @property
    def noise(self) -> tuple[Any, Any]:
        coeffs_w, coeffs_hh, *_ = self.tableau.coeffs
        return coeffs_w, coeffs_hh

    @property
    def A(self) -> tuple[np.ndarray, np.ndarray]:
        return tuple(_square(coeffs.a) for coeffs in self.noise)  # pyright: ignore[reportReturnType]

    @property
    def a(self) -> tuple[np.ndarray, np.ndarray]:
        if self.tableau.is_additive:
            return tuple(coeffs.a for coeffs in self.noise)  # pyright: ignore[reportReturnType]
        return tuple(matrix.sum(axis=1) for matrix in self.A)  # pyright: ignore[reportReturnType]

    @property
    def b_noise(self) -> tuple[np.ndarray, np.ndarray]:
        return tuple(coeffs.b_sol for coeffs in self.noise)  # pyright: ignore[reportReturnType]


def _square(rows: tuple[np.ndarray, ...]) -> np.ndarray:
    size = len(rows) + 1
    return np.stack([np.zeros(size), *(np.pad(row, (0, size - row.size)) for row in rows)])


type Condition = Callable[[Weights], tuple[Any, float]]
"""A function that returns the left-hand side of a condition and the value that it must have."""


def _mean(of_w: Any, of_h: Any) -> float:
    """The mean of `of_w W² + of_h H²`."""
    return float(of_w + of_h / 12)


# Each condition is named by its elementary differential.
STRONG_ONE: dict[str, Condition] = {
    "f": lambda x: (x.b.sum(), 1),
    "g, W": lambda x: (x.b_noise[0].sum(), 1),
    "g, H": lambda x: (x.b_noise[1].sum(), 0),
    "f'g, W": lambda x: (x.b @ x.a[0], 1 / 2),
    "f'g, H": lambda x: (x.b @ x.a[1], 1),
}
ADDITIVE_THREE_HALVES: dict[str, Condition] = {
    **STRONG_ONE,
    "f'f": lambda x: (x.b @ x.c, 1 / 2),
    "f''gg, mean": lambda x: (_mean(x.b @ x.a[0] ** 2, x.b @ x.a[1] ** 2), 1 / 2),
}
# All conditions of order one for commutative noise, and the derivative of g along f, whose integral is W/2 - H.
COMMUTATIVE_ONE: dict[str, Condition] = {
    "g'g, WW": lambda x: (x.b_noise[0] @ x.a[0], 1 / 2),
    "g'g, WH": lambda x: (x.b_noise[0] @ x.a[1] + x.b_noise[1] @ x.a[0], 0),
    "g'g, HH": lambda x: (x.b_noise[1] @ x.a[1], 0),
    "g'f, W": lambda x: (x.b_noise[0] @ x.c, 1 / 2),
    "g'f, H": lambda x: (x.b_noise[1] @ x.c, -1),
}
COMMUTATIVE_THREE_HALVES: dict[str, Condition] = {
    "g''gg, WWW": lambda x: (x.b_noise[0] @ x.a[0] ** 2, 1 / 3),
    "g'g'g, WWW": lambda x: (x.b_noise[0] @ x.A[0] @ x.a[0], 1 / 6),
    "g''gg, WWH": lambda x: (2 * x.b_noise[0] @ (x.a[0] * x.a[1]) + x.b_noise[1] @ x.a[0] ** 2, 0),
    "g'g'g, WWH": lambda x: (
        x.b_noise[0] @ (x.A[0] @ x.a[1] + x.A[1] @ x.a[0]) + x.b_noise[1] @ x.A[0] @ x.a[0],
        0,
    ),
    "g'''ggg, WWWW": lambda x: (x.b_noise[0] @ x.a[0] ** 3, 1 / 4),
    "g''g(g'g), WWWW": lambda x: (x.b_noise[0] @ (x.a[0] * (x.A[0] @ x.a[0])), 1 / 8),
    "g'g''gg, WWWW": lambda x: (x.b_noise[0] @ x.A[0] @ x.a[0] ** 2, 1 / 12),
    "g'g'g'g, WWWW": lambda x: (x.b_noise[0] @ x.A[0] @ x.A[0] @ x.a[0], 1 / 24),
    "f'g'g, mean": lambda x: (_mean(x.b @ x.A[0] @ x.a[0], x.b @ x.A[1] @ x.a[1]), 1 / 4),
    "g'g'f, mean": lambda x: (_mean(x.b_noise[0] @ x.A[0] @ x.c, x.b_noise[1] @ x.A[1] @ x.c), 1 / 4),
    "g'f'g, mean": lambda x: (
        _mean(x.b_noise[0] @ _square(x.tableau.a) @ x.a[0], x.b_noise[1] @ _square(x.tableau.a) @ x.a[1]),
        0,
    ),
    "g''fg, mean": lambda x: (_mean(x.b_noise[0] @ (x.c * x.a[0]), x.b_noise[1] @ (x.c * x.a[1])), 1 / 4),
}
CONDITIONS: dict[type[AbstractSRK], dict[str, Condition]] = {
    SEA: STRONG_ONE,
    SRA1: ADDITIVE_THREE_HALVES,
    ShARK: ADDITIVE_THREE_HALVES,
    SPaRK: ADDITIVE_THREE_HALVES | COMMUTATIVE_ONE,
    GeneralShARK: ADDITIVE_THREE_HALVES | COMMUTATIVE_ONE,
    SlowRK: ADDITIVE_THREE_HALVES | COMMUTATIVE_ONE | COMMUTATIVE_THREE_HALVES,
}
CASES = [pytest.param(cls, name, id=f"{cls.__name__}-{name}") for cls, all_ in CONDITIONS.items() for name in all_]


def _defect(solver: type[AbstractSRK], condition: Condition) -> float:
    found, wanted = condition(Weights(solver.tableau))
    return abs(float(found) - wanted)


@pytest.mark.parametrize(("solver", "name"), CASES)
def test_conditions(solver: type[AbstractSRK], name: str) -> None:
    assert _defect(solver, CONDITIONS[solver][name]) < ROUNDING


@pytest.mark.parametrize(
    ("solver", "name"),
    [(SEA, "f'f"), (SEA, "f''gg, mean"), (SPaRK, "g''gg, WWW"), (SPaRK, "f'g'g, mean"), (GeneralShARK, "g''gg, WWW")],
)
def test_methods_of_lower_order_miss_conditions(solver: type[AbstractSRK], name: str) -> None:
    """The conditions distinguish methods of different orders."""
    assert _defect(solver, CONDITIONS[SlowRK][name]) > 0.02


# ---------------------------------------------------------------------------------------------------------------- facts


def test_facts() -> None:
    for solver in SOLVERS:
        is_additive = solver in ADDITIVE
        assert solver.noise == ("additive" if is_additive else "general")
        assert solver.minimal_levy_area is AbstractSpaceTimeLevyArea
        assert issubclass(solver, AbstractStratonovichSolver)
        assert issubclass(solver, AbstractItoSolver) == is_additive
        assert issubclass(solver, AbstractAdaptiveSolver) == (solver.tableau.b_error is not None)
    orders = {cls: (cls().order(None), cls().strong_order(None)) for cls in SOLVERS}
    assert orders == {
        SEA: (1, 1.0),
        SRA1: (2, 1.5),
        ShARK: (2, 1.5),
        SPaRK: (2, 0.5),
        GeneralShARK: (2, 0.5),
        SlowRK: (2, 0.5),
    }


def test_coefficients_decide_the_levy_area() -> None:
    w, zero = AdditiveCoeffs(a=[0], b_sol=1), AdditiveCoeffs(a=[0], b_sol=0)

    def made_of(*coeffs: Any) -> StochasticButcherTableau:
        return StochasticButcherTableau([], [1], None, [], *coeffs)

    assert made_of(w).minimal_levy_area is AbstractBrownianIncrement
    assert made_of(w, zero).minimal_levy_area is AbstractSpaceTimeLevyArea
    assert made_of(w, zero, zero).minimal_levy_area is AbstractSpaceTimeTimeLevyArea

    class Own(AbstractSRK):
        tableau = made_of(w)
        noise = "diagonal"

    class Inherits(Own):
        pass

    assert (Own.noise, Own.minimal_levy_area) == ("diagonal", AbstractBrownianIncrement)
    assert (Inherits.noise, Inherits.minimal_levy_area) == ("diagonal", AbstractBrownianIncrement)


# ------------------------------------------------------------------------------------------------------------- messages

HEUN = GeneralCoeffs(a=[[1]], b_sol=[0.5, 0.5])
GOOD: dict[str, Any] = {"a": [[1]], "b_sol": [0.5, 0.5], "b_error": None, "c": [1], "coeffs_w": HEUN}
MESSAGES: dict[str, tuple[dict[str, Any], str]] = {
    "no stage": ({"b_sol": []}, r"The shape of `b_sol` is wrong.\nExpected: \(1,\)\nFound:    \(0,\)\nGive one weight"),
    "rows": (
        {"a": [[1], [0, 1]]},
        r"The rows of `a` must .*\nExpected: 1 rows of .*\nFound:    \[\(1,\), \(2,\)\]\nGive",
    ),
    "row length": (
        {"a": [[0, 1]]},
        r"The rows of `a` must .*\nExpected: 1 rows of shapes \[\(1,\)\].*\nFound:    \[\(2,\)",
    ),
    "nodes": ({"c": [0, 1]}, r"The shape of `c` is wrong.\nExpected: \(1,\)\nFound:    \(2,\)\nGive the nodes of all"),
    "node": ({"c": [0.5]}, r"The sum of `a\[0\]` is wrong.\nExpected: 0.5\nFound:    1.0\nA row sums to its node"),
    "weights": ({"b_sol": [0.5, 0.6]}, r"The sum of `b_sol` is wrong.\nExpected: 1.0\nFound:    1.1\nElse a constant"),
    "not a number": ({"b_sol": [np.nan, 1]}, r"The sum of `b_sol` is wrong.\nExpected: 1.0\nFound:    nan"),
    "error shape": ({"b_error": [0]}, r"The shape of `b_error` is wrong.\nExpected: \(2,\)\nFound:    \(1,\)\nGive"),
    "error sum": ({"b_error": [1, 0]}, r"The sum of `b_error` is wrong.\nExpected: 0.0\nFound:    1.0\nIt is the diff"),
    "two kinds": (
        {"coeffs_hh": AdditiveCoeffs(a=[0, 0], b_sol=0)},
        r"one kind of noise.\nExpected: all of .*\nFound:    coeffs_w of GeneralCoeffs, coeffs_hh of Add.*\nWrite",
    ),
    "no kind": ({"coeffs_w": None}, r"one kind of noise.\nExpected: all of .*\nFound:    nothing\nWrite"),
    "K without H": (
        {"coeffs_kk": GeneralCoeffs(a=[[0]], b_sol=[0, 0])},
        r"`coeffs_kk` needs `coeffs_hh`.*\nExpected: both\nFound:    coeffs_w of .*, coeffs_kk of .*\nGive",
    ),
    "noise rows": (
        {"coeffs_w": GeneralCoeffs(a=[[0], [0, 1]], b_sol=[0.5, 0.5])},
        r"The rows of `coeffs_w.a` must .*\nExpected: 1 rows of .*\nFound:    \[\(1,\), \(2,\)\]\nGive",
    ),
    "noise weights": (
        {"coeffs_w": GeneralCoeffs(a=[[1]], b_sol=[1])},
        r"The shape of `coeffs_w.b_sol` is wrong.\nExpected: \(2,\)\nFound:    \(1,\)\nGive one weight for each",
    ),
    "noise error": (
        {"b_error": [1, -1], "coeffs_w": GeneralCoeffs(a=[[1]], b_sol=[0.5, 0.5], b_error=0)},
        r"The shape of `coeffs_w.b_error` is wrong.\nExpected: \(2,\)\nFound:    \(\)\nGive one weight for each",
    ),
    "noise sum": (
        {"coeffs_w": GeneralCoeffs(a=[[1]], b_sol=[1, 1])},
        r"The sum of `coeffs_w.b_sol` is wrong.\nExpected: 1.0\nFound:    2.0\nThe solution's weights sum to one",
    ),
    "area sum": (
        {"coeffs_hh": HEUN},
        r"The sum of `coeffs_hh.b_sol` is wrong.\nExpected: 0.0\nFound:    1.0\nThe solution's weights sum to one",
    ),
    "additive stages": (
        {"coeffs_w": AdditiveCoeffs(a=[1], b_sol=1)},
        r"The shape of `coeffs_w.a` is wrong.\nExpected: \(2,\)\nFound:    \(1,\)\nGive one weight for each stage, the",
    ),
    "additive weight": (
        {"coeffs_w": AdditiveCoeffs(a=[0, 1], b_sol=[0.5, 0.5])},
        r"The shape of `coeffs_w.b_sol` is wrong.\nExpected: \(\)\nFound:    \(2,\)\nGive one number",
    ),
    "additive sum": (
        {"coeffs_w": AdditiveCoeffs(a=[0, 1], b_sol=2)},
        r"The sum of `coeffs_w.b_sol` is wrong.\nExpected: 1.0\nFound:    2.0",
    ),
    "error of the noise alone": (
        {"coeffs_w": GeneralCoeffs(a=[[1]], b_sol=[0.5, 0.5], b_error=[1, -1])},
        r"`coeffs_w.b_error` is part of .*\nExpected: .*\nFound:    \[1.0, -1.0\]\nGive `b_error=`",
    ),
    "flags": (
        {"ignore_stage_f": [False]},
        r"`ignore_stage_f` must .*\nExpected: booleans of shape \(2,\)\nFound:    bool of shape \(1,\)\nLeave it out",
    ),
    "flag type": ({"ignore_stage_g": [0, 1]}, r"`ignore_stage_g` must be .*\nExpected: booleans .*\nFound:    int64"),
    "needed": (
        {"ignore_stage_f": [True, False]},
        r"`ignore_stage_f` ignores stages .*\nExpected: zero weights .*\nFound:    others for \[0\].*\nDo not ignore",
    ),
    "needed g": (
        {"ignore_stage_g": [False, True]},
        r"`ignore_stage_g` ignores stages .*\n.*\nFound:    others for \[1\]",
    ),
    "additive g": (
        {"coeffs_w": AdditiveCoeffs(a=[0, 1], b_sol=1), "ignore_stage_g": [True, True]},
        r"`ignore_stage_g` is about stages.*\nExpected: None\nFound:    \[True, True\]\nLeave it out",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name: str) -> None:
    changes, message = MESSAGES[name]
    with pytest.raises(ValueError, match=message) as caught:
        StochasticButcherTableau(**(GOOD | changes))
    assert len(str(caught.value).splitlines()) <= 5


def test_what_is_fine() -> None:
    assert StochasticButcherTableau(**GOOD).num_stages == 2
    zeros = GeneralCoeffs(a=[[0]], b_sol=[0, 0])
    assert StochasticButcherTableau(**GOOD, coeffs_hh=zeros, coeffs_kk=zeros).num_stages == 2
    assert StochasticButcherTableau(**GOOD, ignore_stage_f=[False, False]).uses_f.tolist() == [True, True]


def test_stages_without_weights_are_not_used() -> None:
    assert SlowRK.tableau.uses_f.tolist() == [True, False, False, False, False, True, False]
    assert SlowRK.tableau.uses_g.tolist() == [False, True, True, True, True, False, True]
