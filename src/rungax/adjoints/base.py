"""The protocol of an adjoint."""

import abc
from collections.abc import Iterable
from typing import Any, Self

import equinox as eqx

from ..controllers import AbstractStepSizeController
from ..events import Event
from ..jaxkit import Condition
from ..plan import Plan
from ..saving import SaveAt
from ..step import Outcome, State
from ..terms import Terms


class AbstractAdjoint(eqx.Module):
    """An adjoint: a way to compute the derivatives of a solve.

    To define your own, subclass it and implement `integrate`, which makes the whole solve and which JAX differentiates.

    Raises
    ------
    TypeError
        If a subclass defines `loop`, which adjoints written for Diffrax have, and not `integrate`.

    See Also
    --------
    RecursiveCheckpointAdjoint, ReversibleAdjoint, BacksolveAdjoint : by a tape, by undoing steps, by another equation.

    ForwardMode, DirectAdjoint, ImplicitAdjoint : for forward mode alone, for high orders, for steady states.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        del args, kwargs
        names = ("integrate", "loop")
        owner = next(base for base in cls.__mro__ if any(name in vars(base) for name in names))
        if "integrate" not in vars(owner):
            raise TypeError(
                f"`{owner.__name__}.loop` is never called: an adjoint makes a solve by another method.\n"
                "Expected: integrate(self, plan, state)\nFound:    loop alone\n"
                "Define `integrate`; it calls `rungax.loop.run(plan, state)` for the solve itself."
            )
        return super().__new__(cls)

    def check(self, saveat: SaveAt) -> None:
        """Raise a `ValueError` if this adjoint cannot differentiate what is to be saved; by default it can."""
        del saveat

    def check_terms(self, terms: Terms) -> None:
        """Raise a `ValueError` if this adjoint cannot differentiate a solve of these terms; by default it can."""
        del terms

    def check_event(self, event: Event) -> None:
        """Raise a `NotImplementedError` if this adjoint cannot differentiate events; by default it can."""
        del event

    def check_controller(self, controller: AbstractStepSizeController[Any, Any]) -> None:
        """Raise a `ValueError` if this adjoint needs tolerances that a controller does not have; by default none."""
        del controller

    def conditions_on(self, controller: AbstractStepSizeController[Any, Any]) -> Iterable[Condition]:
        """The conditions on the values of a controller; by default none."""
        del controller
        return ()

    def with_error_control(self, plan: Plan, state: State) -> tuple[Plan, State]:
        """The plan and the first state of the solve whose accepted steps this adjoint differentiates.

        Raise a `NotImplementedError` if it does not differentiate accepted steps, as by default.
        """
        del plan, state
        raise NotImplementedError(
            "`derivative_error` estimates the error of derivatives of the accepted steps of a solve.\n"
            "Expected: RecursiveCheckpointAdjoint, DirectAdjoint or ForwardMode\n"
            f"Found:    {type(self).__name__}\nLeave `adjoint` out."
        )

    @abc.abstractmethod
    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The outcome of the solve that `plan` describes, from `state`, whose records have not been started.

        `rungax.loop.run(plan, state)` is the solve itself. It can be evaluated, batched, and differentiated forwards,
        but not backwards, because it loops an unknown number of times.
        """
