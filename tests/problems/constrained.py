"""Differential-algebraic equations `M y' = f(t, y, args)` of index 1 with known solutions.

The standard ones are those of Mazzia and Magherini, Test Set for Initial Value Problem Solvers (release 2.4, Bari,
2008): Chemical Akzo Nobel (part II-3) and Transistor amplifier (part II-7), with the test set's references. The others
have closed forms, or are forms with a constraint of equations in `stiff`.
`solvers/test_constrained_problems.py` certifies all of them without this library's solvers.
"""

from collections.abc import Callable
from math import cos, exp, pi, sin, sqrt
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.special import ellipj, ellipk

import rungax

from .base import Problem, traits
from .stiff import ROBERTSON, ROBERTSON_LATE


class Constrained(NamedTuple):
    """A problem, its mass matrix, and the absolute tolerance of its solves relative to the relative one.

    `mass` is anything that `rungax.ODETerm` takes, and `matrix(t, y)` the same as a full matrix in NumPy.
    """

    problem: Problem
    mass: Any
    matrix: Callable[[float, Any], np.ndarray]
    scale: float = 1.0
    tags: Any = ()

    @property
    def name(self) -> str:
        return self.problem.name

    def term(self, **options: Any) -> rungax.ODETerm[Any]:
        return rungax.ODETerm(self.problem.field, mass=self.mass, tags=self.tags, **options)

    def error(self, y: Any) -> float:
        """The root mean square of the components' errors, each relative to the larger of its size and `scale`."""
        found, reference = (np.asarray(ravel_pytree(x)[0]) for x in (y, self.problem.final))
        return float(np.sqrt(np.mean(np.abs((found - reference) / np.maximum(np.abs(reference), self.scale)) ** 2)))


def _with_diagonal(problem: Problem, diagonal: Any, scale: float = 1.0) -> Constrained:
    full = np.asarray(ravel_pytree(diagonal)[0])
    return Constrained(problem, diagonal, lambda t, y: np.diag(full), scale)


# ------------------------------------------------------------------------------------------------------- the standard

AKZO_RATES = (18.7, 0.58, 0.09, 0.42)
_BALANCE, _TRANSFER, _SOLUBILITY, _PRESSURE, _HENRY = 34.4, 3.3, 115.83, 0.9, 737.0


def _akzo_field(t: Any, y: Any, rates: Any) -> Any:
    y1, y2, y3, y4, y5, y6 = y
    k1, k2, k3, k4 = rates
    root = jnp.sqrt(y2)
    r1, r2, r3, r4, r5 = k1 * y1**4 * root, k2 * y3 * y4, k2 / _BALANCE * y1 * y5, k3 * y1 * y4**2, k4 * y6**2 * root
    inflow = _TRANSFER * (_PRESSURE / _HENRY - y2)
    return jnp.stack(
        [
            -2 * r1 + r2 - r3 - r4,
            -0.5 * r1 - r4 - 0.5 * r5 + inflow,
            r1 - r2 + r3,
            -r2 + r3 - 2 * r4,
            r2 - r3 + r5,
            _SOLUBILITY * y1 * y4 - y6,
        ]
    )


CHEMICAL_AKZO = _with_diagonal(
    Problem(
        name="Chemical Akzo Nobel",
        field=_akzo_field,
        y0=np.array([0.444, 0.00123, 0.0, 0.007, 0.0, _SOLUBILITY * 0.444 * 0.007]),
        t0=0.0,
        t1=180.0,
        args=AKZO_RATES,
        reference=(
            0.1150794920661702, 0.1203831471567715e-2, 0.1611562887407974, 0.3656156421249283e-3,
            0.1708010885264404e-1, 0.4873531310307455e-2,
        ),
        traits=traits("stiff", "autonomous"),
    ),
    np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0]),
    scale=1e-3,
)  # fmt: skip

_SUPPLY, _THERMAL, _GAIN, _LEAK = 6.0, 0.026, 0.99, 1e-6
_FIRST, _RESISTANCE = 1000.0, 9000.0


def _amplifier_field(t: Any, y: Any, args: Any) -> Any:
    u1, u2, u3, u4, u5, u6, u7, u8 = y
    signal = 0.1 * jnp.sin(200 * jnp.pi * t)
    g23, g56 = (_LEAK * (jnp.exp(x / _THERMAL) - 1) for x in (u2 - u3, u5 - u6))
    return jnp.stack(
        [
            (u1 - signal) / _FIRST,
            (2 * u2 - _SUPPLY) / _RESISTANCE + (1 - _GAIN) * g23,
            u3 / _RESISTANCE - g23,
            (u4 - _SUPPLY) / _RESISTANCE + _GAIN * g23,
            (2 * u5 - _SUPPLY) / _RESISTANCE + (1 - _GAIN) * g56,
            u6 / _RESISTANCE - g56,
            (u7 - _SUPPLY) / _RESISTANCE + _GAIN * g56,
            u8 / _RESISTANCE,
        ]
    )


def _amplifier_mass() -> np.ndarray:
    """The capacities; those between two nodes are in two rows, whose sum has none."""
    c1, c2, c3, c4, c5 = (1e-6 * k for k in range(1, 6))
    mass = np.diag([-c1, -c1, -c2, -c3, -c3, -c4, -c5, -c5])
    for i, c in ((0, c1), (3, c3), (6, c5)):
        mass[i, i + 1] = mass[i + 1, i] = c
    return mass


_AMPLIFIER_MASS = _amplifier_mass()

TRANSISTOR_AMPLIFIER = Constrained(
    Problem(
        name="Transistor amplifier",
        field=_amplifier_field,
        y0=np.array([0.0, 3.0, 3.0, 6.0, 3.0, 3.0, 6.0, 0.0]),
        t0=0.0,
        t1=0.2,
        reference=(
            -0.5562145012262709e-2, 0.3006522471903042e1, 0.2849958788608128e1, 0.2926422536206241e1,
            0.2704617865010554e1, 0.2761837778393145e1, 0.4770927631616772e1, 0.1236995868091548e1,
        ),
        traits=traits("stiff"),
    ),
    _AMPLIFIER_MASS,
    lambda t, y: _AMPLIFIER_MASS,
)  # fmt: skip
"""Eight equations with a mass matrix of rank 5 that has no row of zeros."""


def _robertson_field(t: Any, y: Any, rates: Any) -> Any:
    a, b, c = y
    k1, k2, k3 = rates
    slow, fast, back = k1 * a, k2 * b * b, k3 * b * c
    return jnp.stack([back - slow, (slow - back) - fast, a + b + c - 1])


def _robertson(of: Problem) -> Constrained:
    problem = Problem(
        name=f"{of.name}, with the sum as a constraint",
        field=_robertson_field,
        y0=of.y0,
        t0=of.t0,
        t1=of.t1,
        args=of.args,
        reference=of.reference,
        traits=traits("stiff", "autonomous"),
    )
    return _with_diagonal(problem, np.array([1.0, 1.0, 0.0]), scale=1e-8)


ROBERTSON_DAE, ROBERTSON_LATE_DAE = _robertson(ROBERTSON), _robertson(ROBERTSON_LATE)

# ----------------------------------------------------------------------------------------------- with exact solutions

GRAVITY, RELEASE = 9.81, 1.0


def _pendulum_field(t: Any, y: Any, gravity: Any) -> Any:
    x, z, u, w, tension = y
    return jnp.stack([u, w, -tension * x, -tension * z - gravity, u**2 + w**2 - tension * (x**2 + z**2) - gravity * z])


def _pendulum_exact(t: float) -> np.ndarray:
    """Position, velocity and tension by Jacobi's elliptic functions, from the angle `RELEASE` at rest.

    The angle is 2 arcsin(k sn(ωt + K, k)) with k = sin(RELEASE / 2), ω² the gravity and K the quarter period.
    """
    k, frequency = sin(RELEASE / 2), sqrt(GRAVITY)
    sn, cn, dn, _ = (float(x) for x in ellipj(frequency * t + ellipk(k * k), k * k))
    sine, cosine = 2 * k * sn * dn, dn * dn - k * k * sn * sn
    speed = 2 * k * frequency * cn
    return np.array([sine, -cosine, speed * cosine, speed * sine, speed**2 + GRAVITY * cosine])


PENDULUM = _with_diagonal(
    Problem(
        name="pendulum in Cartesian coordinates, index 1",
        field=_pendulum_field,
        y0=_pendulum_exact(0.0),
        t0=0.0,
        t1=2.0,
        args=GRAVITY,
        exact=_pendulum_exact,
        traits=traits("autonomous"),
    ),
    np.array([1.0, 1.0, 1.0, 1.0, 0.0]),
)
"""A mass on a rod of length 1: the constraint of its position, differentiated twice, determines the tension."""

_ROWS = np.array([[1.0, 0.5, -1.0], [2.0, -1.0, 0.5], [0.5, 1.0, 1.5]])
_COLUMNS = np.array([[1.0, -0.5, 0.25], [0.5, 1.0, -1.0], [-1.0, 0.25, 1.0]])
_TWISTS = 0.5j * np.array([[1.0, -1.0, 0.5], [0.0, 1.0, 1.0], [1.0, 0.5, -1.0]])


def _linear(rate: complex, rows: np.ndarray, columns: np.ndarray, *names: str) -> Constrained:
    """Two forced decays and an algebraic unknown `z₃ = z₁ - 2 z₂ + cos 3t` in mixed unknowns `y = columns z`."""
    inverse = np.linalg.inv(columns)
    mass = rows @ np.diag([1.0, 1.0, 0.0]) @ inverse

    def field(t: Any, y: Any, args: Any) -> Any:
        z1, z2, z3 = jnp.asarray(inverse, y.dtype) @ y
        waves = [jnp.sin(t), jnp.cos(t), jnp.sin(3 * t), jnp.cos(3 * t)]
        sine, cosine, sine3, cosine3 = (jnp.asarray(wave).astype(y.dtype) for wave in waves)
        slopes = [rate * (z1 - sine) + cosine, -2 * (z2 - cosine3) - 3 * sine3, z1 - 2 * z2 - z3 + cosine3]
        return jnp.asarray(rows, y.dtype) @ jnp.stack(slopes)

    def exact(t: float) -> np.ndarray:
        z1, z2 = np.exp(rate * t) + sin(t), exp(-2 * t) + cos(3 * t)
        return columns @ np.array([z1, z2, z1 - 2 * z2 + cos(3 * t)])

    name = f"linear, {' and '.join(names)}"
    problem = Problem(
        name, field, exact(0.0), 0.0, 2.0, exact=exact, traits=traits("linear", *names).difference({"real"})
    )
    return Constrained(problem, mass, lambda t, y: mass)


LINEAR = _linear(-1.0, _ROWS, _COLUMNS, "real")
COMPLEX_LINEAR = _linear(-1.0 + 2.0j, _ROWS + _TWISTS, _COLUMNS + _TWISTS.T, "complex")

_INDUCTANCE, _CAPACITY, _LOAD, _VOLTAGE = 0.5, 0.2, 1.0, 2.0


def _rlc_field(t: Any, y: Any, voltage: Any) -> Any:
    del t
    return {
        "capacitor": y["current"],
        "current": y["inductor"],
        "inductor": y["resistor"] + y["inductor"] + y["capacitor"] - voltage,
        "resistor": _LOAD * y["current"] - y["resistor"],
    }


def _rlc_exact(t: float) -> dict[str, np.ndarray]:
    """The response to a voltage that is switched on at time 0; its damping is below the critical one."""
    damping = _LOAD / (2 * _INDUCTANCE)
    frequency = sqrt(1 / (_INDUCTANCE * _CAPACITY) - damping**2)
    decay, sine, cosine = exp(-damping * t), sin(frequency * t), cos(frequency * t)
    capacitor = _VOLTAGE * (1 - decay * (cosine + damping / frequency * sine))
    current = _VOLTAGE / (_INDUCTANCE * frequency) * decay * sine
    resistor = _LOAD * current
    values = {"capacitor": capacitor, "current": current, "inductor": _VOLTAGE - resistor - capacitor}
    return {name: np.asarray(value) for name, value in (*values.items(), ("resistor", resistor))}


RLC = _with_diagonal(
    Problem(
        name="RLC circuit",
        field=_rlc_field,
        y0=_rlc_exact(0.0),
        t0=0.0,
        t1=2.0,
        args=_VOLTAGE,
        exact=_rlc_exact,
        traits=traits("linear", "pytree", "autonomous"),
    ),
    {"capacitor": _CAPACITY, "current": _INDUCTANCE, "inductor": 0.0, "resistor": 0.0},
)
"""Coil, capacitor and resistor in series: the voltages of coil and resistor are algebraic."""


def _charge_field(t: Any, y: Any, args: Any) -> Any:
    a, b = y
    return jnp.stack([-3 * a - b**2, a - b**3])


MASS_OF_STATE = Constrained(
    Problem(
        name="a mass that depends on the state",
        field=_charge_field,
        y0=np.array([1.0, 1.0]),
        t0=0.0,
        t1=1.0,
        exact=lambda t: np.array([exp(-3 * t), exp(-t)]),
        traits=traits("autonomous"),
    ),
    lambda t, y, args: jnp.stack([jnp.stack([jnp.ones_like(y[1]), y[1]]), jnp.zeros_like(y)]),
    lambda t, y: np.array([[1.0, y[1]], [0.0, 0.0]]),
)
"""`(a + b² / 2)' = -3 a - b²` and `a = b³`, as models with conserved quantities have it: the kernel of M turns."""


def _timed_field(t: Any, y: Any, args: Any) -> Any:
    a, _, c = y
    first, second = -(1 + t) * c, -2 * a * c  # a' + t c' and b'
    return jnp.stack([(2 + jnp.sin(t)) * first + jnp.cos(t) * second, (1 + t) * second, c + c**3 - a - a**3])


def _timed_mass(t: Any, y: Any, args: Any) -> Any:
    zero = jnp.zeros_like(y[0])
    factor = (2 + jnp.sin(t)).astype(y.dtype)
    first = jnp.stack([factor, jnp.cos(t).astype(y.dtype), factor * t])
    return jnp.stack([first, jnp.stack([zero, zero + 1 + t, zero]), jnp.zeros_like(y)])


MASS_OF_TIME = Constrained(
    Problem(
        name="a mass that depends on time",
        field=_timed_field,
        y0=np.ones(3),
        t0=0.0,
        t1=1.0,
        exact=lambda t: np.array([exp(-t), exp(-2 * t), exp(-t)]),
    ),
    _timed_mass,
    lambda t, y: np.array([[2 + sin(t), cos(t), (2 + sin(t)) * t], [0.0, 1 + t, 0.0], [0.0, 0.0, 0.0]]),
)


def _nonlinear_field(t: Any, y: Any, args: Any) -> Any:
    a, b = y
    part = b - jnp.cos(2 * t)
    return jnp.stack([jnp.cos(t) * part, part**3 + a * part - a**3 - a**2])


NONLINEAR = _with_diagonal(
    Problem(
        name="a nonlinear constraint",
        field=_nonlinear_field,
        y0=np.array([1.0, 2.0]),
        t0=0.0,
        t1=2.0,
        exact=lambda t: np.array([exp(sin(t)), exp(sin(t)) + cos(2 * t)]),
    ),
    np.array([1.0, 0.0]),
)
"""Nonlinear in both components and not autonomous, with a smooth solution: the orders of both can be measured."""

_POINTS, _MODE, _GROWTH = 101, 2, 0.5


def _diffusion_field(t: Any, y: Any, args: Any) -> Any:
    inner = (y[:-2] - 2 * y[1:-1] + y[2:]) * (_POINTS - 1) ** 2
    ends = jnp.stack([y[0] - 1 - _GROWTH * t, y[-1] - 2 - _GROWTH * (t + 0.5)])
    return jnp.concatenate([ends[:1], inner, ends[1:]])


def _diffusion_exact(t: float) -> np.ndarray:
    """The solution of the equations on the grid: a sine, whose rate is theirs, and a growing parabola."""
    x = np.linspace(0.0, 1.0, _POINTS)
    angle = _MODE * pi / (_POINTS - 1)
    rate = 12 * (_POINTS - 1) ** 2 * (1 - cos(angle)) / (4 + 2 * cos(angle))
    return exp(-rate * t) * np.sin(_MODE * pi * x) + 1 + x + _GROWTH * (t + x**2 / 2)


def _diffusion_mass() -> np.ndarray:
    """The three diagonals of the mass matrix, below, on and above the main one; the first and last rows are zero."""
    mass = np.full((3, _POINTS), 1 / 6)
    mass[1] = 2 / 3
    mass[:, [0, -1]] = 0.0
    return mass


_FULL_DIFFUSION_MASS = np.diag(_diffusion_mass()[1]) + sum(
    np.diag(diagonal, k) for diagonal, k in ((_diffusion_mass()[0][1:], -1), (_diffusion_mass()[2][:-1], 1))
)

DIFFUSION = Constrained(
    Problem(
        name="diffusion with linear finite elements",
        field=_diffusion_field,
        y0=_diffusion_exact(0.0),
        t0=0.0,
        t1=0.1,
        exact=_diffusion_exact,
        traits=traits("stiff", "linear"),
    ),
    rungax.BandedLinearOperator(_diffusion_mass(), 1, 1),
    lambda t, y: _FULL_DIFFUSION_MASS,
    tags=rungax.Banded(1, 1),
)
"""Values at both ends are given by algebraic equations; the mass matrix couples neighbours, also those at the ends."""

CONSTANT_MASS = (
    CHEMICAL_AKZO,
    TRANSISTOR_AMPLIFIER,
    ROBERTSON_DAE,
    ROBERTSON_LATE_DAE,
    PENDULUM,
    LINEAR,
    COMPLEX_LINEAR,
    RLC,
    NONLINEAR,
    DIFFUSION,
)
VARIABLE_MASS = (MASS_OF_STATE, MASS_OF_TIME)
CONSTRAINED = (*CONSTANT_MASS, *VARIABLE_MASS)
