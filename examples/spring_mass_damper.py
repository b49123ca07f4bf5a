r"""A state with names: a spring, a mass and a damper, with a dict as the state.

$$\frac{\mathrm{d}}{\mathrm{d}t}\,\text{position} = \text{velocity}, \qquad
\frac{\mathrm{d}}{\mathrm{d}t}\,\text{velocity}
= -\frac{\text{damping} \cdot \text{velocity} + \text{stiffness} \cdot \text{position}}{\text{mass}}$$

A state may be any pytree of arrays. The vector field returns a pytree of the same structure, and so does the solution,
with a new leading axis for the times; nothing has to be packed into one vector. With `atol` in the same structure each
quantity has its own tolerance, in its own unit.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import ODETerm, PIDController, SaveAt, Solution, Tsit5, diffeqsolve

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

type State = dict[str, jax.Array]

MASS, DAMPING, STIFFNESS = 1.5, 0.6, 6.0  # kg, kg/s, N/m
START = 0.2  # m


def motion(t: jax.Array, state: State, args: tuple[float, float, float]) -> State:
    mass, damping, stiffness = args
    force = -damping * state["velocity"] - stiffness * state["position"]
    return {"position": state["velocity"], "velocity": force / mass}


def exact_position(ts: jax.Array) -> jax.Array:
    """The exact position after release at rest, for less than critical damping."""
    decay = DAMPING / (2 * MASS)
    frequency = (STIFFNESS / MASS - decay**2) ** 0.5
    return (
        START
        * jnp.exp(-decay * ts)
        * (jnp.cos(frequency * ts) + decay / frequency * jnp.sin(frequency * ts))
    )


def main() -> tuple[Solution, float]:
    """Solve, draw, and return the solution and the largest error of the position in
    metres."""
    ts = jnp.linspace(0.0, 20.0, 201)
    solution = diffeqsolve(
        ODETerm(motion),
        Tsit5(),
        t0=0.0,
        t1=20.0,
        dt0=None,
        y0={"position": jnp.asarray(START), "velocity": jnp.asarray(0.0)},
        args=(MASS, DAMPING, STIFFNESS),
        saveat=SaveAt(ts=ts),
        stepsize_controller=PIDController(
            rtol=1e-8, atol={"position": 1e-10, "velocity": 1e-9}
        ),
    )
    error = float(jnp.max(jnp.abs(solution.ys["position"] - exact_position(ts))))
    print(
        f"position after 20 s: {1e3 * solution.ys['position'][-1]:.4f} "
        f"mm, largest error {1e3 * error:.1e} mm"
    )
    draw(np.asarray(ts), jax.tree.map(np.asarray, solution.ys))
    return solution, error


def draw(ts: np.ndarray, ys: dict[str, np.ndarray]) -> None:
    figure, axis = plt.subplots(layout="constrained")
    axis.plot(ts, ys["position"], label="position in m")
    axis.plot(ts, ys["velocity"], label="velocity in m/s")
    axis.set(xlabel="time in s", title="Spring, mass, damper")
    axis.legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "spring_mass_damper.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
