"""Explanations of results: one for each, and one for each condition on values that are known only at run time."""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp

from .. import checks
from ..call import Call
from ..jaxkit import BoolScalar
from ..results import RESULTS, Result, code_of, messages_by_code


class Explanations(NamedTuple):
    """The explanations of the results of a call.

    Parameters
    ----------
    messages
        The explanations by their numbers: of each result, and of each condition on values that are not known.
    holds
        For each of these conditions whether it holds.
    """

    messages: tuple[str, ...]
    holds: tuple[BoolScalar, ...]

    @classmethod
    def of(cls, call: Call, wrong: str | None = None) -> Self:
        """The explanations; `wrong` is the message about a value that is wrong, if one is known."""
        of_results = messages_by_code(wrong)
        conditions = [] if wrong is not None else list(checks.traced_conditions(call))
        invalid_input = of_results[int(code_of(RESULTS.invalid_input))]
        of_conditions = [f"{invalid_input} {condition.claim}" for condition in conditions]
        return cls((*of_results, *of_conditions), tuple(jnp.asarray(condition.holds()) for condition in conditions))

    def number(self, result: Result) -> jax.Array:
        """The number of the explanation of a result."""
        code, first = code_of(result), len(self.messages) - len(self.holds)
        is_invalid = code == code_of(RESULTS.invalid_input)
        # From the last to the first, so that the first that does not hold is the one that stays.
        for number, holds in reversed(list(enumerate(self.holds, start=first))):
            code = jnp.where(is_invalid & jnp.logical_not(holds), jnp.asarray(number, code.dtype), code)
        return code
