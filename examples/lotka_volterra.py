r"""Predator and prey: the Lotka-Volterra equations with Dopri5, and a quantity they conserve.

$$\begin{aligned}
\frac{\mathrm{d}}{\mathrm{d}t}\,\text{hare}
&= \text{birth} \cdot \text{hare} - \text{hunt} \cdot \text{hare} \cdot \text{lynx} \\
\frac{\mathrm{d}}{\mathrm{d}t}\,\text{lynx}
&= \text{grow} \cdot \text{hare} \cdot \text{lynx} - \text{death} \cdot \text{lynx}
\end{aligned}$$

Along the exact solution

$$V = \text{grow} \cdot \text{hare} - \text{death} \cdot \log(\text{hare})
+ \text{hunt} \cdot \text{lynx} - \text{birth} \cdot \log(\text{lynx})$$

is constant, so its change measures the error even though the solution is not known. `SaveAt(steps=True)` saves the
state after every step; steps are shorter where the populations change quickly. Unused slots of the saved arrays contain
infinity.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import Dopri5, ODETerm, PIDController, SaveAt, Solution, diffeqsolve

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

RATES = {"birth": 0.55, "hunt": 0.028, "grow": 0.024, "death": 0.80}


def populations(t: jax.Array, y: jax.Array, rates: dict[str, float]) -> jax.Array:
    hare, lynx = y
    return jnp.stack(
        [
            rates["birth"] * hare - rates["hunt"] * hare * lynx,
            rates["grow"] * hare * lynx - rates["death"] * lynx,
        ]
    )


def conserved(y: np.ndarray) -> np.ndarray:
    hare, lynx = y[:, 0], y[:, 1]
    of_hare = RATES["grow"] * hare - RATES["death"] * np.log(hare)
    of_lynx = RATES["hunt"] * lynx - RATES["birth"] * np.log(lynx)
    return of_hare + of_lynx


def main() -> tuple[Solution, float]:
    """Solve, draw, and return the solution and the largest change of the conserved
    quantity."""
    solution = diffeqsolve(
        ODETerm(populations),
        Dopri5(),
        t0=0.0,
        t1=40.0,
        dt0=None,
        y0=jnp.array([30.0, 4.0]),
        args=RATES,
        saveat=SaveAt(t0=True, steps=True),
        stepsize_controller=PIDController(rtol=1e-8, atol=1e-8),
    )
    made = 1 + int(solution.stats["num_accepted_steps"])
    ts, ys = np.asarray(solution.ts)[:made], np.asarray(solution.ys)[:made]
    drift = float(np.max(np.abs(conserved(ys) - conserved(ys)[0])))
    steps = np.diff(ts)
    print(
        f"40 years in {len(steps)} steps, the longest {np.max(steps):.2f} "
        f"and the shortest {np.min(steps):.2f}"
    )
    print(f"the conserved quantity changed by at most {drift:.1e}")
    draw(ts, ys)
    return solution, drift


def draw(ts: np.ndarray, ys: np.ndarray) -> None:
    figure, (in_time, phase) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    in_time.plot(ts, ys, ".-", label=["hare", "lynx"])
    in_time.set(xlabel="years", ylabel="thousands", title="Every step that was made")
    in_time.legend()
    phase.plot(ys[:, 0], ys[:, 1])
    phase.set(
        xlabel="hare", ylabel="lynx", title="Orbits close: something is conserved"
    )
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "lotka_volterra.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
