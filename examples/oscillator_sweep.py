r"""Thousands of solves in one call: a damped oscillator for many values of its damping.

$$\ddot x = -2 \cdot \text{damping} \cdot \dot x - x, \qquad x(0) = 1, \quad \dot x(0) = 0$$

A solve is an ordinary JAX function: `jax.jit` compiles it, and `jax.vmap` turns it into one program that makes all
solves of a sweep side by side, each with its own steps. The first call compiles. The printed times are those of later
calls: the latency of a single solve, and the number of solves in a second of a sweep.
"""

import pathlib
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import ODETerm, PIDController, SaveAt, Tsit5, diffeqsolve

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

TS = np.linspace(0.0, 20.0, 101)


class Sweep(NamedTuple):
    """The positions of shape (solves, times), their error, and the run times in
    seconds."""

    dampings: jax.Array
    positions: jax.Array
    error: float
    latency: float
    sweep_time: float


def oscillator(t: jax.Array, y: jax.Array, damping: jax.Array) -> jax.Array:
    position, velocity = y
    return jnp.stack([velocity, -2 * damping * velocity - position])


def position(damping: jax.Array) -> jax.Array:
    """The position at all of `TS`, for one value of the damping."""
    solution = diffeqsolve(
        ODETerm(oscillator),
        Tsit5(),
        t0=0.0,
        t1=20.0,
        dt0=0.1,
        y0=jnp.array([1.0, 0.0]),
        args=damping,
        saveat=SaveAt(ts=TS, fn=lambda t, y, args: y[0]),  # keep the position only
        stepsize_controller=PIDController(rtol=1e-7, atol=1e-7),
    )
    return solution.ys


def exact_position(damping: jax.Array) -> jax.Array:
    """The exact position, for less than critical damping."""
    frequency = jnp.sqrt(1 - damping**2)
    return jnp.exp(-damping * TS) * (
        jnp.cos(frequency * TS) + damping / frequency * jnp.sin(frequency * TS)
    )


def seconds(
    function: Callable[..., jax.Array], *args: jax.Array, repeats: int
) -> float:
    """The median time of a call that is already compiled, with waiting: JAX returns
    before the work is done."""
    jax.block_until_ready(function(*args))
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(solves: int = 10_000) -> Sweep:
    """Make one solve and a sweep, and draw a few solutions."""
    dampings = jnp.linspace(0.02, 0.9, solves)
    one, many = jax.jit(position), jax.jit(jax.vmap(position))
    latency = seconds(one, dampings[0], repeats=200)
    sweep_time = seconds(many, dampings, repeats=3)
    positions = many(dampings)
    error = float(jnp.max(jnp.abs(positions - jax.vmap(exact_position)(dampings))))
    print(f"one solve:     {1e3 * latency:.3f} ms")
    print(
        f"{solves} solves: {1e3 * sweep_time:.0f} ms, {solves / sweep_time:,.0f} "
        f"a second; largest error {error:.1e}"
    )
    draw(np.asarray(dampings), np.asarray(positions))
    return Sweep(dampings, positions, error, latency, sweep_time)


def draw(dampings: np.ndarray, positions: np.ndarray) -> None:
    figure, axis = plt.subplots(layout="constrained")
    for i in np.linspace(0, len(dampings) - 1, 5).astype(int):
        axis.plot(TS, positions[i], label=f"damping {dampings[i]:.2f}")
    axis.set(xlabel="time", ylabel="position", title="Damped oscillators")
    axis.legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "oscillator_sweep.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
