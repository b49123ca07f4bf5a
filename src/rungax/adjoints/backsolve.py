r"""Derivatives by the continuous adjoint equation, solved backwards in time.

With $a = \partial L / \partial y(t)$, and the state solved back along with it,

$$\mathrm{d}y = f\,\mathrm{d}x, \qquad \mathrm{d}a = -a^\top \frac{\partial f}{\partial y}\,\mathrm{d}x, \qquad
\mathrm{d}a_\theta = -a^\top \frac{\partial f}{\partial \theta}\,\mathrm{d}x.$$
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import PyTree

from ..controllers import AbstractStepSizeController
from ..events import Event
from ..jaxkit import (
    Args,
    LinearPrograms,
    RealScalar,
    Time,
    Y,
    known_zero,
    sweep,
    zero_tangent,
)
from ..loop import run
from ..plan import Plan
from ..results import RESULTS, Result, first_failure, is_okay
from ..saving import OutputRecorder, SaveAt, save_y
from ..saving.saveat import is_sub, sub_name
from ..setup import Stepping, set_up
from ..step import Outcome, Problem, State
from ..stops import Stops
from ..terms import AbstractTerm, MultiTerm, describe, fits, in_direction_of_travel, is_stochastic, is_term, leaf_terms
from .base import AbstractAdjoint
from .operands import Restore, Solve, flatten

SAVED = sub_name(0)
"""The name of the recorder whose output has derivatives: there is one at most."""

_OPTIONS = ("dt0", "solver", "stepsize_controller", "adjoint", "max_steps", "throw")

type Augmented = tuple[Y, Y, PyTree[Any], PyTree[Any]]
"""The state, and the adjoints of state, `args` and parameters inside the terms."""


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
    >>> controller = rungax.PIDController(rtol=1e-6, atol=1e-6, norm=rungax.adjoint_rms_seminorm)
    >>> adjoint = rungax.BacksolveAdjoint(stepsize_controller=controller)
    """
    y, adjoint, _, _ = x
    return optx.rms_norm((y, adjoint))


class BacksolveAdjoint(AbstractAdjoint):
    """First derivatives in reverse mode by solving the adjoint equation backwards, without a tape.

    Use it where even a few states do not fit into memory and an approximate gradient will do: the gradient is that of
    the equation, not of the solve, and its error is that of two more solves. Where the state contracts strongly,
    solving it backwards is unstable. `RecursiveCheckpointAdjoint` is exact, and usually faster.

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
        """Raise a `NotImplementedError` if anything but states at given times is saved."""
        sub = saveat.subs
        simple = sub is None or (is_sub(sub) and not sub.steps and sub.fn is save_y)
        if not simple or saveat.dense or saveat.internals:
            raise NotImplementedError(
                "`BacksolveAdjoint` supports states saved at given times.\nExpected: SaveAt of t0, ts and t1 alone\n"
                f"Found:    {saveat}\nFor steps, dense, internals, fn or several subs use `RecursiveCheckpointAdjoint`."
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
        restore = operands.restore

        @jax.custom_jvp
        def solve(*leaves: jax.Array) -> Outcome:
            return operands.run(leaves)

        def solve_jvp(primals: Any, tangents: Any) -> tuple[Outcome, Outcome]:
            outcome = solve(*primals)
            differentiable = [i for i, tangent in enumerate(tangents) if not known_zero(tangent)]
            _refuse_times(restore, differentiable, len(primals))
            _refuse_captured(differentiable, operands.num_arrays)
            static = jax.tree.map(zero_tangent, outcome)
            if _saved(outcome) is None:
                return outcome, static
            saved = _swept(restore, primals, differentiable, [tangents[i] for i in differentiable], outcome)
            return outcome, eqx.tree_at(_saved, static, saved, is_leaf=lambda x: x is None)

        solve.defjvp(solve_jvp, symbolic_zeros=True)
        return solve(*operands.leaves)

    def _check_equation(self, plan: Plan, state: State) -> None:
        """Raise an error unless the equation can be solved backwards, a stochastic one along the same path."""
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

    def backwards(self, plan: Plan, state: State, outcome: Outcome, cotangents: Y) -> Augmented:
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
        """The augmented state at the stop before a given one."""
        direction = plan.problem.direction
        back = -jnp.ones_like(stop.t)
        terms = in_direction_of_travel(_adjoint_terms(plan.problem.terms, plan.problem.args), back)
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
    saved, saved_tree = jax.tree.flatten(_saved(outcome))
    split = len(leaves), len(leaves) + len(outcome_leaves)

    def backward(*args: jax.Array) -> list[jax.Array]:
        leaves = args[: split[0]]
        outcome = eqx.combine(jax.tree.unflatten(outcome_tree, args[split[0] : split[1]]), static)
        cotangents = jax.tree.unflatten(saved_tree, args[split[1] :])
        solve = restore(leaves)
        assert isinstance(solve.adjoint, BacksolveAdjoint), "put there by `integrate`"
        backwards = solve.captured.within(BacksolveAdjoint.backwards)
        augmented = backwards(solve.adjoint, solve.plan, solve.state, outcome, cotangents)
        cotangents = _cotangents_of_leaves(restore, leaves, augmented)
        return [cotangents[i] for i in differentiable]

    programs = LinearPrograms(forward=_refuse, backward=backward, bounded=_refuse)
    return jax.tree.unflatten(saved_tree, sweep(programs, [*leaves, *outcome_leaves], tangents, saved))


class _Stop(NamedTuple):
    """A time at which the backward solve stops: the state there, its cotangent, and the time of the stop before."""

    t: Time
    previous: Time
    y: Y
    cotangent: Y


def _saved(outcome: Outcome) -> Y | None:
    """The saved states, if any were saved."""
    output = outcome.outputs.get(SAVED)
    return None if output is None else output[1]


def _refuse_times(restore: Restore, differentiable: list[int], num_leaves: int) -> None:
    """Raise a `ValueError` if a time is among the differentiable leaves: its derivative would silently be zero."""
    solve = restore(list(range(num_leaves)))
    problem, recorders = solve.plan.problem, solve.plan.recorders.values()
    times = [problem.t0, problem.t1, solve.state.t, *(getattr(recorder, "ts", None) for recorder in recorders)]
    if set(times) & set(differentiable):
        raise ValueError(
            "`BacksolveAdjoint` knows no derivatives with respect to times.\n"
            "Expected: derivatives of y0, args or terms\n"
            "Found:    one of t0, t1 or SaveAt(ts=...)\n"
            "Use `RecursiveCheckpointAdjoint`, the default, or stop the gradient."
        )


def _refuse_captured(differentiable: list[int], num_arrays: int) -> None:
    """Raise a `ValueError` if a captured value is to be differentiated by: its derivative would silently be zero."""
    if any(i >= num_arrays for i in differentiable):
        raise ValueError(
            "`BacksolveAdjoint` knows no derivatives with respect to values that a solver or controller has captured.\n"
            "Expected: derivatives of y0, args or terms\nFound:    a traced value captured by a function elsewhere\n"
            "Use `RecursiveCheckpointAdjoint`, the default, or stop the gradient."
        )


def _refuse(*args: jax.Array) -> list[jax.Array]:
    del args
    raise ValueError(
        "`BacksolveAdjoint` has first derivatives in reverse mode.\nExpected: `jax.grad`, `jax.vjp` or `jax.jacrev`\n"
        "Found:    forward mode or a second derivative\nUse `RecursiveCheckpointAdjoint`, the default, which has all."
    )


def _stops(plan: Plan, state: State, outcome: Outcome, cotangents: Y) -> _Stop:
    """The start, the saved times, and the end, stacked; states that were not saved have a cotangent of zero."""
    end = jax.tree.map(lambda x: x[None], outcome.state.y)
    start = jax.tree.map(lambda x: x[None], plan.problem.y0)
    zero = jax.tree.map(jnp.zeros_like, end)
    recorder = plan.recorders[SAVED]
    assert isinstance(recorder, OutputRecorder), "its name says so"
    first = int(recorder.t0)
    last = first + recorder.ts.size
    t = jnp.concatenate([state.t[None], recorder.ts, outcome.state.t[None]])
    ys = start, _rows(_saved(outcome), first, last), end
    given = (
        _rows(cotangents, 0, 1) if recorder.t0 else zero,
        _rows(cotangents, first, last),
        _rows(cotangents, last, last + 1) if recorder.t1 else zero,
    )
    y, cotangent = (jax.tree.map(lambda *x: jnp.concatenate(x), *parts) for parts in (ys, given))
    return _Stop(t, jnp.concatenate([t[:1], t[:-1]]), y, cotangent)


def _rows(y: Y, first: int, last: int) -> Y:
    return jax.tree.map(lambda x: x[first:last], y)


def _cotangents_of_leaves(restore: Restore, leaves: Sequence[jax.Array], augmented: Augmented) -> list[Any]:
    """The cotangents of the solve's leaves, from the adjoints at its start; zero for leaves that have none."""
    _, adjoint, args, terms = augmented

    def with_adjoints(*leaves: jax.Array) -> PyTree[Any]:
        solve = restore(leaves)
        problem = solve.plan.problem
        return eqx.filter((solve.state.y, problem.args, problem.terms), eqx.is_inexact_array)

    return list(jax.vjp(with_adjoints, *leaves)[1]((adjoint, args, terms)))


class _AdjointTerm(AbstractTerm[Any, Any]):
    """The adjoint equation of a part of `terms`.

    Its vector field is the pair of time and state: more is not known before the increment is.

    Parameters
    ----------
    terms, args
        The parameters that the adjoints are taken with respect to.
    part
        The index of the part among the parts of `terms`; `None` for all.
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
        differentiable, static = eqx.partition((self.args, self.terms), eqx.is_inexact_array)

        def increment(y: Y, differentiable: Any) -> Y:
            args, terms = eqx.combine(differentiable, static)
            return self._part_of(terms).vf_prod(t, y, args, control)

        dy, vjp = jax.vjp(increment, y, differentiable)
        of_y, of_parameters = vjp(adjoint)
        return dy, *jax.tree.map(jnp.negative, (of_y, *of_parameters))

    def time_derivative(self, t: Time, y: Augmented, args: Args) -> Augmented | None:
        """The time derivative of the adjoint equation, if the part has one."""
        part = self._part_of(self.terms)
        if part.noise(t, y[0], self.args) is not None:
            return jax.tree.map(jnp.zeros_like, y)
        if part.time_derivative(t, y[0], self.args) is None:
            return None
        return self.prod((t, y), self.contr(t, t + 1))

    def stops(self) -> tuple[Stops, ...]:
        """The part's stops."""
        return self._part_of(self.terms).stops()

    def initial_carry(self) -> Any:
        """The part's carry."""
        return self._part_of(self.terms).initial_carry()

    def increment_and_carry(self, carry: Any, t0: RealScalar, t1: RealScalar) -> tuple[Any, Any]:
        """The part's increment and carry."""
        return self._part_of(self.terms).increment_and_carry(carry, t0, t1)

    def trace_once(self, t: Time, y: Augmented, args: Args) -> Self:
        """This term: its parts have been traced."""
        return self

    def num_equations(self) -> int:
        """The size of the field and of its vector–Jacobian product."""
        return 3 * self._part_of(self.terms).num_equations()

    def _part_of(self, terms: Any) -> Any:
        return terms if self.part is None else terms.parts[self.part]


def _adjoint_terms(terms: Any, args: Args) -> AbstractTerm[Any, Any]:
    """The adjoint equation: a sum of as many terms as the equation itself, in their order."""
    if not terms.parts:
        return _AdjointTerm(terms, args, None)
    return MultiTerm(*(_AdjointTerm(terms, args, i) for i in range(len(terms.parts))))
