r"""Robertson's reactions: three species, and rates that differ by nine powers of ten. The best known stiff equation.

$$\begin{aligned}
a &\to b & &\quad\text{at the rate } k_1 a, \\
b + b &\to c + b & &\quad\text{at the rate } k_2 b^2, \\
b + c &\to a + c & &\quad\text{at the rate } k_3 b c
\end{aligned}$$

The second species reacts away as fast as it forms: it stays below 4e-5 and follows the others at a rate that soon
reaches k3 c = 10,000 per second. The steps of an explicit method must be about as short as the inverse of this rate,
even when nothing changes; up to t = 1e11 it would need 3e14 steps. The steps of an implicit method are as long as the
slow species allow, which become slower and slower: a few hundred steps suffice.

Two settings need care. The tolerance: values below `atol` are not resolved, and b is small. `atol` must be far below
4e-5, and below 8e-14 if b is to be accurate at the end. The saved times: the solution changes on all time scales, so
they are spaced logarithmically.

H. H. Robertson, The solution of a set of reaction rate equations, in Numerical Analysis: An Introduction (1966),
178-182.
"""

import pathlib
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import (
    Kvaerno5,
    ODETerm,
    PIDController,
    Rodas5P,
    SaveAt,
    Solution,
    diffeqsolve,
)

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

RATES = (0.04, 3e7, 1e4)
START = np.array([1.0, 0.0, 0.0])
TS = np.logspace(-6, 11, 341)
# The state at t = 1e11, computed with a method of order 13 in 80-bit arithmetic.
FINAL = np.array([2.083340149701294e-08, 8.333360770334784e-14, 0.9999999791665152])


class Run(NamedTuple):
    """A solve: the solution, the largest relative error at the end, and the time in
    seconds when compiled."""

    solution: Solution
    error: float
    seconds: float


def reactions(t: jax.Array, y: jax.Array, rates: tuple[jax.Array, ...]) -> jax.Array:
    a, b, c = y
    k1, k2, k3 = rates
    slow, fast, back = k1 * a, k2 * b * b, k3 * b * c
    return jnp.stack([back - slow, slow - fast - back, fast])


def solve(solver: Any) -> Solution:
    """The solution at each of `TS`."""
    return diffeqsolve(
        ODETerm(reactions),
        solver,
        t0=0.0,
        t1=TS[-1],
        dt0=None,
        y0=START,
        args=RATES,
        saveat=SaveAt(ts=TS),
        stepsize_controller=PIDController(rtol=1e-6, atol=1e-16),
    )


def measure(solver: Any, repeats: int = 21) -> Run:
    """Compile by a first solve, then measure the time of a second."""
    solution = jax.block_until_ready(solve(solver))
    times: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(solve(solver))
        times.append(time.perf_counter() - began)
    error = float(np.max(np.abs(np.asarray(solution.ys[-1]) / FINAL - 1)))
    return Run(solution, error, statistics.median(times))


def main() -> dict[str, Run]:
    """Solve with a Rosenbrock and a Runge-Kutta method at the same tolerance, and draw
    the solution."""
    runs = {
        type(solver).__name__: measure(solver) for solver in (Rodas5P(), Kvaerno5())
    }
    for name, run in runs.items():
        a, b, c = run.solution.ys[-1]
        steps, rejected = (
            int(run.solution.stats[f"num_{kind}_steps"])
            for kind in ("accepted", "rejected")
        )
        print(
            f"{name:>8}: {steps} steps and {rejected} rejected "
            f"ones in {1000 * run.seconds:.2f} ms"
        )
        print(
            f"          a = {a:.6e}, b = {b:.6e}, 1 - c = {1 - c:.6e}, "
            f"relative error {run.error:.1e}"
        )
    draw(np.asarray(runs["Rodas5P"].solution.ys))
    return runs


def draw(ys: np.ndarray) -> None:
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    axis.semilogx(TS, ys * np.array([[1.0, 1e4, 1.0]]), label=["a", "10⁴ b", "c"])
    axis.set(xlabel="time", ylabel="concentration", title="Robertson's reactions")
    axis.legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "robertson.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
