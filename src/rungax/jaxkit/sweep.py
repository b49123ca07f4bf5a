"""A linear map given by two fast programs, one for each direction, that JAX can differentiate in every mode.

JAX transposes a linear program by itself, but not a `while_loop`. `sweep` is a primitive for a linear map whose forward
evaluation and whose transpose are both known as programs that may contain such loops. Evaluated, it runs the one;
transposed, the other; batched, both are. Differentiated once more with respect to what the map depends on, it falls
back on a third program, `bounded`, equal to the forward one but built of scans, which JAX differentiates in any mode.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import PartitionSpec

from .batching import match_varying
from .trees import scaled

type Program = Callable[..., Sequence[jax.Array]]


class LinearPrograms(NamedTuple):
    """The programs of a linear map, each taking residuals and then linear inputs, all flat.

    Parameters
    ----------
    forward
        `forward(*residuals, *inputs) -> outputs`.
    backward
        `backward(*residuals, *cotangents of outputs) -> cotangents of inputs`.
    bounded
        As `forward`, but differentiable in every mode with respect to all its arguments.
    """

    forward: Program
    backward: Program
    bounded: Program


def sweep(
    programs: LinearPrograms, residuals: Sequence[jax.Array], inputs: Sequence[jax.Array], outputs: Sequence[Any]
) -> list[jax.Array]:
    """Apply the linear map to `inputs`; `outputs` are arrays or `ShapeDtypeStruct`s like the result."""
    args = match_varying([*residuals, *inputs], [*residuals, *inputs])
    ins = tuple(ShapedArray(jnp.shape(x), jnp.result_type(x)) for x in inputs)
    outs = tuple(ShapedArray(jnp.shape(x), jnp.result_type(x)) for x in outputs)
    return _sweep.bind(*args, programs=programs, ins=ins, outs=outs)


_sweep = Primitive("sweep")
_sweep.multiple_results = True


@_sweep.def_impl
def _(*args: Any, programs: LinearPrograms, **_: Any) -> list[jax.Array]:
    return list(jax.jit(programs.forward)(*args))


@_sweep.def_abstract_eval
def _(*args: Any, outs: tuple[ShapedArray, ...], **_: Any) -> list[ShapedArray]:
    # All arguments vary over the same axes of the same mesh (`match_varying`), hence so do the results.
    like = args[0]

    def aval(out: ShapedArray) -> ShapedArray:
        sharding = like.sharding.update(spec=PartitionSpec(*[None] * len(out.shape)))
        return like.update(shape=out.shape, dtype=out.dtype, weak_type=False, sharding=sharding)

    return [aval(out) for out in outs]


def _evaluate(*args: Any, programs: LinearPrograms, **_: Any) -> Sequence[jax.Array]:
    return match_varying(list(programs.forward(*args)), args)


mlir.register_lowering(_sweep, mlir.lower_fun(_evaluate, multiple_results=True))


def _transpose(
    cotangents: list[Any],
    *args: Any,
    programs: LinearPrograms,
    ins: tuple[ShapedArray, ...],
    outs: tuple[ShapedArray, ...],
) -> list[Any]:
    count = len(args) - len(ins)
    residuals = args[:count]
    cotangents = [_instantiate(ct, out) for ct, out in zip(cotangents, outs, strict=True)]

    def bounded(*args: Any) -> list[jax.Array]:
        def linear(*inputs: Any) -> list[jax.Array]:
            return list(programs.bounded(*args[:count], *inputs))

        zeros = match_varying([jnp.zeros(a.shape, a.dtype) for a in ins], args)
        return list(jax.linear_transpose(linear, *zeros)(list(args[count:])))

    transposed = LinearPrograms(forward=programs.backward, backward=programs.forward, bounded=bounded)
    operands = match_varying([*residuals, *cotangents], [*residuals, *cotangents])
    return [None] * count + _sweep.bind(*operands, programs=transposed, ins=outs, outs=ins)


def _jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    programs: LinearPrograms,
    ins: tuple[ShapedArray, ...],
    outs: tuple[ShapedArray, ...],
) -> tuple[list[Any], list[Any]]:
    count = len(primals) - len(ins)
    params = {"programs": programs, "ins": ins, "outs": outs}
    values = _sweep.bind(*primals, **params)
    moved = [_instantiate(t, a) for t, a in zip(tangents[count:], ins, strict=True)]
    args = match_varying([*primals[:count], *moved], [*primals, *moved])
    tangents_out = _sweep.bind(*args, **params)
    moving = [i for i in range(count) if not _is_zero(tangents[i])]
    if moving:

        def of_residuals(*residuals: Any) -> list[jax.Array]:
            full = list(primals)
            for i, residual in zip(moving, residuals, strict=True):
                full[i] = residual
            return list(programs.bounded(*full))

        extra = jax.jvp(of_residuals, [primals[i] for i in moving], [tangents[i] for i in moving])[1]
        tangents_out = [a + b for a, b in zip(tangents_out, extra, strict=True)]
    return values, tangents_out


def _batch(
    args: Sequence[Any],
    dims: Sequence[Any],
    *,
    programs: LinearPrograms,
    ins: tuple[ShapedArray, ...],
    outs: tuple[ShapedArray, ...],
) -> tuple[list[Any], list[int]]:
    count = len(args) - len(ins)
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    args = [x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    residuals = args[:count]
    inputs = [
        jnp.broadcast_to(x, (size, *x.shape)) if d is None else x
        for x, d in zip(args[count:], dims[count:], strict=True)
    ]
    axes = tuple(None if d is None else 0 for d in dims[:count])

    def over_batch(program: Program, num_inputs: int) -> Program:
        return jax.vmap(program, (*axes, *[0] * num_inputs))

    batched = LinearPrograms(
        forward=over_batch(programs.forward, len(ins)),
        backward=over_batch(programs.backward, len(outs)),
        bounded=over_batch(programs.bounded, len(ins)),
    )
    ins, outs = (tuple(ShapedArray((size, *a.shape), a.dtype) for a in avals) for avals in (ins, outs))
    args = match_varying([*residuals, *inputs], [*residuals, *inputs])
    results = _sweep.bind(*args, programs=batched, ins=ins, outs=outs)
    return results, [0] * len(results)


def _is_zero(tangent: Any) -> bool:
    return type(tangent) is ad.Zero or getattr(tangent, "dtype", None) == jax.dtypes.float0


def _instantiate(tangent: Any, aval: ShapedArray) -> Any:
    return jnp.zeros(aval.shape, aval.dtype) if type(tangent) is ad.Zero else tangent


ad.primitive_transposes[_sweep] = _transpose
ad.primitive_jvps[_sweep] = _jvp
batching.primitive_batchers[_sweep] = _batch


def known_zero(tangent: Any) -> bool:
    """Whether a tangent handed to a `custom_jvp` rule (with `symbolic_zeros=True`) is zero whatever the values are."""
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero) or _is_zero(tangent)


@jax.custom_jvp
def scaled_derivative(x: jax.Array, factor: jax.Array) -> jax.Array:
    """`x`, with its derivative multiplied by `factor`; what does not move stays so, though the factor be NaN."""
    del factor
    return x


@scaled_derivative.defjvp
def _(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    (x, factor), (t, _) = primals, tangents
    programs = LinearPrograms(_scaled_if_moving, _scaled_if_moving, lambda factor, t: [scaled(factor, t)])
    (t,) = sweep(programs, [factor], [t], [t])
    return scaled_derivative(x, factor), t


def _scaled_if_moving(factor: jax.Array, t: jax.Array) -> list[jax.Array]:
    return [jnp.where(t == 0, jnp.zeros_like(t), scaled(factor, t))]


def zero_tangent(x: jax.Array) -> Any:
    """The tangent, known to be zero, of an array that does not move; for use in a `custom_jvp` rule."""
    return jax.custom_derivatives.SymbolicZero(jax.typeof(x).to_tangent_aval())


def jvp_of_differentiable(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    """`jax.jvp` with respect to the arguments whose tangents are not known to be zero, inside a `custom_jvp` rule."""
    moving = [i for i, tangent in enumerate(tangents) if not known_zero(tangent)]

    def of_moving(*values: jax.Array) -> Any:
        full = list(primals)
        for i, value in zip(moving, values, strict=True):
            full[i] = value
        return function(*full)

    value, moved = jax.jvp(of_moving, [primals[i] for i in moving], [tangents[i] for i in moving])
    # The tangent of an integer is a constant, which does not vary over `shard_map` axes; a symbolic zero does.
    return value, jax.tree.map(lambda x, t: zero_tangent(x) if _is_zero(t) else t, value, moved)
