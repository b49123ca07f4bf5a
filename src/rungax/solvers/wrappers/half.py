"""Step doubling: an error estimate for any solver."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ...interpolation import AbstractLocalInterpolation
from ...jaxkit import Args, BoolScalar, Condition, DenseInfo, RealScalar, Time, Y, select, shown, with_fields
from ...nonlinear import LinearSolver, Tolerances
from ...results import RESULTS, Result, first_failure, is_successful
from ...step import Step
from ...terms import is_stochastic
from ..base import AbstractAdaptiveSolver, AbstractSolver
from ..facts import SolverFacts
from .base import AbstractWrappedSolver
from .both_classes import class_of_both, with_attributes


class HalfSolver[SolverState](AbstractAdaptiveSolver[SolverState], AbstractWrappedSolver[SolverState]):
    r"""Any solver with an error estimate, by step doubling: each step is also made as two half steps.

    The result is that of the half steps, $y_1 = \Psi_{h/2}(\Psi_{h/2}(y_0))$. The error estimate is its difference to
    that of the full step, $y_1 - \Psi_h(y_0)$. Dense output is that of the half steps.

    All facts are those of the wrapped solver: the terms and the noise that it is for, the Lévy areas that it needs, and
    its orders. The order of the estimate is that of the local error: `order + 1` for ordinary equations,
    `strong_order + 0.5` for stochastic ones. For `isinstance` it is also an instance of the wrapped solver's class.

    Parameters
    ----------
    solver
        The wrapped solver. Its own error estimate, if it has one, is not used. If one of the three steps fails, the
        whole step fails, with an infinite estimate; at `dtmin` it is not repeated with a new Jacobian, because the
        cache does not say which of the three has failed.

    Raises
    ------
    ValueError
        If `solver` is not a solver.

    Differentiability
    -----------------
    That of the wrapped solver.

    Cost
    ----
    Three steps of the wrapped solver. A Brownian path is evaluated over three intervals, of which a solve has stored
    only the increment over the whole step. `UnsafeBrownianPath` raises an error, because its increments over the halves
    do not add up to that over the whole step.

    References
    ----------
    E. Hairer, S. P. Nørsett, G. Wanner, Solving Ordinary Differential Equations I, 2nd ed. (1993), II.4, step doubling.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.HalfSolver(rungax.Euler())
    >>> solver.error_order(rungax.ODETerm(lambda t, y, args: -y))
    2
    """

    solver: AbstractSolver[SolverState]

    def __check_init__(self) -> None:
        if not isinstance(self.solver, AbstractSolver):
            raise ValueError(
                "`HalfSolver(solver=...)` wraps another solver.\n"
                f"Expected: a solver such as `Euler()`\nFound:    {shown(self.solver)}"
            )

    @property
    def __class__(self) -> type[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # `isinstance` asks for it; `type` does not. There may be no solver: before the fields are set, and where a
        # transformation has put something else in its place.
        wrapped = type(vars(self).get("solver"))
        return class_of_both(type(self), wrapped) if issubclass(wrapped, AbstractSolver) else type(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Python's own way to pickle an instance demands that `__class__` is its type.
        return with_attributes, (type(self), dict(vars(self)))

    @property
    def facts(self) -> SolverFacts:
        """The wrapped solver's facts, with its dense output over each half, and with parts of a step asked for."""
        interpolation_cls = _OverHalves(self.solver.interpolation_cls)
        return replace(self.solver.facts, interpolation_cls=interpolation_cls, asks_for_whole_steps=False)

    @property
    def term_compatible_contr_kwargs(self) -> PyTree[Any]:
        """The wrapped solver's options."""
        return self.solver.term_compatible_contr_kwargs

    def conditions_on(self, terms: PyTree[Any], y0: Y) -> Iterable[Condition]:
        """The conditions of the wrapped solver."""
        return self.solver.conditions_on(terms, y0)

    def trace_terms(self, terms: PyTree[Any], t0: Time, y0: Y, args: Args) -> PyTree[Any]:
        """The terms, each traced once by the wrapped solver."""
        return self.solver.trace_terms(terms, t0, y0, args)

    def with_tolerances(self, tolerances: Tolerances | None, y0: Y) -> Self:
        """This solver with the tolerances in the wrapped one."""
        return with_fields(self, solver=self.solver.with_tolerances(tolerances, y0))

    @property
    def given_linear_solver(self) -> LinearSolver | None:
        """The wrapped solver's linear solver."""
        return self.solver.given_linear_solver

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> SolverState:
        """The wrapped solver's state before the first step."""
        return self.solver.init(terms, t0, t1, y0, args)

    def restart(
        self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args, solver_state: SolverState
    ) -> SolverState:
        """The wrapped solver's state after a jump."""
        return self.solver.restart(terms, t0, t1, y0, args, solver_state)

    def step(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: SolverState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, SolverState, Result]:
        """One full step and two half steps; costs three steps of the wrapped solver."""
        return self._doubled(self.solver.step, terms, t0, t1, y0, args, solver_state, made_jump)

    def attempt(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: SolverState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, SolverState, Result]:
        """One full step and two half steps, made as the wrapped solver makes them in a solve."""
        return self._doubled(self.solver.attempt, terms, t0, t1, y0, args, solver_state, made_jump)

    def _doubled(
        self,
        make: Callable[..., tuple[Y, Y | None, DenseInfo, SolverState, Result]],
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: SolverState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, SolverState, Result]:
        """One full step and two half steps by `make`, the wrapped solver's `step` or `attempt`."""
        middle = t0 + 0.5 * (t1 - t0)
        # Of the full step only the end is used.
        y_full, _, _, _, result = self.solver.attempt(terms, t0, t1, y0, args, solver_state, made_jump)
        y_middle, _, first, state, result1 = make(terms, t0, middle, y0, args, solver_state, made_jump)
        y1, _, second, state, result2 = make(terms, middle, t1, y_middle, args, state, False)
        result = first_failure(first_failure(result, result1), result2)
        y_error = jax.tree.map(jnp.subtract, y1, y_full)
        if result is not RESULTS.successful:
            # A shorter step may succeed, unless the input is invalid.
            size = jnp.where(result == RESULTS.invalid_input, 0.0, jnp.inf)
            size = jax.tree.map(lambda x: size.astype(x.dtype), y_error)
            y_error = jax.tree.map(lambda x, s: jnp.where(is_successful(result), x, s), y_error, size)
        return y1, y_error, {"y_middle": y_middle, "first": first, "second": second}, state, result

    def densify(self, step: Step) -> DenseInfo:
        """The dense information of both half steps, each completed by the wrapped solver."""
        first, second = (self.solver.densify(half) for half in _halves(step))
        return {"y_middle": step.dense_info["y_middle"], "first": first, "second": second}

    def interpolation_for(self, terms: PyTree[Any], args: Args) -> Callable[..., AbstractLocalInterpolation]:
        """The wrapped solver's interpolations over each half."""
        return _OverHalves(self.solver.interpolation_for(terms, args))

    def stiffness(self, step: Step) -> RealScalar | None:
        """The wrapped solver's estimate over the second half step."""
        _, second = _halves(step)
        return self.solver.stiffness(second)

    def failure_at_start(
        self, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args, solver_state: SolverState
    ) -> Result:
        """The wrapped solver's failure: the whole step and the first half evaluate the field at the same start."""
        return self.solver.failure_at_start(terms, t0, t1, y0, args, solver_state)

    def after_rejection(self, before: SolverState, after: SolverState) -> SolverState:
        """The wrapped solver's state after a rejection."""
        return self.solver.after_rejection(before, after)

    def checkpoint_state(self, solver_state: SolverState) -> PyTree[Any]:
        """The checkpoint of the wrapped solver's state."""
        return self.solver.checkpoint_state(solver_state)

    def restore(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args, checkpoint: PyTree[Any]) -> SolverState:
        """The wrapped solver's state, computed again from its checkpoint."""
        return self.solver.restore(terms, t0, y0, args, checkpoint)

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`."""
        return self.solver.func(terms, t0, y0, args)

    def order(self, terms: PyTree[Any]) -> int | None:
        """The wrapped solver's order."""
        return self.solver.order(terms)

    def strong_order(self, terms: PyTree[Any]) -> RealScalar | None:
        """The wrapped solver's strong order."""
        return self.solver.strong_order(terms)

    def weak_order(self, terms: PyTree[Any]) -> RealScalar | None:
        """The wrapped solver's weak order."""
        return self.solver.weak_order(terms)

    def error_order(self, terms: PyTree[Any]) -> RealScalar | None:
        """Order of the local error: `order + 1` for ordinary equations, `strong_order + 0.5` for stochastic ones."""
        order, gain = (self.strong_order(terms), 0.5) if is_stochastic(terms) else (self.order(terms), 1)
        return None if order is None else order + gain


def _halves(step: Step) -> tuple[Step, Step]:
    """The records of both half steps, with their ends, the states there, and their dense information."""
    middle, y_middle = step.t0 + 0.5 * (step.t1 - step.t0), step.dense_info["y_middle"]
    first = replace(step, t1=middle, y1=y_middle, dense_info=step.dense_info["first"])
    return first, replace(step, t0=middle, y0=y_middle, dense_info=step.dense_info["second"])


class _OverHalves(eqx.Module):
    """A maker of interpolations over whole steps from those over their halves."""

    interpolation_cls: Callable[..., AbstractLocalInterpolation]

    def __call__(
        self, t0: RealScalar, t1: RealScalar, y_middle: Y, first: DenseInfo, second: DenseInfo
    ) -> AbstractLocalInterpolation:
        del y_middle
        middle = t0 + 0.5 * (t1 - t0)
        return _Halves(
            t0,
            t1,
            self.interpolation_cls(t0=t0, t1=middle, **first),
            self.interpolation_cls(t0=middle, t1=t1, **second),
        )


class _Halves(AbstractLocalInterpolation):
    """The interpolations over both halves of a step."""

    t0: RealScalar
    t1: RealScalar
    first: AbstractLocalInterpolation
    second: AbstractLocalInterpolation

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value of the half that contains `t`."""
        return select(t <= self.second.t0, self.first.evaluate(t), self.second.evaluate(t))
