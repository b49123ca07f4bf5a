"""Symmetric compositions: symplectic methods of higher order, composed of Verlet steps.

A Verlet step is half a kick, a drift and half a kick. The half kicks of consecutive Verlet steps are made as one, so
that each weight costs one evaluation of each vector field. The last kick of a whole step and the first of the next one
use the same evaluation.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...interpolation import AbstractLocalInterpolation, ThirdOrderHermitePolynomialInterpolation
from ...jaxkit import (
    Args,
    BoolScalar,
    DenseInfo,
    RealScalar,
    Time,
    Y,
    cast_like,
    match_varying,
    optimization_barrier,
)
from ...results import RESULTS, Result
from ...step import Step
from ...terms import is_stochastic
from ..common.completed import completed
from ..common.restart import after_jump
from ..common.stage_loop import StepInputs, are_unrolled
from ..common.step_again import StepsAgain
from .step import AbstractSymplectic, Pair, PairTerms, add_scaled, check_pair


class AbstractSymmetricComposition(AbstractSymplectic[Y]):
    r"""A symplectic and symmetric method: Verlet steps of lengths $\gamma_1 h, \dots, \gamma_s h$, one after another.

    The last kick of one Verlet step and the first of the next are made as one. The last kick of a whole step and the
    first of the next use the same value of the vector field, which is part of the solver state.

    Subclass it for a method of your own: define `weights` and `order`. Symmetric weights, $\gamma_i = \gamma_{s+1-i}$,
    make a symmetric method, whose order is even. The sum of the weights must be 1.

    Attributes
    ----------
    weights
        The lengths $\gamma_1, \dots, \gamma_s$ of the Verlet steps.

    Differentiability
    -----------------
    In every mode in which both vector fields are differentiable.

    Cost
    ----
    One evaluation of each vector field for each weight. Dense output repeats the step up to the requested time, because
    states inside a step are of low order: each time inside a step costs one more step and one more evaluation of `f`,
    and `SaveAt(dense=True)` stores `y0`, `y1` for each step and the arrays of terms and `args` once. With noise it is
    the cubic through both ends, for two more evaluations of `g`.

    References
    ----------
    E. Hairer, C. Lubich, G. Wanner, Geometric Numerical Integration, 2nd ed. (2006), II.4 and V.3.

    Examples
    --------
    The Störmer–Verlet method in two halves:

    >>> import rungax
    >>> class TwoHalves(rungax.AbstractSymmetricComposition):
    ...     weights = (0.5, 0.5)
    ...
    ...     def order(self, terms):
    ...         return 2
    """

    weights: ClassVar[Sequence[float]]
    interpolation_cls = ThirdOrderHermitePolynomialInterpolation

    @abc.abstractmethod
    def order(self, terms: PairTerms) -> int:
        """Order of convergence."""

    def init(self, terms: PairTerms, t0: Time, t1: Time, y0: Pair, args: Args) -> Y:
        """The vector field of the kicks at the start; costs one evaluation of it."""
        del t1
        check_pair(y0)
        return terms[0].vf(t0, y0[1], args)

    def attempt(
        self,
        terms: PairTerms,
        t0: RealScalar,
        t1: RealScalar,
        y0: Pair,
        args: Args,
        solver_state: Y,
        made_jump: BoolScalar,
    ) -> tuple[Pair, None, DenseInfo, Y, Result]:
        """The step without slopes; costs one evaluation of each vector field for each weight."""
        first = after_jump(self, terms, t0, t1, y0, args, solver_state, made_jump)
        inputs = StepInputs(terms, t0, t1, y0, args, (terms[0].contr(t0, t1), terms[1].contr(t0, t1)))
        plan = _plan(self.weights)
        v, w = y0
        kick0 = terms[0].prod(first, inputs.control[0])
        start = _Point(add_scaled(v, plan.first_kick, kick0), w, first)
        end = (_unroll if are_unrolled(*terms) else _scan)(inputs, start, plan.moves)
        y1 = (end.v, end.w)
        dense_info = {"y0": y0, "y1": y1, "kick0": kick0, "kick1": terms[0].prod(end.field, inputs.control[0])}
        return y1, None, dense_info, end.field, RESULTS.successful

    def densify(self, step: Step) -> DenseInfo:
        """Both ends; with noise the slopes there too, for two evaluations of the vector field of the drifts."""
        return self._slopes_at_ends(step) if is_stochastic(step.terms) else {"y0": step.y0, "y1": step.y1}

    def _slopes_at_ends(self, step: Step) -> DenseInfo:
        """Both ends and the slopes there, for two evaluations of the vector field of the drifts."""
        _, g = step.terms
        control = g.contr(step.t0, step.t1)
        ends = (step.t0, step.y0, step.dense_info["kick0"]), (step.t1, step.y1, step.dense_info["kick1"])
        k0, k1 = (cast_like((kick, g.vf_prod(t, y[0], step.args, control)), y) for t, y, kick in ends)
        return {"y0": step.y0, "y1": step.y1, "k0": k0, "k1": k1}

    step = completed(attempt, _slopes_at_ends)

    def interpolation_for(self, terms: PairTerms, args: Args) -> Callable[..., AbstractLocalInterpolation]:
        """The repeated step; with noise, whose increments are over whole steps, the cubic through both ends."""
        return ThirdOrderHermitePolynomialInterpolation if is_stochastic(terms) else StepsAgain(self, terms, args)

    def checkpoint_state(self, solver_state: Y) -> None:
        """No checkpoint: the vector field can be evaluated again."""
        del solver_state

    def restore(self, terms: PairTerms, t0: RealScalar, y0: Pair, args: Args, checkpoint: None) -> Y:
        """The vector field of the kicks at `t0`, `y0`; costs one evaluation of it."""
        del checkpoint
        return terms[0].vf(t0, y0[1], args)


class _Point(NamedTuple):
    """An intermediate result: both parts of the state, and the vector field of the kicks at `w`."""

    v: Y
    w: Y
    field: Y


class _Moves(NamedTuple):
    """A drift followed by a kick, or arrays of them.

    `drift` and `kick` are weights. `v_time` is the time of `v` during the drift and `w_time` that of `w` during the
    kick, as fractions of the step.
    """

    v_time: Any
    drift: Any
    w_time: Any
    kick: Any


class _StepPlan(NamedTuple):
    """A whole step: a kick, then drifts and kicks in turn."""

    first_kick: float
    moves: _Moves


def _plan(weights: Sequence[float]) -> _StepPlan:
    """Verlet steps of lengths `weights`, with adjacent kicks made as one."""
    drifts = np.asarray(weights, np.float64)
    kicks = 0.5 * (np.append(0.0, drifts) + np.append(drifts, 0.0))
    w_times = np.cumsum(drifts)
    # Exactly the end of the step: the vector field there serves the next step too.
    w_times[-1] = 1.0
    return _StepPlan(float(kicks[0]), _Moves(np.cumsum(kicks)[:-1], drifts, w_times, kicks[1:]))


def _drift_and_kick(inputs: StepInputs, point: _Point, move: _Moves) -> _Point:
    """A drift and a kick."""
    (f, g), (of_f, of_g) = inputs.terms, inputs.control
    w = add_scaled(point.w, move.drift, g.vf_prod(inputs.time(move.v_time), point.v, inputs.args, of_g))
    field = f.vf(inputs.time(move.w_time), w, inputs.args)
    return _Point(add_scaled(point.v, move.kick, f.prod(field, of_f)), w, field)


def _unroll(inputs: StepInputs, point: _Point, moves: _Moves) -> _Point:
    """The moves one after another in the program, with their weights as constants."""
    for row in zip(*moves, strict=True):
        point = optimization_barrier(_drift_and_kick(inputs, point, _Moves(*map(float, row))))
    return point


def _scan(inputs: StepInputs, point: _Point, moves: _Moves) -> _Point:
    """The moves as one loop, so that the program holds each vector field once."""
    dtype = jnp.result_type(inputs.t0)
    rows = jax.tree.map(lambda x: jnp.asarray(x, dtype), moves)
    # Floats also if a step by hand starts from integers.
    point = match_varying(cast_like(point, point), inputs)
    return lax.scan(lambda point, move: (_drift_and_kick(inputs, point, move), None), point, rows)[0]
