r"""The Brusselator: two chemicals react and diffuse along a line, and the Jacobian has a band structure.

$$\begin{aligned}
u_t &= 1 + u^2 v - 4 u + u_{xx} / 50, &\quad u &= 1 \text{ at both ends},
&\quad u &= 1 + \sin(2 \pi x) \text{ at the start} \\
v_t &= 3 u - u^2 v + v_{xx} / 50, &\quad v &= 3 \text{ at both ends},
&\quad v &= 3 \text{ at the start}
\end{aligned}$$

The method of lines turns it into an ordinary differential equation for u and v at points a distance 1/(n + 1) apart,
with differences of neighbours in place of the second derivative. Diffusion between neighbours is faster the closer they
are, at a rate of up to 4 (n + 1)² / 50. The finer the grid, the stiffer is the equation, and the shorter are the steps
of an explicit method, however smooth the solution is.

The steps of an implicit method are as long as the solution allows, but each step solves linear systems with the
Jacobian. It has 2n rows, and nearly all its entries are zero: in the order $u_1, v_1, u_2, v_2, \dots$ each unknown
depends only on those at most two places away. `tags=Banded(2, 2)` states that. The Jacobian then takes five derivatives
of the field instead of 2n, and factorising it takes a time proportional to n instead of n³. The solution is the same.

Without the tag the implicit method is slower here than the explicit one, because its fewer steps cost too much each.
Where the unknowns cannot be ordered like this, declare the pattern of the Jacobian, `ODETerm(sparsity=...)`, as the
example of the Brusselator in two dimensions does. Or use an iterative linear solver:
`Rodas5P(linear_solver=lineax.GMRES(...))` never forms the Jacobian, but multiplies it with vectors.

E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, second edition (1996), section IV.10, equation 10.15.
"""

import os
import pathlib
import statistics
import time
from typing import Any, NamedTuple

# Dense matrices are factorised by LAPACK, whose threads may spend more time waiting
# for each other than working.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from matplotlib import pyplot as plt

from rungax import (
    Banded,
    ODETerm,
    PIDController,
    Rodas5P,
    SaveAt,
    Solution,
    Tsit5,
    diffeqsolve,
)

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

TS = np.linspace(0.0, 10.0, 201)
TOLERANCE = 1e-5
# Iterative solutions of the linear systems must be more accurate than the steps that
# use them.
GMRES = lineax.GMRES(rtol=1e-7, atol=1e-7)


class Run(NamedTuple):
    """A solve: its solution, its median time in seconds, and its distance from the
    solution of the first run."""

    solution: Solution
    seconds: float
    difference: float


def brusselator(t: jax.Array, y: jax.Array, args: None) -> jax.Array:
    u, v = y[0::2], y[1::2]
    made = u**2 * v
    u_slope = 1 + made - 4 * u + diffusion(u, 1.0)
    v_slope = 3 * u - made + diffusion(v, 3.0)
    return jnp.stack([u_slope, v_slope], axis=1).reshape(-1)


def diffusion(values: jax.Array, boundary: float) -> jax.Array:
    """A fiftieth of the second derivative."""
    padded = jnp.pad(values, 1, constant_values=boundary)
    return (padded[2:] - 2 * values + padded[:-2]) * (values.size + 1) ** 2 / 50


def start(cells: int) -> np.ndarray:
    x = np.arange(1, cells + 1) / (cells + 1)
    return np.stack([1 + np.sin(2 * np.pi * x), np.full(cells, 3.0)], axis=1).reshape(
        -1
    )


def solve(term: ODETerm, solver: Any, y0: np.ndarray) -> Solution:
    return diffeqsolve(
        term,
        solver,
        t0=0.0,
        t1=TS[-1],
        dt0=None,
        y0=y0,
        saveat=SaveAt(ts=TS),
        stepsize_controller=PIDController(rtol=TOLERANCE, atol=TOLERANCE),
        max_steps=None,
    )


def main(cells: int = 200, repeats: int = 3) -> dict[str, Run]:
    """Solve in four ways, each compiled first and then timed; the first way is the
    recommended one."""
    ways: dict[str, tuple[ODETerm, Any]] = {
        "Rodas5P, banded": (ODETerm(brusselator, tags=Banded(2, 2)), Rodas5P()),
        "Rodas5P, dense": (ODETerm(brusselator), Rodas5P()),
        "Rodas5P, GMRES": (ODETerm(brusselator), Rodas5P(linear_solver=GMRES)),
        "Tsit5, explicit": (ODETerm(brusselator), Tsit5()),
    }
    y0, runs, first = start(cells), dict[str, Run](), None
    for name, (term, solver) in ways.items():
        solution = jax.block_until_ready(solve(term, solver, y0))
        first = solution if first is None else first
        times: list[float] = []
        for _ in range(repeats):
            began = time.perf_counter()
            jax.block_until_ready(solve(term, solver, y0))
            times.append(time.perf_counter() - began)
        difference = float(jnp.max(jnp.abs(solution.ys - first.ys)))
        runs[name] = run = Run(solution, statistics.median(times), difference)
        steps = int(solution.stats["num_steps"])
        print(
            f"{name:>15}: {steps:5d} steps, {1000 * run.seconds:8.2f} "
            f"ms, differs by {difference:.0e}"
        )
    ratio = runs["Rodas5P, dense"].seconds / runs["Rodas5P, banded"].seconds
    print(f"{2 * cells} unknowns: the band makes it {ratio:.0f} times as fast")
    draw(runs)
    return runs


def draw(runs: dict[str, Run]) -> None:
    """Draw the first chemical in the solution of the first run, and the time of each
    run."""
    u = np.asarray(runs["Rodas5P, banded"].solution.ys)[:, 0::2].T
    u = np.pad(u, ((1, 1), (0, 0)), constant_values=1.0)
    figure, (field, times) = plt.subplots(
        1, 2, figsize=(11, 4), layout="constrained", width_ratios=(2, 1)
    )
    image = field.pcolormesh(TS, np.linspace(0.0, 1.0, len(u)), u, shading="gouraud")
    figure.colorbar(image, ax=field, label="u")
    field.set(xlabel="time", ylabel="x", title="The Brusselator in one dimension")
    bars = times.barh(list(runs), [1000 * run.seconds for run in runs.values()])
    times.bar_label(bars, fmt="%.3g", padding=2)
    times.margins(x=0.15)
    times.invert_yaxis()
    times.set(xlabel="ms", title="Time of a solve")
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "brusselator.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
