r"""A constraint: a pendulum in Cartesian coordinates, whose length a solver does not see.

A mass at the position (x, z) hangs on a rod of length one. The force of the rod per length, the tension $\lambda$, is
unknown. It is such that the length does not change:

$$\ddot x = -\lambda x, \qquad \ddot z = -\lambda z - g, \qquad c = \tfrac{1}{2} (x^2 + z^2 - 1) = 0$$

The last equation does not contain $\lambda$. It must be differentiated twice until it does:

$$\ddot c = \dot x^2 + \dot z^2 - \lambda (x^2 + z^2) - g z = 0$$

A third derivative would give $\dot \lambda$, so the index of the first form is 3, and that of the form with
$\ddot c = 0$ is 1. Solvers for stiff equations solve the latter: a mass matrix with a zero for the tension.

The price: $\ddot c = 0$ is solved, so that the errors of each step add up in $c$, and the length drifts. With smaller
tolerances it drifts more slowly. Without drift is the equation

$$\ddot c + 2 a \dot c + a^2 c = 0$$

which has the same solution, but decays back to it at the rate $a$. It is as easy to solve. J. Baumgarte, Stabilization
of constraints and integrals of motion in dynamical systems, Comput. Methods Appl. Mech. Eng. 1 (1972), 1-16.
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import ODETerm, PIDController, Rodas5P, SaveAt, Tsit5, diffeqsolve

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

GRAVITY, ANGLE, DECAY = 9.81, 1.5, 5.0
MASS = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
# The tension of 0 is replaced by the right one before the first step.
START = np.array([np.sin(ANGLE), -np.cos(ANGLE), 0.0, 0.0, 0.0])


class Run(NamedTuple):
    """The changes of the length at the saved times, and the largest distance from the
    position that the equation of the angle gives."""

    drift: np.ndarray
    error: float


def pendulum(t: jax.Array, y: jax.Array, decay: jax.Array) -> jax.Array:
    x, z, u, w, tension = y
    length = 0.5 * (x**2 + z**2 - 1)
    rate = x * u + z * w
    acceleration = u**2 + w**2 - tension * (x**2 + z**2) - GRAVITY * z
    return jnp.stack(
        [
            u,
            w,
            -tension * x,
            -tension * z - GRAVITY,
            acceleration + 2 * decay * rate + decay**2 * length,
        ]
    )


def angle(t: jax.Array, y: jax.Array, args: None) -> jax.Array:
    return jnp.stack([y[1], -GRAVITY * jnp.sin(y[0])])


def positions(ts: np.ndarray) -> np.ndarray:
    """Accurate positions from the equation of the angle, which has no constraint."""
    angles = diffeqsolve(
        ODETerm(angle),
        Tsit5(),
        t0=0.0,
        t1=ts[-1],
        dt0=None,
        y0=jnp.array([ANGLE, 0.0]),
        saveat=SaveAt(ts=ts, fn=lambda t, y, args: y[0]),
        stepsize_controller=PIDController(rtol=1e-11, atol=1e-11),
        max_steps=None,
    ).ys
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1)


@jax.jit
def solve(ts: jax.Array, decay: jax.Array, tolerance: jax.Array) -> jax.Array:
    """The states at the times `ts`."""
    return diffeqsolve(
        ODETerm(pendulum, mass=MASS),
        Rodas5P(),
        t0=0.0,
        t1=ts[-1],
        dt0=None,
        y0=START,
        args=decay,
        saveat=SaveAt(ts=ts),
        stepsize_controller=PIDController(rtol=tolerance, atol=tolerance),
        max_steps=None,
    ).ys


def main(seconds: float = 100.0) -> dict[str, Run]:
    """Solve at two tolerances, and with the term against drift; compare."""
    ts = np.linspace(0.0, seconds, 1001)
    exact = positions(ts)
    print(f"change of the length and error of the position within {seconds:g} s")
    runs = {}
    for name, decay, tolerance in (
        ("tolerance 1e-5", 0.0, 1e-5),
        ("tolerance 1e-7", 0.0, 1e-7),
        ("tolerance 1e-5, against drift", DECAY, 1e-5),
    ):
        ys = np.asarray(solve(ts, decay, tolerance))
        drift = np.hypot(ys[:, 0], ys[:, 1]) - 1
        runs[name] = Run(drift, float(np.max(np.abs(ys[:, :2] - exact))))
        print(f"{name:>30}: {np.max(np.abs(drift)):.1e}, {runs[name].error:.1e}")
    draw(ts, runs)
    return runs


def draw(ts: np.ndarray, runs: dict[str, Run]) -> None:
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    for name, run in runs.items():
        axis.semilogy(ts[1:], np.abs(run.drift[1:]), label=name)
    axis.set(xlabel="time / s", ylabel="|length - 1|", title="Drift of a constraint")
    axis.legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "pendulum_dae.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
