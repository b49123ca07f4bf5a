"""Tests of whether operations are executed, or become part of a program."""

from typing import Any

import jax
from jax._src.core import trace_state_clean
from jax.extend.core import Primitive


def is_staging() -> bool:
    """True if operations become part of a program, as inside `jax.jit`, `lax.cond` and `lax.scan`.

    Inside `jax.vmap` and `jax.grad` alone, operations on values that these do not trace are executed.
    """
    try:
        return _is_staging.bind()
    except _Staged:
        return True


def is_transforming() -> bool:
    """True inside any transformation: where it is false, no value is traced. Asking costs next to nothing."""
    return not trace_state_clean()


def is_debugging() -> bool:
    """True in JAX's debug mode: `jax.config.update("jax_enable_checks", True)`."""
    return bool(jax.config.jax_enable_checks)  # pyright: ignore[reportAttributeAccessIssue]


class _Staged(Exception):
    """Raised in place of adding the question itself to the program."""


def _refuse(*args: Any) -> Any:
    raise _Staged


_is_staging = Primitive("is_staging")
_is_staging.def_impl(lambda: False)
_is_staging.def_abstract_eval(_refuse)
