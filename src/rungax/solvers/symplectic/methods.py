"""The symplectic methods. Their weights are in `tableaus`; `step.py` and `composition.py` have their steps."""

from collections.abc import Sequence
from typing import ClassVar

from ...interpolation import LocalLinearInterpolation
from ...jaxkit import (
    Args,
    BoolScalar,
    DenseInfo,
    RealScalar,
    Time,
)
from ...results import RESULTS, Result
from ..tableaus import kahan_li8, yoshida4
from .composition import AbstractSymmetricComposition
from .step import AbstractSymplectic, Pair, PairTerms, add_scaled, check_pair


class SemiImplicitEuler(AbstractSymplectic[None]):
    r"""The symplectic Euler method of order 1, for a pair of terms `(f, g)` and a state `(v, w)`.

    $$v_1 = v_0 + f(t_0, w_0)\,h, \qquad w_1 = w_0 + g(t_0, v_1)\,h$$

    One kick and one drift. No error estimate, linear dense output. It is not symmetric: a step back does not reverse a
    step. `VelocityVerlet` costs the same and is of order 2.

    Raises
    ------
    ValueError
        In a solve, if terms or state are not a pair, or the value of a vector field does not have the structure of the
        part of the state that it changes.

    Differentiability
    -----------------
    In every mode in which both vector fields are differentiable.

    Cost
    ----
    One evaluation of each vector field a step.

    References
    ----------
    R. de Vogelaere, Methods of integration which preserve the contact transformation property of the Hamilton
    equations, report no. 4, University of Notre Dame (1956).

    E. Hairer, C. Lubich, G. Wanner, Geometric Numerical Integration, 2nd ed. (2006), VI.3, theorem 3.3.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> oscillator = (
    ...     rungax.ODETerm(lambda t, w, args: -w),
    ...     rungax.ODETerm(lambda t, v, args: v),
    ... )
    >>> y0 = (jnp.array(0.0), jnp.array(1.0))
    >>> v, w = rungax.diffeqsolve(oscillator, rungax.SemiImplicitEuler(), 0.0, 1.0, 0.1, y0).ys
    >>> print(f"{w[-1]:.2f}")
    0.50
    """

    interpolation_cls = LocalLinearInterpolation

    def init(self, terms: PairTerms, t0: Time, t1: Time, y0: Pair, args: Args) -> None:
        """No solver state."""
        del terms, t0, t1, args
        check_pair(y0)

    def step(
        self,
        terms: PairTerms,
        t0: RealScalar,
        t1: RealScalar,
        y0: Pair,
        args: Args,
        solver_state: None,
        made_jump: BoolScalar,
    ) -> tuple[Pair, None, DenseInfo, None, Result]:
        """One step; costs one evaluation of each vector field."""
        del solver_state, made_jump
        (f, g), (v0, w0) = terms, y0
        v1 = add_scaled(v0, 1.0, f.vf_prod(t0, w0, args, f.contr(t0, t1)))
        w1 = add_scaled(w0, 1.0, g.vf_prod(t0, v1, args, g.contr(t0, t1)))
        y1 = (v1, w1)
        return y1, None, {"y0": y0, "y1": y1}, None, RESULTS.successful

    def order(self, terms: PairTerms) -> int:
        """One."""
        del terms
        return 1


class VelocityVerlet(AbstractSymmetricComposition):
    r"""The Störmer–Verlet method of order 2, also called leapfrog, for a pair of terms `(f, g)` and a state `(v, w)`.

    $$v_{1/2} = v_0 + \tfrac h2 f(t_0, w_0), \quad w_1 = w_0 + h\,g(t_0 + \tfrac h2, v_{1/2}), \quad
    v_1 = v_{1/2} + \tfrac h2 f(t_1, w_1)$$

    Symplectic and symmetric: a step back reverses a step. No error estimate; dense output of order 2. With steps of
    varying size the error of the energy grows.

    Raises
    ------
    ValueError
        In a solve, if terms or state are not a pair, or the value of a vector field does not have the structure of the
        part of the state that it changes.

    Differentiability
    -----------------
    In every mode in which both vector fields are differentiable.

    Cost
    ----
    One evaluation of each vector field a step: the last value of `f` is also the next step's first. Each time inside a
    step at which the solution is evaluated takes one of `g` and two of `f`.

    References
    ----------
    L. Verlet, Computer "experiments" on classical fluids I, Phys. Rev. 159 (1967), 98–103.

    E. Hairer, C. Lubich, G. Wanner, Geometric numerical integration illustrated by the Störmer–Verlet method, Acta
    Numer. 12 (2003), 399–450.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> oscillator = (
    ...     rungax.ODETerm(lambda t, w, args: -w),
    ...     rungax.ODETerm(lambda t, v, args: v),
    ... )
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

    Symplectic and symmetric. No error estimate; dense output of order 4. A step evaluates the vector fields at times up
    to 0.35 of its length before its start and after its end, so that they must be defined a little before `t0` and
    after `t1`.

    Raises
    ------
    ValueError
        In a solve, if terms or state are not a pair, or the value of a vector field does not have the structure of the
        part of the state that it changes.

    Differentiability
    -----------------
    In every mode in which both vector fields are differentiable.

    Cost
    ----
    Three evaluations of each vector field a step: the last value of `f` is also the next step's first. Each time inside
    a step at which the solution is evaluated takes three of `g` and four of `f`.

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

    Symplectic and symmetric, for long solves with high accuracy. No error estimate; dense output of order 8. All
    evaluations are at times within the step.

    Raises
    ------
    ValueError
        In a solve, if terms or state are not a pair, or the value of a vector field does not have the structure of the
        part of the state that it changes.

    Differentiability
    -----------------
    In every mode in which both vector fields are differentiable.

    Cost
    ----
    Seventeen evaluations of each vector field a step: the last value of `f` is also the next step's first. Each time
    inside a step at which the solution is evaluated takes seventeen of `g` and eighteen of `f`; those at ends of steps,
    which `SaveAt(steps=n)` saves, take none.

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
