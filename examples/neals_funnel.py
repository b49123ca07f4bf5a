r"""Neal's funnel: a distribution is sampled by underdamped Langevin dynamics, with adaptive steps of QUICSORT.

$$z \sim N(0, 9), \qquad y_i \mid z \sim N(0, \mathrm{e}^z), \quad i = 1, \dots, 9$$

The funnel's neck is a hundred times narrower than its mouth, so no single step size suits both: adaptive steps are
short in the neck and long in the mouth. The path of the noise does not depend on the steps, so a step can be rejected
and repeated without a bias.

All evaluations of the gradient are counted, including the warm-up: six for each attempted step, because `HalfSolver`
makes three steps of QUICSORT. A chain's effective sample size is the number of independent draws whose mean would have
the same mean square error. The error is measured against the exact mean, over all chains, so a chain that is stuck or
biased has a small effective sample size.

Jelinčič, Foster and Kidger (arXiv:2405.06464) report about 150 evaluations per effective sample for QUICSORT and 49,000
for NUTS. Their published program holds z fixed while it differentiates the potential, so that y exerts no force on z,
and it counts two evaluations a step instead of six. Here both fields are solved, theirs for comparison and the gradient
of the funnel. Only the latter has the funnel's law as its limit, and convergence is slow: in the mouth y must travel
far, and the figure shows that these short chains have hardly been there.
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import (
    QUICSORT,
    ClipStepSizeController,
    HalfSolver,
    MultiTerm,
    PIDController,
    SaveAt,
    SpaceTimeTimeLevyArea,
    UnderdampedLangevinDiffusionTerm,
    UnderdampedLangevinDriftTerm,
    VirtualBrownianTree,
    diffeqsolve,
)

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

GAMMA, U = 1.0, 1.0
WARM_UP, SPACING, SHORTEST = 128.0, 8.0, 2.0**-11
EVALUATIONS_PER_STEP = 3 * 2

type Position = tuple[jax.Array, jax.Array]


class Samples(NamedTuple):
    """The saved states of each chain and its number of attempted steps."""

    z: np.ndarray
    y: np.ndarray
    num_steps: np.ndarray


class Summary(NamedTuple):
    """The quality of the samples and their cost."""

    mean_z: float
    variance_z: float
    variance_ratio: float
    per_effective_z: float
    per_effective_y: float


def grad_f(x: Position, coupling: jax.Array) -> Position:
    """The gradient of minus the log density; without coupling, z does not depend on
    y."""
    z, y = x
    pull = 4.5 - 0.5 * jnp.exp(-z) * jnp.sum(y**2)
    return z / 9 + coupling * pull, jnp.exp(-z) * y


def chain(
    key: jax.Array, coupling: jax.Array, atol: jax.Array, ts: np.ndarray
) -> tuple[Position, jax.Array]:
    shape = (
        jax.ShapeDtypeStruct((), np.float64),
        jax.ShapeDtypeStruct((9,), np.float64),
    )
    path = VirtualBrownianTree(
        0.0, ts[-1], SHORTEST / 2, shape, key, levy_area=SpaceTimeTimeLevyArea
    )
    drift = UnderdampedLangevinDriftTerm(GAMMA, U, grad_f)
    diffusion = UnderdampedLangevinDiffusionTerm(GAMMA, U, path)
    control = PIDController(rtol=0.0, atol=atol, pcoeff=0.1, icoeff=0.4, dtmin=SHORTEST)
    at_rest = (jnp.zeros(()), jnp.zeros(9))
    solution = diffeqsolve(
        MultiTerm(drift, diffusion),
        HalfSolver(QUICSORT()),
        t0=0.0,
        t1=ts[-1],
        dt0=2.0**-6,
        y0=(at_rest, at_rest),
        args=coupling,
        saveat=SaveAt(ts=ts),
        # Steps end at the saved times, because within a step the solution is
        # only interpolated.
        stepsize_controller=ClipStepSizeController(
            control, step_ts=ts, store_rejected_steps=100
        ),
        max_steps=2**17,
    )
    position, _ = solution.ys
    return position, solution.stats["num_steps"]


def effective_size(values: np.ndarray, mean: float, variance: float) -> float:
    """The effective sample size of all chains together, from the mean square error of
    each chain's mean."""
    errors = np.mean(values, axis=1) - mean
    return len(values) * variance / float(np.mean(errors**2))


def summarise(samples: Samples) -> Summary:
    evaluations = EVALUATIONS_PER_STEP * int(np.sum(samples.num_steps))
    ratio = samples.y * np.exp(-samples.z / 2)[..., None]  # standard normal for every z
    sizes_y = [effective_size(ratio[..., i], 0.0, 1.0) for i in range(9)]
    return Summary(
        mean_z=float(np.mean(samples.z)),
        variance_z=float(np.var(samples.z)),
        variance_ratio=float(np.mean(ratio**2)),
        per_effective_z=evaluations / effective_size(samples.z, 0.0, 9.0),
        per_effective_y=evaluations / float(np.mean(sizes_y)),
    )


def main(chains: int = 32, samples: int = 40) -> dict[str, Summary]:
    """Sample with both fields, draw the marginals, and return the summary for each
    field."""
    ts = WARM_UP + SPACING * np.arange(1, samples + 1)
    keys = jax.random.split(jax.random.key(0), chains)
    run = jax.jit(
        jax.vmap(
            lambda key, coupling, atol: chain(key, coupling, atol, ts),
            in_axes=(0, None, None),
        )
    )
    found: dict[str, Samples] = {}
    # In the neck y is about a hundredth. Where it exerts a force on z, an error
    # of that size would disturb z strongly.
    for name, coupling, atol in (("funnel", 1.0, 2.0**-9), ("z alone", 0.0, 2.0**-6)):
        (z, y), num_steps = run(keys, jnp.asarray(coupling), jnp.asarray(atol))
        found[name] = Samples(*(np.asarray(part) for part in (z, y, num_steps)))
    summaries = {name: summarise(part) for name, part in found.items()}
    print(
        f"{chains} chains of {samples} samples; exact: mean of z 0, "
        "variance 9, variance of y exp(-z/2) 1"
    )
    for name, summary in summaries.items():
        steps = found[name].num_steps
        print(
            f"{name}: {np.mean(steps):.0f} steps a chain, mean "
            f"of z {summary.mean_z:.2f}, variance",
            end=" ",
        )
        print(
            f"{summary.variance_z:.2f}, variance of y exp(-z/2) "
            f"{summary.variance_ratio:.2f}"
        )
        print(
            f"    gradients per effective sample of z {summary.per_effective_z:.0f}",
            end=", ",
        )
        print(f"of y exp(-z/2) {summary.per_effective_y:.0f}")
    draw(found)
    return summaries


def draw(found: dict[str, Samples]) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    height = np.linspace(-9, 9, 200)
    for axis, (name, samples) in zip(axes, found.items(), strict=False):
        axis.plot(
            samples.y[..., 0].ravel(), samples.z.ravel(), ".", markersize=2, alpha=0.5
        )
        for side in (-2, 2):
            axis.plot(side * np.exp(height / 2), height, color="black", linewidth=0.8)
        axis.set(
            xlim=(-30, 30),
            ylim=(-10, 10),
            xlabel="y",
            ylabel="z",
            title=f"{name}: samples, and 95% of y given z",
        )
    edges = np.linspace(-10, 10, 41)
    for name, samples in found.items():
        axes[2].hist(
            samples.z.ravel(), edges, density=True, histtype="step", label=name
        )
    axes[2].plot(
        height,
        np.exp(-(height**2) / 18) / np.sqrt(18 * np.pi),
        color="black",
        linewidth=0.8,
        label="exact",
    )
    axes[2].set(xlabel="z", title="Marginal of z")
    axes[2].legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "neals_funnel.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
