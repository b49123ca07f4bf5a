"""The error control of the adjoints that differentiate accepted steps: of the solution, or also of its tangents."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax

from ..controllers import AbstractStepSizeController
from ..jaxkit import Condition, require, shown
from ..plan import Plan
from ..step import State
from .base import AbstractAdjoint
from .tangents import TangentControl, check_no_noise, random_directions

ERROR_CONTROLS = ("solution", "tangents")
"""The values of `error_control`."""


class AbstractErrorControllingAdjoint(AbstractAdjoint):
    """An adjoint that differentiates the accepted steps of a solve, and may control the errors of tangents too.

    Attributes
    ----------
    error_control
        The errors that determine the size of a step: those of the `"solution"`, or also those of its `"tangents"`.
    num_tangents
        The number of tangents.
    """

    error_control: eqx.AbstractVar[str]
    num_tangents: eqx.AbstractVar[int]

    def __check_init__(self) -> None:
        if self.error_control not in ERROR_CONTROLS:
            raise ValueError(
                "`error_control` says which errors determine the size of a step.\n"
                f"Expected: 'solution' or 'tangents'\nFound:    {shown(self.error_control)}\nThe default is 'solution'."
            )
        number = self.num_tangents
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(
                "`num_tangents` is the number of tangents that `error_control='tangents'` covers.\n"
                f"Expected: an integer, at least 1\nFound:    {shown(number)}\nThe default is 2."
            )

    def check_controller(self, controller: AbstractStepSizeController[Any, Any]) -> None:
        """Raise a `ValueError` unless a controller that may reject steps has relative tolerances for tangents."""
        if self.error_control == "solution" or not controller.may_reject:
            return
        if controller.tolerances() is None:
            raise ValueError(
                "`error_control='tangents'` compares errors with tolerances, which the controller does not have.\n"
                f"Expected: an adaptive controller, such as PIDController\nFound:    {type(controller).__name__}\n"
                "Use one, or `error_control='solution'`, the default."
            )
        require(self.conditions_on(controller))

    def conditions_on(self, controller: AbstractStepSizeController[Any, Any]) -> Iterator[Condition]:
        """Relative tolerances that are Python numbers are not zero, if the errors of tangents are controlled."""
        if self.error_control == "solution" or not controller.may_reject:
            return
        tolerances = controller.tolerances()
        if tolerances is None:
            return
        rtol = tolerances.rtol
        numbers = [x for x in jax.tree.leaves(rtol) if isinstance(x, float | int)]
        yield Condition(
            numbers,
            lambda: all(x != 0 for x in numbers),
            "`error_control='tangents'` measures the error of a tangent relative to its size.",
            lambda: (
                f"\nExpected: a relative tolerance above 0\nFound:    rtol={shown(rtol)}\n"
                "Give `rtol`; `atol` concerns the solution alone."
            ),
        )

    def with_error_control(self, plan: Plan, state: State) -> tuple[Plan, State]:
        """The plan and the first state of the solve, whose error control covers what `error_control` says."""
        if self.error_control == "solution":
            return plan, state
        check_no_noise("error_control='tangents'", plan)
        if not plan.controller.may_reject:
            return plan, state  # the steps are given
        tolerances = plan.controller.tolerances()
        assert tolerances is not None, "checked by `check_controller`"
        control = TangentControl(random_directions(plan, state.y, self.num_tangents), tolerances)
        return replace(plan, tangent_control=control), replace(state, tangents=control.init(plan, state))
