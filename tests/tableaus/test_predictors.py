"""Implicit stages start from an extrapolation of earlier slopes, of the highest degree that is not unstable."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from rungax.solvers.tableaus.types.published import extrapolation_predictor

from .methods import STIFF_METHODS, nodes


def rows_of(*c: str) -> tuple[tuple[Fraction, ...], ...]:
    return extrapolation_predictor(tuple(Fraction(node) for node in c))


@pytest.mark.parametrize("name", STIFF_METHODS)
def test_rows_extrapolate_exactly(name: str) -> None:
    method = STIFF_METHODS[name]
    assert method.a_predictor == extrapolation_predictor(nodes(method))
    for i, row in enumerate(method.a_predictor or (), start=1):
        assert len(row) == i
        assert sum(row) == 1
        assert sum(map(abs, row)) <= 4
        used = [node for node, entry in zip(nodes(method), row, strict=False) if entry != 0]
        assert len(set(used)) == len(used)
        for power in range(1, len(used)):
            values = [entry * node**power for entry, node in zip(row, nodes(method), strict=False)]
            assert sum(values) == nodes(method)[i] ** power


@pytest.mark.parametrize("name", STIFF_METHODS)
def test_rounded_rows_sum_to_one(name: str) -> None:
    tableau = STIFF_METHODS[name].tableau
    assert tableau.a_predictor is not None
    assert tableau.a_predictor[0].tolist() == [1.0]
    for row in tableau.a_predictor:
        assert abs(np.sum(row) - 1) <= 2.0**-52


def test_a_parabola_at_most() -> None:
    assert rows_of("0", "1/2", "1/4") == ((1,), (Fraction(1, 2), Fraction(1, 2)))
    *_, row = rows_of("0", "1/4", "1/2", "3/4", "1/3")
    assert sum(entry != 0 for entry in row) == 3


def test_a_stage_at_the_same_node_is_the_prediction() -> None:
    assert rows_of("0", "1/2", "1/2", "1")[1] == (0, 1)
    *_, row = rows_of("0", "1/2", "1", "1", "1")
    assert row == (0, 0, 0, 1)


def test_crowded_nodes_are_not_used_together() -> None:
    *_, row = rows_of("0", "1/2", "0.501", "1")
    used = [entry != 0 for entry in row]
    assert used[0]
    assert used[1:] in ([True, False], [False, True])


def test_far_nodes_lower_the_degree() -> None:
    # Equidistant: the parabola would be (1, -3, 3), the line over the last two is (-1, 2).
    assert rows_of("0", "1/3", "2/3", "1")[-1] == (0, -1, 2)
    assert rows_of("0", "1/10", "1")[-1] == (0, 1)


@pytest.mark.parametrize("name", STIFF_METHODS)
def test_predictions_have_the_order_of_their_degree(name: str) -> None:
    method = STIFF_METHODS[name]
    c = np.array([float(node) for node in nodes(method)])
    for i, row in enumerate(method.tableau.a_predictor or (), start=1):
        errors = [abs(row @ np.exp(h * c[:i]) - np.exp(h * c[i])) for h in (0.04, 0.02, 0.01)]
        degree = np.count_nonzero(row) - 1
        if c[i] in c[:i]:
            assert max(errors) == 0
        else:
            slopes = [np.log2(coarse / fine) for coarse, fine in pairwise(errors)]
            assert min(slopes) > degree + 0.8
