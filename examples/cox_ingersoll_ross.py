r"""A Cox-Ingersoll-Ross process: with high volatility, adaptive steps about double the order of convergence.

$$\mathrm{d}X = a (b - X)\,\mathrm{d}t + \sigma \sqrt{X}\,\mathrm{d}W, \qquad 4 a b > \sigma^2 > 2 a b$$

With so much volatility the process touches zero, where the square root is not smooth. With constant steps even a method
of high order then converges at a rate below one. Error control finds the few places that need short steps. Jelincic,
Foster and Kidger (arXiv:2405.06464) report rates of 0.78 with constant and 1.82 with adaptive steps for such a process.

The example defines its own solver: the high order Strang splitting of Foster, dos Reis and Strange (arXiv:2210.17543)
without its last random variable. In the Stratonovich form

$$\mathrm{d}X = a (c - X)\,\mathrm{d}t + \sigma \sqrt{X} \circ \mathrm{d}W, \qquad c = b - \frac{\sigma^2}{4 a}$$

the flows of both parts are known. A step follows them along a path of five straight pieces: noise A, drift for half the
step, noise C, drift for half the step, noise D. The path has the increment W and the area H of the Brownian path, so
$A + C + D = W$ and $A + C / 2 = W / 2 + H$. Its mean square is the expected one of the Brownian path given W and H:
$C^2 = W^2 / 3 + 4 H^2 / 5 + 4 h / 15$.
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from rungax import (
    RESULTS,
    AbstractItoSolver,
    AbstractSpaceTimeLevyArea,
    AbstractTerm,
    ControlTerm,
    HalfSolver,
    LocalLinearInterpolation,
    MultiTerm,
    ODETerm,
    PIDController,
    Solution,
    SpaceTimeLevyArea,
    VirtualBrownianTree,
    diffeqsolve,
)

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

A, B, VOLATILITY = 1.0, 1.0, 1.5
START, END = 1.0, 1.0
PATHS = 400
NUMBERS = 2 ** np.arange(4, 11)
TOLERANCES = np.array([1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5])
FINEST = 2**14


class StrangSplitting(AbstractItoSolver[None]):
    """The two flows along a path of five pieces, with strong order 1.5 where the square
    root is smooth."""

    term_structure = MultiTerm[tuple[AbstractTerm, AbstractTerm]]
    interpolation_cls = LocalLinearInterpolation
    minimal_levy_area = AbstractSpaceTimeLevyArea

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        """The solver has no state."""

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        args: Any,
        solver_state: None,
        made_jump: Any,
    ) -> Any:
        h, noise = terms.contr(t0, t1, use_levy=True)
        W, H = noise.W, noise.H
        C = jnp.where(W < 0, -1.0, 1.0) * jnp.sqrt(W**2 / 3 + 4 * H**2 / 5 + 4 * h / 15)
        y = noise_flow(y0, W / 2 + H - C / 2)
        y = noise_flow(drift_flow(y, h / 2), C)
        y1 = noise_flow(drift_flow(y, h / 2), W / 2 - H - C / 2)
        return y1, None, {"y0": y0, "y1": y1}, None, RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)

    def strong_order(self, terms: Any) -> float:
        return 1.5


def drift_flow(x: jax.Array, h: jax.Array) -> jax.Array:
    level = B - VOLATILITY**2 / (4 * A)
    return level + (x - level) * jnp.exp(-A * h)


def noise_flow(x: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.sqrt(x) + VOLATILITY * w / 2, 0.0) ** 2


def solve(key: jax.Array, dt0: Any, **options: Any) -> Solution:
    path = VirtualBrownianTree(
        0.0, END, END / 2 / FINEST, (), key, levy_area=SpaceTimeLevyArea
    )
    drift = ODETerm(lambda t, x, args: A * (B - x))
    diffusion = ControlTerm(lambda t, x, args: VOLATILITY * jnp.sqrt(x), path)
    options = {
        "solver": StrangSplitting(),
        "max_steps": None,
        "throw": False,
        **options,
    }
    return diffeqsolve(
        MultiTerm(drift, diffusion),
        t0=0.0,
        t1=END,
        dt0=dt0,
        y0=jnp.array(START),
        **options,
    )


@jax.jit
def constant(keys: jax.Array, dt: jax.Array) -> jax.Array:
    """The last state of each path, with constant steps."""
    return jax.vmap(lambda key: solve(key, dt).ys[0])(keys)


@jax.jit
def adaptive(keys: jax.Array, tolerance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The last state of each path and the number of its steps, with error control."""

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        controller = PIDController(
            rtol=0.0, atol=tolerance, pcoeff=0.1, icoeff=0.3, dtmin=END / FINEST
        )
        solution = solve(
            key,
            END / 64,
            solver=HalfSolver(StrangSplitting()),
            stepsize_controller=controller,
        )
        return solution.ys[0], solution.stats["num_accepted_steps"]

    return jax.vmap(one)(keys)


def main(paths: int = PATHS) -> tuple[float, float]:
    """Measure both orders, draw the errors, and return the orders."""
    keys = jax.random.split(jax.random.key(0), paths)
    exact = constant(keys, jnp.array(END / FINEST))

    def error(xs: jax.Array) -> float:
        return float(jnp.sqrt(jnp.mean((xs - exact) ** 2)))

    fixed = np.array([error(constant(keys, jnp.array(END / n))) for n in NUMBERS])
    found = [adaptive(keys, jnp.array(tolerance)) for tolerance in TOLERANCES]
    numbers = np.array([float(steps.mean()) for _, steps in found])
    errors = np.array([error(xs) for xs, _ in found])
    orders = order(NUMBERS, fixed), order(numbers, errors)
    print(
        f"root mean square error over {paths} paths falls with "
        "the number of steps to the power of"
    )
    print(f"-{orders[0]:.2f} with constant steps, -{orders[1]:.2f} with adaptive ones")
    draw((NUMBERS, fixed), (numbers, errors), orders)
    return orders


def order(numbers: np.ndarray, errors: np.ndarray) -> float:
    return -float(np.polyfit(np.log(numbers), np.log(errors), 1)[0])


def draw(
    constant: tuple[Any, Any], adaptive: tuple[Any, Any], orders: tuple[float, float]
) -> None:
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for points, name, rate in zip(
        (constant, adaptive), ("constant steps", "adaptive steps"), orders, strict=True
    ):
        axes.loglog(*points, "o-", label=f"{name}, order {rate:.2f}")
    axes.set(
        xlabel="steps (mean over paths)",
        ylabel="root mean square error",
        title="CIR process that touches zero",
    )
    axes.legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "cox_ingersoll_ross.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
