"""The protocol of a solver."""

import abc
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..brownian import AbstractBrownianIncrement
from ..interpolation import AbstractLocalInterpolation
from ..jaxkit import Args, BoolScalar, Condition, DenseInfo, RealScalar, Time, Y, call_user
from ..nonlinear import LinearSolver, Tolerances
from ..results import Result
from ..step import Proposal, Step
from ..terms import UntracedTerm, contr_options, is_stochastic, is_term
from .common.failures import failure_of_field
from .facts import Interpretation, MassMatrices, SolverFacts, SolverNoise, fact, stated_facts


def _interpretations(cls: type[Any]) -> frozenset[Interpretation]:
    """The interpretations of all base classes of a solver that have one."""
    return frozenset(vars(base)["_interpretation"] for base in cls.__mro__ if "_interpretation" in vars(base))


_OF_STEP = ("attempt", "densify", "interpolation_for")
"""The methods of a solver that depend on the `dense_info` of its step."""


class AbstractSolver[SolverState](eqx.Module):
    """A method for making one step.

    Subclass it for a method of your own: define the class attributes `term_structure` and `interpolation_cls` and the
    abstract methods. A solver never loops over time and never decides how long a step is. In a solve it always sees
    `t0 < t1`; in a solve backwards in time the terms pass the true time to vector fields and drivers.

    Attributes
    ----------
    term_structure
        The structure that `terms` must have: a term class, or a pytree of term classes.
    interpolation_cls
        The class or function that makes the interpolation over a step. It is called as
        `interpolation_cls(t0=, t1=, **dense_info)`. A solver whose interpolation needs the equation overrides
        `interpolation_for`.
    noise
        For stochastic equations, the widest kind of noise for which `strong_order` holds.
    minimal_levy_area
        The Lévy areas of a Brownian path over a step that the solver needs.
    interpretations
        The interpretations of a stochastic equation, Itô or Stratonovich, whose solution the method converges to: both
        for additive noise, else one at most. A base class states it: `AbstractItoSolver`, `AbstractStratonovichSolver`.
    safe_with_adaptive_steps
        True if the method converges to the right limit when the size of a step depends on the noise in it.
    asks_for_whole_steps
        True if the solver evaluates the increment of a driver over whole steps only, not over parts of them.
    steps_backwards
        True if a step of negative length is as good as one of positive length. False for methods for stiff equations:
        the factor by which they damp a decaying component, such as `1 / (1 - h λ)`, has a pole at a negative `h`.
    uses_jacobian
        True if a step uses the derivative of the vector field with respect to the state.
    evaluates_past_steps
        True if the solver evaluates the vector field at times after the end of a step. It is then given the field at
        the last time before a jump (`ClipStepSizeController(jump_ts=...)`) in place of that after it.
    mass_matrices
        The mass matrices of `ODETerm(mass=...)` that the method takes: `"regular"`, constant ones by which a solve
        divides the vector field; `"constant"`, also singular ones; or `"variable"`, also those that depend on time and
        state.
    pid_coefficients
        The coefficients p, i and d of `PIDController` that suit the method, which it uses if it is given none: by
        default (0, 1, 0), the elementary controller.

    Differentiability
    -----------------
    Steps consist of operations that JAX differentiates, with respect to times, state, `args` and everything in the
    terms; the adjoint decides in which mode. The docstring of a solver names any further condition on the vector field.

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
    steps_backwards: ClassVar[bool] = fact()
    uses_jacobian: ClassVar[bool] = fact()
    evaluates_past_steps: ClassVar[bool] = fact()
    mass_matrices: ClassVar[MassMatrices] = fact()
    pid_coefficients: ClassVar[tuple[float, float, float]] = fact()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

        def place_of(name: str) -> int:
            return next(i for i, base in enumerate(cls.__mro__) if name in vars(base))

        # A class with a `step` of its own has a `dense_info` of its own, which its base classes do not know.
        for name in _OF_STEP:
            if place_of(name) > place_of("step"):
                setattr(cls, name, vars(AbstractSolver)[name])

    @property
    def facts(self) -> SolverFacts:
        """The attributes from `term_structure` on in one record; a solver made of other solvers overrides it."""
        return stated_facts(self)

    @property
    def term_compatible_contr_kwargs(self) -> PyTree[Any]:
        """The options of `AbstractTerm.contr` with which the solver asks each term for its increment.

        One dictionary for each term that `term_structure` names, in its structure (a tuple for a `MultiTerm`); by
        default empty. A `term_structure` that says what `contr` returns, such as
        `AbstractTerm[Any, AbstractSpaceTimeLevyArea]`, is compared with the increments that a term gives with them.
        """
        return contr_options(self.term_structure)

    def conditions_on(self, terms: PyTree[Any], y0: Y) -> Iterable[Condition]:
        """The conditions on values in `terms`; by default none."""
        del terms, y0
        return ()

    def trace_terms(self, terms: PyTree[Any], t0: Time, y0: Y, args: Args) -> PyTree[Any]:
        """The terms, each traced once for the states at which this solver evaluates it, by default those like `y0`.

        Of a pytree of terms only the solver knows which part of the state each depends on, so that they are not traced
        unless it overrides this method.
        """
        if is_term(terms):
            return terms.trace_once(t0, y0, args)
        return jax.tree.map(UntracedTerm, terms, is_leaf=is_term)

    @abc.abstractmethod
    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> SolverState:
        """The solver state before the first step, which goes from `t0` to `t1`.

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
            The `solver_state` of the first `step`: a pytree whose structure, shapes and dtypes are the same for all
            steps.
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
            The solver state that `init` or the last accepted step returned.
        made_jump
            True if the state or the vector field jumped just before `t0`, so that values from before are outdated: see
            `restart`.

        Returns
        -------
        y1, y_error, dense_info, solver_state, result
            The state at `t1`; an estimate of its local error with the structure of `y0`, or `None`; the keyword
            arguments of `interpolation_cls` other than `t0` and `t1`; the solver state for the next step; and
            `RESULTS.successful` or the reason of a failure.
        """

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
        """The step as a solve makes it: that of `step`, but `dense_info` may lack what only `densify` adds.

        By default `step` itself. Overridden, together with `densify` and in the same class as `step`, by solvers that
        evaluate the equation for their interpolation. The parameters and what is returned are those of `step`.
        """
        return call_user("the solver", self.step, terms, t0, t1, y0, args, solver_state, made_jump)

    @abc.abstractmethod
    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`, for events and controllers.

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
            The value of dy/dt for a single ordinary equation; for several terms the value of `terms.vf`.
        """

    def densify(self, step: Step) -> DenseInfo:
        """The step's `dense_info`, with the values added that only dense output needs; by default none.

        Called only for steps inside which the solution is evaluated.

        Parameters
        ----------
        step
            The record of the step: terms and `args`, both ends and the states there, and the values that `attempt`
            returned.

        Returns
        -------
        DenseInfo
            The keyword arguments of `interpolation_cls` other than `t0` and `t1`.
        """
        return step.dense_info

    def interpolation_for(self, terms: PyTree[Any], args: Args) -> Callable[..., AbstractLocalInterpolation]:
        """The maker of the interpolations over the steps of an equation: by default `interpolation_cls`.

        Overridden by solvers whose interpolation evaluates the equation. The maker holds what is the same for all
        steps; `dense_info` holds what differs.

        Parameters
        ----------
        terms
            The terms of the equation.
        args
            Handed on to the terms.

        Returns
        -------
        Callable
            A function or a pytree that is called as `make(t0=, t1=, **dense_info)`, with what `densify` returns.
        """
        del terms, args
        return self.interpolation_cls

    def stiffness(self, step: Step) -> RealScalar | None:
        """An estimate of the modulus of the Jacobian's largest eigenvalue; by default `None`, without an estimate.

        Parameters
        ----------
        step
            The record of the step.
        """
        del step

    def restart(
        self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args, solver_state: SolverState
    ) -> SolverState:
        """The solver state after a jump at `t0`: by default that of `init`.

        If `made_jump` is true, a solver whose state depends on the solution makes its step from this state.

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

    def for_equation(
        self, terms: PyTree[Any], t0: Time, y0: Y, args: Args, tolerances: Tolerances | None
    ) -> "tuple[AbstractSolver[Any], PyTree[Any]]":
        """This solver with the choices made that depend on the equation, and the terms; by default both unchanged.

        Called when a solve is traced, by `BacksolveAdjoint` also for the adjoint equation. The terms may be given a
        structure that has been found in them.

        Parameters
        ----------
        terms
            The terms of the equation in the direction of travel, traced.
        t0, y0, args
            A time and a state like those of the solve, whose values need not be known, and the arguments.
        tolerances
            The tolerances of the solve, with fields `rtol`, `atol` and `norm`, or `None` if it controls no error.

        Returns
        -------
        tuple
            The solver, and the terms.
        """
        del t0, y0, args, tolerances
        return self, terms

    def with_tolerances(self, tolerances: Tolerances | None, y0: Y) -> Self:
        """This solver with the tolerances of the solve, or `None` if the solve controls no error.

        Overridden by solvers that solve equations inside a step.
        """
        del tolerances, y0
        return self

    @property
    def given_linear_solver(self) -> LinearSolver | None:
        """The linear solver that the user has given for the systems of implicit steps, if any."""
        return None

    def after_rejection(self, before: SolverState, after: SolverState) -> SolverState:
        """The solver state for the attempt after a rejected one: by default that `before` the rejected attempt.

        The state `after` the rejected attempt may hold values that remain useful, such as a newer Jacobian.
        """
        del after
        return before

    def improves_when_repeated(self, step: Step) -> BoolScalar | None:
        """True if a failed step may succeed when it is repeated unchanged; by default `None`: it never does.

        For methods that then use a new Jacobian. It must be false for the second of two such steps.

        Parameters
        ----------
        step
            The record of the step.
        """
        del step

    def failure_at_start(
        self, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args, solver_state: SolverState
    ) -> Result:
        """The reason why no step from `t0`, `y0` succeeds: by default a vector field that is not finite there.

        Called after an attempt to `t1` that was rejected and whose end is not finite, and with constant steps after one
        whose stages were not solved. Successful if a shorter step may succeed.

        Parameters
        ----------
        terms, t0, t1, y0, args, solver_state
            As for `step`.
        """
        del t1, solver_state
        return failure_of_field(self.func(terms, t0, y0, args))

    def checkpoint_state(self, solver_state: SolverState) -> PyTree[Any]:
        """The part of the solver state that the solution depends on and that `restore` cannot compute again.

        Reverse-mode differentiation stores it for every step. The rest of the state only saves work. By default all of
        the state.
        """
        return solver_state

    def restore(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args, checkpoint: PyTree[Any]) -> SolverState:
        """The solver state at `t0`, `y0`, computed again from its `checkpoint_state`."""
        del terms, t0, y0, args
        return checkpoint

    def choices(self, solver_state: SolverState) -> PyTree[Any]:
        """The choices by which the last step was made and which its error decides, such as its order; by default none.

        Differentiation makes accepted steps again, with slightly other rounding errors. It stores these choices for
        every step, so that they are not made anew, and passes them to `with_choices`.

        Parameters
        ----------
        solver_state
            The solver state that the step has returned.

        Returns
        -------
        PyTree
            `None`, or a pytree of a few numbers.
        """
        del solver_state

    def with_choices(self, solver_state: SolverState, choices: PyTree[Any]) -> SolverState:
        """The solver state before a step from which the step is made by these choices; by default as it is.

        Parameters
        ----------
        solver_state
            The solver state before the step.
        choices
            What `choices` returned for the state after it.
        """
        del choices
        return solver_state

    def order(self, terms: PyTree[Any]) -> int | None:
        """Order of convergence for ordinary differential equations, or `None` if it is not known.

        Parameters
        ----------
        terms
            The terms of the equation.
        """
        del terms
        return None

    def strong_order(self, terms: PyTree[Any]) -> RealScalar | None:
        """Strong order of convergence for stochastic differential equations, or `None` if it is not known.

        Parameters
        ----------
        terms
            The terms of the equation.
        """
        del terms
        return None

    def weak_order(self, terms: PyTree[Any]) -> RealScalar | None:
        """Weak order of convergence for stochastic equations, that of expectations, or `None` if it is not known.

        Parameters
        ----------
        terms
            The terms of the equation.
        """
        del terms
        return None

    def error_order(self, terms: PyTree[Any]) -> RealScalar | None:
        """Order of the local error estimate in the step size, or `None` if it is not known.

        By default `order` for ordinary equations, and half an order more than `strong_order` for stochastic ones.

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
    Euler, ItoMilstein, SRIW1, DRI1 : examples.

    AbstractSolver : the attributes and methods that a subclass defines.
    """

    _interpretation: ClassVar[Interpretation] = "Itô"


class AbstractStratonovichSolver[SolverState](AbstractSolver[SolverState]):
    """A solver that converges to the Stratonovich solution of a stochastic equation.

    See Also
    --------
    Heun, SPaRK, EulerHeun : examples.

    AbstractSolver : the attributes and methods that a subclass defines.
    """

    _interpretation: ClassVar[Interpretation] = "Stratonovich"


class AbstractAdaptiveSolver[SolverState](AbstractSolver[SolverState]):
    """A solver whose steps come with an error estimate.

    See Also
    --------
    AbstractSolver : the attributes and methods that a subclass defines; `step` returns an estimate as `y_error`.

    HalfSolver : an estimate for solvers without one.
    """


class AbstractImplicitSolver[SolverState](AbstractAdaptiveSolver[SolverState]):
    """A solver whose steps solve nonlinear equations.

    Attributes
    ----------
    root_finder
        The solver of these equations.
    root_find_max_steps
        The largest number of its iterations.

    See Also
    --------
    AbstractDIRK, AbstractIMEXRK : solvers of this kind, with the values that the attributes may have.
    """

    uses_jacobian: ClassVar[bool] = True

    root_finder: eqx.AbstractVar[Any]
    root_find_max_steps: eqx.AbstractVar[int]
