"""`VeryChord` works with `optimistix.root_find`, and every Optimistix root finder works in an implicit solver."""

from collections.abc import Callable
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import ODETerm, VeryChord, with_stepsize_controller_tols

from ..catalogue import IMPLICIT, SPLIT, name, slow_unless, terms_around

FINDER = VeryChord(rtol=1e-10, atol=1e-10)


def kepler(y: Any, args: Any) -> Any:
    """The root is the eccentric anomaly at mean anomaly 1."""
    return y - args * jnp.sin(y) - 1.0


def anomaly(eccentricity: Any) -> Any:
    return optx.root_find(kepler, FINDER, jnp.asarray(1.0), eccentricity).value


# ------------------------------------------------------------------------------------------- with optimistix.root_find


def test_a_scalar_under_jit_and_vmap() -> None:
    values = jnp.asarray([0.1, 0.3, 0.5])
    roots = jax.jit(jax.vmap(anomaly))(values)
    np.testing.assert_allclose(kepler(roots, values), 0.0, atol=1e-10)
    np.testing.assert_allclose(roots, [anomaly(value) for value in values], atol=1e-10)


def test_derivatives_by_the_implicit_function_theorem() -> None:
    e = np.asarray(0.3)

    @jax.jit
    def derivatives(e: Any) -> list[Any]:
        by_forward = jax.jvp(anomaly, (e,), (jnp.ones_like(e),))[1]
        return [jax.grad(anomaly)(e), by_forward, jax.vmap(jax.grad(anomaly))(e[None])[0]]

    y = float(anomaly(jnp.asarray(e)))
    np.testing.assert_allclose(derivatives(e), np.sin(y) / (1 - e * np.cos(y)), rtol=1e-8)


def test_a_pytree_with_tolerances_for_each_leaf() -> None:
    def residual(y: Any, args: Any) -> Any:
        return {"a": y["a"] ** 3 - 8.0, "b": (y["b"][0] ** 2 - args,)}

    tolerance = {"a": 1e-9, "b": (1e-6,)}
    start = {"a": jnp.full((2, 2), 1.9), "b": (jnp.asarray(1.4),)}
    root = optx.root_find(residual, VeryChord(rtol=tolerance, atol=tolerance), start, jnp.asarray(2.0)).value
    np.testing.assert_allclose(root["a"], np.full((2, 2), 2.0), rtol=1e-9)
    np.testing.assert_allclose(root["b"][0], np.sqrt(2), rtol=1e-6)


def test_the_auxiliary_output_is_handed_on() -> None:
    solution = optx.root_find(lambda y, args: (y - 1, 2 * y), FINDER, jnp.asarray(0.0), has_aux=True)
    assert float(solution.aux) == pytest.approx(2.0)


@pytest.mark.filterwarnings("ignore:Complex support in Optimistix:UserWarning")
def test_a_complex_unknown() -> None:
    """The second function is not differentiable in the complex sense."""
    for function in (lambda z: jnp.exp(z), lambda z: z * z + 0.1 * jnp.conj(z)):
        root = jnp.asarray(0.2 + 1.3j)
        target = function(root)
        found = optx.root_find(lambda z, _, f=function, w=target: f(z) - w, FINDER, root + (0.1 - 0.05j)).value
        np.testing.assert_allclose(found, root, rtol=1e-9)


@pytest.mark.parametrize(
    ("function", "start"), [(jnp.arctan, 10.0), (lambda y: y * y + 1, 1.0)], ids=["far away", "no root"]
)
def test_divergence_is_a_result(function: Callable[[Any], Any], start: float) -> None:
    solution = optx.root_find(lambda y, _: function(y), FINDER, jnp.asarray(start), throw=False)
    assert solution.result == optx.RESULTS.nonlinear_divergence
    assert int(solution.stats["num_steps"]) < 10


def test_too_many_iterations_are_a_result() -> None:
    solution = optx.root_find(kepler, FINDER, jnp.asarray(1.0), 0.5, max_steps=2, throw=False)
    assert solution.result == optx.RESULTS.nonlinear_max_steps_reached


@pytest.mark.parametrize(
    "linear_solver",
    [lx.LU(), lx.QR(), rungax.SmallLU(), lx.GMRES(rtol=1e-10, atol=1e-10)],
    ids=lambda solver: type(solver).__name__,
)
def test_any_linear_solver(linear_solver: Any) -> None:
    finder = VeryChord(rtol=1e-8, atol=1e-8, linear_solver=linear_solver)
    root = optx.root_find(lambda y, _: y**3 - jnp.arange(1.0, 4.0), finder, jnp.asarray([1.0, 1.25, 1.45])).value
    np.testing.assert_allclose(root, np.cbrt([1, 2, 3]), rtol=1e-7)


# --------------------------------------------------------------------------------------------------- in every step


def oscillator(t: Any, y: Any, args: Any) -> Any:
    """Van der Pol's oscillator, moderately stiff."""
    return jnp.stack([y[1], 20 * (1 - y[0] ** 2) * y[1] - y[0]])


TERM, Y0 = ODETerm(oscillator), jnp.asarray([2.0, 0.0])
ADAPTIVE = rungax.PIDController(rtol=1e-7, atol=1e-9)


def end(finder: Any = None, adaptive: bool = True, **options: Any) -> np.ndarray:
    solver = rungax.Kvaerno5(**options) if finder is None else rungax.Kvaerno5(root_finder=finder, **options)
    controller = ADAPTIVE if adaptive else rungax.ConstantStepSize()
    return np.asarray(rungax.diffeqsolve(TERM, solver, 0.0, 1.0, 0.05, Y0, stepsize_controller=controller).ys)[0]


@cache
def end_by_default(adaptive: bool) -> np.ndarray:
    return end(adaptive=adaptive)


FINDERS: dict[str, Any] = {
    "VeryChord": VeryChord(rtol=1e-10, atol=1e-10),
    "VeryChord, max_norm": VeryChord(rtol=1e-9, atol=1e-9, norm=optx.max_norm, kappa=0.1),
    "VeryChord, GMRES": VeryChord(rtol=1e-10, atol=1e-10, linear_solver=lx.GMRES(rtol=1e-10, atol=1e-12)),
    "Newton": optx.Newton(rtol=1e-10, atol=1e-10),
    "Chord": optx.Chord(rtol=1e-10, atol=1e-10),
    "Newton, tolerances": with_stepsize_controller_tols(optx.Newton)(),
    "Chord, tolerances": with_stepsize_controller_tols(optx.Chord)(),
    "VeryChord, tolerances": with_stepsize_controller_tols(VeryChord)(kappa=1e-3),
    "Dogleg, tolerances": with_stepsize_controller_tols(optx.Dogleg)(),
    "LevenbergMarquardt, tolerances": with_stepsize_controller_tols(optx.LevenbergMarquardt)(),
}
CASES = [
    pytest.param(finder, id=form, marks=slow_unless(form in ("VeryChord", "Newton, tolerances")))
    for form, finder in FINDERS.items()
]


@pytest.mark.parametrize(
    "adaptive", [pytest.param(False, id="fixed", marks=pytest.mark.slow), pytest.param(True, id="adaptive")]
)
@pytest.mark.parametrize("finder", CASES)
def test_any_root_finder_gives_the_same_solution(finder: Any, adaptive: bool) -> None:
    found = end(finder, adaptive, root_find_max_steps=50)
    np.testing.assert_allclose(found, end_by_default(adaptive), rtol=1e-6)


class TakesTolerances(optx.Newton):
    """A root finder that records its tolerances."""

    def __post_init__(self) -> None:
        SEEN.append((self.rtol, self.atol, self.norm))


SEEN: list[Any] = []


def test_tolerances_are_those_of_the_controller() -> None:
    SEEN.clear()
    finder = with_stepsize_controller_tols(TakesTolerances)()
    solver = rungax.ImplicitEuler(root_finder=finder)
    controller = rungax.ClipStepSizeController(
        rungax.PIDController(rtol=1e-3, atol=1e-4, norm=optx.max_norm), step_ts=[0.5]
    )

    def tolerances(solver: Any) -> Any:
        given = controller.tolerances()
        assert given is not None
        return solver.with_tolerances(given, jnp.zeros(1)).root_finder

    found = tolerances(solver)
    assert (found.rtol, found.atol, found.norm) == (1e-3, 1e-4, optx.max_norm)
    explicit = rungax.ImplicitEuler(root_finder=FINDER)
    assert tolerances(explicit) is FINDER


def cubic_decay(dtype: Any, **options: Any) -> tuple[np.ndarray, float]:
    """The solution after four fixed steps of the implicit Euler method, and its exact value."""
    y0, t0, t1, dt0 = (jnp.asarray(x, dtype) for x in (1.0, 0.0, 1.0, 0.25))
    solver = rungax.ImplicitEuler(**options)
    solution = rungax.diffeqsolve(lambda t, y, args: -(y**3), solver, t0, t1, dt0, y0)
    y = 1.0
    for _ in range(4):
        roots = np.roots([0.25, 0.0, 1.0, -y])
        y = float(roots[roots.imag == 0].real[0])
    return np.asarray(solution.ys)[0], y


@pytest.mark.parametrize(("dtype", "accuracy"), [(np.float64, 1e-11), (np.float32, 1e-6)], ids=["float64", "float32"])
def test_without_error_control_tolerances_follow_the_machine_precision(dtype: Any, accuracy: float) -> None:
    """The error that is left in a stage is a few roundings, or little more."""
    found, expected = cubic_decay(dtype, root_find_max_steps=50)
    np.testing.assert_allclose(found, expected, rtol=accuracy)


def test_without_error_control_the_defaults_solve_an_easy_equation() -> None:
    found, expected = cubic_decay(np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# `stiff/test_fixed_steps.py` has solvers with several stages.
@pytest.mark.parametrize(
    "solver",
    [pytest.param(type(s), id=name(s), marks=slow_unless(name(s) == "ImplicitEuler")) for s in IMPLICIT + SPLIT],
)
def test_without_error_control_every_solver_solves_a_stiff_equation(solver: type[Any]) -> None:
    """1 / (1 + t) attracts its neighbours at the rate of a thousand; no tolerances are given."""
    field = lambda t, y, args: -1e3 * (y - 1 / (1 + t)) * (1 + y * y) - 1 / (1 + t) ** 2
    method = solver()
    y1 = rungax.diffeqsolve(terms_around(method, ODETerm(field)), method, 0.0, 1.0, 0.1, jnp.asarray(1.0)).ys[0]
    np.testing.assert_allclose(y1, 0.5, rtol=1e-3)


@pytest.mark.parametrize("rates", [(-1.0, -0.5), (-1e-3, -1e3)], ids=str)
def test_rounding_is_no_divergence(rates: tuple[float, float]) -> None:
    """Linear equations at a fixed step: after one iteration the residuals are rounding, and do not shrink."""
    terms = rungax.MultiTerm(*(ODETerm(lambda t, y, args, i=i: args[i] * y) for i in range(2)))
    finder = VeryChord(rtol=1e-5, atol=1e-6)
    y0 = np.linspace(1.0, 3.0, 5)
    solution = rungax.diffeqsolve(terms, rungax.KenCarp4(root_finder=finder), 0.0, 2.0, 0.01, y0, rates, throw=False)
    assert solution.result == rungax.RESULTS.successful
    np.testing.assert_allclose(np.asarray(solution.ys)[0], y0 * np.exp(2 * sum(rates)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option", ["rtol", "atol", "norm"])
def test_tolerances_are_not_given_twice(option: str) -> None:
    with pytest.raises(TypeError, match=f"(?s){option}.*Expected.*Found:    {option}.*Leave them out"):
        with_stepsize_controller_tols(VeryChord)(**{option: 1e-3})


class KnowsItsStep(optx.Newton):
    """A user's root finder that computes a value once a step, in its `init`: the time of the step's start."""

    def init(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, fn: Any, y: Any, args: Any, options: Any, *others: Any
    ) -> Any:
        state = super().init(fn, y, args, options, *others)
        if "init_state" not in options:
            return state, args.t
        first = options["init_state"][1]
        # It fails if the value is from another step.
        return eqx.error_if(state, ~((first <= args.t) & (args.t <= first + 0.25)), "another step"), first

    def step(self, fn: Any, y: Any, args: Any, options: Any, state: Any, tags: Any) -> Any:
        y, inner, aux = super().step(fn, y, args, options, state[0], tags)
        return y, (inner, state[1]), aux

    def terminate(self, fn: Any, y: Any, args: Any, options: Any, state: Any, tags: Any) -> Any:
        return super().terminate(fn, y, args, options, state[0], tags)

    def postprocess(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, fn: Any, y: Any, aux: Any, args: Any, options: Any, state: Any, *others: Any
    ) -> Any:
        return super().postprocess(fn, y, aux, args, options, state[0], *others)


def test_the_value_of_init_reaches_all_stages_of_the_step() -> None:
    term = ODETerm(lambda t, y, args: -y)
    solver = rungax.TRBDF2(root_finder=KnowsItsStep(rtol=1e-8, atol=1e-8))
    solution = rungax.diffeqsolve(term, solver, 0.0, 1.0, 0.25, jnp.ones(2))
    np.testing.assert_allclose(np.asarray(solution.ys)[0], np.exp(-1), rtol=1e-2)
