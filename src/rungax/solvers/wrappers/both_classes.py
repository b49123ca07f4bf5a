"""The class by which `isinstance` takes a wrapping solver for an instance of both its own and the wrapped class.

For programs written for Diffrax, where `HalfSolver(Euler())` is an instance of `Euler`. Nothing in this package uses
it.
"""

from abc import ABCMeta
from functools import cache
from typing import Any


@cache
def class_of_both(wrapper: Any, wrapped: Any) -> type[Any]:
    """A virtual subclass of the abstract base classes `wrapper` and `wrapped`; to call it is to call `wrapper`."""

    class Both:
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return wrapper(*args, **kwargs)

    Both.__name__, Both.__qualname__, Both.__module__ = wrapper.__name__, wrapper.__qualname__, wrapper.__module__
    Both.__doc__ = wrapper.__doc__
    for base in (wrapper, wrapped):
        # Not `base.register`: Equinox forbids it, because instances may lack abstract attributes. `Both` has none.
        ABCMeta.register(base, Both)
    return Both


def with_attributes(cls: type[Any], attributes: dict[str, Any]) -> Any:
    """An instance with these attributes, without a call of the constructor: a copy, or what was pickled."""
    made = object.__new__(cls)
    vars(made).update(attributes)
    return made
