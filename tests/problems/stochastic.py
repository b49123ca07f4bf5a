"""Stochastic equations for measuring solvers, one for each kind of noise, and some with a closed form.

In the equations without a closed form drift and noise do not commute. A method has an order above one only if it
integrates noise against time correctly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

Kind = Literal["additive", "diagonal", "scalar", "commutative", "general"]
Interpretation = Literal["Itô", "Stratonovich"]
INTERPRETATIONS: tuple[Interpretation, ...] = ("Itô", "Stratonovich")


@dataclass(frozen=True, eq=False)
class NoisyProblem:
    """The equation `dy = drift dt + diffusion dW` on [0, 1], with `y0` at the time where the solve starts.

    `exact`, if there is one, maps `(interpretation, W(1))` to `y(1)`.
    """

    kind: Kind
    drift: Callable[[Any, Any, Any], Any]
    diffusion: Callable[[Any, Any, Any], Any]
    shape: tuple[int, ...]
    y0: np.ndarray
    exact: Callable[[Interpretation, Any], Any] | None = None


def bending(t, y, args):
    """A nonlinear drift that couples both components."""
    del t, args
    return jnp.stack([jnp.sin(y[1]) - 0.5 * y[0], jnp.cos(2.0 * y[0]) - 0.5 * y[1]])


def bending_less(t, y, args):
    """A weaker drift, which adds less error of order 1, so that order 1/2 shows at larger steps."""
    return 0.4 * bending(t, y, args)


def of_time(t, y, args):
    """Additive noise that depends on time."""
    del y, args
    return jnp.asarray([[0.8, 0.3], [-0.2, 0.6]]) * (1.0 + 0.5 * jnp.sin(3.0 * t))


def each_its_own(t, y, args):
    del t, args
    return lx.DiagonalLinearOperator(jnp.stack([0.5 * jnp.cos(y[0]) + 0.6, 0.6 + 0.4 * jnp.sin(y[1])]))


def one_for_all(t, y, args):
    del t, args
    return jnp.stack([0.7 * jnp.cos(y[1]) + 0.5, 0.5 + 0.7 * jnp.sin(y[0])])


FIRST = np.array([[0.4, 0.5], [-0.5, 0.4]])
SECOND = np.array([[0.5, -0.3], [0.3, 0.5]])


def turning(t, y, args):
    """Two sources that rotate and stretch the plane: they are complex multiplications, which commute."""
    del t, args
    return jnp.stack([FIRST @ y, SECOND @ y], axis=1)


MIXED = np.array([[0.7, 0.3], [-0.2, 0.6]])


def bent(t, y, args):
    """Two constant sources, which commute, transformed by two shears of the plane, so that neither is constant.

    With `y[0] = x[0] + 0.7 sin(y[1])` and `y[1] = x[1] + 0.9 sin(x[0])` it is the derivative of y with respect to x,
    times `MIXED`.
    """
    del t, args
    first, second = MIXED
    below = second + 0.9 * jnp.cos(y[0] - 0.7 * jnp.sin(y[1])) * first
    return jnp.stack([first + 0.7 * jnp.cos(y[1]) * below, below])


def shearing(t, y, args):
    """Two sources that do not commute."""
    del t, args
    a, b = y
    return jnp.stack([jnp.stack([0.5 + 0.0 * a, 0.6 * jnp.cos(b)]), jnp.stack([0.6 * jnp.sin(a), 0.4 + 0.0 * a])])


START = np.array([0.7, -0.4])
ADDITIVE = NoisyProblem("additive", bending, of_time, (2,), START)
DIAGONAL = NoisyProblem("diagonal", bending, each_its_own, (2,), START)
SCALAR = NoisyProblem("scalar", bending, one_for_all, (), START)
COMMUTATIVE = NoisyProblem("commutative", bending, bent, (2,), START)
GENERAL = NoisyProblem("general", bending_less, shearing, (2,), START)
BY_KIND: dict[Kind, NoisyProblem] = {p.kind: p for p in (ADDITIVE, DIAGONAL, SCALAR, COMMUTATIVE, GENERAL)}


# -------------------------------------------------------------------------------------------------- with a closed form

GROWTH, VOLATILITY = 0.3, 0.7


def _geometric(interpretation: Interpretation, w: Any) -> Any:
    correction = 0.5 * VOLATILITY**2 if interpretation == "Itô" else 0.0
    return jnp.ones(1) * jnp.exp(GROWTH - correction + VOLATILITY * w)


GEOMETRIC = NoisyProblem(
    "scalar", lambda t, y, a: GROWTH * y, lambda t, y, a: VOLATILITY * y, (), np.ones(1), _geometric
)
"""Geometric Brownian motion."""


def _sinh(interpretation: Interpretation, w: Any) -> Any:
    # y = sinh(x) with dx = dt/2 + dW/2 is the Stratonovich solution of dy = sqrt(1 + y²) dx. The Itô solution of
    # the same coefficients has a drift smaller by y/8, and is not a function of W(1).
    assert interpretation == "Stratonovich"
    return jnp.sinh(jnp.arcsinh(jnp.asarray(0.5)) + 0.5 + 0.5 * w)


SINH = NoisyProblem(
    "diagonal",
    lambda t, y, a: 0.5 * jnp.sqrt(1.0 + y**2),
    lambda t, y, a: lx.DiagonalLinearOperator(0.5 * jnp.sqrt(1.0 + y**2)),
    (2,),
    np.array([0.5, 0.5]),
    _sinh,
)
"""The sinh of a Brownian motion with drift, in each component."""

ROTATION = np.array([[-0.5, 0.8], [-0.8, -0.5]])


def _complex(interpretation: Interpretation, w: Any) -> Any:
    # [[p, q], [-q, p]] multiplies y[0] + i y[1] by p - i q.
    a, b, c = (jnp.asarray(m[0, 0] - 1j * m[0, 1]) for m in (ROTATION, FIRST, SECOND))
    drift = a - 0.5 * (b**2 + c**2) if interpretation == "Itô" else a
    z = (START[0] + 1j * START[1]) * jnp.exp(drift + b * w[0].astype(complex) + c * w[1].astype(complex))
    return jnp.stack([z.real, z.imag])


SPIRAL = NoisyProblem("commutative", lambda t, y, a: ROTATION @ y, turning, (2,), START, _complex)
"""Complex geometric Brownian motion with two sources of noise."""

CLOSED = {"geometric": GEOMETRIC, "sinh": SINH, "spiral": SPIRAL}


def stratonovich_drift(problem: NoisyProblem, interpretation: Interpretation) -> Callable[[Any, Any], Any]:
    """The drift of the Stratonovich equation with the same solution, corrected by the derivative of the noise."""

    def columns(t, y):
        field = problem.diffusion(t, y, None)
        field = field.as_matrix() if isinstance(field, lx.AbstractLinearOperator) else field
        return field.reshape(y.shape[0], -1)

    def drift(t, y):
        plain = problem.drift(t, y, None)
        if interpretation == "Stratonovich":
            return plain
        _, along = jax.vmap(lambda g: jax.jvp(lambda y: columns(t, y), (y,), (g,)), in_axes=1)(columns(t, y))
        return plain - 0.5 * jnp.einsum("kik->i", along)

    return drift
