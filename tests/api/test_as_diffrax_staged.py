"""Values that are wrong raise where nothing is being staged; in a program they are a result, and the same words.

A branch of `lax.cond` is traced whether it is taken or not, so checks of known values must not raise there. `jax.vmap`
and `jax.grad` alone stage nothing.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rungax
from rungax import RESULTS, ControlTerm, Heun, MultiTerm, PIDController, SaveAt, StepTo, VirtualBrownianTree
from rungax.jaxkit import AbstractChecked
from tests.catalogue import slow_unless
from tests.tracing.hlo import compiled

NAN = float("nan")
KEY = jax.random.key(0)
ONE = jnp.asarray(1.0)
AS_JAX_RAISES = (RuntimeError, ValueError)
"""The error of a callback is a `JaxRuntimeError`, and a `ValueError` if the program has been called before."""
KNOTS, OUT_OF_ORDER = np.asarray([0.0, 0.5, 1.0]), np.asarray([0.0, 0.7, 0.6])
KNOTS_OF_JAX, OUT_OF_ORDER_OF_JAX, NAN_OF_JAX = jnp.asarray(KNOTS), jnp.asarray(OUT_OF_ORDER), jnp.asarray([NAN])


def decay(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(jnp.negative, y)


def solve(y0: Any, **changes: Any) -> rungax.Solution:
    call: dict[str, Any] = {
        "terms": decay, "solver": Heun(), "t0": 0.0, "t1": 1.0, "dt0": 0.5, "max_steps": 4, "throw": False, **changes,
    }  # fmt: skip
    return rungax.diffeqsolve(y0=y0, **call)


def driven(path: Any) -> dict[str, Any]:
    return {"terms": ControlTerm(lambda t, y, args: y, path)}


def data(path: Any) -> dict[str, Any]:
    return {"terms": ControlTerm(lambda t, y, args: y, path).to_ode()}


def langevin(gamma: Any = 1.0, u: Any = 1.0, gamma_of_noise: Any = 1.0, u_of_noise: Any = 1.0) -> dict[str, Any]:
    path = rungax.UnsafeBrownianPath((), KEY, levy_area=rungax.SpaceTimeLevyArea)
    drift = rungax.UnderdampedLangevinDriftTerm(gamma, u, lambda x, args: x)
    noise = rungax.UnderdampedLangevinDiffusionTerm(gamma_of_noise, u_of_noise, path)
    return {"terms": MultiTerm(drift, noise), "solver": rungax.ALIGN()}


def tree(t0: Any = 0.0, t1: Any = 1.0, tol: Any = 0.25) -> VirtualBrownianTree:
    return VirtualBrownianTree(t0, t1, tol, (), KEY)


def adaptive(**options: Any) -> dict[str, Any]:
    return {"stepsize_controller": PIDController(**{"rtol": 1e-3, "atol": 1e-3, **options})}


def clipped(**times: Any) -> dict[str, Any]:
    return {"stepsize_controller": rungax.ClipStepSizeController(PIDController(rtol=1e-3, atol=1e-3), **times)}


def cubic(ts: Any) -> rungax.CubicInterpolation:
    return rungax.CubicInterpolation(ts, (jnp.ones(2),) * 4)


def tangents(rtol: float) -> dict[str, Any]:
    return {**adaptive(rtol=rtol), "adjoint": rungax.RecursiveCheckpointAdjoint(error_control="tangents")}


CALLS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "start": (lambda: {"t0": NAN}, "`t0` must be a number"),
    "end": (lambda: {"t1": NAN}, "`t1` must be a number"),
    "step backwards": (lambda: {"dt0": -0.5}, "`dt0` must lead from `t0`"),
    "no step": (lambda: {"dt0": 0.0}, "`dt0` must lead from `t0`"),
    "step not a number": (lambda: {"dt0": np.asarray(NAN)}, "`dt0` must lead from `t0`"),
    "saved outside": (lambda: {"saveat": SaveAt(ts=[0.5, 1.5])}, "must lie between `t0` and `t1`"),
    "saved out of order": (lambda: {"saveat": SaveAt(ts=OUT_OF_ORDER)}, "sorted in the direction of travel"),
    "steps elsewhere": (lambda: {"stepsize_controller": StepTo([0.0, 0.5]), "dt0": None}, "The times of `StepTo`"),
    "short path": (lambda: driven(tree(t1=0.5)), "must reach over the whole solve"),
    "friction of two sizes": (lambda: langevin(gamma=2.0), "must have the same `gamma`"),
    "inverse mass of two sizes": (lambda: langevin(ONE, u_of_noise=2), "must have the same `u`"),
    "no tolerance for tangents": (lambda: tangents(0.0), "a relative tolerance above 0"),
    # Values that constructors check.
    "PIDController": (lambda: adaptive(rtol=-1e-3), "`PIDController(rtol=...)` bounds"),
    "PIDController.atol": (lambda: adaptive(atol={"a": -1}), "`PIDController(atol=...)` bounds"),
    "PIDController of zeros": (lambda: adaptive(rtol=0, atol=0.0), "at least one of them positive"),
    "ClipStepSizeController": (lambda: clipped(step_ts=[0.5, NAN]), "`step_ts` must be numbers"),
    "ClipStepSizeController.jump_ts": (lambda: clipped(jump_ts=NAN_OF_JAX), "`jump_ts` must be numbers"),
    "TextProgressMeter": (lambda: {"progress_meter": rungax.TextProgressMeter(-0.1)}, "`TextProgressMeter("),
    "VirtualBrownianTree": (lambda: driven(tree(tol=0.0)), "`tol` must be positive"),
    "VirtualBrownianTree.t1": (lambda: driven(tree(t0=2.0)), "`t0` must be less than `t1`"),
    "UnderdampedLangevinDriftTerm": (lambda: langevin(-1.0, gamma_of_noise=-1.0), "DriftTerm(gamma=...)` must not"),
    "UnderdampedLangevinDiffusionTerm": (lambda: langevin(u_of_noise=np.asarray(-1.0)), "DiffusionTerm(u=...)`"),
    "LinearInterpolation": (lambda: data(rungax.LinearInterpolation(OUT_OF_ORDER, KNOTS)), "the times of the knots"),
    "LinearInterpolation of arrays": (
        lambda: data(rungax.LinearInterpolation(OUT_OF_ORDER_OF_JAX, KNOTS_OF_JAX)), "Found:    [0, 0.7, 0",
    ),
    "CubicInterpolation": (lambda: data(cubic(OUT_OF_ORDER)), "the times of the knots"),
    "ReversibleAdjoint": (lambda: {"adjoint": rungax.ReversibleAdjoint(coupling=2.0)}, "ReversibleAdjoint(coupling"),
}  # fmt: skip
"""For each check of values a call that it refuses, and words of the error."""

LANGEVIN = {name for name, (make, _) in CALLS.items() if "langevin" in make.__code__.co_names}


def state(name: str) -> Any:
    return (ONE, ONE) if name in LANGEVIN else {"a": ONE} if name == "PIDController.atol" else ONE


def refusal(name: str) -> str:
    """The error of a call where nothing is staged."""
    make, words = CALLS[name]
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        solve(state(name), **make())
    return str(error.value)


def often(names: Iterable[str], *chosen: str) -> list[Any]:
    """The names as parameters, all but the chosen ones slow: each compiles a program of its own."""
    return [pytest.param(name, marks=slow_unless(name in chosen)) for name in names]


OFTEN = "step backwards", "saved out of order", "steps elsewhere", "PIDController", "LinearInterpolation"


@pytest.mark.parametrize("name", CALLS)
def test_a_branch_with_a_wrong_value_does_not_raise_while_it_is_traced(name: str) -> None:
    y0 = state(name)
    last = lambda **options: jax.tree.map(lambda y: y[-1], solve(y0, **options).ys)
    wrong = lambda: last(**CALLS[name][0](), throw=True)
    ys = jax.eval_shape(lambda is_taken: lax.cond(is_taken, wrong, lambda: y0), True)
    assert jax.tree.structure(ys) == jax.tree.structure(y0)


@pytest.mark.parametrize("name", often(CALLS, *OFTEN))
def test_a_wrong_value_raises_unless_a_branch_with_it_is_not_taken(name: str) -> None:
    message, y0 = refusal(name), state(name)

    def ended(**options: Any) -> tuple[Any, Any]:
        solution = solve(y0, **options)
        return solution.result, jax.tree.map(lambda y: y[-1], solution.ys)

    branches = [
        lambda: ended(dt0=0.25),
        lambda: ended(**CALLS[name][0]()),
        lambda: ended(**CALLS[name][0](), throw=True),
    ]
    program = eqx.filter_jit(lambda index: lax.switch(index, branches))
    result, ys = program(jnp.asarray(0))
    assert result == RESULTS.successful
    assert all(np.isfinite(y) for y in jax.tree.leaves(ys))
    result, ys = program(jnp.asarray(1))
    assert result == RESULTS.invalid_input
    assert all(np.isnan(y) for y in jax.tree.leaves(ys))
    with pytest.raises(AS_JAX_RAISES) as error:
        program(jnp.asarray(2))
    assert message in str(error.value)


@pytest.mark.parametrize("name", CALLS)
def test_a_batch_and_a_derivative_stage_nothing(name: str) -> None:
    make, words = CALLS[name]
    y0 = state(name)
    last = lambda y0: jax.tree.reduce(jnp.add, jax.tree.map(jnp.sum, solve(y0, **make()).ys))
    for transformed, at in (
        (jax.vmap(last), jax.tree.map(lambda y: jnp.stack([y, y]), y0)),
        (jax.grad(last), y0),
        (jax.hessian(last), y0),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            transformed(at)


STAGES: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "eval_shape": lambda f: jax.eval_shape(f, ONE),
    "make_jaxpr": lambda f: jax.make_jaxpr(f)(ONE),
    "vmap of jit": lambda f: jax.make_jaxpr(jax.vmap(jax.jit(f)))(jnp.ones(2)),
    "jit of vmap": lambda f: jax.eval_shape(jax.vmap(f), jnp.ones(2)),
    "jit of grad": lambda f: jax.eval_shape(jax.grad(f), ONE),
    "checkpoint": lambda f: jax.eval_shape(jax.checkpoint(f), ONE),
    "scan": lambda f: jax.make_jaxpr(lambda y: lax.scan(lambda y, _: (f(y), None), y, None, length=2))(ONE),
    "while": lambda f: jax.make_jaxpr(lambda y: lax.while_loop(lambda y: y > 2.0, f, y))(ONE),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["step backwards", "PIDController", "VirtualBrownianTree", "LinearInterpolation"])
def test_nothing_raises_while_a_program_is_staged(stage: str, name: str) -> None:
    STAGES[stage](lambda y: solve(y, **CALLS[name][0](), throw=True).ys[-1])


def test_a_program_with_a_wrong_value_can_be_exported() -> None:
    exported = jax.export.export(jax.jit(lambda y: solve(y, dt0=-0.5).ys))(ONE)
    assert np.isnan(exported.call(ONE)).all()


def test_every_class_whose_constructor_checks_values_is_tried() -> None:
    def final(cls: type) -> set[str]:
        below = cls.__subclasses__()
        return set().union(*map(final, below)) if below else {cls.__name__}

    here = {name for name in final(AbstractChecked) if hasattr(rungax, name)}
    assert here
    assert here <= set(CALLS)


# ----------------------------------------------------------------------------------------------------- traced values

TRACED: dict[str, tuple[Callable[[Any], dict[str, Any]], float, float]] = {
    "step": (lambda x: {"dt0": x}, 0.5, -0.5),
    "end of a path": (lambda x: driven(tree(t1=x)), 1.0, 0.5),
    "tolerance of a path": (lambda x: driven(tree(tol=x)), 0.25, 0.0),
    "friction": (lambda x: langevin(x, gamma_of_noise=x), 1.0, -1.0),
    "knot": (lambda x: data(rungax.LinearInterpolation(jnp.stack([x, x + 1.0]), jnp.ones(2))), 0.0, NAN),
    "coupling": (lambda x: {"adjoint": rungax.ReversibleAdjoint(coupling=x)}, 0.9, 1.5),
}
"""For values of each kind a call, a value that is right, and one that is wrong."""


@pytest.mark.parametrize("name", often(TRACED, "step", "knot", "coupling"))
def test_one_wrong_element_of_a_batch_does_not_spoil_the_others(name: str) -> None:
    make, right, wrong = TRACED[name]
    y0 = (ONE, ONE) if name == "friction" else ONE

    def ended(x: Any) -> tuple[Any, Any]:
        solution = solve(y0, **make(x))
        return solution.result, solution.ys

    for batched in (jax.vmap(ended), jax.jit(jax.vmap(ended))):
        results, ys = batched(jnp.asarray([right, wrong, right]))
        assert (results == RESULTS.invalid_input).tolist() == [False, True, False]
        for y in jax.tree.leaves(ys):
            assert np.isnan(y).reshape(3, -1).all(axis=1).tolist() == [False, True, False]


CLAIMS = {
    "step": "`dt0` must lead from `t0` towards `t1`",
    "end of a path": "A Brownian path must reach over the whole solve.",
    "tolerance of a path": "`tol` must be positive",
    "friction": "`UnderdampedLangevinDriftTerm(gamma=...)` must not be negative.",
    "knot": "`ts` are the times of the knots.",
    "coupling": "`ReversibleAdjoint(coupling=...)` weighs",
}


@pytest.mark.parametrize("name", often(TRACED, "step", "knot"))
def test_a_program_says_which_of_the_traced_values_is_wrong(name: str) -> None:
    make, right, wrong = TRACED[name]
    y0 = (ONE, ONE) if name == "friction" else ONE
    program = eqx.filter_jit(lambda x, t1: solve(y0, t1=t1, **make(x), throw=True).ys)
    assert all(np.isfinite(y).all() for y in jax.tree.leaves(program(jnp.asarray(right), ONE)))
    with pytest.raises(AS_JAX_RAISES, match=re.escape(CLAIMS[name])):
        program(jnp.asarray(wrong), ONE)
    with pytest.raises(AS_JAX_RAISES, match=r"invalid.*`t1` must be a number"):
        program(jnp.asarray(right), NAN * ONE)


def test_objects_in_the_arguments_of_the_field_are_checked() -> None:
    field = lambda t, y, path: path.evaluate(t) * y
    program = jax.jit(lambda y: solve(y, terms=field, args=rungax.LinearInterpolation(OUT_OF_ORDER, KNOTS)).result)
    assert program(ONE) == RESULTS.invalid_input


# ---------------------------------------------------------------------------------------------------------- derivatives


ADJOINTS = [
    rungax.RecursiveCheckpointAdjoint(),
    *(
        pytest.param(adjoint, marks=pytest.mark.slow)
        for adjoint in (rungax.BacksolveAdjoint(), rungax.DirectAdjoint(), rungax.ReversibleAdjoint())
    ),
]


@pytest.mark.parametrize("adjoint", ADJOINTS)
@pytest.mark.parametrize("name", ["step backwards", "PIDController"])
def test_the_derivative_of_an_invalid_solve_is_not_a_number_and_zero_where_it_has_no_cotangent(
    name: str, adjoint: Any
) -> None:
    def chosen(y0: Any, is_taken: Any) -> Any:
        last = lambda y0: solve(y0, **CALLS[name][0](), adjoint=adjoint).ys[-1]
        return lax.cond(is_taken, last, lambda y0: 3.0 * y0, y0) + jnp.where(y0 > 0.0, 2.0 * y0, last(y0))

    derivative = jax.jit(jax.grad(chosen))
    assert np.isnan(derivative(ONE, True))
    assert derivative(ONE, False) == 5.0


# --------------------------------------------------------------------------------------------------- outside of a solve


def test_a_path_that_is_wrong_in_a_program_is_not_a_number() -> None:
    assert np.isnan(jax.jit(lambda t: tree(tol=-1.0).evaluate(t))(0.5))
    for ts in (OUT_OF_ORDER, OUT_OF_ORDER_OF_JAX):
        assert np.isnan(jax.jit(lambda t, ts=ts: cubic(ts).evaluate(t))(0.5))
    assert np.isnan(jax.jit(lambda ts: cubic(ts).evaluate(0.5))(OUT_OF_ORDER))
    assert np.isnan(jax.jit(lambda y: rungax.linear_interpolation(OUT_OF_ORDER, y))(KNOTS)).all()
    path = tree()
    assert np.isnan(jax.jit(lambda x: path.evaluate(2.0) * x)(1.0))
    with pytest.raises(ValueError, match=r"must lie in the tree's interval \[0.0, 1.0\]; found 2.0"):
        jax.vmap(lambda x: path.evaluate(2.0) * x)(jnp.ones(2))


def test_a_method_stepped_by_hand_in_a_program_reports_coefficients_that_differ() -> None:
    arguments = langevin(gamma=2.0)
    solver, terms = arguments["solver"], arguments["terms"]

    def result(t1: Any) -> Any:
        first = solver.init(terms, 0.0, t1, (ONE, ONE), None)
        return solver.step(terms, 0.0, t1, (ONE, ONE), None, first, False)[-1]

    assert jax.jit(result)(0.5) == RESULTS.invalid_input
    with pytest.raises(ValueError, match="the same `gamma`"):
        result(0.5)


def test_an_estimate_of_the_error_of_derivatives_says_the_same() -> None:
    def estimate(y0: Any, throw: bool) -> Any:
        return rungax.derivative_error(
            decay, rungax.Tsit5(), 0.0, 1.0, -0.5, y0, throw=throw, **adaptive(), max_steps=8, directions=1
        ).error

    program = jax.jit(lambda y0: estimate(y0, throw=False))
    assert np.isnan(program(ONE)).all()
    with pytest.raises(RuntimeError, match="`dt0` must lead from `t0` towards `t1`"):
        eqx.filter_jit(lambda y0: estimate(y0, throw=True))(ONE)


# ----------------------------------------------------------------------------------------------------------------- cost


def test_checks_of_known_values_add_nothing_to_a_program() -> None:
    ts, ys = jnp.asarray(KNOTS), jnp.asarray(KNOTS)

    def solved(y0: Any, path: Any) -> Any:
        return solve(y0, **data(path)).ys

    known = compiled(lambda y0: solved(y0, rungax.LinearInterpolation(ts, ys)), ONE)
    unchecked = compiled(lambda y0: solved(y0, _Unchecked(ts, ys)), ONE)
    assert known.cost_analysis()["flops"] == unchecked.cost_analysis()["flops"]
    checked = compiled(lambda y0, ts: solved(y0, rungax.LinearInterpolation(ts, ys)), ONE, ts)
    assert checked.cost_analysis()["flops"] > unchecked.cost_analysis()["flops"]


class _Unchecked(rungax.LinearInterpolation):
    """An interpolation without conditions."""

    def value_conditions(self) -> Any:
        return iter(())
