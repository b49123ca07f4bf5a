"""Functions that are traced once and evaluated from their jaxpr afterwards."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from types import CellType, FunctionType, MethodType
from typing import Any

import equinox as eqx
import jax
import jax.core
from jax.interpreters import partial_eval

from .batching import match_varying, varying_axes

_GIVEN = "_given_by_user"
"""The attribute that holds the user's function for which another one stands."""


class TracedFunction(eqx.Module):
    """A function as one jaxpr that every call reuses. The arrays that it captured are leaves of this module.

    A call with arguments of other shapes or dtypes than those it was traced with, or which vary over more axes of
    `shard_map`, runs the function itself. Its value may contain other things than arrays, such as the tags of a linear
    operator.
    """

    captured: list[Any]
    function: Callable[..., Any]
    _jaxpr: Any = eqx.field(static=True)
    _call: Callable[..., Any] = eqx.field(static=True)
    _signature: tuple[Any, ...] = eqx.field(static=True)
    _axes: frozenset[str] = eqx.field(static=True)
    _num_leaves: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, *args: Any) -> Any:
        dynamic = match_varying(eqx.filter(args, _is_dynamic), self.captured)
        if _signature(dynamic) != self._signature or not varying_axes(dynamic) <= self._axes:
            return self.function(*args)
        return self._call(self.captured, dynamic)

    @property
    def num_equations(self) -> int:
        """Number of JAX operations in the program."""
        return _count_equations(self._jaxpr)

    @property
    def uses(self) -> tuple[bool, ...]:
        """For each argument, whether the value depends on any leaf of it."""
        used = iter(partial_eval.dce_jaxpr(self._jaxpr, True)[1][len(self.captured) :])
        flags = [[next(used) for _ in range(number)] for number in self._num_leaves]
        return tuple(any(of_leaves) for of_leaves in flags)


def trace_once(function: Callable[..., Any], *args: Any) -> TracedFunction:
    """`function`, traced for arguments like `args`: arrays, floats, `ShapeDtypeStruct`s; all others are static."""
    dynamic, static = eqx.partition(args, _is_dynamic)

    other: list[Any] = []

    # By the name, the line and the parameters of the user's function, which messages of JAX show.
    @wraps(as_given(function), assigned=(), updated=())
    def of_arrays(*dynamic: Any) -> Any:
        arrays, rest = eqx.partition(function(*eqx.combine(dynamic, static)), eqx.is_array_like)
        other.append(rest)
        return arrays

    trace = jax.make_jaxpr(of_arrays, return_shape=True)
    jaxpr, out = trace(*dynamic)
    axes = varying_axes((dynamic, jaxpr.consts))
    varying = match_varying(dynamic, jaxpr.consts)
    if _types(varying) != _types(dynamic):
        # Inside `shard_map`, the captured arrays vary over more axes than the arguments. In the loop, the arguments
        # will vary over these axes too.
        jaxpr, out = trace(*varying)
    out_tree = jax.tree.structure(out)
    # A jaxpr that takes the captured arrays as arguments: rules that hold it may not hold traced values.
    opened = partial_eval.convert_constvars_jaxpr(jaxpr.jaxpr)

    def evaluate(captured: list[Any], dynamic: Any) -> Any:
        leaves = jax.core.eval_jaxpr(opened, [], *captured, *jax.tree.leaves(dynamic))
        # An output that depends on no argument is evaluated to a plain number.
        return eqx.combine(jax.tree.unflatten(out_tree, [jax.numpy.asarray(leaf) for leaf in leaves]), other[-1])

    return TracedFunction(
        captured=list(jaxpr.consts),
        function=function,
        _jaxpr=opened,
        _call=evaluate,
        _signature=_signature(dynamic),
        _axes=frozenset(axes),
        _num_leaves=tuple(len(jax.tree.leaves(arg)) for arg in dynamic),
    )


def standing_for[**P, R](given: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for a function that calls the user's function `given`, by whose name messages are to call it."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        # Not `__wrapped__`, because Equinox refuses modules that hold such a function of a module.
        setattr(function, _GIVEN, given)
        return function

    return decorate


def as_given(function: Callable[..., Any]) -> Callable[..., Any]:
    """The user's function that `function` stands for, or itself."""
    while True:
        inner = function.function if isinstance(function, TracedFunction) else getattr(function, _GIVEN, function)
        inner = inspect.unwrap(inner)
        if inner is function:
            return function
        function = inner


def without_captures[T](tree: T) -> T:
    """`tree`, whose traced functions are known by their programs alone if their Python functions hold traced values.

    A rule that holds `tree` may live longer than the trace of these values. Such a function takes no other shapes.
    """
    is_traced_function = lambda x: isinstance(x, TracedFunction)

    def known_by_program(x: Any) -> Any:
        if not is_traced_function(x) or not captures_traced(x.function):
            return x
        return replace(x, function=_forgotten)

    return jax.tree.map(known_by_program, tree, is_leaf=is_traced_function)


def _forgotten(*args: Any) -> Any:
    raise AssertionError(f"a traced function is called with arguments of other shapes, {args}")


def captures_traced(value: Any, depth: int = 4) -> bool:
    """True if a function has captured a traced value, itself or by another function, as far as can be seen."""
    if isinstance(value, jax.core.Tracer):
        return True
    if isinstance(value, partial):
        held = (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        held = (value.__func__, value.__self__)
    elif isinstance(value, FunctionType):
        held = ([_contents(cell) for cell in value.__closure__ or ()], value.__defaults__, value.__kwdefaults__)
    else:
        return False
    return depth > 0 and any(captures_traced(leaf, depth - 1) for leaf in jax.tree.leaves(held))


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return None


def _is_dynamic(x: Any) -> bool:
    """True if `x` is traced; Python integers and booleans are static."""
    return isinstance(x, jax.ShapeDtypeStruct) or (eqx.is_array_like(x) and not isinstance(x, int))


def _types(dynamic: Any) -> list[Any]:
    return [jax.typeof(x) for x in jax.tree.leaves(dynamic) if eqx.is_array(x)]


def _signature(dynamic: Any) -> tuple[Any, ...]:
    leaves, tree = jax.tree.flatten(dynamic)
    return tree, *((jax.numpy.shape(x), jax.numpy.result_type(x)) for x in leaves)


def _count_equations(jaxpr: Any) -> int:
    count = 0
    for equation in jaxpr.eqns:
        inner = [_count_equations(j) for p in equation.params.values() for j in _subjaxprs(p)]
        count += sum(inner) if inner else 1
    return count


def _subjaxprs(param: Any) -> list[Any]:
    candidates = param if isinstance(param, tuple | list) else (param,)
    jaxprs = (getattr(c, "jaxpr", c) for c in candidates)
    return [j for j in jaxprs if hasattr(j, "eqns")]
