"""The protocol of a solver, and the facts it states about itself."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..brownian import AbstractBrownianIncrement
from ..interpolation import AbstractLocalInterpolation
from ..jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Time, Y
from ..nonlinear import Tolerances
from ..results import Result
from ..step import Proposal, Step
from ..terms import is_stochastic, is_term
from .facts import Interpretation, SolverFacts, SolverNoise, fact, stated_facts


def _interpretations(cls: type[Any]) -> frozenset[Interpretation]:
    """The interpretations of all base classes of a solver that have one."""
    return frozenset(vars(base)["_interpretation"] for base in cls.__mro__ if "_interpretation" in vars(base))


class AbstractSolver[SolverState](eqx.Module):
    """How one step is made.

    Subclass it for a method of your own: give the two class attributes and the abstract methods. A solver never
    loops over time and never decides how long a step is. Inside a solve it always sees `t0 < t1`; vector fields and
    drivers are shown the true time by the terms.

    Attributes
    ----------
    term_structure
        What `terms` must look like: a term class, or a pytree of term classes.
    interpolation_cls
        Makes the interpolation over a step: called as `interpolation_cls(t0=, t1=, **dense_info)`.
    noise
        For stochastic equations, the widest kind of noise for which `strong_order` holds.
    minimal_levy_area
        What the solver must be told of a Brownian path over a step.
    interpretations
        The interpretations of a stochastic equation, Itô or Stratonovich, whose solution it converges to: both for
        additive noise, else one at most. Base classes state it: `AbstractItoSolver`, `AbstractStratonovichSolver`.
    safe_with_adaptive_steps
        Whether it converges to the right limit when the size of a step depends on the noise in it.
    asks_for_whole_steps
        Whether it asks a driver for its increment over the whole step alone, and not over parts of it too.

    Differentiability
    -----------------
    Steps are made of operations that JAX differentiates, with respect to times, state, `args` and whatever is in the
    terms; the adjoint decides how. Where a solver asks more of the vector field than that, its own entry says so.

    Examples
    --------
    Euler's method, as a user would write it:

    >>> import jax
    >>> import rungax
    >>> class MyEuler(rungax.AbstractSolver):
    ...     term_structure = rungax.AbstractTerm
    ...     interpolation_cls = rungax.LocalLinearInterpolation
    ...
    ...     def init(self, terms, t0, t1, y0, args):
    ...         return None
    ...
    ...     def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
    ...         increment = terms.vf_prod(t0, y0, args, terms.contr(t0, t1))
    ...         y1 = jax.tree.map(lambda y, d: y + d, y0, increment)
    ...         return y1, None, dict(y0=y0, y1=y1), None, rungax.RESULTS.successful
    ...
    ...     def func(self, terms, t0, y0, args):
    ...         return terms.vf(t0, y0, args)
    ...
    ...     def order(self, terms):
    ...         return 1
    >>> rungax.diffeqsolve(lambda t, y, args: -y, MyEuler(), 0.0, 1.0, 0.5, 1.0).ys
    Array([0.25], dtype=float64)
    """

    term_structure: ClassVar[PyTree[Any]] = fact()
    interpolation_cls: ClassVar[Callable[..., AbstractLocalInterpolation]] = fact()
    noise: ClassVar[SolverNoise] = fact()
    minimal_levy_area: ClassVar[type[AbstractBrownianIncrement]] = fact()
    interpretations: ClassVar[frozenset[Interpretation]] = fact(_interpretations)
    safe_with_adaptive_steps: ClassVar[bool] = fact()
    asks_for_whole_steps: ClassVar[bool] = fact()

    @property
    def facts(self) -> SolverFacts:
        """The attributes above in one record; a solver made of other solvers overrides it."""
        return stated_facts(self)

    def check_values(self, terms: PyTree[Any], y0: Y) -> None:
        """Raise a `ValueError` if values in `terms`, known when a solve is called, do not go together."""
        del terms, y0

    def trace_terms(self, terms: PyTree[Any], t0: Time, y0: Y, args: Args) -> PyTree[Any]:
        """`terms`, each traced once for the states that this solver shows it; by default for all of `y0`."""
        return jax.tree.map(lambda term: term.trace_once(t0, y0, args), terms, is_leaf=is_term)

    @abc.abstractmethod
    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> SolverState:
        """The solver's memory before the first step, which is to go from `t0` to `t1`.

        Parameters
        ----------
        terms
            The terms of the equation, as `term_structure` says.
        t0, t1
            Ends of the first step.
        y0
            The initial state.
        args
            Handed on to the terms.

        Returns
        -------
        SolverState
            What `step` gets as `solver_state`: a pytree that keeps its structure, shapes and dtypes from step to step.
        """

    @abc.abstractmethod
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
        """One step from `t0`, `y0` to `t1`.

        Parameters
        ----------
        terms
            The terms of the equation, as `term_structure` says.
        t0, t1
            Ends of the step.
        y0
            The state at `t0`.
        args
            Handed on to the terms.
        solver_state
            What `init` or the last kept step returned.
        made_jump
            Whether the state or the vector field jumped just before `t0`, so that nothing remembered of it holds.

        Returns
        -------
        y1, y_error, dense_info, solver_state, result
            The state at `t1`; an estimate of its local error like `y0`, or `None`; what `interpolation_cls` needs;
            the memory for the next step; and `RESULTS.successful` or how the step failed.
        """

    @abc.abstractmethod
    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`: what events and controllers know an equation by.

        Parameters
        ----------
        terms
            The terms of the equation, as `term_structure` says.
        t0
            The time.
        y0
            The state.
        args
            Handed on to the terms.

        Returns
        -------
        PyTree
            For a single ordinary equation dy/dt; for several terms what `terms.vf` returns of them.
        """

    def densify(self, step: Step) -> DenseInfo:
        """The step's `dense_info`, completed by what dense output alone needs; by default as `step` returned it.

        Called only for steps inside which the solution is asked for.

        Parameters
        ----------
        step
            The step: the terms and `args`, both ends and the states there, and what `step` returned.

        Returns
        -------
        DenseInfo
            The keyword arguments of `interpolation_cls` besides `t0` and `t1`.
        """
        return step.dense_info

    def stiffness(self, step: Step) -> RealScalar | None:
        """An estimate of the size of the Jacobian's largest eigenvalue over the step; `None` by default, without one.

        Parameters
        ----------
        step
            The step.
        """
        del step

    def restart(
        self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args, solver_state: SolverState
    ) -> SolverState:
        """The solver state after a jump at `t0`: by default that of `init`.

        A solver whose state depends on the solution makes its steps from this state where `made_jump` holds.

        Parameters
        ----------
        terms
            The terms of the equation, as `term_structure` says.
        t0, t1
            Ends of the next step.
        y0
            The state of the equation after the jump.
        args
            Handed on to the terms.
        solver_state
            The solver state before the jump.

        Returns
        -------
        SolverState
            A pytree with the structure, shapes and dtypes of `solver_state`.
        """
        del solver_state
        return self.init(terms, t0, t1, y0, args)

    def proposal(self, step: Step) -> Proposal | None:
        """The order of the step's error estimate and the size of the next step, for methods that choose them.

        By default `None`: the order is that of `error_order`, and the controller chooses the size.
        """
        del step

    def with_tolerances(self, tolerances: Tolerances | None, y0: Y) -> Self:
        """This solver, told the tolerances of the solve, `None` if it controls no error.

        For solvers that solve equations inside a step.
        """
        del tolerances, y0
        return self

    def after_rejection(self, before: SolverState, after: SolverState) -> SolverState:
        """The memory for making a rejected step again, shorter: by default as `before` the attempt.

        What the attempt led to, `after`, may hold something that helps, such as a newer Jacobian.
        """
        del after
        return before

    def checkpoint_state(self, solver_state: SolverState) -> PyTree[Any]:
        """The part of the solver's memory that the solution depends on and that `restore` cannot make again.

        It is what reverse-mode differentiation keeps of every step; the rest only helps to be fast. By default all.
        """
        return solver_state

    def restore(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args, checkpoint: PyTree[Any]) -> SolverState:
        """The solver's checkpoint at `t0`, `y0`, made again from `checkpoint`."""
        del terms, t0, y0, args
        return checkpoint

    def order(self, terms: PyTree[Any]) -> int | None:
        """Order of convergence for ordinary differential equations, `None` if not known.

        Parameters
        ----------
        terms
            The terms of the equation.
        """
        del terms
        return None

    def strong_order(self, terms: PyTree[Any]) -> RealScalar | None:
        """Strong order of convergence for stochastic differential equations, `None` if not known.

        Parameters
        ----------
        terms
            The terms of the equation.
        """
        del terms
        return None

    def weak_order(self, terms: PyTree[Any]) -> RealScalar | None:
        """Weak order of convergence for stochastic equations, that of expectations; `None` if not known.

        Parameters
        ----------
        terms
            The terms of the equation.
        """
        del terms
        return None

    def error_order(self, terms: PyTree[Any]) -> RealScalar | None:
        """The local error estimate is of this order in the step size; `None` if not known.

        By default the order for ordinary equations, half an order more than the strong order for stochastic ones.

        Parameters
        ----------
        terms
            The terms of the equation.
        """
        if not is_stochastic(terms):
            return self.order(terms)
        strong = self.strong_order(terms)
        return None if strong is None else strong + 0.5


class AbstractItoSolver[SolverState](AbstractSolver[SolverState]):
    """A solver that converges to the Itô solution of a stochastic equation.

    See Also
    --------
    Euler, ItoMilstein, SRIW1, DRI1 : such solvers.

    AbstractSolver : what a subclass gives besides.
    """

    _interpretation: ClassVar[Interpretation] = "Itô"


class AbstractStratonovichSolver[SolverState](AbstractSolver[SolverState]):
    """A solver that converges to the Stratonovich solution of a stochastic equation.

    See Also
    --------
    Heun, SPaRK, EulerHeun : such solvers.

    AbstractSolver : what a subclass gives besides.
    """

    _interpretation: ClassVar[Interpretation] = "Stratonovich"


class AbstractAdaptiveSolver[SolverState](AbstractSolver[SolverState]):
    """A solver whose steps come with an error estimate.

    See Also
    --------
    AbstractSolver : what a subclass gives; its `step` returns an estimate as `y_error`.

    HalfSolver : an estimate for solvers without one.
    """


class AbstractImplicitSolver[SolverState](AbstractAdaptiveSolver[SolverState]):
    """A solver whose steps solve nonlinear equations.

    Attributes
    ----------
    root_finder
        What solves them.
    root_find_max_steps
        How many iterations that may take.

    See Also
    --------
    AbstractDIRK, AbstractIMEXRK : such solvers, with what the attributes may be.
    """

    root_finder: eqx.AbstractVar[Any]
    root_find_max_steps: eqx.AbstractVar[int]
