r"""Doses at known times: a two-compartment model of a drug, with infusions and a fit to blood samples.

$$\begin{aligned}
\frac{\mathrm{d}}{\mathrm{d}t}\,\text{central} &= \text{infusion}(t)
- \text{clearance} \cdot \frac{\text{central}}{\text{blood}} - \text{exchange} \\
\frac{\mathrm{d}}{\mathrm{d}t}\,\text{peripheral} &= \text{exchange}
= \text{flow} \cdot \left(\frac{\text{central}}{\text{blood}} - \frac{\text{peripheral}}{\text{tissue}}\right)
\end{aligned}$$

The amounts are in mg, and the concentration central / blood is measured. Four numbers are unknown: the clearance, the
flow between blood and tissue, and the volumes of both.

An infusion is switched on and off, so the vector field jumps. `ClipStepSizeController(..., jump_ts=...)` gets the times
of the jumps: a step ends just before each jump, and the next one starts just after it. Without them a solver finds a
jump only by a series of rejected steps, or it steps across a short infusion without noticing it.

The residuals are a function of the logarithms of the four numbers. Levenberg-Marquardt (Optimistix) gets their Jacobian
J from JAX, which differentiates the solve in forward mode. The same Jacobian gives the uncertainty of the four numbers:
the covariance of their logarithms is variance * inverse(J' J).
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from matplotlib import pyplot as plt

from rungax import (
    AbstractStepSizeController,
    ClipStepSizeController,
    ODETerm,
    PIDController,
    SaveAt,
    Tsit5,
    diffeqsolve,
)

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

NAMES = ("clearance in l/h", "flow in l/h", "blood in l", "tissue in l")
TRUTH = np.array([5.0, 8.0, 20.0, 40.0])
GUESS = np.array([2.0, 2.0, 50.0, 50.0])
NOISE = 0.05  # relative

# The infusions, in mg per hour, between these hours.
STARTS = np.array([0.0, 24.0, 48.0])
ENDS = np.array([1.0, 24.2, 50.0])
RATES = np.array([500.0, 2500.0, 250.0])
# The times of the samples, in hours after the start of an infusion.
AFTER = np.array([0.5, 1.0, 1.5, 2.5, 4.0, 8.0, 14.0, 23.0])
SAMPLES = (STARTS[:, None] + AFTER).ravel()

TOLERANCE = PIDController(rtol=1e-6, atol=1e-6)
SWITCHED = ClipStepSizeController(TOLERANCE, jump_ts=np.concatenate([STARTS, ENDS]))


class Fit(NamedTuple):
    """The four numbers in the order of `NAMES`, and the standard errors of their
    logarithms.

    Also the true concentration at each of `SAMPLES`, by solves with and without
    `jump_ts`.
    """

    parameters: np.ndarray
    errors: np.ndarray
    truth: np.ndarray
    without_jumps: np.ndarray


def amounts(t: jax.Array, y: jax.Array, parameters: jax.Array) -> jax.Array:
    central, peripheral = y
    clearance, flow, blood, tissue = parameters
    infusion = jnp.sum(jnp.where((t >= STARTS) & (t < ENDS), RATES, 0.0))
    exchange = flow * (central / blood - peripheral / tissue)
    return jnp.stack([infusion - clearance * central / blood - exchange, exchange])


def concentration(
    log_parameters: jax.Array,
    hours: np.ndarray,
    controller: AbstractStepSizeController = SWITCHED,
) -> jax.Array:
    """The concentration in the blood, in mg/l, at each of `hours`. Logarithms keep all
    four numbers positive."""
    parameters = jnp.exp(log_parameters)
    solution = diffeqsolve(
        ODETerm(amounts),
        Tsit5(),
        t0=0.0,
        t1=hours[-1],
        dt0=0.1,
        y0=jnp.zeros(2),
        args=parameters,
        saveat=SaveAt(ts=hours, fn=lambda t, y, parameters: y[0] / parameters[2]),
        stepsize_controller=controller,
    )
    return solution.ys


def residuals(log_parameters: jax.Array, data: jax.Array) -> jax.Array:
    return jnp.log(concentration(log_parameters, SAMPLES) / data)


@jax.jit
def fit(data: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The fitted logarithms of the four numbers and their standard errors."""
    method = optimistix.LevenbergMarquardt(rtol=1e-6, atol=1e-6)
    best = optimistix.least_squares(residuals, method, jnp.log(GUESS), args=data).value
    jacobian = jax.jacfwd(residuals)(best, data)
    variance = jnp.sum(residuals(best, data) ** 2) / (data.size - best.size)
    return best, jnp.sqrt(variance * jnp.diag(jnp.linalg.inv(jacobian.T @ jacobian)))


def main(seed: int = 0) -> Fit:
    """Make the data, fit, and compare with the truth; then solve without `jump_ts`."""
    truth, without_jumps = (
        concentration(jnp.log(TRUTH), SAMPLES, controller)
        for controller in (SWITCHED, TOLERANCE)
    )
    data = truth * jnp.exp(NOISE * jax.random.normal(jax.random.key(seed), truth.shape))
    best, errors = fit(data)
    answer = Fit(*map(np.asarray, (jnp.exp(best), errors, truth, without_jumps)))

    for name, value, error, true in zip(
        NAMES, answer.parameters, answer.errors, TRUTH, strict=True
    ):
        print(f"{name:>16}  {value:5.2f} ± {100 * error:.0f} %   (truth: {true:g})")
    second = len(AFTER)  # the first sample after the start of the second infusion
    print(
        f"after the second infusion: {truth[second]:.1f} mg/l; without "
        f"`jump_ts`: {without_jumps[second]:.1f} mg/l"
    )
    draw(np.asarray(data), best)
    return answer


def draw(data: np.ndarray, best: jax.Array) -> None:
    hours = np.linspace(0.0, 72.0, 1441)
    figure, axis = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for start, end in zip(STARTS, ENDS, strict=True):
        axis.axvspan(
            start,
            end,
            color="tab:orange",
            alpha=0.3,
            linewidth=0,
            label="infusion" if start == 0 else None,
        )
    axis.plot(
        hours,
        concentration(jnp.log(TRUTH), hours),
        color="lightgray",
        linewidth=6,
        label="truth",
    )
    axis.plot(hours, concentration(best, hours), label="fit")
    axis.plot(
        hours,
        concentration(best, hours, TOLERANCE),
        color="tab:red",
        linestyle=":",
        label="without jump_ts",
    )
    axis.plot(SAMPLES, data, "o", color="black", label="samples")
    axis.set(
        xlabel="hours",
        ylabel="mg/l",
        ylim=(0, None),
        title="Concentration in the blood, three infusions",
    )
    axis.legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "pharmacokinetics.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
