r"""Error control by a proportional–integral–derivative rule.

With $e_0, e_1, e_2$ the inverse scaled errors of this and the two last accepted steps and $k$ the order of the error
estimate, the step size is multiplied by

$$\text{safety} \cdot e_0^{(i + p + d)/k}\; e_1^{-(p + 2d)/k}\; e_2^{d/k}.$$
"""

from collections.abc import Callable, Iterator
from typing import Any, Self, cast

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax import lax
from jaxtyping import PyTree

from ..jaxkit import (
    AbstractChecked,
    Args,
    BoolScalar,
    Condition,
    RealScalar,
    Time,
    Y,
    as_times,
    call_user,
    is_at_most,
    single_power,
    strong,
    with_fields,
)
from ..nonlinear import like_state
from ..results import RESULTS, Result
from .base import AbstractAdaptiveStepSizeController
from .clip import ClipStepSizeController
from .initial_step import initial_step
from .tolerance_conditions import check_no_text, tolerance_conditions

type PIDState = tuple[Time, Time] | None
"""The errors of the two last accepted steps; `None` for a purely integral rule, which does not use them."""


class Unchosen(int):
    """A coefficient with its default value, which the user leaves to the solver.

    It is a pytree without leaves, so that it and the same number, given explicitly, have different compiled programs.
    """


jax.tree_util.register_pytree_node(Unchosen, lambda x: ((), int(x)), lambda value, _: Unchosen(value))


class _TakesTimes(type(AbstractAdaptiveStepSizeController)):
    """The class of `PIDController`, whose constructor also takes an older spelling, `step_ts` and `jump_ts`.

    With them it returns a `ClipStepSizeController`; Equinox does not let `__new__` return another class.
    """

    def __call__[Controller](
        cls: type[Controller], *args: Any, step_ts: Any = None, jump_ts: Any = None, **kwargs: Any
    ) -> Controller:
        controller = super().__call__(*args, **kwargs)
        if step_ts is None and jump_ts is None:
            return controller
        return cast(Controller, ClipStepSizeController(controller, step_ts, jump_ts))


class PIDController(
    AbstractAdaptiveStepSizeController[PIDState, RealScalar | None], AbstractChecked, metaclass=_TakesTimes
):
    r"""Chooses step sizes so that each step's estimated error meets the tolerances.

    A step is accepted when $\text{norm}(\text{error} / (\text{atol} + \text{rtol} \max(|y_0|, |y_1|))) < 1$. The next
    step is longer or shorter by the factor of Söderlind's PID rule, within bounds.

    Parameters
    ----------
    rtol, atol
        Relative and absolute tolerance: scalars, arrays that broadcast against each leaf, or pytrees like the state.
        `rtol=1e-3, atol=1e-6` are moderate; there is no default because no choice suits every problem.
    norm
        Reduces a pytree of scaled errors to one number; by default the root mean square over all entries.
    pcoeff, icoeff, dcoeff
        Coefficients of the rule; the triples below are in this order. The default (0, 1, 0) is the elementary
        controller. If none is given, the solver may choose others: `Kvaerno4`, `Kvaerno5`, `KenCarp4` and `KenCarp5`
        are run with (0.2, 0.6, 0), with which they reject fewer steps. From the literature: PI4020 (0.2, 0.4, 0),
        PI3333 (1/3, 1/3, 0) and PI3040 (0.4, 0.3, 0) for moderately stiff problems; the digital filters H211PI (-1/6,
        1/3, 0) and H312PID (-2/9, 2/9, 1/18), whose step sizes are smoother, for stochastic and irregular ones.
        (Söderlind's table gives the exponents themselves, $k\beta_1 = i + p + d$, $k\beta_2 = -(p + 2d)$,
        $k\beta_3 = d$: H211PI is 1/6, 1/6 and H312PID is 1/18, 1/9, 1/18 there.)
    dtmin, dtmax
        Bounds on the step size, positive, in units of time; by default none.
    force_dtmin
        At `dtmin`, accept the step whatever its error, which is the default; otherwise the solve ends with
        `RESULTS.dt_min_reached`.
    factormin, factormax
        Bounds on the factor from one step to the next, by default a fifth and ten: one error estimate does not justify
        larger changes. An accepted step never shortens the next one.
    safety
        Multiplies the factor: aiming a little below the tolerance, by default with 0.9, avoids rejections.
    error_order
        Order k of the error estimate in the step size; by default what the solver states.

    Raises
    ------
    RuntimeError
        In a solve, if the solver gives no error estimate.
    ValueError
        If a tolerance is negative or no number, or both are zero for some entry; in a solve, if it is a pytree unlike
        the state, or the order of the estimate is given neither by the solver nor by `error_order`.

    Notes
    -----
    `PIDController(..., step_ts=, jump_ts=)` is `ClipStepSizeController(PIDController(...), step_ts, jump_ts)`: an older
    spelling, which existing code may use.

    Differentiability
    -----------------
    No gradient flows through the choice of step sizes: the solution's dependence on them is the discretisation error.

    Cost
    ----
    For `dt0=None` two evaluations of the vector field, with noise a few more. Each attempt takes a norm of the state's
    size; a rejected one costs as much as an accepted one.

    References
    ----------
    G. Söderlind, Digital filters in adaptive time-stepping, ACM Trans. Math. Softw. 29 (2003), 1–26, Table II.

    G. Söderlind, Automatic control and adaptive time-stepping, Numer. Algorithms 31 (2002), 281–310.

    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.2.

    Examples
    --------
    >>> import rungax
    >>> controller = rungax.PIDController(rtol=1e-6, atol=1e-9)
    >>> h211pi = rungax.PIDController(rtol=1e-6, atol=1e-9, pcoeff=-1 / 6, icoeff=1 / 3)
    """

    rtol: PyTree[Any]
    atol: PyTree[Any]
    norm: Callable[[PyTree[Any]], RealScalar] = optx.rms_norm
    pcoeff: RealScalar = Unchosen(0)
    icoeff: RealScalar = Unchosen(1)
    dcoeff: RealScalar = Unchosen(0)
    dtmin: RealScalar | None = None
    dtmax: RealScalar | None = None
    force_dtmin: bool = True
    factormin: RealScalar = 0.2
    factormax: RealScalar = 10.0
    safety: RealScalar = 0.9
    error_order: RealScalar | None = None

    def __check_init__(self) -> None:
        check_no_text(self.rtol, self.atol)

    def value_conditions(self) -> Iterator[Condition]:
        """Tolerances are not negative, and nowhere both zero."""
        return tolerance_conditions(self.rtol, self.atol)

    @property
    def can_jump(self) -> bool:
        """False; see `ClipStepSizeController`."""
        return False

    def with_coefficients(self, recommended: tuple[float, float, float]) -> Self:
        """This controller with the recommended coefficients, if none was given."""
        given = (self.pcoeff, self.icoeff, self.dcoeff)
        if not all(isinstance(x, Unchosen) for x in given) or given == recommended:
            return self
        pcoeff, icoeff, dcoeff = recommended
        return with_fields(self, pcoeff=pcoeff, icoeff=icoeff, dcoeff=dcoeff)

    def init(
        self,
        terms: PyTree[Any],
        t0: Time,
        t1: Time,
        y0: Y,
        dt0: RealScalar | None,
        args: Args,
        func: Callable[..., Any],
        error_order: RealScalar | None,
    ) -> tuple[Time, PIDState]:
        """The first step: `dt0`, or chosen by the algorithm of Hairer, Nørsett and Wanner."""
        del func
        t0, t1 = as_times(t0, t1)
        if dt0 is None:
            y0 = jax.tree.map(lambda y: strong(y, t0.dtype), y0)
            order = self._order(error_order)
            scale = self._scale(y0, y0)
            dt0 = initial_step(terms, t0, t1, y0, args, lambda x: self._norm(_ratio(x, scale, t0.dtype)), order)
        dt = self._within_bounds(jnp.asarray(dt0).astype(t0.dtype))
        one = jnp.ones_like(t0)
        return t0 + lax.stop_gradient(dt), (one, one) if self._uses_earlier_errors() else None

    def adapt_step_size(
        self,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        y1_candidate: Y,
        args: Args,
        y_error: Y | None,
        error_order: RealScalar | None,
        controller_state: PIDState,
    ) -> tuple[BoolScalar, RealScalar, RealScalar, BoolScalar, PIDState, Result]:
        """Accept the step if its error meets the tolerances, and size the next one by the rule above."""
        del args
        t0, t1 = as_times(t0, t1)
        dt = t1 - t0
        y0, y1_candidate, y_error = jax.tree.map(lambda y: strong(y, dt.dtype), (y0, y1_candidate, y_error))
        error = self._scaled_error(y0, y1_candidate, y_error, dt.dtype)
        accepted = error < 1
        at_dtmin = jnp.asarray(False) if self.dtmin is None else is_at_most(t0, t1, self.dtmin)
        if self.force_dtmin:
            accepted = accepted | (at_dtmin & jnp.isfinite(error))

        factor, state = self._factor(error, accepted, self._order(error_order), controller_state)
        next_t0 = jnp.where(accepted, t1, t0)
        next_t1 = next_t0 + lax.stop_gradient(self._within_bounds(dt * factor))
        # A rejected step of `dtmin` may not be shortened. One of one ulp cannot, because rounding gives the same end. A
        # length of zero ends the solve.
        next_t1 = jnp.where(~accepted & (at_dtmin | (next_t1 >= t1)), t0, next_t1)
        # Where even the shortest step gives no number, no shorter one will: a time of NaN ends the solve.
        next_t1 = jnp.where((error == jnp.inf) & (next_t1 <= t0), jnp.nan, next_t1)
        return accepted, next_t0, next_t1, False, state, RESULTS.successful

    def next_end_for_factor(
        self,
        factor: RealScalar,
        accepted: BoolScalar,
        dt: Time,
        next_t0: Time,
        next_t1: Time,
        controller_state: PIDState,
    ) -> Time:
        """The end of a step of the proposed size, within the bounds; after a rejection `next_t1` if that is earlier."""
        del controller_state
        factor = jnp.clip(jnp.asarray(factor).astype(dt.dtype), self.factormin, self.factormax)
        proposed = next_t0 + lax.stop_gradient(self._within_bounds(dt * factor))
        return jnp.where(accepted, proposed, jnp.minimum(next_t1, proposed))

    def _scaled_error(self, y0: Y, y1: Y, y_error: Y | None, dtype: np.dtype[Any]) -> jax.Array:
        if not jax.tree.leaves(y0):
            return jnp.zeros((), dtype)  # an empty state has no error
        if y_error is None:
            raise RuntimeError(
                "`PIDController` needs an error estimate, but the solver gives none.\n"
                "Use a solver with an embedded estimate, such as `Heun` or `Tsit5`; with noise `SRIW1` (Itô) or\n"
                "`SPaRK` (Stratonovich). Or wrap this one in `HalfSolver`, or step with `ConstantStepSize`."
            )
        error = self._norm(_ratio(y_error, self._scale(y0, y1), dtype))
        error = lax.stop_gradient(jnp.asarray(error)).astype(dtype)
        return jnp.where(jnp.isnan(error), jnp.inf, error)

    def _norm(self, errors: PyTree[Any]) -> RealScalar:
        return call_user("the function `PIDController(norm=...)`", self.norm, errors)

    def _scale(self, y0: Y, y1: Y) -> PyTree[Any]:
        rtol, atol = (like_state(f"PIDController({name}=...)", getattr(self, name), y0) for name in ("rtol", "atol"))

        def leaf(a: jax.Array, b: jax.Array, rtol: Any, atol: Any) -> jax.Array:
            size = jnp.maximum(jnp.abs(a), jnp.abs(b))
            rtol, atol = (jnp.broadcast_to(jnp.asarray(x).astype(size.dtype), size.shape) for x in (rtol, atol))
            return atol + rtol * size

        return jax.tree.map(leaf, y0, y1, rtol, atol)

    def _factor(self, error: Time, accepted: jax.Array, order: RealScalar, state: PIDState) -> tuple[Time, PIDState]:
        p, i, d = (int(x) if isinstance(x, Unchosen) else x for x in (self.pcoeff, self.icoeff, self.dcoeff))
        factor = self.safety * single_power(error, -(i + p + d) / order)
        if state is not None:
            e1, e2 = state
            factor = factor * single_power(e1, (p + 2 * d) / order) * single_power(e2, -d / order)
            # An error of zero or infinity is no information for later steps.
            usable = accepted & jnp.isfinite(error) & (error > 0)
            state = (jnp.where(usable, error, e1), jnp.where(usable, e1, e2))
        low = jnp.where(accepted, 1.0, self.factormin)
        high = jnp.where(accepted, self.factormax, self.safety)
        return jnp.clip(factor, low, high).astype(error.dtype), state

    def _uses_earlier_errors(self) -> bool:
        return not (_is_zero(self.pcoeff) and _is_zero(self.dcoeff))

    def _order(self, error_order: RealScalar | None) -> RealScalar:
        order = error_order if self.error_order is None else self.error_order
        if order is None:
            raise ValueError(
                "The order of the solver's error estimate is not known.\n"
                "Expected: `solver.error_order(terms)` to be a number\nFound:    None\n"
                "Use a solver that is made for such an equation; for one of your own give `order`, `strong_order` or\n"
                "`error_order`, or `PIDController(..., error_order=...)`."
            )
        return order

    def _within_bounds(self, dt: Time) -> Time:
        dt = dt if self.dtmin is None else jnp.maximum(dt, self.dtmin)
        return dt if self.dtmax is None else jnp.minimum(dt, self.dtmax)


def _is_zero(coefficient: RealScalar) -> bool:
    return isinstance(coefficient, int | float) and coefficient == 0


def _ratio(x: Y, scale: PyTree[Any], dtype: np.dtype[Any]) -> PyTree[Any]:
    """|x| / scale, infinite where the scale is not finite, so that an infinite state does not hide an infinite error.

    Where both are zero it is zero: without an absolute tolerance, so are both for an entry that stays at zero.
    """

    def leaf(x: jax.Array, s: jax.Array) -> jax.Array:
        size = jnp.abs(x) if jnp.iscomplexobj(x) else x
        positive = jnp.maximum(s, float(jnp.finfo(s.dtype).tiny))
        return jnp.where(jnp.isfinite(s), size / positive, jnp.inf).astype(dtype)

    return jax.tree.map(leaf, x, scale)
