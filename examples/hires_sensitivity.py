r"""Sensitivities: how much each rate constant of a stiff reaction network matters, in one call.

HIRES, "high irradiance response", models how light controls the growth of a plant by phytochrome. It has eight
substances and ten constants.

$$\begin{aligned}
\dot a &= -k_1 a + k_2 b + k_6 c + \text{supply}, &\quad \dot e &= -(k_1 + k_5) e + k_2 (f + g), \\
\dot b &= k_1 a - (k_2 + k_3) b, &\quad \dot f &= -\text{bind}\,f h + k_4 d + k_1 e - k_2 f + \text{free}\,g, \\
\dot c &= -(k_1 + k_6) c + k_2 d + k_5 e, &\quad \dot g &= \text{bind}\,f h - (k_2 + \text{free} + \text{done}) g, \\
\dot d &= k_3 b + k_1 c - (k_2 + k_4) d, &\quad \dot h &= -\text{bind}\,f h + (k_2 + \text{free} + \text{done}) g
\end{aligned}$$

The constants are `args` of the solve, so `jax.jacfwd` differentiates the final state with respect to all of them at
once: it carries ten tangents through the steps of the solve and the implicit equations of every stage. With logarithms
of substances and constants, an entry is the change of a substance in per cent for a change of a constant by one per
cent.

At the final time, 321.8122, half of the bound effector g is used up, after a long time in which hardly any was: e to h
are changing quickly. The sensitivities therefore depend on the time of this change, and a constant that shifts it by
a little has a large effect. That constant is `done`, the rate at which g is used up.

E. Schäfer, A new approach to explain the "high irradiance responses" of photomorphogenesis on the basis of phytochrome,
J. Math. Biology 2 (1975), 41-56; constants and names of substances as in E. Hairer, G. Wanner, Solving Ordinary
Differential Equations II, second edition (1996), section IV.10, equation 10.4.
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

from rungax import Kvaerno5, ODETerm, PIDController, diffeqsolve

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

SUBSTANCES = tuple("abcdefgh")
CONSTANTS = {
    "k1": 1.71,
    "k2": 0.43,
    "k3": 8.32,
    "k4": 0.69,
    "k5": 0.035,
    "k6": 8.32,
    "bind": 280.0,
    "free": 0.69,
    "done": 0.69,
    "supply": 0.0007,
}
START = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0057])
T1 = 321.8122


class Sensitivity(NamedTuple):
    """The final state, its sensitivities of shape (substances, constants), and the
    error of finite differences."""

    state: np.ndarray
    table: np.ndarray
    mismatch: float


def hires(t: jax.Array, y: jax.Array, constants: jax.Array) -> jax.Array:
    a, b, c, d, e, f, g, h = y
    k1, k2, k3, k4, k5, k6, bind, free, done, supply = constants
    bound, used = bind * f * h, (k2 + free + done) * g
    return jnp.stack(
        [
            -k1 * a + k2 * b + k6 * c + supply,
            k1 * a - (k2 + k3) * b,
            -(k1 + k6) * c + k2 * d + k5 * e,
            k3 * b + k1 * c - (k2 + k4) * d,
            -(k1 + k5) * e + k2 * (f + g),
            -bound + k4 * d + k1 * e - k2 * f + free * g,
            bound - used,
            -bound + used,
        ]
    )


@jax.jit
def log_final(log_constants: jax.Array) -> jax.Array:
    """The logarithms of the final state."""
    solution = diffeqsolve(
        ODETerm(hires),
        Kvaerno5(),
        t0=0.0,
        t1=T1,
        dt0=None,
        y0=START,
        args=jnp.exp(log_constants),
        stepsize_controller=PIDController(rtol=1e-8, atol=1e-12),
    )
    return jnp.log(solution.ys[-1])


sensitivities = jax.jit(jax.jacfwd(log_final))


def seconds(
    function: Callable[[jax.Array], jax.Array], log_constants: jax.Array
) -> float:
    """The median time of a call that is already compiled."""
    times: list[float] = []
    for _ in range(21):
        began = time.perf_counter()
        jax.block_until_ready(function(log_constants))
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main(checked: str = "done") -> Sensitivity:
    """Compute all sensitivities, and compare those to one constant with central
    differences."""
    log_constants = jnp.log(jnp.asarray(list(CONSTANTS.values())))
    state, table = (
        np.exp(log_final(log_constants)),
        np.asarray(sensitivities(log_constants)),
    )
    column = list(CONSTANTS).index(checked)
    nudge = jnp.zeros_like(log_constants).at[column].set(1e-4)
    finite = (
        np.asarray(log_final(log_constants + nudge) - log_final(log_constants - nudge))
        / 2e-4
    )
    mismatch = float(np.max(np.abs(finite / table[:, column] - 1)))

    print(f"sensitivity to {checked}, by derivative and by differences:")
    for name, exact, difference in zip(
        SUBSTANCES, table[:, column], finite, strict=True
    ):
        print(f"{name:>4}  {exact:10.5f}  {difference:10.5f}")
    once, all_at_once = (
        seconds(log_final, log_constants),
        seconds(sensitivities, log_constants),
    )
    print(f"they differ by {mismatch:.0e} of themselves at most")
    print(
        f"a solve takes {1000 * once:.2f} ms, all {table.size} "
        f"sensitivities {1000 * all_at_once:.2f} ms"
    )
    draw(table)
    return Sensitivity(state, table, mismatch)


def draw(table: np.ndarray) -> None:
    """Draw a heat map whose colours are linear from -1 to 1 and logarithmic beyond."""
    figure, axis = plt.subplots(figsize=(8, 5.5), layout="constrained")
    largest = np.max(np.abs(table))
    image = axis.imshow(
        table, cmap="RdBu_r", norm="symlog", clim=(-largest, largest), aspect="auto"
    )
    for (row, column), value in np.ndenumerate(table):
        color = "white" if abs(value) > 5 else "black"
        axis.text(
            column,
            row,
            f"{value:.2g}",
            ha="center",
            va="center",
            color=color,
            fontsize=8,
        )
    axis.set_xticks(range(len(CONSTANTS)), list(CONSTANTS))
    axis.set_yticks(range(len(SUBSTANCES)), list(SUBSTANCES))
    axis.set(
        xlabel="rate constant",
        ylabel="substance",
        title=f"HIRES at t = {T1}: d log y / d log k",
    )
    figure.colorbar(image, ax=axis)
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "hires_sensitivity.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
