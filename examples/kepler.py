r"""Planets for a hundred thousand years: energy conservation of symplectic methods.

Kepler's problem is a planet of eccentricity 0.6, with the position $w$ and the velocity $v$; Hénon and Heiles' problem
is a star in a galaxy, with $w = (x, y)$:

$$\dot v = -\frac{w}{|w|^3}, \quad \dot w = v \qquad\text{and}\qquad
\dot v = -\left(x + 2 x y,\; y + x^2 - y^2\right), \quad \dot w = v$$

Both equations conserve the energy. With an ordinary method the error of the energy grows with time, however small the
steps are. A symplectic method conserves a quantity close to the energy, so that after ten or a hundred thousand periods
the error of the energy is no larger than in the first. All methods may evaluate the force about 600 times in a period,
except KahanLi8, which uses 1632 evaluations and gains five digits.

The equations are pairs of terms, one that changes the velocity and one that changes the position. The solve is divided
into pieces that all begin at time zero, so that neither the memory nor the rounding error of the time grows with the
length of the solve.
"""

import pathlib
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import (
    AbstractSolver,
    ConstantStepSize,
    KahanLi8,
    ODETerm,
    PIDController,
    Tsit5,
    VelocityVerlet,
    Yoshida4,
    diffeqsolve,
)

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

PERIOD = 2 * np.pi
PIECES = 400  # of a solve, at whose ends the energy is computed


class Problem(NamedTuple):
    """A Hamiltonian of the form |v|^2 / 2 + potential(w); `need` is a factor for the
    number of steps."""

    name: str
    potential: Any
    need: float
    v0: tuple[float, float]
    w0: tuple[float, float]

    def energy(self, y: Any) -> jax.Array:
        v, w = y
        return 0.5 * jnp.sum(v**2) + self.potential(w)


class Method(NamedTuple):
    """A solver and its number of steps in a period; without that, a controller chooses
    the steps."""

    solver: AbstractSolver[Any]
    steps: int | None
    colour: str


def kepler(w: jax.Array) -> jax.Array:
    return -1.0 / jnp.sqrt(jnp.sum(w**2))


def henon_heiles(w: jax.Array) -> jax.Array:
    x, y = w
    return 0.5 * (x * x + y * y) + x * x * y - y**3 / 3.0


# From the point nearest to the sun, and with the energy 0.1, at which regular and
# chaotic orbits coexist.
PROBLEMS = (
    Problem("Kepler", kepler, 1.0, (0.0, 2.0), (0.4, 0.0)),
    Problem("Hénon-Heiles", henon_heiles, 0.25, (0.35, 0.2), (0.1, 0.17)),
)
METHODS = (
    Method(Tsit5(), None, "tab:red"),
    Method(VelocityVerlet(), 600, "tab:green"),
    Method(Yoshida4(), 200, "tab:orange"),
    Method(KahanLi8(), 96, "tab:blue"),
)


@partial(jax.jit, static_argnums=(0, 1, 2))
def energies(
    problem: Problem, solver: AbstractSolver[Any], steps: int | None, length: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The energies at the ends of all pieces of `length`, and the number of steps."""
    force = ODETerm(lambda t, w, args: -jax.grad(problem.potential)(w))
    velocity = ODETerm(lambda t, v, args: v)
    both = ODETerm(
        lambda t, y, args: (force.vf(t, y[1], args), velocity.vf(t, y[0], args))
    )
    terms, dt0, controller = (
        (force, velocity),
        PERIOD / (steps or 1),
        ConstantStepSize(),
    )
    if steps is None:
        terms, dt0, controller = both, None, PIDController(rtol=1e-8, atol=1e-8)

    def piece(y: Any, _: None) -> Any:
        solution = diffeqsolve(
            terms,
            solver,
            0.0,
            length,
            dt0,
            y,
            stepsize_controller=controller,
            max_steps=None,
        )
        y = jax.tree.map(lambda x: x[-1], solution.ys)
        return y, (problem.energy(y), solution.stats["num_steps"])

    y0 = jnp.asarray(problem.v0), jnp.asarray(problem.w0)
    _, (energy, made) = jax.lax.scan(piece, y0, None, length=PIECES)
    return jnp.append(problem.energy(y0), energy), jnp.sum(made)


def main(periods: float = 100_000.0) -> dict[tuple[str, str], tuple[float, float]]:
    """Solve and draw; return the largest error of the energy in the first and in the
    last tenth of the time."""
    errors = {}
    print(f"relative error of the energy over {periods:,.0f} periods")
    print("problem       method          steps a period  first tenth  last tenth")
    figure, axes = plt.subplots(
        1, 2, figsize=(10, 4), layout="constrained", sharey=True
    )
    for problem, ax in zip(PROBLEMS, axes, strict=True):
        for method in METHODS:
            steps = method.steps and round(method.steps * problem.need)
            # Each piece ends at another point of the orbit, after a whole
            # number of steps: all steps have one size.
            length = np.floor(periods / PIECES) + 0.382
            length = round(length * steps) / steps if steps else length
            energy, made = energies(
                problem, method.solver, steps, jnp.asarray(length * PERIOD)
            )
            error = np.abs(np.asarray(energy) / float(energy[0]) - 1)
            tenth = PIECES // 10
            name = type(method.solver).__name__
            errors[problem.name, name] = first, last = (
                float(error[1:tenth].max()),
                float(error[-tenth:].max()),
            )
            print(
                f"{problem.name:13} {name:15} {int(made) / (PIECES * length):14.0f} "
                f" {first:11.1e}  {last:10.1e}"
            )
            ax.loglog(
                np.arange(1, PIECES + 1) * length,
                error[1:],
                ".",
                color=method.colour,
                markersize=3,
                label=name,
            )
        ax.set(xlabel="periods", title=problem.name)
    axes[0].set(ylabel="relative error of the energy")
    axes[0].legend(markerscale=4)
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "kepler.png")
    plt.close(figure)
    return errors


if __name__ == "__main__":
    main()
