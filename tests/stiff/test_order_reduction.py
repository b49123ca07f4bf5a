r"""The order of a method for a stiff equation is the reduced one that theory predicts.

For `y' = -rate (y - phi(t)) + phi'(t)` with `z = -rate h` to infinity the error of one step is

$$e_1 = R(\infty)\,e_0 + \sum_k \big(D_k + E_k / z\big) h^k \phi^{(k)}(t_0) + \dots$$

with numbers `D_k` and `E_k` that follow from the coefficients, so that after many steps the error is the first term of
the sum that does not vanish, divided by `1 - R(infinity)`: of order `k` if it is a `D`, of order `k - 1` and divided by
the rate if it is an `E`.

- A Runge-Kutta method with stages `Y` has `phi(t_i) = phi(t_0) + h sum_j a_ij phi'(t_j) + Delta_i`, with terms of
  `Delta_i` beyond its stage order only. Then `E = (I - z A)^-1 (e_0 - Delta)`, and if the last stage is the solution,
  `D = 0`. All methods here have stage order two, except the implicit Euler method with one: hence `h^2 / rate`, for
  every classical order.
- A Rosenbrock method has `sum_j beta_ij k_j = phi(t_0 + alpha_i h) - phi(t_0) + gamma_i h phi'(t_0) - e_0` in the
  limit. `D_2 = 0` is the condition `sum b_i omega_ij alpha_j^2 = 1` of Hairer and Wanner; stiffly accurate methods
  fulfil it for all powers. Rosenbrock23 does not, hence `h^2` even for infinite rates. For Rodas4 `E_2` is not zero,
  hence `h / rate`; Rodas5P was constructed so that `E_2 = E_3 = 0`, hence `h^3 / rate`.

References: E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.15 and VI.1 to VI.4;
G. Steinebach, BIT 63 (2023), article 27.
"""

from math import factorial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import STIFF, name, order, slow_unless, solved_exactly, terms_for
from ..convergence.measure import TOLERANCE, slope
from ..problems.stiff import KAPS, prothero_robinson


class Limit(NamedTuple):
    """The error after many steps: `constant * h**power / rate**(1 if falls else 0)` times a derivative of phi."""

    power: int
    falls: bool
    constant: float
    derivative: int


# Orders for large `rate * h`, and whether the error is divided by the rate, as derived above.
EXPECTED = {
    "ImplicitEuler": (1, True),
    "TRBDF2": (2, True),
    "Kvaerno3": (2, True),
    "Kvaerno4": (2, True),
    "Kvaerno5": (2, True),
    "Sil3": (2, True),
    "KenCarp3": (2, True),
    "KenCarp4": (2, True),
    "KenCarp5": (2, True),
    "Rosenbrock23": (2, False),
    "ROS3P": (2, True),
    "Rodas4": (1, True),
    "Rodas5P": (3, True),
}
RATES = (1.0, 1e2, 1e3, 1e4, 1e5, 1e6)
NUM_STEPS = np.array([4, 8, 16, 32, 64, 128, 256, 512, 1024])
# The steps that show the stiff order: neither the next term of the error nor rounding is visible.
CLEAN = {"Rodas4": slice(5, 9), "Rodas5P": slice(3, 6)}


def limit(solver: rungax.AbstractSolver[Any]) -> Limit:
    """The first term that does not vanish."""
    coefficients = rosenbrock_limit if isinstance(solver, rungax.AbstractRosenbrock) else runge_kutta_limit
    at_infinity, constants = coefficients(solver)
    for k, (d, e) in enumerate(constants, start=1):
        if abs(d) > 1e-7:
            return Limit(k, False, d / (1 - at_infinity), k)
        if abs(e) > 1e-7:
            return Limit(k - 1, True, e / (1 - at_infinity), k)
    raise AssertionError("no term of the error is left")


def runge_kutta_limit(solver: Any) -> tuple[float, list[tuple[float, float]]]:
    """`R(infinity)`, and `D_k` and `E_k` from `k = 1` on."""
    tableau = solver.tableau.tableaus[1] if isinstance(solver, rungax.AbstractIMEXRK) else solver.tableau
    assert tableau.ssal
    assert tableau.a_diagonal is not None
    a = np.diag(tableau.a_diagonal)
    for i, row in enumerate(tableau.a_lower, start=1):
        a[i, : len(row)] = row
    c = np.append(tableau.c1, tableau.c)
    weights = np.linalg.inv(a[1:, 1:])[-1]  # the first stage is explicit
    constants = []
    for k in range(1, 6):
        defect = c**k / factorial(k) - a @ c ** (k - 1) / factorial(k - 1)
        constants.append((0.0, float(weights @ defect[1:])))
    return float(-weights @ a[1:, 0]), constants


def rosenbrock_limit(solver: Any) -> tuple[float, list[tuple[float, float]]]:
    """`R(infinity)`, and `D_k` and `E_k` from `k = 1` on, for a Rosenbrock method."""
    tableau, size = solver.tableau, solver.tableau.num_stages
    lower_a, lower_c = np.zeros((size, size)), np.zeros((size, size))
    for i in range(size):
        lower_a[i, :i], lower_c[i, :i] = tableau.a[i], tableau.c[i]
    gammas = np.linalg.inv(np.eye(size) / tableau.gamma - lower_c)
    beta, b = (lower_a @ gammas) + gammas, tableau.m @ gammas
    alpha, sums = np.asarray(tableau.alpha), np.asarray(tableau.gamma_sums)
    once = np.linalg.solve(beta.T, b)
    twice = np.linalg.solve(beta.T, once)
    constants = []
    for k in range(1, 6):
        state = alpha**k / factorial(k) + (sums if k == 1 else 0)
        slope_there = alpha ** (k - 1) / factorial(k - 1) + (sums if k == 2 else 0)
        constants.append((float(once @ state - 1 / factorial(k)), float(twice @ state - once @ slope_there)))
    return float(1 - once.sum()), constants


def errors(solver: rungax.AbstractSolver[Any]) -> dict[float, np.ndarray]:
    """The errors at the end, for every rate and number of steps."""
    problem = prothero_robinson(1.0)
    terms = terms_for(solver, problem.field, 0.0)

    @jax.jit
    def final(num_steps: jax.Array, rate: jax.Array) -> jax.Array:
        dt0 = (problem.t1 - problem.t0) / num_steps
        return rungax.diffeqsolve(terms, solver, problem.t0, problem.t1, dt0, problem.y0, rate).ys[-1, 0]

    def error(num_steps: int, rate: float) -> float:
        return abs(float(final(jnp.asarray(float(num_steps)), jnp.asarray(rate))) - problem.final[0])

    return {rate: np.array([error(n, rate) for n in NUM_STEPS]) for rate in RATES}


SAME_LIMIT = ("TRBDF2", "Kvaerno4", "Kvaerno5", "Sil3", "KenCarp4", "KenCarp5")
"""Stiffly accurate Runge-Kutta methods of stage order two, as Kvaerno3 and KenCarp3 are."""


@pytest.mark.parametrize(
    "solver", [pytest.param(s, id=name(s), marks=slow_unless(name(s) not in SAME_LIMIT)) for s in STIFF]
)
def test_linear_stiff_order(solver: rungax.AbstractSolver[Any]) -> None:
    """Order and size of the error are those of the theory; without stiffness the order is the stated one."""
    predicted, found = limit(solver), errors(solver)
    assert (predicted.power, predicted.falls) == EXPECTED[name(solver)]
    end = prothero_robinson(1.0).t1
    steps = end / NUM_STEPS
    clean = np.flatnonzero(found[1.0] > 1e-14)[-4:]
    assert abs(slope(steps[clean], found[1.0][clean]) - order(solver)) <= TOLERANCE

    clean = CLEAN.get(name(solver), slice(3, 7))
    stiff = found[1e5][clean]
    assert abs(slope(steps[clean], stiff) - predicted.power) <= TOLERANCE
    # The derivatives of the cosine.
    derivative = [np.cos, np.sin][predicted.derivative % 2](end)
    expected = abs(predicted.constant * derivative) * steps**predicted.power / (1e5 if predicted.falls else 1)
    np.testing.assert_allclose(stiff, expected[clean], rtol=0.15)

    # For rates in between the order is not lower, and for larger ones the error depends on the rate as derived above.
    for rate in (1e2, 1e3, 1e4):
        assert slope(steps[clean], found[rate][clean]) >= predicted.power - TOLERANCE
    ratio = found[1e6][clean] / stiff
    np.testing.assert_allclose(ratio[:3], 0.1 if predicted.falls else 1, rtol=0.1)


# ------------------------------------------------------------------------------------------------------ not linear

# The fast component has errors O(h^p) + O(h^2 / rate), see below; for these methods the second term is visible.
FAST = {"Kvaerno5": 2, "KenCarp5": 2, "Rodas5P": 2}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(solver, id=name(solver), marks=slow_unless(name(solver) in ("Kvaerno5", "Rodas5P")))
        for solver in STIFF
    ],
)
def kaps(request: pytest.FixtureRequest) -> Any:
    """A solver whose stages are solved to rounding, and its errors, of shape (steps, components)."""
    terms, method = terms_for(request.param, KAPS.field, 0.0), solved_exactly(request.param)

    @jax.jit
    def final(num_steps: jax.Array, stiffness: jax.Array) -> jax.Array:
        dt0 = (KAPS.t1 - KAPS.t0) / num_steps
        return rungax.diffeqsolve(terms, method, KAPS.t0, KAPS.t1, dt0, KAPS.y0, stiffness).ys[-1]

    def errors(num_steps: Any, stiffness: float) -> np.ndarray:
        ends = [final(jnp.asarray(float(n)), jnp.asarray(stiffness)) for n in num_steps]
        return np.abs(np.array(ends) - KAPS.final)

    return request.param, errors


def test_nonlinear_stiff_order(kaps: Any) -> None:
    """In the limit of infinite stiffness, a problem of index one, all methods here have their full order.

    The errors of Runge-Kutta methods of stage order q are `O(h^p) + O(h^(q + 1) / stiffness)` in the slow component
    and, if stiffly accurate, `O(h^p) + O(h^q / stiffness)` in the fast one (Hairer and Wanner, VI.3, theorem 3.8 and
    its corollary); the Rosenbrock methods fulfil the algebraic conditions of index one (VI.4) as well.
    """
    solver, errors = kaps
    num_steps = np.array([8, 12, 16, 20] if order(solver) == 5 else [24, 32, 48, 64])
    found = errors(num_steps, 1e8)
    for component, label in enumerate(["fast", "slow"]):
        measured = slope(1 / num_steps, found[:, component])
        assert measured >= order(solver) - TOLERANCE, f"{name(solver)}, {label}: {measured:.2f}"
    if name(solver) != "Rodas5P":  # its order here is one higher
        assert abs(slope(1 / num_steps, found[:, 1]) - order(solver)) <= TOLERANCE


def test_nonlinear_stiff_order_of_the_fast_component(kaps: Any) -> None:
    solver, errors = kaps
    if name(solver) not in FAST:
        pytest.skip("the first term of the error hides the second")
    num_steps = np.array([32, 48, 64])
    found = errors(num_steps, 1e5)
    assert abs(slope(1 / num_steps, found[:, 0]) - FAST[name(solver)]) <= TOLERANCE
    more = errors(num_steps, 1e6)
    np.testing.assert_allclose(more[:, 0] / found[:, 0], 0.1, rtol=0.1)
