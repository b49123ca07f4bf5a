r"""Derivatives by the continuous adjoint equation, solved backwards in time.

With $a = \partial L / \partial y(t)$, and the state solved back along with it,

$$\mathrm{d}y = f\,\mathrm{d}x, \qquad \mathrm{d}a = -a^\top \frac{\partial f}{\partial y}\,\mathrm{d}x, \qquad
\mathrm{d}a_\theta = -a^\top \frac{\partial f}{\partial \theta}\,\mathrm{d}x.$$
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import PyTree

from ..controllers import retrying_rejected_times
from ..events import Event
from ..jaxkit import (
    Args,
    LinearPrograms,
    RealScalar,
    Time,
    Y,
    clip_to_end,
    known_zero,
    sweep,
    zero_tangent,
)
from ..loop import run
from ..results import RESULTS, Result, first_failure, is_okay
from ..saving import OutputRecorder, SaveAt, save_y
from ..step import Outcome, Plan, Problem, State
from ..terms import (
    AbstractTerm,
    MultiTerm,
    describe,
    fits,
    in_direction_of_travel,
    is_stochastic,
    is_term,
    leaf_terms,
    start_drivers,
)
from .base import AbstractAdjoint
from .taped import Restore, flatten

_OPTIONS = ("dt0", "solver", "stepsize_controller", "adjoint", "max_steps", "throw")

type Augmented = tuple[Y, Y, PyTree[Any], PyTree[Any]]
"""The state, and the adjoints of state, `args` and parameters inside the terms."""


def adjoint_rms_seminorm(x: Augmented) -> RealScalar:
    """The root mean square over the state and its adjoint alone, leaving out those of the parameters.

    For `BacksolveAdjoint(stepsize_controller=PIDController(rtol, atol, norm=adjoint_rms_seminorm))`: the parameters'
    adjoints are integrals that nothing depends on, so that their errors need not shorten the steps.

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
    >>> controller = rungax.PIDController(rtol=1e-6, atol=1e-6, norm=rungax.adjoint_rms_seminorm)
    >>> adjoint = rungax.BacksolveAdjoint(stepsize_controller=controller)
    """
    y, adjoint, _, _ = x
    return optx.rms_norm((y, adjoint))


class BacksolveAdjoint(AbstractAdjoint):
    """First derivatives in reverse mode by solving the adjoint equation backwards, with no tape at all.

    Use it where even a few states do not fit into memory and an approximate gradient will do: the gradient is that of
    the equation, not of the solve, and its error is that of two more solves. Where the state contracts strongly, it is
    unstable to solve it backwards. `RecursiveCheckpointAdjoint` is exact, and usually faster.

    Parameters
    ----------
    **kwargs
        How to solve backwards, where it shall differ from the solve itself: `dt0`, `solver`, `stepsize_controller`,
        `max_steps`, `throw` (raise if the backward solve fails, rather than return NaN), all as in `diffeqsolve`.
        `adjoint` is accepted and has no effect: there is no derivative of the derivative.

    Raises
    ------
    ValueError
        For any other keyword.
    NotImplementedError
        If more is saved than states at `t0`, at `ts` and at `t1`.

    Differentiability
    -----------------
    Reverse mode, once, with respect to `y0`, `args` and parameters inside the terms, closures over traced values among
    them. Derivatives with respect to times raise a `ValueError`.

    Cost
    ----
    A solve backwards of an equation of twice the size of the state plus the size of the parameters. Memory: a state.

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
    ...         lambda t, y, rate: -rate * y, rungax.Heun(), 0.0, 1.0, 0.1, 1.0, rate, adjoint=adjoint
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
        """That nothing but states at given times is saved."""
        sub = saveat.subs
        simple = sub is None or (hasattr(sub, "steps") and not sub.steps and sub.fn is save_y)
        if not simple or saveat.dense or saveat.internals:
            raise NotImplementedError(
                "`BacksolveAdjoint` supports states saved at given times.\nExpected: SaveAt of t0, ts and t1 alone\n"
                f"Found:    {saveat}\nFor steps, dense, internals, fn or several subs use `RecursiveCheckpointAdjoint`."
            )

    def check_event(self, event: Event) -> None:
        """That there is none."""
        raise NotImplementedError(
            "`BacksolveAdjoint` does not know where an event was on its way back.\nExpected: event=None\n"
            f"Found:    {type(event).__name__}\nUse `RecursiveCheckpointAdjoint`, the default."
        )

    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The solve, whose derivative is another one backwards."""
        self._check_equation(plan, state)
        leaves, restore = flatten(plan, state, self)

        @jax.custom_jvp
        def solve(*leaves: jax.Array) -> Outcome:
            plan, state, _ = restore(leaves)
            return run(plan, state)

        def solve_jvp(primals: Any, tangents: Any) -> tuple[Outcome, Outcome]:
            outcome = solve(*primals)
            moving = [i for i, tangent in enumerate(tangents) if not known_zero(tangent)]
            _refuse_times(restore, moving, len(primals))
            if _saved(outcome) is None:
                return outcome, jax.tree.map(zero_tangent, outcome)
            moved = _sweep(restore, primals, moving, [tangents[i] for i in moving], outcome)
            return outcome, eqx.tree_at(_saved, jax.tree.map(zero_tangent, outcome), moved, is_leaf=lambda x: x is None)

        solve.defjvp(solve_jvp, symbolic_zeros=True)
        return solve(*leaves)

    def _check_equation(self, plan: Plan, state: State) -> None:
        """That the equation can be solved backwards, a stochastic one along the same path."""
        problem = plan.problem
        solver = self.kwargs.get("solver", plan.solver)
        if not (is_term(problem.terms) and fits(solver.term_structure, _adjoint_terms(problem.terms, problem.args))):
            raise NotImplementedError(
                "`BacksolveAdjoint` solves an equation of terms of its own, which a solver for particular terms does"
                f" not know.\nExpected: a solver for any term, or for a MultiTerm of any\n"
                f"Found:    {type(solver).__name__}, for {describe(solver.term_structure)}\n"
                "Give it another, `BacksolveAdjoint(solver=...)`, or use `RecursiveCheckpointAdjoint`, the default."
            )
        noises = [term.noise(problem.t0, state.y, problem.args) for term in leaf_terms(problem.terms)]
        for noise in noises:
            if noise is not None and not noise.path.increments_add_up:
                raise ValueError(
                    "`BacksolveAdjoint` solves backwards along the same path, in steps of its own.\n"
                    "Expected: a path whose increments add up, such as VirtualBrownianTree\n"
                    f"Found:    {type(noise.path).__name__}\nUse `RecursiveCheckpointAdjoint`, the default."
                )
        if is_stochastic(problem.terms) and "Stratonovich" not in solver.interpretations:
            raise NotImplementedError(
                "`BacksolveAdjoint` solves stochastic equations in the Stratonovich sense, for only those can be solved"
                " backwards by the same rule.\nExpected: a Stratonovich solver, such as Heun or SPaRK\n"
                f"Found:    {type(solver).__name__}\nUse `RecursiveCheckpointAdjoint`, the default, with Itô solvers."
            )

    def backwards(self, plan: Plan, state: State, outcome: Outcome, cotangents: Y | None) -> Augmented:
        """The adjoints at the start."""
        stops = _stops(plan, state, outcome, cotangents)
        args, terms = (eqx.filter(x, eqx.is_inexact_array) for x in (plan.problem.args, plan.problem.terms))
        zeros = jax.tree.map(jnp.zeros_like, (outcome.state.y, args, terms))
        carry = (zeros[0], zeros[1], zeros[2]), RESULTS.successful

        def segment(carry: tuple[Any, Result], stop: _Stop) -> tuple[Any, None]:
            (adjoint, *parameters), result = carry
            adjoint = jax.tree.map(jnp.add, adjoint, stop.cotangent)
            (_, *adjoints), ended = self._solve(plan, state, stop, (stop.y, adjoint, *parameters))
            return (tuple(adjoints), first_failure(result, ended)), None

        stop_at_start, others = jax.tree.map(lambda x: x[0], stops), jax.tree.map(lambda x: x[:0:-1], stops)
        ((adjoint, *parameters), result), _ = lax.scan(segment, carry, others)
        adjoint = jax.tree.map(jnp.add, adjoint, stop_at_start.cotangent)
        back = (stop_at_start.y, adjoint, *parameters)
        okay = is_okay(result) & is_okay(outcome.result)
        if self.kwargs.get("throw", False):
            back = result.error_if(back, jnp.logical_not(okay))
        return jax.tree.map(lambda x: jnp.where(okay, x, jnp.asarray(jnp.nan, x.dtype)), back)

    def _solve(self, plan: Plan, state: State, stop: "_Stop", augmented: Augmented) -> tuple[Augmented, Result]:
        """From a stop back to the one before it."""
        solver = self.kwargs.get("solver", plan.solver)
        back = -jnp.ones_like(stop.t)
        controller = self.kwargs.get("stepsize_controller", plan.controller)
        controller = (retrying_rejected_times(controller) if is_stochastic(plan.problem.terms) else controller).wrap(
            back
        )
        dt0 = self.kwargs.get("dt0", state.t_next - state.t)
        dt0 = dt0 if dt0 is None else jnp.abs(jnp.asarray(dt0, stop.t.dtype))
        terms = in_direction_of_travel(_adjoint_terms(plan.problem.terms, plan.problem.args), back)
        t0, t1 = -stop.t, -stop.previous
        order = solver.error_order(terms)
        t_next, controller_state = controller.init(terms, t0, t1, augmented, dt0, None, solver.func, order)
        t_next = clip_to_end(t1, t_next)
        zero, made_jump = jnp.asarray(0, jnp.int32), jnp.asarray(False) if controller.can_jump else None
        solver_state = solver.init(terms, t0, t_next, augmented, None)
        problem = Problem(terms, None, t0, t1, back * plan.problem.direction, augmented)
        max_steps = self.kwargs.get("max_steps", plan.max_steps)
        drivers, okay = start_drivers(terms), RESULTS.successful
        start = State(t0, t_next, augmented, drivers, solver_state, controller_state, made_jump, zero, zero, okay, ())
        outcome = run(Plan(problem, solver, controller, controller_state, order, max_steps, ()), start)
        return outcome.state.y, outcome.result


def _sweep(
    restore: Restore,
    leaves: Sequence[jax.Array],
    moving: list[int],
    tangents: list[jax.Array],
    outcome: Outcome,
) -> PyTree[Any]:
    """How what is saved moves when the `moving` leaves do; a linear map known only by its transpose."""
    arrays, static = eqx.partition(outcome, eqx.is_array)
    kept, kept_tree = jax.tree.flatten(arrays)
    saved, saved_tree = jax.tree.flatten(_saved(outcome))

    def backward(*args: jax.Array) -> list[jax.Array]:
        leaves, rest = args[: len(primals)], args[len(primals) :]
        outcome = eqx.combine(jax.tree.unflatten(kept_tree, rest[: len(kept)]), static)
        cotangents = jax.tree.unflatten(saved_tree, rest[len(kept) :])
        plan, state, adjoint = restore(leaves)
        placed = _placed(restore, leaves, adjoint.backwards(plan, state, outcome, cotangents))
        return [placed[i] for i in moving]

    primals = list(leaves)
    programs = LinearPrograms(forward=_refuse, backward=backward, bounded=_refuse)
    return jax.tree.unflatten(saved_tree, sweep(programs, [*primals, *kept], tangents, saved))


class _Stop(NamedTuple):
    """A time at which the way back stops: the state there and its cotangent, and the time of the stop before it."""

    t: Time
    previous: Time
    y: Y
    cotangent: Y


def _saved(outcome: Outcome) -> Y | None:
    """The states that were saved, if any were."""
    first = outcome.outputs[:1]
    return first[0][1] if first and isinstance(first[0], tuple) else None


def _refuse_times(restore: Restore, moving: list[int], num_leaves: int) -> None:
    """Raise if a time is among the leaves that move, rather than say that nothing depends on it."""
    plan, state, _ = restore(list(range(num_leaves)))
    times = [plan.problem.t0, plan.problem.t1, state.t, *(getattr(r, "ts", None) for r in plan.recorders)]
    if set(times) & set(moving):
        raise ValueError(
            "`BacksolveAdjoint` knows no derivatives with respect to times.\n"
            "Expected: derivatives of y0, args or terms\n"
            "Found:    one of t0, t1 or SaveAt(ts=...)\n"
            "Use `RecursiveCheckpointAdjoint`, the default, or stop the gradient."
        )


def _refuse(*args: jax.Array) -> list[jax.Array]:
    del args
    raise ValueError(
        "`BacksolveAdjoint` has first derivatives in reverse mode.\nExpected: `jax.grad`, `jax.vjp` or `jax.jacrev`\n"
        "Found:    forward mode or a second derivative\nUse `RecursiveCheckpointAdjoint`, the default, which has all."
    )


def _stops(plan: Plan, state: State, outcome: Outcome, cotangents: Y | None) -> _Stop:
    """The start, the saved times, and the end, stacked; what was not saved has a cotangent of zero."""
    end = _row(outcome.state.y)
    nothing = jax.tree.map(jnp.zeros_like, end)
    times, ys, given = [state.t[None]], [_row(plan.problem.y0)], [nothing]
    at_end = nothing
    if cotangents is not None:
        recorder = plan.recorders[0]
        assert isinstance(recorder, OutputRecorder), "what is saved comes first"
        first = int(recorder.t0)
        last = first + recorder.ts.size
        times.append(recorder.ts)
        ys.append(_rows(_saved(outcome), first, last))
        given = [_rows(cotangents, 0, 1) if recorder.t0 else nothing, _rows(cotangents, first, last)]
        at_end = _rows(cotangents, last, last + 1) if recorder.t1 else nothing
    t = jnp.concatenate([*times, outcome.state.t[None]])
    y, cotangent = (jax.tree.map(lambda *x: jnp.concatenate(x), *parts) for parts in ([*ys, end], [*given, at_end]))
    return _Stop(t, jnp.concatenate([t[:1], t[:-1]]), y, cotangent)


def _row(y: Y) -> Y:
    return jax.tree.map(lambda x: x[None], y)


def _rows(y: Y, first: int, last: int) -> Y:
    return jax.tree.map(lambda x: x[first:last], y)


def _placed(restore: Restore, leaves: Sequence[jax.Array], back: Augmented) -> list[Any]:
    """The adjoints as cotangents of the solve's leaves; of those that are not in the adjoint equation, zero."""
    _, adjoint, args, terms = back

    def touched(*leaves: jax.Array) -> PyTree[Any]:
        plan, state, _ = restore(leaves)
        return eqx.filter((state.y, plan.problem.args, plan.problem.terms), eqx.is_inexact_array)

    return list(jax.vjp(touched, *leaves)[1]((adjoint, args, terms)))


class _AdjointTerm(AbstractTerm[Any, Any]):
    """The adjoint equation of a part of `terms`. Its vector field is what it is made of until the increment is known.

    Parameters
    ----------
    terms, args
        What the adjoints are taken with respect to.
    part
        Which of the parts of `terms`; `None` for all.
    """

    terms: Any
    args: Args
    part: int | None = eqx.field(static=True)

    def vf(self, t: RealScalar, y: Augmented, args: Args) -> tuple[RealScalar, Augmented]:
        """Time and state."""
        return t, y

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> Any:
        """The increment of the part's own driver."""
        return self._part_of(self.terms).contr(t0, t1, **kwargs)

    def prod(self, vf: tuple[RealScalar, Augmented], control: Any) -> Augmented:
        """The increments of state and adjoints."""
        t, (y, adjoint, _, _) = vf
        moving, still = eqx.partition((self.args, self.terms), eqx.is_inexact_array)

        def increment(y: Y, moving: Any) -> Y:
            args, terms = eqx.combine(moving, still)
            return self._part_of(terms).vf_prod(t, y, args, control)

        dy, pull = jax.vjp(increment, y, moving)
        pulled = pull(adjoint)
        minus = jax.tree.map(jnp.negative, (pulled[0], *pulled[1]))
        return dy, *minus

    def time_derivative(self, t: Time, y: Augmented, args: Args) -> Augmented | None:
        """The adjoint equation's, where the part has one."""
        part = self._part_of(self.terms)
        if part.noise(t, y[0], self.args) is not None:
            return jax.tree.map(jnp.zeros_like, y)
        if part.time_derivative(t, y[0], self.args) is None:
            return None
        return self.prod((t, y), self.contr(t, t + 1))

    def initial_carry(self) -> Any:
        """The part's initial carry."""
        return self._part_of(self.terms).initial_carry()

    def increment_and_carry(self, carry: Any, t0: RealScalar, t1: RealScalar) -> tuple[Any, Any]:
        """The part's increment and carry."""
        return self._part_of(self.terms).increment_and_carry(carry, t0, t1)

    def num_equations(self) -> int:
        """Field and transposed field."""
        return 3 * self._part_of(self.terms).num_equations()

    def _part_of(self, terms: Any) -> Any:
        return terms if self.part is None else terms.parts[self.part]


def _adjoint_terms(terms: Any, args: Args) -> AbstractTerm[Any, Any]:
    """The adjoint equation: a sum of as many terms as the equation itself, in their order."""
    if not terms.parts:
        return _AdjointTerm(terms, args, None)
    return MultiTerm(*(_AdjointTerm(terms, args, i) for i in range(len(terms.parts))))
