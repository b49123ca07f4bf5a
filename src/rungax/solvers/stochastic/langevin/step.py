r"""Runge–Kutta methods for underdamped Langevin dynamics.

$$\mathrm{d}x = v\,\mathrm{d}t, \qquad
\mathrm{d}v = -\gamma v\,\mathrm{d}t - u\,\nabla f(x)\,\mathrm{d}t + \sigma\,\mathrm{d}W, \qquad
\sigma = \sqrt{2\gamma u}$$

Friction is linear and integrated exactly. So is the noise, by its mean given `W`, `H` and `K`. Only the force is
evaluated at stages. All formulas consist of the response of a particle without force, after the fraction $\theta$ of a
step of length $h$, with $z = \gamma h$, $\varphi_1(z) = (1-e^{-z})/z$ and $\varphi_2(z) = (1-\varphi_1(z))/z$:

| name | formula | meaning |
|---|---|---|
| `v_from_v` | $e^{-\theta z}$ | velocity that remains of a unit of velocity at the start |
| `x_from_v` | $\theta h\,\varphi_1(\theta z)$ | displacement by a unit of velocity at the start |
| `v_from_impulse` | $\theta\,\varphi_1(\theta z)$ | velocity from a unit impulse spread evenly over the whole step |
| `x_from_impulse` | $\theta^2 h\,\varphi_2(\theta z)$ | displacement by that impulse |

An impulse is measured by the change of velocity that it makes without friction. Backwards in time $h$ is negative and
nothing else changes. A path reversed in time has `W` and `K` negated and `H` unchanged, so that noise enters the
velocity as it does forwards, and the displacement has the sign of $h$.
"""

import abc
from collections.abc import Callable, Iterable
from math import factorial
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ....interpolation import LocalLinearInterpolation
from ....jaxkit import (
    Args,
    BoolScalar,
    Condition,
    DenseInfo,
    RealScalar,
    Time,
    Y,
    all_hold,
    optimization_barrier,
    require,
    shown,
)
from ....results import RESULTS, Result, choose
from ....terms import MultiTerm, fits
from ....terms.langevin import (
    UnderdampedLangevinDiffusionTerm,
    UnderdampedLangevinDriftTerm,
    X,
    equal_coefficients,
    position_and_velocity,
)
from ...base import AbstractItoSolver, AbstractStratonovichSolver
from ...common.restart import after_jump


class LangevinState(eqx.Module):
    """The solver state of a Langevin method.

    Parameters
    ----------
    agrees
        True if drift and diffusion have the same friction and inverse mass; `None` if that is already known.
    gradient
        The gradient of the potential at the start of the next step, for methods that evaluate it at the end of a step.
    """

    agrees: BoolScalar | None
    gradient: X | None


class Response(NamedTuple):
    """Velocity and displacement by friction alone: one coefficient for each leaf of the position."""

    z: X
    h: X
    threshold: float

    def v_from_v(self, theta: float = 1.0) -> X:
        """Velocity that remains of a unit after the fraction `theta` of the step."""
        return jax.tree.map(lambda z: jnp.exp(-theta * z), self.z)

    def v_from_impulse(self, theta: float = 1.0) -> X:
        """Velocity after the fraction `theta` from a unit impulse spread evenly over the whole step."""
        return jax.tree.map(lambda z: theta * phi1(theta * z, self.threshold), self.z)

    def x_from_v(self, theta: float = 1.0) -> X:
        """Displacement after the fraction `theta` by a unit of velocity at the start."""
        return jax.tree.map(jnp.multiply, self.h, self.v_from_impulse(theta))

    def mean_v_from_impulse(self) -> X:
        """The average of `v_from_impulse(theta)` over the step."""
        return jax.tree.map(lambda z: phi2(z, self.threshold), self.z)

    def x_from_impulse(self, theta: float = 1.0) -> X:
        """Displacement after the fraction `theta` by a unit impulse spread evenly over the whole step."""
        return jax.tree.map(lambda z, h: theta**2 * h * phi2(theta * z, self.threshold), self.z, self.h)


class LangevinStep(NamedTuple):
    """The quantities of one step in the formulas of a method.

    Parameters
    ----------
    x, v
        Position and velocity at the start.
    W, H, K
        Increment and Lévy areas of the noise, times its strength; `K` is `None` if the path does not have it.
    response
        The response to velocity and impulses under friction.
    impulse
        The impulse of the force over the whole step, `-u h gradient`, as a function of the gradient.
    gradient
        The gradient of the potential at a position; every call is an evaluation.
    """

    x: X
    v: X
    W: X
    H: X
    K: X | None
    response: Response
    impulse: Callable[[X], X]
    gradient: Callable[[X], X]

    def noise(self) -> tuple[X, X]:
        """The contribution of noise to position and velocity: its mean given `W`, `H` and, if there is one, `K`."""
        threshold = self.response.threshold
        eta, kappa = (jax.tree.map(lambda z, f=f: f(z, threshold), self.response.z) for f in (eta_of, kappa_of))
        areas = plus(None, (eta, self.H)) if self.K is None else plus(None, (eta, self.H), (kappa, self.K))
        damped = jax.tree.map(jnp.negative, areas)
        displacement = plus(None, (self.response.x_from_impulse(), self.W), (self.response.h, areas))
        return displacement, plus(None, (self.response.v_from_impulse(), self.W), (self.response.z, damped))


class StepEnd(NamedTuple):
    """The end of a step: position, velocity, error estimate and gradient.

    The last two are `None` for methods that do not compute them.
    """

    x: X
    v: X
    error: tuple[X, X] | None
    gradient: X | None


class AbstractFosterLangevinSRK[Coeffs, ErrorEstimate](
    AbstractItoSolver[LangevinState], AbstractStratonovichSolver[LangevinState]
):
    """A Runge–Kutta method for underdamped Langevin dynamics.

    Subclass it for a method of your own: define `minimal_levy_area`, `order`, `strong_order`, the field
    `taylor_threshold` and `end_of_step`. Set `reuses_gradient` if a step evaluates the gradient at its end. The type
    parameters are the types of the coefficients of a step and of its error estimate.

    Attributes
    ----------
    taylor_threshold
        The value of $|γh|$ below which Taylor series replace the closed formulas of the coefficients. Most of these
        formulas lose a factor of $2/|γh|$ of their precision to cancellation. Those that lose more use their series up
        to the value at which they lose as much as the others at the threshold. Any number of at least 0. A number above
        1 acts as 1, where the formulas no longer lose precision, and one below the square root of the rounding unit
        acts as that root, where they lose half of the digits.
    reuses_gradient
        True if the gradient at the end of a step serves at the start of the next one.

    Raises
    ------
    ValueError
        If `taylor_threshold` is not a Python number of at least 0.

    See Also
    --------
    ALIGN, ShOULD, QUICSORT : the methods of this kind.
    """

    taylor_threshold: eqx.AbstractVar[float]
    reuses_gradient: ClassVar[bool] = False
    term_structure: ClassVar[PyTree[Any]] = MultiTerm[
        tuple[UnderdampedLangevinDriftTerm, UnderdampedLangevinDiffusionTerm]
    ]
    interpolation_cls = LocalLinearInterpolation
    noise = "additive"

    def __check_init__(self) -> None:
        threshold = self.taylor_threshold
        if not isinstance(threshold, int | float) or not threshold >= 0:
            raise ValueError(
                f"`{type(self).__name__}(taylor_threshold=...)` is the bound below which series replace formulas.\n"
                f"Expected: a Python number from 0, such as 0.1\nFound:    {shown(threshold)}"
            )

    @abc.abstractmethod
    def end_of_step(self, step: LangevinStep, gradient: X | None) -> StepEnd:
        """The end of a step by the formulas of the method.

        Parameters
        ----------
        step
            The quantities in the formulas.
        gradient
            The gradient at the start of the step if `reuses_gradient`, else `None`.
        """

    def conditions_on(self, terms: PyTree[Any], y0: Y) -> Iterable[Condition]:
        """`gamma` and `u` are the same in drift and diffusion; none for other terms, which a check refuses."""
        if not fits(self.term_structure, terms):
            return ()
        return equal_coefficients(*_unwrapped(terms), position_and_velocity(y0)[0])

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> LangevinState:
        """The gradient at the start, for methods that need it; costs at most one evaluation.

        Raises
        ------
        ValueError
            If `gamma` or `u` are known to differ between drift and diffusion. While a program is staged, and if they
            differ by values that are known only at run time, the first step fails with `RESULTS.invalid_input`.
        """
        del t0, t1
        conditions = list(equal_coefficients(*_unwrapped(terms), position_and_velocity(y0)[0]))
        require(conditions)
        agrees = all_hold(conditions)
        agrees = None if agrees is True else jnp.asarray(agrees)
        return LangevinState(agrees, self._first_gradient(terms, y0, args))

    def restart(
        self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args, solver_state: LangevinState
    ) -> LangevinState:
        """The gradient at the new state, for methods that need it; costs at most one evaluation."""
        del t0, t1
        return LangevinState(solver_state.agrees, self._first_gradient(terms, y0, args))

    def step(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: LangevinState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, LangevinState, Result]:
        """One step; it fails if `gamma` or `u` differ between drift and diffusion."""
        solver_state = after_jump(self, terms, t0, t1, y0, args, solver_state, made_jump)
        end = self.end_of_step(self._prepare(terms, t0, t1, y0, args), solver_state.gradient)
        y1 = end.x, end.v
        agrees = solver_state.agrees
        # A result, not a callback that raises: the loop has no callbacks, and a solve need not throw.
        result = RESULTS.successful if agrees is None else choose(agrees, RESULTS.successful, RESULTS.invalid_input)
        state = LangevinState(agrees, end.gradient if self.reuses_gradient else None)
        return y1, end.error, {"y0": y0, "y1": y1}, state, result

    def checkpoint_state(self, solver_state: LangevinState) -> None:
        """No checkpoint: the gradient can be evaluated again."""
        del solver_state

    def restore(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args, checkpoint: None) -> LangevinState:
        """The solver state with the gradient evaluated again; costs at most one evaluation."""
        del t0, checkpoint
        return LangevinState(None, self._first_gradient(terms, y0, args))

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector fields of drift and diffusion at `t0`, `y0`, as a tuple."""
        return terms.vf(t0, y0, args)

    def _first_gradient(self, terms: PyTree[Any], y0: Y, args: Args) -> X | None:
        return _unwrapped(terms)[0].gradient(y0[0], args) if self.reuses_gradient else None

    def _prepare(self, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args) -> LangevinStep:
        """The quantities of the step in the formulas."""
        drift, diffusion = _unwrapped(terms)
        signed = jnp.asarray(terms.terms[0].contr(t0, t1))
        increment = terms.terms[1].contr(t0, t1, use_levy=True)
        x, v = position_and_velocity(y0)
        gamma, u, strength = drift.friction(x), drift.inverse_mass(x), diffusion.strength(x)
        h = jax.tree.map(lambda gamma: signed.astype(gamma.dtype), gamma)
        scale = jax.tree.map(lambda u, h: -u * h, u, h)

        def of_strength(area: X) -> X:
            return jax.tree.map(lambda s, a, x: s * jnp.asarray(a).astype(x.dtype), strength, area, x)

        K = getattr(increment, "K", None)
        return LangevinStep(
            x=x,
            v=v,
            W=of_strength(increment.W),
            H=of_strength(increment.H),
            K=None if K is None else of_strength(K),
            response=Response(jax.tree.map(jnp.multiply, gamma, h), h, _usable(self.taylor_threshold, gamma)),
            impulse=lambda gradient: jax.tree.map(jnp.multiply, scale, gradient),
            # Without the barriers, fusion would compute a stage again in everything that uses it.
            gradient=lambda x: optimization_barrier(drift.gradient(optimization_barrier(x), args)),
        )


def _usable(threshold: float, like: X) -> float:
    """The threshold, within the bounds between which the formulas beyond it are precise enough and the series short."""
    units = [float(jnp.finfo(jnp.result_type(leaf)).eps) for leaf in jax.tree.leaves(like)]
    return float(min(max(threshold, max(units, default=0.0) ** 0.5), 1.0))


def plus(start: X | None, *products: tuple[X | float, X]) -> X:
    """`start` plus the sum of products of coefficients, numbers or pytrees, with pytrees; leaf by leaf."""
    total = start
    for coefficient, tree in products:
        if isinstance(coefficient, float):
            product = jax.tree.map(lambda x, c=coefficient: c * x, tree)
        else:
            product = jax.tree.map(jnp.multiply, coefficient, tree)
        total = product if total is None else jax.tree.map(jnp.add, total, product)
    return total


# -------------------------------------------------------------------------------------------------- drift and diffusion


def _unwrapped(terms: Any) -> tuple[UnderdampedLangevinDriftTerm, UnderdampedLangevinDiffusionTerm]:
    drift, diffusion = terms.terms
    return drift.unwrapped, diffusion.unwrapped


# --------------------------------------------------------------------------------------------- coefficients of friction


def phi1(z: Array, threshold: float) -> Array:
    r"""$(1 - e^{-z})/z$, the average of $e^{-z(1-\theta)}$ over $\theta$ from 0 to 1."""
    return _series_or_formula(z, threshold, lambda j: 1 / factorial(j + 1), lambda z: -jnp.expm1(-z) / z)


def phi2(z: Array, threshold: float) -> Array:
    r"""$(1 - \varphi_1(z))/z$, the average of $(1 - e^{-z(1-\theta)})/z$."""
    return _series_or_formula(z, threshold, lambda j: 1 / factorial(j + 2), lambda z: (z + jnp.expm1(-z)) / z**2)


def eta_of(z: Array, threshold: float) -> Array:
    r"""Six times the average of $(1 - 2\theta)(1 - e^{-z(1-\theta)})/z$: the displacement by `H`, in units of $hH$.

    Given `W` and `H` alone, dW has the mean $(W + 6 (1 - 2\theta) H)\,\mathrm{d}\theta$.
    """
    return _series_or_formula(
        z,
        # Terms of size 2z cancel to z³/6.
        (6 * threshold) ** (1 / 2),
        lambda j: 6 * (j + 1) / factorial(j + 3),
        lambda z: 6.0 * ((z + 2.0) * jnp.expm1(-z) + 2.0 * z) / z**3,
    )


def kappa_of(z: Array, threshold: float) -> Array:
    r"""Sixty times the average of $(1 - 6\theta + 6\theta^2)(1 - e^{-z(1-\theta)})/z$: the displacement by `K`.

    In units of $hK$. `K` adds $60 (1 - 6\theta + 6\theta^2) K\,\mathrm{d}\theta$ to the mean of dW: the next Legendre
    polynomial.
    """
    return _series_or_formula(
        z,
        # Terms of size 12z cancel to z⁵/60.
        (360 * threshold) ** (1 / 4),
        lambda j: 60 * j * (j + 1) / factorial(j + 4),
        lambda z: 60.0 * ((z * (z + 6.0) + 12.0) * jnp.expm1(-z) + 12.0 * z) / z**4,
    )


def _series_or_formula(
    z: Array, limit: float, coefficient: Callable[[int], float], formula: Callable[[Array], Array]
) -> Array:
    """`formula(z)`, by the series of `coefficient(j) (-z)^j` where `|z|` is below `limit`."""
    small = jnp.abs(z) < limit
    # A branch that overflows or divides by zero where it is not selected would make derivatives NaN.
    series = _series(jnp.where(small, z, 0.0), limit, coefficient)
    return jnp.where(small, series, formula(jnp.where(small, 1.0, z)))


def _series(z: Array, limit: float, coefficient: Callable[[int], float]) -> Array:
    """The series, with the terms that are not negligible for `|z| <= limit` in the precision of `z`."""
    scale = abs(coefficient(0)) + abs(coefficient(1)) * limit
    negligible = 0.1 * float(jnp.finfo(z.dtype).eps) * scale
    count = next(j for j in range(2, 100) if abs(coefficient(j)) * limit**j < negligible)
    total = jnp.full_like(z, coefficient(count))
    for j in reversed(range(count)):
        total = np.float64(coefficient(j)).item() - z * total
    return total
