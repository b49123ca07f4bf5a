"""Derivatives by the continuous adjoint equation, solved backwards in time together with the equation itself."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import PyTree

from ..controllers import AbstractStepSizeController
from ..events import Event
from ..jaxkit import (
    BoolScalar,
    LinearPrograms,
    RealScalar,
    Y,
    finite_or_one,
    known_zero,
    match_varying,
    sweep,
    zero_tangent,
)
from ..loop import run
from ..plan import Plan
from ..results import RESULTS, Result, choose, code_of, first_failure, is_okay, messages_by_code, raise_unless_okay
from ..saving import SaveAt, save_y
from ..saving.saveat import is_sub
from ..setup import Stepping, set_up
from ..step import Outcome, Problem, State
from ..terms import (
    AbstractTerm,
    Terms,
    describe,
    fits,
    has_mass,
    in_direction_of_travel,
    is_stochastic,
    is_term,
    leaf_terms,
)
from .adjoint_equation import Augmented, Parameters, adjoint_terms, has_additive_noise
from .backsolve_stops import Stop, saved_states, stops_of
from .base import AbstractAdjoint
from .operands import Restore, Solve, flatten

_OPTIONS = ("dt0", "solver", "stepsize_controller", "adjoint", "max_steps", "throw")


def adjoint_rms_seminorm(x: Augmented) -> RealScalar:
    """The root mean square over the state and its adjoint alone, without the adjoints of the parameters.

    Use it as `BacksolveAdjoint(stepsize_controller=PIDController(rtol, atol, norm=adjoint_rms_seminorm))`. The adjoints
    of the parameters are integrals that nothing else depends on, so their errors need not shorten the steps.

    Parameters
    ----------
    x
        The state of the adjoint equation, a tuple of four: state, its adjoint, and the adjoints of `args` and of
        parameters inside the terms.

    Returns
    -------
    RealScalar
        The norm of the first two.

    References
    ----------
    P. Kidger, R. T. Q. Chen, T. Lyons, "Hey, that's not an ODE": faster ODE adjoints via seminorms, ICML 2021.

    Examples
    --------
    >>> import rungax
    >>> controller = rungax.PIDController(
    ...     rtol=1e-6, atol=1e-6, norm=rungax.adjoint_rms_seminorm
    ... )
    >>> adjoint = rungax.BacksolveAdjoint(stepsize_controller=controller)
    """
    y, adjoint, _, _ = x
    return optx.rms_norm((y, adjoint))


class BacksolveAdjoint(AbstractAdjoint):
    """First derivatives in reverse mode by solving the adjoint equation backwards, without a tape.

    Use it where even a few states do not fit into memory and an approximate gradient is enough: the gradient is that of
    the equation, not of the solve, and has the errors of two more solves. Where the state contracts strongly, solving
    it backwards is unstable. `RecursiveCheckpointAdjoint` is exact, and usually faster.

    Parameters
    ----------
    **kwargs
        The options of the backward solve that differ from those of the solve itself: `dt0`, `solver`,
        `stepsize_controller`, `max_steps`, `throw` (raise if the backward solve fails, rather than return NaN), all as
        in `diffeqsolve`. `adjoint` is accepted and has no effect: there is no derivative of the derivative.

    Raises
    ------
    ValueError
        For any other keyword.
    NotImplementedError
        If more is saved than states at `t0`, at `ts` and at `t1`. For an equation with noise: if the solver is not for
        Stratonovich equations, or if it is for additive noise and the noise of the adjoint equation is not. It is
        additive only if that of the equation is, and no derivative with respect to parameters of the diffusion is
        requested.

    Differentiability
    -----------------
    Reverse mode, once, with respect to `y0`, `args` and parameters inside the terms, including closures over traced
    values and the values of paths. The vector field is differentiated with respect to the state and these inputs only:
    it needs no derivative with respect to time, unless the solver uses one, as Rosenbrock methods do. Derivatives with
    respect to times, `step_ts` and `jump_ts` among them, raise a `ValueError`; those with respect to step sizes and
    tolerances are zero, because the equation does not depend on these.

    If the solve fails, values saved before the failure have their derivatives, and those of all others are NaN. If all
    cotangents are zero, nothing is solved and the gradient is zero.

    Cost
    ----
    A solve backwards of an equation of twice the size of the state plus the size of the differentiated parameters. If
    these are values of a path, each step takes a vector–Jacobian product of the path for each component of its
    increment. Memory: a state.

    References
    ----------
    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud, Neural ordinary differential equations, NeurIPS 31 (2018),
    arXiv:1806.07366, algorithm 1.

    X. Li, T.-K. L. Wong, R. T. Q. Chen, D. Duvenaud, Scalable gradients for stochastic differential equations, AISTATS
    2020, arXiv:2001.01328, for equations with noise.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> adjoint = rungax.BacksolveAdjoint()
    >>> def end(rate):
    ...     solution = rungax.diffeqsolve(
    ...         lambda t, y, rate: -rate * y,
    ...         rungax.Heun(),
    ...         0.0,
    ...         1.0,
    ...         0.1,
    ...         1.0,
    ...         rate,
    ...         adjoint=adjoint,
    ...     )
    ...     return solution.ys[-1]
    >>> print(f"{jax.grad(end)(1.0):.2f}")
    -0.37
    """

    kwargs: dict[str, Any]

    def __init__(self, **kwargs: Any):
        unknown = sorted(set(kwargs) - set(_OPTIONS))
        if unknown:
            raise ValueError(
                f"`BacksolveAdjoint` does not know the option `{unknown[0]}`.\nExpected: among {', '.join(_OPTIONS)}\n"
                f"Found:    {', '.join(sorted(kwargs))}\nOther settings are those of the solve."
            )
        self.kwargs = kwargs

    def check(self, saveat: SaveAt) -> None:
        """Raise a `NotImplementedError` if anything but states at given times is saved."""
        sub = saveat.subs
        simple = sub is None or (is_sub(sub) and not sub.steps and sub.fn is save_y)
        if not simple or saveat.dense or saveat.internals or saveat.solver_state:
            raise NotImplementedError(
                "`BacksolveAdjoint` supports states saved at given times.\nExpected: SaveAt of t0, ts and t1 alone\n"
                f"Found:    {saveat}\n"
                "For steps, dense, internals, solver_state, fn or several subs use `RecursiveCheckpointAdjoint`."
            )

    def check_terms(self, terms: Terms) -> None:
        """Raise a `ValueError` if the equation has a mass matrix."""
        if has_mass(terms):
            raise ValueError(
                "`BacksolveAdjoint` solves the adjoint equation of an ordinary differential equation.\n"
                "Expected: terms without a mass matrix\nFound:    `ODETerm(mass=...)`\n"
                "Use `RecursiveCheckpointAdjoint`, the default."
            )

    def check_event(self, event: Event) -> None:
        """Raise a `NotImplementedError`."""
        raise NotImplementedError(
            "`BacksolveAdjoint` does not find events on its way back.\nExpected: event=None\n"
            f"Found:    {type(event).__name__}\nUse `RecursiveCheckpointAdjoint`, the default."
        )

    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The solve, whose derivative is another solve, backwards."""
        self._check_equation(plan, state)
        operands = flatten(Solve(plan, state, self))
        # The rules must not hold the operands, whose traces are over when they run.
        run, restore = operands.run, operands.restore

        @jax.custom_jvp
        def solve(*leaves: jax.Array) -> Outcome:
            return run(leaves)

        def solve_jvp(primals: Any, tangents: Any) -> tuple[Outcome, Outcome]:
            outcome = solve(*primals)
            differentiable = [i for i, tangent in enumerate(tangents) if not known_zero(tangent)]
            differentiated = _differentiated(restore, primals, differentiable)
            _refuse_times(differentiated)
            _refuse_others(differentiated)
            static = jax.tree.map(zero_tangent, outcome)
            if saved_states(outcome) is None:
                return outcome, static
            self._check_noise(restore(primals), _parameters(restore, primals, differentiable))
            saved = _swept(restore, primals, differentiable, [tangents[i] for i in differentiable], outcome)
            return outcome, eqx.tree_at(saved_states, static, saved, is_leaf=lambda x: x is None)

        solve.defjvp(solve_jvp, symbolic_zeros=True)
        return solve(*operands.leaves)

    def _check_equation(self, plan: Plan, state: State) -> None:
        """Raise an error unless the equation can be solved backwards, a stochastic one along the same path."""
        problem = plan.problem
        solver = self.kwargs.get("solver", plan.solver)
        if not (is_term(problem.terms) and fits(solver.term_structure, _without_parameters(problem))):
            raise NotImplementedError(
                "`BacksolveAdjoint` solves an equation of terms of its own, which a solver for particular terms cannot"
                f" solve.\nExpected: a solver for any term, or for a MultiTerm of any\n"
                f"Found:    {type(solver).__name__}, for {describe(solver.term_structure)}\n"
                "Give it another, `BacksolveAdjoint(solver=...)`, or use `RecursiveCheckpointAdjoint`, the default."
            )
        noises = [term.noise(problem.t0, state.y, problem.args) for term in leaf_terms(problem.terms)]
        for noise in filter(None, noises):
            if not issubclass(noise.path.levy_area, solver.minimal_levy_area):
                raise ValueError(
                    f"`BacksolveAdjoint(solver={type(solver).__name__}())` needs more of the Brownian path than the"
                    f" solve does.\nExpected: a path with `levy_area={solver.minimal_levy_area.__name__}`\n"
                    f"Found:    `levy_area={noise.path.levy_area.__name__}`\n"
                    "Give it to the path's constructor, or use `RecursiveCheckpointAdjoint`, the default."
                )
            if not noise.path.increments_add_up:
                raise ValueError(
                    f"`BacksolveAdjoint` solves backwards along the same path, but a `{type(noise.path).__name__}`"
                    " draws anew each time.\nExpected: a path whose increments add up, such as VirtualBrownianTree\n"
                    f"Found:    {type(noise.path).__name__}\nUse `RecursiveCheckpointAdjoint`, the default."
                )
        if is_stochastic(problem.terms) and "Stratonovich" not in solver.interpretations:
            raise NotImplementedError(
                "`BacksolveAdjoint` solves stochastic equations in the Stratonovich sense, because only those can be"
                " solved backwards by the same rule.\nExpected: a Stratonovich solver, such as Heun or SPaRK\n"
                f"Found:    {type(solver).__name__}\nUse `RecursiveCheckpointAdjoint`, the default, with Itô solvers."
            )

    def _check_noise(self, solve: Solve, parameters: Parameters) -> None:
        """Raise a `NotImplementedError` if a solver for additive noise would get noise that depends on the state.

        The noise of the adjoint equation does so where that of the equation does, and where the diffusion depends on
        the `parameters`, by which the derivative is taken.
        """
        plan, problem = solve.plan, solve.plan.problem
        solver = self.kwargs.get("solver", plan.solver)
        if solver.noise != "additive" or not is_stochastic(problem.terms):
            return
        terms = adjoint_terms(problem.terms, problem.args, parameters, problem.t0)
        augmented = (solve.state.y, solve.state.y, *jax.tree.map(jnp.zeros_like, parameters))
        if not has_additive_noise(terms, problem.t0, augmented):
            raise NotImplementedError(
                "`BacksolveAdjoint` solves an equation of its own, whose noise depends on its state where the"
                " diffusion\ndepends on the state, or on an input of the derivative.\n"
                "Expected: a solver for any noise, such as SPaRK, or no derivatives of the diffusion\n"
                f"Found:    {type(solver).__name__}, for additive noise\n"
                "Give it another, `BacksolveAdjoint(solver=...)`, or use `RecursiveCheckpointAdjoint`, the default."
            )

    def backwards(self, solve: Solve, parameters: Parameters, outcome: Outcome, cotangents: Y) -> Augmented:
        """The adjoints at the start.

        If all cotangents are zero nothing is solved, so that the result is zero even if the solve has failed.
        """
        plan, state = solve.plan, solve.state
        stops = stops_of(plan, state, outcome, cotangents)
        zeros = jax.tree.map(jnp.zeros_like, (outcome.state.y, *parameters))

        def segment(carry: tuple[Any, Result], stop: Stop) -> tuple[Any, None]:
            (adjoint, *of_parameters), result = carry
            lost = jnp.logical_and(_any_nonzero(stop.cotangent), jnp.logical_not(stop.reached))
            adjoint = jax.tree.map(lambda a, c: jnp.where(stop.reached, a + c, a), adjoint, stop.cotangent)
            stop = stop.shortened(stop.reached & _any_nonzero(adjoint), finite_or_one(plan.problem.y0))
            back, ended = self._solve(solve, parameters, stop, (stop.y, adjoint, *of_parameters))
            ended = first_failure(ended, choose(lost, outcome.result, RESULTS.successful))
            return (back[1:], first_failure(result, ended)), None

        stop_at_start, others = jax.tree.map(lambda x: x[0], stops), jax.tree.map(lambda x: x[:0:-1], stops)
        init = match_varying((zeros, RESULTS.successful), (plan, state, stops))
        ((adjoint, *of_parameters), result), _ = lax.scan(segment, init, others)
        adjoint = jax.tree.map(jnp.add, adjoint, stop_at_start.cotangent)
        back = (stop_at_start.y, adjoint, *of_parameters)
        okay = is_okay(result)
        if self.kwargs.get("throw", False):
            back = raise_unless_okay(back, result, code_of(result), messages_by_code())
        return jax.tree.map(lambda x: jnp.where(okay, x, jnp.asarray(jnp.nan, x.dtype)), back)

    def _solve(
        self, solve: Solve, parameters: Parameters, stop: Stop, augmented: Augmented
    ) -> tuple[Augmented, Result]:
        """The augmented state at the stop before a given one."""
        plan, state, direction = solve.plan, solve.state, solve.plan.problem.direction
        back = -jnp.ones_like(stop.t)
        terms = adjoint_terms(plan.problem.terms, plan.problem.args, parameters, stop.t)
        terms = in_direction_of_travel(terms, back)
        problem = Problem(terms, None, -stop.t, -stop.previous, back * direction, augmented)
        # The controller of the plan holds times in the direction of travel, a given one true times, as `set_up`
        # expects.
        controller = self.kwargs.get("stepsize_controller")
        stops = None if controller is not None or plan.stops is None else plan.stops.backwards()
        if controller is None:
            controller = plan.controller.wrap(direction)
            assert isinstance(controller, AbstractStepSizeController), "as the call gave it to `set_up`"
        dt0 = self.kwargs.get("dt0", state.t_next - state.t)
        stepping = Stepping(
            solver=self.kwargs.get("solver", plan.solver),
            controller=controller,
            dt0=None if dt0 is None else jnp.abs(jnp.asarray(dt0, stop.t.dtype)),
            max_steps=self.kwargs.get("max_steps", plan.max_steps),
        )
        outcome = run(*set_up(problem, stepping, {}, stops=stops))
        return outcome.state.y, outcome.result


def _swept(
    restore: Restore,
    leaves: Sequence[jax.Array],
    differentiable: list[int],
    tangents: list[jax.Array],
    outcome: Outcome,
) -> PyTree[Any]:
    """The tangents of the saved states, linear in those of the `differentiable` leaves; only the transpose is known."""
    arrays, static = eqx.partition(outcome, eqx.is_array)
    outcome_leaves, outcome_tree = jax.tree.flatten(arrays)
    saved, saved_tree = jax.tree.flatten(saved_states(outcome))
    split = len(leaves), len(leaves) + len(outcome_leaves)

    def backward(*args: jax.Array) -> list[jax.Array]:
        leaves = args[: split[0]]
        outcome = eqx.combine(jax.tree.unflatten(outcome_tree, args[split[0] : split[1]]), static)
        cotangents = jax.tree.unflatten(saved_tree, args[split[1] :])
        solve = restore(leaves)
        assert isinstance(solve.adjoint, BacksolveAdjoint), "put there by `integrate`"
        parameters = _parameters(restore, leaves, differentiable)
        backwards = solve.captured.within(BacksolveAdjoint.backwards)
        augmented = backwards(solve.adjoint, solve, parameters, outcome, cotangents)
        return _cotangents_of_leaves(restore, leaves, differentiable, augmented)

    programs = LinearPrograms(forward=_refuse, backward=backward, bounded=_refuse)
    return jax.tree.unflatten(saved_tree, sweep(programs, [*leaves, *outcome_leaves], tangents, saved))


def _without_parameters(problem: Problem) -> AbstractTerm[Any, Any]:
    """The adjoint equation of the state alone."""
    none = Parameters(*eqx.filter((problem.args, problem.terms), lambda x: False))
    return adjoint_terms(problem.terms, problem.args, none, problem.t0)


def _any_nonzero(tree: PyTree[Any]) -> BoolScalar:
    """True if any entry is not zero, or not a number."""
    return reduce(jnp.logical_or, [jnp.any(x != 0) for x in jax.tree.leaves(tree)], jnp.asarray(False))


def _differentiated(restore: Restore, leaves: Sequence[jax.Array], differentiable: list[int]) -> Solve:
    """The solve with `None` in place of all arrays by which no derivative is taken."""
    return restore([leaf if i in differentiable else None for i, leaf in enumerate(leaves)])


def _parameters(restore: Restore, leaves: Sequence[jax.Array], differentiable: list[int]) -> Parameters:
    """The arrays in the equation by which the derivative is taken."""
    problem = _differentiated(restore, leaves, differentiable).plan.problem
    return Parameters(*eqx.filter((problem.args, problem.terms), eqx.is_inexact_array))


def _refuse_times(differentiated: Solve) -> None:
    """Raise a `ValueError` if a derivative with respect to a time is requested: it would silently be zero."""
    plan, controller = differentiated.plan, _options(differentiated).get("stepsize_controller")
    of_saves = [getattr(recorder, "ts", None) for recorder in plan.recorders.values()]
    of_stops = plan.stops, None if controller is None else controller.stops()
    if _has_arrays((plan.problem.t0, plan.problem.t1, differentiated.state.t, of_saves, of_stops)):
        raise ValueError(
            "`BacksolveAdjoint` has no derivatives with respect to times.\n"
            "Expected: derivatives of y0, args or terms\n"
            "Found:    one of t0, t1, SaveAt(ts=...), or the `step_ts` and `jump_ts` at which steps end\n"
            "Use `RecursiveCheckpointAdjoint`, the default, or stop the gradient."
        )


def _refuse_others(differentiated: Solve) -> None:
    """Raise a `ValueError` for derivatives by the solver or a captured value, which would silently be zero."""
    in_solver = _has_arrays((differentiated.plan.solver, _options(differentiated).get("solver")))
    if in_solver or _has_arrays(differentiated.captured):
        found = "a value inside the solver" if in_solver else "a traced value captured by a function elsewhere"
        raise ValueError(
            "`BacksolveAdjoint` has no derivatives with respect to values inside a solver, or that a solver, a"
            " controller\nor a path has captured.\n"
            f"Expected: derivatives of y0, args or terms\nFound:    {found}\n"
            "Use `RecursiveCheckpointAdjoint`, the default, or stop the gradient."
        )


def _options(solve: Solve) -> dict[str, Any]:
    """The options of the adjoint."""
    assert isinstance(solve.adjoint, BacksolveAdjoint), "put there by `integrate`"
    return solve.adjoint.kwargs


def _has_arrays(tree: PyTree[Any]) -> bool:
    return any(eqx.is_array(x) for x in jax.tree.leaves(tree))


def _refuse(*args: jax.Array) -> list[jax.Array]:
    del args
    raise ValueError(
        "`BacksolveAdjoint` has first derivatives in reverse mode.\nExpected: `jax.grad`, `jax.vjp` or `jax.jacrev`\n"
        "Found:    forward mode or a second derivative\nUse `RecursiveCheckpointAdjoint`, the default, which has all."
    )


def _cotangents_of_leaves(
    restore: Restore, leaves: Sequence[jax.Array], differentiable: list[int], augmented: Augmented
) -> list[jax.Array]:
    """The cotangents of the `differentiable` leaves of the solve, from the adjoints at its start."""

    def with_adjoints(*values: jax.Array) -> tuple[Y, Parameters]:
        moved = list(leaves)
        for i, value in zip(differentiable, values, strict=True):
            moved[i] = value
        return restore(moved).state.y, _parameters(restore, moved, differentiable)

    _, adjoint, *of_parameters = augmented
    return list(jax.vjp(with_adjoints, *(leaves[i] for i in differentiable))[1]((adjoint, Parameters(*of_parameters))))
