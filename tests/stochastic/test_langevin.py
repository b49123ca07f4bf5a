"""Underdamped Langevin dynamics: orders forwards and backwards, stationary law, coefficients, gradients, messages."""

import functools
from collections.abc import Callable
from fractions import Fraction
from math import factorial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import rungax
from rungax import RESULTS, Euler, Heun, MultiTerm, PIDController, diffeqsolve
from rungax.brownian import (
    AbstractBrownianIncrement,
    AbstractBrownianPath,
    BrownianIncrement,
    SpaceTimeLevyArea,
    SpaceTimeTimeLevyArea,
    UnsafeBrownianPath,
    VirtualBrownianTree,
)
from rungax.solvers.stochastic.langevin import step as langevin_rk
from rungax.solvers.stochastic.langevin.methods import ALIGN, QUICSORT, ShOULD
from rungax.solvers.wrappers.half import HalfSolver
from rungax.terms import in_direction_of_travel
from rungax.terms.langevin import UnderdampedLangevinDiffusionTerm, UnderdampedLangevinDriftTerm

from ..catalogue import slow_unless
from ..tracing.hlo import compiled_text, custom_calls_in_loops

SOLVERS = (ALIGN, ShOULD, QUICSORT)
GAMMA, U = np.asarray([1.3, 0.5]), np.asarray([0.7, 1.5])
Y0 = (np.asarray([0.4, -1.0]), np.asarray([-0.6, 0.3]))
END = 2.0


def bend(x: Array, args: Any = None) -> Array:
    """A nonlinear gradient that couples the entries; it is Lipschitz, because otherwise errors have outliers."""
    del args
    return jnp.sin(2.0 * x) + 0.5 * x + 0.2 * x[::-1]


def spring(x: Any, args: Any = None) -> Any:
    del args
    return x


def langevin(path: Any, gamma: Any = GAMMA, u: Any = U, grad_f: Callable[..., Any] = bend) -> Any:
    drift = UnderdampedLangevinDriftTerm(gamma, u, grad_f)
    return MultiTerm(drift, UnderdampedLangevinDiffusionTerm(gamma, u, path))


def tree(key: Array, shape: Any = (2,), levy_area: Any = SpaceTimeTimeLevyArea) -> VirtualBrownianTree:
    return VirtualBrownianTree(0.0, END, END / 2048, shape, key, levy_area=levy_area)


def ys(solution: rungax.Solution) -> Any:
    return solution.ys


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.concatenate([np.ravel(x) ** 2 for x in jax.tree.leaves(values)]))))


def slope(sizes: Any, errors: Any) -> float:
    return float(np.polyfit(np.log(np.asarray(sizes)), np.log(np.asarray(errors)), 1)[0])


# -------------------------------------------------------------------------------------------------------- strong orders


def ends(solver: Any, keys: Array) -> Callable[[float, float, float], Any]:
    """A function that computes the final states on many paths, one program for any direction and step size."""

    def one(t0: Array, t1: Array, dt0: Array, key: Array) -> Any:
        return diffeqsolve(langevin(tree(key)), solver, t0, t1, dt0, Y0, max_steps=None).ys

    many = jax.jit(jax.vmap(one, in_axes=(None, None, None, 0)))
    return lambda t0, t1, dt0: jax.tree.map(np.asarray, many(*(jnp.asarray(t) for t in (t0, t1, dt0)), keys))


KEYS = jax.random.split(jax.random.key(20240506), 250)
SOLVE = {solver: ends(solver(), KEYS) for solver in SOLVERS}
STEPS = (12, 24, 48)


@pytest.fixture(scope="module", params=[(0.0, 1.0), (1.0, 0.0)], ids=["forwards", "backwards"])
def span(request: pytest.FixtureRequest) -> tuple[float, float, Any]:
    """The ends of a solve, and the final states of a very accurate solve along the same paths."""
    t0, t1 = request.param
    return t0, t1, SOLVE[QUICSORT](t0, t1, (t1 - t0) / 512)


@pytest.mark.parametrize(
    "solver",
    # `ALIGN` works like `ShOULD`; that it converges is tested with adaptive steps.
    [pytest.param(solver, marks=slow_unless(solver is not ALIGN)) for solver in SOLVERS],
)
def test_strong_order(solver: Any, span: Any) -> None:
    """The measured order was within 0.1 of the stated one for each of six seeds."""
    t0, t1, reference = span
    runs = [SOLVE[solver](t0, t1, (t1 - t0) / n) for n in STEPS]
    errors = [rms(jax.tree.map(np.subtract, run, reference)) for run in runs]
    assert abs(slope([1 / n for n in STEPS], errors) - solver().strong_order(None)) < 0.15


class Scripted(AbstractBrownianPath):
    """A path whose increment over every step is made of given standard normals."""

    normals: Any
    t0: float = eqx.field(default=0.0, static=True)
    t1: float = eqx.field(default=END, static=True)
    levy_area: type[AbstractBrownianIncrement] = eqx.field(default=SpaceTimeTimeLevyArea, static=True)

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        h = jnp.asarray(t1 - t0)
        scales = [jnp.sqrt(h / n) for n in (1.0, 12.0, 720.0)]
        W, H, K = (
            jax.tree.map(lambda x, s=s: s.astype(x.dtype) * x, n) for n, s in zip(self.normals, scales, strict=True)
        )
        return SpaceTimeTimeLevyArea(h, W, H, K) if use_levy else W


def there_and_back(solver: Any, normals: Array, h: Array) -> tuple[Any, Any]:
    """The error estimate of a step, and the distance from its start after a step back."""
    terms, zero = langevin(Scripted(normals)), jnp.zeros_like(h)
    there, back = (in_direction_of_travel(terms, jnp.asarray(direction)) for direction in (1.0, -1.0))
    y1, error, *_ = solver.step(there, zero, h, Y0, None, solver.init(there, zero, h, Y0, None), False)
    y2, *_ = solver.step(back, -h, zero, y1, None, solver.init(back, -h, zero, y1, None), False)
    return error, jax.tree.map(jnp.subtract, y2, Y0)


@pytest.fixture(scope="module", params=SOLVERS)
def one_step(request: pytest.FixtureRequest) -> tuple[Any, np.ndarray, list[Any]]:
    solver, sizes = request.param(), 0.1 * 0.5 ** np.arange(4)
    normals = jax.random.normal(jax.random.key(1), (400, 3, 2))
    run = jax.jit(jax.vmap(lambda x, h: there_and_back(solver, x, h), in_axes=(0, None)))
    return solver, sizes, [run(normals, jnp.asarray(h)) for h in sizes]


def test_a_step_back_undoes_a_step(one_step: Any) -> None:
    """The difference has at least the order of the local error, so the noise is reversed correctly."""
    solver, sizes, runs = one_step
    assert slope(sizes, [rms(back) for _, back in runs]) > solver.strong_order(None) + 0.5


def test_error_estimate_has_the_order_it_states(one_step: Any) -> None:
    solver, sizes, runs = one_step
    if isinstance(solver, QUICSORT):
        assert all(error is None for error, _ in runs)
        return
    estimates = [rms(error[1]) for error, _ in runs]
    assert abs(slope(sizes, estimates) - solver.error_order(None)) < 0.1


# ------------------------------------------------------------------------------------------------ exactness and moments


@pytest.mark.parametrize("solver", SOLVERS)
def test_without_noise_it_is_a_method_for_ordinary_equations(solver: Any) -> None:
    """With zero friction there is no noise, and the closed formulas of the coefficients would be 0/0."""
    terms = langevin(Scripted(jnp.ones((3, 2))), gamma=0.0)
    solve = jax.jit(lambda dt0: diffeqsolve(terms, solver(), 0.0, END, dt0, Y0, max_steps=None).ys)
    exact = solve(END / 2048)
    errors = [rms(jax.tree.map(np.subtract, solve(END / n), exact)) for n in (16, 32, 64)]
    assert abs(slope([1 / n for n in (16, 32, 64)], errors) - solver().order(terms)) < 0.15


@pytest.mark.parametrize("solver", SOLVERS)
def test_without_force_the_law_after_a_step_of_any_length_is_exact(solver: Any) -> None:
    """The path enters linearly: means are exact, variances except for the part not determined by `W`, `H`, `K`."""
    h, gamma, u = jnp.asarray(0.5), 1.3, 0.7
    x0, v0 = jnp.asarray([0.4]), jnp.asarray([-0.6])

    def step(normals: Array) -> Any:
        terms = langevin(Scripted(normals), gamma, u, lambda x, args: jnp.zeros_like(x))
        terms = in_direction_of_travel(terms, jnp.asarray(1.0))
        y0 = (x0, v0)
        y1, *_ = solver().step(terms, 0.0 * h, h, y0, None, solver().init(terms, 0.0 * h, h, y0, None), False)
        return y1

    mean, slopes = jax.jit(lambda n: (step(n[:, None]), jax.jacobian(lambda n: step(n[:, None]))(n)))(jnp.zeros(3))
    decay = np.exp(-gamma * h)
    np.testing.assert_allclose(mean[0], x0 + (1 - decay) / gamma * v0, rtol=1e-14)
    np.testing.assert_allclose(mean[1], decay * v0, rtol=1e-14)
    (by_x,), (by_v,) = jax.tree.map(np.asarray, slopes)
    of_v = u * (1 - decay**2)
    of_x = u / gamma * (2 * h - (3 - 4 * decay + decay**2) / gamma)
    both = u / gamma * (1 - decay) ** 2
    found = [by_x @ by_x, by_v @ by_v, by_x @ by_v]
    np.testing.assert_allclose(found, [of_x, of_v, both], rtol=4e-3)


@pytest.mark.parametrize("solver", [pytest.param(solver, marks=slow_unless(solver is ALIGN)) for solver in SOLVERS])
def test_stationary_law_of_a_harmonic_potential(solver: Any) -> None:
    """`x ~ exp(-f)`, `v ~ N(0, u)`: z-scores of ten statistics are below 4.5, a false alarm for one in 10⁴ seeds."""
    deviation, u, count = np.asarray([0.5, 2.0]), np.asarray([0.7, 1.5]), 4000

    def one(key: Array) -> Any:
        path = UnsafeBrownianPath((2,), key, levy_area=SpaceTimeTimeLevyArea)
        terms = langevin(path, 2.0, u, lambda x, args: x / deviation**2)
        return diffeqsolve(terms, solver(), 0.0, 12.0, 0.1, (jnp.zeros(2), jnp.zeros(2))).ys

    x, v = (np.asarray(part)[:, 0] for part in jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), count)))
    scores = [np.mean(part / scale, axis=0) * np.sqrt(count) for part, scale in ((x, deviation), (v, np.sqrt(u)))]
    for a, b, expected in ((x / deviation, x / deviation, 1.0), (v**2 / u, 1.0, 1.0), (x, v / np.sqrt(u), 0.0)):
        product = a * b
        scores.append((np.mean(product, axis=0) - expected) / np.std(product, axis=0) * np.sqrt(count))
    assert np.max(np.abs(scores)) < 4.5


# --------------------------------------------------------------------------------------------------------- coefficients


def exact(name: str, z: float) -> float:
    """The coefficient as an average over θ from 0 to 1, by the series of exp(-z (1 - θ)) in rational arithmetic."""
    weight, shift = {"phi1": ([1], 0), "phi2": ([1], 1), "eta_of": ([6, -12], 1), "kappa_of": ([60, -360, 360], 1)}[
        name
    ]
    total = Fraction(0)
    for j in range(80):
        # The average of θ^a (1 - θ)^b is a! b! / (a + b + 1)!.
        b = j + shift
        beta = sum(Fraction(w * factorial(a) * factorial(b), factorial(a + b + 1)) for a, w in enumerate(weight))
        total += (-Fraction(z)) ** j / factorial(b) * beta
    return float(total)


@pytest.mark.parametrize("threshold", [0.1, 0.01, 1.0])
@pytest.mark.parametrize("name", ["phi1", "phi2", "eta_of", "kappa_of"])
def test_series_and_closed_formula_agree_with_high_precision(name: str, threshold: float) -> None:
    """They agree on both sides of the threshold between them and far from it; a threshold of 0.1 loses one digit."""
    coefficient = getattr(langevin_rk, name)
    meet = {"eta_of": (6 * threshold) ** 0.5, "kappa_of": (360 * threshold) ** 0.25}.get(name, threshold)
    sizes = [1e-9, 1e-3, 0.03, 0.3 * meet, meet * (1 - 1e-9), meet * (1 + 1e-9), 2.0, 8.0]
    z = np.asarray([sign * size for size in sizes for sign in (1, -1)])
    expected = np.asarray([exact(name, x) for x in z])
    # `kappa` vanishes at 0; its error is measured relative to the other coefficients, which are of order one.
    scale = np.maximum(np.abs(expected), 1e-2)
    for dtype in (np.float64, np.float32):
        found = np.asarray(coefficient(jnp.asarray(z.astype(dtype)), threshold), np.float64)
        rounding = np.abs(z - z.astype(dtype).astype(np.float64)) * np.exp(np.maximum(-z, 0))
        allowed = 60 * np.finfo(dtype).eps * scale / threshold + rounding
        assert np.all(np.abs(found - expected) < allowed)


@pytest.mark.parametrize("name", ["phi1", "phi2", "eta_of", "kappa_of"])
def test_coefficients_have_derivatives_everywhere(name: str) -> None:
    coefficient = getattr(langevin_rk, name)
    derivative = jax.jit(jax.grad(lambda z: coefficient(z, 0.1)))
    for z in (0.0, 1e-12, 0.1, 0.57, 60.0, 1e4):
        assert np.isfinite(derivative(z))


# ------------------------------------------------------------------------------------------------------------ structure


def one_step_of(solver: Any, terms: Any, y0: Any, h: float = 0.1, made_jump: Any = False, state: Any = None) -> Any:
    """The state after one call of `solver.step`."""
    zero, end = jnp.asarray(0.0), jnp.asarray(h)
    state = solver.init(terms, zero, end, y0, None) if state is None else state
    return solver.step(terms, zero, end, y0, None, state, made_jump)[0]


@pytest.mark.parametrize("solver", SOLVERS)
def test_pytrees_with_a_friction_for_each_leaf(solver: Any) -> None:
    """Each entry is solved as if it were alone."""
    x0 = {"a": jnp.arange(6.0).reshape(3, 2) / 4, "b": jnp.asarray(-0.5)}
    v0 = jax.tree.map(jnp.cos, x0)
    normals = [jax.tree.map(lambda x, i=i: jnp.sin(x + i), x0) for i in range(3)]
    gamma, u = {"a": np.asarray([0.5, 2.0]), "b": 1.5}, 0.8
    terms = langevin(Scripted(normals), gamma, u, lambda x, args: jax.tree.map(lambda x: x**3, x))
    y1 = one_step_of(solver(), terms, (x0, v0))
    assert jax.tree.structure(y1) == jax.tree.structure((x0, v0))
    for pick, friction in ((lambda x: x["a"][1, 1], 2.0), (lambda x: x["b"], 1.5)):
        alone = langevin(Scripted([pick(x) for x in normals]), friction, u, lambda x, args: x**3)
        expected = one_step_of(solver(), alone, (pick(x0), pick(v0)))
        np.testing.assert_allclose([pick(x) for x in y1], expected, rtol=1e-13)


@pytest.mark.parametrize("solver", SOLVERS)
def test_leaves_keep_their_dtypes(solver: Any) -> None:
    x0 = (jnp.ones(2, np.float32), jnp.asarray(1.0, np.float64))
    y1 = one_step_of(solver(), langevin(Scripted([x0] * 3), 1.0, 1.0, spring), (x0, x0))
    assert [leaf.dtype for leaf in jax.tree.leaves(y1)] == [np.float32, np.float64] * 2


def test_a_solve_for_a_pytree() -> None:
    shape = {"a": jax.ShapeDtypeStruct((3, 2), np.float32), "b": jax.ShapeDtypeStruct((), np.float64)}
    path = UnsafeBrownianPath(shape, jax.random.key(5), levy_area=SpaceTimeTimeLevyArea)
    x0 = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shape)
    solution = diffeqsolve(langevin(path, {"a": 0.5, "b": 1.5}, 0.8, spring), QUICSORT(), 0.0, END, 0.5, (x0, x0))
    assert jax.tree.map(jnp.shape, solution.ys) == jax.tree.map(lambda x: (1, *x.shape), (x0, x0))


ONE_PATH = tree(jax.random.key(8))


@functools.cache
def accurate() -> Any:
    """The final state of a very accurate solve along `ONE_PATH`."""
    return jax.jit(lambda: diffeqsolve(langevin(ONE_PATH), QUICSORT(), 0.0, END, 1 / 256, Y0).ys)()


@pytest.mark.parametrize(
    ("solver", "tolerance"),
    [pytest.param(Euler(), 2e-2, marks=pytest.mark.slow), (Heun(), 2e-3)],
    ids=["Euler", "Heun"],
)
def test_other_solvers_converge_to_the_same_solution(solver: Any, tolerance: float) -> None:
    other = jax.jit(lambda: diffeqsolve(langevin(ONE_PATH), solver, 0.0, END, 1 / 512, Y0).ys)()
    assert rms(jax.tree.map(np.subtract, other, accurate())) < tolerance


def test_the_terms_agree_with_their_equations() -> None:
    path = UnsafeBrownianPath((2,), jax.random.key(7), levy_area=SpaceTimeTimeLevyArea)
    drift, diffusion = langevin(path).terms
    (x, v), zero = Y0, jnp.asarray(0.0)
    dx, dv = drift.vf(zero, Y0, None)
    np.testing.assert_array_equal(dx, v)
    np.testing.assert_allclose(dv, -GAMMA * v - U * bend(jnp.asarray(x)), rtol=1e-14)
    w = diffusion.contr(0.0, 0.5)
    np.testing.assert_array_equal(w, path.evaluate(0.0, 0.5))
    none, noise = diffusion.vf_prod(zero, jax.tree.map(jnp.asarray, Y0), None, w)
    np.testing.assert_array_equal(none, np.zeros(2))
    np.testing.assert_allclose(noise, np.sqrt(2 * GAMMA * U) * w, rtol=1e-14)
    assert diffusion.control is path
    deviation = diffusion.deviation(zero, jax.tree.map(jnp.asarray, Y0), None)
    np.testing.assert_allclose(deviation[1], np.sqrt(2 * GAMMA * U), rtol=1e-14)


@pytest.mark.parametrize("solver", [ALIGN, ShOULD])
def test_after_a_jump_the_stored_gradient_is_not_used(solver: Any) -> None:
    terms, y0 = langevin(Scripted(jnp.ones((3, 2)))), jax.tree.map(jnp.asarray, Y0)
    expected = one_step_of(solver(), terms, y0)
    elsewhere = jax.tree.map(lambda x: x + 1.0, y0)
    stale = solver().init(terms, jnp.asarray(0.0), jnp.asarray(0.1), elsewhere, None)
    for made_jump in (True, jnp.asarray(True)):
        np.testing.assert_allclose(one_step_of(solver(), terms, y0, 0.1, made_jump, stale), expected, rtol=1e-13)
    wrong = one_step_of(solver(), terms, y0, 0.1, False, stale)
    assert rms(jax.tree.map(np.subtract, wrong, expected)) > 1e-4


@pytest.mark.parametrize(("solver", "evaluations"), [(ALIGN, 1), (ShOULD, 2), (QUICSORT, 2)])
def test_gradients_evaluated_in_a_step(solver: Any, evaluations: int) -> None:
    calls: list[Any] = []
    terms = langevin(Scripted(jnp.ones((3, 2))), grad_f=lambda x, args: calls.append(x) or bend(x))
    zero, h = jnp.asarray(0.0), jnp.asarray(0.1)
    state = solver().init(terms, zero, h, Y0, None)
    calls.clear()
    solver().step(terms, zero, h, Y0, None, state, False)
    assert len(calls) == evaluations


@pytest.mark.parametrize(
    "solver",
    [ALIGN(), *(pytest.param(s, marks=pytest.mark.slow) for s in (ShOULD(), HalfSolver(QUICSORT())))],
    ids=["ALIGN", "ShOULD", "half QUICSORT"],
)
def test_adaptive_steps_converge(solver: Any) -> None:
    @jax.jit
    def solve(tolerance: Any) -> Any:
        controller = PIDController(rtol=tolerance, atol=tolerance, dtmin=END / 1024)
        solution = diffeqsolve(langevin(ONE_PATH), solver, 0.0, END, 0.1, Y0, stepsize_controller=controller)
        return solution.ys, solution.stats["num_accepted_steps"]

    (coarse, few), (fine, many) = solve(1e-2), solve(1e-4)
    errors = [rms(jax.tree.map(np.subtract, y, accurate())) for y in (coarse, fine)]
    assert errors[1] < 1e-3
    assert errors[1] < 0.2 * errors[0]
    assert many > few


def program(solver: Any, throw: bool) -> Callable[[Any], Any]:
    return lambda gamma: diffeqsolve(langevin(tree(KEYS[0]), gamma), solver, 0.0, END, 0.1, Y0, throw=throw).ys


@pytest.mark.parametrize("solver", SOLVERS)
def test_without_throwing_the_program_has_no_callback(solver: Any) -> None:
    assert "callback" not in str(jax.make_jaxpr(program(solver(), throw=False))(GAMMA))


def test_the_loop_has_no_custom_call() -> None:
    assert custom_calls_in_loops(compiled_text(program(ShOULD(), throw=True), GAMMA)) == set()


# ------------------------------------------------------------------------------------------------------------ gradients


PARAMETERS = {
    "gamma": jnp.asarray([1.3, 0.5]),
    "u": jnp.asarray(0.7),
    "stiffness": jnp.asarray([0.3, 0.9]),
    "x0": jnp.asarray([0.4, -1.0]),
}


def loss(parameters: Any, solver: Any, path: Any, span: tuple[float, float]) -> Array:
    terms = langevin(path, parameters["gamma"], parameters["u"], lambda x, k: k * jnp.sin(x) + x**3)
    t0, t1 = span
    y0, dt0, args = (parameters["x0"], jnp.asarray(Y0[1])), (t1 - t0) / 6, parameters["stiffness"]
    x, v = ys(diffeqsolve(terms, solver, t0, t1, dt0, y0, args=args, max_steps=8))
    return jnp.sum(jnp.cos(x)) + jnp.sum(v**2)


UNSAFE = UnsafeBrownianPath((2,), jax.random.key(9), levy_area=SpaceTimeTimeLevyArea)
CASES = {
    "ALIGN": (ALIGN(), UNSAFE, (0.0, 1.0)),
    "ShOULD backwards": (ShOULD(), UNSAFE, (1.0, 0.0)),
    "QUICSORT": (QUICSORT(), UNSAFE, (0.0, 1.0)),
    "QUICSORT on a tree": (QUICSORT(), tree(jax.random.key(9)), (0.0, 1.0)),
}
OFTEN = ("ShOULD backwards", "QUICSORT")
"""`ALIGN` and `ShOULD` carry the gradient of the potential from step to step in the same way."""


@functools.cache
def value_and_gradient(case: str) -> Callable[[Any], Any]:
    return jax.jit(jax.value_and_grad(lambda p: loss(p, *CASES[case])))


@pytest.mark.parametrize("case", [pytest.param(case, marks=slow_unless(case in OFTEN)) for case in CASES])
def test_gradients_against_finite_differences(case: str) -> None:
    of = value_and_gradient(case)
    for name, gradient in of(PARAMETERS)[1].items():
        direction = jax.tree.map(jnp.zeros_like, PARAMETERS) | {name: jnp.ones_like(PARAMETERS[name])}
        ahead, behind = (of(jax.tree.map(lambda p, d, e=e: p + e * d, PARAMETERS, direction))[0] for e in (1e-5, -1e-5))
        np.testing.assert_allclose(jnp.sum(gradient), (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-8)


def test_reverse_and_forward_mode_agree() -> None:
    """Reverse mode recomputes the stored gradient of the potential, forward mode carries it."""
    case = "ShOULD backwards"
    _, backwards = value_and_gradient(case)(PARAMETERS)
    forwards = jax.jit(jax.jacfwd(lambda p: loss(p, *CASES[case])))(PARAMETERS)
    for name in PARAMETERS:
        np.testing.assert_allclose(backwards[name], forwards[name], rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------- messages


PATH = tree(jax.random.key(0))


def solve_with(**changes: Any) -> Any:
    call: dict[str, Any] = {"gamma": 1.0, "u": 1.0, "grad_f": spring, "path": PATH, "y0": Y0, "solver": QUICSORT()}
    call |= changes
    terms = changes.get("terms", langevin(call["path"], call["gamma"], call["u"], call["grad_f"]))
    return diffeqsolve(terms, call["solver"], 0.0, 1.0, 0.5, call["y0"])


LIST_PATH = tree(jax.random.key(0), [jax.ShapeDtypeStruct((2,), np.float64)])
MISTAKES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "state is not a pair": ({"y0": np.zeros(2)}, ("position and velocity", "(x, v)")),
    "state of three": ({"y0": (np.zeros(2),) * 3}, ("position and velocity", "(x, v)")),
    "unlike halves": ({"y0": (np.zeros(2), np.zeros(3))}, ("Position and velocity", "float64[2]", "float64[3]")),
    "gamma of a wrong shape": ({"gamma": np.ones(3)}, ("`gamma` at `x`", "(3,)", "broadcasts to (2,)")),
    "gamma of a higher rank": ({"gamma": np.ones((1, 2))}, ("`gamma` at `x`", "(1, 2)")),
    "gamma is not a prefix": ({"gamma": {"a": 1.0}}, ("`gamma`", "prefix of `x`")),
    "complex u": ({"u": 1j}, ("`u` at `x`", "real")),
    "gradient of a wrong shape": ({"grad_f": lambda x, args: jnp.sum(x**2)}, ("`grad_f`", "(2,)", "()")),
    "gradient of a wrong structure": ({"grad_f": lambda x, args: [x]}, ("`grad_f`", "structure")),
    "complex gradient": ({"grad_f": lambda x, args: x.astype(complex)}, ("`grad_f`", "complex")),
    "path of a wrong shape": ({"path": tree(jax.random.key(0), (3,))}, ("path", "float64[3]", "float64[2]")),
    "path of a wrong structure": ({"path": LIST_PATH}, ("path", "like the position")),
    "too little Lévy area": (
        {"path": tree(jax.random.key(0), levy_area=SpaceTimeLevyArea)},
        ("QUICSORT", "SpaceTimeTimeLevyArea"),
    ),
    "no Lévy area": (
        {"path": tree(jax.random.key(0), levy_area=BrownianIncrement), "solver": ALIGN()},
        ("ALIGN", "SpaceTimeLevyArea"),
    ),
    "terms of another kind": ({"terms": rungax.ODETerm(lambda t, y, args: y)}, ("QUICSORT", "Langevin")),
}


@pytest.mark.parametrize(("changes", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_in_a_solve(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        solve_with(**changes)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert len(message.splitlines()) <= 5


CONSTRUCTED: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "negative gamma": (lambda: UnderdampedLangevinDriftTerm(-1.0, 1.0, spring), ("gamma", "negative", "-1.0")),
    "negative u": (
        lambda: UnderdampedLangevinDiffusionTerm(1.0, np.asarray([1.0, -2.0]), PATH),
        ("u", "negative", "-2.0"),
    ),
    "gamma is NaN": (lambda: UnderdampedLangevinDriftTerm(float("nan"), 1.0, spring), ("gamma", "nan")),
    "gradient is not a function": (lambda: UnderdampedLangevinDriftTerm(1.0, 1.0, 2.0), ("grad_f", "callable")),  # pyright: ignore[reportArgumentType]
    "no path": (lambda: UnderdampedLangevinDiffusionTerm(1.0, 1.0, 2.0), ("bm", "path")),  # pyright: ignore[reportArgumentType]
    "threshold": (lambda: QUICSORT(taylor_threshold=-1.0), ("QUICSORT", "taylor_threshold")),
}


@pytest.mark.parametrize(("make", "words"), CONSTRUCTED.values(), ids=CONSTRUCTED.keys())
def test_mistakes_in_construction(make: Callable[[], Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert all(word in str(caught.value) for word in words)


def unlike(gamma: Any, u: Any) -> Any:
    drift = UnderdampedLangevinDriftTerm(1.0, 2.0, spring)
    return MultiTerm(drift, UnderdampedLangevinDiffusionTerm(gamma, u, UNSAFE))


@jax.jit
def with_unknown(gamma: Any, u: Any) -> Any:
    """The result and the number of steps of a solve that knows only the coefficients of the drift."""
    solution = diffeqsolve(unlike(gamma, u), QUICSORT(), 0.0, 1.0, 0.5, Y0, throw=False)
    return solution.result, solution.stats["num_steps"]


@pytest.mark.parametrize(("name", "gamma", "u"), [("gamma", 1.5, 2.0), ("u", 1.0, np.asarray([2.0, 1.0]))])
def test_drift_and_diffusion_that_disagree(name: str, gamma: Any, u: Any) -> None:
    """Known values that differ are an error at once; if they are traced, the first step fails."""
    with pytest.raises(ValueError, match=f"the same `{name}`"):
        QUICSORT().init(unlike(gamma, u), jnp.asarray(0.0), jnp.asarray(1.0), Y0, None)
    with pytest.raises(ValueError, match=f"the same `{name}`"):
        diffeqsolve(unlike(gamma, u), QUICSORT(), 0.0, 1.0, 0.5, Y0)
    result, num_steps = with_unknown(gamma, np.broadcast_to(u, 2))
    assert result == RESULTS.invalid_input
    assert num_steps == 1


def test_drift_and_diffusion_may_have_equal_coefficients_of_different_shapes() -> None:
    terms = unlike(np.ones(2), np.full((1,), 2.0))
    assert QUICSORT().init(terms, jnp.asarray(0.0), jnp.asarray(1.0), Y0, None).agrees is None
    assert diffeqsolve(terms, QUICSORT(), 0.0, 1.0, 0.5, Y0).result == RESULTS.successful
