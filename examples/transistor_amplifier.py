r"""A circuit: two transistors amplify a signal. The capacitors give a mass matrix, of rank 5 for eight voltages.

Kirchhoff's law says that the currents into a node add up to zero. A resistor contributes a voltage over its
resistance, a capacitor its capacity times the rate of a voltage, and a transistor a current that grows exponentially
with a voltage:

$$M \dot u = f(t, u), \qquad f_3 = \frac{u_3}{R} - \beta\left(e^{(u_2 - u_3) / U_F} - 1\right), \quad \dots$$

A capacitor between two nodes appears in the equations of both, with opposite signs. So M has no row of zeros, but the
sum of two such rows is zero, and that of their equations contains no derivative: it is an algebraic equation. Nobody
needs to find these sums. The matrix is given to the term as it comes from the circuit.

The voltages at the start must fulfil the three algebraic equations. Only rough ones are known here. The solve changes
them before its first step; the charges of the capacitors, M u, stay the same.

F. Mazzia, C. Magherini, Test Set for Initial Value Problem Solvers, release 2.4 (Bari, 2008), part II-7.
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import (
    ODETerm,
    PIDController,
    Rodas5P,
    SaveAt,
    Solution,
    diffeqsolve,
)

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

SUPPLY, THERMAL, GAIN, LEAK = 6.0, 0.026, 0.99, 1e-6
FIRST_RESISTANCE, RESISTANCE = 1000.0, 9000.0
TS = np.linspace(0.0, 0.2, 2001)
# The voltages at t = 0.2 from the test set.
FINAL = np.array(
    [
        -0.5562145012262709e-2,
        0.3006522471903042e1,
        0.2849958788608128e1,
        0.2926422536206241e1,
        0.2704617865010554e1,
        0.2761837778393145e1,
        0.4770927631616772e1,
        0.1236995868091548e1,
    ]
)


class Run(NamedTuple):
    """The solution, the voltages at its start, the largest error at the end, and the
    ratio of the amplitudes of output and input."""

    solution: Solution
    start: np.ndarray
    error: float
    amplification: float


def signal(t: jax.Array) -> jax.Array:
    return 0.1 * jnp.sin(200 * jnp.pi * t)


def currents(t: jax.Array, u: jax.Array, args: None) -> jax.Array:
    """The currents out of the eight nodes, without those of the capacitors."""
    u1, u2, u3, u4, u5, u6, u7, u8 = u
    first, second = (
        LEAK * (jnp.exp(voltage / THERMAL) - 1) for voltage in (u2 - u3, u5 - u6)
    )
    return jnp.stack(
        [
            (u1 - signal(t)) / FIRST_RESISTANCE,
            (2 * u2 - SUPPLY) / RESISTANCE + (1 - GAIN) * first,
            u3 / RESISTANCE - first,
            (u4 - SUPPLY) / RESISTANCE + GAIN * first,
            (2 * u5 - SUPPLY) / RESISTANCE + (1 - GAIN) * second,
            u6 / RESISTANCE - second,
            (u7 - SUPPLY) / RESISTANCE + GAIN * second,
            u8 / RESISTANCE,
        ]
    )


def capacities() -> np.ndarray:
    """The mass matrix: capacitors between the nodes 1 and 2, 4 and 5, 7 and 8, and from
    the nodes 3 and 6 to the ground."""
    mass = np.zeros((8, 8))
    for (i, j), capacity in {(0, 1): 1e-6, (3, 4): 3e-6, (6, 7): 5e-6}.items():
        mass[i, i] = mass[j, j] = -capacity
        mass[i, j] = mass[j, i] = capacity
    mass[2, 2], mass[5, 5] = -2e-6, -4e-6
    return mass


def main() -> Run:
    """Solve, compare with the reference and draw the signal before and after."""
    circuit = ODETerm(currents, mass=capacities())
    # Half a volt too little on both sides of the first capacitor.
    rough = jnp.array([0.0, 3.0, 3.0, 6.0, 3.0, 3.0, 6.0, 0.0])
    rough = rough.at[:2].add(-0.5)
    solution = diffeqsolve(
        circuit,
        Rodas5P(),
        t0=0.0,
        t1=TS[-1],
        dt0=None,
        y0=rough,
        saveat=SaveAt(ts=TS),
        stepsize_controller=PIDController(rtol=1e-6, atol=1e-6),
        max_steps=20_000,
    )
    output = np.asarray(solution.ys[:, 7])
    start, late = np.asarray(solution.ys[0]), output[TS > 0.1]
    run = Run(
        solution,
        start,
        float(np.max(np.abs(solution.ys[-1] - FINAL))),
        float((late.max() - late.min()) / 0.2),
    )
    rank = np.linalg.matrix_rank(capacities())
    print(f"8 voltages, and a mass matrix of rank {rank}")
    print("given start:     ", np.round(np.asarray(rough), 3))
    print("consistent start:", np.round(start, 3))
    print(
        f"{int(solution.stats['num_accepted_steps'])} steps, "
        f"largest error {run.error:.1e} V"
    )
    print(f"the output is {run.amplification:.0f} times as large as the signal")
    draw(output)
    return run


def draw(output: np.ndarray) -> None:
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    axis.plot(TS, output, label="output, $u_8$")
    axis.plot(TS, signal(TS), label="signal")
    axis.set(xlabel="time / s", ylabel="voltage / V", title="Two transistors")
    axis.legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "transistor_amplifier.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
