"""The conditions of events: the signs of their values, and the steps in which a value crosses zero."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..jaxkit import Args, Time, Y, trace_once
from ..plan import Plan
from ..step import Problem, Step
from .event import Event, check_parameters

type Signs = Int[Array, " conditions"]
"""For each condition -1, 0, 1 or `UNKNOWN`; for a boolean one 0 or 1."""

UNKNOWN = 2
"""The sign of a condition whose value has not been a number yet; a change from it is no crossing."""


class Crossings(NamedTuple):
    """The zero crossings of the conditions in one attempt.

    Parameters
    ----------
    signs
        The signs at the end of the attempt.
    crossed
        For each condition, whether it crossed zero, or became true.
    lower, upper
        For each condition, the times between which it did, if it did.
    before, after
        The signs at these times.
    """

    signs: Signs
    crossed: tuple[Array, ...]
    lower: tuple[Time, ...]
    upper: tuple[Time, ...]
    before: Signs
    after: Signs


class Conditions(eqx.Module):
    """The conditions of an `Event`, as functions of true time, state and arguments.

    Parameters
    ----------
    functions
        The conditions, each traced once.
    is_real
        For each, whether it returns a real number; otherwise it returns a boolean.
    directions
        For each, the direction in which a crossing counts: up, down, or both (`None`).
    interior
        The number of times inside a step at which real conditions are evaluated too.
    """

    functions: tuple[Callable[..., Any], ...]
    is_real: tuple[bool, ...] = eqx.field(static=True)
    directions: tuple[bool | None, ...] = eqx.field(static=True)
    interior: int = eqx.field(static=True)

    @classmethod
    def of(cls, event: Event, context: dict[str, Any], t0: Time, y0: Y, args: Args) -> Self:
        """The conditions of `event`; `context` is the call, which they receive beside time, state and arguments."""
        functions: list[Any] = []
        is_real: list[bool] = []
        for condition in event.conditions:
            check_parameters(condition, ("t", "y", "args", *context))
            in_context = lambda t, y, args, c=condition: jnp.asarray(c(t=t, y=y, args=args, **context))
            functions.append(trace_once(in_context, t0, y0, args))
            is_real.append(_is_real(jax.eval_shape(functions[-1], t0, y0, args)))
        return cls(tuple(functions), tuple(is_real), tuple(event.leaves_of("direction")), event.interior)

    @property
    def number(self) -> int:
        """The number of conditions."""
        return len(self.functions)

    def signs(self, problem: Problem, t: Time, y: Y, last: Signs | None = None) -> Signs:
        """The signs of the values at `t` in the direction of travel; `last` where a value is not a number."""
        before = [UNKNOWN] * self.number if last is None else [*last]
        return jnp.stack([self._sign(i, problem, t, y, before[i]) for i in range(self.number)])

    def _sign(self, i: int, problem: Problem, t: Time, y: Y, last: Array | int) -> Array:
        value = self.functions[i](t * problem.direction, y, problem.args)
        return sign_of(value, last) if self.is_real[i] else value.astype(jnp.int32)

    def crossings(self, plan: Plan, last: Signs, step: Step, ending: np.ndarray) -> Crossings:
        """The crossings in an attempt that started with the signs `last`.

        A boolean condition counts where it is true, if it is one of the `ending` conditions; otherwise where it becomes
        true.
        """
        signs = self.signs(plan.problem, step.t1, step.y1, last)
        if self.interior > 0:
            return self._interior_crossings(plan, last, step, signs, ending)
        crossed = tuple(self._crosses(i, last[i], signs[i], ending) for i in range(self.number))
        return Crossings(signs, crossed, (step.t0,) * self.number, (step.t1,) * self.number, last, signs)

    def _crosses(self, i: int, before: Array, after: Array, ending: np.ndarray) -> Array:
        if not self.is_real[i]:
            return after > 0 if ending[i] else (after > 0) & (before == 0)
        crosses = before != after
        match self.directions[i]:
            case None:
                pass
            case True:
                crosses = (before <= 0) & (after > 0)
            case False:
                crosses = (before > 0) & (after <= 0)
        return crosses & (before != UNKNOWN)

    def _interior_crossings(self, plan: Plan, last: Signs, step: Step, signs: Signs, ending: np.ndarray) -> Crossings:
        """The first crossing of each condition between neighbours among the ends and the interior times of the step."""
        evaluate = plan.interpolate(step).evaluate
        parts = jnp.arange(1, self.interior + 1) / (self.interior + 1)
        times = step.t0 + parts.astype(step.t0.dtype) * (step.t1 - step.t0)
        ends = jnp.concatenate([step.t0[None], times, step.t1[None]])
        real = [i for i in range(self.number) if self.is_real[i]]

        def signs_at(t: Time) -> dict[int, Array]:
            y = evaluate(t)
            return {i: self._sign(i, plan.problem, t, y, last[i]) for i in real}

        inside = jax.vmap(signs_at)(times)
        rows: list[tuple[Array, ...]] = []
        for i in range(self.number):
            if self.is_real[i]:
                row = jnp.concatenate([last[i, None], inside[i], signs[i, None]])
                crosses = self._crosses(i, row[:-1], row[1:], ending)
                k = jnp.argmax(crosses)
                rows.append((jnp.any(crosses), ends[k], ends[k + 1], row[k], row[k + 1]))
            else:
                rows.append((self._crosses(i, last[i], signs[i], ending), step.t0, step.t1, last[i], signs[i]))
        crossed, lower, upper, before, after = zip(*rows, strict=True)
        return Crossings(signs, crossed, lower, upper, jnp.stack(before), jnp.stack(after))


def sign_of(value: Array, last: Array | int) -> Array:
    """The sign of a real condition's value; `last` where the value is not a number."""
    return jnp.where(jnp.isnan(value), last, jnp.sign(value).astype(jnp.int32))


def _is_real(value: Any) -> bool:
    is_bool, is_float = (jnp.issubdtype(value.dtype, kind) for kind in (jnp.bool_, jnp.floating))
    if value.shape == () and (is_bool or is_float):
        return is_float
    raise ValueError(
        "The condition of an `Event` must return one boolean or one real number.\n"
        f"Expected: shape (), bool or float\nFound:    shape {value.shape}, {value.dtype}\n"
        "Reduce it, for example by `jnp.any` or `jnp.min`, or give a pytree of conditions."
    )
