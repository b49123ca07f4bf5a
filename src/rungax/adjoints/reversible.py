r"""Derivatives by undoing the steps of the solve, without a tape of states.

Any one-step method, $y_{n+1} = y_n + \Psi_h(t_n, y_n)$, becomes one that can be undone exactly with a companion $z$ of
the solution:

$$y_{n+1} = \lambda y_n + (1 - \lambda) z_n + \Psi_h(t_n, z_n), \qquad z_{n+1} = z_n - \Psi_{-h}(t_{n+1}, y_{n+1}).$$

Inside a step the solution is the interpolation $P$ of the given method over its own step, from $z_n$ to
$z_n + \Psi_h(t_n, z_n)$, with the distance of the two solutions added:

$$y(t_n + \theta h) = P(\theta) + \big(1 - (1 - \lambda) \theta\big) (y_n - z_n).$$

Since $P(0) = z_n$ and $P(1) = z_n + \Psi_h(t_n, z_n)$, this is $y_n$ at the start and $y_{n+1}$ at the end. The
distance $y_n - z_n$ is of the size of the error at the ends of the steps, and so is what its weight adds. Therefore the
interpolation has the order that $P$ has, as long as that is at most the order of the method.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ..events import Event
from ..interpolation import AbstractLocalInterpolation
from ..interpolation.base import fraction
from ..jaxkit import (
    AbstractChecked,
    Args,
    BoolScalar,
    Condition,
    DenseInfo,
    IntScalar,
    RealScalar,
    Time,
    Y,
    all_finite,
    any_element,
    constant_where,
    match_varying,
    scaled,
    select,
    shown,
)
from ..plan import Plan, Solver
from ..results import Result, first_failure
from ..saving import SOLVER_STATE, SaveAt, Slots, TapeSize, handed_out
from ..solvers import AbstractSolver
from ..step import Outcome, SolverState, Start, State, Step
from ..terms import Terms, has_mass, in_direction_of_travel, is_stochastic, leaf_terms
from .base import AbstractAdjoint
from .operands import Restore, Solve, differentiated_as
from .reverse import Cotangents, ReverseReplay
from .taped_solve import rebuild_outcome, taped


class ReversibleAdjoint(AbstractAdjoint, AbstractChecked):
    r"""Derivatives of a solve by a reversible method, with memory for one state and the times of the steps.

    The solve itself changes: each step of the given solver becomes a step of the reversible method made of it
    (McCallum and Foster), of the same order, for twice the evaluations. Reverse mode then undoes the steps, so that the
    derivative is that of the solve as it was made, up to rounding.

    Use it where states are so large that no tape of them fits, and recomputing from few checkpoints is too slow.

    Parameters
    ----------
    coupling
        $\lambda$ in (0, 1]. Undoing a step multiplies rounding by $1/\lambda$, so that it grows like $\lambda^{-n}$
        over n steps; forwards, a smaller $\lambda$ is more stable. The default 0.99 is good for a thousand steps or so;
        take 0.999 for more.

    Raises
    ------
    ValueError
        If `coupling` is not in (0, 1]. If the solution depends on more of the solver state than the solver can restore,
        as with multistep methods. If the method is for stiff equations, as implicit and Rosenbrock methods are. For an
        equation with noise, if the solver is not for Stratonovich equations, or if the increments of the path do not
        add up.

    Notes
    -----
    The difference between a decaying component of the solution, $\mu < 0$, and its companion grows by a factor of about
    $\lambda e^{|\mu| h}$ a step. The solution itself is lost where steps are much longer than $(1 - \lambda) / |\mu|$
    for a time of many $1 / |\mu|$: use another adjoint for equations that contract strongly.

    `SaveAt(solver_state=True)` returns the state of the given solver at the end. A solve that continues from there has
    a new companion.

    Differentiability
    -----------------
    That of `RecursiveCheckpointAdjoint`, with its bound on second derivatives. Rounding grows in long solves as said
    above.

    Cost
    ----
    The solve: two steps of the solver for each. Values inside a step cost what they cost with the solver itself.
    Reverse mode: four more, and the vector–Jacobian product of two. Memory: a few states, and one number for each of
    `max_steps`, up to 2²⁰.

    References
    ----------
    S. McCallum, J. Foster, Efficient, accurate and stable gradients for neural ODEs, arXiv:2410.11648 (2024),
    equations 5 and 6.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> adjoint = rungax.ReversibleAdjoint()
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

    coupling: RealScalar = 0.99

    def value_conditions(self) -> Iterator[Condition]:
        """`coupling` is in (0, 1]."""
        coupling = self.coupling
        yield Condition(
            coupling,
            lambda: (coupling > 0) & (coupling <= 1),
            "`ReversibleAdjoint(coupling=...)` weighs the state against its companion.",
            lambda: f"\nExpected: a number above 0 and at most 1\nFound:    {shown(coupling)}\nThe default is 0.99.",
        )

    def check(self, saveat: SaveAt) -> None:
        """Raise a `ValueError` if the solver's own estimates are requested: its steps are not those of the solve."""
        if saveat.internals:
            raise ValueError(
                "`ReversibleAdjoint` makes a method of its own, which has no stiffness estimate.\n"
                "Expected: SaveAt(internals=False)\nFound:    SaveAt(internals=True)\n"
                "Use `RecursiveCheckpointAdjoint` with `internals`."
            )

    def check_terms(self, terms: Terms) -> None:
        """Raise a `ValueError` if the equation has a mass matrix."""
        if has_mass(terms):
            raise ValueError(
                "`ReversibleAdjoint` makes every step backwards as well, in which algebraic equations do not determine"
                " the state.\nExpected: terms without a mass matrix\nFound:    `ODETerm(mass=...)`\n"
                "Use `RecursiveCheckpointAdjoint`, the default."
            )

    def check_event(self, event: Event) -> None:
        """Raise a `NotImplementedError` if an event changes the state."""
        if any(effect is not None for effect in event.leaves_of("effect")):
            raise NotImplementedError(
                "`ReversibleAdjoint` cannot undo what the effect of an event did.\nExpected: effect=None\n"
                "Found:    an Event with an effect\nUse `RecursiveCheckpointAdjoint`, the default."
            )

    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The reversible solve, with derivatives by going back."""
        given = plan.solver
        assert isinstance(given, AbstractSolver), "as the call gave it"
        _check_one_step(given, plan, state)
        _check_noise(given, plan, state)
        hands_out_state = SOLVER_STATE in plan.recorders
        recorders = {name: recorder for name, recorder in plan.recorders.items() if name != SOLVER_STATE}
        plan = replace(plan, solver=_ReversibleSolver(given, self.coupling), recorders=recorders)
        # A solver state from an earlier solve is not needed: the solver restores its state in every step.
        state = replace(state, solver_state=state.y)
        size = TapeSize.of(plan, 2)

        def replayed(restore: Restore, leaves: Sequence[jax.Array]) -> Outcome:
            return rebuild_outcome(restore(leaves), taped(restore, leaves, size, _undo_steps))

        outcome = differentiated_as(replayed, Solve(plan, state))
        if not hands_out_state:
            return outcome
        # The companion has no meaning for another solve, which starts from the state.
        end = outcome.state
        known, (problem, t, y) = constant_where(end.lacks_end, (given, (plan.problem, end.t, end.y)))
        solver_state = handed_out(known.restore(problem.terms, t, y, problem.args, None), end)
        return replace(outcome, outputs={**outcome.outputs, SOLVER_STATE: solver_state})


def _check_one_step(solver: AbstractSolver[Any], plan: Plan, state: State) -> None:
    """Raise a `ValueError` unless the solver's step depends on the state alone, and can be made backwards too."""
    terms, args = plan.problem.terms, plan.problem.args
    checkpoint = lambda: solver.checkpoint_state(solver.init(terms, state.t, state.t_next, state.y, args))
    if jax.tree.leaves(eqx.filter_eval_shape(checkpoint)):
        raise ValueError(
            "`ReversibleAdjoint` needs a solver whose step depends on nothing but the state.\n"
            f"Expected: a one-step method\nFound:    {type(solver).__name__}, whose state holds more\n"
            "Use `RecursiveCheckpointAdjoint`."
        )
    if not solver.facts.steps_backwards:
        raise ValueError(
            "`ReversibleAdjoint` makes every step backwards as well, in which the components that a method for stiff\n"
            "equations damps grow without bound.\n"
            "Expected: a method whose steps may be negative, such as Tsit5\n"
            f"Found:    {type(solver).__name__}\nUse `RecursiveCheckpointAdjoint`, the default."
        )


def _check_noise(solver: AbstractSolver[Any], plan: Plan, state: State) -> None:
    """Raise a `ValueError` if the equation has noise and its solution is not that of the same steps backwards."""
    terms, args = plan.problem.terms, plan.problem.args
    if not is_stochastic(terms):
        return
    expected = ""
    noises = [noise for term in leaf_terms(terms) if (noise := term.noise(state.t, state.y, args)) is not None]
    if "Stratonovich" not in solver.facts.interpretations:
        expected = "a solver for Stratonovich equations, such as Heun"
    elif not all(noise.path.increments_add_up for noise in noises):
        expected = "a path whose increments add up, such as VirtualBrownianTree"
    if expected:
        found = [type(solver).__name__, *(type(noise.path).__name__ for noise in noises)]
        raise ValueError(
            "`ReversibleAdjoint` makes every step of an equation with noise backwards as well, along the same path.\n"
            f"Expected: {expected}\nFound:    {' with '.join(found)}\nUse `RecursiveCheckpointAdjoint`, the default."
        )


class _ReversibleSolver(eqx.Module):
    """A one-step method made reversible; its solver state is the companion."""

    solver: Solver
    coupling: RealScalar

    def interpolation_for(self, terms: Terms, args: Args) -> "_AroundCompanion":
        """A maker of the interpolation over a step."""
        return _AroundCompanion(self.solver.interpolation_for(terms, args))

    @property
    def evaluates_past_steps(self) -> bool:
        """The given solver's answer."""
        return self.solver.evaluates_past_steps

    def init(self, terms: Terms, t0: Time, t1: Time, y0: Y, args: Args) -> Y:
        """The companion, which starts from the state."""
        del terms, t0, t1, args
        return y0

    def attempt(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: Y,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, Y, Result]:
        """One step of the reversible method; costs two of the given one."""
        del made_jump
        companion = solver_state
        end, error, info, result = self._inner_step(terms, t0, t1, companion, args)
        y1 = jax.tree.map(self._mix, y0, companion, end)
        decrement, back = self._decrement(terms, t0, t1, y1, args)
        after = jax.tree.map(jnp.subtract, companion, decrement)
        distance = jax.tree.map(jnp.subtract, y0, companion)
        dense_info = {"inner": info, "distance": distance, "coupling": jnp.asarray(self.coupling)}
        return y1, error, dense_info, after, first_failure(result, back)

    def undo(self, terms: Terms, t0: RealScalar, t1: RealScalar, end: Start, args: Args) -> Start:
        """The start of the step from `t0` to `t1`, given the start of the step that follows it."""
        decrement = self._decrement(terms, t0, t1, end.y, args)[0]
        companion = jax.tree.map(jnp.add, end.solver_checkpoint, decrement)
        inner_end = self._inner_step(terms, t0, t1, companion, args)[0]
        return Start(jax.tree.map(self._unmix, end.y, companion, inner_end), companion)

    def stiffness(self, step: Step) -> None:
        """`None`: the given solver's stages are not stored."""
        del step

    def after_rejection(self, before: SolverState, after: SolverState) -> SolverState:
        """The state before the attempt."""
        del after
        return before

    def improves_when_repeated(self, step: Step) -> None:
        """`None`: nothing of the given solver is carried from attempt to attempt."""
        del step

    def failure_at_start(
        self, terms: Terms, t0: RealScalar, t1: RealScalar, y0: Y, args: Args, solver_state: Y
    ) -> Result:
        """The given solver's failure."""
        own = self.solver.restore(terms, t0, y0, args, None)
        return self.solver.failure_at_start(terms, t0, t1, y0, args, own)

    def checkpoint_state(self, solver_state: Y) -> Y:
        """The companion."""
        return solver_state

    def restore(self, terms: Terms, t0: RealScalar, y0: Y, args: Args, checkpoint: Y) -> Y:
        """The companion."""
        del terms, t0, y0, args
        return checkpoint

    def choices(self, solver_state: Y) -> None:
        """`None`: the reversible method makes no choices."""
        del solver_state

    def with_choices(self, solver_state: Y, choices: None) -> Y:
        """The solver state as it is."""
        del choices
        return solver_state

    def proposal(self, step: Step) -> None:
        """`None`: the reversible method has no order or step size of its own."""
        del step

    def densify(self, step: Step) -> DenseInfo:
        """The dense information, with that of the given solver's step completed by the given solver."""
        companion, info = step.solver_state0, step.dense_info
        inner_end = jax.tree.map(self._unmixed_end, step.y0, companion, step.y1)
        inner = replace(step, y0=companion, y1=inner_end, dense_info=info["inner"], solver_state0=None)
        return {**info, "inner": self.solver.densify(inner)}

    def _inner_step(
        self, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y: Y, args: Args
    ) -> tuple[Y, Y | None, DenseInfo, Result]:
        """The end of the given solver's step, its error estimate, its dense information and its result."""
        solver_state = self.solver.restore(terms, t0, y, args, None)
        end, error, info, _, result = self.solver.attempt(terms, t0, t1, y, args, solver_state, False)
        return end, error, info, result

    def _decrement(self, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y1: Y, args: Args) -> tuple[Y, Result]:
        """The change of `y1` by the given solver's step from `t1` back to `t0`, made as in a solve backwards."""
        terms = in_direction_of_travel(terms, -jnp.ones_like(t0))
        end, _, _, result = self._inner_step(terms, -t1, -t0, y1, args)
        return jax.tree.map(jnp.subtract, end, y1), result

    # The increment of the given solver's step is `end - z`.

    def _mix(self, y: jax.Array, z: jax.Array, end: jax.Array) -> jax.Array:
        weight = jnp.asarray(self.coupling).astype(y.dtype)
        return weight * y + (1 - weight) * z + (end - z)

    def _unmix(self, y1: jax.Array, z: jax.Array, end: jax.Array) -> jax.Array:
        weight = jnp.asarray(self.coupling).astype(y1.dtype)
        return (y1 - (1 - weight) * z - (end - z)) / weight

    def _unmixed_end(self, y: jax.Array, z: jax.Array, y1: jax.Array) -> jax.Array:
        weight = jnp.asarray(self.coupling).astype(y.dtype)
        return y1 - weight * (y - z)


class _AroundCompanion(eqx.Module):
    """A maker of interpolations over steps of the reversible method, from the maker of those of the given one."""

    inner: Callable[..., AbstractLocalInterpolation]

    def __call__(
        self, t0: RealScalar, t1: RealScalar, inner: DenseInfo, distance: Y, coupling: RealScalar
    ) -> "_ReversibleInterpolation":
        return _ReversibleInterpolation(t0, t1, self.inner(t0=t0, t1=t1, **inner), distance, coupling)


class _ReversibleInterpolation(AbstractLocalInterpolation):
    """The interpolation over a step of the reversible method.

    Parameters
    ----------
    t0, t1
        Ends of the step.
    inner
        The interpolation over the step of the given method, which starts from the companion.
    distance
        The state minus the companion, at the start.
    coupling
        The part of the distance that is left at the end.
    """

    t0: RealScalar
    t1: RealScalar
    inner: AbstractLocalInterpolation
    distance: Y
    coupling: RealScalar

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value of the given method's interpolation, with the distance that is left at `t` added."""
        theta = fraction(t, self.t0, self.t1)
        left = 1 - (1 - jnp.asarray(self.coupling).astype(theta.dtype)) * theta
        return jax.tree.map(lambda x, d: x + scaled(left, d), self.inner.evaluate(t), self.distance)


def _last_needed(reverse: ReverseReplay, end: Start) -> tuple[IntScalar, Start]:
    """The start to go back from, and the number of steps before it: `end`, unless the solve failed.

    The state at which a solve failed may be infinite, or so large that nothing is left of earlier ones in it. Then the
    steps up to the last saved value that has a cotangent are made again.
    """
    replay, num_accepted = reverse.replay, reverse.replay.tape.num_accepted
    needed = jnp.minimum(reverse.last_with_cotangent() + 1, num_accepted)

    def body(state: tuple[IntScalar, BoolScalar, Start]) -> tuple[IntScalar, BoolScalar, Start]:
        index, _, start = state
        following = replay.step_with_parts(index, start)[0]
        goes_on = (index < needed) & reverse.failed & all_finite(following)
        return index + jnp.asarray(goes_on).astype(jnp.int32), goes_on, select(goes_on, following, start)

    begin = Slots(replay.tape.checkpoints)[0]
    init = match_varying((replay.tape.first, reverse.failed, begin), (replay, end))
    index, _, start = lax.while_loop(lambda state: any_element(state[1]), body, init)
    return select(reverse.failed, (index, start), (num_accepted, end))


def _undo_steps(reverse: ReverseReplay, carry: Cotangents, end: Start, size: TapeSize) -> Cotangents:
    """The cotangents before all accepted steps, undone one after another."""
    del size
    replay = reverse.replay
    plan, tape = replay.plan, replay.tape
    solver = plan.solver
    assert isinstance(solver, _ReversibleSolver), "put in place by `integrate`"
    undo = replay.captured.within(solver.undo)
    last, known = _last_needed(reverse, end)

    def body(state: tuple[IntScalar, Start, Cotangents]) -> tuple[IntScalar, Start, Cotangents]:
        count, following, carry = state
        active = count > tape.first
        index = jnp.maximum(count - 1, tape.first)
        t0, t1 = tape.ends(index)
        undone = undo(plan.problem.terms, t0, t1, following, plan.problem.args)
        start = select(active & (index < last), undone, following)
        return count - 1, start, reverse.step(index, start, carry, active)

    init = match_varying((tape.num_accepted, known, carry), (reverse, known, carry))
    return lax.while_loop(lambda state: any_element(state[0] > tape.first), body, init)[2]
