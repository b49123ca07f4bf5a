r"""Fit a reaction-diffusion equation: three rates from noisy pictures of a system of 2048 equations.

$$\begin{aligned}
u_t &= 1 + u^2 v - (A + 1) u + D_u (u_{xx} + u_{yy}), \\
v_t &= A u - u^2 v + D_v (v_{xx} + v_{yy})
\end{aligned}$$

is the Brusselator on the periodic unit square. The feed A and the two diffusivities are unknown. The data are pictures
of u, the only visible chemical, on a grid of 32 × 32 points at four times, with errors of 0.1 at every point.

The residuals are a function of the logarithms of the three numbers. Levenberg-Marquardt (Optimistix) gets their
Jacobian J from JAX, which differentiates the solve by `BDF` in forward mode: each step solves its equation, and a
linear system with the same sparse matrix for each of three tangents. An iteration is one such solve. The Jacobian at
the solution also gives the standard errors of the logarithms: their covariance is inverse(J' J), because the residuals
are divided by the errors of the data.

With many parameters, such as a diffusivity for each point, use reverse mode instead: `jax.grad` of the sum of squares
takes the time of about six solves, however many parameters there are.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from matplotlib import pyplot as plt

from rungax import (
    BDF,
    ODETerm,
    PIDController,
    SaveAt,
    SparsityPattern,
    diffeqsolve,
    jacobian_sparsity,
)

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

NAMES = ("A", "diffusivity of u", "diffusivity of v")
TRUTH = np.array([3.4, 0.02, 0.01])
GUESS = np.array([3.0, 0.05, 0.05])
NOISE = 0.1
TS = np.array([0.25, 0.5, 1.0, 2.0])


class Fit(NamedTuple):
    """The three numbers in the order of `NAMES`, the standard errors of their
    logarithms, and the number of iterations."""

    parameters: np.ndarray
    errors: np.ndarray
    num_iterations: int


def laplacian(u: jax.Array) -> jax.Array:
    neighbours = sum(jnp.roll(u, shift, axis) for shift in (1, -1) for axis in (0, 1))
    return (neighbours - 4 * u) * u.shape[0] ** 2


def reactions(t: jax.Array, y: jax.Array, parameters: jax.Array) -> jax.Array:
    u, v = y
    feed, diffusivity_u, diffusivity_v = parameters
    made = u**2 * v
    return jnp.stack(
        [
            1 + made - (feed + 1) * u + diffusivity_u * laplacian(u),
            feed * u - made + diffusivity_v * laplacian(v),
        ]
    )


def start(width: int) -> np.ndarray:
    x = np.arange(width) / width
    bump = x * (1 - x) ** 1.5
    return np.stack(np.broadcast_arrays(22 * bump[None, :], 27 * bump[:, None]))


def pictures(
    log_parameters: jax.Array, pattern: SparsityPattern, y0: np.ndarray
) -> jax.Array:
    """The first chemical at each of `TS`. Logarithms keep all three numbers
    positive."""
    solution = diffeqsolve(
        ODETerm(reactions, sparsity=pattern),
        BDF(),
        t0=0.0,
        t1=TS[-1],
        dt0=None,
        y0=y0,
        args=jnp.exp(log_parameters),
        saveat=SaveAt(ts=TS, fn=lambda t, y, parameters: y[0]),
        stepsize_controller=PIDController(rtol=1e-4, atol=1e-4),
    )
    return solution.ys


def main(width: int = 32, seed: int = 0) -> Fit:
    """Make the data, fit, and compare with the truth."""
    y0 = start(width)
    pattern = jacobian_sparsity(reactions, 0.0, y0, TRUTH)
    model = functools.partial(pictures, pattern=pattern, y0=y0)

    def residuals(log_parameters: jax.Array, data: jax.Array) -> jax.Array:
        return (model(log_parameters) - data).ravel() / NOISE

    @jax.jit
    def fit(data: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        method = optimistix.LevenbergMarquardt(rtol=1e-3, atol=1e-3)
        found = optimistix.least_squares(residuals, method, jnp.log(GUESS), args=data)
        jacobian = jax.jacfwd(residuals)(found.value, data)
        errors = jnp.sqrt(jnp.diag(jnp.linalg.inv(jacobian.T @ jacobian)))
        return found.value, errors, found.stats["num_steps"]

    truth = jax.jit(model)(jnp.log(TRUTH))
    data = truth + NOISE * jax.random.normal(jax.random.key(seed), truth.shape)
    best, errors, iterations = fit(data)
    answer = Fit(np.exp(best), np.asarray(errors), int(iterations))

    print(f"{pattern.size} equations, {answer.num_iterations} iterations")
    for name, value, error, true in zip(
        NAMES, answer.parameters, answer.errors, TRUTH, strict=True
    ):
        print(f"{name:>16}  {value:.5f} ± {100 * error:.2f} %   (truth: {true:g})")
    draw(np.asarray(data), np.asarray(jax.jit(model)(best)))
    return answer


def draw(data: np.ndarray, fitted: np.ndarray) -> None:
    """Draw the data above the fitted solution, with the same colours for the same
    values."""
    figure, axes = plt.subplots(
        2, len(TS), figsize=(9, 4.5), sharex=True, sharey=True, layout="constrained"
    )
    for row, name, shown in zip(axes, ("data", "fit"), (data, fitted), strict=True):
        for axis, t, u in zip(row, TS, shown, strict=True):
            image = axis.imshow(
                u.T,
                origin="lower",
                extent=(0, 1, 0, 1),
                vmin=data.min(),
                vmax=data.max(),
            )
            axis.set(title=f"{name}, t = {t:g}", xticks=(0, 1), yticks=(0, 1))
    figure.colorbar(image, ax=axes, label="u", shrink=0.8)
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "reaction_diffusion_fit.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
