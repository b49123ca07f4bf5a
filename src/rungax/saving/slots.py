"""Buffers that are written slot by slot, and the walk through a sequence whose entries become due in their order."""

from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from ..jaxkit import BoolScalar, IntScalar, Time, any_element
from ..step import Step


class Slots(eqx.Module):
    """A buffer of entries.

    Parameters
    ----------
    entries
        The entries, stacked along the first axis of each leaf.
    """

    entries: PyTree[Array]

    @classmethod
    def zeros(cls, size: int, like: PyTree[Any]) -> Self:
        """A buffer of `size` entries like `like`; zeros, because they are the cheapest to allocate."""
        return cls(jax.tree.map(lambda x: jnp.zeros((size, *jnp.shape(x)), jnp.result_type(x)), like))

    @property
    def size(self) -> int:
        """The number of slots."""
        return next((x.shape[0] for x in jax.tree.leaves(self.entries)), 0)

    def write(self, slot: IntScalar, entry: PyTree[Array], where: BoolScalar) -> Self:
        """The buffer with `entry` in a slot, `where` it is to be written."""
        if self.size == 0:
            return self
        # The place past the end is no slot: nothing is written there.
        at = jnp.where(where, slot, self.size)
        return type(self)(jax.tree.map(lambda buffer, x: buffer.at[at].set(x, mode="drop"), self.entries, entry))

    def __getitem__(self, slot: Any) -> PyTree[Array]:
        """The entry in a slot."""
        return jax.tree.map(lambda x: x[slot], self.entries)


def visit_due[Carry](
    is_due: Callable[[IntScalar], Array],
    visit: Callable[[IntScalar, Array, Carry], Carry],
    cursor: IntScalar,
    carry: Carry,
    by: int = 1,
) -> tuple[IntScalar, Carry]:
    """Visit the entries of a sequence from `cursor` on while they are due; returns the cursor after them.

    Under `vmap` the visits continue until no batch element has an entry that is due; `visit(cursor, due, carry)` must
    leave `carry` unchanged where `due` is false.
    """

    def body(state: tuple[IntScalar, Carry]) -> tuple[IntScalar, Carry]:
        cursor, carry = state
        due = is_due(cursor)
        return cursor + by * due.astype(jnp.int32), visit(cursor, due, carry)

    return lax.while_loop(lambda state: any_element(is_due(state[0])), body, (cursor, carry))


def visit_passed_times[Prepared, Carry](
    times: tuple[Array, IntScalar],
    step: Step,
    accepted: BoolScalar,
    prepare: Callable[[], Prepared],
    visit: Callable[[Prepared, IntScalar, Time, Array, Carry], Carry],
    carry: Carry,
) -> tuple[IntScalar, Carry]:
    """Visit the requested times that an accepted step passes; returns the number of times passed so far.

    Parameters
    ----------
    times
        The requested times, increasing, and the number of them passed before this step.
    step, accepted
        The attempt, and whether it is accepted.
    prepare
        Makes what the visits need of the step; called only in steps that pass a time.
    visit
        `visit(prepared, i, t, due, carry)` for the time `t` with index `i`.
    """
    ts, count = jnp.append(times[0], jnp.inf), times[1]

    def is_due(i: IntScalar) -> Array:
        return accepted & (ts[i] <= step.t1)

    def visit_all() -> tuple[IntScalar, Carry]:
        prepared = prepare()
        return visit_due(is_due, lambda i, due, carry: visit(prepared, i, ts[i], due, carry), count, carry)

    return lax.cond(any_element(is_due(count)), visit_all, lambda: (count, carry))


def where_used(used: Array, x: PyTree[Array], other: PyTree[Array]) -> PyTree[Array]:
    """`x` where `used` holds along the first axis, `other`, which has no such axis, elsewhere."""

    def leaf(x: Array, other: Array) -> Array:
        return jnp.where(used.reshape(-1, *[1] * (x.ndim - 1)), x, other[None])

    return jax.tree.map(leaf, x, other)
