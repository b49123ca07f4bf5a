"""The test problems DETEST, all from 0 to 20.

T. E. Hull, W. H. Enright, B. M. Fellen, A. E. Sedgwick, Comparing numerical methods for ordinary differential
equations, SIAM J. Numer. Anal. 9 (1972), 603-637.

References, to fourteen digits, are from heyoka's Taylor method; they agree with the values in Enright and Pryce's
package (ACM Trans. Math. Softw. 13 (1987), 1-27). `convergence/test_problems.py` certifies them with SciPy's DOP853.
"""

from math import cos, cosh, exp, factorial, log, pi, sin, sqrt, tanh
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import ellipj

from .base import Exact, Field, Problem, traits
from .ordinary import kepler, torus, torus_field

_END = 20.0


def _detest(name: str, field: Field, y0: Any, exact: Exact | None, *names: str, reference: Any = None) -> Problem:
    return Problem(name, field, np.array(y0), 0.0, _END, exact=exact, reference=reference, traits=traits(*names))


def _first(n: int) -> np.ndarray:
    return np.eye(n)[0]


def _a5_field(t: Any, y: Any, args: Any) -> Any:
    return (y - t) / (y + t)


def _b1_field(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([2 * (y[0] - y[0] * y[1]), -(y[1] - y[0] * y[1])])


def _b2_field(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([-y[0] + y[1], y[0] - 2 * y[1] + y[2], y[1] - y[2]])


def _b2_exact(t: float) -> np.ndarray:
    # The modes (1, 1, 1), (1, 0, -1) and (1, -2, 1) decay at the rates 0, 1 and 3.
    ones, odd, even = np.array([1.0, 1, 1]), np.array([1.0, 0, -1]), np.array([1.0, -2, 1])
    return ones + 0.5 * exp(-t) * odd + 0.5 * exp(-3 * t) * even


def _b3_field(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([-y[0], y[0] - y[1] ** 2, y[1] ** 2])


def _b5_field(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]])


def _c1_field(t: Any, y: Any, args: Any) -> Any:
    return jnp.concatenate([jnp.zeros(1), y[:-1]]) - jnp.concatenate([y[:-1], jnp.zeros(1)])


def _c1_exact(t: float) -> np.ndarray:
    y = np.array([exp(-t) * t**i / factorial(i) for i in range(10)])
    return np.append(y[:9], 1 - y[:9].sum())


def _c2_field(t: Any, y: Any, args: Any) -> Any:
    rates = jnp.arange(1.0, 10.0) * y[:-1]
    return jnp.concatenate([jnp.zeros(1), rates]) - jnp.concatenate([rates, jnp.zeros(1)])


def _c2_exact(t: float) -> np.ndarray:
    return np.array([exp(-t) * (1 - exp(-t)) ** i for i in range(9)] + [(1 - exp(-t)) ** 9])


def _c3_field(t: Any, y: Any, args: Any) -> Any:
    return jnp.concatenate([y[1:], jnp.zeros(1)]) - 2 * y + jnp.concatenate([jnp.zeros(1), y[:-1]])


def _c3_exact(n: int) -> Exact:
    angles = np.arange(1, n + 1) * pi / (n + 1)
    modes = np.sin(np.outer(np.arange(1, n + 1), angles)) * sqrt(2 / (n + 1))
    return lambda t: modes @ (modes[0] * np.exp(-4 * np.sin(angles / 2) ** 2 * t))


# The outer planets around the sun: places in astronomical units, speeds per hundred days, masses in solar masses.
_GRAVITY = 2.95912208286
_SUN = 1.00000597682
_PLANETS = np.array([0.000954786104043, 0.000285583733151, 0.0000437273164546, 0.0000517759138449, 0.00000277777777778])
_PLACES = """
    3.42947415189 3.35386959711 1.35494901715   6.64145542550 5.97156957878 2.18231499728
    11.2630437207 14.6952576794 6.27960525067   -30.1552268759 1.65699966404 1.43785752721
    -21.1238353380 28.4465098142 15.3882659679
"""
_SPEEDS = """
    -.557160570446 .505696783289 .230578543901  -.415570776342 .365682722812 .169143213293
    -.325325669158 .189706021964 .0877265322780 -.0240476254170 -.287659532608 -.117219543175
    -.176860753121 -.216393453025 -.0148647893090
"""
_C5_START = tuple(float(x) for x in (_PLACES + _SPEEDS).split())
_C5_REFERENCE = (
    *(-4.792730224323733, -2.420550725448973, -0.9212509306014886),
    *(-4.217310404035213, 7.356202947498970, 3.223785985421212),
    *(4.035559443262270, 17.19865528670555, 7.478910794233703),
    *(-29.98759326324844, -4.107310937550929, -0.9277008321754407),
    *(-24.42125302518482, 23.81459045746554, 14.92096306951359),
    *(0.3499208963063806, -0.5748487687912825, -0.2551694020879149),
    *(-0.5237040978903326, -0.2493000463579661, -0.08045341642044464),
    *(-0.3875289237334110, 0.05648603288767891, 0.03023606472143342),
    *(0.04133856546712445, -0.2862393029841379, -0.1183032405136207),
    *(-0.1511986457359206, -0.2460068894318766, -0.03189687411323877),
)


def _c5_field(t: Any, y: Any, args: Any) -> Any:
    place, speed = y[:15].reshape(5, 3), y[15:]
    masses = jnp.asarray(_PLANETS)[:, None]
    to_sun = place / jnp.sum(place**2, axis=1, keepdims=True) ** 1.5
    between = place[None, :, :] - place[:, None, :]
    # One more on the diagonal, where the distance is zero and so is the force.
    cubes = (jnp.sum(between**2, axis=2) + jnp.eye(5)) ** 1.5
    to_others = jnp.einsum("k,jki->ji", masses[:, 0], between / cubes[:, :, None])
    others_on_sun = jnp.sum(masses * to_sun, axis=0)[None, :] - masses * to_sun
    force = -(_SUN + masses) * to_sun + to_others - others_on_sun
    return jnp.concatenate([speed, _GRAVITY * force.reshape(15)])


def _e1_field(t: Any, y: Any, args: Any) -> Any:
    x = t + 1
    return jnp.stack([y[1], -(y[1] / x + (1 - 0.25 / x**2) * y[0])])


def _e1_exact(t: float) -> np.ndarray:
    # The Bessel function of order one half, and its derivative.
    x = t + 1
    size = sqrt(2 / (pi * x))
    return np.array([size * sin(x), size * (cos(x) - sin(x) / (2 * x))])


def _e2_field(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], (1 - y[0] ** 2) * y[1] - y[0]])


def _e3_field(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], y[0] ** 3 / 6 - y[0] + 2 * jnp.sin(2.78535 * t)])


def _e4_field(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], 0.032 - 0.4 * y[1] ** 2])


def _e4_exact(t: float) -> np.ndarray:
    rate = sqrt(0.032 * 0.4)
    return np.array([30 + log(cosh(rate * t)) / 0.4, sqrt(0.032 / 0.4) * tanh(rate * t)])


def _e5_field(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], jnp.sqrt(1 + y[1] ** 2) / (25 - t)])


def _e5_exact(t: float) -> np.ndarray:
    left = 25 - t
    return np.array([12.5 * log(25 / left) - (625 - left**2) / 100, (25 / left - left / 25) / 2])


_B1_REFERENCE = (0.6761876008576632, 0.18608160996400303)
_B3_REFERENCE = (2.061153622438558e-09, 0.05257228022048512, 0.9474277177183611)
_E2_REFERENCE = (2.0081497621749484, -0.0425088752732032)
_E3_REFERENCE = (-0.1004178858647072, 0.24114001320959025)

_DETEST_A = (
    _detest("A1", lambda t, y, args: -y, [1.0], lambda t: np.array([exp(-t)]), "autonomous", "linear"),
    _detest("A2", lambda t, y, args: -(y**3) / 2, [1.0], lambda t: np.array([1 / sqrt(1 + t)]), "autonomous"),
    _detest("A3", lambda t, y, args: y * jnp.cos(t), [1.0], lambda t: np.array([exp(sin(t))]), "linear"),
    _detest("A4", lambda t, y, args: y / 4 * (1 - y / 20), [1.0], lambda t: np.array([20 / (1 + 19 * exp(-t / 4))])),
    _detest("A5", _a5_field, [4.0], None, reference=(-0.7887826688964087,)),
)
_DETEST_B = (
    _detest("B1", _b1_field, [1.0, 3.0], None, "autonomous", reference=_B1_REFERENCE),
    _detest("B2", _b2_field, [2.0, 0.0, 1.0], _b2_exact, "autonomous", "linear"),
    _detest("B3", _b3_field, [1.0, 0.0, 0.0], None, "autonomous", reference=_B3_REFERENCE),
    _detest("B4", lambda t, y, args: torus_field(y), [3.0, 0.0, 0.0], torus, "autonomous"),
    _detest("B5", _b5_field, [0.0, 1.0, 1.0], lambda t: np.array(ellipj(t, 0.51)[:3]), "autonomous"),
)
_DETEST_C = (
    _detest("C1", _c1_field, _first(10), _c1_exact, "autonomous", "linear"),
    _detest("C2", _c2_field, _first(10), _c2_exact, "autonomous", "linear"),
    _detest("C3", _c3_field, _first(10), _c3_exact(10), "autonomous", "linear"),
    _detest("C4", _c3_field, _first(51), _c3_exact(51), "autonomous", "linear"),
    _detest("C5", _c5_field, _C5_START, None, "autonomous", reference=_C5_REFERENCE),
)
_DETEST_D = tuple(kepler(f"D{i}", e, _END) for i, e in enumerate([0.1, 0.3, 0.5, 0.7, 0.9], start=1))
_DETEST_E = (
    _detest("E1", _e1_field, _e1_exact(0.0), _e1_exact, "linear"),
    _detest("E2", _e2_field, [2.0, 0.0], None, "autonomous", reference=_E2_REFERENCE),
    _detest("E3", _e3_field, [0.0, 0.0], None, reference=_E3_REFERENCE),
    _detest("E4", _e4_field, [30.0, 0.0], _e4_exact, "autonomous"),
    _detest("E5", _e5_field, [0.0, 0.0], _e5_exact),
)

DETEST = _DETEST_A + _DETEST_B + _DETEST_C + _DETEST_D + _DETEST_E
