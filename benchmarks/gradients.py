"""Gradients through a solve, the forward solve included, against Diffrax with its default adjoint and gradsolve."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import rungax

from .explicit import LORENZ_ARGS, LORENZ_Y0, jitted, new_lorenz, solve
from .problems import LORENZ, lorenz, mlp, mlp_parameters
from .report import Comparisons, Report

try:
    from gradsolve.solvers import record_jax, tsit5_replay
    from gradsolve.solvers.method import TSIT5_METHOD
    from gradsolve.warp.warp_replay import replay_solve_saveat_jax
except ImportError:
    record_jax = None

TOL = 1e-8
MAX_STEPS = 1024
BATCH_OF_RHO = 256
RHOS = jnp.linspace(0.0, 21.0, BATCH_OF_RHO)
TS = jnp.linspace(0.0, 10.0, 50)
BATCH = 32
TANGENTS = 2


def run(report: Report) -> None:
    _lorenz(report.comparisons(f"Lorenz, T=10, Tsit5, PIDController(1e-8, 1e-8), max_steps={MAX_STEPS}"))
    _trusted(
        report.comparisons(f"What trust costs: Lorenz, T=10, Tsit5, PIDController(1e-8, 1e-8), {TANGENTS} tangents")
    )
    _neural_ode(report.comparisons(f"Neural ODE: MLP 2-64-64-2, batch {BATCH}, 50 ts, Tsit5, rtol=1e-3, atol=1e-6"))


def loss_at_end(library: ModuleType, field: Callable[..., Any] = lorenz) -> Callable[..., jax.Array]:
    """The sum of the last state, as a function of `y0` and the three parameters."""
    return lambda y0, args: solve(library, field, y0, args, max_steps=MAX_STEPS).ys.sum()


def loss_at_times(library: ModuleType) -> Callable[..., jax.Array]:
    """The mean square of the state at 50 times."""

    def loss(y0: jax.Array, args: Any) -> jax.Array:
        return jnp.mean(solve(library, lorenz, y0, args, max_steps=MAX_STEPS, saveat=library.SaveAt(ts=TS)).ys ** 2)

    return loss


def _lorenz(table: Comparisons) -> None:
    one = LORENZ_Y0, LORENZ_ARGS

    def gradient(loss: Callable[..., Any]) -> Callable[[ModuleType], Callable[..., Any]]:
        return lambda library: jax.grad(loss(library), (0, 1))

    def batch(library: ModuleType) -> Callable[..., Any]:
        of_one = jax.grad(loss_at_end(library), (0, 1))
        return jax.vmap(lambda rho, y0, args: of_one(y0, (args[0], rho, args[2])), in_axes=(0, None, None))

    def both(work: str, make: Callable[[ModuleType], Callable[..., Any]], *args: Any, bar: float) -> Callable[[], Any]:
        ours = jitted(make, rungax, *args)
        table.run(work, ours, jitted(make, diffrax, *args), bar=bar)
        return ours

    ours = both("gradient at t1: 3 initial values, 3 parameters", gradient(loss_at_end), *one, bar=0.35)
    forward = jitted(loss_at_end, rungax, *one)
    table.run("the same", ours, forward, against="our forward solve", bar=4.0, same_values=False)
    table.run("the same", ours, _gradsolve(1), against="gradsolve replay")
    ours = both(f"the same, vmap over {BATCH_OF_RHO} rho", batch, RHOS, *one, bar=0.3)
    table.run("the same", ours, _gradsolve(BATCH_OF_RHO), against="gradsolve replay")
    ours = both("gradient of a loss over 50 ts", gradient(loss_at_times), *one, bar=0.4)
    table.run("the same", ours, _gradsolve(1, TS), against="gradsolve replay")

    def maker(library: ModuleType) -> Callable[[], Any]:
        return lambda: (jax.grad(loss_at_end(library, new_lorenz()), (0, 1)), one)

    table.build("trace + lower + compile of the gradient (aim at 0.5)", maker(rungax), maker(diffrax), bar=0.8)
    table.fresh_build("the same in fresh processes, median of five", bar=0.7)
    hessian = jitted(lambda library: jax.jacfwd(jax.grad(loss_at_end(library), 1), 1), rungax, *one)
    table.run("jacfwd(grad) with respect to the parameters", hessian, None, against="")


def _trusted(table: Comparisons) -> None:
    """Tangents in the error control, and the estimate of the derivatives' error, against the plain solve."""
    one = LORENZ_Y0, LORENZ_ARGS

    def end(adjoint: rungax.AbstractAdjoint) -> Callable[..., Any]:
        return lambda y0, args: solve(rungax, lorenz, y0, args, max_steps=4096, adjoint=adjoint).ys.sum()

    def estimate(y0: Any, args: Any) -> Any:
        controller = rungax.PIDController(TOL, TOL)
        return rungax.derivative_error(
            lorenz, rungax.Tsit5(), 0.0, 10.0, 0.01, y0, args, stepsize_controller=controller, directions=TANGENTS
        )

    plain = jitted(lambda _: end(rungax.RecursiveCheckpointAdjoint()), rungax, *one)
    tangents = rungax.RecursiveCheckpointAdjoint(error_control="tangents", num_tangents=TANGENTS)
    for work, make in (
        ("solve with error_control='tangents'", end(tangents)),
        ("derivative_error", estimate),
        ("gradient", jax.grad(end(rungax.RecursiveCheckpointAdjoint()), (0, 1))),
        ("gradient with error_control='tangents'", jax.grad(end(tangents), (0, 1))),
    ):
        ours = jitted(lambda _, make=make: make, rungax, *one)
        table.run(work, ours, plain, against="our solve", same_values=False)


def _neural_ode(table: Comparisons) -> None:
    parameters = mlp_parameters([2, 64, 64, 2])
    rng = np.random.default_rng(1)
    y0, truth = jnp.asarray(rng.normal(size=(BATCH, 2))), jnp.asarray(rng.normal(size=(BATCH, 50, 2)))
    ts = jnp.linspace(0.0, 10.0, 50)

    def training_step(library: ModuleType) -> Callable[..., Any]:
        def trajectory(y0: jax.Array, parameters: Any) -> jax.Array:
            controller = library.PIDController(rtol=1e-3, atol=1e-6)
            solution = library.diffeqsolve(
                library.ODETerm(mlp),
                library.Tsit5(),
                0.0,
                10.0,
                0.1,
                y0,
                parameters,
                saveat=library.SaveAt(ts=ts),
                stepsize_controller=controller,
            )
            return solution.ys

        def loss(parameters: Any, y0: jax.Array, truth: jax.Array) -> jax.Array:
            return jnp.mean((jax.vmap(trajectory, in_axes=(0, None))(y0, parameters) - truth) ** 2)

        def step(parameters: Any, y0: jax.Array, truth: jax.Array) -> Any:
            value, gradient = jax.value_and_grad(loss)(parameters, y0, truth)
            return value, jax.tree.map(lambda p, g: p - 0.01 * g, parameters, gradient)

        return step

    args = parameters, y0, truth
    table.run("one training step", jitted(training_step, rungax, *args), jitted(training_step, diffrax, *args), bar=0.8)


def _gradsolve(size: int, ts: jax.Array | None = None) -> Callable[[], Any] | None:
    """The gradient by gradsolve's replay in pure JAX, recording included; `None` if gradsolve is not installed.

    Both halves are compiled once: gradsolve's public `grad_closure` would trace its replay at every call.
    """
    if record_jax is None:
        return None
    problem = _GradsolveLorenz()
    rhos = np.asarray(RHOS) if size > 1 else np.asarray([LORENZ.args[1]])
    params = np.stack([np.full(size, LORENZ.args[0]), rhos, np.full(size, LORENZ.args[2])], axis=1)
    y0 = np.broadcast_to(np.asarray(LORENZ.y0), (size, 3))

    def loss(y0: jax.Array, params: jax.Array, dts: jax.Array) -> jax.Array:
        if ts is None:
            return tsit5_replay.replay_solve_jax(problem, y0, params, dts).sum()
        return jnp.mean(replay_solve_saveat_jax(problem, y0, params, dts, ts)[1] ** 2)

    replay = jax.jit(jax.grad(loss, (0, 1)))

    def call() -> Any:
        _, dts, _, _ = record_jax.record_adaptive_jax(
            TSIT5_METHOD, problem.f_jax, y0, params, 0.0, 10.0, rtol=TOL, atol=TOL, dt0=0.01, max_steps=MAX_STEPS
        )
        by_y0, by_params = replay(jnp.asarray(y0), jnp.asarray(params), jnp.asarray(dts))
        if size == 1:
            by_y0, by_params = by_y0[0], by_params[0]
        return by_y0, (by_params[..., 0], by_params[..., 1], by_params[..., 2])

    return call


class _GradsolveLorenz:
    """The Lorenz system with the members that gradsolve needs."""

    name, dim, t0, t1, is_stiff = "lorenz_by_hand", 3, 0.0, LORENZ.t1, False

    def f_jax(self, t: Any, y: jax.Array, params: jax.Array) -> jax.Array:
        return lorenz(t, y, (params[0], params[1], params[2]))
