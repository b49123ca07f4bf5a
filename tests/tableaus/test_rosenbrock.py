"""A Rosenbrock method has its stated orders, stability and stiff orders, and its step has the stated form."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from rungax.solvers.tableaus.rodas4 import RODAS4
from rungax.solvers.tableaus.rodas5p import RODAS5P
from rungax.solvers.tableaus.ros3p import ROS3P
from rungax.solvers.tableaus.rosenbrock23 import ROSENBROCK23
from rungax.solvers.tableaus.types.rosenbrock import RosenbrockCoefficients, RosenbrockTableau

from .rosenbrock_trees import (
    ClassicalForm,
    ElementaryWeights,
    classical,
    dot,
    largest_continuous_defect,
    largest_defect,
    parabolic_defects,
    prothero_robinson_defect,
    stability,
    stability_at_infinity,
)

METHODS = {"Rosenbrock23": ROSENBROCK23, "ROS3P": ROS3P, "Rodas4": RODAS4, "Rodas5P": RODAS5P}
INTERPOLATED = [name for name, method in METHODS.items() if method.interpolant_order is not None]
FORMS = {name: classical(method.exact) for name, method in METHODS.items()}


@dataclass(frozen=True)
class Facts:
    """The facts stated in the papers, and bounds for the residuals of the printed digits."""

    orders: tuple[int, int, int | None]
    stages: int
    evaluations: int
    pair_residual: str
    interpolant_residual: str
    fsal: bool = False
    stiffly_accurate: bool = False
    at_infinity: float = 0.0
    embedded_at_infinity: float = 0.0


# Rosenbrock23 and ROS3P are in closed form, given with 50 digits. The others have 16 digits in all, with entries up to
# 34 (Rodas4) and 112 (Rodas5P); the interpolant of Rodas5P has lost two more.
FACTS = {
    "Rosenbrock23": Facts((2, 3, 2), 3, 3, "1e-48", "1e-48", fsal=True, embedded_at_infinity=1.6094757),
    "ROS3P": Facts((3, 2, None), 3, 2, "1e-48", "0", at_infinity=1 - 3**0.5, embedded_at_infinity=1 - 3**0.5),
    "Rodas4": Facts((4, 3, 3), 6, 6, "3e-15", "5e-15", stiffly_accurate=True),
    "Rodas5P": Facts((5, 4, 4), 8, 8, "1e-14", "2e-13", stiffly_accurate=True),
}
# Far above every residual; the smallest defect at the next order is Rodas4's, 4e-3.
NEXT_ORDER_DEFECT = Fraction(1, 10**3)


def residual_of(name: str) -> Fraction:
    return Fraction(FACTS[name].pair_residual)


def embedded(form: ClassicalForm) -> list[Fraction]:
    assert form.b_hat is not None
    return form.b_hat


def continuous(form: ClassicalForm) -> list[list[Fraction]]:
    assert form.b_theta is not None
    return form.b_theta


# ------------------------------------------------------------------------------------------------------------ the facts


@pytest.mark.parametrize("name", METHODS)
def test_facts_of_the_methods(name: str) -> None:
    method, facts = METHODS[name], FACTS[name]
    assert (method.order, method.error_order, method.interpolant_order) == facts.orders
    assert method.num_stages == facts.stages
    assert method.num_evaluations == facts.evaluations
    assert method.fsal is facts.fsal
    assert method.stiffly_accurate is facts.stiffly_accurate
    assert method.reference


def test_stages_that_need_no_evaluation() -> None:
    assert ROS3P.evaluated_at == (0, 1, 1)
    for method in (ROSENBROCK23, RODAS4, RODAS5P):
        assert method.evaluated_at == tuple(range(method.num_stages))


@pytest.mark.parametrize("name", ["Rodas4", "Rodas5P"])
def test_error_estimate_of_the_stiffly_accurate_methods_is_the_last_stage(name: str) -> None:
    method = METHODS[name]
    assert method.e is not None
    np.testing.assert_array_equal(method.e, np.eye(method.num_stages)[-1])


# ------------------------------------------------------------------------------------------------- the order conditions


@pytest.mark.parametrize("name", METHODS)
def test_sums_are_consistent(name: str) -> None:
    exact, form = METHODS[name].exact, FORMS[name]
    pairs = [*zip(form.nodes, exact.alpha, strict=True), *zip(form.gamma_sums, exact.gamma_sums, strict=True)]
    assert max(abs(found - stated) for found, stated in pairs) <= residual_of(name)


@pytest.mark.parametrize("name", METHODS)
def test_solution_has_its_order(name: str) -> None:
    form, order = FORMS[name], FACTS[name].orders[0]
    stages = ElementaryWeights(form)
    assert max(largest_defect(form.b, stages, p) for p in range(1, order + 1)) <= residual_of(name)
    assert largest_defect(form.b, stages, order + 1) > NEXT_ORDER_DEFECT


@pytest.mark.parametrize("name", METHODS)
def test_embedded_solution_has_its_order(name: str) -> None:
    form, order = FORMS[name], FACTS[name].orders[1]
    stages = ElementaryWeights(form)
    assert max(largest_defect(embedded(form), stages, p) for p in range(1, order + 1)) <= residual_of(name)
    assert largest_defect(embedded(form), stages, order + 1) > NEXT_ORDER_DEFECT


@pytest.mark.parametrize("name", INTERPOLATED)
def test_dense_output_has_its_order(name: str) -> None:
    form, order = FORMS[name], FACTS[name].orders[2]
    assert order is not None
    b_theta, stages = continuous(form), ElementaryWeights(form)
    residual = Fraction(FACTS[name].interpolant_residual)
    assert max(largest_continuous_defect(b_theta, stages, p) for p in range(1, order + 1)) <= residual
    assert largest_continuous_defect(b_theta, stages, order + 1) > NEXT_ORDER_DEFECT
    assert [sum(column) for column in zip(*b_theta, strict=True)] == form.b


def test_classical_coefficients_as_published() -> None:
    def near(found: list[Fraction], stated: list[Fraction], tolerance: str) -> bool:
        return max(abs(x - y) for x, y in zip(found, stated, strict=True)) <= Fraction(tolerance)

    third = Fraction(1, 3)
    assert near(FORMS["Rosenbrock23"].b, [Fraction(0), Fraction(1), Fraction(0)], "1e-48")
    assert near(FORMS["ROS3P"].b, [2 * third, Fraction(0), third], "1e-48")
    assert near(embedded(FORMS["ROS3P"]), [third, third, third], "1e-48")
    # The parameters from which the coefficients of RODAS follow: sums of beta below the diagonal.
    below = [sum(row, Fraction(0)) - RODAS4.exact.gamma for row in FORMS["Rodas4"].beta]
    assert near(below[1:4], [Fraction("0.0317"), Fraction("0.0635"), Fraction("0.3438")], "1e-15")


def test_rosenbrock23_keeps_its_order_with_any_jacobian() -> None:
    form = FORMS["Rosenbrock23"]
    assert abs(dot(form.b, form.nodes) - Fraction(1, 2)) <= residual_of("Rosenbrock23")
    assert abs(dot(form.b, form.gamma_sums)) <= residual_of("Rosenbrock23")


@pytest.mark.parametrize(
    ("coefficient", "p", "q", "d"),
    [
        (ROSENBROCK23.exact.gamma, "1", "-1/2", 2),
        (ROSENBROCK23.exact.a[0][0], "1", "1/2", 2),
        (ROSENBROCK23.exact.c[1][0], "-4", "-2", 2),
        (ROSENBROCK23.exact.c[1][1], "-14", "-8", 2),
        (ROSENBROCK23.exact.m[0], "2", "1", 2),
        (ROS3P.exact.gamma, "1/2", "1/6", 3),
        (ROS3P.exact.a[0][0], "3", "-1", 3),
        (ROS3P.exact.c[0][0], "-12", "6", 3),
        (ROS3P.exact.c[1][0], "0", "-2", 3),
        (ROS3P.exact.c[1][1], "0", "-1", 3),
        (ROS3P.exact.m[1], "0", "1/3", 3),
    ],
)
def test_digits_of_the_closed_forms(coefficient: Fraction, p: str, q: str, d: int) -> None:
    """The coefficient is $p + q \\sqrt d$: its difference from $p$ has the right square and sign."""
    irrational = coefficient - Fraction(p)
    assert abs(irrational**2 - Fraction(q) ** 2 * d) <= Fraction(1, 10**47)
    assert (irrational > 0) is (Fraction(q) > 0)


# --------------------------------------------------------------------------------------- stability and stiff conditions


@pytest.mark.parametrize("name", METHODS)
def test_stability_at_infinity(name: str) -> None:
    form, facts = FORMS[name], FACTS[name]
    assert abs(float(stability_at_infinity(form.b, form)) - facts.at_infinity) <= 1e-15
    assert abs(float(stability_at_infinity(embedded(form), form)) - facts.embedded_at_infinity) <= 1e-7


@pytest.mark.parametrize("name", METHODS)
def test_a_stable(name: str) -> None:
    # All poles are at 1 / gamma > 0, so the imaginary axis decides.
    assert METHODS[name].gamma > 0
    z = 1j * np.concatenate([np.linspace(0.0, 50.0, 5001), np.logspace(-4, 8, 1000)])
    assert np.abs(stability(FORMS[name].b, FORMS[name], z)).max() <= 1 + 1e-12


@pytest.mark.parametrize("name", ["ROS3P", "Rodas4", "Rodas5P"])
def test_embedded_solution_is_a_stable(name: str) -> None:
    z = 1j * np.concatenate([np.linspace(0.0, 50.0, 5001), np.logspace(-4, 8, 1000)])
    assert np.abs(stability(embedded(FORMS[name]), FORMS[name], z)).max() <= 1 + 1e-12


@pytest.mark.parametrize("name", METHODS)
def test_parabolic_conditions(name: str) -> None:
    form = FORMS[name]
    stiff = max(abs(defect) for defect in parabolic_defects(form.b, form)[1:])
    if name in ("ROS3P", "Rodas5P"):
        assert stiff <= residual_of(name)
    else:  # the measured 8e-2 and 1e-4 are coefficients of the order reduction
        assert stiff > Fraction(1, 10**4)


@pytest.mark.parametrize("name", METHODS)
def test_prothero_robinson_order(name: str) -> None:
    """At any stiffness, this derivative gives the leading local error of the Prothero--Robinson problem."""
    form = FORMS[name]
    first = {"Rosenbrock23": 2, "ROS3P": 3, "Rodas4": 2, "Rodas5P": 4}[name]
    for z in (Fraction(-1), Fraction(-30), Fraction(-(10**4))):
        for power in range(2, first):
            assert abs(prothero_robinson_defect(form.b, form, power, z)) <= 10 * residual_of(name)
    assert abs(prothero_robinson_defect(form.b, form, first, Fraction(-10))) > Fraction(1, 10**4)


@pytest.mark.parametrize("name", ["Rodas4", "Rodas5P"])
def test_infinitely_stiff_components_meet_their_equilibrium(name: str) -> None:
    form = FORMS[name]
    for power in range(2, 6):
        assert abs(prothero_robinson_defect(form.b, form, power, Fraction(-(10**12)))) <= Fraction(1, 10**12)


def test_embedded_solution_of_rodas5p_has_the_stiff_order_of_the_method() -> None:
    form = FORMS["Rodas5P"]
    for power in (2, 3):
        defect = prothero_robinson_defect(embedded(form), form, power, Fraction(-30))
        assert abs(defect) <= residual_of("Rodas5P")


# --------------------------------------------------------------------------------------------------------- wrong digits


def perturbed(exact: RosenbrockCoefficients) -> Iterator[RosenbrockCoefficients]:
    """Variants of the method with the eleventh digit of the largest entry of a row changed."""
    change = Fraction(1, 10**11)

    def changed(row: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
        at = max(range(len(row)), key=lambda i: abs(row[i]))
        return (*row[:at], row[at] + change, *row[at + 1 :])

    yield replace(exact, gamma=exact.gamma + change)
    yield replace(exact, alpha=changed(exact.alpha))
    yield replace(exact, gamma_sums=changed(exact.gamma_sums))
    for i in range(len(exact.a)):
        yield replace(exact, a=(*exact.a[:i], changed(exact.a[i]), *exact.a[i + 1 :]))
        yield replace(exact, c=(*exact.c[:i], changed(exact.c[i]), *exact.c[i + 1 :]))
    yield replace(exact, m=changed(exact.m))
    if exact.m_hat is not None:
        yield replace(exact, m_hat=changed(exact.m_hat))
    rows = exact.interpolant or ()
    for i in range(len(rows)):
        yield replace(exact, interpolant=(*rows[:i], changed(rows[i]), *rows[i + 1 :]))


def all_defects(exact: RosenbrockCoefficients, orders: tuple[int, int, int | None]) -> tuple[Fraction, Fraction]:
    """The largest defects of the pair and of the interpolant."""
    form = classical(exact)
    stages = ElementaryWeights(form)
    pairs = [*zip(form.nodes, exact.alpha, strict=True), *zip(form.gamma_sums, exact.gamma_sums, strict=True)]
    pair = [abs(found - stated) for found, stated in pairs]
    pair += [largest_defect(form.b, stages, p) for p in range(1, orders[0] + 1)]
    pair += [largest_defect(embedded(form), stages, p) for p in range(1, orders[1] + 1)]
    if form.b_theta is None or orders[2] is None:
        return max(pair), Fraction(0)
    return max(pair), max(largest_continuous_defect(form.b_theta, stages, p) for p in range(1, orders[2] + 1))


@pytest.mark.parametrize("name", METHODS)
def test_a_wrong_digit_is_caught(name: str) -> None:
    for wrong in perturbed(METHODS[name].exact):
        pair, interpolant = all_defects(wrong, FACTS[name].orders)
        assert pair > 10 * residual_of(name) or interpolant > 10 * Fraction(FACTS[name].interpolant_residual)


# ----------------------------------------------------------------------------------------------------------- the record


def test_tableau_is_hashable_and_immutable() -> None:
    assert len({RODAS4, RODAS5P, RODAS4}) == 2
    for array in (RODAS4.alpha, RODAS4.gamma_sums, *RODAS4.a, *RODAS4.c, RODAS4.m, RODAS4.e, RODAS4.weights):
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float64
        assert not array.flags.writeable
    with pytest.raises(AttributeError):
        RODAS4.order = 5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", METHODS)
def test_arrays_are_the_rounded_coefficients(name: str) -> None:
    method = METHODS[name]
    exact = method.exact
    assert exact.m_hat is not None
    pairs = [(method.alpha, exact.alpha), (method.gamma_sums, exact.gamma_sums), (method.m, exact.m)]
    pairs += [*zip(method.a, ((), *exact.a), strict=True), *zip(method.c, ((), *exact.c), strict=True)]
    assert method.e is not None
    pairs += [(method.e, tuple(x - y for x, y in zip(exact.m, exact.m_hat, strict=True)))]
    for rounded, row in pairs:
        np.testing.assert_array_equal(rounded, [float(entry) for entry in row])
    assert method.gamma == float(exact.gamma)


@pytest.mark.parametrize("name", INTERPOLATED)
def test_weights_are_the_rounded_interpolant(name: str) -> None:
    method = METHODS[name]
    exact, weights = method.exact, method.weights
    assert weights is not None
    assert exact.interpolant is not None
    assert weights.shape == (method.num_stages, len(exact.interpolant) + 1)
    for i, row in enumerate(weights):
        for theta in (Fraction(0), Fraction(1, 3), Fraction(1)):
            correction = sum(h[i] * theta**power for power, h in enumerate(exact.interpolant))
            expected = float(exact.m[i] + (1 - theta) * correction)
            found = np.polynomial.polynomial.polyval(2 * float(theta) - 1, row)
            assert abs(found - expected) <= 1e-15 * np.abs(row).sum()


def test_methods_without_own_dense_output() -> None:
    assert ROS3P.weights is None


# The linearly implicit Euler method, with an arbitrary embedded solution and linear interpolant.
EULER: dict[str, Any] = {"gamma": 1, "alpha": [0], "gamma_sums": [1], "a": [], "c": [], "m": [1], "order": 1}
TWO: dict[str, Any] = {
    "gamma": 0.5,
    "alpha": [0, 0.5],
    "gamma_sums": [0.5, 1],
    "a": [[1]],
    "c": [[2]],
    "m": [0, 1],
    "m_hat": [2, 0],
    "error_order": 1,
    "interpolant": [[2, -1]],
    "interpolant_order": 1,
    "order": 1,
}


def test_smallest_methods() -> None:
    euler = RosenbrockTableau(**EULER)
    assert euler.num_stages == euler.num_evaluations == 1
    assert euler.e is euler.weights is None
    assert not euler.fsal
    assert not euler.stiffly_accurate
    np.testing.assert_array_equal(RosenbrockTableau(**TWO).e, [-2.0, 1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 0}, "`gamma`: expected a positive number, found 0.0"),
        ({"alpha": [0]}, "`alpha`: expected 2 entries, found 1"),
        ({"alpha": [0, 0.25]}, r"`alpha\[1\]`, from `a` and `gamma_sums`: expected 0.25, found a sum of 0.5"),
        ({"alpha": [0.5, 0.5]}, r"`alpha\[0\]`.*expected 0.5, found a sum of 0.0"),
        ({"gamma_sums": [0.5]}, "`gamma_sums`: expected 2 entries, found 1"),
        ({"gamma_sums": [0.5, 2]}, r"`gamma_sums\[1\]`, from `gamma` and `c`: expected 2.0, found a sum of 1.0"),
        ({"gamma_sums": [1, 1]}, r"`gamma_sums\[0\]`.*expected 1.0, found a sum of 0.5"),
        ({"a": []}, "`a`: expected 1 rows, found 0"),
        ({"a": [[1, 0]]}, r"`a\[0\]`: expected 1 entries, found 2"),
        ({"c": [[2], [1]]}, "`c`: expected 1 rows, found 2"),
        ({"c": [[]]}, r"`c\[0\]`: expected 1 entries, found 0"),
        ({"m": []}, "`m`: expected 1 entries, found 0"),
        ({"m": [1, 1]}, "`m` times `gamma_sums`: expected 1.0, found a sum of 1.5"),
        ({"m_hat": [2]}, "`m_hat`: expected 2 entries, found 1"),
        ({"m_hat": [2, 1]}, "`m_hat` times `gamma_sums`: expected 1.0, found a sum of 2.0"),
        ({"m_hat": None}, "`error_order`: expected exactly when `m_hat` is given, found 1"),
        ({"error_order": None}, "`error_order`: expected exactly when `m_hat` is given, found None"),
        ({"interpolant": []}, "`interpolant`: expected at least one row, found none"),
        ({"interpolant": [[2]]}, r"`interpolant\[0\]`: expected 2 entries, found 1"),
        ({"interpolant": [[2, 0]]}, r"`interpolant\[0\]` times `gamma_sums`: expected 0.0, found a sum of 1.0"),
        ({"interpolant_order": None}, "`interpolant_order`: expected exactly when `interpolant` is given, found None"),
    ],
)
def test_inconsistent_tableau_is_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RosenbrockTableau(**{**TWO, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": "1 1"}, "`a`: expected 1 entries, found 2"),
        ({"c": ""}, "`c`: expected 1 entries, found 0"),
        ({"interpolant": "2 -1 0"}, "`interpolant`: expected 2 entries, found 3"),
        ({"interpolant": ""}, "`interpolant`: expected 2 entries, found 0"),
    ],
)
def test_inconsistent_text_is_rejected(change: dict[str, str], message: str) -> None:
    text = {"gamma": "1/2", "alpha": "0 1/2", "gamma_sums": "1/2 1", "a": "1", "c": "2", "m": "0 1"}
    assert RosenbrockTableau.parse(reference="", order=1, **text).num_stages == 2
    with pytest.raises(ValueError, match=message):
        RosenbrockTableau.parse(reference="", order=1, interpolant_order=1, **{**text, "interpolant": "2 -1", **change})


# --------------------------------------------------------------------------------------------- solutions of an equation


class Coupled:
    r"""$y_1' = y_1 y_2 (1 + t) \cos t$, $y_2' = -y_2^2 y_1 e^{-\sin t}$, solved by $e^{\sin t}$ and $1 / (1 + t)$."""

    def exact(self, t: float | np.ndarray) -> np.ndarray:
        return np.array([np.exp(np.sin(t)), 1 / (1 + t)])

    def field(self, t: float, y: np.ndarray) -> np.ndarray:
        return np.array([y[0] * y[1] * (1 + t) * np.cos(t), -(y[1] ** 2) * y[0] * np.exp(-np.sin(t))])

    def jacobian(self, t: float, y: np.ndarray) -> np.ndarray:
        growth, decay = (1 + t) * np.cos(t), np.exp(-np.sin(t))
        return np.array([[y[1] * growth, y[0] * growth], [-(y[1] ** 2) * decay, -2 * y[1] * y[0] * decay]])

    def time_derivative(self, t: float, y: np.ndarray) -> np.ndarray:
        growth = np.cos(t) - (1 + t) * np.sin(t)
        return np.array([y[0] * y[1] * growth, y[1] ** 2 * y[0] * np.exp(-np.sin(t)) * np.cos(t)])


PROBLEM = Coupled()
START = 0.3


def stages_of(method: RosenbrockTableau, t0: float, y0: np.ndarray, h: float) -> list[np.ndarray]:
    matrix = np.eye(2) / (h * method.gamma) - PROBLEM.jacobian(t0, y0)
    slope = PROBLEM.time_derivative(t0, y0)
    fields: list[np.ndarray] = []
    u: list[np.ndarray] = []
    for i, (a, c) in enumerate(zip(method.a, method.c, strict=True)):
        if method.evaluated_at[i] == i:
            argument = y0 + sum(weight * stage for weight, stage in zip(a, u, strict=True))
            fields.append(PROBLEM.field(t0 + method.alpha[i] * h, argument))
        else:
            fields.append(fields[method.evaluated_at[i]])
        coupling = sum((weight / h * stage for weight, stage in zip(c, u, strict=True)), np.zeros(2))
        u.append(np.linalg.solve(matrix, fields[i] + coupling + method.gamma_sums[i] * h * slope))
    return u


def advance(method: RosenbrockTableau, t0: float, y0: np.ndarray, h: float) -> np.ndarray:
    return y0 + method.m @ np.array(stages_of(method, t0, y0, h))


def slope_of(measure: Callable[[float], float], sizes: np.ndarray) -> float:
    """The order fitted to `measure` at these step sizes, which must lie in the clean region."""
    return float(np.polyfit(np.log(sizes), np.log([measure(float(h)) for h in sizes]), 1)[0])


def fit(name: str) -> np.ndarray:
    """Step sizes small enough for the leading term to dominate and large enough to avoid rounding errors."""
    smallest = {"Rosenbrock23": 1e-3, "ROS3P": 3e-3, "Rodas4": 1e-2, "Rodas5P": 2e-2}[name]
    return smallest * 2.0 ** np.arange(3)


@pytest.mark.parametrize("name", METHODS)
def test_steps_converge_with_the_order(name: str) -> None:
    def error(h: float) -> float:
        num_steps = round(0.5 / h)
        h = 0.5 / num_steps
        y = PROBLEM.exact(START)
        for step in range(num_steps):
            y = advance(METHODS[name], START + step * h, y, h)
        return float(np.linalg.norm(y - PROBLEM.exact(START + 0.5)))

    assert abs(slope_of(error, 0.5 / np.array([16, 32, 64])) - FACTS[name].orders[0]) <= 0.15


@pytest.mark.parametrize("name", METHODS)
def test_error_estimate_has_its_order(name: str) -> None:
    method = METHODS[name]
    assert method.e is not None
    e = method.e

    def estimate(h: float) -> float:
        return float(np.linalg.norm(e @ np.array(stages_of(method, START, PROBLEM.exact(START), h))))

    assert abs(slope_of(estimate, fit(name)) - (1 + min(FACTS[name].orders[:2]))) <= 0.15


@pytest.mark.parametrize("name", METHODS)
def test_embedded_solution_is_the_solution_less_the_estimate(name: str) -> None:
    method = METHODS[name]
    assert method.e is not None
    weights = method.m - method.e

    def error(h: float) -> float:
        y0 = PROBLEM.exact(START)
        embedded_solution = y0 + weights @ np.array(stages_of(method, START, y0, h))
        return float(np.linalg.norm(embedded_solution - PROBLEM.exact(START + h)))

    assert abs(slope_of(error, fit(name)) - (1 + FACTS[name].orders[1])) <= 0.15


@pytest.mark.parametrize("name", INTERPOLATED)
def test_dense_output_converges_with_its_order(name: str) -> None:
    method, order = METHODS[name], FACTS[name].orders[2]
    assert method.weights is not None
    assert order is not None
    thetas = np.linspace(0.1, 0.9, 9)
    at_thetas = thetas * np.polynomial.polynomial.polyval(2 * thetas - 1, method.weights.T)

    def error(h: float) -> float:
        y0 = PROBLEM.exact(START)
        values = y0 + at_thetas.T @ np.array(stages_of(method, START, y0, h))
        return float(np.abs(values - PROBLEM.exact(START + thetas * h).T).max())

    assert abs(slope_of(error, fit(name)) - (order + 1)) <= 0.15


def test_rosenbrock23_is_the_method_of_its_paper() -> None:
    h, t0, y0 = 0.2, START, PROBLEM.exact(START)
    d, e32 = 1 / (2 + 2**0.5), 6 + 2**0.5
    w = np.eye(2) - h * d * PROBLEM.jacobian(t0, y0)
    slope = h * d * PROBLEM.time_derivative(t0, y0)
    f0 = PROBLEM.field(t0, y0)
    k1 = np.linalg.solve(w, f0 + slope)
    f1 = PROBLEM.field(t0 + h / 2, y0 + h / 2 * k1)
    k2 = np.linalg.solve(w, f1 - k1) + k1
    y1 = y0 + h * k2
    k3 = np.linalg.solve(w, PROBLEM.field(t0 + h, y1) - e32 * (k2 - f1) - 2 * (k1 - f0) + slope)
    assert ROSENBROCK23.e is not None
    assert ROSENBROCK23.weights is not None
    u = np.array(stages_of(ROSENBROCK23, t0, y0, h))
    np.testing.assert_allclose(y0 + ROSENBROCK23.m @ u, y1, rtol=1e-14)
    np.testing.assert_allclose(-ROSENBROCK23.e @ u, h / 6 * (k1 - 2 * k2 + k3), rtol=1e-11)
    for theta in (0.3, 0.8):
        between = theta * np.polynomial.polynomial.polyval(2 * theta - 1, ROSENBROCK23.weights.T)
        expected = y0 + h * theta / (1 - 2 * d) * ((1 - theta) * k1 + (theta - 2 * d) * k2)
        np.testing.assert_allclose(y0 + between @ u, expected, rtol=1e-14)
