"""Gradients of stiff solves agree with difference quotients of far more accurate ones, in every mode and adjoint.

A solution that is compared with another solve has tight tolerances, and so has the other: a quotient over a short
distance then has seven digits. Inputs are scaled to similar influence: rates by their logarithm, concentrations by
their usual values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax
from rungax import (
    BacksolveAdjoint,
    DirectAdjoint,
    ForwardMode,
    Kvaerno5,
    MultiTerm,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    Rodas4,
    Rodas5P,
    SaveAt,
    StepTo,
    diffeqsolve,
)

from ..catalogue import at_rest, name, slow_unless
from ..compare import assert_trees_close
from ..fakes import FailsOnLongSteps
from ..problems.stiff import HIRES, ROBERTSON, STIFF_COMPLEX, STIFF_CONJUGATE
from .measure import (
    accepted_times,
    along,
    assert_agree,
    assert_derivative,
    difference_quotient,
    direction_like,
    stretched,
    weigh,
)

# ------------------------------------------------------------------------------------------------------------ chemistry


@dataclass(frozen=True)
class Chemistry:
    """A stiff problem as a function of logarithms of rates and scaled changes of its initial state.

    `atol` is at most a millionth of the smallest value that a component has for a long time. `field` is the sum of
    `explicit` and `implicit`.
    """

    field: Callable[..., Any]
    explicit: Callable[..., Any]
    implicit: Callable[..., Any]
    y0: np.ndarray
    y0_scale: np.ndarray
    rates: dict[str, float]
    t1: float
    final: np.ndarray
    atol: np.ndarray

    @property
    def at(self) -> Any:
        return {"y0": np.zeros_like(self.y0), "rates": {key: np.zeros(()) for key in self.rates}}

    def solve(self, x: Any, solver: Any, rtol: float, **options: Any) -> rungax.Solution:
        rates = {key: rate * jnp.exp(x["rates"][key]) for key, rate in self.rates.items()}
        terms: Any = ODETerm(self.field)
        if isinstance(solver, rungax.AbstractIMEXRK):
            terms = MultiTerm(ODETerm(self.explicit), ODETerm(self.implicit))
        controller = PIDController(rtol=rtol, atol=rtol * 1e10 * jnp.asarray(self.atol))
        options = {"max_steps": 8192, **options}
        y0 = self.y0 + self.y0_scale * x["y0"]
        return diffeqsolve(terms, solver, 0.0, self.t1, None, y0, rates, stepsize_controller=controller, **options)

    def loss(self, x: Any, solver: Any, rtol: Any, weights: Any) -> jax.Array:
        """A sum over the final state, of which each component is scaled to one."""
        ys = self.solve(x, solver, rtol).ys
        assert ys is not None
        return jnp.sum(weights * ys[-1] / self.final)

    @property
    def weights(self) -> np.ndarray:
        """Similar weights for all components, that no conserved quantity has."""
        return np.cos(1.0 + 0.7 * np.arange(float(self.final.size))) + 0.3


def robertson(t: Any, y: Any, rates: Any) -> Any:
    return ROBERTSON.field(t, y, (rates["slow"], rates["fast"], rates["back"]))


HIRES_RATES = {
    "k1": 1.71, "k2": 0.43, "k3": 8.32, "k4": 0.69, "k5": 0.035, "k6": 8.32, "k+": 280.0, "k-": 0.69, "k*": 0.69,
    "inflow": 0.0007,
}  # fmt: skip


def hires(t: Any, y: Any, k: Any) -> Any:
    return hires_inflow(t, y, k) + hires_reactions(t, y, k)


def hires_inflow(t: Any, y: Any, k: Any) -> Any:
    """A part that is not stiff: the inflow, and the product of a slow reaction. (It takes many steps.)"""
    return jnp.zeros_like(y).at[0].set(k["inflow"]).at[2].set(k["k5"] * y[4])


def hires_reactions(t: Any, y: Any, k: Any) -> Any:
    a, b, c, d, e, f, g, h = y
    bound = k["k+"] * f * h
    return jnp.stack(
        [
            -k["k1"] * a + k["k2"] * b + k["k6"] * c,
            k["k1"] * a - (k["k2"] + k["k3"]) * b,
            -(k["k6"] + k["k1"]) * c + k["k2"] * d,
            k["k3"] * b + k["k1"] * c - (k["k2"] + k["k4"]) * d,
            -(k["k1"] + k["k5"]) * e + k["k2"] * f + k["k2"] * g,
            -bound + k["k4"] * d + k["k1"] * e - k["k2"] * f + k["k-"] * g,
            bound - (k["k2"] + k["k-"] + k["k*"]) * g,
            -bound + (k["k2"] + k["k-"] + k["k*"]) * g,
        ]
    )


CHEMISTRY = {
    "Robertson": Chemistry(
        robertson,
        at_rest,
        robertson,
        np.asarray(ROBERTSON.y0),
        np.asarray([1.0, 1e-5, 1.0]),
        dict(zip(("slow", "fast", "back"), ROBERTSON.args, strict=True)),
        ROBERTSON.t1,
        np.asarray(ROBERTSON.final),
        np.asarray([1e-12, 1e-16, 1e-12]),
    ),
    "HIRES": Chemistry(
        hires,
        hires_inflow,
        hires_reactions,
        np.asarray(HIRES.y0),
        np.full(8, 1e-3),
        HIRES_RATES,
        HIRES.t1,
        np.asarray(HIRES.final),
        np.full(8, 1e-13),
    ),
}


@cache
def true_derivative(problem: str) -> float:
    """The derivative along `direction_like`, by a difference quotient of accurate solves without iteration."""
    chemistry = CHEMISTRY[problem]
    function = jax.jit(lambda x: chemistry.loss(x, Rodas5P(), 1e-10, chemistry.weights))
    return float(difference_quotient(function, chemistry.at, direction_like(chemistry.at), h=3e-3))


@cache
def compiled_gradient(problem: str, solver: str) -> Callable[..., Any]:
    """The gradient as a function of inputs, tolerance and weights."""
    chemistry, method = CHEMISTRY[problem], getattr(rungax, solver)()
    return jax.jit(jax.grad(lambda x, rtol, weights: chemistry.loss(x, method, rtol, weights)))


CASES = [
    pytest.param("Robertson", "Kvaerno5", 1e-9, 1e-6, id="Robertson, Kvaerno5"),
    pytest.param("Robertson", "KenCarp4", 1e-9, 1e-5, id="Robertson, KenCarp4"),
    pytest.param("Robertson", "Rodas5P", 1e-9, 1e-6, id="Robertson, Rodas5P"),
    pytest.param("Robertson", "TRBDF2", 1e-7, 1e-3, id="Robertson, TRBDF2"),
    pytest.param("HIRES", "Kvaerno5", 1e-9, 1e-5, id="HIRES, Kvaerno5"),
    pytest.param("HIRES", "KenCarp4", 1e-8, 1e-5, id="HIRES, KenCarp4"),
    pytest.param("HIRES", "Rodas5P", 1e-9, 1e-5, id="HIRES, Rodas5P"),
    pytest.param("HIRES", "Rosenbrock23", 1e-7, 1e-3, id="HIRES, Rosenbrock23"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "solver", "rtol", "accuracy"), CASES)
def test_of_all_rates_and_the_initial_state(problem: str, solver: str, rtol: float, accuracy: float) -> None:
    chemistry, method = CHEMISTRY[problem], getattr(rungax, solver)()
    direction = direction_like(chemistry.at)
    function = lambda x: chemistry.loss(x, method, rtol, chemistry.weights)
    by_reverse = along(compiled_gradient(problem, solver)(chemistry.at, rtol, chemistry.weights), direction)
    by_forward = jax.jit(lambda x: jax.jvp(function, (x,), (direction,))[1])(chemistry.at)
    assert abs(by_reverse) > 0.1, "a derivative of zero shows nothing"
    # Newton's iterations in both have different guesses and the same tolerance.
    np.testing.assert_allclose(by_forward, by_reverse, rtol=1e-6)
    np.testing.assert_allclose(by_reverse, true_derivative(problem), rtol=accuracy)


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["Robertson", pytest.param("HIRES", marks=pytest.mark.slow)])
def test_conserved_quantities_have_the_derivative_of_their_initial_values(problem: str) -> None:
    """Robertson's sum of all components, and HIRES's `y[6] + y[7]`: to rounding, even with loose tolerances."""
    chemistry = CHEMISTRY[problem]
    counts = np.ones(3) if problem == "Robertson" else np.asarray([0.0] * 6 + [1.0] * 2)
    gradient = compiled_gradient(problem, "Kvaerno5")(chemistry.at, 1e-4, counts * chemistry.final)
    np.testing.assert_allclose(gradient["y0"], counts * chemistry.y0_scale, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(list(gradient["rates"].values()), 0.0, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ a small problem

MU = 20.0
VAN_DER_POL: dict[str, Any] = {"y0": np.asarray([2.0, 0.0]), "mu": np.asarray(MU)}


def van_der_pol(t: Any, y: Any, mu: Any) -> Any:
    x, v = y
    return jnp.stack([v, mu * (1 - x * x) * v - x])


def spring(t: Any, y: Any, mu: Any) -> Any:
    """The part of the field that is not stiff."""
    return jnp.stack([jnp.zeros_like(y[0]), -y[0]])


def swing(x: Any, solver: Any, **options: Any) -> rungax.Solution:
    """A solve past the first fast transition, which is at 17, with rejected steps."""
    settings: dict[str, Any] = {
        "t0": 0.0,
        "t1": 22.0,
        "dt0": 1e-3,
        "stepsize_controller": PIDController(rtol=1e-8, atol=1e-10),
        "max_steps": 1024,
        **options,
    }
    terms: Any = ODETerm(van_der_pol)
    if isinstance(solver, rungax.AbstractIMEXRK):
        terms = MultiTerm(ODETerm(spring), ODETerm(lambda t, y, mu: van_der_pol(t, y, mu) - spring(t, y, mu)))
    return diffeqsolve(terms, solver, y0=x["y0"], args=x["mu"], **settings)


def swing_loss(x: Any, solver: Any, **options: Any) -> jax.Array:
    ys = swing(x, solver, **options).ys
    assert ys is not None
    return weigh(ys * jnp.asarray([[1.0, MU]]))


PLACES = np.asarray([3.0, 8.0, 16.0])
WEIGHTS = np.asarray([[0.8, 0.2 * MU], [0.5, -0.4 * MU], [-0.6, 0.7 * MU], [0.9, 0.3 * MU]])
"""Of the states at three saved times and at the end."""

SWING: dict[str, Any] = {**VAN_DER_POL, "t0": np.asarray(0.0), "t1": np.asarray(22.0)}
SHORT_SWING = {**SWING, "t1": np.asarray(12.0)}
LOOSE, USUAL, TIGHT = 1e-3, 1e-8, 1e-11
"""Relative tolerances; the absolute ones are a hundredth of them."""


def weighted_swing(inputs: Any, rtol: Any, weights: Any, solver: Any, **options: Any) -> tuple[jax.Array, Any]:
    """A sum over the states at the times `ts`, if there are any, and at the end; and the solution."""
    saveat = SaveAt(ts=inputs.get("ts"), t1=True, solver_state=True)
    control = {"stepsize_controller": PIDController(rtol=rtol, atol=rtol / 100), "max_steps": 8192}
    settings = {"saveat": saveat, **control, **options}
    solution = swing(inputs, solver, t0=inputs["t0"], t1=inputs["t1"], **settings)
    assert solution.ys is not None
    return jnp.sum(weights * solution.ys), solution


@cache
def compiled_swing(solver: str) -> Callable[..., Any]:
    """Value, solution and gradient as a function of inputs, tolerance and weights, which most tests here share."""
    function = partial(weighted_swing, solver=getattr(rungax, solver)())
    return jax.jit(jax.value_and_grad(function, has_aux=True))


def gradient_of_swing(solver: str, inputs: Any, rtol: float = USUAL, weights: Any = WEIGHTS[3:]) -> Any:
    return compiled_swing(solver)(inputs, rtol, weights)[1]


def accurate_end(inputs: Any) -> float:
    return float(compiled_swing("Rodas5P")(inputs, TIGHT, WEIGHTS[3:])[0][0])


def test_the_reference_is_right() -> None:
    """The gradient of a far more accurate solve agrees with its difference quotient."""
    direction = direction_like(SWING)
    by_reverse = along(gradient_of_swing("Rodas5P", SWING, TIGHT), direction)
    np.testing.assert_allclose(by_reverse, difference_quotient(accurate_end, SWING, direction), rtol=1e-6)


@pytest.mark.parametrize(("solver", "rtol"), [("Kvaerno5", 2e-9), ("Rodas5P", USUAL)])
def test_through_rejected_steps_and_reused_jacobians(solver: str, rtol: float) -> None:
    (_, solution), gradient = compiled_swing(solver)(SWING, rtol, WEIGHTS[3:])
    assert int(solution.stats["num_rejected_steps"]) > 5
    if solver == "Kvaerno5":
        assert int(solution.solver_state.cache.age) > 1, "the last Jacobian was used in one attempt only"
    assert_trees_close(gradient, gradient_of_swing("Rodas5P", SWING, TIGHT), rtol=2e-4)


def test_of_a_split_equation() -> None:
    """With an explicit and an implicit term, in both modes."""
    direction, solver = direction_like(SWING), rungax.KenCarp4()
    function = lambda x: weighted_swing(x, USUAL, WEIGHTS[3:], solver)[0]
    by_forward = jax.jit(lambda x: jax.jvp(function, (x,), (direction,))[1])(SWING)
    by_reverse = gradient_of_swing("KenCarp4", SWING)
    assert_trees_close(by_reverse, gradient_of_swing("Rodas5P", SWING, TIGHT), rtol=2e-4)
    # Newton's iterations in both have different guesses and the same tolerance.
    np.testing.assert_allclose(by_forward, along(by_reverse, direction), rtol=1e-5)


@cache
def loose_grid() -> np.ndarray:
    """The steps of a solve with loose tolerances."""
    control = {"stepsize_controller": PIDController(rtol=LOOSE, atol=LOOSE / 100)}
    solution = jax.jit(lambda x: swing(x, Rodas5P(), saveat=SaveAt(t0=True, steps=True), **control))(VAN_DER_POL)
    assert int(solution.stats["num_rejected_steps"]) > 5
    return accepted_times(solution)


@jax.jit
def forward_swing(inputs: Any, direction: Any) -> jax.Array:
    function = lambda x: weighted_swing(x, LOOSE, WEIGHTS[3:], Rodas5P())[0]
    return jax.jvp(function, (inputs,), (direction,))[1]


@jax.jit
def swing_on_a_grid(inputs: Any, grid: Any) -> jax.Array:
    steps = StepTo(stretched(grid, inputs["t0"], inputs["t1"]))
    return weighted_swing(inputs, LOOSE, WEIGHTS[3:], Rodas5P(), dt0=None, stepsize_controller=steps)[0]


@pytest.mark.parametrize("moving", [("y0", "mu"), ("t0", "t1")], ids="-".join)
def test_on_its_grid_it_is_exact_for_a_method_without_iteration(moving: tuple[str, str]) -> None:
    """On a fixed grid, or one that its ends stretch, it agrees with a difference quotient to all its digits."""
    direction = direction_like(SWING)
    direction = {key: change if key in moving else np.zeros_like(change) for key, change in direction.items()}
    by_reverse = along(gradient_of_swing("Rodas5P", SWING, LOOSE), direction)
    quotient = difference_quotient(lambda x: swing_on_a_grid(x, loose_grid()), SWING, direction, h=1e-5)
    assert_agree(by_reverse, forward_swing(SWING, direction), quotient, rtol=1e-6)


@pytest.mark.parametrize("mode", ["reverse", pytest.param("forward", marks=pytest.mark.slow)])
def test_through_failures_of_newtons_iteration(mode: str) -> None:
    """Steps longer than 0.3 fail, are repeated with shorter ones, and have no effect on the derivative.

    The tape has few checkpoints, from which steps are made again.
    """

    def function(x: Any, limit: Any) -> Any:
        solver = Kvaerno5(root_finder=FailsOnLongSteps(rtol=1e-12, atol=1e-12, limit=limit))
        inputs = {**SHORT_SWING, **x}
        return weighted_swing(inputs, 1e-6, WEIGHTS[3:], solver, adjoint=RecursiveCheckpointAdjoint(checkpoints=4))

    derivative = jax.jit((jax.grad if mode == "reverse" else jax.jacfwd)(function, has_aux=True))
    (found, failing), (_, able) = (derivative(VAN_DER_POL, limit) for limit in (0.3, np.inf))
    rejected = [int(solution.stats["num_rejected_steps"]) for solution in (failing, able)]
    assert rejected[0] > rejected[1] + 3
    expected = gradient_of_swing("Rodas5P", SHORT_SWING, TIGHT)
    assert_trees_close(found, {key: expected[key] for key in VAN_DER_POL}, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["Kvaerno5", pytest.param("Rodas5P", marks=pytest.mark.slow)])
def test_vmap_of_the_gradient_is_a_loop(solver: str) -> None:
    """The batch elements differ in stiffness, and take different numbers of steps."""
    batch = {
        "y0": np.asarray([[2.0, 0.0], [1.0, 0.5], [2.0, 0.1]]),
        "mu": np.asarray([20.0, 0.5, 80.0]),
        "t0": np.zeros(3),
        "t1": np.full(3, 12.0),
    }
    gradient = partial(gradient_of_swing, solver)
    found = jax.jit(jax.vmap(gradient))(batch)
    for i in range(3):
        element, of_element = (jax.tree.map(lambda x, i=i: x[i], tree) for tree in (batch, found))
        assert_trees_close(of_element, gradient(element), rtol=1e-5, atol=1e-8)


def saved_at_places(x: Any) -> Any:
    return gradient_of_swing("Kvaerno5", {**SWING, **x, "ts": PLACES}, weights=np.append(WEIGHTS[:3], [[0, 0]], axis=0))


@jax.jit
@jax.grad
def evaluated_at_places(x: Any) -> jax.Array:
    solution = swing(x, Rodas5P(), saveat=SaveAt(dense=True))
    return jnp.sum(WEIGHTS[:3] * jax.vmap(solution.evaluate)(jnp.asarray(PLACES)))


def ends_at_places(x: Any) -> float:
    ends = [compiled_swing("Rodas5P")({**SWING, **x, "t1": place}, TIGHT, WEIGHTS[3:])[0][1].ys[0] for place in PLACES]
    return float(np.sum(WEIGHTS[:3] * np.stack(ends)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "gradient",
    [
        pytest.param(saved_at_places, id="ts"),
        pytest.param(evaluated_at_places, id="dense", marks=pytest.mark.slow),
    ],
)
def test_of_interpolated_values(gradient: Any) -> None:
    """They have the derivative of a solve that ends at their time."""
    direction = direction_like(VAN_DER_POL)
    found = gradient(VAN_DER_POL)
    expected = difference_quotient(ends_at_places, VAN_DER_POL, direction)
    np.testing.assert_allclose(along({key: found[key] for key in VAN_DER_POL}, direction), expected, rtol=1e-4)


@pytest.mark.slow
def test_of_the_times() -> None:
    """The derivative by the end and by saved times is the field; by the start, minus the propagated field."""
    inputs = {**SHORT_SWING, "ts": np.asarray([3.0, 8.0, 11.0])}
    rows = [compiled_swing("Kvaerno5")(inputs, USUAL, row) for row in np.eye(8).reshape(8, 4, 2)]
    ys = np.asarray(rows[0][0][1].ys)
    jacobian = {key: np.stack([row[key] for _, row in rows]).reshape(4, 2, *inputs[key].shape) for key in inputs}
    slopes = np.stack([van_der_pol(0.0, y, MU) for y in ys])
    np.testing.assert_allclose(jacobian["t1"][3], slopes[3], rtol=1e-5)
    for i in range(3):
        np.testing.assert_allclose(jacobian["ts"][i, :, i], slopes[i], rtol=1e-4)
        np.testing.assert_allclose(np.delete(jacobian["ts"][i], i, axis=1), 0.0, atol=1e-12)
    start = np.asarray(van_der_pol(0.0, VAN_DER_POL["y0"], MU))
    np.testing.assert_allclose(jacobian["t0"][3], -jacobian["y0"][3] @ start, rtol=1e-4)


# --------------------------------------------------------------------------------------------------- second derivatives


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "transform"),
    [
        pytest.param(rungax.TRBDF2(), "along", id="TRBDF2, along a direction"),
        pytest.param(Kvaerno5(), "hessian", id="Kvaerno5, Hessian", marks=pytest.mark.slow),
        pytest.param(Rodas5P(), "hessian", id="Rodas5P, Hessian", marks=pytest.mark.slow),
        pytest.param(Rodas5P(), "along", id="Rodas5P, along a direction", marks=pytest.mark.slow),
    ],
)
def test_second_derivatives(solver: Any, transform: str) -> None:
    """They agree with differences of gradients on the same steps."""
    control = {"stepsize_controller": PIDController(rtol=1e-5, atol=1e-7), "t1": 8.0, "max_steps": 256}
    grid = accepted_times(swing(VAN_DER_POL, solver, saveat=SaveAt(t0=True, steps=True), **control))
    finder = rungax.VeryChord(rtol=1e-11, atol=1e-13)
    exact = solver if isinstance(solver, rungax.AbstractRosenbrock) else type(solver)(root_finder=finder)
    at = np.asarray([2.0, 0.0, MU])

    def function(x: Any) -> jax.Array:
        inputs = {"y0": x[:2], "mu": x[2]}
        return swing_loss(inputs, exact, t1=8.0, max_steps=256, dt0=None, stepsize_controller=StepTo(grid))

    gradient, direction = jax.jit(jax.grad(function)), np.asarray([0.3, -0.7, 0.5])
    expected = difference_quotient(gradient, at, direction, h=1e-3)
    if transform == "along":
        found = jax.jit(lambda x: jax.jvp(jax.grad(function), (x,), (direction,))[1])(at)
    else:
        hessian = np.asarray(jax.jit(jax.hessian(function))(at))
        np.testing.assert_allclose(hessian, hessian.T, rtol=1e-6, atol=1e-9)
        found = hessian @ direction
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


# ------------------------------------------------------------------------------------------------------------- adjoints

RELAXING: dict[str, Any] = {"y0": np.asarray([1.4, 1.0]), "rate": np.asarray(30.0)}
"""A problem with stiff steps, but short enough for adjoints that go back in time: they amplify by exp(12)."""


def relaxing(t: Any, y: Any, rate: Any) -> Any:
    a, b = y
    return jnp.stack([-rate * (a - b * b) - 2 * a, a - b - b * b + 0.3 * jnp.sin(3 * t)])


def relaxed(x: Any, solver: Any, **options: Any) -> jax.Array:
    settings: dict[str, Any] = {
        "stepsize_controller": PIDController(rtol=1e-9, atol=1e-11),
        "max_steps": 512,
        "saveat": SaveAt(ts=np.asarray([0.1, 0.25]), t1=True),
        **options,
    }
    return weigh(diffeqsolve(ODETerm(relaxing), solver, 0.0, 0.4, None, x["y0"], x["rate"], **settings).ys)


@cache
def relaxed_gradient(solver: str) -> Any:
    """The gradient by the default adjoint, which is compared with difference quotients here."""
    function = partial(relaxed, solver=getattr(rungax, solver)())
    assert_derivative(function, RELAXING, rtol=1e-5, h=1e-2)
    return jax.jit(jax.grad(function))(RELAXING)


ADJOINTS = {
    "few checkpoints": (RecursiveCheckpointAdjoint(checkpoints=4), 1e-7),
    "direct": (DirectAdjoint(), 1e-7),
    "forward": (ForwardMode(), 1e-7),
    "backsolve": (BacksolveAdjoint(), 1e-4),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    ["Kvaerno5", pytest.param("Rodas5P", marks=pytest.mark.slow), pytest.param("TRBDF2", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    "adjoint",
    ADJOINTS,
)
def test_every_adjoint_agrees(adjoint: str, solver: str) -> None:
    chosen, rtol = ADJOINTS[adjoint]
    derivative = jax.jacfwd if adjoint == "forward" else jax.grad
    method = getattr(rungax, solver)()
    control = {"stepsize_controller": PIDController(rtol=1e-7, atol=1e-9)} if solver == "TRBDF2" else {}
    rtol = 1e-3 if solver == "TRBDF2" else rtol
    found = jax.jit(derivative(lambda x: relaxed(x, method, adjoint=chosen, **control)))(RELAXING)
    expected = relaxed_gradient("Kvaerno5" if solver == "TRBDF2" else solver)
    assert_trees_close(found, expected, rtol=rtol, atol=1e-7)


@pytest.mark.slow
def test_few_checkpoints_with_fast_transitions_and_rejections() -> None:
    """Four checkpoints for some hundred steps. With every run, where Newton's iteration fails.

    Steps that are made again start from another Jacobian, so that their stages differ within Newton's tolerance, which
    the transitions magnify. The gradient itself is accurate to 2e-4.
    """
    adjoint = RecursiveCheckpointAdjoint(checkpoints=4)
    function = partial(weighted_swing, solver=Kvaerno5(), adjoint=adjoint, max_steps=1024)
    found, _ = jax.jit(jax.grad(function, has_aux=True))(SWING, USUAL, WEIGHTS[3:])
    expected = gradient_of_swing("Kvaerno5", SWING)
    assert_trees_close(found, expected, rtol=5e-5)


# --------------------------------------------------------------------------------------------------------------- states


@pytest.mark.slow
def test_complex_states() -> None:
    """The gradient by real and imaginary parts agrees with the exact one; warnings are errors.

    With every run: a real function of a complex state in `test_complex_states.py`, and by parts the next test.
    """
    problem = STIFF_COMPLEX

    def function(y0: Any) -> jax.Array:
        controller = PIDController(rtol=1e-9, atol=1e-11)
        return weigh(diffeqsolve(problem.field, Kvaerno5(), 0.0, 1.0, None, y0, stepsize_controller=controller).ys)

    gradient = jax.jit(jax.grad(lambda parts: function(jax.lax.complex(*parts))))(
        np.stack([problem.y0.real, problem.y0.imag])
    )
    # The first component is rotated, and the second follows its square.
    rotation = np.exp(3j)
    a0 = complex(problem.y0[0])

    def exact(parts: Any) -> jax.Array:
        a = jax.lax.complex(parts[0], parts[1]) * rotation
        return weigh(jnp.stack([a, a * a])[None])

    expected = jax.jit(jax.grad(exact))(jnp.asarray([a0.real, a0.imag]))
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[:, 1], 0.0, atol=1e-5)


@pytest.mark.parametrize(
    "solver",
    [pytest.param(s, id=name(s), marks=slow_unless(name(s) == "Rodas4")) for s in (Rodas4(), Rodas5P(), Kvaerno5())],
)
def test_complex_states_whose_field_conjugates(solver: Any) -> None:
    problem = STIFF_CONJUGATE
    field = lambda t, y, stiffness: problem.field(t, y, stiffness.astype(y.dtype))

    def function(inputs: Any) -> jax.Array:
        parts, stiffness = inputs
        y0 = jax.lax.complex(*parts)
        controller = PIDController(rtol=1e-9, atol=1e-11)
        return weigh(diffeqsolve(field, solver, 0.0, 1.0, None, y0, stiffness, stepsize_controller=controller).ys)

    inputs = (np.stack([problem.y0.real, problem.y0.imag]), np.asarray(1e3))
    assert_derivative(function, inputs, rtol=1e-5)


# ----------------------------------------------------------------------------------- states, and their linear algebra

CELLS = 6
HALF = CELLS // 2


def spread(t: Any, y: Any, rate: Any) -> Any:
    """A row of cells with diffusion and a reaction."""
    padded = jnp.pad(y, 1)
    return rate.astype(y.dtype) * (padded[:-2] - 2 * y + padded[2:]) + y * (1 - y) * jnp.cos(t).astype(y.dtype)


def spread_in_a_tree(t: Any, y: Any, rate: Any) -> Any:
    slope = spread(t, jnp.concatenate([y["left"], *y["right"]]), rate)
    return {"left": slope[:HALF], "right": (slope[HALF:],)}


def spread_jacobian(t: Any, y: Any, rate: Any) -> Any:
    off = jnp.diag(jnp.full(CELLS - 1, rate), 1)
    return off + off.T + jnp.diag(-2 * rate + (1 - 2 * y) * jnp.cos(t))


SPREAD = {"y0": np.sin(np.linspace(0.3, 2.8, CELLS)), "rate": np.asarray(50.0)}
TERMS = {
    "band": ODETerm(spread, tags=rungax.Banded(1, 1)),
    "wider band": ODETerm(spread, tags=rungax.Banded(2, 1)),
    "tridiagonal": ODETerm(spread, tags=lx.tridiagonal_tag),
    "given": ODETerm(spread, jacobian=spread_jacobian),
    "given band": ODETerm(spread, jacobian=spread_jacobian, tags=rungax.Banded(2, 1)),
}


def spread_end(x: Any, term: ODETerm, solver: Any, rtol: Any = 1e-7) -> Any:
    controller = PIDController(rtol=rtol, atol=rtol / 100)
    return diffeqsolve(term, solver, 0.0, 0.5, 1e-3, x["y0"], x["rate"], stepsize_controller=controller).ys


def spread_loss(x: Any, term: ODETerm, solver: Any, rtol: Any = 1e-7) -> jax.Array:
    return weigh(spread_end(x, term, solver, rtol))


@cache
def compiled_spread(solver: str) -> Callable[..., Any]:
    """Value and gradient as a function of inputs and tolerance."""
    method = getattr(rungax, solver)()
    return jax.jit(jax.value_and_grad(lambda x, rtol: spread_loss(x, ODETerm(spread), method, rtol)))


def spread_gradient(solver: str, x: Any = SPREAD, rtol: float = 1e-7) -> Any:
    return compiled_spread(solver)(x, rtol)[1]


METHODS = ("Kvaerno3", "Kvaerno5", "Rodas5P")


@pytest.mark.parametrize(
    "solver", [pytest.param(solver, marks=slow_unless(solver == "Kvaerno3")) for solver in METHODS]
)
def test_the_gradient_that_others_are_compared_with(solver: str) -> None:
    direction = direction_like(SPREAD)
    expected = difference_quotient(lambda x: compiled_spread(solver)(x, 1e-7)[0], SPREAD, direction, h=1e-2)
    np.testing.assert_allclose(along(spread_gradient(solver), direction), expected, rtol=1e-4)


@cache
def compiled_in_a_tree(solver: str) -> Callable[..., Any]:
    """The gradient of the same function where the state is in parts."""
    method = getattr(rungax, solver)()

    def function(x: Any, rtol: Any) -> jax.Array:
        left, right = jax.tree.leaves(spread_end(x, ODETerm(spread_in_a_tree), method, rtol))
        return weigh(jnp.concatenate([left, right], axis=1))

    return jax.jit(jax.grad(function))


def gradient_in_a_tree(solver: str, dtype: Any, rtol: float) -> Any:
    y0 = SPREAD["y0"]
    x = {**SPREAD, "y0": {"left": y0[:HALF], "right": (y0[HALF:],)}}
    found = compiled_in_a_tree(solver)(jax.tree.map(dtype, x), rtol)
    return {**found, "y0": np.concatenate(jax.tree.leaves(found["y0"]))}


@pytest.mark.slow
@pytest.mark.parametrize("solver", METHODS)
def test_a_pytree(solver: str) -> None:
    """Its steps are those of the array."""
    assert_trees_close(gradient_in_a_tree(solver, np.float64, 1e-7), spread_gradient(solver), rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("solver", METHODS)
def test_a_pytree_in_single_precision(solver: str) -> None:
    """The gradient has the state's dtype, and the accuracy of single precision."""
    single = gradient_in_a_tree(solver, np.float32, 1e-4)
    assert single["y0"].dtype == np.float32
    assert_trees_close(single, spread_gradient(solver, rtol=1e-4), rtol=5e-3, atol=1e-5, dtypes=False)


@pytest.mark.slow
@pytest.mark.parametrize("solver", METHODS)
def test_single_precision(solver: str) -> None:
    single = spread_gradient(solver, jax.tree.map(np.float32, SPREAD), 1e-4)
    assert single["y0"].dtype == np.float32
    assert_trees_close(single, spread_gradient(solver, rtol=1e-4), rtol=5e-3, atol=1e-5, dtypes=False)


@pytest.mark.slow
@pytest.mark.parametrize("solver", METHODS)
@pytest.mark.parametrize("term", TERMS)
def test_the_declared_structure_does_not_change_the_gradient(term: str, solver: str) -> None:
    found = jax.jit(jax.grad(lambda x: spread_loss(x, TERMS[term], getattr(rungax, solver)())))(SPREAD)
    assert_trees_close(found, spread_gradient(solver), rtol=1e-7, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("solver", METHODS)
def test_an_iterative_linear_solver_is_as_good_as_its_tolerance(solver: str) -> None:
    method = getattr(rungax, solver)(linear_solver=lx.GMRES(rtol=1e-9, atol=1e-11))
    found = jax.jit(jax.grad(lambda x: spread_loss(x, ODETerm(spread), method)))(SPREAD)
    assert_trees_close(found, spread_gradient(solver), rtol=1e-5, atol=1e-8)
