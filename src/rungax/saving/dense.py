"""Dense output: the information from which every step can be interpolated."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..interpolation import DenseInterpolation
from ..jaxkit import BoolScalar, DenseInfo, IntScalar
from ..plan import AbstractRecorder, Plan
from ..step import Start, State, Step
from .savers import AbstractSaver, SavedParts, StepsSaver, dense_info_of
from .slots import Slots


class DenseRecord(eqx.Module):
    """The starts, the ends and the dense information of the accepted steps, one entry for each."""

    starts: Float[Array, " steps"]
    ends: Float[Array, " steps"]
    infos: DenseInfo


class DenseRecorder(AbstractRecorder):
    """The recorder of every step's dense information, in a buffer of `max_steps`."""

    def init(self, plan: Plan, state: State) -> DenseRecord:
        """Empty buffers."""
        assert plan.max_steps is not None, "checked before the loop"
        times = jnp.full(plan.max_steps, jnp.inf, state.t.dtype)
        info = jax.eval_shape(lambda: plan.solver.densify(plan.attempt(state)))
        return DenseRecord(times, times, Slots.zeros(plan.max_steps, info).entries)

    def record(
        self, plan: Plan, record: DenseRecord, step: Step, accepted: BoolScalar, index: IntScalar
    ) -> DenseRecord:
        """The buffers with one more step, if it is accepted."""
        entry = DenseRecord(step.t0, step.t1, plan.solver.densify(step))
        return Slots(record).write(index, entry, accepted).entries

    def finish(self, plan: Plan, record: DenseRecord, state: State) -> DenseInterpolation:
        """The interpolation over all steps."""
        return _interpolation(plan, record, state)

    def savers(self) -> Mapping[str, AbstractSaver]:
        """A saver for every step."""
        return {"steps": StepsSaver(dense_info_of)}

    def rebuild(self, plan: Plan, saved: Mapping[str, SavedParts], state: State, end: Start) -> DenseInterpolation:
        """The interpolation over all steps, made from the saved ones."""
        del end
        steps = saved["steps"]
        starts, ends = jax.vmap(plan.differentiable_step_times)(steps.t0, steps.t1, steps.index)
        starts, ends = (jnp.where(steps.used, times, jnp.inf) for times in (starts, ends))
        return _interpolation(plan, DenseRecord(starts, ends, steps.value), state)


def _interpolation(plan: Plan, record: DenseRecord, state: State) -> DenseInterpolation:
    return DenseInterpolation(
        ts=jnp.concatenate([plan.problem.t0[None], record.ends]),
        ts_size=state.num_accepted + 1,
        infos=record.infos,
        interpolation_cls=plan.solver.interpolation_for(plan.problem.terms, plan.problem.args),
        direction=plan.problem.direction,
        t0_if_trivial=plan.problem.t0,
        y0_if_trivial=plan.problem.y0,
        starts=record.starts,
    )
