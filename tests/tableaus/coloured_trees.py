r"""Rooted trees whose nodes are coloured by the parts of a split method, and the coupling conditions they index.

A coloured tree is the tuple of its branches, each the colour of the subtree's root with the subtree, in a canonical
order; its own root has no colour. With $\Phi_i(\tau) = \prod_{(\nu, \sigma) \in \tau} \sum_j a^{(\nu)}_{ij}
\Phi_j(\sigma)$ a split method has order $p$ when $\sum_i b^{(\mu)}_i \Phi_i(\tau) = 1 / \gamma(\tau)$ for every colour
$\mu$ of the root and every coloured tree of at most $p$ nodes (A. L. Araújo, A. Murua and J. M. Sanz-Serna, *Symplectic
methods based on decompositions*, SIAM J. Numer. Anal. 34 (1997), 1926--1947).

Everything is exact.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import product

from .rooted_trees import Tree, density, dot, rooted_trees

type ColouredTree = tuple[tuple[int, "ColouredTree"], ...]
type Rows = Sequence[Sequence[Fraction]]

COLOURS = (0, 1)


@cache
def colourings(tree: Tree) -> tuple[ColouredTree, ...]:
    """All different colourings of the nodes of `tree` other than its root."""
    branches = [[(colour, coloured) for colour in COLOURS for coloured in colourings(subtree)] for subtree in tree]
    return tuple({tuple(sorted(chosen)) for chosen in product(*branches)})


class CoupledWeights:
    r"""The elementary weights of the stages of a split method, computed once per coloured tree.

    Parameters
    ----------
    matrices
        The matrix $a$ of each part, see `ElementaryWeights`.
    """

    def __init__(self, matrices: Sequence[Rows]) -> None:
        self.matrices = matrices
        self._by_tree: dict[ColouredTree, list[Fraction]] = {}
        self._applied: dict[tuple[int, ColouredTree], list[Fraction]] = {}

    def __call__(self, tree: ColouredTree) -> list[Fraction]:
        r"""The vector $\Phi(\tau)$ over the stages."""
        if tree not in self._by_tree:
            weights = [Fraction(1)] * len(self.matrices[0])
            for branch in tree:
                weights = [weight * factor for weight, factor in zip(weights, self._apply(branch), strict=True)]
            self._by_tree[tree] = weights
        return self._by_tree[tree]

    def _apply(self, branch: tuple[int, ColouredTree]) -> list[Fraction]:
        r"""The vector $a^{(\nu)} \Phi(\sigma)$."""
        if branch not in self._applied:
            colour, subtree = branch
            weights = self(subtree)
            self._applied[branch] = [dot(row, weights[: len(row)]) for row in self.matrices[colour]]
        return self._applied[branch]


def largest_coupled_defect(parts: Rows, stages: CoupledWeights, order: int) -> Fraction:
    """The largest defect of the coupling conditions of exactly `order` nodes, for the weights of each part in a row."""
    different_parts = set(map(tuple, parts))
    return max(
        abs(dot(b, stages(coloured)) - Fraction(1, density(tree)))
        for tree in rooted_trees(order)
        for coloured in colourings(tree)
        for b in different_parts
    )


def largest_coupled_continuous_defect(interpolant: Rows, stages: CoupledWeights, order: int) -> Fraction:
    """The largest defect in a coefficient of the polynomials `interpolant`, which all parts share."""
    powers = list(zip(*interpolant, strict=True))
    powers += [(Fraction(0),) * len(interpolant)] * (order - len(powers))
    return max(
        abs(dot(column, stages(coloured)) - (Fraction(1, density(tree)) if power == order else 0))
        for tree in rooted_trees(order)
        for coloured in colourings(tree)
        for power, column in enumerate(powers, start=1)
    )
