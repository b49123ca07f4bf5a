"""Subclasses of public classes may have a constructor of their own, with other parameters, and further fields."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import pytest

import rungax
from rungax.nonlinear import Tolerances

from ..catalogue import EVERY_SOLVER, name
from ..compare import assert_trees_close

PID = rungax.PIDController(rtol=1e-4, atol=1e-4)
TOLERANCES = Tolerances(1e-4, 1e-4, PID.norm)
FORWARDS, BACKWARDS = jnp.asarray(1.0), jnp.asarray(-1.0)


def with_own_constructor(original: Any) -> Any:
    """An instance of a subclass whose constructor takes a mark only, otherwise like an instance of its base class."""

    class Own(type(original)):
        """A class as users write it."""

        mark: float

        def __init__(self, *, mark: float) -> None:
            for field, value in vars(original).items():
                setattr(self, field, value)
            self.mark = mark

    return Own(mark=0.5)


def assert_alike(found: Any, own: Any, expected: Any) -> None:
    """`found` is of the class of `own`, with its mark, and otherwise like `expected`."""
    assert type(found) is type(own)
    assert found.mark == 0.5
    for field in dataclasses.fields(expected):
        assert bool(eqx.tree_equal(getattr(found, field.name), getattr(expected, field.name))), field.name


@pytest.mark.parametrize("solver", EVERY_SOLVER, ids=name)
def test_a_solver_keeps_its_class_and_fields_with_the_tolerances_of_a_solve(solver: rungax.AbstractSolver[Any]) -> None:
    own, y0 = with_own_constructor(solver), jnp.ones(2)
    for tolerances in (TOLERANCES, None):
        assert_alike(own.with_tolerances(tolerances, y0), own, solver.with_tolerances(tolerances, y0))


CONTROLLERS = [
    PID,
    rungax.ConstantStepSize(),
    rungax.StepTo(jnp.linspace(0.0, 1.0, 5)),
    rungax.ClipStepSizeController(PID, step_ts=[0.5], jump_ts=[0.25], store_rejected_steps=10),
    rungax.ClipStepSizeController(rungax.ClipStepSizeController(PID, step_ts=[0.5]), jump_ts=[0.25]),
]


@pytest.mark.parametrize("controller", CONTROLLERS, ids=name)
def test_a_controller_keeps_its_class_and_fields_through_a_solve(controller: Any) -> None:
    own = with_own_constructor(controller)
    for change in (
        lambda c: c.wrap(FORWARDS),
        lambda c: c.wrap(BACKWARDS),
        lambda c: c.with_coefficients((0.2, 0.6, 0.0)),
        lambda c: c.with_coefficients((0.2, 0.6, 0.0)).wrap(BACKWARDS).without_stops(),
    ):
        assert_alike(change(own), own, change(controller))


DECAY = rungax.ODETerm(lambda t, y, args: -y)
TREE = rungax.VirtualBrownianTree(0.0, 1.0, 1e-2, (), jax.random.key(0))
PATH = rungax.LinearInterpolation(jnp.asarray([0.0, 1.0]), jnp.asarray([0.0, 1.0]))
TERMS = [
    DECAY,
    rungax.ODETerm(lambda t, y, args: -y, jacobian=lambda t, y, args: -jnp.eye(2), tags=lx.diagonal_tag),
    rungax.ControlTerm(lambda t, y, args: -y, PATH),
    rungax.MultiTerm(DECAY, rungax.ControlTerm(lambda t, y, args: y, PATH)),
    rungax.MultiTerm(DECAY, rungax.ControlTerm(lambda t, y, args: 0.1 * y, TREE)),
]


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_a_term_keeps_its_class_and_fields_when_it_is_traced(term: Any) -> None:
    own, y0 = with_own_constructor(term), jnp.asarray([1.0, 2.0])
    found = own.trace_once(FORWARDS, y0, None)
    assert (type(found), found.mark) == (type(own), 0.5)
    assert found.num_equations() == term.trace_once(FORWARDS, y0, None).num_equations() > 0
    solve = lambda term: rungax.diffeqsolve(term, rungax.Heun(), 0.0, 1.0, 0.25, y0).ys
    assert_trees_close(solve(own), solve(term))


def test_a_langevin_term_keeps_its_class_and_fields_when_it_is_traced() -> None:
    term = rungax.UnderdampedLangevinDriftTerm(1.0, 2.0, lambda x, args: 3 * x)
    own, y0 = with_own_constructor(term), (jnp.ones(2), jnp.ones(2))
    found = own.trace_once(FORWARDS, y0, None)
    assert (type(found), found.mark, found.gamma, found.u) == (type(own), 0.5, 1.0, 2.0)
    assert_trees_close(found.vf(FORWARDS, y0, None), term.vf(FORWARDS, y0, None))


class Stiff(rungax.Kvaerno3):
    """An implicit solver whose constructor leaves the fields of its base class out."""

    mark: float

    def __init__(self, mark: float) -> None:
        self.mark = mark


class Bounded(rungax.ClipStepSizeController):
    """A controller with tolerances and times of its own."""

    def __init__(self) -> None:
        super().__init__(PID, step_ts=jnp.asarray([0.3]))


class Decay(rungax.ODETerm):
    """A term with its vector field, and a rate."""

    rate: jax.Array

    def __init__(self, rate: Any) -> None:
        super().__init__(lambda t, y, args: -y)
        self.rate = rate

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        return self.rate * super().vf(t, y, args)


@pytest.mark.parametrize("t1", [1.0, pytest.param(-1.0, marks=pytest.mark.slow)])
def test_a_solve_of_own_classes_is_that_of_the_classes_they_are_like(t1: float) -> None:
    def end(rate: Any, term: Any, solver: Any, controller: Any) -> jax.Array:
        options: dict[str, Any] = {"stepsize_controller": controller, "max_steps": 64}
        return rungax.diffeqsolve(term(rate), solver, 0.0, t1, None, jnp.asarray(1.0), rate, **options).ys[-1]

    own = jax.value_and_grad(end)(0.5, Decay, Stiff(0.5), Bounded())
    given = rungax.ClipStepSizeController(PID, step_ts=jnp.asarray([0.3]))
    like = jax.value_and_grad(end)(
        0.5, lambda rate: rungax.ODETerm(lambda t, y, rate: -rate * y), rungax.Kvaerno3(), given
    )
    assert_trees_close(own, like, rtol=1e-12)


class Driven(rungax.ControlTerm):
    """A term with its vector field and control, and factors."""

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        return 0.5 * super().vf(t, y, args)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        return 3.0 * super().contr(t0, t1, **kwargs)


def test_a_control_term_whose_methods_are_made_of_those_given_calls_each_once() -> None:
    path = rungax.LinearInterpolation(jnp.asarray([0.0, 0.4, 1.0]), jnp.asarray([0.0, 1.0, -0.5]))
    end = lambda term: rungax.diffeqsolve(term, rungax.Heun(), 0.0, 1.0, 0.25, jnp.asarray(1.0)).ys[-1]
    like = rungax.ControlTerm(lambda t, y, args: -1.5 * y, path)
    assert_trees_close(end(Driven(lambda t, y, args: -y, path)), end(like), rtol=1e-12)
