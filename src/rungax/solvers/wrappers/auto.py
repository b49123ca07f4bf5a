"""Switching between a method for nonstiff and one for stiff equations during a solve."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from ...jaxkit import (
    Args,
    BoolScalar,
    DenseInfo,
    RealScalar,
    Time,
    Y,
    any_element,
    select,
    shown,
    with_fields,
)
from ...nonlinear import LinearSolver, Tolerances, default_tolerances
from ...results import Result, choose
from ...step import Proposal, Step
from ...terms import AbstractTerm, has_mass, is_stochastic
from ..base import AbstractAdaptiveSolver, AbstractSolver
from ..common.flat_field import FlatField
from ..facts import SolverFacts
from ..rosenbrock.methods import Rodas5P
from ..runge_kutta.explicit.methods import Tsit5
from ..runge_kutta.explicit.step import AbstractERK
from .either_interpolation import Interpolations
from .stiff_method import stiff_method
from .votes import VOTES_TO_SWITCH, AutoState, first_direction, where_any, with_vote


class Auto(AbstractAdaptiveSolver[AutoState]):
    r"""Automatic switching: an explicit method while the equation is not stiff, and an implicit one while it is.

    The solve starts with the explicit method. Its last two stages estimate the Jacobian's largest eigenvalue $\lambda$.
    When $h |\lambda|$ is repeatedly at the stability limit of that method, the solver switches to the implicit one.
    Each of its steps then makes one step of the power iteration for $\lambda$. When $h |\lambda|$ is repeatedly within
    the limit, the solver switches back. Both switches happen in one compiled loop, for each element of a `vmap` batch
    on its own. `solver=None` chooses this solver.

    Parameters
    ----------
    nonstiff
        An explicit Runge–Kutta method of two or more stages, with an error estimate. By default `Tsit5`, the first
        choice for problems that are not stiff.
    stiff
        A method for stiff equations, with an error estimate. By default, `None`, each solve chooses one: `Rodas5P` up
        to a hundred unknowns, and `BDF` for more, see the notes.
    tolerances
        The tolerances relative to which vectors are measured. Leave it out: a solve sets its own.
    chosen
        The method for stiff equations in place of `None`. Leave it out: a solve sets its own.

    Raises
    ------
    ValueError
        If `nonstiff` is not such a method, or `stiff` solves other terms.

    Notes
    -----
    For more than a hundred unknowns the choice depends on the structure of the Jacobian. It is the one that the term
    declares, `ODETerm(sparsity=..., tags=..., jacobian=...)`. Where it declares none, the pattern is read from the
    program of the vector field when the solve is traced, without evaluating it.

    - A declared band, or a Jacobian of the user's own: `BDF`, which chooses its linear solver.
    - A declared pattern: `BDF` with `SparseLU` up to 5000 unknowns, where SuiteSparse is installed, and with
      `Krylov(preconditioner="ilu")` otherwise.
    - A pattern that is found: `BDF` with `BandedLU` for a band of up to nine diagonals, and otherwise with
      `Krylov(preconditioner="ilu")`. One with more than an eighth of all entries counts as none, and for more than
      50 000 unknowns none is looked for.
    - Neither: `Rodas5P` with LAPACK up to 500 unknowns, and `BDF` with `Krylov()` beyond. A message of the level
      `DEBUG` to the logger `rungax` says so, because a pattern would help.

    With steps that are given, as by `ConstantStepSize`, `Rodas5P` takes the place of `BDF`, whose order is low there. A
    complex unknown counts twice, unless the field is tagged as holomorphic.

    An equation with a mass matrix, `ODETerm(mass=...)`, is solved by the method for stiff equations from its first step
    on. Where `Rodas5P` would be chosen and the mass matrix depends on time or state, it is `BDF`.

    Differentiability
    -----------------
    That of the two methods. The choice of the method and the size of a step have no derivatives.

    Cost
    ----
    That of the method in use. With the stiff method, a step takes one more product of the Jacobian with a vector. The
    search for a pattern takes some hundredths of a second for a grid of 10 000 unknowns, once for each traced program.

    References
    ----------
    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.2.

    L. Petzold, Automatic selection of methods for solving stiff and nonstiff systems of ordinary differential
    equations, SIAM J. Sci. Stat. Comput. 4 (1983), 136–148.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.Auto(rungax.Vern7(), rungax.Kvaerno5())
    >>> solver.order(rungax.ODETerm(lambda t, y, args: -y))
    5
    """

    nonstiff: AbstractERK = Tsit5()
    stiff: AbstractAdaptiveSolver[Any] | None = None
    tolerances: Tolerances | None = None
    chosen: AbstractAdaptiveSolver[Any] = Rodas5P()

    def __check_init__(self) -> None:
        explicit = issubclass(type(self.nonstiff), AbstractERK) and self.nonstiff.tableau.num_stages > 1
        if not explicit or self.nonstiff.tableau.b_error is None:
            raise ValueError(
                "`Auto(nonstiff=...)` needs a method that estimates stiffness and its error.\n"
                "Expected: an explicit Runge–Kutta method of two or more stages with an embedded estimate\n"
                f"Found:    {shown(self.nonstiff)}\nUse `Tsit5()`, for example."
            )
        given = self.stiff
        stiff = given is None or issubclass(type(given), AbstractAdaptiveSolver)
        if not stiff or (given is not None and given.term_structure is not AbstractTerm):
            raise ValueError(
                "`Auto(stiff=...)` needs a method that solves a single term and estimates its error.\n"
                f"Expected: a method such as `Rodas5P()` or `Kvaerno5()`\nFound:    {shown(given)}\n"
                "For a split equation use a method for split equations instead of `Auto`, such as `KenCarp4()`."
            )

    @property
    def implicit(self) -> AbstractAdaptiveSolver[Any]:
        """The method for stiff equations: the given one, or the one that has been chosen."""
        return self.chosen if self.stiff is None else self.stiff

    @property
    def facts(self) -> SolverFacts:
        """The facts of a solver for ordinary equations, with the dense output of the method that makes a step."""
        interpolation_cls = Interpolations(self.nonstiff.interpolation_cls, self.implicit.interpolation_cls)
        past = self.nonstiff.evaluates_past_steps or self.implicit.evaluates_past_steps
        return SolverFacts(
            AbstractTerm,
            interpolation_cls,
            evaluates_past_steps=past,
            steps_backwards=False,
            uses_jacobian=self.implicit.facts.uses_jacobian,
            mass_matrices="variable" if self.stiff is None else self.stiff.facts.mass_matrices,
        )

    def for_equation(
        self, terms: PyTree[Any], t0: Time, y0: Y, args: Args, tolerances: Tolerances | None
    ) -> tuple[AbstractSolver[Any], PyTree[Any]]:
        """This solver with the method for stiff equations chosen, if none is given, and the terms with their structure.

        For an equation with noise nothing is chosen, because these methods are for equations without. An equation with
        a mass matrix is solved by the method for stiff equations alone: its algebraic part is infinitely stiff.
        """
        if is_stochastic(terms):
            return self, terms
        chosen = self.stiff
        if chosen is None:
            chosen, terms = stiff_method(terms, t0, y0, args, tolerances)
        if has_mass(terms):
            return chosen, terms
        return (with_fields(self, chosen=chosen) if self.stiff is None else self), terms

    @property
    def given_linear_solver(self) -> LinearSolver | None:
        """The linear solver of the method for stiff equations."""
        return self.implicit.given_linear_solver

    def with_tolerances(self, tolerances: Tolerances | None, y0: Y) -> Self:
        """This solver, and both of its methods, with the tolerances."""
        nonstiff, implicit = (
            self.nonstiff.with_tolerances(tolerances, y0),
            self.implicit.with_tolerances(tolerances, y0),
        )
        tolerances = default_tolerances(y0) if tolerances is None else tolerances
        made = with_fields(self, nonstiff=nonstiff, tolerances=tolerances)
        return with_fields(made, chosen=implicit) if self.stiff is None else with_fields(made, stiff=implicit)

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> AutoState:
        """The states of both methods; the explicit one makes the first step."""
        start = FlatField.for_step(terms, t0, t1, y0, args).space.ravel(y0)
        return AutoState(
            is_stiff=jnp.asarray(False),
            votes=jnp.asarray(0, jnp.int32),
            direction=first_direction(start),
            nonstiff=self.nonstiff.init(terms, t0, t1, y0, args),
            stiff=self.implicit.init(terms, t0, t1, y0, args),
        )

    def restart(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args, solver_state: AutoState) -> AutoState:
        """Both methods' states after a jump; the method in use does not change."""

        def restarted_by(method: AbstractAdaptiveSolver[Any]) -> Callable[[PyTree[Any]], PyTree[Any]]:
            return lambda state: method.restart(terms, t0, t1, y0, args, state)

        return self._mapped(solver_state, restarted_by(self.nonstiff), restarted_by(self.implicit))

    def step(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: AutoState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, AutoState, Result]:
        """One step of the method in use; under `vmap`, of both if batch elements differ."""
        makers = self.nonstiff.step, self.implicit.step
        return self._made_by(makers, terms, t0, t1, y0, args, solver_state, made_jump)

    def attempt(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: AutoState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, AutoState, Result]:
        """One step of the method in use, made as that method makes it in a solve."""
        makers = self.nonstiff.attempt, self.implicit.attempt
        return self._made_by(makers, terms, t0, t1, y0, args, solver_state, made_jump)

    def _made_by(
        self,
        makers: tuple[Callable[..., Any], Callable[..., Any]],
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: AutoState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, AutoState, Result]:
        """One step of the method in use; `makers` are the `step` or the `attempt` of the two methods."""
        state = solver_state

        def by(make: Callable[..., Any], method_state: PyTree[Any], is_in_use: Array) -> Any:
            # A batch element that uses the other method makes a step of length zero, whose derivative is finite.
            end = jnp.where(is_in_use, t1, t0)
            operands = (terms, t0, end, y0, args, method_state, made_jump)
            # Not zeros: a state may hold a full matrix, which would be written in every step.
            with_state = lambda zeros: (*zeros[:3], method_state, zeros[4])
            return where_any(is_in_use, lambda: make(*operands), operands, with_state)

        plain = by(makers[0], state.nonstiff, ~state.is_stiff)
        stiff = by(makers[1], state.stiff, state.is_stiff)
        y1, error = (select(state.is_stiff, b, a) for a, b in zip(plain[:2], stiff[:2], strict=True))
        dense_info = {"is_stiff": state.is_stiff, "nonstiff": plain[2], "stiff": stiff[2]}
        after = AutoState(state.is_stiff, state.votes, state.direction, plain[3], stiff[3])
        result = choose(state.is_stiff, stiff[4], plain[4])
        made = Step(
            terms=terms,
            drivers=(),
            args=args,
            t0=jnp.asarray(t0),
            t1=jnp.asarray(t1),
            y0=y0,
            solver_state0=state,
            made_jump=made_jump,
            y1=y1,
            y_error=error,
            dense_info=plain[2],
            solver_state=after,
            result=result,
        )
        after = with_vote(self.nonstiff, self.tolerances, made, after)
        after = self._switched(made, after)
        return y1, error, dense_info, after, result

    def densify(self, step: Step) -> DenseInfo:
        """The dense information, completed by the method that made the step."""
        is_stiff = step.dense_info["is_stiff"]

        def of(method: AbstractAdaptiveSolver[Any], info: DenseInfo, is_in_use: Array) -> DenseInfo:
            own = replace(step, t1=jnp.where(is_in_use, step.t1, step.t0), dense_info=info)
            return where_any(is_in_use, lambda: method.densify(own), own)

        plain = of(self.nonstiff, step.dense_info["nonstiff"], ~is_stiff)
        return {"is_stiff": is_stiff, "nonstiff": plain, "stiff": of(self.implicit, step.dense_info["stiff"], is_stiff)}

    def interpolation_for(self, terms: PyTree[Any], args: Args) -> "Interpolations":
        """The interpolations of the method that makes a step."""
        return Interpolations(
            self.nonstiff.interpolation_for(terms, args), self.implicit.interpolation_for(terms, args)
        )

    def after_rejection(self, before: AutoState, after: AutoState) -> AutoState:
        """The state before the attempt, except for the method in use, which decides on its own state."""
        nonstiff = self.nonstiff.after_rejection(before.nonstiff, after.nonstiff)
        stiff = self.implicit.after_rejection(before.stiff, after.stiff)
        return AutoState(
            before.is_stiff,
            before.votes,
            before.direction,
            select(before.is_stiff, before.nonstiff, nonstiff),
            select(before.is_stiff, stiff, before.stiff),
        )

    def proposal(self, step: Step) -> Proposal | None:
        """The proposal of the stiff method for its steps; the size of others is left to the controller."""
        before, after = step.solver_state0, step.solver_state
        dense_info = step.dense_info["stiff"]
        own = replace(step, solver_state0=before.stiff, solver_state=after.stiff, dense_info=dense_info)
        of_stiff = self.implicit.proposal(own)
        if of_stiff is None:
            return None
        error_order, factor = of_stiff.error_order, of_stiff.factor
        of_plain = self.nonstiff.error_order(step.terms)
        if error_order is not None and of_plain is not None:
            error_order = jnp.where(before.is_stiff, error_order, of_plain)
        if factor is not None:
            factor = jnp.where(before.is_stiff & after.is_stiff, factor, 0.0)
        return Proposal(error_order, factor)

    def choices(self, solver_state: AutoState) -> PyTree[Any]:
        """The choices of the stiff method; the explicit one has none."""
        return self.implicit.choices(solver_state.stiff)

    def with_choices(self, solver_state: AutoState, choices: PyTree[Any]) -> AutoState:
        """The state with the choices of the stiff method."""
        return replace(solver_state, stiff=self.implicit.with_choices(solver_state.stiff, choices))

    def improves_when_repeated(self, step: Step) -> BoolScalar | None:
        """True if the stiff method made the step, and says so."""
        improves = self.implicit.improves_when_repeated(replace(step, solver_state=step.solver_state.stiff))
        return None if improves is None else improves & step.solver_state0.is_stiff

    def failure_at_start(
        self, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args, solver_state: AutoState
    ) -> Result:
        """The failure of the method in use."""
        nonstiff = self.nonstiff.failure_at_start(terms, t0, t1, y0, args, solver_state.nonstiff)
        stiff = self.implicit.failure_at_start(terms, t0, t1, y0, args, solver_state.stiff)
        return choose(solver_state.is_stiff, stiff, nonstiff)

    def checkpoint_state(self, solver_state: AutoState) -> AutoState:
        """The method in use, the votes, the direction, and the checkpoints of both methods."""
        return self._mapped(solver_state, self.nonstiff.checkpoint_state, self.implicit.checkpoint_state)

    def restore(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args, checkpoint: AutoState) -> AutoState:
        """The state with those of both methods computed again from their checkpoints."""

        def restored_by(method: AbstractAdaptiveSolver[Any]) -> Callable[[PyTree[Any]], PyTree[Any]]:
            return lambda checkpoint: method.restore(terms, t0, y0, args, checkpoint)

        return self._mapped(checkpoint, restored_by(self.nonstiff), restored_by(self.implicit))

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`."""
        return terms.vf(t0, y0, args)

    def order(self, terms: PyTree[Any]) -> int | None:
        """The lower order of the two methods."""
        orders = self.nonstiff.order(terms), self.implicit.order(terms)
        return None if None in orders else min(filter(None, orders))

    def error_order(self, terms: PyTree[Any]) -> RealScalar | None:
        """The lower order of the two methods."""
        orders = [self.nonstiff.error_order(terms), self.implicit.error_order(terms)]
        known = [order for order in orders if order is not None]
        return min(known) if len(known) == len(orders) else None

    def _mapped(self, state: AutoState, nonstiff: Callable[[Any], Any], stiff: Callable[[Any], Any]) -> AutoState:
        """The state with a function applied to the state of each method."""
        direction = lax.stop_gradient(state.direction)
        return AutoState(state.is_stiff, state.votes, direction, nonstiff(state.nonstiff), stiff(state.stiff))

    def _switched(self, step: Step, state: AutoState) -> AutoState:
        """The state at the end of a step with the other method in use, if there are enough votes for it.

        That method starts anew.
        """
        terms, args, t1, y1 = step.terms, step.args, step.t1, step.y1
        next_t1 = t1 + (t1 - step.t0)
        switches = state.votes >= VOTES_TO_SWITCH
        is_stiff = switches != state.is_stiff

        def fresh(method: AbstractAdaptiveSolver[Any], method_state: PyTree[Any], starts: Array) -> PyTree[Any]:
            return lax.cond(
                any_element(starts),
                lambda: select(starts, method.restart(terms, t1, next_t1, y1, args, method_state), method_state),
                lambda: method_state,
            )

        return AutoState(
            is_stiff,
            jnp.where(switches, 0, state.votes),
            state.direction,
            fresh(self.nonstiff, state.nonstiff, switches & ~is_stiff),
            fresh(self.implicit, state.stiff, switches & is_stiff),
        )
