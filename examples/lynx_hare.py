r"""Lynx and hare: a predator-prey model is fitted to two decades of fur trade in Canada, 1900-1920.

$$\begin{aligned}
\frac{\mathrm{d}}{\mathrm{d}t}\,\text{hare}
&= \text{birth} \cdot \text{hare} - \text{hunt} \cdot \text{hare} \cdot \text{lynx} \\
\frac{\mathrm{d}}{\mathrm{d}t}\,\text{lynx}
&= \text{grow} \cdot \text{hare} \cdot \text{lynx} - \text{death} \cdot \text{lynx}
\end{aligned}$$

The yearly pelts of the Hudson's Bay Company (in thousands, `data/hudson_bay.csv`) represent the two populations. Six
positive numbers are unknown: the four rates and the two populations of 1900. The counts vary tenfold, so relative
errors matter: the loss is half the sum of squares of log(model / data), as a function of the logarithms of the six.

The example uses three transformations of one solve:

1. `jax.vmap` makes thousands of solves in one program, each with other parameters: a sweep over a large box finds a
   good starting point.
2. `jax.value_and_grad` gives the gradient, with which L-BFGS finds the minimum.
3. `jax.hessian` gives the curvature of the loss there. With the variance of the residuals it yields the covariance of
   the fit, `variance * inverse(hessian)`, and so a standard error for each logarithm: a relative one for each number.
"""

import pathlib
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from matplotlib import pyplot as plt

from rungax import ODETerm, PIDController, SaveAt, Tsit5, diffeqsolve, is_successful

jax.config.update("jax_enable_x64", True)

HERE = pathlib.Path(__file__).parent
DATA = HERE / "data" / "hudson_bay.csv"
FIGURES = HERE / "figures"

NAMES = ("birth", "hunt", "grow", "death", "hare in 1900", "lynx in 1900")
# The centre of the box, and the factor by which it extends up and down. Cycles of about
# ten years around some tens of thousands give the order of magnitude of the rates. The
# counts of 1900 are known but not exact.
MIDDLE = np.array([0.5, 0.03, 0.03, 0.8, 30.0, 4.0])
REACH = np.array([2.0, 2.0, 2.0, 2.0, 1.3, 1.6])


class Bottom(NamedTuple):
    """The logarithms at the minimum, the loss and its gradient there, and the number of
    gradient evaluations."""

    point: jax.Array
    loss: jax.Array
    gradient: jax.Array
    solves: jax.Array


class Fit(NamedTuple):
    """The best six numbers in the order of `NAMES`, the covariance of their logarithms,
    and the cost of the fit.

    The residual is the root mean square of log(model / data): 0.1 means an error of
    about ten percent.
    """

    parameters: np.ndarray
    covariance: np.ndarray
    gradient: np.ndarray
    residual: float
    solves: int
    seconds: float

    @property
    def errors(self) -> np.ndarray:
        """The standard errors of the logarithms: 0.1 means that the number is known to
        about ten percent."""
        return np.sqrt(np.diag(self.covariance))


def populations(t: jax.Array, y: jax.Array, rates: jax.Array) -> jax.Array:
    hare, lynx = y
    birth, hunt, grow, death = rates
    return jnp.stack(
        [birth * hare - hunt * hare * lynx, grow * hare * lynx - death * lynx]
    )


def log_model(
    log_parameters: jax.Array, years: jax.Array, tolerance: float
) -> tuple[jax.Array, jax.Array]:
    """The logarithms of hare and lynx in each of `years`, shape (years, 2), and whether
    the solve succeeded."""
    parameters = jnp.exp(log_parameters)
    solution = diffeqsolve(
        ODETerm(populations),
        Tsit5(),
        t0=years[0],
        t1=years[-1],
        dt0=0.1,
        y0=parameters[4:],
        args=parameters[:4],
        saveat=SaveAt(ts=years),
        stepsize_controller=PIDController(rtol=tolerance, atol=tolerance),
        throw=False,  # in a sweep, a failed solve must not raise an error
    )
    return jnp.log(solution.ys), is_successful(solution.result)


def loss(
    log_parameters: jax.Array, years: jax.Array, counts: jax.Array, tolerance: float
) -> jax.Array:
    """Half the sum of squares of log(model / data); infinite if there is no
    solution."""
    model, solved = log_model(log_parameters, years, tolerance)
    return jnp.where(solved, jnp.sum((model - jnp.log(counts)) ** 2) / 2, jnp.inf)


def spread(count: int, dimension: int) -> np.ndarray:
    """`count` points in the cube [-1, 1]^dimension, more evenly spread than random ones
    (Roberts' R sequence).

    The i-th is the fractional part of i times powers of 1/phi, where
    phi^(dimension + 1) = phi + 1.
    """
    phi = 1.5
    for _ in range(50):
        phi = (1 + phi) ** (1 / (dimension + 1))
    steps = phi ** -np.arange(1.0, dimension + 1)
    return 2 * ((0.5 + np.arange(count)[:, None] * steps) % 1) - 1


@jax.jit
def sweep(
    box: jax.Array, years: jax.Array, counts: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The best row of `box`, shape (solves, 6), and its loss."""
    losses = jax.vmap(lambda point: loss(point, years, counts, 1e-5))(box)
    best = jnp.argmin(losses)
    return box[best], losses[best]


@jax.jit
def descend(start: jax.Array, years: jax.Array, counts: jax.Array) -> Bottom:
    """The minimum found by L-BFGS from `start`."""
    # A smaller tolerance than in the sweep, because near the minimum errors of
    # the solver would disturb the optimiser.
    value = lambda point: loss(point, years, counts, 1e-9)
    value_and_grad = optax.value_and_grad_from_state(
        value
    )  # the line search has computed the gradient already
    optimiser = optax.lbfgs()

    def step(
        carry: tuple[jax.Array, optax.OptState, jax.Array],
    ) -> tuple[jax.Array, optax.OptState, jax.Array]:
        point, state, solves = carry
        height, gradient = value_and_grad(point, state=state)
        updates, state = optimiser.update(
            gradient, state, point, value=height, grad=gradient, value_fn=value
        )
        return (
            optax.apply_updates(point, updates),
            state,
            solves + optax.tree.get(state, "num_linesearch_steps"),
        )

    def unfinished(carry: tuple[jax.Array, optax.OptState, jax.Array]) -> jax.Array:
        _, state, _ = carry
        iteration, slope = (
            optax.tree.get(state, "count"),
            jnp.linalg.norm(optax.tree.get(state, "grad")),
        )
        return (iteration == 0) | ((iteration < 100) & (slope > 1e-6))

    point, state, solves = lax.while_loop(
        unfinished, step, (start, optimiser.init(start), jnp.asarray(1))
    )
    return Bottom(
        point, optax.tree.get(state, "value"), optax.tree.get(state, "grad"), solves
    )


@jax.jit
def uncertainty(bottom: Bottom, years: jax.Array, counts: jax.Array) -> jax.Array:
    """The covariance of the logarithms."""
    # The sum of squares divided by its degrees of freedom.
    variance = 2 * bottom.loss / (counts.size - bottom.point.size)
    hessian = jax.hessian(lambda point: loss(point, years, counts, 1e-9))(bottom.point)
    return variance * jnp.linalg.inv(hessian)


def main(solves: int = 16_384) -> Fit:
    """Sweep with `solves` solves, minimise the loss, compute the uncertainty, and print
    and draw the results."""
    print(
        f"{solves} solves and a fit, about half a minute with compilation ...",
        flush=True,
    )
    years, *columns = np.loadtxt(DATA, delimiter=",", skiprows=1, unpack=True)
    counts = np.stack(columns, axis=1)
    began = time.perf_counter()
    start, coarse = sweep(
        np.log(MIDDLE) + spread(solves, len(NAMES)) * np.log(REACH), years, counts
    )
    bottom = descend(start, years, counts)
    covariance = np.asarray(uncertainty(bottom, years, counts))
    seconds = time.perf_counter() - began
    residual = lambda loss: float(np.sqrt(2 * loss / counts.size))
    fit = Fit(
        parameters=np.exp(np.asarray(bottom.point)),
        covariance=covariance,
        gradient=np.asarray(bottom.gradient),
        residual=residual(bottom.loss),
        solves=solves + int(bottom.solves),
        seconds=seconds,
    )

    for line in table(fit):
        print(line)
    print(
        f"residual {fit.residual:.4f}, root mean square of log(model / "
        f"data); {residual(coarse):.4f} after the sweep"
    )
    print(
        f"{solves} solves, {bottom.solves} gradients and a Hessian "
        f"in {seconds:.1f} s, compilation included"
    )
    draw(years, counts, fit)
    return fit


def table(fit: Fit) -> list[str]:
    """A text with each parameter and its standard error."""
    rows = zip(NAMES, fit.parameters, fit.errors, strict=True)
    return [
        f"{name:>12}  {value:<7.4g} ± {100 * error:2.0f} %"
        for name, value, error in rows
    ]


def draw(years: np.ndarray, counts: np.ndarray, fit: Fit) -> None:
    """Draw the data, the model, and a band of two standard errors around the model."""
    fine_years = np.linspace(years[0], years[-1], 401)
    curve = lambda log_parameters: log_model(
        log_parameters, jnp.asarray(fine_years), 1e-9
    )[0]
    best = jnp.log(jnp.asarray(fit.parameters))
    model, slope = np.asarray(curve(best)), np.asarray(jax.jit(jax.jacfwd(curve))(best))
    width = 2 * np.sqrt(np.einsum("tij,jk,tik->ti", slope, fit.covariance, slope))
    figure, axis = plt.subplots(figsize=(10, 4.5), layout="constrained")
    for i, (name, color) in enumerate((("hare", "tab:brown"), ("lynx", "tab:blue"))):
        low, high = np.exp(model[:, i] - width[:, i]), np.exp(model[:, i] + width[:, i])
        axis.fill_between(fine_years, low, high, color=color, alpha=0.2, linewidth=0)
        axis.plot(
            fine_years,
            np.exp(model[:, i]),
            color=color,
            label=f"{name}, model ± 2 standard errors",
        )
        axis.plot(years, counts[:, i], "o", color=color, label=f"{name}, pelts")
    axis.set(
        xlabel="year",
        ylabel="thousands",
        title="Lotka-Volterra model of the Hudson's Bay Company's pelts",
    )
    axis.set_xticks(np.arange(1900, 1921, 4))
    axis.legend(
        title="\n".join(table(fit)),
        title_fontproperties={"family": "monospace"},
        loc="center left",
    )
    axis.get_legend().set_bbox_to_anchor((1.0, 0.5))
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "lynx_hare.png", dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
    print(f"The figure is {FIGURES / 'lynx_hare.png'}")
