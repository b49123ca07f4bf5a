"""A solver recommends coefficients of the rule for step sizes, which serve where the user has chosen none."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import rungax
from rungax import ClipStepSizeController, Kvaerno5, PIDController

from .measure import counts

ELEMENTARY, RECOMMENDED = (0.0, 1.0, 0.0), (0.2, 0.6, 0.0)


def steps(controller: Any, solver: Any = Kvaerno5()) -> tuple[int, int, int]:
    """The numbers of steps over the first turn of Van der Pol's equation."""
    field = lambda t, y, args: jnp.stack([y[1], 1e3 * ((1 - y[0] ** 2) * y[1] - y[0])])
    y0 = jnp.asarray([2.0, 0.0])
    return counts(rungax.diffeqsolve(field, solver, 0.0, 1.0, None, y0, stepsize_controller=controller))


def pid(**coefficients: Any) -> PIDController:
    return PIDController(rtol=1e-3, atol=1e-6, **coefficients)


def test_without_a_choice_the_coefficients_are_those_of_the_solver() -> None:
    assert Kvaerno5().pid_coefficients == RECOMMENDED
    p, i, d = RECOMMENDED
    assert steps(pid()) == steps(pid(pcoeff=p, icoeff=i, dcoeff=d))
    assert steps(ClipStepSizeController(pid(), step_ts=[2.0])) == steps(pid())


@pytest.mark.parametrize(
    "chosen",
    [
        {"icoeff": 1},
        pytest.param({"pcoeff": 0, "icoeff": 1, "dcoeff": 0}, marks=pytest.mark.slow),
        pytest.param({"pcoeff": 0.0, "icoeff": 1.0}, marks=pytest.mark.slow),
    ],
)
def test_a_choice_counts_even_if_it_is_the_default(chosen: dict[str, Any]) -> None:
    """Also after the same call without a choice, which is another program."""
    without = steps(pid())
    found = steps(pid(**chosen))
    assert found == steps(pid(pcoeff=0.0, icoeff=1.0, dcoeff=0.0))
    assert found[2] > 1.5 * without[2]


def test_controllers_hold_the_documented_defaults_and_keep_what_was_chosen() -> None:
    assert (pid().pcoeff, pid().icoeff, pid().dcoeff) == ELEMENTARY
    recommended = (0.5, 0.25, 0.125)

    def held(controller: PIDController) -> tuple[Any, ...]:
        used = controller.with_coefficients(recommended)
        return used.pcoeff, used.icoeff, used.dcoeff

    assert held(pid()) == recommended
    assert held(replace(pid(), rtol=1e-4)) == recommended
    assert held(jax.tree.map(lambda x: x, pid())) == recommended
    assert held(pid(icoeff=0.3)) == (0, 0.3, 0)
    assert held(replace(pid(), pcoeff=0.3)) == (0.3, 1, 0)


def test_most_solvers_recommend_the_elementary_controller() -> None:
    others = {"Kvaerno4", "Kvaerno5", "KenCarp4", "KenCarp5"}
    for solver in (rungax.Tsit5(), rungax.Kvaerno3(), rungax.Rodas5P(), rungax.Auto(), rungax.HalfSolver(Kvaerno5())):
        expected = RECOMMENDED if isinstance(solver, rungax.HalfSolver) else ELEMENTARY
        assert solver.pid_coefficients == expected
    for cls in (getattr(rungax, name) for name in others):
        assert cls.pid_coefficients == RECOMMENDED
    controller = pid()
    assert controller.with_coefficients(ELEMENTARY) is controller


def test_other_controllers_take_no_recommendation() -> None:
    for controller in (rungax.ConstantStepSize(), rungax.StepTo(jnp.linspace(0, 1, 5))):
        assert controller.with_coefficients(RECOMMENDED) is controller
