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
    KenCarp4,
    Kvaerno5,
    MultiTerm,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    Rodas5P,
    SaveAt,
    StepTo,
    diffeqsolve,
)

from ..catalogue import at_rest, name
from ..compare import assert_trees_close
from ..fakes import FailsOnLongSteps
from ..problems.stiff import HIRES, ROBERTSON, STIFF_COMPLEX, STIFF_CONJUGATE
from .measure import accepted_times, along, assert_derivative, difference_quotient, direction_like, stretched, weigh

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

    def loss(self, x: Any, solver: Any, rtol: float, **options: Any) -> jax.Array:
        """A sum over the final state in which all components have similar weights."""
        ys = self.solve(x, solver, rtol, **options).ys
        assert ys is not None
        return weigh(ys / self.final[None])


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
    function = jax.jit(lambda x: chemistry.loss(x, Rodas5P(), 1e-10))
    return float(difference_quotient(function, chemistry.at, direction_like(chemistry.at), h=3e-3))


CASES = [
    pytest.param("Robertson", Kvaerno5(), 1e-9, 1e-6, id="Robertson, Kvaerno5"),
    pytest.param("Robertson", KenCarp4(), 1e-9, 1e-5, id="Robertson, KenCarp4", marks=pytest.mark.slow),
    pytest.param("Robertson", Rodas5P(), 1e-9, 1e-6, id="Robertson, Rodas5P"),
    pytest.param("Robertson", rungax.TRBDF2(), 1e-7, 1e-3, id="Robertson, TRBDF2", marks=pytest.mark.slow),
    pytest.param("HIRES", Kvaerno5(), 1e-9, 1e-5, id="HIRES, Kvaerno5", marks=pytest.mark.slow),
    pytest.param("HIRES", KenCarp4(), 1e-8, 1e-5, id="HIRES, KenCarp4"),
    pytest.param("HIRES", Rodas5P(), 1e-9, 1e-5, id="HIRES, Rodas5P", marks=pytest.mark.slow),
    pytest.param("HIRES", rungax.Rosenbrock23(), 1e-7, 1e-3, id="HIRES, Rosenbrock23", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("problem", "solver", "rtol", "accuracy"), CASES)
def test_of_all_rates_and_the_initial_state(problem: str, solver: Any, rtol: float, accuracy: float) -> None:
    chemistry = CHEMISTRY[problem]
    direction = direction_like(chemistry.at)
    function = lambda x: chemistry.loss(x, solver, rtol)
    by_reverse = along(jax.jit(jax.grad(function))(chemistry.at), direction)
    by_forward = jax.jit(lambda x: jax.jvp(function, (x,), (direction,))[1])(chemistry.at)
    assert abs(by_reverse) > 0.1, "a derivative of zero shows nothing"
    # Newton's iterations in both have different guesses and the same tolerance.
    np.testing.assert_allclose(by_forward, by_reverse, rtol=1e-6)
    np.testing.assert_allclose(by_reverse, true_derivative(problem), rtol=accuracy)


@pytest.mark.parametrize("problem", ["Robertson", pytest.param("HIRES", marks=pytest.mark.slow)])
def test_conserved_quantities_have_the_derivative_of_their_initial_values(problem: str) -> None:
    """Robertson's sum of all components, and HIRES's `y[6] + y[7]`: to rounding, even with loose tolerances."""
    chemistry = CHEMISTRY[problem]
    counts = np.ones(3) if problem == "Robertson" else np.asarray([0.0] * 6 + [1.0] * 2)

    def total(x: Any) -> jax.Array:
        ys = chemistry.solve(x, Kvaerno5(), 1e-4).ys
        assert ys is not None
        return jnp.sum(counts * ys[-1])

    gradient = jax.jit(jax.grad(total))(chemistry.at)
    np.testing.assert_allclose(gradient["y0"], counts * chemistry.y0_scale, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(list(gradient["rates"].values()), 0.0, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ a small problem

MU = 20.0
VAN_DER_POL: dict[str, Any] = {"y0": np.asarray([2.0, 0.0]), "mu": np.asarray(MU)}


def van_der_pol(t: Any, y: Any, mu: Any) -> Any:
    x, v = y
    return jnp.stack([v, mu * (1 - x * x) * v - x])


def swing(x: Any, solver: Any, **options: Any) -> rungax.Solution:
    """A solve past the first fast transition, which is at 17, with rejected steps."""
    settings: dict[str, Any] = {
        "t0": 0.0,
        "t1": 22.0,
        "dt0": 1e-3,
        "stepsize_controller": PIDController(rtol=1e-8, atol=1e-10),
        "max_steps": 1024,
        "term": ODETerm(van_der_pol),
        **options,
    }
    return diffeqsolve(settings.pop("term"), solver, y0=x["y0"], args=x["mu"], **settings)


def swing_loss(x: Any, solver: Any, **options: Any) -> jax.Array:
    ys = swing(x, solver, **options).ys
    assert ys is not None
    return weigh(ys * jnp.asarray([[1.0, MU]]))


TIGHT = {"stepsize_controller": PIDController(rtol=1e-11, atol=1e-13), "max_steps": 8192}


@cache
def swing_derivative() -> tuple[Any, float]:
    """The gradient of a far more accurate solve, and its difference quotient along a direction."""
    function = lambda x: swing_loss(x, Rodas5P(), **TIGHT)
    quotient = difference_quotient(jax.jit(function), VAN_DER_POL, direction_like(VAN_DER_POL), h=1e-3)
    return jax.jit(jax.grad(function))(VAN_DER_POL), float(quotient)


def test_the_reference_is_right() -> None:
    gradient, quotient = swing_derivative()
    np.testing.assert_allclose(along(gradient, direction_like(VAN_DER_POL)), quotient, rtol=1e-6)


@pytest.mark.parametrize("solver", [Kvaerno5(), Rodas5P()], ids=name)
def test_through_rejected_steps_and_reused_jacobians(solver: Any) -> None:
    solution = swing(VAN_DER_POL, solver, saveat=SaveAt(t1=True, solver_state=True))
    assert int(solution.stats["num_rejected_steps"]) > 5
    if isinstance(solver, rungax.AbstractDIRK):
        state: Any = solution.solver_state
        assert int(state.cache.age) > 1, "the last Jacobian was used in one attempt only"
    gradient = jax.jit(jax.grad(lambda x: swing_loss(x, solver)))(VAN_DER_POL)
    assert_trees_close(gradient, swing_derivative()[0], rtol=2e-4)


def test_on_its_grid_it_is_exact_for_a_method_without_iteration() -> None:
    """On a fixed grid it agrees with a difference quotient to all its digits, with loose tolerances too."""
    loose = {"stepsize_controller": PIDController(rtol=1e-3, atol=1e-5)}
    solution = swing(VAN_DER_POL, Rodas5P(), saveat=SaveAt(t0=True, steps=True), **loose)
    assert int(solution.stats["num_rejected_steps"]) > 5
    frozen = {"dt0": None, "stepsize_controller": StepTo(accepted_times(solution))}
    assert_derivative(
        lambda x: swing_loss(x, Rodas5P(), **loose),
        VAN_DER_POL,
        lambda x: swing_loss(x, Rodas5P(), **frozen),
        rtol=1e-6,
        h=1e-5,
    )


@pytest.mark.parametrize("mode", ["reverse", pytest.param("forward", marks=pytest.mark.slow)])
def test_through_failures_of_newtons_iteration(mode: str) -> None:
    """Steps longer than 0.3 fail, are repeated with shorter ones, and have no effect on the derivative."""
    finder = FailsOnLongSteps(rtol=1e-12, atol=1e-12, limit=0.3)
    failing, able = (Kvaerno5(root_finder=finder), Kvaerno5())
    loose = {"stepsize_controller": PIDController(rtol=1e-6, atol=1e-8), "t1": 12.0}
    rejected = [int(swing(VAN_DER_POL, s, **loose).stats["num_rejected_steps"]) for s in (failing, able)]
    assert rejected[0] > rejected[1] + 3
    derivative = jax.grad if mode == "reverse" else jax.jacfwd
    found = jax.jit(derivative(lambda x: swing_loss(x, failing, **loose)))(VAN_DER_POL)
    tight = {**TIGHT, "t1": 12.0}
    expected = jax.jit(jax.grad(lambda x: swing_loss(x, Rodas5P(), **tight)))(VAN_DER_POL)
    assert_trees_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("solver", [Kvaerno5(), pytest.param(Rodas5P(), marks=pytest.mark.slow)], ids=name)
def test_vmap_of_the_gradient_is_a_loop(solver: Any) -> None:
    """The batch elements differ in stiffness, and take different numbers of steps."""
    batch = {"y0": np.asarray([[2.0, 0.0], [1.0, 0.5], [2.0, 0.1]]), "mu": np.asarray([20.0, 0.5, 80.0])}
    gradient = jax.jit(jax.grad(lambda x: swing_loss(x, solver, t1=12.0)))
    found = jax.jit(jax.vmap(gradient))(batch)
    for i in range(3):
        element, of_element = (jax.tree.map(lambda x, i=i: x[i], tree) for tree in (batch, found))
        assert_trees_close(of_element, gradient(element), rtol=1e-5, atol=1e-8)


SAVES: dict[str, Callable[[Any], Any]] = {
    "ts": lambda x: swing(x, Kvaerno5(), saveat=SaveAt(ts=np.asarray([3.0, 8.0, 16.0]))).ys,
    "dense": lambda x: jax.vmap(swing(x, Rodas5P(), saveat=SaveAt(dense=True)).evaluate)(jnp.asarray([3.0, 8.0, 16.0])),
}


@pytest.mark.parametrize("save", SAVES)
def test_of_interpolated_values(save: str) -> None:
    """They have the derivative of a solve that ends at their time."""

    def function(x: Any) -> jax.Array:
        return weigh(SAVES[save](x) * jnp.asarray([[1.0, MU]]))

    def ends(x: Any) -> jax.Array:
        end = lambda t1: swing(x, Rodas5P(), t1=t1, **TIGHT).ys[-1]  # pyright: ignore[reportOptionalSubscript]
        return weigh(jax.vmap(end)(jnp.asarray([3.0, 8.0, 16.0])) * jnp.asarray([[1.0, MU]]))

    found = along(jax.jit(jax.grad(function))(VAN_DER_POL), direction_like(VAN_DER_POL))
    expected = difference_quotient(jax.jit(ends), VAN_DER_POL, direction_like(VAN_DER_POL))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_of_the_times() -> None:
    """The derivative by the end and by saved times is the field; by the start, minus the propagated field."""
    ts = np.asarray([3.0, 8.0])
    times = {"t0": np.asarray(0.0), "ts": ts, "t1": np.asarray(12.0)}

    def states(times: Any) -> Any:
        saveat = SaveAt(ts=times["ts"], t1=True)
        return swing(VAN_DER_POL, Kvaerno5(), t0=times["t0"], t1=times["t1"], saveat=saveat).ys

    of_times, ys = jax.jit(jax.jacrev(states))(times), np.asarray(states(times))
    slopes = np.stack([van_der_pol(0.0, y, MU) for y in ys])
    np.testing.assert_allclose(of_times["t1"][2], slopes[2], rtol=1e-5)
    for i in range(2):
        np.testing.assert_allclose(of_times["ts"][i, :, i], slopes[i], rtol=1e-4)
        np.testing.assert_allclose(of_times["ts"][i, :, 1 - i], 0.0, atol=1e-12)
    by_state = jax.jit(jax.jacrev(lambda y0: swing({**VAN_DER_POL, "y0": y0}, Kvaerno5(), t1=12.0).ys))(
        VAN_DER_POL["y0"]
    )
    start = np.asarray(van_der_pol(0.0, VAN_DER_POL["y0"], MU))
    np.testing.assert_allclose(of_times["t0"][2], -by_state[-1] @ start, rtol=1e-4)


def test_of_the_ends_on_the_stretched_grid() -> None:
    ends = (np.asarray(0.0), np.asarray(12.0))
    control = {"stepsize_controller": PIDController(rtol=1e-4, atol=1e-6)}
    solution = swing(VAN_DER_POL, Rodas5P(), t1=12.0, saveat=SaveAt(t0=True, steps=True), **control)
    grid = accepted_times(solution)

    def frozen(ends: Any) -> jax.Array:
        steps = StepTo(stretched(grid, *ends))
        return swing_loss(VAN_DER_POL, Rodas5P(), t0=ends[0], t1=ends[1], dt0=None, stepsize_controller=steps)

    assert_derivative(
        lambda ends: swing_loss(VAN_DER_POL, Rodas5P(), t0=ends[0], t1=ends[1], **control), ends, frozen, rtol=1e-6
    )


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


def test_few_checkpoints_with_fast_transitions_and_rejections() -> None:
    """Four checkpoints for some hundred steps."""
    found, expected = (
        jax.jit(jax.grad(lambda x, a=adjoint: swing_loss(x, Kvaerno5(), adjoint=a)))(VAN_DER_POL)
        for adjoint in (RecursiveCheckpointAdjoint(checkpoints=4), RecursiveCheckpointAdjoint())
    )
    assert_trees_close(found, expected, rtol=1e-5)


# --------------------------------------------------------------------------------------------------------------- states


def test_complex_states() -> None:
    """The gradient by real and imaginary parts agrees with the exact one; warnings are errors."""
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

    expected = jax.grad(exact)(jnp.asarray([a0.real, a0.imag]))
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[:, 1], 0.0, atol=1e-5)


@pytest.mark.parametrize("solver", [Rodas5P(), pytest.param(Kvaerno5(), marks=pytest.mark.slow)], ids=name)
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


def in_a_tree(t: Any, y: Any, rate: Any) -> Any:
    slope = relaxing(t, jnp.stack([y["fast"], y["slow"][0]]), rate)
    return {"fast": slope[0], "slow": (slope[1],)}


@pytest.mark.parametrize("solver", [Kvaerno5(), pytest.param(Rodas5P(), marks=pytest.mark.slow)], ids=name)
def test_a_pytree(solver: Any) -> None:
    def ends(field: Any, y0: Any) -> Any:
        controller = PIDController(rtol=1e-7, atol=1e-9)
        return diffeqsolve(field, solver, 0.0, 2.0, None, y0, 30.0, stepsize_controller=controller).ys

    tree = {"fast": np.asarray(1.4), "slow": (np.asarray(1.0),)}
    found = jax.jit(jax.grad(lambda y: weigh(jnp.stack(jax.tree.leaves(ends(in_a_tree, y)), axis=-1))))(tree)
    expected = jax.jit(jax.grad(lambda y: weigh(ends(relaxing, y))))(RELAXING["y0"])
    np.testing.assert_allclose(np.stack(jax.tree.leaves(found)), expected, rtol=1e-8)


@pytest.mark.parametrize("solver", [Kvaerno5(), pytest.param(Rodas5P(), marks=pytest.mark.slow)], ids=name)
def test_single_precision(solver: Any) -> None:
    """The gradient has the state's dtype, and the accuracy of single precision."""

    def function(x: Any) -> jax.Array:
        controller = PIDController(rtol=1e-4, atol=1e-6)
        field = lambda t, y, rate: relaxing(t.astype(y.dtype), y, rate.astype(y.dtype))
        return weigh(diffeqsolve(field, solver, 0.0, 2.0, None, x["y0"], x["rate"], stepsize_controller=controller).ys)

    gradient = jax.jit(jax.grad(function))
    single = gradient(jax.tree.map(np.float32, RELAXING))
    assert single["y0"].dtype == np.float32
    assert_trees_close(single, gradient(RELAXING), rtol=5e-3, atol=1e-5, dtypes=False)


# ------------------------------------------------------------------------------------------------------- linear algebra

CELLS = 12


def spread(t: Any, y: Any, rate: Any) -> Any:
    """A row of cells with diffusion and a reaction."""
    padded = jnp.pad(y, 1)
    return rate * (padded[:-2] - 2 * y + padded[2:]) + y * (1 - y) * jnp.cos(t)


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


def spread_loss(x: Any, term: ODETerm, solver: Any) -> jax.Array:
    controller = PIDController(rtol=1e-7, atol=1e-9)
    solution = diffeqsolve(term, solver, 0.0, 0.5, 1e-3, x["y0"], x["rate"], stepsize_controller=controller)
    return weigh(solution.ys)


@cache
def spread_gradient(solver: str) -> Any:
    return jax.jit(jax.grad(lambda x: spread_loss(x, ODETerm(spread), getattr(rungax, solver)())))(SPREAD)


def test_the_gradient_that_others_are_compared_with() -> None:
    function = jax.jit(lambda x: spread_loss(x, ODETerm(spread), Kvaerno5()))
    direction = direction_like(SPREAD)
    expected = difference_quotient(function, SPREAD, direction, h=1e-2)
    np.testing.assert_allclose(along(spread_gradient("Kvaerno5"), direction), expected, rtol=1e-4)


FAST_TERMS = {("wider band", "Kvaerno5")}


@pytest.mark.parametrize(
    ("term", "solver"),
    [
        pytest.param(term, solver, marks=() if (term, solver) in FAST_TERMS else pytest.mark.slow)
        for term in TERMS
        for solver in ("Kvaerno5", "Rodas5P")
    ],
)
def test_the_declared_structure_does_not_change_the_gradient(term: str, solver: str) -> None:
    found = jax.jit(jax.grad(lambda x: spread_loss(x, TERMS[term], getattr(rungax, solver)())))(SPREAD)
    assert_trees_close(found, spread_gradient(solver), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param("Rodas5P", marks=pytest.mark.slow),
        "Kvaerno5",
    ],
)
def test_an_iterative_linear_solver_is_as_good_as_its_tolerance(solver: str) -> None:
    method = getattr(rungax, solver)(linear_solver=lx.GMRES(rtol=1e-9, atol=1e-11))
    found = jax.jit(jax.grad(lambda x: spread_loss(x, ODETerm(spread), method)))(SPREAD)
    assert_trees_close(found, spread_gradient(solver), rtol=1e-5, atol=1e-8)
