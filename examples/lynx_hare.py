"""Fit a predator-prey model to two decades of fur trade: Canada lynx and snowshoe hare, 1900-1920.

    hare' = birth hare - hunt hare lynx
    lynx' = grow hare lynx - death lynx

The Hudson's Bay Company's yearly pelts (thousands, `data/hudson_bay.csv`) stand for the two populations. Six numbers
are unknown: the four rates and the two populations of 1900. How well they fit is the residual, the root mean square of
log(model / data): counts that vary tenfold are judged by factors, and 0.1 means wrong by about ten percent.

The fit is a sweep: `jax.vmap` turns one solve into one program that makes thousands, each with other numbers. The first
sweep covers a wide box, a second one a smaller box around the best of the first.
"""

import pathlib
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import ODETerm, PIDController, SaveAt, Tsit5, diffeqsolve, is_successful

jax.config.update("jax_enable_x64", True)

HERE = pathlib.Path(__file__).parent
DATA = HERE / "data" / "hudson_bay.csv"
FIGURES = HERE / "figures"

NAMES = ("birth", "hunt", "grow", "death", "hare in 1900", "lynx in 1900")
# The middle of the first box, and by what factor it reaches up and down: cycles of about ten years around some tens of
# thousands give the order of magnitude of the rates; the counts of 1900 are known but not exact.
MIDDLE = np.array([0.5, 0.03, 0.03, 0.8, 30.0, 4.0])
REACH = np.array([2.0, 2.0, 2.0, 2.0, 1.3, 1.6])
SECOND_REACH = 1.15


class Fit(NamedTuple):
    """The best six numbers, in the order of `NAMES`, their residual, and what it took."""

    parameters: np.ndarray
    residual: float
    solves: int
    seconds: float


def populations(t: jax.Array, y: jax.Array, rates: jax.Array) -> jax.Array:
    hare, lynx = y
    birth, hunt, grow, death = rates
    return jnp.stack([birth * hare - hunt * hare * lynx, grow * hare * lynx - death * lynx])


def simulate(parameters: jax.Array, years: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Hare and lynx in each of `years`, shape (years, 2), and whether the solve succeeded."""
    solution = diffeqsolve(
        ODETerm(populations),
        Tsit5(),
        t0=years[0],
        t1=years[-1],
        dt0=0.1,
        y0=parameters[4:],
        args=parameters[:4],
        saveat=SaveAt(ts=years),
        stepsize_controller=PIDController(rtol=1e-5, atol=1e-5),
        throw=False,  # in a sweep, a solve that fails is not the end of the others
    )
    return solution.ys, is_successful(solution.result)


def residual(log_parameters: jax.Array, years: jax.Array, counts: jax.Array) -> jax.Array:
    """The root mean square of log(model / data); infinite if there is no solution. Logarithms keep all six positive."""
    model, solved = simulate(jnp.exp(log_parameters), years)
    return jnp.where(solved, jnp.sqrt(jnp.mean(jnp.log(model / counts) ** 2)), jnp.inf)


def spread(count: int, dimension: int) -> np.ndarray:
    """`count` points that fill the cube [-1, 1]^dimension more evenly than random ones (Roberts' R sequence).

    The i-th is the fractional part of i times powers of 1/phi, where phi^(dimension + 1) = phi + 1.
    """
    phi = 1.5
    for _ in range(50):
        phi = (1 + phi) ** (1 / (dimension + 1))
    steps = phi ** -np.arange(1.0, dimension + 1)
    return 2 * ((0.5 + np.arange(count)[:, None] * steps) % 1) - 1


@jax.jit
def sweep(log_parameters: jax.Array, years: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The best row of `log_parameters`, shape (solves, 6), and its residual."""
    residuals = jax.vmap(residual, in_axes=(0, None, None))(log_parameters, years, counts)
    best = jnp.argmin(residuals)
    return log_parameters[best], residuals[best]


def main(solves: int = 16_384) -> Fit:
    """Sweep twice, `solves` solves each, print what was found and draw it."""
    years, *columns = np.loadtxt(DATA, delimiter=",", skiprows=1, unpack=True)
    counts = np.stack(columns, axis=1)
    start = time.perf_counter()
    points = spread(solves, len(NAMES))
    first, coarse = sweep(np.log(MIDDLE) + points * np.log(REACH), years, counts)
    best, fine = sweep(np.asarray(first) + points * np.log(SECOND_REACH), years, counts)
    fit = Fit(np.exp(np.asarray(best)), float(fine), 2 * solves, time.perf_counter() - start)

    for name, value in zip(NAMES, fit.parameters, strict=True):
        print(f"{name:>12}  {value:.4g}")
    print(f"residual {fit.residual:.4f}, root mean square of log(model / data); {coarse:.4f} after the first sweep")
    print(f"{fit.solves} solves in {fit.seconds:.1f} s, compilation included")
    draw(years, counts, fit)
    return fit


def draw(years: np.ndarray, counts: np.ndarray, fit: Fit) -> None:
    """Data and model, also between the years."""
    fine_years = np.linspace(years[0], years[-1], 401)
    model, _ = simulate(jnp.asarray(fit.parameters), jnp.asarray(fine_years))
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for i, (name, color) in enumerate((("hare", "tab:brown"), ("lynx", "tab:blue"))):
        axis.plot(fine_years, np.asarray(model)[:, i], color=color, label=f"{name}, model")
        axis.plot(years, counts[:, i], "o", color=color, label=f"{name}, pelts")
    axis.set(xlabel="year", ylabel="thousands", title="Lotka-Volterra model of the Hudson's Bay Company's pelts")
    axis.set_xticks(np.arange(1900, 1921, 4))
    axis.legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "lynx_hare.png", dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
