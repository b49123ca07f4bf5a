"""Programs that were written for Diffrax: Runge–Kutta methods of somebody's own, by `AbstractRungeKutta` itself."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import ButcherTableau, CalculateJacobian, MultiButcherTableau, SaveAt

from ..catalogue import slow_unless, terms_for
from ..compare import assert_trees_close

# pyright: reportIncompatibleVariableOverride=false, reportIncompatibleMethodOverride=false, reportAbstractUsage=false
# Any: the tests read outputs as arrays.
diffeqsolve: Any = rungax.diffeqsolve
PIDController: Any = rungax.PIDController
MIDPOINT = ButcherTableau(c=[0.5], b_sol=[0.0, 1.0], b_error=[-1.0, 1.0], a_lower=[[0.5]])
HEUN = ButcherTableau(c=[1.0], b_sol=[0.5, 0.5], b_error=[-0.5, 0.5], a_lower=[[1.0]])
TRAPEZOIDAL = ButcherTableau(
    c=[1.0], b_sol=[0.5, 0.5], b_error=[-0.5, 0.5], a_lower=[[0.5]], a_diagonal=[0.0, 0.5], a_predictor=[[1.0]]
)
GAMMA = 1 - np.sqrt(0.5)
SDIRK2 = ButcherTableau(
    c=[1.0],
    b_sol=[1 - GAMMA, GAMMA],
    b_error=[-GAMMA, GAMMA],
    a_lower=[[1 - GAMMA]],
    a_diagonal=[GAMMA, GAMMA],
    a_predictor=[[1.0]],
    c1=GAMMA,
)
EDGES = ButcherTableau(c=[0.5, 1.0], b_sol=[0.25, 0.5, 0.25], b_error=None, a_lower=[[0.5], [0.25, 0.75]])
INSIDE = ButcherTableau(c=[0.75, 0.5], b_sol=[0.25, 0.5, 0.25], b_error=None, a_lower=[[0.75], [0.25, 0.25]])
"""Of order 2, also together, though they have different nodes."""


def line(*, t0: Any, t1: Any, y0: Any, y1: Any, k: Any) -> Any:
    return rungax.LocalLinearInterpolation(t0=t0, t1=t1, y0=y0, y1=y1)


def own(base: Any, tableau: Any, order: int = 2, **attributes: Any) -> Any:
    """A method of somebody's own."""
    common = {"tableau": tableau, "interpolation_cls": staticmethod(line), "order": lambda self, terms: order}
    return type("Own", (base,), common | attributes)


EVERY_STAGE = {"calculate_jacobian": CalculateJacobian.every_stage}


class OwnImplicit(rungax.AbstractImplicitSolver[Any], rungax.AbstractRungeKutta[Any]):
    """An implicit method as it is written for Diffrax, its base classes in any order."""

    tableau = TRAPEZOIDAL
    calculate_jacobian = CalculateJacobian.second_stage
    interpolation_cls = staticmethod(line)
    term_structure = rungax.AbstractTerm
    root_finder: Any = rungax.with_stepsize_controller_tols(rungax.VeryChord)()
    root_find_max_steps: int = 10

    def order(self, terms: Any) -> int:
        return 2


# ------------------------------------------------------------------------------------ by value, as through the families

TSIT5, KVAERNO3, KENCARP3 = rungax.Tsit5, rungax.Kvaerno3, rungax.KenCarp3
FAMILIES = {
    "explicit": (rungax.AbstractERK, TSIT5.tableau, CalculateJacobian.never),
    "diagonally implicit": (rungax.AbstractDIRK, KVAERNO3.tableau, CalculateJacobian.every_stage),
    "one diagonal entry": (rungax.AbstractSDIRK, SDIRK2, CalculateJacobian.first_stage),
    "explicit first stage": (rungax.AbstractESDIRK, KVAERNO3.tableau, CalculateJacobian.second_stage),
    "implicit–explicit": (rungax.AbstractIMEXRK, KENCARP3.tableau, CalculateJacobian.second_stage),
}


@pytest.mark.parametrize(
    ("family", "tableau", "calculate_jacobian"),
    [pytest.param(*case, id=name, marks=slow_unless("diagonal entry" not in name)) for name, case in FAMILIES.items()],
)
def test_a_tableau_alone_makes_the_steps_of_its_family(family: Any, tableau: Any, calculate_jacobian: Any) -> None:
    declared = {"calculate_jacobian": calculate_jacobian}
    direct, expected = own(rungax.AbstractRungeKutta, tableau, **declared), own(family, tableau, **declared)
    assert issubclass(direct, (rungax.AbstractERK, rungax.AbstractDIRK, rungax.AbstractIMEXRK))
    field = lambda t, y, args: jnp.cos(3 * t) - y + jnp.sin(y[::-1])
    controller = PIDController(rtol=1e-4, atol=1e-6)

    def solve(solver: Any) -> Any:
        saveat = SaveAt(ts=[0.3, 1.0])
        terms, y0 = terms_for(solver, field), jnp.array([1.0, 0.5])
        found = diffeqsolve(terms, solver, 0.0, 1.0, 0.1, y0, saveat=saveat, stepsize_controller=controller)
        return found.ys, found.stats

    assert_trees_close(solve(direct()), solve(expected()), rtol=0, atol=0)


# ---------------------------------------------------------------------------------------------- order, by halved steps


def additive_terms() -> Any:
    return rungax.MultiTerm(
        rungax.ODETerm(lambda t, y, args: jnp.cos(3 * t) * y), rungax.ODETerm(lambda t, y, args: jnp.sin(2 * t) - y**2)
    )


ONE_TERM = rungax.ODETerm(lambda t, y, args: jnp.cos(3 * t) * y + jnp.sin(2 * t) - y**2)


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (own(rungax.AbstractRungeKutta, HEUN)(), 2),
        (OwnImplicit(), 2),
        (own(rungax.AbstractRungeKutta, SDIRK2, calculate_jacobian=CalculateJacobian.first_stage)(), 2),
        (own(rungax.AbstractRungeKutta, MultiButcherTableau(HEUN, TRAPEZOIDAL), **EVERY_STAGE)(), 2),
        (own(rungax.AbstractRungeKutta, MultiButcherTableau(EDGES, INSIDE))(), 2),
        (own(rungax.AbstractRungeKutta, MultiButcherTableau(MIDPOINT, HEUN))(), 1),
    ],
    ids=["explicit", "implicit", "SDIRK", "implicit–explicit", "additive", "additive of order 1"],
)
def test_a_method_of_ones_own_has_its_order(solver: Any, order: int) -> None:
    terms = ONE_TERM if solver.term_structure is rungax.AbstractTerm else additive_terms()
    exact = diffeqsolve(ONE_TERM, rungax.Vern9(), 0.0, 1.0, 1 / 32, 1.0).ys[-1]
    solve = jax.jit(lambda h: diffeqsolve(terms, solver, 0.0, 1.0, h, 1.0, max_steps=200).ys[-1])
    sizes = 0.5 ** np.arange(4, 8)
    errors = [abs(solve(h) - exact) for h in sizes]
    assert np.polyfit(np.log(sizes), np.log(errors), 1)[0] == pytest.approx(order, abs=0.15)


# -------------------------------------------------------------------------------- a tableau for each term, by one step


def random_tableau(random: np.random.Generator, **implicit: Any) -> ButcherTableau:
    """Three stages whose nodes no other tableau has."""
    a_lower = [random.normal(size=1), random.normal(size=2)]
    diagonal = implicit.get("a_diagonal", np.zeros(3))
    nodes = [row.sum() + own for row, own in zip(a_lower, diagonal[1:], strict=True)]
    b = random.normal(size=3)
    error = random.normal(size=3)
    return ButcherTableau(nodes, b / b.sum(), error - error.mean(), a_lower, **implicit, c1=diagonal[0])


def by_formula(tableaus: Any, fields: Any, t0: float, h: float, y0: float, rate: float) -> Any:
    """A step and its error estimate; the field of an implicit tableau, which is the last, is `rate * y`."""
    ks: list[list[float]] = [[] for _ in tableaus]
    for i in range(3):
        rows = [([], *tableau.a_lower)[i] for tableau in tableaus]
        y = y0 + sum(float(row @ np.array(k)) for row, k in zip(rows[:], ks, strict=True) if len(k))
        diagonal = tableaus[-1].a_diagonal
        y = y if diagonal is None else y / (1 - h * diagonal[i] * rate)
        for tableau, field, k in zip(tableaus, fields, ks, strict=True):
            k.append(h * field(t0 + np.append(tableau.c1, tableau.c)[i] * h, y, rate))
    sums = [sum(float(w(t) @ np.array(k)) for t, k in zip(tableaus, ks, strict=True)) for w in (_b, _b_error)]
    return y0 + sums[0], sums[1]


def _b(tableau: Any) -> Any:
    return tableau.b_sol


def _b_error(tableau: Any) -> Any:
    return tableau.b_error


FIELDS = (lambda t, y, args: np.cos(3 * t) * y, lambda t, y, args: t**2 - y, lambda t, y, args: args * y)


@pytest.mark.parametrize("seed", range(3))
def test_each_term_is_evaluated_at_the_nodes_of_its_tableau(seed: int) -> None:
    """Two or three explicit terms, or one beside an implicit term."""
    random = np.random.default_rng(seed)
    implicit = {"a_diagonal": np.array([0.0, 0.3, 0.4]), "a_predictor": [[1.0], [0.0, 1.0]]}
    # With an explicit first stage and without one.
    other = {"a_diagonal": np.array([0.2, 0.3, 0.4]), "a_predictor": [[1.0], [0.0, 1.0]]}
    for last, count in (({}, 2), ({}, 3), (implicit, 2), (other, 2)):
        tableaus = [random_tableau(random) for _ in range(count - 1)] + [random_tableau(random, **last)]
        fields = (*FIELDS[: count - 1], FIELDS[2])
        solver = own(rungax.AbstractRungeKutta, MultiButcherTableau(*tableaus), **EVERY_STAGE)()
        if last:
            solver = type(solver)(root_finder=optx.Newton(rtol=1e-12, atol=1e-12))
        terms = rungax.MultiTerm(*(rungax.ODETerm(jnp_field(field)) for field in fields))
        t0, t1, y0 = jnp.array(0.2), jnp.array(0.5), jnp.array(0.7)
        y1, error, dense_info, *_ = solver.step(terms, t0, t1, y0, -1.5, solver.init(terms, t0, t1, y0, -1.5), False)
        expected = by_formula(tableaus, fields, 0.2, 0.3, 0.7, -1.5)
        np.testing.assert_allclose([y1, error], expected, rtol=1e-10)
        assert [k.shape for k in dense_info["k"]] == [(3,)] * count


def jnp_field(field: Any) -> Any:
    """A field of numbers as one of arrays."""
    return lambda t, y, args: jnp.cos(3 * t) * y if field is FIELDS[0] else field(t, y, args)


def cubic(*, t0: Any, t1: Any, y0: Any, y1: Any, k: Any) -> Any:
    both = k if isinstance(k, jax.Array) else sum(k)
    return rungax.ThirdOrderHermitePolynomialInterpolation.from_k(t0=t0, t1=t1, y0=y0, y1=y1, k=both)


@pytest.mark.parametrize(
    "tableau",
    [
        pytest.param(rungax.Bosh3.tableau, id="first same as last"),
        pytest.param(rungax.RK4.tableau, id="not", marks=pytest.mark.slow),
    ],
)
def test_equal_tableaus_make_the_steps_of_the_method_with_one(tableau: Any) -> None:
    """Also with a jump in between, where vector fields of the step before are outdated, and for gradients."""
    attributes = {"interpolation_cls": staticmethod(cubic if tableau.fsal else line)}
    one = own(rungax.AbstractERK, tableau, 3, **attributes)()
    two = own(rungax.AbstractRungeKutta, MultiButcherTableau(tableau, tableau), 3, **attributes)()
    controller: Any = PIDController(rtol=1e-4, atol=1e-6) if tableau.fsal else rungax.ConstantStepSize()
    if tableau.fsal:
        controller = rungax.ClipStepSizeController(controller, jump_ts=[0.4])
    drive = rungax.ODETerm(lambda t, y, args: jnp.where(t < 0.4, 1.0, -2.0) * args)
    decay = rungax.ODETerm(lambda t, y, args: -(y**2))
    terms = rungax.MultiTerm(drive, decay)

    def solve(solver: Any) -> Any:
        def ys(rate: Any) -> Any:
            saveat = SaveAt(ts=[0.13, 0.4, 1.0])
            options = {"saveat": saveat, "stepsize_controller": controller, "max_steps": 64}
            return diffeqsolve(terms, solver, 0.0, 1.0, 0.1, 1.0, rate, **options).ys

        return ys(0.5), jax.jacrev(ys)(0.5)

    assert_trees_close(solve(two), solve(one), rtol=1e-12)


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("tableaus", "found"),
    [((TRAPEZOIDAL, HEUN), "implicit, explicit"), ((HEUN, HEUN, TRAPEZOIDAL), "explicit, explicit, imp")],
)
def test_an_implicit_tableau_at_another_place_is_refused(tableaus: Any, found: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)MultiButcherTableau.*Expected: explicit, implicit.Found:    {found}"):
        own(rungax.AbstractRungeKutta, MultiButcherTableau(*tableaus))


def test_a_step_of_ones_own_stays() -> None:
    class Still(rungax.AbstractRungeKutta[Any]):
        tableau = HEUN
        interpolation_cls = rungax.LocalLinearInterpolation
        term_structure = rungax.AbstractTerm

        def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
            return None

        def step(self, terms: Any, t0: Any, t1: Any, y0: Any, *others: Any) -> Any:
            return y0, None, {"y0": y0, "y1": y0}, None, rungax.RESULTS.successful

        def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
            return terms.vf(t0, y0, args)

    assert not issubclass(Still, rungax.AbstractERK)
    assert diffeqsolve(ONE_TERM, Still(), 0.0, 1.0, 0.5, 1.0).ys[-1] == 1.0


class AbstractMine(rungax.AbstractRungeKutta[Any]):
    """Methods of somebody's own, which have something in common and each a tableau."""

    calculate_jacobian = CalculateJacobian.never
    interpolation_cls = rungax.LocalLinearInterpolation.from_k

    def order(self, terms: Any) -> int:
        return 2


def test_the_tableau_may_be_given_further_down() -> None:
    class Mine(AbstractMine, rungax.AbstractStratonovichSolver[Any]):
        tableau = HEUN

    assert issubclass(Mine, rungax.AbstractERK)
    assert Mine().interpretations == {"Stratonovich"}
    expected = diffeqsolve(ONE_TERM, rungax.Heun(), 0.0, 1.0, 0.25, 1.0).ys
    assert_trees_close(diffeqsolve(ONE_TERM, Mine(), 0.0, 1.0, 0.25, 1.0).ys, expected, rtol=1e-14)


@pytest.mark.parametrize("base", [rungax.AbstractERK, rungax.Heun])
def test_an_implicit_tableau_in_an_explicit_method_is_refused(base: Any) -> None:
    with pytest.raises(ValueError, match=r"`Own.tableau` is that of an implicit method(.|\n)*AbstractRungeKutta"):
        own(base, TRAPEZOIDAL)
