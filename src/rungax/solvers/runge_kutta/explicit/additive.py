r"""Explicit Runge–Kutta methods for a sum of terms, with coefficients for each.

$$k_i^\nu = f^\nu\Big(t_0 + c_i^\nu h,\; y_0 + \sum_\mu \sum_{j<i} a_{ij}^\mu k_j^\mu\Big) \cdot h, \qquad
y_1 = y_0 + \sum_\nu \sum_i b_i^\nu k_i^\nu$$

As in `step`, a stage is already multiplied by the increment of its term's driver.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import PyTree

from ....jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Y, combination, optimization_barrier
from ....results import RESULTS, Result
from ....terms import AbstractTerm, MultiTerm
from ...common.restart import after_jump
from ...common.stage_loop import stage_time
from ...common.stage_vectors import stacked
from ...facts import fact, has_time_past_end
from ...tableaus.types.butcher import MultiButcherTableau
from .base import AbstractExplicitRK, ERKState

type Stage = tuple[Y, ...]
"""The increments of all terms in one stage."""


class AbstractAdditiveERK(AbstractExplicitRK):
    """An explicit Runge–Kutta method for a sum of terms, given by coefficients for each of them.

    The terms share the states of the stages; each is evaluated at its own nodes. A subclass of `AbstractRungeKutta`
    with a `MultiButcherTableau` of explicit tableaus is one. `interpolation_cls` receives `y0`, `y1`, and as `k` a
    tuple with the stages of each term (times the step, stacked along the first axis of each leaf).

    Cost
    ----
    One evaluation of each term for each stage, one less if the last stage is the next step's first (`tableau.fsal`).
    The program holds the vector fields once for each stage.

    References
    ----------
    C. A. Kennedy, M. H. Carpenter, Additive Runge–Kutta schemes for convection–diffusion–reaction equations, Appl.
    Numer. Math. 44 (2003), 139–181, equation 3.
    """

    term_structure: ClassVar[PyTree[Any]] = fact(lambda cls: MultiTerm[(AbstractTerm,) * len(cls.tableau.tableaus)])
    tableau: ClassVar[MultiButcherTableau]
    evaluates_past_steps: ClassVar[bool] = fact(lambda cls: any(has_time_past_end(t.c) for t in cls.tableau.tableaus))

    def step(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: ERKState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, ERKState, Result]:
        """One step; costs `num_stages` evaluations of each term, one less if the last stage is the next's first."""
        tableaus, fsal = self.tableau.tableaus, self.tableau.fsal
        solver_state = after_jump(self, terms, t0, t1, y0, args, solver_state, made_jump)
        controls = terms.contr(t0, t1)
        y = y0
        fields: Any = solver_state if fsal else terms.vf(t0, y0, args)
        stages = [_increments(terms, fields, controls)]
        for i in range(1, self.tableau.num_stages):
            y = optimization_barrier(_sum([t.a_lower[i - 1] for t in tableaus], stages, y0))
            times = [stage_time(t0, t1, float(t.c[i - 1])) for t in tableaus]
            fields = tuple(term.vf(time, y, args) for term, time in zip(terms.terms, times, strict=True))
            stages.append(_increments(terms, fields, controls))
        y1 = y if self.tableau.ssal else _sum([t.b_sol for t in tableaus], stages, y0)
        b_error = [t.b_error for t in tableaus if t.b_error is not None]
        y_error = _sum(b_error, stages) if len(b_error) == len(tableaus) else None
        dense_info = {"y0": y0, "y1": y1, "k": tuple(stacked(k) for k in zip(*stages, strict=True))}
        return y1, y_error, dense_info, fields if fsal else None, RESULTS.successful


def _increments(terms: MultiTerm, fields: tuple[Any, ...], controls: tuple[Any, ...]) -> Stage:
    """Each term's vector field times the increment of its driver."""
    parts = zip(terms.terms, fields, controls, strict=True)
    return optimization_barrier(tuple(term.prod(field, control) for term, field, control in parts))


def _sum(weights: Sequence[np.ndarray], stages: Sequence[Stage], start: Y | None = None) -> Y:
    """`start` plus the sum of all terms' increments, with weights for each term and stage."""
    increments = [k for part in zip(*stages, strict=True) for k in part]
    return combination(np.concatenate(weights), increments, start)
