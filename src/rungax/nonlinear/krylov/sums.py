"""Sums of products of entries of two vectors, for products with sparse matrices whose pattern is known."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int

MAX_PADDING = 3
"""The ratio of places to terms up to which sums are gathered from padded tables."""


class ProductSums:
    r"""The sums $s_g = \sum_k a_{p_k} b_{q_k}$ over the terms $k$ of each group $g$.

    If most groups have about as many terms, the sums are made from tables with one row for the first term of each
    group, one for the second, and so on. That is a loop over the groups without writes to computed places, which are
    slow on CPUs. If few groups are much larger than the others, a table would be mostly empty, and terms are added to
    their groups one by one.

    Parameters
    ----------
    groups
        The group of each term.
    left, right
        The places of its two factors.
    num_groups
        Number of groups.
    """

    def __init__(self, groups: Int[np.ndarray, " terms"], left: np.ndarray, right: np.ndarray, num_groups: int):
        order = np.argsort(groups, kind="stable")
        self.groups, self.left, self.right = (x[order].astype(np.int32) for x in (groups, left, right))
        self.num_groups = num_groups
        counts = np.bincount(self.groups, minlength=num_groups)
        width = int(counts.max(initial=0))
        self.is_regular = width * num_groups <= MAX_PADDING * self.groups.size + num_groups
        if self.is_regular:
            starts = np.cumsum(counts) - counts
            ranks = np.arange(self.groups.size) - starts[self.groups]
            self.tables = np.zeros((2, width, num_groups), np.int32)
            self.tables[:, ranks, self.groups] = self.left, self.right
            self.is_term = np.arange(width)[:, None] < counts

    def __call__(self, a: Inexact[Array, " m"], b: Inexact[Array, " n"]) -> Inexact[Array, " groups"]:
        """The sums."""
        if not self.is_regular:
            terms = a[self.left] * b[self.right]
            return jax.ops.segment_sum(terms, self.groups, self.num_groups, indices_are_sorted=True)
        total = jnp.zeros(self.num_groups, a.dtype)
        for left, right, is_term in zip(*self.tables, self.is_term, strict=True):
            total = total + jnp.where(is_term, a[left] * b[right], 0)
        return total
