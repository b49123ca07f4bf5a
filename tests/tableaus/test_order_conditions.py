"""A method satisfies the conditions of its stated orders, exactly or to its printed digits, and of no higher order."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import factorial

import numpy as np
import pytest

from rungax.solvers.tableaus.types.published import PublishedMethod

from .methods import METHODS, RESIDUALS, matrix, nodes
from .rooted_trees import ElementaryWeights, Tree, density, largest_defect, num_nodes, rooted_trees

EMBEDDED = [name for name, method in METHODS.items() if method.b_hat is not None]
# The smallest defect at the next order is Vern8's, 4e-7, far above every residual.
NEXT_ORDER_DEFECT = Fraction(1, 10**7)


def test_numbers_of_rooted_trees() -> None:
    counts = [len(set(rooted_trees(order))) for order in range(1, 11)]
    assert counts == [1, 1, 2, 4, 9, 20, 48, 115, 286, 719]  # OEIS A000081
    assert all(num_nodes(tree) == order for order in range(1, 11) for tree in rooted_trees(order))


@pytest.mark.parametrize("order", range(2, 8))
def test_density_of_tall_and_bushy_trees(order: int) -> None:
    tall: Tree = ()
    for _ in range(order - 1):
        tall = (tall,)
    bushy: Tree = ((),) * (order - 1)
    assert density(tall) == factorial(order)
    assert density(bushy) == order


@pytest.mark.parametrize("name", METHODS)
def test_rows_sum_to_nodes(name: str) -> None:
    method = METHODS[name]
    for row, node in zip(matrix(method), nodes(method), strict=True):
        assert abs(sum(row) - node) <= RESIDUALS[name].pair


@pytest.mark.parametrize("name", METHODS)
def test_solution_has_its_order(name: str) -> None:
    method = METHODS[name]
    stages = ElementaryWeights(matrix(method))
    for order in range(1, method.order + 1):
        assert largest_defect(method.b, stages, order) <= RESIDUALS[name].pair
    assert largest_defect(method.b, stages, method.order + 1) > NEXT_ORDER_DEFECT


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_solution_has_its_order(name: str) -> None:
    method = METHODS[name]
    assert method.b_hat is not None
    assert method.error_order is not None
    stages = ElementaryWeights(matrix(method))
    for order in range(1, method.error_order + 1):
        assert largest_defect(method.b_hat, stages, order) <= RESIDUALS[name].pair
    assert largest_defect(method.b_hat, stages, method.error_order + 1) > NEXT_ORDER_DEFECT


@pytest.mark.parametrize("name", METHODS)
def test_tableau_is_the_rounded_method(name: str) -> None:
    method = METHODS[name]
    tableau = method.tableau
    np.testing.assert_array_equal(tableau.c, [float(node) for node in method.c])
    if method.a_diagonal is None:
        diagonal = [0.0] * len(method.b)
        rows = [(tableau.b_sol, method.b, 0.0, Fraction(1))]
    else:
        assert tableau.a_diagonal is not None
        diagonal = tableau.a_diagonal.tolist()
        assert diagonal == [float(entry) for entry in method.a_diagonal]
        # The weights are the last row, whose sum is tested.
        np.testing.assert_array_equal(tableau.b_sol, [*tableau.a_lower[-1], diagonal[-1]])
        rows = []
    rows += list(zip(tableau.a_lower, method.a, diagonal[1:], method.c, strict=True))
    for rounded, row, own, node in rows:
        exact = np.array([float(entry) for entry in row])
        # The smallest entry compensates for the rounding of the others, so that the sum is exact.
        assert np.sum(rounded != exact) <= 1
        largest = max(own, np.abs(exact).max())
        np.testing.assert_allclose(rounded, exact, rtol=0, atol=(len(row) + 1) * 2.0**-53 * largest)
        residue = abs(sum(Fraction(entry) for entry in rounded.tolist()) + Fraction(own) - node)
        entries = np.abs(exact[exact != 0])
        assert entries.size <= 1 or residue <= Fraction(2) ** -53 * Fraction(entries.min())
    if method.b_hat is None:
        assert tableau.b_error is None
    else:
        assert tableau.b_error is not None
        differences = [float(weight - embedded) for weight, embedded in zip(method.b, method.b_hat, strict=True)]
        np.testing.assert_array_equal(tableau.b_error, differences)


def perturbed(method: PublishedMethod) -> Iterator[PublishedMethod]:
    """Variants of the method with the eleventh digit of one entry changed.

    The entry is one of each row of `a`, `b` and `b_hat`, and each non-zero entry of the diagonal.
    """
    change = Fraction(1, 10**11)

    def changed(row: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
        at = max(range(len(row)), key=lambda i: abs(row[i]))
        return (*row[:at], row[at] + change, *row[at + 1 :])

    for i in range(len(method.a)):
        yield replace(method, a=(*method.a[:i], changed(method.a[i]), *method.a[i + 1 :]))
    for i, own in enumerate(method.a_diagonal or ()):
        if own != 0:
            assert method.a_diagonal is not None
            yield replace(method, a_diagonal=(*method.a_diagonal[:i], own + change, *method.a_diagonal[i + 1 :]))
    yield replace(method, b=changed(method.b))
    if method.b_hat is not None:
        yield replace(method, b_hat=changed(method.b_hat))


def defects(method: PublishedMethod) -> Iterator[Fraction]:
    """Of the row sums, and of all order conditions; those that are quickly found come first."""
    yield from (abs(sum(row) - node) for row, node in zip(matrix(method), nodes(method), strict=True))
    stages = ElementaryWeights(matrix(method))
    for order in range(1, method.order + 1):
        yield largest_defect(method.b, stages, order)
        if method.b_hat is not None and method.error_order is not None and order <= method.error_order:
            yield largest_defect(method.b_hat, stages, order)


@pytest.mark.parametrize("name", METHODS)
def test_a_wrong_digit_is_caught(name: str) -> None:
    for wrong in perturbed(METHODS[name]):
        assert any(defect > 10 * RESIDUALS[name].pair for defect in defects(wrong))
