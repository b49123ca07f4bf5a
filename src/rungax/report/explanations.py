"""Explanations of results: one for each, and one for each condition on values that are known only at run time."""

import jax
import jax.numpy as jnp

from .. import checks
from ..call import Call
from ..results import RESULTS, Result, code_and_messages


def explanations(call: Call, result: Result, wrong: str | None = None) -> tuple[jax.Array, list[str]]:
    """The number of a result and for each number its explanation, with one for each condition on traced values.

    `wrong` is the message about a value that is wrong, if one is known.
    """
    code, messages = code_and_messages(result, wrong)
    unknown = checks.traced_conditions(call)
    if wrong is not None or not unknown:
        return code, messages
    invalid_input, _ = code_and_messages(RESULTS.invalid_input)
    is_invalid = code == invalid_input
    # From the last to the first, so that the first that does not hold is the one that stays.
    for number, condition in reversed(list(enumerate(unknown, start=len(messages)))):
        code = jnp.where(is_invalid & ~jnp.asarray(condition.holds()), jnp.asarray(number, code.dtype), code)
    return code, [*messages, *(f"{messages[int(invalid_input)]} {condition.claim}" for condition in unknown)]
