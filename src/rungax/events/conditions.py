"""The conditions of events: the signs of their values, and the steps in which a value passes zero."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..jaxkit import Args, Time, Y, call_user, check_parameters, layout, standing_for, trace_once
from ..step import Flags, Problem
from ..terms import is_stochastic, is_term
from .event import Event

type Signs = Int[Array, " conditions"]
"""For each real condition -1, 1 or `UNKNOWN`; for a boolean one 0 or 1."""

type Values = Float[Array, " conditions"]
"""The value of each condition, as a number of the type of time; of a boolean one 0 or 1."""

UNKNOWN = 0
"""The sign of a condition whose value has not been a number yet; a change from it is not a passage."""

HAS_LEFT = -1.0
"""The size up to which a value counts as zero, for a condition whose value has been larger since it was zero."""


class Crossings(NamedTuple):
    """The conditions after a step, and those that passed zero in it.

    Parameters
    ----------
    values, signs, zero_within
        Values, signs, and the sizes up to which values count as zero, at the end of the step.
    crossed
        The conditions that passed zero, or reached it, or became true, in a direction that counts.
    """

    values: Values
    signs: Signs
    zero_within: Values
    crossed: Flags


class Conditions(eqx.Module):
    """The conditions of an `Event`, as functions of true time, state and arguments.

    Parameters
    ----------
    functions
        The conditions, each traced once.
    is_real
        For each, whether it returns a real number; otherwise it returns a boolean.
    directions
        For each, the direction in which a passage counts: up, down, or both (`None`).
    ending
        For each, whether it ends the solve.
    """

    functions: tuple[Callable[..., Any], ...]
    is_real: tuple[bool, ...] = eqx.field(static=True)
    directions: tuple[bool | None, ...] = eqx.field(static=True)
    ending: tuple[bool, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, event: Event, context: dict[str, Any], t0: Time, y0: Y, args: Args) -> Self:
        """The conditions of `event`; `context` is the call, which they receive beside time, state and arguments."""
        functions: list[Any] = []
        is_real: list[bool] = []
        for name, condition in zip(event.names, event.conditions, strict=True):
            expected = "cond_fn(t, y, args, **kwargs)"
            check_parameters(condition, f"`Event({name}=...)`", expected, ("time", "state", "`args`"), context)
            functions.append(trace_once(_in_context(name, condition, context), t0, y0, args))
            is_real.append(_is_real(name, jax.eval_shape(functions[-1], t0, y0, args)))
        ending = tuple(effect is None for effect in event.leaves_of("effect"))
        return cls(tuple(functions), tuple(is_real), tuple(event.leaves_of("direction")), ending)

    @property
    def number(self) -> int:
        """The number of conditions."""
        return len(self.functions)

    @property
    def real(self) -> np.ndarray:
        """The real conditions."""
        return np.array(self.is_real)

    @property
    def ending_booleans(self) -> np.ndarray:
        """The boolean conditions that end the solve."""
        return np.array(self.ending) & ~self.real

    def values(self, problem: Problem, t: Time, y: Y) -> Values:
        """The values at `t` in the direction of travel."""
        return jnp.stack([c(t * problem.direction, y, problem.args).astype(t.dtype) for c in self.functions])

    def rates(self, problem: Problem, t: Time, y: Y) -> Values:
        """The slopes of the values along the solution; zero where there is none, as with noise, and for booleans."""
        slope = slope_of(problem, t, y)
        if slope is None or not any(self.is_real):
            return jnp.zeros(self.number, t.dtype)

        def rate(condition: Callable[..., Any]) -> Array:
            of_time = lambda t, y: condition(t * problem.direction, y, problem.args)
            return jax.jvp(of_time, (t, y), (jnp.ones_like(t), slope))[1].astype(t.dtype)

        zero = jnp.zeros_like(t)
        return jnp.stack([rate(c) if real else zero for c, real in zip(self.functions, self.is_real, strict=True)])

    def at_start(self, problem: Problem, tolerances: Values) -> tuple[Signs, Values]:
        """The signs at the start of the solve, and the sizes up to which values count as zero: their tolerances."""
        t, y = problem.t0, problem.y0
        values = self.values(problem, t, y)
        is_zero = self.real & (jnp.abs(values) <= tolerances)
        rates = self.rates(problem, t, y)
        unknown = jnp.full(self.number, UNKNOWN, jnp.int32)
        signs = signs_of(values, unknown)
        signs = jnp.where(is_zero & (rates != 0), signs_of(rates, unknown), signs)
        return self._with_booleans(values, signs), jnp.where(is_zero, tolerances, HAS_LEFT)

    def after_effect(
        self, problem: Problem, t: Time, y: Y, last: Crossings, happened: Flags, tolerances: Values
    ) -> tuple[Signs, Values]:
        """The signs after an effect has made the state `y`, and the sizes up to which values count as zero.

        A condition that did not happen has the sign of its value. One that happened and is still zero, up to its
        tolerance or to the size that it had before the effect, has the sign of its rate, and without a rate the sign
        with which it passed zero, which is that of `last`.
        """
        values, rates = self.values(problem, t, y), self.rates(problem, t, y)
        tolerances = jnp.where(happened, tolerances, 0.0)
        is_zero = self.real & (jnp.abs(values) <= tolerances)
        signs = signs_of(values, jnp.full(self.number, UNKNOWN, jnp.int32))
        by_rate = jnp.where(rates != 0, signs_of(rates, last.signs), last.signs)
        stays = ~happened & (jnp.abs(values) <= last.zero_within)
        signs = jnp.where(is_zero, by_rate, jnp.where(stays, last.signs, signs))
        zero_within = jnp.where(is_zero, tolerances, jnp.where(stays, last.zero_within, HAS_LEFT))
        return self._with_booleans(values, signs), zero_within

    def may_happen(self, values: Values, signs: Signs, zero_within: Values) -> Flags:
        """False only for conditions whose `values` cannot cause an event after the signs `signs`.

        These are real values, not near zero, with an unchanged sign, and boolean values that have not changed.
        """
        last = signs.astype(values.dtype)
        stays = (values * last > 0) & (zero_within < 0)
        return ~jnp.where(self.real, stays, (values == last) & ~((signs > 0) & self.ending_booleans))

    def crossings(self, values: Values, signs: Signs, zero_within: Values) -> Crossings:
        """The crossings between a time with the signs `signs` and a later one with the `values`.

        A value that counts as zero leaves the sign as it is. A value of exactly zero, coming from one that did not, has
        passed. A boolean condition counts where it is true, if it ends the solve; otherwise where it becomes true.
        """
        has_left = jnp.abs(values) > zero_within
        passed = jnp.where(values == 0, -signs, signs_of(values, signs))
        after = self._with_booleans(values, jnp.where(has_left, passed, signs))
        crossed = (after != signs) & self.may_cross(signs)
        became_true = (after > 0) & (np.array(self.ending) | (signs == 0))
        crossed = jnp.where(self.real, crossed, became_true)
        return Crossings(values, after, jnp.where(has_left, HAS_LEFT, zero_within), crossed)

    def may_cross(self, signs: Signs) -> Flags:
        """The conditions for which the next passage, away from the sign in `signs`, counts."""
        upwards = np.array([direction is not False for direction in self.directions])
        downwards = np.array([direction is not True for direction in self.directions])
        return (signs != UNKNOWN) & jnp.where(signs < 0, upwards, downwards)

    def _with_booleans(self, values: Values, signs: Signs) -> Signs:
        """`signs` of real conditions, and for boolean ones their values."""
        return jnp.where(self.real, signs, values.astype(jnp.int32))


def _in_context(name: str, condition: Callable[..., Any], context: dict[str, Any]) -> Callable[..., Any]:
    """A condition as a function of time, state and arguments alone."""

    @standing_for(condition)
    def value(t: Time, y: Y, args: Args) -> Any:
        what = f"the condition `{name}` of an `Event`"
        found = call_user(what, condition, t, y, args, **context)
        if not eqx.is_array_like(found):
            raise _not_one_number(name, found)
        return jnp.asarray(found)

    return value


def signs_of(values: Values, last: Signs) -> Signs:
    """The signs of real values; `last` for zero and for what is not a number."""
    decided = jnp.abs(values) > 0
    return jnp.where(decided, jnp.where(values > 0, 1, -1), last).astype(jnp.int32)


def slope_of(problem: Problem, t: Time, y: Y) -> Y | None:
    """dy/dt in the direction of travel; `None` where the solution has none, as with noise."""
    terms = problem.terms
    return None if is_stochastic(terms) or not is_term(terms) else terms.time_derivative(t, y, problem.args)


def _is_real(name: str, value: Any) -> bool:
    """True if the value of a condition is a real number, false if it is a boolean; a `ValueError` for others."""
    is_bool, is_float = (jnp.issubdtype(value.dtype, kind) for kind in (jnp.bool_, jnp.floating))
    if value.shape == () and (is_bool or is_float):
        return is_float
    raise _not_one_number(name, value)


def _not_one_number(name: str, value: Any) -> ValueError:
    """The error about what a condition has returned."""
    fix = "Reduce it, for example by `jnp.any` or `jnp.min`, or give a pytree of conditions."
    return ValueError(
        f"The condition `{name}` of an `Event` must return one boolean or one real number.\n"
        f"Expected: bool[] or float[]\nFound:    {layout(value)}\n{'Is `return` missing?' if value is None else fix}"
    )
