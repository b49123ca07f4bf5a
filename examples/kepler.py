"""Planets for a hundred thousand years: what symplectic methods do for the energy, on Kepler's problem and beyond.

    v' = -w / |w|^3,  w' = v                              a planet of eccentricity 0.6, Kepler's problem
    v' = -(x + 2xy, y + x^2 - y^2),  w' = v,  w = (x, y)  a star in a galaxy, Hénon and Heiles' problem

Neither solution ever loses energy. An ordinary method loses a little with every round, however small its steps: the
error of the energy grows with time. A symplectic method conserves a quantity near the energy, so that the energy errs
by what it erred in the first round, ten or a hundred thousand rounds later. All are given as many evaluations of the
force, about 600 in a period, but for KahanLi8, which takes 1632 and has five digits more to show for them.

The equations are pairs of terms, one that changes the velocity and one that changes the position. The solve is cut into
pieces, each of which begins at time zero: neither the memory nor the rounding of the time then grows with its length.
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
PIECES = 400  # of a solve, at whose ends the energy is looked at


class Problem(NamedTuple):
    """A Hamiltonian of the form |v|^2 / 2 + potential(w), and how many steps it needs, compared with others."""

    name: str
    potential: Any
    need: float
    v0: tuple[float, float]
    w0: tuple[float, float]

    def energy(self, y: Any) -> jax.Array:
        v, w = y
        return 0.5 * jnp.sum(v**2) + self.potential(w)


class Method(NamedTuple):
    """A solver, and how many steps it is given in a period; without, a controller chooses them."""

    solver: AbstractSolver[Any]
    steps: int | None
    colour: str


def kepler(w: jax.Array) -> jax.Array:
    return -1.0 / jnp.sqrt(jnp.sum(w**2))


def henon_heiles(w: jax.Array) -> jax.Array:
    x, y = w
    return 0.5 * (x * x + y * y) + x * x * y - y**3 / 3.0


# From the point nearest to the sun; and with the energy 0.1, where orbits are neither regular nor wild.
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
    """Energies at the ends of all pieces of `length`, and how many steps were made."""
    force = ODETerm(lambda t, w, args: -jax.grad(problem.potential)(w))
    velocity = ODETerm(lambda t, v, args: v)
    both = ODETerm(lambda t, y, args: (force.vf(t, y[1], args), velocity.vf(t, y[0], args)))
    terms, dt0, controller = (force, velocity), PERIOD / (steps or 1), ConstantStepSize()
    if steps is None:
        terms, dt0, controller = both, None, PIDController(rtol=1e-8, atol=1e-8)

    def piece(y: Any, _: None) -> Any:
        solution = diffeqsolve(terms, solver, 0.0, length, dt0, y, stepsize_controller=controller, max_steps=None)
        y = jax.tree.map(lambda x: x[-1], solution.ys)
        return y, (problem.energy(y), solution.stats["num_steps"])

    y0 = jnp.asarray(problem.v0), jnp.asarray(problem.w0)
    _, (energy, made) = jax.lax.scan(piece, y0, None, length=PIECES)
    return jnp.append(problem.energy(y0), energy), jnp.sum(made)


def main(periods: float = 100_000.0) -> dict[tuple[str, str], tuple[float, float]]:
    """Solve, print and draw; return the largest error of the energy in the first and in the last tenth of the time."""
    errors = {}
    print(f"relative error of the energy over {periods:,.0f} periods")
    print("problem       method          steps a period  first tenth  last tenth")
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for problem, ax in zip(PROBLEMS, axes, strict=True):
        for method in METHODS:
            steps = method.steps and round(method.steps * problem.need)
            # Each piece ends at another place of the orbit, and after a whole step: all steps must be of one size.
            length = np.floor(periods / PIECES) + 0.382
            length = round(length * steps) / steps if steps else length
            energy, made = energies(problem, method.solver, steps, jnp.asarray(length * PERIOD))
            error = np.abs(np.asarray(energy) / float(energy[0]) - 1)
            tenth = PIECES // 10
            name = type(method.solver).__name__
            errors[problem.name, name] = first, last = float(error[1:tenth].max()), float(error[-tenth:].max())
            print(f"{problem.name:13} {name:15} {int(made) / (PIECES * length):14.0f}  {first:11.1e}  {last:10.1e}")
            ax.loglog(np.arange(1, PIECES + 1) * length, error[1:], ".", color=method.colour, markersize=3, label=name)
        ax.set(xlabel="periods", title=problem.name)
    axes[0].set(ylabel="relative error of the energy")
    axes[0].legend(markerscale=4)
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "kepler.png")
    plt.close(figure)
    return errors


if __name__ == "__main__":
    main()
