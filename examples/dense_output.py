r"""Dense output: the solution as a function of time, its derivative, and a search for a peak after the solve.

The equation is van der Pol's:

$$\ddot x = (1 - x^2)\,\dot x - x$$

With `SaveAt(dense=True)` the solution can be evaluated at any time, as accurately as at the steps themselves, and
differentiated: `solution.evaluate(t)` and `solution.derivative(t)` are JAX functions of `t`, for use under `jit` and
`vmap` and inside other algorithms. Here bisection finds the highest point of the last oscillation, where the velocity
is zero, after the solve. Then the derivative is compared with the vector field.
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from matplotlib import pyplot as plt

from rungax import ODETerm, PIDController, SaveAt, Solution, Tsit5, diffeqsolve

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

T1 = 23.0


class Answers(NamedTuple):
    """The solution, time and height of the last peak, and the largest distance of
    derivative and vector field."""

    solution: Solution
    peak_time: float
    peak_height: float
    mismatch: float


def van_der_pol(t: jax.Array, y: jax.Array, args: None) -> jax.Array:
    position, velocity = y
    return jnp.stack([velocity, (1 - position**2) * velocity - position])


@jax.jit
def ask(solution: Solution, ts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The state and its derivative at each of `ts`."""
    return solution.evaluate(ts), solution.derivative(ts)


@jax.jit
def peak(solution: Solution, before: jax.Array, after: jax.Array) -> jax.Array:
    """The time between two others at which the velocity falls through zero, by
    bisection."""

    def halve(
        _: int, bracket: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = (low + high) / 2
        rising = solution.evaluate(middle)[1] > 0
        return jnp.where(rising, middle, low), jnp.where(rising, high, middle)

    return lax.fori_loop(0, 50, halve, (before, after))[0]


def main() -> Answers:
    """Solve once, then evaluate the solution."""
    solution = diffeqsolve(
        ODETerm(van_der_pol),
        Tsit5(),
        t0=0.0,
        t1=T1,
        dt0=None,
        y0=jnp.array([2.0, 0.0]),
        saveat=SaveAt(dense=True),
        stepsize_controller=PIDController(rtol=1e-8, atol=1e-8),
    )
    ts = jnp.linspace(0.0, T1, 1001)
    ys, slopes = ask(solution, ts)
    mismatch = float(
        jnp.max(
            jnp.abs(slopes - jax.vmap(van_der_pol, in_axes=(0, 0, None))(ts, ys, None))
        )
    )

    velocity = np.asarray(ys[:, 1])
    last = np.flatnonzero((velocity[:-1] > 0) & (velocity[1:] <= 0))[-1]
    peak_time = peak(solution, ts[last], ts[last + 1])
    peak_height = solution.evaluate(peak_time)[0]
    print(f"{solution.stats['num_accepted_steps']} steps, asked at {len(ts)} times")
    print(f"last peak at t = {peak_time:.6f}, height {peak_height:.6f}")
    print(f"derivative and vector field differ by at most {mismatch:.1e}")
    draw(np.asarray(ts), np.asarray(ys), float(peak_time), float(peak_height))
    return Answers(solution, float(peak_time), float(peak_height), mismatch)


def draw(ts: np.ndarray, ys: np.ndarray, peak_time: float, peak_height: float) -> None:
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    axis.plot(ts, ys, label=["position", "velocity"])
    axis.plot(peak_time, peak_height, "o", color="black", label="last peak")
    axis.set(xlabel="time", title="Van der Pol's oscillator, queried after the solve")
    figure.legend(loc="outside right upper")
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "dense_output.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
