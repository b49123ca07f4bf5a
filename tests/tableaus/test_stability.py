r"""Implicit methods are A-stable, L-stable and stiffly accurate, with a constant diagonal where they state it.

$R(z) = 1 + z b^T (I - z A)^{-1} 1$ is one step for $y' = \lambda y$ with $z = h \lambda$.
"""

from fractions import Fraction

import numpy as np
import pytest

from rungax.solvers.tableaus.types.published import PublishedMethod, Row

from .methods import METHODS, SPLIT_METHODS, STIFF_METHODS, matrix

# The stability function of the embedded weights at infinity; None where it is not bounded there, so that the error
# estimate of a stiff transient grows with the stiffness.
EMBEDDED_AT_INFINITY = {
    "ImplicitEuler": None,
    "TRBDF2": None,
    "Kvaerno3": -0.9567,
    "Kvaerno4": -0.5525,
    "Kvaerno5": -0.7483,
    "KenCarp3": -0.075,
    "KenCarp4": -0.15,
    "KenCarp5": 0.2,
    "Sil3": None,
}
BOUNDED = [name for name, limit in EMBEDDED_AT_INFINITY.items() if limit is not None]
DIAGONALS = {
    "ImplicitEuler": 1.0,
    "TRBDF2": 0.2928932188134525,
    "Kvaerno3": 0.43586652150845900,
    "Kvaerno4": 0.57281606248213486,
    "Kvaerno5": 0.26,
    "KenCarp3": 0.43586652150845900,
    "KenCarp4": 0.25,
    "KenCarp5": 0.205,
    "Sil3": None,
}
FAR = Fraction(-(10**12))


def stability[Number: (Fraction, complex)](a: list[list[Number]], b: list[Number], z: Number) -> Number:
    """The stability function R(z) by forward substitution, for rows of `a` up to the diagonal."""
    one = z / z
    slopes: list[Number] = []
    for *lower, own in a:
        stage = sum((entry * slope for entry, slope in zip(lower, slopes, strict=True)), start=one)
        slopes.append(z * stage / (one - z * own))
    return sum((weight * slope for weight, slope in zip(b, slopes, strict=True)), start=one)


def far_left(method: PublishedMethod, b: Row) -> float:
    return float(stability([list(row) for row in matrix(method)], list(b), FAR))


def largest_on_the_imaginary_axis(method: PublishedMethod, b: Row) -> float:
    a = [[complex(entry) for entry in row] for row in matrix(method)]
    weights = [complex(entry) for entry in b]
    return max(abs(stability(a, weights, 1j * y)) for y in np.logspace(-3, 5, 801).tolist())


def embedded(method: PublishedMethod) -> Row:
    assert method.b_hat is not None
    return method.b_hat


@pytest.mark.parametrize("name", STIFF_METHODS)
def test_solution_is_l_stable(name: str) -> None:
    method = STIFF_METHODS[name]
    assert abs(far_left(method, method.b)) < 1e-11
    # R has no pole in the left half-plane, so its maximum is on the imaginary axis.
    assert all(own >= 0 for *_, own in matrix(method))
    assert largest_on_the_imaginary_axis(method, method.b) <= 1 + 1e-13


@pytest.mark.parametrize("name", BOUNDED)
def test_embedded_solution_is_a_stable(name: str) -> None:
    method = STIFF_METHODS[name]
    assert far_left(method, embedded(method)) == pytest.approx(EMBEDDED_AT_INFINITY[name], abs=5e-5)
    assert largest_on_the_imaginary_axis(method, embedded(method)) <= 1 + 1e-13


@pytest.mark.parametrize("name", [name for name in STIFF_METHODS if name not in BOUNDED])
def test_embedded_solution_is_unbounded(name: str) -> None:
    method = STIFF_METHODS[name]
    assert abs(far_left(method, embedded(method))) > 1e11


def test_the_rounded_diagonal_of_kvaerno_is_not_quite_l_stable() -> None:
    # The reason why the tableau of order three has the exact root: with the ten printed digits the limit is not zero.
    gamma = Fraction("0.4358665215")
    b2 = 1 / (12 * gamma * (1 - 2 * gamma))
    b3 = Fraction(1, 2) - gamma - 2 * gamma * b2
    a32 = (1 - 2 * gamma) / (4 * gamma)
    a = [[Fraction(0)], [gamma, gamma], [1 - gamma - a32, a32, gamma], [1 - gamma - b2 - b3, b2, b3, gamma]]
    assert 1e-11 < abs(stability(a, a[-1], Fraction(-(10**20)))) < 1e-9


@pytest.mark.parametrize("name", STIFF_METHODS)
def test_solution_is_the_last_stage(name: str) -> None:
    method = STIFF_METHODS[name]
    assert matrix(method)[-1] == method.b
    assert method.c[-1] == 1
    assert method.tableau.fsal


@pytest.mark.parametrize("name", ["Kvaerno3", "Kvaerno4", "Kvaerno5"])
def test_embedded_solution_of_kvaerno_is_the_stage_before(name: str) -> None:
    method = METHODS[name]
    assert (*matrix(method)[-2], 0) == method.b_hat


@pytest.mark.parametrize("name", STIFF_METHODS)
def test_only_the_first_stage_is_explicit(name: str) -> None:
    tableau = STIFF_METHODS[name].tableau
    assert tableau.c1 == 0.0
    assert tableau.implicit_stages == tuple(range(1, tableau.num_stages))
    assert tableau.constant_diagonal == DIAGONALS[name]


@pytest.mark.parametrize("name", SPLIT_METHODS)
def test_explicit_part_is_explicit(name: str) -> None:
    assert SPLIT_METHODS[name].explicit.a_diagonal is None
    assert not SPLIT_METHODS[name].tableau.tableaus[0].implicit


def test_closed_forms() -> None:
    """The decimals agree with the closed forms given in their files."""
    tolerance = Fraction(1, 10**53)
    gamma = METHODS["Kvaerno3"].a[0][0]
    assert abs(gamma**3 - 3 * gamma**2 + Fraction(3, 2) * gamma - Fraction(1, 6)) < tolerance
    assert abs(METHODS["Kvaerno3"].a[1][1] - (1 - 2 * gamma) / (4 * gamma)) < tolerance
    assert abs(METHODS["Kvaerno3"].b[1] - 1 / (12 * gamma * (1 - 2 * gamma))) < tolerance
    gamma = METHODS["Kvaerno4"].a[0][0]
    assert abs(gamma**4 - 4 * gamma**3 + 3 * gamma**2 - Fraction(2, 3) * gamma + Fraction(1, 24)) < tolerance
    gamma = METHODS["Kvaerno5"].a[0][0]
    assert gamma == Fraction("0.26")
    assert abs((METHODS["Kvaerno5"].c[1] / gamma - 3) ** 2 - 3) < tolerance
    assert METHODS["Kvaerno5"].a[1][0] == gamma / 2
    root = 2 - METHODS["TRBDF2"].c[0]
    assert abs(root**2 - 2) < tolerance
    assert abs(METHODS["TRBDF2"].a[1][0] - root / 4) < tolerance
    assert abs(METHODS["TRBDF2"].a[0][0] - (2 - root) / 2) < tolerance
