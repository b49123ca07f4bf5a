"""The records that pass through a solve."""

from collections.abc import Mapping
from typing import Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .jaxkit import Args, BoolScalar, DenseInfo, IntScalar, RealScalar, Time, Y
from .results import RESULTS, Result, is_okay
from .terms import Terms

type SolverState = PyTree[Array]
"""The state of a solver between two steps: its own pytree."""

type ControllerState = PyTree[Array]
"""The state of a step size controller between two attempts: its own pytree."""

type DriverState = PyTree[Array]
"""The part of a random driver's path that is carried from step to step, `None` for drivers that carry nothing."""

type UserState = PyTree[Array]
"""A user's own state, which changes with each accepted step; `None` in solves without."""

type Record = PyTree[Array]
"""The state of a recorder: its own pytree."""

type Flags = Bool[Array, " conditions"]
"""One boolean for each condition of the solve's events."""


class Tangents(eqx.Module):
    """Tangents of the solution, carried with it so that its steps resolve them too.

    Parameters
    ----------
    start
        The tangents of the start of the next step, stacked along the first axis of each leaf.
    weights
        The factor of each direction through the parameters: a tangent is rescaled before it becomes too large.
    largest
        The largest size of each tangent so far.
    """

    start: PyTree[Array]
    weights: Float[Array, " tangents"]
    largest: Float[Array, " tangents"]


class Step(eqx.Module):
    """One attempt: its start (`t0`, `y0`, `solver_state0`, `made_jump`) and what the solver returned.

    Parameters
    ----------
    terms, args
        The equation; the terms hold the increments from `t0` to `t1` of those drivers that carry a state.
    drivers
        The state of the random drivers at `t1`.
    t0, t1
        Ends of the step.
    y0, solver_state0, made_jump
        The state, the solver state, and whether the equation jumped, at `t0`; `made_jump` is `None` in solves that
        never jump.
    y1, y_error, dense_info, solver_state, result
        What the solver returned, see `rungax.AbstractSolver.step`.
    user_state0
        The user's own state at `t0`.
    active_events
        The events that change the state at the end of the step; `None` in solves in which none does.
    tangents, tangent_error
        The tangents at the end of the step, and the largest error that the step adds to one of them, divided by its
        tolerance; `None` in solves that carry no tangents.
    """

    terms: Terms
    args: Args
    drivers: tuple[DriverState, ...]
    t0: Time
    t1: Time
    y0: Y
    solver_state0: SolverState
    made_jump: BoolScalar | None
    y1: Y
    y_error: Y | None
    dense_info: DenseInfo
    solver_state: SolverState
    result: Result
    user_state0: UserState = None
    active_events: Flags | None = None
    tangents: Tangents | None = None
    tangent_error: RealScalar | None = None


class Proposal(eqx.Module):
    """The solver's own account of an attempt, for methods that choose their order or their step sizes.

    Parameters
    ----------
    error_order
        The order of the step's error estimate in the step size; `None` for the order that the solver states.
    factor
        The size of the next attempt divided by that of this one; after a rejection the controller may choose a smaller
        one. `None`, or anything else than a positive number for a batch element, to leave it to the controller.
    """

    error_order: RealScalar | None = None
    factor: RealScalar | None = None


class EventBracket(eqx.Module):
    """The search for an event inside a rejected attempt: attempts with the same start and other ends.

    Parameters
    ----------
    lower, upper
        The times between which the event lies: no condition has crossed zero at the first, and one has at the second.
    at_lower, at_upper
        The distances from zero at these times, of the condition that is nearest to its passage; negative after it.
    target
        The end of the rejected attempt.
    next_end
        The end of the next attempt: of the search, and after it the end of the rejected attempt.
    num_attempts
        The number of attempts of the search; 0 if there is none.
    """

    lower: Time
    upper: Time
    at_lower: Time
    at_upper: Time
    target: Time
    next_end: Time
    num_attempts: IntScalar

    @property
    def is_open(self) -> BoolScalar:
        """True if the next attempt is one of the search."""
        return self.num_attempts > 0


class EventState(eqx.Module):
    """The state of the event detector between two attempts.

    Parameters
    ----------
    signs
        For each condition, the sign of its last value, `UNKNOWN` if that was not a number yet; of a boolean condition,
        whether it was true.
    zero_within
        For each condition, the size up to which its value still counts as zero; negative if it has been larger.
    bracket
        The search for an event.
    active
        During a search: the conditions that had passed zero in the attempt to `bracket.upper`; none if there was no
        such attempt. Otherwise those of the last event.
    num_changes
        The number of times that the state was changed; events at the same time change it once.
    num_effects
        The number of times that each event has changed the state.
    """

    signs: Int[Array, " conditions"]
    zero_within: Float[Array, " conditions"]
    bracket: EventBracket
    active: Flags
    num_changes: IntScalar
    num_effects: Int[Array, " conditions"]


class EventPhase:
    """The phases of the search for events after an attempt, as numbers."""

    NOTHING = 0
    """The attempt is judged as without events, except for effects at its end."""
    SEARCHED = 1
    """The attempt is rejected, because an event lies inside it: the next one ends at `EventBracket.next_end`."""
    FOUND = 2
    """The attempt has ended the search, and the next step ends at `EventBracket.next_end`."""
    POSTPONED = 3
    """The attempt does not count, because other batch elements go first; it is made once more as it is."""
    ENDED = 4
    """An event at the end of the attempt ends the solve."""


class EventVerdict(eqx.Module):
    """The event detector's part of a verdict.

    Parameters
    ----------
    phase
        One of the numbers in `EventPhase`.
    active
        The events that change the state at the end of the step; `None` in solves in which none does.
    y
        The state from which the solve continues after an accepted step: its end, changed by the effects of these
        events.
    state
        The detector's state after the attempt.
    result
        Successful, or the reason why the effects leave no state from which the solve can continue.
    """

    phase: IntScalar
    active: Flags | None
    y: Y | None
    state: EventState
    result: Result


class Verdict(eqx.Module):
    """The judgement of an attempt by the controller, which the event detector revises in a solve with events.

    Parameters
    ----------
    accepted
        Whether the step is accepted.
    next_t0, next_t1
        Start and end of the next attempt. An end that is not later than the start says that no shorter step is
        possible, NaN that the state is not finite however short the step: either ends the solve.
    made_jump
        Whether the equation jumps between the end of the step and `next_t0`.
    controller_state
        The controller's state after the attempt.
    result
        `RESULTS.successful`, or the reason why the solve must end.
    proposed_end
        The end of the next attempt before it is clipped to a time at which steps must end.
    events
        The event detector's part, `None` in a solve without events.
    """

    accepted: BoolScalar
    next_t0: Time
    next_t1: Time
    made_jump: BoolScalar
    controller_state: ControllerState
    result: Result
    proposed_end: Time
    events: EventVerdict | None = None


class Counts(eqx.Module):
    """The numbers of attempts by their outcome: one vector, because each leaf of the loop's carry costs time.

    Parameters
    ----------
    numbers
        The numbers of attempts, of accepted steps, and of attempts that were rejected because the equations of a stage
        were not solved, and because an event lies inside them; all others were rejected because of their error.
    """

    numbers: Int[Array, "4"]

    @classmethod
    def zero(cls) -> Self:
        """The counts before the first attempt."""
        return cls(jnp.zeros(4, jnp.int32))

    def after_attempt(
        self, counted: BoolScalar, accepted: BoolScalar, is_solved: BoolScalar, is_searched: BoolScalar
    ) -> Self:
        """The counts after one more attempt, if it is `counted`.

        Parameters
        ----------
        counted, accepted
            Whether the attempt counts, and whether its step was accepted.
        is_solved
            Whether the equations of its stages were solved.
        is_searched
            Whether an event lies inside it.
        """
        rejected = counted & ~jnp.asarray(accepted)
        by_event = rejected & is_searched
        by_nonlinear_solve = rejected & ~by_event & ~jnp.asarray(is_solved)
        more = jnp.stack([jnp.asarray(x) for x in (counted, accepted, by_nonlinear_solve, by_event)])
        return type(self)(self.numbers + more.astype(jnp.int32))

    def by_name(self) -> dict[str, IntScalar]:
        """The numbers by their names in `Solution.stats`."""
        return {
            "num_steps": self.num_steps,
            "num_accepted_steps": self.num_accepted,
            "num_rejected_steps": self.num_steps - self.num_accepted,
            "num_rejected_by_error": self.num_rejected_by_error,
            "num_rejected_by_nonlinear_solve": self.num_rejected_by_nonlinear_solve,
            "num_rejected_by_event": self.num_rejected_by_event,
        }

    @property
    def num_steps(self) -> IntScalar:
        """The number of attempts."""
        return self.numbers[..., 0]

    @property
    def num_accepted(self) -> IntScalar:
        """The number of accepted steps."""
        return self.numbers[..., 1]

    @property
    def num_rejected_by_error(self) -> IntScalar:
        """The number of attempts that were rejected because of their error, or because it was not finite."""
        by_others = self.num_rejected_by_nonlinear_solve + self.num_rejected_by_event
        return self.num_steps - self.num_accepted - by_others

    @property
    def num_rejected_by_nonlinear_solve(self) -> IntScalar:
        """The number of attempts that were rejected because the equations of a stage were not solved."""
        return self.numbers[..., 2]

    @property
    def num_rejected_by_event(self) -> IntScalar:
        """The number of attempts that were rejected because an event lies inside them."""
        return self.numbers[..., 3]


class State(eqx.Module):
    """The loop's carry: all that changes from one attempt to the next.

    Parameters
    ----------
    t, t_next, y
        Time and state, and the end of the next attempt.
    drivers
        The state of the random drivers, which only makes their increments cheaper.
    solver_state, controller_state
        The states of solver and controller.
    made_jump
        Whether the equation jumped at `t`; `None` in solves that never jump, which spares the solver a branch.
    counts
        The numbers of attempts by their outcome.
    result
        The first failure, or the end by an event.
    records
        The recorders' states, by name.
    events
        The event detector's state, `None` in a solve without events.
    user_state
        The user's own state.
    tangents
        The tangents that the error control covers, `None` if it covers none.
    is_suspect
        Whether the last attempt was rejected and its end is not finite, so that perhaps no attempt from here succeeds;
        `None` in solves that reject nothing.
    proposed_end
        The end that was proposed for the next attempt, before it is clipped to any given time; `None` unless another
        solve may continue from the end of this one.
    """

    t: Time
    t_next: Time
    y: Y
    drivers: tuple[DriverState, ...]
    solver_state: SolverState
    controller_state: ControllerState
    made_jump: BoolScalar | None
    counts: Counts
    result: Result
    records: Mapping[str, Record]
    events: EventState | None = None
    user_state: UserState = None
    tangents: Tangents | None = None
    is_suspect: BoolScalar | None = None
    proposed_end: Time | None = None

    @property
    def num_steps(self) -> IntScalar:
        """The number of attempts."""
        return self.counts.num_steps

    @property
    def num_accepted(self) -> IntScalar:
        """The number of accepted steps."""
        return self.counts.num_accepted

    @property
    def lacks_end(self) -> BoolScalar:
        """True in the last state of a solve that failed, so that the requested end has no derivatives.

        A solve that another one is to continue has come to an end at its bound on the number of attempts.
        """
        failed = jnp.logical_not(is_okay(self.result))
        if self.proposed_end is None:
            return failed
        return failed & jnp.asarray(self.result != RESULTS.max_steps_reached)


class NextAttempt(eqx.Module):
    """The attempt that would follow the end of a solve; with the solver's state, all that a continued solve needs.

    Times are in the direction of travel.

    Parameters
    ----------
    t
        The start of the attempt.
    proposed_end
        Its end, before it is clipped to `t1` or to another given time. Where such a time cut the last step of a solve
        that has reached its end, the step that was proposed before.
    controller_state
        The controller's own state.
    events
        The event detector's state, `None` for a solve without events.
    is_due
        Whether the solve ended before it made the attempt, at its bound on the number of attempts.
    """

    t: Time
    proposed_end: Time
    controller_state: ControllerState
    events: EventState | None
    is_due: BoolScalar

    def end_from(self, t: Time) -> Time:
        """The end proposed for an attempt from `t`: of the same size, if `t` is another start."""
        return jnp.where(t == self.t, self.proposed_end, t + (self.proposed_end - self.t))


class Start(eqx.Module):
    """The start of a step: its state, the solver's checkpoint, and the user's own state.

    The tape stores starts: everything else about a step can be computed from them. The checkpoint is the part of the
    solver state that the solver cannot restore from time and state.
    """

    y: Y
    solver_checkpoint: PyTree[Array]
    user_state: UserState = None


class Problem(eqx.Module):
    """The equation in the direction of travel: terms, their arguments, the interval and the initial state.

    `direction` is 1 for a solve forwards and -1 for one backwards; true times are the times here multiplied by it.
    """

    terms: Terms
    args: Args
    t0: Time
    t1: Time
    direction: Time
    y0: Y


class Outcome(eqx.Module):
    """The end of a solve: its last state, its result, and the outputs of its recorders by their names."""

    state: State
    result: Result
    outputs: Mapping[str, PyTree[Array]]
