"""Conditions on the values of arguments: errors where values are known, results of the solve inside a program.

A branch of `lax.cond` is traced whether it is taken or not, so a known value that is wrong must not raise there.
Constructors then keep it, and the solve that uses the object reports it.
"""

import abc
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .errors import InvalidValueError
from .staging import is_staging, is_transforming
from .trees import is_traced
from .types import BoolScalar


class Condition(NamedTuple):
    """A condition on the values of arguments.

    Parameters
    ----------
    values
        The values, a pytree.
    holds
        True if it holds: a function without arguments, whose operations are for known and for traced values.
    claim
        The condition in words, the beginning of the message.
    found
        The rest of the message, for known values for which it does not hold.
    """

    values: Any
    holds: Callable[[], Any]
    claim: str
    found: Callable[[], str]

    @property
    def is_known(self) -> bool:
        """True if no value is traced."""
        return not is_traced(self.values)

    def message(self) -> str:
        """The message for known values for which it does not hold."""
        return f"{self.claim}{self.found()}"


class AbstractChecked(eqx.Module):
    """An object whose constructor checks conditions on its values, unless a program is being staged.

    The object then keeps values that are wrong, and a solve that is given the object ends with `invalid_input`.
    """

    def __check_init__(self) -> None:
        # By way of the class, because Equinox makes an object of every bound method.
        require(type(self).value_conditions(self))

    @abc.abstractmethod
    def value_conditions(self) -> Iterator[Condition]:
        """The conditions on the object's values, those of objects inside it left out."""


def require(conditions: Iterable[Condition]) -> None:
    """Raise an `InvalidValueError` unless all conditions on known values hold, or a program is being staged."""
    message = violation(conditions)
    if message is not None and not is_staging():
        raise InvalidValueError(message)


def violation(conditions: Iterable[Condition]) -> str | None:
    """The message of the first condition on known values that does not hold, or `None` if all do."""
    if not is_transforming():
        return next((c.message() for c in conditions if not c.holds()), None)
    # Operations of JAX on known arrays would become part of the program that is being staged.
    with jax.ensure_compile_time_eval():
        return next((c.message() for c in conditions if c.is_known and not c.holds()), None)


def all_hold(conditions: Iterable[Condition]) -> bool | BoolScalar:
    """True if all conditions hold, a Python boolean if that is known."""
    conditions = list(conditions)
    if violation(conditions) is not None:
        return False
    traced = [jnp.asarray(c.holds()) for c in conditions if not c.is_known]
    return jnp.all(jnp.stack(traced)) if traced else True


def checked_objects(tree: Any) -> Iterator[AbstractChecked]:
    """All objects in `tree` that have conditions, also those inside others."""
    for leaf in jax.tree.leaves(tree, is_leaf=lambda x: x is not tree and isinstance(x, AbstractChecked)):
        if isinstance(leaf, AbstractChecked):
            yield leaf
            yield from checked_objects(leaf)


def operand(value: Any) -> jax.Array | np.ndarray:
    """`value` for a condition: an array of JAX if it is traced, else one of NumPy, whose operations cost less."""
    return jnp.asarray(value) if is_traced(value) else np.asarray(value)
