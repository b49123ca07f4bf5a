r"""The Brusselator in two dimensions: thousands of unknowns, the pattern of the Jacobian, and BDF.

$$\begin{aligned}
u_t &= 1 + u^2 v - (A + 1) u + \alpha (u_{xx} + u_{yy}) + f(x, y, t), \\
v_t &= A u - u^2 v + \alpha (v_{xx} + v_{yy})
\end{aligned}$$

on the unit square with periodic boundaries, $A = 3.4$ and $\alpha = 0.02$. At the start u depends only on y and v only
on x. From t = 1.1 on, f = 5 in a disk of radius 0.1, and zero elsewhere. The chemistry oscillates, diffusion evens out
the differences, and waves start from the disk.

On a grid of 64 × 64 points this is a stiff system of 8192 equations. Each depends on its own unknown, on the four
neighbours in the grid and on the other chemical in the same point, so that the Jacobian has 6 entries in a row.
`jacobian_sparsity` finds them from derivatives of the field at random states, and `ODETerm(sparsity=...)` receives
them. Then the Jacobian takes as many derivatives as the pattern has colours, and a sparse direct solver factorises it.
A full matrix would take 8192 derivatives, half a gigabyte, and 4e11 operations for each factorisation. The sparse
solver is installed by `pip install "rungax[sparse]"`.

`BDF` solves one equation of this size in a step, whatever its order, and `Kvaerno5` solves six. `BDF` makes more steps
that cost less, and is the better choice for a large system that is solved over a long interval.

The source f is a jump of the field. `ClipStepSizeController(..., jump_ts=[1.1])` lets a step end there.

E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, second edition (1996), section IV.10, BRUSS-2D; the
diffusion there is larger.
"""

import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import (
    BDF,
    ClipStepSizeController,
    Kvaerno5,
    ODETerm,
    PIDController,
    SaveAt,
    Solution,
    SparsityPattern,
    diffeqsolve,
    jacobian_sparsity,
)

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

ARGS = (3.4, 0.02)  # A and alpha
HEATING = 1.1
TS = np.array([0.0, 0.3, 3.0, 5.5, 7.0, 11.5])


class Run(NamedTuple):
    """A solve: its solution, its time in seconds when compiled, and the largest
    difference from the solution of the first run."""

    solution: Solution
    seconds: float
    difference: float


def laplacian(u: jax.Array) -> jax.Array:
    """The sum of second derivatives, by differences of neighbours on a periodic grid of
    the unit square."""
    neighbours = sum(jnp.roll(u, shift, axis) for shift in (1, -1) for axis in (0, 1))
    return (neighbours - 4 * u) * u.shape[0] ** 2


def brusselator(
    t: jax.Array, y: jax.Array, args: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """The state has u and v, each a matrix with a row for each x and a column for each
    y."""
    u, v = y
    feed, alpha = args
    x = jnp.arange(u.shape[0]) / u.shape[0]
    disk = (x[:, None] - 0.3) ** 2 + (x[None, :] - 0.6) ** 2 <= 0.01
    heat = jnp.where((t >= HEATING) & disk, 5.0, 0.0)
    made = u**2 * v
    return jnp.stack(
        [
            1 + made - (feed + 1) * u + alpha * laplacian(u) + heat,
            feed * u - made + alpha * laplacian(v),
        ]
    )


def start(width: int) -> np.ndarray:
    x = np.arange(width) / width
    u, v = np.broadcast_arrays(
        22 * x[None, :] * (1 - x[None, :]) ** 1.5,
        27 * x[:, None] * (1 - x[:, None]) ** 1.5,
    )
    return np.stack([u, v])


def solve(term: ODETerm, solver: Any, y0: np.ndarray) -> Solution:
    return diffeqsolve(
        term,
        solver,
        t0=0.0,
        t1=TS[-1],
        dt0=None,
        y0=y0,
        args=ARGS,
        saveat=SaveAt(ts=TS),
        stepsize_controller=ClipStepSizeController(
            PIDController(rtol=1e-5, atol=1e-5), jump_ts=[HEATING]
        ),
    )


def main(width: int = 64) -> dict[str, Run]:
    """Find the pattern, solve with two methods, and draw."""
    y0 = start(width)
    pattern = jacobian_sparsity(brusselator, 0.0, y0, ARGS)
    print(pattern)
    term, runs, first = ODETerm(brusselator, sparsity=pattern), dict[str, Run](), None
    for solver in (BDF(), Kvaerno5()):
        solution = jax.block_until_ready(solve(term, solver, y0))
        first = solution if first is None else first
        began = time.perf_counter()
        jax.block_until_ready(solve(term, solver, y0))
        taken = time.perf_counter() - began
        difference = float(jnp.max(jnp.abs(solution.ys - first.ys)))
        runs[type(solver).__name__] = Run(solution, taken, difference)
        steps = int(solution.stats["num_steps"])
        print(
            f"{type(solver).__name__:>8}: {steps:4d} steps in {taken:5.2f} s, "
            f"differs by {difference:.0e}"
        )
    draw(pattern, np.asarray(runs["BDF"].solution.ys))
    return runs


def draw(pattern: SparsityPattern, ys: np.ndarray) -> None:
    """Draw the pattern, and the first chemical at each of `TS` with the same colours
    for the same values."""
    figure = plt.figure(figsize=(11, 5.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2))
    axis = pattern.plot(left.subplots())
    axis.set_title("The Jacobian")
    axes = right.subplots(2, 3, sharex=True, sharey=True)
    us = ys[:, 0]
    for axis, t, u in zip(axes.flat, TS, us, strict=True):
        image = axis.imshow(
            u.T, origin="lower", extent=(0, 1, 0, 1), vmin=us.min(), vmax=us.max()
        )
        axis.set(title=f"t = {t:g}", xticks=(0, 1), yticks=(0, 1))
    right.colorbar(image, ax=axes, label="u", shrink=0.8)
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "brusselator_2d.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
