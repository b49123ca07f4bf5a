"""Methods for underdamped Langevin dynamics: ALIGN, ShOULD, QUICSORT."""

from math import sqrt
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ....brownian import AbstractSpaceTimeLevyArea, AbstractSpaceTimeTimeLevyArea
from ....jaxkit import RealScalar
from ...base import AbstractAdaptiveSolver
from .step import AbstractFosterLangevinSRK, LangevinState, LangevinStep, Response, StepEnd, X, plus

# The nodes of the two-point Gauss–Legendre rule.
LOW, HIGH = (3 - sqrt(3)) / 6, (3 + sqrt(3)) / 6


class ALIGN(AbstractFosterLangevinSRK[Response, tuple[X, X]], AbstractAdaptiveSolver[LangevinState]):
    r"""Adaptive Langevin via interpolated gradients and noise, of strong order 2 for underdamped Langevin dynamics.

    With $z = \gamma h$, $\varphi_1(z) = (1 - e^{-z})/z$, $\varphi_2(z) = (1 - \varphi_1(z))/z$, and $N_x$, $N_v$ the
    mean contributions of noise to position and velocity, given $W$ and $H$:

    $$x_1 = x_0 + h\varphi_1 v_0 - h^2 \varphi_2 u \nabla f(x_0) + N_x, \qquad
    v_1 = e^{-z} v_0 - h u \big((\varphi_1 - \varphi_2)\nabla f(x_0) + \varphi_2 \nabla f(x_1)\big) + N_v$$

    The error estimate is the difference to the method that uses the first gradient for the whole step. It is of order
    2, and zero for the position. For
    `MultiTerm(UnderdampedLangevinDriftTerm(...), UnderdampedLangevinDiffusionTerm(...))`; noise is additive, so that
    the Itô and the Stratonovich solution are the same. Linear dense output.

    Parameters
    ----------
    taylor_threshold
        The value of friction times step size, above 0 and at most 1, below which series replace closed formulas, which
        lose digits to cancellation there: see `AbstractFosterLangevinSRK`. At the default 0.1 the formulas lose a
        factor of 20 of their precision.

    Raises
    ------
    ValueError
        If `taylor_threshold` is not a Python number of at least 0; in a solve, if the terms are not those above, if
        `gamma` or `u` are known to differ between them, or if the path has no space-time Lévy area.

    Differentiability
    -----------------
    In every mode in which `grad_f` is differentiable itself.

    Cost
    ----
    One gradient a step, one more at the start. It needs `SpaceTimeLevyArea`.

    References
    ----------
    A. Jelinčič, J. Foster, P. Kidger, Single-seed generation of Brownian paths and integrals for adaptive and high
    order SDE solvers, arXiv:2405.06464.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.ALIGN()
    >>> solver.strong_order(None), solver.minimal_levy_area.__name__
    (2.0, 'AbstractSpaceTimeLevyArea')
    """

    taylor_threshold: float = eqx.field(default=0.1, static=True)
    minimal_levy_area = AbstractSpaceTimeLevyArea
    reuses_gradient: ClassVar[bool] = True

    def end_of_step(self, step: LangevinStep, gradient: X | None) -> StepEnd:
        """The end of the step, by the formulas in the docstring of the class."""
        response, first = step.response, step.impulse(gradient)
        noise_x, noise_v = step._replace(K=None).noise()
        x1 = plus(step.x, (response.x_from_v(), step.v), (response.x_from_impulse(), first), (1.0, noise_x))
        gradient = step.gradient(x1)
        change = plus(None, (response.mean_v_from_impulse(), jax.tree.map(jnp.subtract, step.impulse(gradient), first)))
        v1 = plus(noise_v, (response.v_from_v(), step.v), (response.v_from_impulse(), first), (1.0, change))
        return StepEnd(x1, v1, (jax.tree.map(jnp.zeros_like, x1), change), gradient)

    def order(self, terms: PyTree[Any]) -> int:
        """Two."""
        del terms
        return 2

    def strong_order(self, terms: PyTree[Any]) -> RealScalar:
        """Two."""
        del terms
        return 2.0

    def error_order(self, terms: PyTree[Any]) -> RealScalar:
        """Two: the change of the gradient is of order one, and is multiplied by the step size."""
        del terms
        return 2.0


class ShOULD(AbstractFosterLangevinSRK[Response, tuple[X, X]], AbstractAdaptiveSolver[LangevinState]):
    r"""Shifted-ODE method with Simpson's rule, of strong order 3 for underdamped Langevin dynamics.

    With $z = \gamma h$, $\varphi_1(z) = (1 - e^{-z})/z$, $\varphi_2(z) = (1 - \varphi_1(z))/z$,
    $V = v_0 + \sigma (H + 6K)$ and $C = \sigma (W - 12 K)$, the start of the shifted path and its slope times $h$, and
    $N_x$, $N_v$ the mean contributions of noise to position and velocity, given $W$, $H$ and $K$:

    $$x_m = x_0 + \tfrac h2 \varphi_1(\tfrac z2) V + \tfrac h4 \varphi_2(\tfrac z2) (C - h u \nabla f(x_0))$$

    $$x_1 = x_0 + h\varphi_1 v_0 - h^2 \varphi_2 u \tfrac13 \big(\nabla f(x_0) + 2 \nabla f(x_m)\big) + N_x$$

    $$v_1 = e^{-z} v_0 - \tfrac h6 u \big(e^{-z} \nabla f(x_0) + 4 e^{-z/2} \nabla f(x_m) + \nabla f(x_1)\big) + N_v$$

    The error estimate is the difference to the trapezoidal rule with the same evaluations, of order 2.5. For
    `MultiTerm(UnderdampedLangevinDriftTerm(...), UnderdampedLangevinDiffusionTerm(...))`; noise is additive, so that
    the Itô and the Stratonovich solution are the same. Linear dense output.

    Parameters
    ----------
    taylor_threshold
        The value of friction times step size, above 0 and at most 1, below which series replace closed formulas, which
        lose digits to cancellation there: see `AbstractFosterLangevinSRK`. At the default 0.1 the formulas lose a
        factor of 20 of their precision.

    Raises
    ------
    ValueError
        If `taylor_threshold` is not a Python number of at least 0; in a solve, if the terms are not those above, if
        `gamma` or `u` are known to differ between them, or if the path has no space-time-time Lévy area.

    Differentiability
    -----------------
    In every mode in which `grad_f` is differentiable itself.

    Cost
    ----
    Two gradients a step, one more at the start. It needs `SpaceTimeTimeLevyArea`.

    References
    ----------
    J. Foster, T. Lyons, H. Oberhauser, The shifted ODE method for underdamped Langevin MCMC, arXiv:2101.03446, the
    method SORT; here the noise of the whole step is integrated exactly up to $K$, not along the shifted path, a
    difference of higher order.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.ShOULD()
    >>> solver.strong_order(None), solver.minimal_levy_area.__name__
    (3.0, 'AbstractSpaceTimeTimeLevyArea')
    """

    taylor_threshold: float = eqx.field(default=0.1, static=True)
    minimal_levy_area = AbstractSpaceTimeTimeLevyArea
    reuses_gradient: ClassVar[bool] = True

    def end_of_step(self, step: LangevinStep, gradient: X | None) -> StepEnd:
        """The end of the step, by the formulas in the docstring of the class."""
        response, first = step.response, step.impulse(gradient)
        shifted, slope = _shifted_path(step)
        driven = jax.tree.map(jnp.add, slope, first)
        x_mid = plus(step.x, (response.x_from_v(0.5), shifted), (response.x_from_impulse(0.5), driven))
        middle = step.impulse(step.gradient(x_mid))
        noise_x, noise_v = step.noise()
        change = jax.tree.map(jnp.subtract, middle, first)
        shift = plus(None, (response.x_from_impulse(), plus(None, (2 / 3, change))))
        x1 = plus(
            step.x, (response.x_from_v(), step.v), (response.x_from_impulse(), first), (1.0, shift), (1.0, noise_x)
        )
        gradient = step.gradient(x1)
        v_from_v, halfway, last = response.v_from_v(), response.v_from_v(0.5), step.impulse(gradient)
        inner, outer = plus(None, (halfway, middle)), plus(last, (v_from_v, first))
        v1 = plus(noise_v, (v_from_v, step.v), (2 / 3, inner), (1 / 6, outer))
        return StepEnd(x1, v1, (shift, plus(None, (2 / 3, inner), (-1 / 3, outer))), gradient)

    def order(self, terms: PyTree[Any]) -> int:
        """Three."""
        del terms
        return 3

    def strong_order(self, terms: PyTree[Any]) -> RealScalar:
        """Three."""
        del terms
        return 3.0

    def error_order(self, terms: PyTree[Any]) -> RealScalar:
        """Two and a half: the trapezoidal rule's error for a position that is not twice differentiable."""
        del terms
        return 2.5


class QUICSORT(AbstractFosterLangevinSRK[Response, None]):
    r"""Quadrature-inspired and contractive shifted ODE with Runge–Kutta three: strong order 3 for underdamped Langevin.

    With $z = \gamma h$, $\varphi_1(z) = (1 - e^{-z})/z$, $\varphi_2(z) = (1 - \varphi_1(z))/z$, the nodes
    $\lambda_\pm = (3 \pm \sqrt 3)/6$ of Gauss' rule, $V = v_0 + \sigma (H + 6K)$ and $C = \sigma (W - 12 K)$:

    $$x_- = x_0 + \lambda_- h \varphi_1(\lambda_- z) V + \lambda_-^2 h \varphi_2(\lambda_- z) C$$

    $$x_+ = x_0 + \lambda_+ h \varphi_1(\lambda_+ z) V + \lambda_+^2 h \varphi_2(\lambda_+ z) C
    - \tfrac13 h^2 \varphi_1(\tfrac z3) u \nabla f(x_-)$$

    $$x_1 = x_0 + h\varphi_1 V + h \varphi_2 C - \tfrac12 h^2 u \big(\lambda_+ \varphi_1(\lambda_+ z) \nabla f(x_-)
    + \lambda_- \varphi_1(\lambda_- z) \nabla f(x_+)\big)$$

    $$v_1 = e^{-z} V + \varphi_1 C - \tfrac12 h u
    \big(e^{-\lambda_+ z} \nabla f(x_-) + e^{-\lambda_- z} \nabla f(x_+)\big) - \sigma (H - 6K)$$

    No error estimate: for adaptive steps use `HalfSolver(QUICSORT())`. For
    `MultiTerm(UnderdampedLangevinDriftTerm(...), UnderdampedLangevinDiffusionTerm(...))`; noise is additive, so that
    the Itô and the Stratonovich solution are the same. Linear dense output.

    Parameters
    ----------
    taylor_threshold
        The value of friction times step size, above 0 and at most 1, below which series replace closed formulas, which
        lose digits to cancellation there: see `AbstractFosterLangevinSRK`. At the default 0.1 the formulas lose a
        factor of 20 of their precision.

    Raises
    ------
    ValueError
        If `taylor_threshold` is not a Python number of at least 0; in a solve, if the terms are not those above, if
        `gamma` or `u` are known to differ between them, or if the path has no space-time-time Lévy area.

    Differentiability
    -----------------
    In every mode in which `grad_f` is differentiable itself.

    Cost
    ----
    Two gradients a step. It needs `SpaceTimeTimeLevyArea`.

    References
    ----------
    M. Scott, D. O'Kane, A. Jelinčič, J. Foster, Underdamped Langevin MCMC with third order convergence,
    arXiv:2508.16485.

    A. Jelinčič, J. Foster, P. Kidger, Single-seed generation of Brownian paths and integrals for adaptive and high
    order SDE solvers, arXiv:2405.06464.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.QUICSORT()
    >>> solver.strong_order(None), solver.minimal_levy_area.__name__
    (3.0, 'AbstractSpaceTimeTimeLevyArea')
    """

    taylor_threshold: float = eqx.field(default=0.1, static=True)
    minimal_levy_area = AbstractSpaceTimeTimeLevyArea

    def end_of_step(self, step: LangevinStep, gradient: X | None) -> StepEnd:
        """The end of the step, by the formulas in the docstring of the class."""
        del gradient
        response = step.response
        shifted, slope = _shifted_path(step)
        low, high = response.x_from_v(LOW), response.x_from_v(HIGH)
        x_low = plus(step.x, (low, shifted), (response.x_from_impulse(LOW), slope))
        first = step.impulse(step.gradient(x_low))
        x_high = plus(
            step.x, (high, shifted), (response.x_from_impulse(HIGH), slope), (response.x_from_v(1 / 3), first)
        )
        second = step.impulse(step.gradient(x_high))
        displacement = plus(None, (high, first), (low, second))
        gain = plus(None, (response.v_from_v(HIGH), first), (response.v_from_v(LOW), second))
        x1 = plus(step.x, (response.x_from_v(), shifted), (response.x_from_impulse(), slope), (0.5, displacement))
        unshifted = plus(None, (-1.0, step.H), (6.0, step.K))
        v1 = plus(unshifted, (response.v_from_v(), shifted), (response.v_from_impulse(), slope), (0.5, gain))
        return StepEnd(x1, v1, None, None)

    def order(self, terms: PyTree[Any]) -> int:
        """Three."""
        del terms
        return 3

    def strong_order(self, terms: PyTree[Any]) -> RealScalar:
        """Three."""
        del terms
        return 3.0


def _shifted_path(step: LangevinStep) -> tuple[X, X]:
    """Velocity after the first jump of the path that replaces the noise, and the increment of its linear part.

    The path jumps by `H + 6K`, rises linearly by `W - 12K` and jumps back by `H - 6K`, so that its increment and its
    first two moments are those of the noise.
    """
    return plus(step.v, (1.0, step.H), (6.0, step.K)), plus(step.W, (-12.0, step.K))
