"""Stiff problems with known solutions.

The standard ones are those of Mazzia and Magherini, Test Set for Initial Value Problem Solvers (release 2.4, Bari,
2008), and of Hairer and Wanner, Solving Ordinary Differential Equations II (second edition), section IV.10. Their
references were computed for these tests, by the Radau IIA method of order 13 in 80-bit arithmetic, with Newton
residuals of at most 1e-17. Halving every step changes each component by at most 1e-13 of itself. They agree with the
values that the test set publishes to 2e-13 (HIRES, Oregonator), 2e-14 (Van der Pol, Robertson at 1e11) and 1e-15
(Pollution); for E5 and Medical Akzo see there.
`stiff/test_problems.py` certifies every solution with SciPy's Radau.
"""

import pathlib
from math import cos, exp, sin
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .base import Field, Problem, traits

# -------------------------------------------------------------------------------------------------- with exact solution

LINEAR_RATES = (1.0, 1e3, 1e6)

STIFF_DECAY = Problem(
    name="stiff linear decay",
    field=lambda t, y, rates: -jnp.asarray(rates, y.dtype) * y,
    y0=np.array([1.0, -2.0, 3.0]),
    t0=0.0,
    t1=1.0,
    args=LINEAR_RATES,
    exact=lambda t: np.array([1.0, -2.0, 3.0]) * np.exp(-t * np.array(LINEAR_RATES)),
    traits=traits("stiff", "autonomous", "linear"),
)


def prothero_robinson(rate: float) -> Problem:
    """The slow solution `cos(t)` of `y' = -rate (y - cos(t)) - sin(t)`, which is stiffer the larger the rate.

    A. Prothero, A. Robinson, Math. Comp. 28 (1974), 145-162.
    """
    return Problem(
        name=f"Prothero-Robinson, rate {rate:g}",
        field=lambda t, y, rate: -rate * (y - jnp.cos(t)) - jnp.sin(t),
        y0=np.array([1.0]),
        t0=0.0,
        t1=2.0,
        args=rate,
        exact=lambda t: np.array([cos(t)]),
        traits=traits("stiff", "linear"),
    )


PROTHERO_ROBINSON = prothero_robinson(1e6)


def _lambert_field(t: Any, y: Any, args: Any) -> Any:
    a, b = y
    s, c = jnp.sin(t), jnp.cos(t)
    return jnp.stack([-2 * a + b + 2 * s, 998 * a - 999 * b + 999 * (c - s)])


LAMBERT = Problem(
    name="Lambert's stiff linear system with an oscillating force",
    field=_lambert_field,
    y0=np.array([2.0, 3.0]),
    t0=0.0,
    t1=10.0,
    exact=lambda t: np.array([2 * exp(-t) + sin(t), 2 * exp(-t) + cos(t)]),
    traits=traits("stiff", "linear"),
)
"""J. D. Lambert, Numerical Methods for Ordinary Differential Systems (1991), section 6.1, the second problem."""


def _kaps_field(y: Any, stiffness: Any) -> Any:
    a, b = y
    return jnp.stack([-(stiffness + 2) * a + stiffness * b * b, a - b - b * b])


def _kaps_exact(t: float) -> np.ndarray:
    return np.array([exp(-2 * t), exp(-t)])


KAPS = Problem(
    name="Kaps",
    field=lambda t, y, stiffness: _kaps_field(y, stiffness),
    y0=np.array([1.0, 1.0]),
    t0=0.0,
    t1=1.0,
    args=1e5,
    exact=_kaps_exact,
    traits=traits("stiff", "autonomous"),
)
"""P. Kaps, Rosenbrock-type methods, in Numerical Methods for Stiff Initial Value Problems (Aachen, 1981)."""

CLOCKED_KAPS = Problem(
    name="Kaps, in a nonuniform time: stiff, nonlinear, not autonomous",
    field=lambda t, y, stiffness: (1 + 0.5 * jnp.cos(3 * t)) * _kaps_field(y, stiffness),
    y0=np.array([1.0, 1.0]),
    t0=0.0,
    t1=2.0,
    args=1e5,
    exact=lambda t: _kaps_exact(t + sin(3 * t) / 6),
    traits=traits("stiff"),
)

# The ratios of the fast entries to the square of the slow one, and of the chain's entries to the slow one.
_FAST = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]])
_CHAIN = np.array([1.0, -1.0, 2.0, -0.5])


def _tree_field(t: Any, y: Any, stiffness: Any) -> Any:
    fast, slow, (chain,) = y["fast"], y["slow"], y["chain"]
    weights, pull = jnp.asarray(_FAST, fast.dtype), jnp.asarray(_CHAIN, chain.dtype) * slow
    return {
        "fast": -(stiffness + 2) * fast + stiffness * weights * slow**2,
        "slow": jnp.mean(fast / weights) - slow - slow**2,
        "chain": (-0.1 * stiffness * (chain - pull) - pull,),
    }


def _tree_exact(t: float) -> Any:
    slow = np.array(exp(-t))
    return {"fast": _FAST * slow**2, "slow": slow, "chain": (_CHAIN * slow,)}


STIFF_TREE = Problem(
    name="Kaps for a dict of a matrix, a scalar and a tuple",
    field=_tree_field,
    y0=_tree_exact(0.0),
    t0=0.0,
    t1=1.0,
    args=1e5,
    exact=_tree_exact,
    traits=traits("stiff", "autonomous", "pytree"),
)

_TURN, _FALL = 3.0, 1e5 * (1 + 2j)


def _complex_field(t: Any, y: Any, args: Any) -> Any:
    turn, fall = jnp.asarray(1j * _TURN, y.dtype), jnp.asarray(_FALL, y.dtype)
    a, b = y
    return jnp.stack([turn * a, -fall * (b - a * a) + 2 * turn * a * a])


def _complex_exact(t: float) -> np.ndarray:
    a = (1 + 0.5j) * np.exp(1j * _TURN * t)
    return np.array([a, a * a + 2 * np.exp(-_FALL * t)])


STIFF_COMPLEX = Problem(
    name="complex: a rotation, and a fast decay towards its square",
    field=_complex_field,
    y0=_complex_exact(0.0),
    t0=0.0,
    t1=1.0,
    exact=_complex_exact,
    traits=traits("stiff", "autonomous", "complex"),
)


def _conjugate_field(t: Any, y: Any, stiffness: Any) -> Any:
    fast, slow = y
    square = slow * jnp.conj(slow)
    slope = jnp.asarray(-1 + 1j * _TURN, y.dtype)
    pull = fast + 0.5 * jnp.conj(fast) - 1.5 * square
    return jnp.stack([-stiffness * pull - 2 * fast, fast - square + slope * slow])


STIFF_CONJUGATE = Problem(
    name="complex, not differentiable in the complex sense: Kaps with moduli",
    field=_conjugate_field,
    y0=np.array([1.0 + 0j, 1.0 + 0j]),
    t0=0.0,
    t1=1.0,
    args=1e5,
    exact=lambda t: np.exp(np.array([-2 * t, (-1 + 1j * _TURN) * t])),
    traits=traits("stiff", "autonomous", "complex", "conjugate"),
)

# ------------------------------------------------------------------------------------------------------------ chemistry


def _robertson_field(t: Any, y: Any, rates: Any) -> Any:
    a, b, c = y
    k1, k2, k3 = rates
    slow, fast, back = k1 * a, k2 * b * b, k3 * b * c
    return jnp.stack([back - slow, slow - back - fast, fast])


def _cancelling_robertson_field(t: Any, y: Any, rates: Any) -> Any:
    """The field whose opposite terms cancel exactly, because each product is rounded before it enters a sum.

    Otherwise a compiler may compute a sum and a product in one instruction with one rounding. Late in the solution the
    terms exceed their sum by nine powers of ten, and these errors dominate below a tolerance of 1e-8.
    """
    a, b, c = y
    k1, k2, k3 = rates
    slow, fast, back = lax.optimization_barrier((k1 * a, k2 * b * b, k3 * b * c))
    return jnp.stack([back - slow, slow - back - fast, fast])


def _robertson(name: str, t1: float, reference: tuple[float, ...], field: Field = _robertson_field) -> Problem:
    y0, rates = np.array([1.0, 0.0, 0.0]), (0.04, 3e7, 1e4)
    facts = traits("stiff", "autonomous")
    return Problem(name, field, y0, 0.0, t1, args=rates, reference=reference, traits=facts)


ROBERTSON = _robertson("Robertson", 1e5, (0.017865921142099464, 7.274751468436319e-08, 0.9821340061103858))
ROBERTSON_LATE = _robertson(
    "Robertson, to 4e10",
    4e10,
    (5.208345176799240e-08, 2.083338177925489e-13, 0.9999999479163399),
    _cancelling_robertson_field,
)
ROBERTSON_LONG = _robertson(
    "Robertson, for long", 1e11, (2.083340149701294e-08, 8.333360770334784e-14, 0.9999999791665152)
)


def _hires_field(t: Any, y: Any, args: Any) -> Any:
    a, b, c, d, e, f, g, h = y
    bound = 280.0 * f * h
    return jnp.stack(
        [
            -1.71 * a + 0.43 * b + 8.32 * c + 0.0007,
            1.71 * a - 8.75 * b,
            -10.03 * c + 0.43 * d + 0.035 * e,
            8.32 * b + 1.71 * c - 1.12 * d,
            -1.745 * e + 0.43 * f + 0.43 * g,
            -bound + 0.69 * d + 1.71 * e - 0.43 * f + 0.69 * g,
            bound - 1.81 * g,
            -bound + 1.81 * g,
        ]
    )


HIRES = Problem(
    name="HIRES",
    field=_hires_field,
    y0=np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0057]),
    t0=0.0,
    t1=321.8122,
    reference=(
        0.0007371312573325541,
        0.00014424857263161597,
        5.888729740967339e-05,
        0.0011756513432831255,
        0.0023863561988309493,
        0.0062389682527416,
        0.002849998395185501,
        0.002850001604814499,
    ),
    traits=traits("stiff", "autonomous"),
)


def _oregonator_field(t: Any, y: Any, args: Any) -> Any:
    a, b, c = y
    return jnp.stack([77.27 * (b + a * (1.0 - 8.375e-6 * a - b)), (c - (1.0 + a) * b) / 77.27, 0.161 * (a - c)])


OREGONATOR = Problem(
    name="Oregonator",
    field=_oregonator_field,
    y0=np.array([1.0, 2.0, 3.0]),
    t0=0.0,
    t1=360.0,
    reference=(1.0008148703185227, 1228.1785215498874, 132.05549428465045),
    traits=traits("stiff", "autonomous"),
)


def _van_der_pol_field(t: Any, y: Any, args: Any) -> Any:
    x, v = y
    return jnp.stack([v, 1e6 * ((1.0 - x * x) * v - x)])


VAN_DER_POL = Problem(
    name="Van der Pol",
    field=_van_der_pol_field,
    y0=np.array([2.0, 0.0]),
    t0=0.0,
    t1=2.0,
    reference=(1.706167732170465, -0.8928097010248166),
    traits=traits("stiff", "autonomous"),
)


def _e5_field(t: Any, y: Any, args: Any) -> Any:
    a, b, c, d = y
    first, second, third, fourth = 7.89e-10 * a, 1.1e7 * a * c, 1.13e9 * b * c, 1.13e3 * d
    # The third rate is the second minus the fourth, as in the test set: their difference is far smaller than either.
    return jnp.stack([-first - second, first - third, (first - third) - (second - fourth), second - fourth])


def _e5(name: str, t1: float, reference: tuple[float, ...]) -> Problem:
    y0, facts = np.array([1.76e-3, 0.0, 0.0, 0.0]), traits("stiff", "autonomous")
    return Problem(name, _e5_field, y0, 0.0, t1, reference=reference, traits=facts)


E5_EARLY = _e5(
    "E5, early", 1e9, (3.1317148329357e-14, 1.4840957952870065e-16, 1.484095794834569e-16, 4.524372827978263e-26)
)
"""The latest time at which an absolute tolerance of 1e-24 still gives eight digits."""

E5 = _e5("E5", 1e11, (3.769308e-49, 1.0192582568142706e-20, 1.0192582568142706e-20, 3.739901e-65))
E5_LONG = _e5("E5, for long", 1e13, (0.0, 8.861233521291084e-23, 8.861233521291084e-23, 0.0))
"""The test set has 8.86766e-23 and 8.85481e-23, whose mean is the reference here; but `y[1] - y[2] - y[3]` is always
zero.

Rounding errors of that difference dominate the late solution: in double precision an error below 1e-4 is luck. The
references solve the three equations that are left when `y[2]` is replaced by `y[1] - y[3]`. Values far below 1e-24 have
fewer digits, or are set to zero.
"""

# The reactions of the pollution problem: rate, reactants (one or two species), products; species are counted from one.
_POLLUTION_REACTIONS: tuple[tuple[float, tuple[int, ...], tuple[int, ...]], ...] = (
    (0.35, (1,), (2, 3)),
    (26.6, (2, 4), (1,)),
    (1.23e4, (5, 2), (6, 1)),
    (8.6e-4, (7,), (5, 5, 8)),
    (8.2e-4, (7,), (8,)),
    (1.5e4, (7, 6), (5, 8)),
    (1.3e-4, (9,), (10, 5, 8)),
    (2.4e4, (9, 6), (11,)),
    (1.65e4, (11, 2), (1, 10, 12)),
    (9e3, (11, 1), (13,)),
    (0.022, (13,), (11, 1)),
    (1.2e4, (10, 2), (14, 1)),
    (1.88, (14,), (7, 5)),
    (1.63e4, (1, 6), (15,)),
    (4.8e6, (3,), (4,)),
    (3.5e-4, (4,), (16,)),
    (0.0175, (4,), (3,)),
    (1e8, (16,), (6, 6)),
    (4.44e11, (16,), (3,)),
    (1.24e3, (17, 6), (18, 5)),
    (2.1, (19,), (2,)),
    (5.78, (19,), (1, 3)),
    (0.0474, (1, 4), (19,)),
    (1.78e3, (19, 1), (20,)),
    (3.12, (20,), (19, 1)),
)
POLLUTION_RATES = np.array([rate for rate, _, _ in _POLLUTION_REACTIONS])
# A reaction with one reactant gets a second one, the twenty-first species, whose concentration is one.
POLLUTION_FIRST = np.array([reactants[0] - 1 for _, reactants, _ in _POLLUTION_REACTIONS])
POLLUTION_SECOND = np.array([(*reactants, 21)[1] - 1 for _, reactants, _ in _POLLUTION_REACTIONS])


def _stoichiometry() -> np.ndarray:
    """The change of each species by each reaction."""
    table = np.zeros((20, len(_POLLUTION_REACTIONS)))
    for reaction, (_, reactants, products) in enumerate(_POLLUTION_REACTIONS):
        for species in reactants:
            table[species - 1, reaction] -= 1
        for species in products:
            table[species - 1, reaction] += 1
    return table


POLLUTION_STOICHIOMETRY = _stoichiometry()


def _pollution_field(t: Any, y: Any, args: Any) -> Any:
    z = jnp.concatenate([y, jnp.ones(1, y.dtype)])
    rates, table = jnp.asarray(POLLUTION_RATES, y.dtype), jnp.asarray(POLLUTION_STOICHIOMETRY, y.dtype)
    return table @ (rates * z[POLLUTION_FIRST] * z[POLLUTION_SECOND])


POLLUTION = Problem(
    name="Pollution",
    field=_pollution_field,
    y0=np.array([0, 0.2, 0, 0.04, 0, 0, 0.1, 0.3, 0.01, 0, 0, 0, 0, 0, 0, 0, 0.007, 0, 0, 0]),
    t0=0.0,
    t1=60.0,
    reference=(
        0.05646255480022769,
        0.1342484130422339,
        4.139734331099427e-09,
        0.005523140207484359,
        2.018977262302196e-07,
        1.464541863493966e-07,
        0.07784249118997964,
        0.3245075353396018,
        0.007494013383880406,
        1.622293157301561e-08,
        1.135863833257075e-08,
        0.002230505975721359,
        0.000208716288279863,
        1.396921016840158e-05,
        0.008964884856898295,
        4.352846369330103e-18,
        0.006899219696263405,
        0.0001007803037365946,
        1.772146513969984e-06,
        5.682943292316392e-05,
    ),
    traits=traits("stiff", "autonomous"),
)

# -------------------------------------------------------------------------------------------------------- Medical Akzo

_CELLS = 200
AKZO_RATE = 100.0
AKZO_JUMP = 5.0
_DISTANCE = np.arange(1, _CELLS) / _CELLS - 1
AKZO_DIFFUSION = (_DISTANCE**2 / 4) ** 2 * _CELLS**2
AKZO_CONVECTION = 2 * _DISTANCE**3 / 16 * _CELLS / 2


def akzo_inflow(t: float) -> float:
    """The concentration at the boundary, which jumps from 2 to 0 at time 5."""
    return 2.0 if t <= AKZO_JUMP else 0.0


def _akzo_field(t: Any, y: Any, args: Any) -> Any:
    drug, sites = y[0::2], y[1::2]
    diffusion, convection = jnp.asarray(AKZO_DIFFUSION, y.dtype), jnp.asarray(AKZO_CONVECTION, y.dtype)
    inflow = jnp.where(t <= AKZO_JUMP, 2.0, 0.0).astype(y.dtype)
    before = jnp.concatenate([inflow[None], drug[:-2]])
    here, after = drug[:-1], drug[1:]
    bound = -AKZO_RATE * drug * sites
    spread = diffusion * (before - 2 * here + after) + convection * (after - before)
    return jnp.stack([bound + jnp.concatenate([spread, jnp.zeros(1, y.dtype)]), bound], axis=1).reshape(-1)


def _akzo_reference() -> tuple[float, ...]:
    """The reference: drug and sites in turn; values below 1e-30 are zero."""
    table = np.loadtxt(pathlib.Path(__file__).with_name("medical_akzo.txt"))
    return tuple(table.reshape(-1).tolist())


MEDICAL_AKZO = Problem(
    name="Medical Akzo Nobel",
    field=_akzo_field,
    y0=np.tile([0.0, 1.0], _CELLS),
    t0=0.0,
    t1=20.0,
    reference=_akzo_reference(),
    traits=traits("stiff"),
)
"""A drug that diffuses into tissue and is bound there: 200 cells on the quadratic map of the half-line to [0, 1].

The reference was integrated in two parts, up to the jump and from it. It agrees to 6e-11 with the test set's, which was
computed with tolerances of 1e-10.
"""

WITH_EXACT_SOLUTIONS = (
    STIFF_DECAY,
    PROTHERO_ROBINSON,
    LAMBERT,
    KAPS,
    CLOCKED_KAPS,
    STIFF_TREE,
    STIFF_COMPLEX,
    STIFF_CONJUGATE,
)
STANDARD = (ROBERTSON, ROBERTSON_LONG, HIRES, OREGONATOR, VAN_DER_POL, POLLUTION, E5_EARLY, E5, E5_LONG, MEDICAL_AKZO)
