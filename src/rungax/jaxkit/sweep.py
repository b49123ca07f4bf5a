"""Linear maps given by programs for the map and for its transpose, which JAX can differentiate in every mode.

JAX transposes linear programs, but not those with a `while_loop`. `sweep` is a primitive for a linear map that comes
with two programs, both of which may contain such loops: one evaluates the map, the other its transpose. Transposing
`sweep` exchanges the two, and batching batches both. A derivative with respect to the residuals, on which the map
itself depends, needs a third program, `bounded`. It computes the same as the first, but with scans of bounded length in
place of loops, so that JAX differentiates it in every mode.
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
    """The programs of a linear map. Each takes the residuals and then the inputs, as flat sequences of arrays.

    Parameters
    ----------
    forward
        `forward(*residuals, *inputs) -> outputs`.
    backward
        `backward(*residuals, *cotangents of outputs) -> cotangents of inputs`.
    bounded
        The same function as `forward`, differentiable in every mode with respect to all its arguments.
    """

    forward: Program
    backward: Program
    bounded: Program


def sweep(
    programs: LinearPrograms, residuals: Sequence[jax.Array], inputs: Sequence[jax.Array], outputs: Sequence[Any]
) -> list[jax.Array]:
    """The linear map applied to `inputs`; `outputs` are arrays or `ShapeDtypeStruct`s like the result."""
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
    # All arguments vary over the same axes of the same mesh (`match_varying`), and therefore so do the results.
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
    input_tangents = [_instantiate(t, a) for t, a in zip(tangents[count:], ins, strict=True)]
    args = match_varying([*primals[:count], *input_tangents], [*primals, *input_tangents])
    tangents_out = _sweep.bind(*args, **params)
    differentiable = [i for i in range(count) if not _is_zero(tangents[i])]
    if differentiable:

        def of_residuals(*residuals: Any) -> list[jax.Array]:
            full = list(primals)
            for i, residual in zip(differentiable, residuals, strict=True):
                full[i] = residual
            return list(programs.bounded(*full))

        values_at, directions = ([x[i] for i in differentiable] for x in (primals, tangents))
        through_residuals = jax.jvp(of_residuals, values_at, directions)[1]
        tangents_out = [a + b for a, b in zip(tangents_out, through_residuals, strict=True)]
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
    """True if a tangent in a `custom_jvp` rule (with `symbolic_zeros=True`) is known to be zero at trace time."""
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero) or _is_zero(tangent)


@jax.custom_jvp
def scaled_derivative(x: jax.Array, factor: jax.Array) -> jax.Array:
    """`x`, with its derivative multiplied by `factor`. A tangent of zero stays zero even if the factor is NaN."""
    del factor
    return x


@scaled_derivative.defjvp
def _(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    (x, factor), (t, _) = primals, tangents
    programs = LinearPrograms(_scaled_unless_zero, _scaled_unless_zero, lambda factor, t: [scaled(factor, t)])
    (t,) = sweep(programs, [factor], [t], [t])
    return scaled_derivative(x, factor), t


def _scaled_unless_zero(factor: jax.Array, t: jax.Array) -> list[jax.Array]:
    return [jnp.where(t == 0, jnp.zeros_like(t), scaled(factor, t))]


def scaled_tangent(factor: jax.Array, t: jax.Array) -> jax.Array:
    """The tangent `t` times `factor`, as a linear map whose transpose takes a cotangent of zero to zero.

    With a factor of NaN every tangent becomes NaN, zero among them, but only cotangents other than zero do.
    """
    plain = lambda factor, t: [scaled(factor, t)]
    (t,) = sweep(LinearPrograms(plain, _scaled_unless_zero, plain), [factor], [t], [t])
    return t


def zero_tangent(x: jax.Array) -> Any:
    """The symbolic zero tangent of `x`, for use in a `custom_jvp` rule with `symbolic_zeros=True`."""
    return jax.custom_derivatives.SymbolicZero(jax.typeof(x).to_tangent_aval())


def jvp_skipping_zeros(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    """`jax.jvp` for use in a `custom_jvp` rule: arguments whose tangents are known to be zero are constants."""
    differentiable = [i for i, tangent in enumerate(tangents) if not known_zero(tangent)]

    def of_differentiable(*values: jax.Array) -> Any:
        full = list(primals)
        for i, value in zip(differentiable, values, strict=True):
            full[i] = value
        return function(*full)

    values, directions = ([x[i] for i in differentiable] for x in (primals, tangents))
    value, tangent = jax.jvp(of_differentiable, values, directions)
    # The tangent of an integer is a constant, which does not vary over `shard_map` axes; a symbolic zero does.
    return value, jax.tree.map(lambda x, t: zero_tangent(x) if _is_zero(t) else t, value, tangent)
