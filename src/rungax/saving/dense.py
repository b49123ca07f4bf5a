"""Dense output: what the interpolation of every step needs."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..interpolation import DenseInterpolation
from ..jaxkit import BoolScalar, DenseInfo, IntScalar
from ..step import AbstractRecorder, Plan, State, Step
from .tape import NEVER, StepsSaver


class _Steps(eqx.Module):
    starts: Float[Array, " steps"]
    ends: Float[Array, " steps"]
    infos: DenseInfo


class DenseRecorder(AbstractRecorder):
    """Keeps every step's dense information, in a buffer of `max_steps`."""

    def init(self, plan: Plan, state: State) -> _Steps:
        """Empty buffers."""
        assert plan.max_steps is not None, "checked before the loop"
        times = jnp.full(plan.max_steps, jnp.inf, state.t.dtype)
        info = jax.eval_shape(lambda: plan.densify(plan.attempt(state)))
        # Never read where not written, so zeros will do: they are the cheapest to allocate.
        infos = jax.tree.map(lambda x: jnp.zeros((plan.max_steps, *x.shape), x.dtype), info)
        return _Steps(times, times, infos)

    def record(self, plan: Plan, record: _Steps, step: Step, kept: BoolScalar, index: IntScalar) -> _Steps:
        """One more step, where kept."""
        slot = jnp.where(kept, index, record.ends.size)

        def write(buffer: jax.Array, entry: jax.Array) -> jax.Array:
            return buffer.at[slot].set(entry, mode="drop")

        infos = jax.tree.map(write, record.infos, plan.densify(step))
        return _Steps(write(record.starts, step.t0), write(record.ends, step.t1), infos)

    def finish(self, plan: Plan, record: _Steps, state: State) -> DenseInterpolation:
        """The interpolation over all steps."""
        return _interpolation(plan, record.starts, record.ends, record.infos, state)

    def savers(self) -> tuple[AbstractRecorder, ...]:
        """One for every step."""
        return (StepsSaver(1, "dense_info"),)

    def rebuild(self, plan: Plan, parts: tuple[Any, ...], state: State) -> DenseInterpolation:
        """The same interpolation."""
        (saved_parts,) = parts
        used = saved_parts.index != NEVER
        starts, ends = jax.vmap(plan.differentiable_step_times)(saved_parts.t0, saved_parts.t1, saved_parts.index)
        starts, ends = (jnp.where(used, times, jnp.inf) for times in (starts, ends))
        return _interpolation(plan, starts, ends, saved_parts.value, state)


def _interpolation(plan: Plan, starts: Array, ends: Array, infos: DenseInfo, state: State) -> DenseInterpolation:
    # The two arguments that a type checker misses are the properties `t0` and `t1`.
    return DenseInterpolation(  # pyright: ignore[reportCallIssue]
        start=plan.problem.t0,
        starts=starts,
        ends=ends,
        num_steps=state.num_accepted,
        infos=infos,
        direction=plan.problem.direction,
        y0=plan.problem.y0,
        interpolation_cls=plan.solver.interpolation_cls,
    )
