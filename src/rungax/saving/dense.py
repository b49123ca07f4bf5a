"""Dense output: what the interpolation of every step needs."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..interpolation import DenseInterpolation
from ..jaxkit import BoolScalar, DenseInfo, IntScalar
from ..step import AbstractRecorder, Plan, State, Step


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
        return DenseInterpolation(
            start=plan.problem.t0,
            starts=record.starts,
            ends=record.ends,
            num_steps=state.num_accepted,
            infos=record.infos,
            direction=plan.problem.direction,
            y0=plan.problem.y0,
            interpolation_cls=plan.solver.interpolation_cls,
        )
