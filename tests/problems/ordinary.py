"""Small ordinary differential equations with exact solutions, and one for order tests, whose errors are graded.

`convergence/test_problems.py` certifies every solution with SciPy's DOP853 at `rtol=1e-13, atol=1e-15`. The reference
of Lotka and Volterra's equations is from heyoka's Taylor method.
"""

from math import cos, exp, sin, sqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .base import Exact, Problem, traits

DECAY = Problem(
    name="linear decay",
    field=lambda t, y, rate: -rate * y,
    y0=np.array([1.0, -2.0]),
    t0=0.0,
    t1=1.0,
    args=0.5,
    exact=lambda t: np.array([1.0, -2.0]) * exp(-0.5 * t),
    traits=traits("autonomous", "linear"),
)

BELL = Problem(
    name="bell: y' = -2 t y², which is 1 / (1 + t²)",
    field=lambda t, y, args: -2 * t * y * y,
    y0=np.array(1.0),
    t0=0.0,
    t1=1.0,
    exact=lambda t: np.array(1 / (1 + t * t)),
    traits=traits("scalar"),
)

OSCILLATOR = Problem(
    name="harmonic oscillator",
    field=lambda t, y, frequency: jnp.stack([y[1], -(frequency**2) * y[0]]),
    y0=np.array([1.0, 0.0]),
    t0=0.0,
    t1=1.0,
    args=2.0,
    exact=lambda t: np.array([cos(2 * t), -2 * sin(2 * t)]),
    traits=traits("autonomous", "linear"),
)

COMPLEX_OSCILLATOR = Problem(
    name="harmonic oscillator, complex",
    field=lambda t, y, frequency: jnp.asarray(1j, y.dtype) * frequency * y,
    y0=np.array([1.0 + 0.0j, 0.5j]),
    t0=0.0,
    t1=1.0,
    args=2.0,
    exact=lambda t: np.array([1.0 + 0.0j, 0.5j]) * np.exp(2j * t),
    traits=traits("autonomous", "linear", "complex"),
)


def _spring_field(t: Any, y: Any, args: Any) -> Any:
    (mass,) = y["mass"]
    return {
        "place": y["speed"],
        "speed": jax.tree.map(lambda x, v: -args["stiffness"] * x - 2 * args["damping"] * v, y["place"], y["speed"]),
        "mass": (jnp.zeros_like(mass),),
    }


def _spring_exact(t: float) -> Any:
    damping, stiffness = 0.1, 4.0
    frequency = sqrt(stiffness - damping**2)
    place = exp(-damping * t) * (cos(frequency * t) + damping / frequency * sin(frequency * t))
    speed = -stiffness / frequency * exp(-damping * t) * sin(frequency * t)
    start = np.array([1.0, -0.5, 2.0])
    return {"place": start * place, "speed": start * speed, "mass": (np.array(3.0),)}


SPRING = Problem(
    name="damped springs, a dict with a tuple in it",
    field=_spring_field,
    y0=_spring_exact(0.0),
    t0=0.0,
    t1=1.0,
    args={"stiffness": 4.0, "damping": 0.1},
    exact=_spring_exact,
    traits=traits("autonomous", "linear", "pytree"),
)

LOTKA_VOLTERRA = Problem(
    name="Lotka-Volterra",
    field=lambda t, y, args: jnp.stack(
        [y[0] * (args["birth"] - args["eaten"] * y[1]), y[1] * (args["food"] * y[0] - args["death"])]
    ),
    y0=np.array([10.0, 5.0]),
    t0=0.0,
    t1=10.0,
    args={"birth": 1.1, "eaten": 0.4, "food": 0.1, "death": 0.4},
    reference=(13.63363924392172, 2.551950971187364),
    traits=traits("autonomous"),
)


def torus(s: float) -> np.ndarray:
    return np.array([(2 + cos(s)) * cos(s), (2 + cos(s)) * sin(s), sin(s)])


def torus_field(y: Any) -> Any:
    radius = jnp.hypot(y[0], y[1])
    return jnp.stack([-y[1] - y[0] * y[2] / radius, y[0] - y[1] * y[2] / radius, y[0] / radius])


CLOCKED_TORUS = Problem(
    name="a curve on a torus (DETEST B4), run by an uneven clock: nonlinear, not autonomous",
    field=lambda t, y, args: (1 + 0.5 * jnp.cos(t)) * torus_field(y),
    y0=torus(0.0),
    t0=0.0,
    t1=4.0,
    exact=lambda t: torus(t + 0.5 * sin(t)),
)


def kepler_orbit(eccentricity: float) -> Exact:
    """Place and speed of a planet that starts at its perihelion, from Kepler's equation."""

    def exact(t: float) -> np.ndarray:
        anomaly = t + 0.85 * eccentricity * np.sign(sin(t))  # converges from here for every eccentricity (Danby)
        for _ in range(50):
            defect = anomaly - eccentricity * sin(anomaly) - t
            anomaly -= defect / (1 - eccentricity * cos(anomaly))
        c, s = cos(anomaly), sin(anomaly)
        minor, distance = sqrt(1 - eccentricity**2), 1 - eccentricity * c
        return np.array([c - eccentricity, minor * s, -s / distance, minor * c / distance])

    return exact


def _kepler_field(t: Any, y: Any, args: Any) -> Any:
    distance = jnp.hypot(y[0], y[1])
    return jnp.stack([y[2], y[3], -y[0] / distance**3, -y[1] / distance**3])


def kepler(name: str, eccentricity: float, t1: float) -> Problem:
    exact = kepler_orbit(eccentricity)
    return Problem(name, _kepler_field, exact(0.0), 0.0, t1, exact=exact, traits=traits("autonomous"))


KEPLER = kepler("Kepler, eccentricity 0.3", 0.3, 2.0)


# ---------------------------------------------------------------------------------------------------- a graded problem

# Component i has weight i, from 1 to this; enough for the local error of a method of order nine.
LEVELS = 10


def _graded_tensors() -> list[np.ndarray]:
    """Three random bilinear maps that add weights: entry (w, i, j) vanishes unless i + j = w, and (0, 0, 0) is one."""
    generator = np.random.default_rng(1)
    weight = np.arange(LEVELS + 1)
    graded = weight[:, None, None] == weight[:, None] + weight
    tensors = [np.where(graded, generator.uniform(0.2, 1.0, graded.shape), 0.0) for _ in range(3)]
    return [tensor / tensor.sum((1, 2), keepdims=True) for tensor in tensors]


_TENSORS = _graded_tensors()


def _graded_map(xp: Any, t: Any, y: Any) -> Any:
    """The rates of change: those of weight w are polynomials of weight w - 1 and degree up to 8 in t and y."""
    z = xp.concatenate([xp.ones(1), y])
    z = z + xp.asarray(np.eye(LEVELS + 1)[1]) * t
    for tensor in _TENSORS:
        z = xp.einsum("wij,i,j->w", xp.asarray(tensor), z, z)
    return z[:-1] * xp.asarray(np.arange(1.0, LEVELS + 1))


def _graded_coefficients() -> np.ndarray:
    """The solution from zero is a_w t^w; each a_w follows from those before it, so as many rounds as levels suffice."""
    a = np.zeros(LEVELS)
    for _ in range(LEVELS):
        a = _graded_map(np, 1.0, a) / np.arange(1, LEVELS + 1)
    return a


_COEFFICIENTS = _graded_coefficients()

GRADED = Problem(
    name="graded: every component a polynomial, every local error a single power of the step",
    field=lambda t, y, args: _graded_map(jnp, t, y),
    y0=np.zeros(LEVELS),
    t0=0.0,
    t1=1.0,
    exact=lambda t: _COEFFICIENTS * t ** np.arange(1, LEVELS + 1),
)
"""The clean region of an order test, at every step size.

Multiplying t by s and the component of weight w by s^w maps solutions to solutions. An elementary differential of order
q therefore vanishes in components of weight below q and is constant in that of weight q. So a Runge-Kutta method of
order p is exact, but for rounding, in components 1 to p, and its global error in component p + 1 is C h^p, without
further powers of h. The same holds for dense output and for error estimates. All rooted trees up to order `LEVELS` with
up to eight branches at a node contribute, with random coefficients.
"""

SMALL = (DECAY, BELL, OSCILLATOR, COMPLEX_OSCILLATOR, SPRING, LOTKA_VOLTERRA, CLOCKED_TORUS, KEPLER, GRADED)
