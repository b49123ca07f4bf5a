"""The parts of a split method together satisfy the order conditions of every colouring; so does its dense output."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from rungax.solvers.tableaus.types.published import PublishedMethod, PublishedSplitMethod, Row

from .coloured_trees import (
    CoupledWeights,
    colourings,
    largest_coupled_continuous_defect,
    largest_coupled_defect,
)
from .methods import RESIDUALS, SPLIT_METHODS, matrix, nodes
from .rooted_trees import rooted_trees

NEXT_ORDER_DEFECT = Fraction(1, 1000)
CHANGE = Fraction(1, 10**11)
ORDERS = {"KenCarp3": (3, 2, 2), "KenCarp4": (4, 3, 3), "KenCarp5": (5, 4, 4), "Sil3": (2, 2, None)}
INTERPOLATED = [name for name, method in SPLIT_METHODS.items() if method.interpolant_order is not None]


def parts_of(method: PublishedSplitMethod) -> tuple[PublishedMethod, PublishedMethod]:
    return method.explicit, method.implicit


def coupled_weights(method: PublishedSplitMethod) -> CoupledWeights:
    return CoupledWeights([matrix(part) for part in parts_of(method)])


def dense_weights(method: PublishedSplitMethod) -> CoupledWeights:
    """The weights of all stages that the dense output uses."""
    return CoupledWeights([matrix(part) + further_rows(part) for part in parts_of(method)])


def further_rows(part: PublishedMethod) -> tuple[Row, ...]:
    diagonal = part.extra_a_diagonal or (Fraction(0),) * len(part.extra_a)
    return tuple((*row, own) for row, own in zip(part.extra_a, diagonal, strict=True))


def embedded(method: PublishedSplitMethod) -> list[Row]:
    assert method.explicit.b_hat is not None
    assert method.implicit.b_hat is not None
    return [method.explicit.b_hat, method.implicit.b_hat]


def interpolant_of(method: PublishedSplitMethod) -> tuple[Row, ...]:
    assert method.implicit.interpolant is not None
    return method.implicit.interpolant


def test_numbers_of_coloured_trees() -> None:
    counts = [sum(len(colourings(tree)) for tree in rooted_trees(order)) for order in range(1, 7)]
    assert [2 * count for count in counts] == [2, 4, 14, 52, 214, 916]  # OEIS A000151, with the root coloured too


def test_orders_of_the_split_methods() -> None:
    found = {
        name: (method.order, method.error_order, method.interpolant_order) for name, method in SPLIT_METHODS.items()
    }
    assert found == ORDERS


@pytest.mark.parametrize("name", SPLIT_METHODS)
def test_rows_sum_to_nodes(name: str) -> None:
    for part in parts_of(SPLIT_METHODS[name]):
        for row, node in zip(matrix(part) + further_rows(part), (*nodes(part), *part.extra_c), strict=True):
            assert abs(sum(row) - node) <= RESIDUALS[name].pair


@pytest.mark.parametrize("name", SPLIT_METHODS)
def test_solution_has_its_order(name: str) -> None:
    method = SPLIT_METHODS[name]
    stages = coupled_weights(method)
    weights = [part.b for part in parts_of(method)]
    for order in range(1, method.order + 1):
        assert largest_coupled_defect(weights, stages, order) <= RESIDUALS[name].pair
    assert largest_coupled_defect(weights, stages, method.order + 1) > NEXT_ORDER_DEFECT


@pytest.mark.parametrize("name", SPLIT_METHODS)
def test_embedded_solution_has_its_order(name: str) -> None:
    method = SPLIT_METHODS[name]
    assert method.error_order is not None
    stages = coupled_weights(method)
    for order in range(1, method.error_order + 1):
        assert largest_coupled_defect(embedded(method), stages, order) <= RESIDUALS[name].pair
    assert largest_coupled_defect(embedded(method), stages, method.error_order + 1) > NEXT_ORDER_DEFECT


@pytest.mark.parametrize("name", INTERPOLATED)
def test_interpolant_has_its_order(name: str) -> None:
    method = SPLIT_METHODS[name]
    assert method.interpolant_order is not None
    stages = dense_weights(method)
    for order in range(1, method.interpolant_order + 1):
        assert largest_coupled_continuous_defect(interpolant_of(method), stages, order) <= RESIDUALS[name].interpolant
    following = largest_coupled_continuous_defect(interpolant_of(method), stages, method.interpolant_order + 1)
    assert following > Fraction(1, 10)


@pytest.mark.parametrize("name", INTERPOLATED)
def test_interpolant_ends_at_the_solution(name: str) -> None:
    method = SPLIT_METHODS[name]
    for part in parts_of(method):
        weights = part.b + (Fraction(0),) * len(part.extra_c)
        for row, weight in zip(interpolant_of(method), weights, strict=True):
            assert abs(sum(row) - weight) <= RESIDUALS[name].interpolant


@pytest.mark.parametrize("name", INTERPOLATED)
def test_interpolant_is_bounded_for_stiff_components(name: str) -> None:
    method = SPLIT_METHODS[name]
    tableau = method.implicit.dense_tableau
    assert tableau.a_diagonal is not None
    assert method.extension is not None
    a = np.diag(tableau.a_diagonal)
    for i, row in enumerate(tableau.a_lower, start=1):
        a[i, : row.size] = row
    values: list[float] = []
    for theta in np.linspace(0, 1, 11):
        weights = theta * np.polynomial.polynomial.polyval(2 * theta - 1, method.extension.weights.T)
        # The interpolant of y' = z y, y(0) = 1, with z on the implicit side.
        for z in (-1e3, -1e6, -1e9):
            values.append(1 + z * float(weights @ np.linalg.solve(np.eye(len(a)) - z * a, np.ones(len(a)))))
    assert np.max(np.abs(values)) < 1.5


def changed(row: Row) -> Row:
    return (row[0] + CHANGE, *row[1:])


def changed_twice(row: Row) -> Row:
    """A perturbed row, with the same sum if it has at least two entries."""
    return (row[0] + CHANGE, *row[1:-1], row[-1] - CHANGE)


def perturbed(method: PublishedSplitMethod, change: Callable[[Row], Row]) -> Iterator[PublishedSplitMethod]:
    """Variants of the method with the eleventh digit changed in a row of a matrix or in the weights of a part."""
    for name, part in zip(("explicit", "implicit"), parts_of(method), strict=True):
        assert part.b_hat is not None
        for i, row in enumerate(part.a):
            if len(row) > 1 or change is changed:
                yield replace(method, **{name: replace(part, a=(*part.a[:i], change(row), *part.a[i + 1 :]))})
        yield replace(method, **{name: replace(part, b=change(part.b))})
        yield replace(method, **{name: replace(part, b_hat=change(part.b_hat))})


def defects_of(method: PublishedSplitMethod) -> list[Fraction]:
    """Defects up to order four, which involve every entry: stages 2 and 3 of KenCarp5 have no weight."""
    assert method.error_order is not None
    stages = coupled_weights(method)
    weights = [part.b for part in parts_of(method)]
    defects = [largest_coupled_defect(weights, stages, order) for order in range(1, min(method.order, 4) + 1)]
    defects += [
        largest_coupled_defect(embedded(method), stages, order) for order in range(1, min(method.error_order, 4) + 1)
    ]
    for part in parts_of(method):
        defects += [abs(sum(row) - node) for row, node in zip(matrix(part), nodes(part), strict=True)]
    return defects


@pytest.mark.parametrize("name", SPLIT_METHODS)
def test_a_wrong_digit_is_caught(name: str) -> None:
    for wrong in perturbed(SPLIT_METHODS[name], changed):
        assert max(defects_of(wrong)) > 10 * RESIDUALS[name].pair


@pytest.mark.parametrize("name", ["KenCarp3", "KenCarp4", "KenCarp5"])
def test_wrong_digits_are_caught_without_the_sums_of_rows(name: str) -> None:
    # Without Sil3: conditions of order two involve only the sum of a row.
    for wrong in perturbed(SPLIT_METHODS[name], changed_twice):
        assert max(defects_of(wrong)) > 10 * RESIDUALS[name].pair


@pytest.mark.parametrize("name", INTERPOLATED)
def test_a_wrong_digit_of_an_interpolant_is_caught(name: str) -> None:
    method = SPLIT_METHODS[name]
    interpolant = interpolant_of(method)
    for i, row in enumerate(interpolant):
        wrong = (*interpolant[:i], (row[0], row[1] + Fraction(1, 10**11), *row[2:]), *interpolant[i + 1 :])
        assert largest_coupled_continuous_defect(wrong, dense_weights(method), 1) > 10 * RESIDUALS[name].interpolant
