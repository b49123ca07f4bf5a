r"""Rooted trees and the order conditions they index.

A tree is the tuple of its subtrees, in a canonical order; `()` is the single node. With the elementary weights
$\Phi_i(\tau) = \prod_{\sigma \in \tau} \sum_j a_{ij} \Phi_j(\sigma)$, weights $b_i$ have order $p$ when
$\sum_i b_i \Phi_i(\tau) = 1 / \gamma(\tau)$ for every tree of at most $p$ nodes, and polynomials $b_i(\theta)$ when
$\sum_i b_i(\theta) \Phi_i(\tau) = \theta^{|\tau|} / \gamma(\tau)$ (E. Hairer, S. P. Nørsett and G. Wanner, *Solving
Ordinary Differential Equations I*, theorems II.2.13 and II.6.1).

Everything is exact.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations_with_replacement
from math import prod

type Tree = tuple["Tree", ...]


@cache
def num_nodes(tree: Tree) -> int:
    """The order of a tree."""
    return 1 + sum(num_nodes(subtree) for subtree in tree)


@cache
def density(tree: Tree) -> int:
    r"""$\gamma(\tau)$: the product of the orders of all subtrees."""
    return num_nodes(tree) * prod(density(subtree) for subtree in tree)


@cache
def rooted_trees(order: int) -> tuple[Tree, ...]:
    """All rooted trees with `order` nodes."""
    return tuple(tuple(sorted(forest)) for forest in _forests(order - 1, order - 1))


@cache
def _forests(total: int, largest: int) -> tuple[Tree, ...]:
    """All multisets of trees with `total` nodes together, none with more than `largest`."""
    if total == 0:
        return ((),)
    forests: list[Tree] = []
    for size in range(min(total, largest), 0, -1):
        for count in range(1, total // size + 1):
            rests = _forests(total - count * size, size - 1)
            for chosen in combinations_with_replacement(rooted_trees(size), count):
                forests.extend(chosen + rest for rest in rests)
    return tuple(forests)


class ElementaryWeights:
    r"""The elementary weights of the stages of a method, computed once per tree.

    Parameters
    ----------
    rows
        The rows of $a$ for all stages, each ending anywhere beyond its last non-zero entry.
    """

    def __init__(self, rows: Sequence[Sequence[Fraction]]) -> None:
        self.rows = rows
        self._by_tree: dict[Tree, list[Fraction]] = {}
        self._applied: dict[Tree, list[Fraction]] = {}

    def __call__(self, tree: Tree) -> list[Fraction]:
        r"""The vector $\Phi(\tau)$ over the stages."""
        if tree not in self._by_tree:
            weights = [Fraction(1)] * len(self.rows)
            for subtree in tree:
                weights = [weight * factor for weight, factor in zip(weights, self._apply(subtree), strict=True)]
            self._by_tree[tree] = weights
        return self._by_tree[tree]

    def _apply(self, tree: Tree) -> list[Fraction]:
        r"""The vector $a \Phi(\tau)$."""
        if tree not in self._applied:
            weights = self(tree)
            self._applied[tree] = [dot(row, weights[: len(row)]) for row in self.rows]
        return self._applied[tree]


def largest_defect(b: Sequence[Fraction], stages: ElementaryWeights, order: int) -> Fraction:
    """The largest defect of the conditions of exactly `order` nodes for the weights `b`."""
    return max(abs(dot(b, stages(tree)) - Fraction(1, density(tree))) for tree in rooted_trees(order))


def largest_continuous_defect(
    interpolant: Sequence[Sequence[Fraction]], stages: ElementaryWeights, order: int
) -> Fraction:
    """The largest defect of the conditions of exactly `order` nodes in a coefficient of `interpolant`."""
    powers = list(zip(*interpolant, strict=True))
    # A power above the degree of the interpolant has coefficient zero.
    powers += [(Fraction(0),) * len(interpolant)] * (order - len(powers))
    defects: list[Fraction] = []
    for tree in rooted_trees(order):
        weights = stages(tree)
        for power, column in enumerate(powers, start=1):
            expected = Fraction(1, density(tree)) if power == order else Fraction(0)
            defects.append(abs(dot(column, weights) - expected))
    return max(defects)


def dot(left: Sequence[Fraction], right: Sequence[Fraction]) -> Fraction:
    """The exact sum of the products."""
    # About half of the entries of a row are zero.
    return sum((x * y for x, y in zip(left, right, strict=True) if x), Fraction(0))
