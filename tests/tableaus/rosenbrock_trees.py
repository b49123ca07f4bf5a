r"""Rosenbrock methods in their classical form, with their order conditions, stability and stiff conditions.

In the classical form (E. Hairer and G. Wanner, *Solving Ordinary Differential Equations II*, IV.7, equation 7.4)

$$k_i = h f\Big(y_0 + \sum_j \alpha_{ij} k_j\Big) + h J \sum_j \gamma_{ij} k_j, \qquad y_1 = y_0 + \sum_i b_i k_i,$$

the order conditions are those of Runge--Kutta methods, except that a vertex of a tree with a single child takes
$\beta_{ij} = \alpha_{ij} + \gamma_{ij}$ for $\alpha_{ij}$ (table 7.1). With $u = \Gamma k$ the two forms are related by
$\Gamma^{-1} = \gamma^{-1} I - C$, $(\alpha_{ij}) = A \Gamma$ and $b = m \Gamma$.

Everything but stability on the imaginary axis is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from rungax.solvers.tableaus.types.rosenbrock import RosenbrockCoefficients

from .rooted_trees import Tree, density, rooted_trees

type Vector = list[Fraction]
type Matrix = list[Vector]


@dataclass(frozen=True, eq=False)
class ClassicalForm:
    """The coefficients of the classical form; `b_theta` holds the weights of the dense output, power by stage."""

    alpha: Matrix
    beta: Matrix
    b: Vector
    b_hat: Vector | None
    b_theta: Matrix | None

    @cached_property
    def nodes(self) -> Vector:
        return [sum(row, Fraction(0)) for row in self.alpha]

    @cached_property
    def gamma_sums(self) -> Vector:
        return [sum(row, Fraction(0)) - node for row, node in zip(self.beta, self.nodes, strict=True)]


def classical(exact: RosenbrockCoefficients) -> ClassicalForm:
    gamma = _gamma_matrix(exact)
    alpha = [_row_times(row, gamma) for row in ((), *exact.a)]
    beta = [[x + y for x, y in zip(*rows, strict=True)] for rows in zip(alpha, gamma, strict=True)]
    b_theta = None
    if exact.interpolant is not None:
        rows = [exact.m, *exact.interpolant]
        zero = (Fraction(0),) * len(exact.m)
        # theta (m + (1 - theta) (h_1 + theta h_2 + ...)), in powers of theta
        powers = [
            [x - y for x, y in zip(above, below, strict=True)]
            for above, below in zip([*rows[1:], zero], [zero, *rows[1:]], strict=True)
        ]
        powers[0] = [x + y for x, y in zip(powers[0], exact.m, strict=True)]
        b_theta = [_row_times(power, gamma) for power in powers]
    b_hat = None if exact.m_hat is None else _row_times(exact.m_hat, gamma)
    return ClassicalForm(alpha, beta, _row_times(exact.m, gamma), b_hat, b_theta)


def _gamma_matrix(exact: RosenbrockCoefficients) -> Matrix:
    r"""$\Gamma = (\gamma^{-1} I - C)^{-1}$, row by row: $\Gamma_i = \gamma (e_i + \sum_j c_{ij} \Gamma_j)$."""
    num_stages = len(exact.m)
    rows: Matrix = []
    for i, c in enumerate(((), *exact.c)):
        combined = _row_times(c, rows) if rows else [Fraction(0)] * num_stages
        rows.append([exact.gamma * (entry + (i == j)) for j, entry in enumerate(combined)])
    return rows


class ElementaryWeights:
    r"""The elementary weights of the stages, computed once per tree."""

    def __init__(self, form: ClassicalForm) -> None:
        self.form = form
        self._by_tree: dict[Tree, Vector] = {}

    def __call__(self, tree: Tree) -> Vector:
        r"""The vector $\Phi(\tau)$ over the stages."""
        if tree not in self._by_tree:
            matrix = self.form.beta if len(tree) == 1 else self.form.alpha
            weights = [Fraction(1)] * len(matrix)
            for subtree in tree:
                weights = [x * y for x, y in zip(weights, times(matrix, self(subtree)), strict=True)]
            self._by_tree[tree] = weights
        return self._by_tree[tree]


def largest_defect(b: Sequence[Fraction], stages: ElementaryWeights, order: int) -> Fraction:
    """The largest defect of the conditions of exactly `order` nodes for the weights `b`."""
    return max(abs(dot(b, stages(tree)) - Fraction(1, density(tree))) for tree in rooted_trees(order))


def largest_continuous_defect(b_theta: Matrix, stages: ElementaryWeights, order: int) -> Fraction:
    """The largest defect of the conditions of exactly `order` nodes in a coefficient of the dense output."""
    missing = [[Fraction(0)] * len(b_theta[0])] * max(0, order - len(b_theta))
    return max(
        abs(dot(column, stages(tree)) - (Fraction(1, density(tree)) if power == order else 0))
        for tree in rooted_trees(order)
        for power, column in enumerate([*b_theta, *missing], start=1)
    )


def stability_at_infinity(b: Vector, form: ClassicalForm) -> Fraction:
    r"""$R(\infty) = 1 - b^T B^{-1} 1$ of the stability function."""
    return 1 - dot(b, solve(form.beta, [Fraction(1)] * len(b)))


def stability(b: Vector, form: ClassicalForm, z: np.ndarray) -> np.ndarray:
    r"""$R(z) = 1 + z b^T (I - z B)^{-1} 1$, in floating point."""
    beta = np.array(form.beta, dtype=float)
    weights = np.array(b, dtype=float)
    ones = np.ones((len(b), 1))
    stages = np.linalg.solve(np.eye(len(b)) - z[:, None, None] * beta, np.broadcast_to(ones, (z.size, *ones.shape)))
    return 1 + z * (stages[..., 0] @ weights)


def parabolic_defects(b: Vector, form: ClassicalForm) -> list[Fraction]:
    r"""$b^T B^j (2 B^2 1 - \alpha^2)$ for $j = 0, \dots, s - 1$.

    Zero from $j = 1$ on means no order reduction below 3 for linear parabolic problems (Ch. Lubich and A. Ostermann,
    *Linearly implicit time discretization of non-linear parabolic equations*, IMA J. Numer. Anal. 15 (1995)). All
    together are the coefficients of $\varphi''$ in the local error for the problem of Prothero and Robinson,
    $D_2(z) = \sum_j z^{j + 1} b^T B^j (2 B^2 1 - \alpha^2)$.
    """
    ones = [Fraction(1)] * len(b)
    vector = [2 * x - y**2 for x, y in zip(times(form.beta, times(form.beta, ones)), form.nodes, strict=True)]
    defects: list[Fraction] = []
    for _ in b:
        defects.append(dot(b, vector))
        vector = times(form.beta, vector)
    return defects


def prothero_robinson_defect(b: Vector, form: ClassicalForm, power: int, z: Fraction) -> Fraction:
    r"""$D_k(z)$, by which $h^k \varphi^{(k)} / k!$ enters the local error for $y' = \lambda (y - \varphi) + \varphi'$.

    With $z = h \lambda$ it is $b^T (I - z B)^{-1} (k \alpha^{k - 1} - z \alpha^k) - 1$ for $k \geq 3$, and for $k = 2$
    the same with $B 1$ in place of the $\alpha$ that is multiplied by $k$.
    """
    slopes = times(form.beta, [Fraction(1)] * len(b)) if power == 2 else [node ** (power - 1) for node in form.nodes]
    right = [power * slope - z * node**power for slope, node in zip(slopes, form.nodes, strict=True)]
    matrix = [[(i == j) - z * entry for j, entry in enumerate(row)] for i, row in enumerate(form.beta)]
    return dot(b, solve(matrix, right)) - 1


def solve(lower: Matrix, right: Vector) -> Vector:
    """The solution of a lower triangular system."""
    solution: Vector = []
    for i, row in enumerate(lower):
        solution.append((right[i] - dot(row[:i], solution)) / row[i])
    return solution


def times(matrix: Matrix, vector: Vector) -> Vector:
    return [dot(row, vector) for row in matrix]


def dot(left: Sequence[Fraction], right: Sequence[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(left, right, strict=True) if x), Fraction(0))


def _row_times(row: Sequence[Fraction], matrix: Matrix) -> Vector:
    """`row` times the first rows of `matrix`, as many as `row` has entries."""
    columns = zip(*matrix[: len(row)], strict=True) if row else [()] * len(matrix[0])
    return [dot(row, column) for column in columns]
