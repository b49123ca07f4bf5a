"""A dense output satisfies the continuous order conditions of its stated order and no more, and ends at `b`."""

from fractions import Fraction

import numpy as np
import pytest

from rungax.solvers.tableaus.types.published import PublishedMethod

from .methods import EXPLICIT_METHODS, IMPLICIT_METHODS, METHODS, RESIDUALS, matrix
from .rooted_trees import ElementaryWeights, largest_continuous_defect

type Interpolant = tuple[tuple[Fraction, ...], ...]

INTERPOLATED = [name for name, method in METHODS.items() if method.interpolant is not None]
STIFF = [name for name in INTERPOLATED if name in IMPLICIT_METHODS]
NOT_STIFF = [name for name in INTERPOLATED if name in EXPLICIT_METHODS]
ORDERS = {
    "Tsit5": 4,
    "Dopri5": 4,
    "Dopri8": 7,
    "Vern6": 6,
    "Vern7": 7,
    "Vern8": 8,
    "Vern9": 9,
    "Kvaerno4": 3,
    "Kvaerno5": 4,
}


def interpolant_of(method: PublishedMethod) -> Interpolant:
    assert method.interpolant is not None
    return method.interpolant


def test_orders_of_the_interpolants() -> None:
    assert {name: METHODS[name].interpolant_order for name in INTERPOLATED} == ORDERS


@pytest.mark.parametrize("name", INTERPOLATED)
def test_interpolant_has_its_order(name: str) -> None:
    method = METHODS[name]
    interpolant = interpolant_of(method)
    stages = ElementaryWeights(matrix(method) + method.extra_a)
    for order in range(1, ORDERS[name] + 1):
        assert largest_continuous_defect(interpolant, stages, order) <= RESIDUALS[name].interpolant
    assert largest_continuous_defect(interpolant, stages, ORDERS[name] + 1) > Fraction(1, 10)


@pytest.mark.parametrize("name", INTERPOLATED)
def test_extra_rows_sum_to_extra_nodes(name: str) -> None:
    method = METHODS[name]
    for row, node in zip(method.extra_a, method.extra_c, strict=True):
        assert abs(sum(row) - node) <= RESIDUALS[name].interpolant


@pytest.mark.parametrize("name", NOT_STIFF)
def test_interpolant_starts_with_the_first_stage(name: str) -> None:
    slopes = [row[0] for row in interpolant_of(METHODS[name])]
    assert slopes == [1] + [0] * (len(slopes) - 1)


@pytest.mark.parametrize("name", INTERPOLATED)
def test_interpolant_ends_at_the_solution(name: str) -> None:
    method = METHODS[name]
    ends = [sum(row) for row in interpolant_of(method)]
    weights = method.b + (Fraction(0),) * len(method.extra_c)
    assert max(abs(end - weight) for end, weight in zip(ends, weights, strict=True)) <= RESIDUALS[name].interpolant


@pytest.mark.parametrize("name", INTERPOLATED)
def test_interpolant_ends_with_the_slope_at_the_solution(name: str) -> None:
    method = METHODS[name]
    rows = (*method.a, *method.extra_a)
    # The stage that is evaluated at the solution: the last of the method, or the first extra one.
    at_solution = 1 + next(i for i, row in enumerate(rows) if i + 1 >= len(method.a) and sum(row[:1]) == method.b[0])
    slopes = [sum(power * entry for power, entry in enumerate(row, start=1)) for row in interpolant_of(method)]
    expected = [Fraction(i == at_solution) for i in range(len(slopes))]
    tolerance = 100 * RESIDUALS[name].interpolant
    assert max(abs(slope - weight) for slope, weight in zip(slopes, expected, strict=True)) <= tolerance


@pytest.mark.parametrize("name", STIFF)
@pytest.mark.parametrize("theta", [0.1, 0.5, 0.9])
def test_interpolant_is_bounded_for_stiff_components(name: str, theta: float) -> None:
    method = METHODS[name]
    extension = method.extension
    assert extension is not None
    rows = [np.array([float(x) for x in row]) for row in matrix(method)]
    a = np.array([np.pad(row, (0, len(rows) - row.size)) for row in rows])
    weights = theta * np.polynomial.polynomial.polyval(2 * theta - 1, extension.weights.T)
    # The interpolant of y' = z y, y(0) = 1. The Hermite cubic is -150 for z = -1000.
    values = [1 + z * weights @ np.linalg.solve(np.eye(len(a)) - z * a, np.ones(len(a))) for z in (-1e3, -1e6, -1e9)]
    assert np.max(np.abs(values)) < 2


@pytest.mark.parametrize("name", INTERPOLATED)
def test_extension_is_the_rounded_interpolant(name: str) -> None:
    method = METHODS[name]
    extension = method.extension
    assert extension is not None
    assert extension.order == ORDERS[name]
    assert extension.num_stages == method.tableau.num_stages
    assert extension.c.shape == (len(method.extra_c),)
    np.testing.assert_array_equal(extension.c, [float(node) for node in method.extra_c])
    for weights, row in zip(extension.weights, interpolant_of(method), strict=True):
        for theta in (Fraction(1, 3), Fraction(1)):
            exact = sum(entry * theta**power for power, entry in enumerate(row, start=1))
            about_the_middle = float(theta) * np.polynomial.polynomial.polyval(2 * float(theta) - 1, weights)
            assert abs(about_the_middle - float(exact)) <= 1e-15 * np.abs(weights).sum()
    for rounded, row in zip(extension.a_lower, method.extra_a, strict=True):
        np.testing.assert_array_equal(rounded, [float(entry) for entry in row])


@pytest.mark.parametrize("name", INTERPOLATED)
def test_a_wrong_digit_is_caught(name: str) -> None:
    method = METHODS[name]
    interpolant = interpolant_of(method)
    stages = ElementaryWeights(matrix(method) + method.extra_a)
    for i, row in enumerate(interpolant):
        wrong = (*interpolant[:i], (row[0], row[1] + Fraction(1, 10**11), *row[2:]), *interpolant[i + 1 :])
        assert largest_continuous_defect(wrong, stages, 1) > 10 * RESIDUALS[name].interpolant
