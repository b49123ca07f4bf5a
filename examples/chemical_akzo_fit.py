r"""A fit through an algebraic equation: rate constants of a reaction whose catalyst is always in balance.

Chemical Akzo Nobel's problem has six concentrations. Five change by reactions and the inflow of carbon dioxide,

$$\begin{aligned}
\dot y_1 &= -2 r_1 + r_2 - r_3 - r_4, &\quad r_1 &= k_1 y_1^4 \sqrt{y_2}, \\
\dot y_2 &= -\tfrac{1}{2} r_1 - r_4 - \tfrac{1}{2} r_5 + \text{inflow}, &\quad r_2 &= k_2 y_3 y_4, \\
\dot y_3 &= r_1 - r_2 + r_3, &\quad r_3 &= \tfrac{k_2}{K} y_1 y_5, \\
\dot y_4 &= -r_2 + r_3 - 2 r_4, &\quad r_4 &= k_3 y_1 y_4^2, \\
\dot y_5 &= r_2 - r_3 + r_5, &\quad r_5 &= k_4 y_6^2 \sqrt{y_2},
\end{aligned}$$

and the sixth follows two others at once: $0 = K_s y_1 y_4 - y_6$. With a mass matrix whose last entry is zero the
equations are solved as they are written, and differentiated: derivatives of the algebraic unknown come from its
equation. Here `jax.grad` differentiates the sum of squares of the differences to noisy measurements, and Optax's Adam
makes it small. The standard errors show that these data determine three of the constants, and hardly k3:
its reaction is slow.

The start is consistent for any constants, because the algebraic equation contains none of those that are fitted. If it
did, the solve would adapt the start and its derivatives.

F. Mazzia, C. Magherini, Test Set for Initial Value Problem Solvers, release 2.4 (Bari, 2008), part II-3.
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib import pyplot as plt

from rungax import ODETerm, PIDController, Rodas5P, SaveAt, diffeqsolve

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

TRUTH = np.array([18.7, 0.58, 0.09, 0.42])
GUESS = np.array([10.0, 1.0, 0.2, 0.2])
BALANCE, TRANSFER, SOLUBILITY, PRESSURE, HENRY = 34.4, 3.3, 115.83, 0.9, 737.0
START = np.array([0.444, 0.00123, 0.0, 0.007, 0.0, SOLUBILITY * 0.444 * 0.007])
MASS = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
TS = np.linspace(5.0, 180.0, 36)
NOISE = 0.01 * np.array([0.4, 0.001, 0.2, 0.007, 0.02, 0.3])


class Fit(NamedTuple):
    """The constants, the standard errors of their logarithms, and the losses, relative
    to what the noise alone would give."""

    constants: np.ndarray
    errors: np.ndarray
    losses: np.ndarray


def reactions(t: jax.Array, y: jax.Array, constants: jax.Array) -> jax.Array:
    y1, y2, y3, y4, y5, y6 = y
    k1, k2, k3, k4 = constants
    root = jnp.sqrt(y2)
    r1, r2, r3 = k1 * y1**4 * root, k2 * y3 * y4, k2 / BALANCE * y1 * y5
    r4, r5 = k3 * y1 * y4**2, k4 * y6**2 * root
    inflow = TRANSFER * (PRESSURE / HENRY - y2)
    return jnp.stack(
        [
            -2 * r1 + r2 - r3 - r4,
            -0.5 * r1 - r4 - 0.5 * r5 + inflow,
            r1 - r2 + r3,
            -r2 + r3 - 2 * r4,
            r2 - r3 + r5,
            SOLUBILITY * y1 * y4 - y6,
        ]
    )


def concentrations(logs: jax.Array, ts: np.ndarray = TS) -> jax.Array:
    """The solution at the times `ts`, from the logarithms of the constants."""
    return diffeqsolve(
        ODETerm(reactions, mass=MASS),
        Rodas5P(),
        t0=0.0,
        t1=ts[-1],
        dt0=None,
        y0=START,
        args=jnp.exp(logs),
        saveat=SaveAt(ts=ts),
        stepsize_controller=PIDController(rtol=1e-5, atol=1e-8),
        max_steps=1024,
    ).ys


def main(iterations: int = 200, seed: int = 0) -> Fit:
    """Make the data, fit, and compare with the truth."""
    truth = np.asarray(jax.jit(concentrations)(jnp.log(TRUTH)))
    data = truth + NOISE * np.random.default_rng(seed).standard_normal(truth.shape)

    def residuals(logs: jax.Array) -> jax.Array:
        return ((concentrations(logs) - data) / NOISE[None, :]).ravel()

    def loss(logs: jax.Array) -> jax.Array:
        return jnp.mean(residuals(logs) ** 2)

    optimiser = optax.adam(optax.cosine_decay_schedule(0.1, iterations))

    @jax.jit
    def step(logs: jax.Array, state: optax.OptState) -> tuple[jax.Array, ...]:
        value, gradient = jax.value_and_grad(loss)(logs)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(logs, updates), state, value

    logs = jnp.log(jnp.asarray(GUESS))
    state, losses = optimiser.init(logs), list[float]()
    for _ in range(iterations):
        logs, state, value = step(logs, state)
        losses.append(float(value))
    jacobian = jax.jit(jax.jacfwd(residuals))(logs)
    errors = np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)))
    fit = Fit(np.exp(logs), errors, np.array(losses))

    print(f"mean square of the residuals: {losses[0]:.2g} -> {losses[-1]:.3f}")
    for k, (value, error, true) in enumerate(zip(*fit[:2], TRUTH, strict=True), 1):
        print(f"k{k}: {value:8.4f} ± {100 * error:4.1f} %   (truth: {true:g})")
    draw(data, np.asarray(jax.jit(concentrations)(logs)))
    return fit


def draw(data: np.ndarray, fitted: np.ndarray) -> None:
    figure, axes = plt.subplots(
        2, 3, figsize=(10, 5), sharex=True, layout="constrained"
    )
    for i, axis in enumerate(axes.flat):
        axis.plot(TS, data[:, i], ".", color="gray", label="data")
        axis.plot(TS, fitted[:, i], label="fit")
        axis.set(title=f"$y_{i + 1}$" + (", algebraic" if i == 5 else ""))
    axes[1, 0].set(xlabel="time")
    axes[0, 0].legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "chemical_akzo_fit.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
