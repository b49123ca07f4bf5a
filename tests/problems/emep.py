"""The EMEP problem: an ozone model of 66 species in 170 reactions, over four and a half days with sunlight and nights.

F. Mazzia, C. Magherini, Test Set for Initial Value Problem Solvers (release 2.4, Bari, 2008), part II-7; D. Simpson,
Y. Andersson-Sköld, M. E. Jenkin, Updating the chemical scheme for the EMEP MSC-W oxidant model (1993). The rate
coefficients are those of the test set's program at its constant temperature of 298 K. Concentrations are in molecules
per cm³, times in seconds.
"""

import pathlib
import re
from math import cos, exp, pi, radians, sin
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .base import Problem, traits

NUM_SPECIES = 66
HOUR = 3600.0
TEMPERATURE, AIR, OXYGEN, MIXING_HEIGHT = 298.0, 2.55e19, 5.2e18, 1.2e5
DAWN, DUSK = 4.0, 20.0
EMEP_JUMPS = tuple(HOUR * (24 * day + hour) for day in range(5) for hour in (DAWN, DUSK))[1:-1]
"""The times at which the sun rises or sets."""


def _arrhenius(factor: float, temperature: float = 0.0) -> float:
    return factor * exp(temperature / TEMPERATURE)


def _water_weight(factor: float) -> float:
    """The factor of the water vapour's concentration in the rate of HO2 + HO2."""
    return _arrhenius(factor, 2200.0)


# Coefficients that do not change with time, by their numbers in the test set's program.
_CONSTANT = {
    "k1": 5.7e-34 * (TEMPERATURE / 300) ** -2.8 * AIR * OXYGEN,
    "k5": 9.6e-32 * (TEMPERATURE / 300) ** -1.6 * AIR,
    "k7": _arrhenius(2.0e-11, 100.0) * AIR,
    "k11": _arrhenius(1.8e-12, -1370.0),
    "k12": _arrhenius(1.2e-13, -2450.0),
    "k13": _arrhenius(1.9e-12, -1000.0),
    "k14": _arrhenius(1.4e-14, -600.0),
    "k15": _arrhenius(1.8e-11, 110.0),
    "k17": _arrhenius(3.7e-12, 240.0),
    "k19": _arrhenius(7.2e-14, -1414.0),
    "k20": 1.4e-12,
    "k21": 1.4e-11,
    "k26": 4.1e-16,
    "k29": _arrhenius(7.1e14, -11080.0),
    "k30": _arrhenius(4.8e-11, 250.0),
    "k31": _arrhenius(2.9e-12, -160.0),
    "k33": _arrhenius(7.7e-12, -2100.0),
    "k35": _arrhenius(1.0e-14, 785.0),
    "k39": 1.35e-12,
    "k40": 4.0e-17,
    "k59": _arrhenius(3.9e-12, -1885.0),
    "k60": _arrhenius(4.2e-12, 180.0),
    "k61": _arrhenius(5.5e-14, 365.0),
    "k62": _arrhenius(5.5e-14, 365.0),
    "k63": _arrhenius(3.3e-12, -380.0),
    "k64": 3.2e-12,
    "k65": _arrhenius(3.8e-13, 780.0),
    "k66": 9.6e-12,
    "k67": _arrhenius(1.0e-12, 190.0),
    "k68": _arrhenius(1.9e-12, 190.0),
    "k69": 5.8e-16,
    "k70": 2.4e-13,
    "k71": _arrhenius(7.8e-12, -1020.0),
    "k72": 8.9e-12,
    "k74": _arrhenius(6.5e-13, 650.0),
    "k75": _arrhenius(5.6e-12, 310.0),
    "k76": _arrhenius(5.8e-12, 190.0),
    "k77": 1.0e-11,
    "k78": _arrhenius(1.34e16, -13330.0),
    "k79": 2.0e-11,
    "k80": 1.1e-11,
    "k81": _arrhenius(1.64e-11, -559.0),
    "k85": 1.0e-11,
    "k86": 1.15e-12,
    "k87": 4.8e-12,
    "k88": _arrhenius(1.3e-13, 1040.0),
    "k89": _arrhenius(3.0e-13, 1040.0),
    "k94": _arrhenius(2.8e-12, 530.0),
    "k109": _arrhenius(1.66e-12, 474.0),
    "k112": _arrhenius(1.2e-14, -2630.0),
    "k123": _arrhenius(6.5e-15, -1880.0),
    "k125": 2.86e-11,
    "k146": 3.2e-11,
    "k147": 2.0e-11,
    "k148": 2.2e-11,
    "k149": 3.7e-11,
    "k150": _arrhenius(12.3e-15, -2013.0),
    "k151": _arrhenius(2.54e-11, 410.0),
    "k153": _arrhenius(4.13e-12, 452.0),
    "k156": 2.0e-11,
    "k157": 8.0e-18,
    "k158": _arrhenius(1.86e-11, 175.0),
    "k160": _arrhenius(4.32e-15, -2016.0),
    "k161": 3.35e-11,
    "k163": 7.8e-13,
    "k219": 2.0e-11,
    "k221": 1.1e-11,
    "k222": 1.7e-11,
    "k223": 2.4e-11,
    "k234": 1.37e-11,
    "k235": 1.7e-11,
    "aerosol": 1e-4,
}

# Dissociation by light: the factor and the exponent of the path of light through the air.
_LIGHT = {
    "J1": (1.23e-3, 0.60),
    "J2": (2.00e-4, 1.40),
    "J3": (1.45e-2, 0.40),
    "J4": (2.20e-5, 0.75),
    "J5": (3.00e-6, 1.25),
    "J6": (5.40e-5, 0.79),
    "J7": (6.65e-5, 0.60),
    "J8": (1.35e-5, 0.94),
    "J9": (2.43e-5, 0.88),
    "J11": (2.16e-4, 0.79),
    "J13": (3.53e-2, 0.081),
    "J14": (8.94e-2, 0.059),
    "J15": (3.32e-5, 0.57),
    "J16": (2.27e-5, 0.62),
}

# Organic emissions: fraction of the mass, and molecular weight.
_ORGANIC = {
    "E6": (0.07689, 30.0),
    "E7": (0.41444, 58.0),
    "E8": (0.03642, 28.0),
    "E9": (0.03827, 42.0),
    "E10": (0.24537, 106.0),
    "E13": (0.13957, 46.0),
}
_EMISSION = 2.5e11 / MIXING_HEIGHT
_MOLES = sum(fraction / weight for fraction, weight in _ORGANIC.values())
_EMISSIONS = {"E1": _EMISSION, "E3": _EMISSION, "E4": 10 * _EMISSION, "E11": 0.5 * _EMISSION}
_EMISSIONS |= {name: _EMISSION * fraction / weight / _MOLES for name, (fraction, weight) in _ORGANIC.items()}


class Reactions(NamedTuple):
    """The reactions as arrays.

    A reaction with fewer than two reactants gets the species of the last index, whose concentration is one. `kinds` has
    a column for each of: constant rates, dissociation (`light` has factors and exponents), deposition, the reaction of
    two HO2, and that of O(1D) with water.
    """

    constant: np.ndarray
    light: np.ndarray
    deposition: np.ndarray
    humid: np.ndarray
    wet: np.ndarray
    first: np.ndarray
    second: np.ndarray
    changes: np.ndarray


def _reactions() -> Reactions:
    lines = pathlib.Path(__file__).with_name("emep.txt").read_text(encoding="utf-8").splitlines()[1:]
    number = len(lines)
    reactants, changes = np.full((2, number), NUM_SPECIES), np.zeros((NUM_SPECIES, number))
    rates = {name: np.zeros(number) for name in ("constant", "deposition", "humid", "wet")}
    light = np.zeros((2, number))
    for column, line in enumerate(lines):
        rate, left, right = re.split(": | -> ", line)
        factor, name = (float(rate[0]), rate[2:]) if rate[1] == "*" else (1.0, rate)
        if name.startswith("J"):
            light[:, column] = np.array(_LIGHT[name]) * (factor, 1.0)
        elif name.startswith("dry"):
            rates["deposition"][column] = float(name.split("_")[1]) / MIXING_HEIGHT
        elif name in ("k36", "k8"):
            rates["humid" if name == "k36" else "wet"][column] = 1.0
        else:
            rates["constant"][column] = (_CONSTANT | _EMISSIONS)[name]
        for place, species in enumerate(re.findall(r"\d+", left)):
            reactants[place, column] = int(species) - 1
            changes[int(species) - 1, column] -= 1
        for amount, species in re.findall(r"(?:([\d.]+)\*)?(\d+)", right):
            changes[int(species) - 1, column] += float(amount or 1)
    return Reactions(light=light, first=reactants[0], second=reactants[1], changes=changes, **rates)


EMEP_REACTIONS = _reactions()


def _emep_field(t: Any, y: Any, args: Any) -> Any:
    constant, light, deposition, humid, wet, first, second, changes = EMEP_REACTIONS
    array = lambda x: jnp.asarray(x, y.dtype)
    hour = (t / HOUR) % 24.0
    day = (hour >= DAWN) & (hour < DUSK)
    height = cos(radians(50)) * cos(radians(23.5)) * jnp.cos((1 + hour / 12) * pi) + sin(radians(50)) * sin(
        radians(23.5)
    )
    # At night the sun is below the horizon; the other value only keeps the derivative finite.
    path = 1 / jnp.where(day, height, 1.0)
    dissociation = jnp.where(
        day, array(light[0]) * jnp.exp(-array(light[1]) * path), array(np.where(light[0], 1e-40, 0))
    )
    water = _water(hour)
    humid_rate = (_arrhenius(2.3e-13, 600.0) + AIR * _arrhenius(1.7e-33, 1000.0)) * (1 + _water_weight(1.4e-21) * water)
    rates = array(constant) + dissociation + array(deposition) * jnp.where(day, 1.0, 0.25)
    rates = rates + array(humid) * humid_rate + array(wet) * (2.2e-10 * water)
    z = jnp.concatenate([y, jnp.ones(1, y.dtype)])
    return array(changes) @ (rates * z[first] * z[second])


def _water(hour: Any) -> Any:
    """The concentration of water vapour, by the relative humidity in per cent."""
    humidity = 23.0 * jnp.sin(2.43 - 7.93e-5 * HOUR * hour) + 66.5
    exponent = (597.3 - 0.57 * (TEMPERATURE - 273.16)) * 18 / 1.986 * (1 / TEMPERATURE - 1 / 273.16)
    return 6.1078 * exp(-exponent) * 10 / (1.38e-16 * TEMPERATURE) * humidity


def _start() -> np.ndarray:
    y0 = np.full(NUM_SPECIES, 100.0)
    y0[:13] = 1e7
    y0[:5] = 1e9, 5e9, 5e9, 3.8e12, 3.5e13
    y0[[13, 37]] = 5e11, 1e-3
    return y0


EMEP = Problem(
    name="EMEP",
    field=_emep_field,
    y0=_start(),
    t0=DAWN * HOUR,
    t1=(96 + DUSK) * HOUR,
    reference=(
        0.2564580511140732e8, 0.5146134770952715e11, 0.2315679957701715e12, 0.1130936599472892e14,
        0.3459285326034955e14, 0.1027236550974901e12, 0.8508735586836855e11, 0.4131285674624012e10,
        0.1270937854717943e10, 0.5632880890404914e10, 0.8263821552730888e11, 0.3293552658908353e11,
        0.1054058186206315e12, 0.3150308585365321e13, 0.2488383936633755e8, 0.1097565615411556e11,
        0.1365196557629180e11, 0.3852048230503094e12, 0.1137462721600089e9, 0.2850982205905218e11,
        0.3786933619791445e12, 0.3832384333863027e10, 0.4804939902203071e7, 0.3390546081092960e8,
        0.3494452929972591e11, 0.1490576370801779e8, 0.1000567871868853e8, 0.1856753061984312e10,
        0.2272206156875160e7, 0.5168375883757783e10, 0.2317595952406701e7, 0.3035139656996921e10,
        0.5928979479102226e7, 0.2515297290687841e10, 0.4569678276203798e7, 0.3727926507368739e1,
        0.4063589349848112e5, 0.8159151146269279e-37, 0.5577590724412284e9, 0.7684596616753747e9,
        0.5338491777959816e10, 0.6048604025328409e12, 0.4222237216819787e8, 0.3681852767009784e10,
        0.5835731567978018e7, 0.1456507159081862e10, 0.8862868684014137e10, 0.9338753312528582e9,
        0.3595753586682656e10, 0.4622427584057254e9, 0.2395910064875511e9, 0.6080936586253302e10,
        0.7704108297342240e9, 0.3386220860753221e10, 0.1838264387030593e10, 0.1973252346091884e10,
        0.1313403940892729e7, 0.1344471764571674e10, 0.2568483117244701e7, 0.1131854591900057e10,
        0.4591537937818946e7, 0.8609382282952802e9, 0.3509560971283513e9, 0.6682350971104786e9,
        0.3207356403011160e9, 0.1144987634882048e9,
    ),
    traits=traits("stiff"),
)  # fmt: skip
"""The reference is the test set's, by Radau IIA with rtol 1e-14 and atol 1e-8.

The concentrations of O and O(1D), the 36th and the 38th species, change at once when the sun sets, which is at `t1`:
there they have few digits or none.
"""
