"""Symmetric compositions: symplectic methods of higher order, made of Verlet steps of well-chosen lengths.

A step of each weight is half a kick, a drift and half a kick. Where two steps meet their halves are one kick, so that
each weight costs one evaluation of each vector field; the last kick of a step and the first of the next share theirs.
"""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..interpolation import ThirdOrderHermitePolynomialInterpolation
from ..jaxkit import (
    Args,
    BoolScalar,
    DenseInfo,
    RealScalar,
    Time,
    Y,
    any_lane,
    cast_like,
    fence,
    match_varying,
    select,
)
from ..results import RESULTS, Result
from .explicit_rk import MAX_UNROLLED_EQUATIONS
from .symplectic import AbstractSymplectic, Pair, PairTerms, check_pair, moved
from .tableaus import kahan_li8, yoshida4


class AbstractSymmetricComposition(AbstractSymplectic[Y]):
    r"""A symplectic and symmetric method: Verlet steps of lengths $\gamma_1 h, \dots, \gamma_s h$, one after another.

    The last kick of one Verlet step and the first of the next are made as one. The last kick of a whole step and the
    first of the next need the same value of the vector field, which is remembered.

    Subclass it for a method of your own: give `weights` and `order`. Symmetric weights, $\gamma_i = \gamma_{s+1-i}$,
    make a symmetric method, whose order is even; the sum must be 1.

    Attributes
    ----------
    weights
        The $\gamma$.

    Differentiability
    -----------------
    In every mode in which both vector fields are differentiable themselves.

    Cost
    ----
    One evaluation of each vector field for each weight, and two more of `g` where the interior of a step is asked for.

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
        """The vector field that kicks, at the start."""
        del t1
        check_pair(y0)
        return terms[0].vf(t0, y0[1], args)

    def step(
        self,
        terms: PairTerms,
        t0: RealScalar,
        t1: RealScalar,
        y0: Pair,
        args: Args,
        solver_state: Y,
        made_jump: BoolScalar,
    ) -> tuple[Pair, None, DenseInfo, Y, Result]:
        """One step; costs one evaluation of each vector field for each weight."""
        first = self._first_field(terms, t0, y0, args, solver_state, made_jump)
        grid = _Grid(terms, t0, t1, args, (terms[0].contr(t0, t1), terms[1].contr(t0, t1)))
        plan = _plan(self.weights)
        v, w = y0
        kick0 = terms[0].prod(first, grid.controls[0])
        start = _Point(moved(v, plan.first_kick, kick0), w, first)
        large = sum(term.num_equations() for term in terms) > MAX_UNROLLED_EQUATIONS
        end = (_scan if large else _unroll)(grid, start, plan.moves)
        y1 = (end.v, end.w)
        dense_info = {"y0": y0, "y1": y1, "kick0": kick0, "kick1": terms[0].prod(end.field, grid.controls[0])}
        return y1, None, dense_info, end.field, RESULTS.successful

    def densify(
        self,
        terms: PairTerms,
        t0: RealScalar,
        t1: RealScalar,
        y0: Pair,
        y1: Pair,
        args: Args,
        dense_info: DenseInfo,
    ) -> DenseInfo:
        """The slopes at both ends; costs two evaluations of the vector field that makes drifts."""
        g, control = terms[1], terms[1].contr(t0, t1)
        slopes = [
            cast_like((kick, g.vf_prod(t, y[0], args, control)), y)
            for t, y, kick in ((t0, y0, dense_info["kick0"]), (t1, y1, dense_info["kick1"]))
        ]
        return {"y0": y0, "y1": y1, "k0": slopes[0], "k1": slopes[1]}

    def memory(self, solver_state: Y) -> None:
        """Nothing: the vector field can be evaluated again."""
        del solver_state

    def recall(self, terms: PairTerms, t0: RealScalar, y0: Pair, args: Args, memory: None) -> Y:
        """The vector field that kicks, at `t0`, `y0`; costs one evaluation of it."""
        del memory
        return terms[0].vf(t0, y0[1], args)

    def _first_field(
        self, terms: PairTerms, t0: RealScalar, y0: Pair, args: Args, solver_state: Y, made_jump: BoolScalar
    ) -> Y:
        if made_jump is False:
            return solver_state
        return lax.cond(
            any_lane(made_jump),
            lambda: select(made_jump, terms[0].vf(t0, y0[1], args), solver_state),
            lambda: solver_state,
        )


class VelocityVerlet(AbstractSymmetricComposition):
    r"""The Störmer–Verlet method of order 2, also called leapfrog, for a pair of terms `(f, g)` and a state `(v, w)`.

    $$v_{1/2} = v_0 + \tfrac h2 f(t_0, w_0), \quad w_1 = w_0 + h\,g(t_0 + \tfrac h2, v_{1/2}), \quad
    v_1 = v_{1/2} + \tfrac h2 f(t_1, w_1)$$

    Symplectic, and symmetric: a step back undoes a step. No error estimate; cubic dense output of order 2. With steps
    that vary the energy's error grows.

    Raises
    ------
    ValueError
        In a solve, if terms or state are no pair, or a vector field's value does not fit the part of the state that it
        moves.

    Differentiability
    -----------------
    In every mode in which both vector fields are differentiable themselves.

    Cost
    ----
    One evaluation of each vector field a step: the last value of `f` serves the next step again. Two more of `g` where
    the interior of the step is asked for.

    References
    ----------
    L. Verlet, Computer "experiments" on classical fluids I, Phys. Rev. 159 (1967), 98–103.

    E. Hairer, C. Lubich, G. Wanner, Geometric numerical integration illustrated by the Störmer–Verlet method, Acta
    Numer. 12 (2003), 399–450.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> oscillator = (rungax.ODETerm(lambda t, w, args: -w), rungax.ODETerm(lambda t, v, args: v))
    >>> y0 = (jnp.array(0.0), jnp.array(1.0))
    >>> v, w = rungax.diffeqsolve(oscillator, rungax.VelocityVerlet(), 0.0, 1000.0, 0.25, y0).ys
    >>> print(f"{0.5 * (v[-1] ** 2 + w[-1] ** 2):.2f}")
    0.50
    """

    weights: ClassVar[Sequence[float]] = (1.0,)

    def order(self, terms: PairTerms) -> int:
        """Two."""
        del terms
        return 2


class Yoshida4(AbstractSymmetricComposition):
    r"""Yoshida's method of order 4, three Verlet steps in one, for a pair of terms `(f, g)` and a state `(v, w)`.

    $$\gamma_1 = \gamma_3 = \frac{1}{2 - 2^{1/3}}, \qquad \gamma_2 = 1 - 2 \gamma_1 \approx -1.70$$

    Symplectic and symmetric. No error estimate; cubic dense output of order 3, of order 4 at the ends of steps. On its
    way it goes by 0.35 of a step past either end of a step, so vector fields must be defined a little before `t0` and
    after `t1`.

    Raises
    ------
    ValueError
        In a solve, if terms or state are no pair, or a vector field's value does not fit the part of the state that it
        moves.

    Differentiability
    -----------------
    In every mode in which both vector fields are differentiable themselves.

    Cost
    ----
    Three evaluations of each vector field a step: the last value of `f` serves the next step again. Two more of `g`
    where the interior of the step is asked for.

    References
    ----------
    H. Yoshida, Construction of higher order symplectic integrators, Phys. Lett. A 150 (1990), 262–268.

    E. Hairer, C. Lubich, G. Wanner, Geometric Numerical Integration, 2nd ed. (2006), II.4, equation 4.4.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.Yoshida4()
    >>> solver.order(None), len(solver.weights)
    (4, 3)
    """

    weights: ClassVar[Sequence[float]] = yoshida4.WEIGHTS

    def order(self, terms: PairTerms) -> int:
        """Four."""
        del terms
        return yoshida4.ORDER


class KahanLi8(AbstractSymmetricComposition):
    r"""Kahan and Li's method of order 8, seventeen Verlet steps in one, for a pair of terms and a state `(v, w)`.

    Symplectic and symmetric: the method for long solves that ask for many digits. No error estimate; cubic dense output
    of order 3, of order 8 at the ends of steps, where `SaveAt(steps=n)` and `ts` that are multiples of `dt0` look. On
    its way it stays within the step.

    Raises
    ------
    ValueError
        In a solve, if terms or state are no pair, or a vector field's value does not fit the part of the state that it
        moves.

    Differentiability
    -----------------
    In every mode in which both vector fields are differentiable themselves.

    Cost
    ----
    Seventeen evaluations of each vector field a step: the last value of `f` serves the next step again. Two more of `g`
    where the interior of the step is asked for.

    References
    ----------
    W. Kahan, R.-C. Li, Composition constants for raising the orders of unconventional schemes for ordinary differential
    equations, Math. Comp. 66 (1997), 1089–1099.

    E. Hairer, C. Lubich, G. Wanner, Geometric Numerical Integration, 2nd ed. (2006), V.3.2, equation 3.14.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.KahanLi8()
    >>> solver.order(None), len(solver.weights)
    (8, 17)
    """

    weights: ClassVar[Sequence[float]] = kahan_li8.WEIGHTS

    def order(self, terms: PairTerms) -> int:
        """Eight."""
        del terms
        return kahan_li8.ORDER


class _Grid(NamedTuple):
    """What all kicks and drifts of a step have in common."""

    terms: PairTerms
    t0: RealScalar
    t1: RealScalar
    args: Args
    controls: tuple[Any, Any]

    def time(self, c: Any) -> RealScalar:
        return self.t0 + c * (self.t1 - self.t0)


class _Point(NamedTuple):
    """Where a step has come to: both parts of the state, and the kicking vector field at `w`."""

    v: Y
    w: Y
    field: Y


class _Moves(NamedTuple):
    """A drift and then a kick, or arrays of them: weights, and the time of what stands still, as part of the step."""

    v_time: Any
    drift: Any
    w_time: Any
    kick: Any


class _StepPlan(NamedTuple):
    """A whole step: a kick, and then drifts and kicks in turn."""

    first_kick: float
    moves: _Moves


def _plan(weights: Sequence[float]) -> _StepPlan:
    """Verlet steps of lengths `weights`, with the kicks between two of them made as one."""
    drifts = np.asarray(weights, np.float64)
    kicks = 0.5 * (np.append(0.0, drifts) + np.append(drifts, 0.0))
    w_times = np.cumsum(drifts)
    # Both ends of the step in both times: rounding must not make them differ from those that are remembered.
    w_times[-1] = 1.0
    return _StepPlan(float(kicks[0]), _Moves(np.cumsum(kicks)[:-1], drifts, w_times, kicks[1:]))


def _advance(grid: _Grid, point: _Point, move: _Moves) -> _Point:
    """A drift and a kick."""
    (f, g), (of_f, of_g) = grid.terms, grid.controls
    w = moved(point.w, move.drift, g.vf_prod(grid.time(move.v_time), point.v, grid.args, of_g))
    t = grid.t1 if isinstance(move.w_time, float) and move.w_time == 1 else grid.time(move.w_time)
    field = f.vf(t, w, grid.args)
    return _Point(moved(point.v, move.kick, f.prod(field, of_f)), w, field)


def _unroll(grid: _Grid, point: _Point, moves: _Moves) -> _Point:
    """The moves one after another in the program, with their weights as constants."""
    for row in zip(*moves, strict=True):
        point = fence(_advance(grid, point, _Moves(*map(float, row))))
    return point


def _scan(grid: _Grid, point: _Point, moves: _Moves) -> _Point:
    """The moves as one loop, so that the program holds each vector field once."""
    dtype = jnp.result_type(grid.t0)
    rows = jax.tree.map(lambda x: jnp.asarray(x, dtype), moves)
    point = match_varying(point, grid)
    return lax.scan(lambda point, move: (_advance(grid, point, move), None), point, rows)[0]
