r"""A first solve: logistic growth, compared with its exact solution.

$$\dot y = r\,y\,\left(1 - \frac{y}{K}\right)$$

A population y grows at the rate r while it is small and levels off at the capacity K. A solve needs five things: the
right-hand side as a `term`, a `solver` that makes steps, the interval, the initial state, and a step-size controller;
`PIDController` chooses the steps so that the estimated error of each stays below `atol + rtol * |y|`. `saveat` sets
the times at which the solution is saved; the steps do not depend on it.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import ODETerm, PIDController, SaveAt, Solution, Tsit5, diffeqsolve

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

RATE, CAPACITY, START = 0.8, 100.0, 2.0


def growth(t: jax.Array, y: jax.Array, args: tuple[float, float]) -> jax.Array:
    """The right-hand side. Its parameters are always time, state and `args`, even if
    they are not used."""
    rate, capacity = args
    return rate * y * (1 - y / capacity)


def exact(t: jax.Array) -> jax.Array:
    return CAPACITY / (1 + (CAPACITY / START - 1) * jnp.exp(-RATE * t))


def main() -> tuple[Solution, float]:
    """Solve, draw, and return the solution and its largest relative error."""
    ts = jnp.linspace(0.0, 15.0, 101)
    solution = diffeqsolve(
        ODETerm(growth),
        Tsit5(),
        t0=0.0,
        t1=15.0,
        dt0=None,  # let the solver choose its first step
        y0=jnp.asarray(START),
        args=(RATE, CAPACITY),
        saveat=SaveAt(ts=ts),
        stepsize_controller=PIDController(rtol=1e-9, atol=1e-9),
    )
    error = float(jnp.max(jnp.abs(solution.ys / exact(ts) - 1)))
    print(f"population at t = 15: {solution.ys[-1]:.6f} of {CAPACITY:g}")
    print(
        f"{solution.stats['num_accepted_steps']} steps; "
        f"largest relative error {error:.1e}"
    )
    draw(np.asarray(ts), np.asarray(solution.ys), np.asarray(exact(ts)))
    return solution, error


def draw(ts: np.ndarray, ys: np.ndarray, truth: np.ndarray) -> None:
    figure, axis = plt.subplots(layout="constrained")
    axis.plot(ts, truth, color="lightgray", linewidth=6, label="exact")
    axis.plot(ts, ys, label="Tsit5")
    axis.set(xlabel="time", ylabel="population", title="Logistic growth")
    axis.legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "logistic_growth.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
