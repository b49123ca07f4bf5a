"""Programs that were written for Diffrax: solvers used by hand, wrapped, and defined by users."""

import copy
import dataclasses
import pickle
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import SaveAt

from ..catalogue import (
    EVERY_SOLVER,
    LANGEVIN,
    SOLVERS,
    STOCHASTIC,
    SYMPLECTIC,
    dense_order,
    name,
    slow_unless,
    terms_for,
)
from ..compare import assert_trees_close


def every_solver(*often: str) -> list[Any]:
    """Every solver; those not in `often`, which only repeat another one, are marked as slow."""
    return [pytest.param(solver, id=name(solver), marks=slow_unless(name(solver) in often)) for solver in EVERY_SOLVER]


# Any: the tests read outputs as arrays.
diffeqsolve: Any = rungax.diffeqsolve
PIDController: Any = rungax.PIDController
RATE = np.array([0.5, 0.8])
Y0 = np.array([1.0, 0.5])


def swing(t: Any, y: Any, args: Any) -> Any:
    return jnp.sin(3 * t) * y[::-1] - args * y


def force(t: Any, w: Any, args: Any) -> Any:
    return -jnp.sin(w) * jnp.cos(t) * args


def velocity(t: Any, v: Any, args: Any) -> Any:
    del t, args
    return v


def equation(solver: Any) -> tuple[Any, Any]:
    """Terms that a solver solves, and an initial state."""
    shape = (2,) if solver in LANGEVIN else ()
    areas = rungax.SpaceTimeTimeLevyArea if solver in LANGEVIN else rungax.SpaceTimeLevyArea
    path = rungax.VirtualBrownianTree(0.0, 1.0, 1e-3, shape, jax.random.key(7), levy_area=areas)
    if solver in SYMPLECTIC:
        return (rungax.ODETerm(force), rungax.ODETerm(velocity)), (Y0, -Y0)
    if solver in LANGEVIN:
        drift = rungax.UnderdampedLangevinDriftTerm(1.0, 1.0, lambda x, args: args * x)
        return rungax.MultiTerm(drift, rungax.UnderdampedLangevinDiffusionTerm(1.0, 1.0, path)), (Y0, -Y0)
    if solver in STOCHASTIC:
        noise = rungax.ControlTerm(lambda t, y, args: jnp.stack([0.3 * jnp.cos(t), 0.2]), path)
        return rungax.MultiTerm(rungax.ODETerm(swing), noise), Y0
    return terms_for(solver, swing), Y0


# ------------------------------------------------------------------------------------------------------- steps by hand


def interpolation_by_hand(solver: Any, terms: Any, t0: Any, t1: Any, y0: Any) -> Any:
    """The interpolation over a step, made of what the step returns."""
    state = solver.init(terms, t0, t1, y0, RATE)
    y1, _, dense_info, _, _ = solver.step(terms, t0, t1, y0, RATE, state, jnp.array(False))
    return y1, solver.interpolation_cls(t0=t0, t1=t1, **dense_info)


@pytest.mark.parametrize("solver", every_solver("Dopri8", "KenCarp5", "ROS3P", "Yoshida4", "HalfSolver"))
def test_what_a_step_returns_is_all_that_its_interpolation_needs(solver: Any) -> None:
    """At the ends, the states there; inside, the solution of a solve of this one step, to the interpolant's order."""
    terms, y0 = equation(solver)
    t0, t1 = jnp.asarray(0.2), jnp.asarray(0.3)

    @jax.jit
    def values(t: Any) -> Any:
        y1, solution = interpolation_by_hand(solver, terms, t0, t1, jax.tree.map(jnp.asarray, y0))
        saved = diffeqsolve(terms, solver, t0, t1, 0.1, y0, RATE, saveat=SaveAt(ts=t[None]), max_steps=2).ys
        inside = solution.evaluate(t), jax.tree.map(lambda y: y[0], saved)
        return inside, (solution.evaluate(t0), solution.evaluate(t1)), (y0, y1)

    inside, at_ends, ends = values(jnp.asarray(0.26))
    assert_trees_close(at_ends, ends, rtol=1e-15)
    again = isinstance(solver, rungax.AbstractSymmetricComposition)
    # A solve makes the step of a composition again instead: there both err, by the fourth power of the step.
    assert_trees_close(*inside, rtol=1e-15, atol=1e-4 if again else 2e-15)


@pytest.mark.parametrize(
    "solver",
    [pytest.param(s, id=name(s), marks=slow_unless(name(s) in ("Heun", "Dopri8"))) for s in (*SOLVERS, *SYMPLECTIC)],
)
def test_values_inside_a_step_by_hand_are_of_the_interpolants_order(solver: Any) -> None:
    """The largest error over the step decreases with the power of the step size that belongs to that order."""
    terms, y0 = equation(solver)
    y0 = jax.tree.map(jnp.asarray, y0)
    exact = rungax.Vern9() if solver in SOLVERS else rungax.KahanLi8()
    whole = rungax.ODETerm(swing) if solver in SOLVERS else terms

    @jax.jit
    def error(h: Any) -> Any:
        t0 = jnp.asarray(0.2)
        _, solution = interpolation_by_hand(solver, terms, t0, t0 + h, y0)
        ts = t0 + h * jnp.linspace(0.1, 1.0, 7)
        saved = diffeqsolve(whole, exact, t0, t0 + h, h / 8, y0, RATE, saveat=SaveAt(ts=ts), max_steps=16).ys
        errors = jax.tree.map(lambda y, ref: jnp.max(jnp.abs(y - ref)), jax.vmap(solution.evaluate)(ts), saved)
        return jnp.max(jnp.stack(jax.tree.leaves(errors)))

    sizes = 0.15 * 0.5 ** np.arange(3) if dense_order(solver) < 5 else 0.8 * 0.7 ** np.arange(3)
    errors = np.array([error(jnp.asarray(h)) for h in sizes])
    assert np.polyfit(np.log(sizes), np.log(errors), 1)[0] > min(dense_order(solver), 5) + 0.5


@pytest.mark.parametrize("solver", every_solver("Heun", "Kvaerno3", "ROS3P", "Yoshida4"))
def test_a_step_from_integers_is_that_from_floats(solver: Any) -> None:
    """So it is in Diffrax for Euler's method and others of its kind; Runge–Kutta methods raise an error there."""
    terms, y0 = equation(solver)
    t0, t1 = jnp.asarray(0.2), jnp.asarray(0.3)

    @jax.jit
    def values(y0: Any) -> Any:
        y1, solution = interpolation_by_hand(solver, terms, t0, t1, y0)
        return y1, solution.evaluate(jnp.asarray(0.26)), solver.func(terms, t0, y0, RATE)

    integers = jax.tree.map(lambda y: jnp.asarray([3, int(4 * y[0])]), y0)
    floats = jax.tree.map(lambda y: y.astype(float), integers)
    # Strict promotion, with which the tests run, has no sum of integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        assert_trees_close(values(integers), values(floats), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("solver", [rungax.Tsit5(), rungax.KahanLi8()], ids=name)
def test_a_step_from_integers_in_a_scan_over_the_stages(solver: Any) -> None:
    """A field so large that the stages become a loop in the program."""
    large = lambda t, y, args: y - sum((jnp.sin(i * y) for i in range(20)), jnp.zeros_like(y))
    terms: Any = rungax.ODETerm(large)
    as_state = lambda y: (y, y) if solver in SYMPLECTIC else y
    terms = as_state(terms)
    step = jax.jit(lambda y: interpolation_by_hand(solver, terms, 0.2, 0.3, as_state(y))[0])
    with jax.numpy_dtype_promotion("standard"):
        assert_trees_close(step(jnp.array([1, 2])), step(jnp.array([1.0, 2.0])), rtol=1e-14)


@pytest.mark.parametrize("y0", [1, *(pytest.param(y0, marks=pytest.mark.slow) for y0 in (True, 1.0))])
@pytest.mark.parametrize("solver", [rungax.Euler(), rungax.Tsit5(), rungax.Kvaerno3(), rungax.Rodas4()], ids=name)
def test_a_step_from_a_number(solver: Any, y0: Any) -> None:
    with jax.numpy_dtype_promotion("standard"):
        y1, solution = interpolation_by_hand(solver, rungax.ODETerm(lambda t, y, args: -0.5 * y), 0.0, 0.1, y0)
        np.testing.assert_allclose(y1, np.exp(-0.05), rtol=2e-3 if name(solver) == "Euler" else 1e-5)
        np.testing.assert_allclose(solution.evaluate(0.1), y1, rtol=1e-15)


# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
class Wrapper(rungax.AbstractSolver[Any]):
    """A solver of somebody's own around another one, which forwards what a step needs and nothing else."""

    solver: rungax.AbstractSolver[Any]

    @property
    def term_structure(self) -> Any:
        return self.solver.term_structure

    @property
    def interpolation_cls(self) -> Any:
        return self.solver.interpolation_cls

    def init(self, *args: Any) -> Any:
        return self.solver.init(*args)

    def step(self, *args: Any) -> Any:
        return self.solver.step(*args)

    def func(self, *args: Any) -> Any:
        return self.solver.func(*args)

    def order(self, terms: Any) -> Any:
        return self.solver.order(terms)


@pytest.mark.parametrize("solver", every_solver("Dopri8", "Kvaerno3", "Yoshida4", "ALIGN"))
def test_a_wrapper_that_forwards_a_step_gives_the_same_outputs(solver: Any) -> None:
    """Saved times and dense output."""
    terms, y0 = equation(solver)
    ts = np.linspace(0.03, 1.0, 7)

    def outputs(solver: Any) -> Any:
        saveat = SaveAt(ts=ts, dense=True)
        solution = diffeqsolve(terms, solver, 0.0, 1.0, 0.05, y0, RATE, saveat=saveat, max_steps=32)
        return solution.ys, jax.vmap(solution.interpolation.evaluate)(ts[:-1] + 0.02)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`Wrapper` is meant for equations without noise")
        found = outputs(Wrapper(solver))
    tolerance = 1e-4 if isinstance(solver, rungax.AbstractSymmetricComposition) else 1e-8
    assert_trees_close(found, outputs(solver), rtol=tolerance, atol=tolerance)


class DampedEuler(rungax.Dopri8):
    """A method with a step of its own, whose dense information has nothing of that of its base."""

    interpolation_cls = rungax.LocalLinearInterpolation

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        y1 = y0 + 0.5 * terms.prod(terms.vf(t0, y0, args), terms.contr(t0, t1))
        return y1, None, {"y0": y0, "y1": y1}, solver_state, rungax.RESULTS.successful


class Counting(rungax.Vern7):
    """A method that makes the step of its base and remembers nothing else of it."""

    def step(self, *args: Any) -> Any:
        y1, *others = super().step(*args)
        return 2 * y1, *others


class Mixin:
    def step(self, *args: Any) -> Any:
        y1, *others = super().step(*args)  # pyright: ignore[reportAttributeAccessIssue]
        return 2 * y1, *others


class Mixed(Mixin, rungax.Vern7):
    """The same, by a class that is no solver."""


def test_a_solve_makes_the_steps_of_a_subclass() -> None:
    saveat = SaveAt(ts=[0.25, 0.5, 1.0])
    decay = rungax.ODETerm(lambda t, y, args: -y)
    solution = diffeqsolve(decay, DampedEuler(), 0.0, 1.0, 0.5, 1.0, saveat=saveat)
    np.testing.assert_allclose(solution.ys, [0.875, 0.75, 0.5625])
    rest = rungax.ODETerm(lambda t, y, args: jnp.zeros_like(y))
    for solver in (Counting(), Mixed()):
        np.testing.assert_allclose(diffeqsolve(rest, solver, 0.0, 1.0, 0.5, 1.0).ys, [4.0])


class OwnPair(rungax.AbstractSolver[None]):
    """A symplectic method of somebody's own, for a pair of terms."""

    term_structure = (rungax.AbstractTerm, rungax.AbstractTerm)
    interpolation_cls = rungax.LocalLinearInterpolation

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        return None

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        (f, g), (v, w) = terms, y0
        w1 = jax.tree.map(jnp.add, w, g.vf_prod(t0, v, args, g.contr(t0, t1)))
        y1 = jax.tree.map(jnp.add, v, f.vf_prod(t0, w1, args, f.contr(t0, t1))), w1
        return y1, None, {"y0": y0, "y1": y1}, None, rungax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        (f, g), (v, w) = terms, y0
        return f.vf(t0, w, args), g.vf(t0, v, args)

    def order(self, terms: Any) -> int:
        return 1


def test_a_solver_of_ones_own_for_a_pair_of_terms() -> None:
    """Only it knows the part of the state of each term; values that the terms capture have derivatives."""

    def end(stiffness: Any, solver: Any) -> Any:
        terms = rungax.ODETerm(lambda t, w, args: -stiffness * w), rungax.ODETerm(lambda t, v, args: v)
        return diffeqsolve(terms, solver, 0.0, 1.0, 0.1, (jnp.array(0.5), jnp.array(1.0)), max_steps=16).ys

    def by_hand(stiffness: Any) -> Any:
        v, w = 0.5, 1.0
        for _ in range(10):
            w = w + 0.1 * v
            v = v - 0.1 * stiffness * w
        return v

    found = jax.value_and_grad(lambda k: end(k, OwnPair())[0][0])(2.0)
    assert_trees_close(found, jax.value_and_grad(by_hand)(2.0), rtol=1e-12)


# ---------------------------------------------------------------------------------------------- solvers of users' own


def contr_kwargs_of(solver: Any) -> Any:
    """The options of `contr` that Diffrax's solver of this name states; our own solvers of the same kinds likewise."""
    if isinstance(solver, rungax.HalfSolver):
        return contr_kwargs_of(solver.solver)
    if isinstance(solver, rungax.AbstractSRK) or name(solver) in ("SRIW1", "DRI1"):
        return {}, {"use_levy": True}
    of_two_terms = (rungax.AbstractIMEXRK, *map(type, (*SYMPLECTIC, *STOCHASTIC, *LANGEVIN)))
    return ({}, {}) if isinstance(solver, of_two_terms) else {}


@pytest.mark.parametrize("solver", [*EVERY_SOLVER, rungax.HalfSolver(rungax.SRA1())], ids=name)
def test_every_solver_states_the_options_of_the_increments_that_it_asks_for(solver: Any) -> None:
    assert solver.term_compatible_contr_kwargs == contr_kwargs_of(solver)


class OwnLevySolver(rungax.AbstractStratonovichSolver[None]):
    """A method for additive noise that says which increments it asks for, and what they are."""

    term_structure = rungax.MultiTerm[
        tuple[rungax.AbstractTerm[Any, Any], rungax.AbstractTerm[Any, rungax.AbstractSpaceTimeLevyArea]]
    ]
    interpolation_cls = rungax.LocalLinearInterpolation
    term_compatible_contr_kwargs: ClassVar[Any] = ({}, {"use_levy": True})

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        return None

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        drift, diffusion = terms.terms
        _, options = self.term_compatible_contr_kwargs
        noise = diffusion.contr(t0, t1, **options)
        g = diffusion.vf(t0, y0, args)
        middle = y0 + diffusion.prod(g, 0.5 * noise.W + noise.H)
        y1 = y0 + drift.vf_prod(t0, middle, args, drift.contr(t0, t1)) + diffusion.prod(g, noise.W)
        return y1, None, {"y0": y0, "y1": y1}, None, rungax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)

    def order(self, terms: Any) -> int:
        return 1

    def strong_order(self, terms: Any) -> float:
        return 1.0


class Forgetful(OwnLevySolver):
    """The same method without the options, of whose terms the increments are not what it says."""

    term_compatible_contr_kwargs: ClassVar[Any] = ({}, {})


def test_a_solver_of_ones_own_gets_the_levy_areas_that_it_asks_for() -> None:
    path = rungax.VirtualBrownianTree(0.0, 1.0, 1e-3, (), jax.random.key(3), levy_area=rungax.SpaceTimeLevyArea)
    drift, noise = rungax.ODETerm(lambda t, y, args: -y), rungax.ControlTerm(lambda t, y, args: 0.5, path)
    terms = rungax.MultiTerm(drift, noise)
    solve = lambda solver: diffeqsolve(terms, solver, 0.0, 1.0, 0.25, 1.0).ys[-1]
    y = jnp.asarray(1.0)
    for t in (0.0, 0.25, 0.5, 0.75):
        increment: Any = path.evaluate(t, t + 0.25, use_levy=True)
        y = y - 0.25 * (y + 0.5 * (0.5 * increment.W + increment.H)) + 0.5 * increment.W
    np.testing.assert_allclose(solve(OwnLevySolver()), y, rtol=1e-12)
    with pytest.raises(ValueError, match="AbstractSpaceTimeLevyArea"):
        solve(Forgetful())


# --------------------------------------------------------------------------------- the class of a solver around another

SOLVER_CLASSES = [
    value for value in vars(rungax).values() if isinstance(value, type) and issubclass(value, rungax.AbstractSolver)
]


@pytest.mark.parametrize("solver", EVERY_SOLVER, ids=name)
def test_a_solver_around_another_is_an_instance_of_both_classes(solver: Any) -> None:
    """So it is in Diffrax, also for the bases of both, and for no other class; there its type is `HalfSolver` too."""
    half: Any = rungax.HalfSolver(solver)
    found = {cls for cls in SOLVER_CLASSES if isinstance(half, cls)}
    assert found == {*type(solver).__mro__, *rungax.HalfSolver.__mro__} & set(SOLVER_CLASSES)
    assert type(half) is rungax.HalfSolver
    assert half.__class__.__name__ == "HalfSolver"


def test_around_a_solver_around_another_only_the_outer_two_count() -> None:
    twice = rungax.HalfSolver(rungax.HalfSolver(rungax.Euler()))
    assert isinstance(twice, rungax.HalfSolver)
    assert not isinstance(twice, rungax.Euler)


class Labelled(rungax.HalfSolver[Any]):
    """A subclass with a field of its own."""

    label: str = "mine"


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda solver: pickle.loads(pickle.dumps(solver)),
    "replace": dataclasses.replace,
    "flatten": lambda solver: jax.tree.unflatten(jax.tree.structure(solver), jax.tree.leaves(solver)),
    "tree_at": lambda solver: eqx.tree_at(lambda s: s.solver, solver, solver.solver),
    "jit": eqx.filter_jit(lambda solver: solver),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("solver", [rungax.Euler(), rungax.Kvaerno5(), rungax.ALIGN(0.3)], ids=name)
def test_copies_of_a_solver_around_another_are_equal_to_it(copied: Callable[[Any], Any], solver: Any) -> None:
    for half in (rungax.HalfSolver(solver), Labelled(solver, "other")):
        found = copied(half)
        assert type(found) is type(half)
        assert eqx.tree_equal(found, half)
        assert isinstance(found, type(solver))
        assert repr(found).startswith(type(half).__name__)


def test_another_object_in_the_place_of_the_solver_has_no_class_to_tell_of() -> None:
    """`eqx.tree_at` and transformations put such objects there."""
    half = eqx.tree_at(lambda s: s.solver, rungax.HalfSolver(rungax.Euler()), 3)
    assert half.__class__ is rungax.HalfSolver
    assert not isinstance(half, rungax.Euler)


def test_automatic_switching_needs_an_explicit_method_itself() -> None:
    """The coefficients are used, which a solver around one does not have."""
    assert isinstance(rungax.Auto(stiff=rungax.HalfSolver(rungax.Rodas4())).stiff, rungax.Rodas4)
    with pytest.raises(ValueError, match=r"(?s)Auto\(nonstiff.*Found:    HalfSolver"):
        rungax.Auto(nonstiff=rungax.HalfSolver(rungax.Tsit5()))  # pyright: ignore[reportArgumentType]


# ------------------------------------------------------------------------------------------------------ smaller things


@pytest.mark.parametrize(
    "solver",
    [
        rungax.Tsit5(),
        rungax.Kvaerno3(),
        *(pytest.param(s, marks=pytest.mark.slow) for s in (rungax.KenCarp3(), rungax.KahanLi8())),
    ],
    ids=name,
)
@pytest.mark.parametrize(("of_field", "of_state"), [("float32", "float64"), ("float64", "float32")])
def test_a_field_of_another_width_is_cast_to_that_of_the_state(solver: Any, of_field: str, of_state: str) -> None:
    field = lambda t, y, args: (-y.astype(of_field)).astype(of_field)
    terms: Any = terms_for(solver, field)
    y0: Any = jnp.asarray([1.0, 2.0], of_state)
    if solver in (rungax.KahanLi8(),):
        terms, y0 = (terms, terms), (y0, y0)
    ys = diffeqsolve(terms, solver, 0.0, 1.0, 0.125, y0, max_steps=16).ys
    assert {y.dtype for y in jax.tree.leaves(ys)} == {jnp.dtype(of_state)}


NO_SOLUTION = {
    "square": lambda t, y, args: y**2,
    "square and one": lambda t, y, args: 1 + y**2,
    "exponential": lambda t, y, args: jnp.exp(y),
}
"""Fields for which the equations of a long implicit step have no solution."""


@pytest.mark.parametrize("field", NO_SOLUTION.values(), ids=NO_SOLUTION.keys())
@pytest.mark.parametrize(
    "solver", [rungax.ImplicitEuler(), pytest.param(rungax.Kvaerno5(), marks=pytest.mark.slow)], ids=name
)
def test_a_constant_step_whose_equations_have_no_solution_diverges(solver: Any, field: Any) -> None:
    solution = diffeqsolve(rungax.ODETerm(field), solver, 0.0, 3.0, 1.5, 1.0, throw=False)
    assert solution.result == rungax.RESULTS.nonlinear_divergence
    assert int(solution.stats["num_steps"]) == 1


@pytest.mark.parametrize("rate", [0.1, 1.0, 10.0, 100.0])
def test_a_constant_step_whose_equations_newtons_iteration_solves_succeeds(rate: float) -> None:
    """Its first corrections say nothing about its convergence, which becomes faster."""
    finder = rungax.VeryChord(rtol=1e-9, atol=1e-12)
    field = rungax.ODETerm(lambda t, y, args: -args * y**3)
    y = diffeqsolve(field, rungax.ImplicitEuler(root_finder=finder), 0.0, 1.0, 1.0, 1.0, rate).ys[-1]
    np.testing.assert_allclose(y + rate * y**3, 1.0, rtol=1e-8)


class OwnController(rungax.AbstractStepSizeController[None, Any]):
    """Steps of a tenth, by a controller without a state."""

    def wrap(self, direction: Any) -> Any:
        return self

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any) -> Any:
        return t0 + dt0, None

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: Any,
        y1_candidate: Any,
        args: Any,
        y_error: Any,
        error_order: Any,
        controller_state: Any,
    ) -> Any:
        return jnp.array(True), t1, t1 + 0.1, jnp.array(False), None, rungax.RESULTS.successful


@pytest.mark.parametrize(
    ("controller", "dt0"),
    [
        (rungax.ConstantStepSize(), 0.1),
        (rungax.StepTo(np.linspace(0.0, 1.0, 5)), None),
        (PIDController(rtol=1e-3, atol=1e-6), None),
        (rungax.ClipStepSizeController(PIDController(rtol=1e-3, atol=1e-6), step_ts=[0.5]), None),
        (rungax.ClipStepSizeController(PIDController(rtol=1e-3, atol=1e-6), jump_ts=[0.5]), None),
        (OwnController(), 0.1),
    ],
    ids=["constant", "StepTo", "PID", "step_ts", "jump_ts", "own"],
)
def test_every_controller_hands_out_its_state_and_whether_there_was_a_jump(controller: Any, dt0: Any) -> None:
    saveat = SaveAt(t1=True, controller_state=True, made_jump=True)
    decay = rungax.ODETerm(lambda t, y, args: -y)
    solve = lambda: diffeqsolve(decay, rungax.Tsit5(), 0, 1, dt0, 1.0, stepsize_controller=controller, saveat=saveat)
    solution = solve()
    assert solution.controller_state is not None
    assert solution.made_jump is not None
    assert not solution.made_jump


@pytest.mark.parametrize(
    ("solver", "dtype"),
    [
        pytest.param(rungax.QUICSORT, "float64"),
        pytest.param(rungax.QUICSORT, "float16", marks=pytest.mark.slow),
        pytest.param(rungax.ALIGN, "float64", marks=pytest.mark.slow),
        pytest.param(rungax.ShOULD, "float64", marks=pytest.mark.slow),
    ],
)
def test_any_threshold_from_zero_gives_the_same_solution(solver: Any, dtype: str) -> None:
    """Also at a friction of zero, where the closed formulas are 0/0, and with states of half precision."""
    shape, areas = jax.ShapeDtypeStruct((2,), dtype), rungax.SpaceTimeTimeLevyArea
    path = rungax.VirtualBrownianTree(0.0, 1.0, 1e-2, shape, jax.random.key(7), levy_area=areas)
    y0 = jnp.asarray(Y0, dtype), jnp.asarray(-Y0, dtype)

    def ends(threshold: Any) -> Any:
        def end(friction: Any) -> Any:
            gamma = friction * jnp.asarray([1.0, 0.5], dtype)
            drift = rungax.UnderdampedLangevinDriftTerm(gamma, 1.0, lambda x, args: x)
            terms = rungax.MultiTerm(drift, rungax.UnderdampedLangevinDiffusionTerm(gamma, 1.0, path))
            return diffeqsolve(terms, solver(threshold), 0.0, 1.0, 0.25, y0, max_steps=8).ys

        return jax.jit(jax.vmap(end))(jnp.asarray([0.0, 1e-5, 1.0], dtype))

    tolerance, expected = (1e-6 if dtype == "float64" else 5e-2), ends(0.1)
    for threshold in (0, 1e300):
        assert_trees_close(ends(threshold), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("threshold", [-0.1, float("nan"), "small"])
def test_a_threshold_below_zero_is_refused(threshold: Any) -> None:
    with pytest.raises(ValueError, match=r"(?s)taylor_threshold.*from 0.*Found:"):
        rungax.QUICSORT(taylor_threshold=threshold)


def test_the_embedded_weights_of_sil3_are_those_of_diffrax() -> None:
    """The paper has none. The implicit ones end in the third-order quadrature 1/4, 3/4 at the nodes 0 and 2/3."""
    explicit, implicit = rungax.Sil3.tableau.tableaus
    assert explicit.b_error is not None
    assert implicit.b_error is not None
    np.testing.assert_allclose(explicit.b_error, [0.0, 0.5, -1.0, 0.5], atol=1e-15)
    np.testing.assert_allclose(implicit.b_error, [0.125, 0.0, -0.375, 0.25], atol=1e-15)
