"""Functions traced once, with everything they captured made explicit."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax


class ClosedFunction(eqx.Module):
    """A function as one jaxpr that every call reuses, and the arrays it captured as leaves of this module.

    A call with arguments of other shapes or dtypes than those it was traced with runs the function itself.
    """

    captured: list[Any]
    function: Callable[..., Any]
    _call: Callable[..., Any] = eqx.field(static=True)
    _signature: tuple[Any, ...] = eqx.field(static=True)
    num_equations: int = eqx.field(static=True)

    def __call__(self, *args: Any) -> Any:
        dynamic = eqx.filter(args, eqx.is_array_like)
        if _signature(dynamic) != self._signature:
            return self.function(*args)
        return self._call(self.captured, dynamic)


def close(function: Callable[..., Any], *args: Any) -> ClosedFunction:
    """Trace `function` for arguments like `args` (arrays or `ShapeDtypeStruct`s, anything else being static)."""
    dynamic, static = eqx.partition(args, _is_abstract_array)

    def of_arrays(dynamic: Any) -> Any:
        return function(*eqx.combine(dynamic, static))

    closed, out = jax.make_jaxpr(of_arrays, return_shape=True)(dynamic)
    out_tree = jax.tree.structure(out)

    def evaluate(captured: list[Any], dynamic: Any) -> Any:
        leaves = jax.core.eval_jaxpr(closed.jaxpr, captured, *jax.tree.leaves(dynamic))
        return jax.tree.unflatten(out_tree, leaves)

    return ClosedFunction(
        captured=list(closed.consts),
        function=function,
        _call=evaluate,
        _signature=_signature(dynamic),
        num_equations=_count_equations(closed.jaxpr),
    )


def _is_abstract_array(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct) or eqx.is_array_like(x)


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
