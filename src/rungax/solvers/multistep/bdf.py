"""The method of backward differentiation formulas of variable order and step size."""

from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from ...jaxkit import (
    Args,
    BoolScalar,
    DenseInfo,
    FlatSpace,
    RealScalar,
    Time,
    Y,
    shown,
    with_fields,
)
from ...nonlinear import (
    AbstractStageSolver,
    ErrorWeights,
    FullNewtonStages,
    LinearSolver,
    NewtonStages,
    ReuseRules,
    Stage,
    StepStart,
    Tolerances,
    check_linear_solver,
    check_max_iterations,
    default_tolerances,
)
from ...results import Result, first_failure, is_successful
from ...step import Proposal, Step
from ...terms import AbstractTerm
from ..base import AbstractAdaptiveSolver
from ..common.derivative import state_slope
from ..common.failures import failure_of_field
from ..common.flat_field import FlatField
from ..common.restart import after_jump
from ..facts import MassMatrices
from .coefficients import MAX_ORDER
from .dense import BackwardDifferenceInterpolation
from .history import Differences, Order, resized, used
from .iteration import RepeatedIfOutdated
from .order import Sizes, by_errors, by_number, order_of_step
from .step import corrected, equation, start_of

RULES = ReuseRules(slow_rate=float("inf"), max_age=50, max_scale_change=0.5, max_scale_growth=float("inf"))
"""A factorisation is made anew if its coefficient has changed by half, a Jacobian after fifty steps.

With CVODE's 30 % there are 24 % more factorisations and 4 % fewer iterations, which cost much less (seven stiff
problems, tolerances 1e-3 to 1e-8). With Jacobians of a hundred steps, iterations that had not converged were taken for
converged (Van der Pol's equation, tolerance 1e-3).
"""

KAPPA = 0.03
"""The fraction of the tolerances to which the equation of a step is solved."""


class BDFState(eqx.Module):
    """The solver state of the method.

    Parameters
    ----------
    differences
        The backward differences of orders 1 to the largest one.
    step_size
        The step size of the differences.
    chosen_size
        The size that the method has chosen for the next step.
    numbers
        The order of the next step, the order of the last one, and the number of steps of the size `step_size`: one
        vector, because each leaf of the loop's carry costs time.
    cache
        The cache of the stage solver.
    """

    differences: Differences
    step_size: Time
    chosen_size: Time
    numbers: Int[Array, "3"]
    cache: PyTree[Array]

    @property
    def order(self) -> Order:
        """The order of the next step."""
        return self.numbers[0]

    @property
    def last_order(self) -> Order:
        """The order of the last step."""
        return self.numbers[1]

    @property
    def num_equal(self) -> Order:
        """The number of steps of the size `step_size`."""
        return self.numbers[2]


class BDF(AbstractAdaptiveSolver[BDFState]):
    r"""The numerical differentiation formulas of orders 1 to 5, with variable order and step size, for stiff equations.

    A step solves one equation, however high its order, for the value at its end of a polynomial through the last
    values of the solution. So it is cheaper than a step of an implicit Runge–Kutta method, but needs a history of steps
    to become efficient: choose it for large systems and long intervals. The formulas of orders 1 and 2 are A-stable,
    those of orders 3, 4 and 5 are stable in sectors around the negative real axis, up to 80, 66 and 51 degrees from it:
    a fast oscillation with little damping keeps steps short. `max_order=2` is better for it (the problem Beam of the
    IVP test set, `rtol=1e-3`: 179 steps instead of 16 892), or `Kvaerno5` or `Rodas5P`. Dense output is of the order of
    the step.

    Parameters
    ----------
    max_order
        The highest order that the method may choose, from 1 to 5. With 2 the method is A-stable.
    root_find_max_steps
        Maximum number of Newton iterations for a step, at least 2. A step that needs more is rejected.
    linear_solver
        A Lineax solver for the linear systems of the iteration and of the derivatives. By default it is chosen by their
        size and by the structure that the term declares. An iterative one never forms the Jacobian.
    tolerances
        The tolerances by which the order is chosen and the equation of a step is solved. Leave it out: a solve sets its
        own.

    Raises
    ------
    ValueError
        If `max_order` or `root_find_max_steps` is out of range, or `linear_solver` is neither a Lineax solver nor
        `None`.

    Notes
    -----
    The first step of a solve, and that after a jump or an effect, is of order one; the order may change after as many
    steps of one size as it has. The step size changes with it, and the controller rejects steps. A step whose end is
    given, by `ClipStepSizeController` for example, may be shorter than the method has chosen.

    With constant steps (`ConstantStepSize`, `StepTo`) the order rises to `max_order` as soon as enough steps of one
    size have been made, and falls to 2 or 1 at a step that is longer than the one before. The first two steps are of
    order one and decide the order of convergence, which is 2. Use error control for accurate solutions.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each step: iterations are not differentiated, nor is the choice
    of orders and step sizes. The vector field must itself be differentiable in forward mode, which functions with a
    `jax.custom_vjp` are not. Reverse mode stores the history, `max_order` vectors like the state, for every step.

    Cost
    ----
    One evaluation of the vector field for each iteration, mostly one or two a step. The Jacobian takes one directional
    derivative of the field for each column, for each diagonal of a band that `ODETerm(tags=...)` declares, or for each
    colour of a sparsity pattern. It is used for fifty steps, and its factorisation until the step size has changed by
    half; both are made anew where an iteration fails. Memory: the history, the Jacobian and its factors.

    References
    ----------
    L. F. Shampine, M. W. Reichelt, The MATLAB ODE Suite, SIAM J. Sci. Comput. 18 (1997), 1–22.

    P. N. Brown, G. D. Byrne, A. C. Hindmarsh, VODE: a variable-coefficient ODE solver, SIAM J. Sci. Stat. Comput. 10
    (1989), 1038–1051, for the reuse of the Jacobian.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -1e6 * (y - jnp.cos(t)))
    >>> controller = rungax.PIDController(rtol=1e-6, atol=1e-6)
    >>> solution = rungax.diffeqsolve(
    ...     term,
    ...     rungax.BDF(),
    ...     0.0,
    ...     10.0,
    ...     None,
    ...     jnp.array(1.0),
    ...     stepsize_controller=controller,
    ... )
    >>> bool(abs(solution.ys[-1] - jnp.cos(10.0)) < 1e-5)
    True
    """

    max_order: int = eqx.field(static=True, default=MAX_ORDER)
    root_find_max_steps: int = 4
    linear_solver: LinearSolver | None = None
    tolerances: Tolerances | None = None

    term_structure: ClassVar[PyTree[Any]] = AbstractTerm
    interpolation_cls = BackwardDifferenceInterpolation
    steps_backwards: ClassVar[bool] = False
    uses_jacobian: ClassVar[bool] = True
    mass_matrices: ClassVar[MassMatrices] = "variable"

    def __check_init__(self) -> None:
        check_linear_solver(self.linear_solver)
        check_max_iterations(self.root_find_max_steps)
        order = self.max_order
        if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= MAX_ORDER:
            raise ValueError(
                "`BDF(max_order=...)` is the highest order that the method may choose.\n"
                f"Expected: an integer from 1 to {MAX_ORDER}; the formulas of order 6 are hardly stable, those of"
                f" higher orders not at all\nFound:    {shown(order)}\nLeave it out for {MAX_ORDER}."
            )

    def with_tolerances(self, tolerances: Tolerances | None, y0: Y) -> Self:
        """This solver with the tolerances; `None` stands for a solve without error control."""
        del y0
        return with_fields(self, tolerances=tolerances)

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> BDFState:
        """A history of order one, from the vector field at the start."""
        field = FlatField.for_step(terms, t0, t1, y0, args)
        t0, t1, vector = jnp.asarray(t0), jnp.asarray(t1), field.space.ravel(y0)
        size, one = t1 - t0, jnp.ones((), jnp.int32)
        rest = jnp.zeros((self.max_order - 1, vector.size), vector.dtype)
        slope = field.space.ravel(state_slope(terms, self.linear_solver, t0, y0, args))
        first = size.astype(vector.dtype) * slope
        differences = jnp.concatenate([first[None, :], rest])
        start = self._start(field, t0, t1, y0, differences, one)[1]
        cache = self._stage_solver(field.space).empty_cache(start)
        return BDFState(differences, size, size, jnp.array([1, 1, 0], jnp.int32), cache)

    def restart(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args, solver_state: BDFState) -> BDFState:
        """A history of order one, and a cache whose Jacobian will be evaluated again."""
        fresh = self.init(terms, t0, t1, y0, args)
        solver = self._stage_solver(FlatField.for_step(terms, t0, t1, y0, args).space)
        return with_fields(fresh, cache=solver.outdated(solver_state.cache))

    def step(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: BDFState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, BDFState, Result]:
        """One step, from the history resized to its length; one evaluation of the field for each iteration."""
        state = after_jump(self, terms, t0, t1, y0, args, solver_state, made_jump)
        field = FlatField.for_step(terms, t0, t1, y0, args)
        space, start, end = field.space, jnp.asarray(t0), jnp.asarray(t1)
        sizes = Sizes.of(start, end, state.step_size, state.chosen_size)
        order = order_of_step(state.order, sizes)
        differences = resized(state.differences, order, sizes.ratio)
        stage, begin = self._start(field, start, end, y0, differences, order)
        made = corrected(self._stage_solver(space), stage, begin, (differences, order), state.cache)
        is_solved = is_successful(made.result)
        num_equal = jnp.where(sizes.ratio == 1, state.num_equal, 0) + 1
        if self.tolerances is None:
            choice = by_number(order, num_equal, self.max_order)
        else:
            size_of = ErrorWeights.of(self.tolerances, space).at(made.y1)
            histories = differences, made.differences, made.correction
            choice = by_errors(size_of, *histories, order, num_equal, sizes.is_shorter)
        size = end - start
        numbers = jnp.stack([jnp.where(is_solved, choice.order, order), order, num_equal])
        after = BDFState(made.differences, size, choice.factor.astype(size.dtype) * size, numbers, made.cache)
        y1, error = space.unravel(made.y1), space.unravel(jnp.where(is_solved, made.error, jnp.inf))
        rows = used(made.differences, order)[1:]
        higher = jnp.where(rows, made.differences[1:], jnp.zeros((), made.y1.dtype))
        dense_info = {"y0": y0, "y1": y1, "differences": jax.vmap(space.unravel)(higher)}
        return y1, error, dense_info, after, made.result

    def proposal(self, step: Step) -> Proposal:
        """The order of the step, and the size that goes with the order of the next one."""
        state, size = step.solver_state, step.t1 - step.t0
        factor = state.chosen_size / jnp.where(size == 0, 1.0, size)
        # After a failed iteration the correction says nothing about the size: the controller chooses it.
        return Proposal(state.last_order + 1, jnp.where(is_successful(step.result), factor, 0.0))

    def after_rejection(self, before: BDFState, after: BDFState) -> BDFState:
        """The history from before the attempt, the cache from after it, and the lower of both orders."""
        numbers = jnp.stack([jnp.minimum(before.order, after.order), before.last_order, before.num_equal])
        return with_fields(before, chosen_size=jnp.zeros_like(before.chosen_size), numbers=numbers, cache=after.cache)

    def failure_at_start(
        self, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args, solver_state: BDFState
    ) -> Result:
        """The failure of a vector field, or of a Jacobian, that is not finite at the start of the step."""
        del solver_state
        field = FlatField.for_step(terms, t0, t1, y0, args)
        return first_failure(failure_of_field(self.func(terms, t0, y0, args)), field.failure_of_jacobian(t0, y0))

    def checkpoint_state(self, solver_state: BDFState) -> BDFState:
        """The history and its order; the cache does not change the solution."""
        return with_fields(solver_state, cache=None)

    def restore(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args, checkpoint: BDFState) -> BDFState:
        """The checkpoint with an empty cache."""
        t0 = jnp.asarray(t0)
        field = FlatField.for_step(terms, t0, t0, y0, args)
        start = self._start(field, t0, t0, y0, checkpoint.differences, checkpoint.order)[1]
        return with_fields(checkpoint, cache=self._stage_solver(field.space).empty_cache(start))

    def choices(self, solver_state: BDFState) -> Order:
        """The order of the last step."""
        return solver_state.last_order

    def with_choices(self, solver_state: BDFState, choices: Order) -> BDFState:
        """The solver state with an order for the next step that its size does not lower."""
        numbers = jnp.stack([choices, solver_state.last_order, solver_state.num_equal])
        return with_fields(solver_state, numbers=numbers, chosen_size=jnp.zeros_like(solver_state.chosen_size))

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`."""
        return terms.vf(t0, y0, args)

    @property
    def given_linear_solver(self) -> LinearSolver | None:
        """The linear solver that the user gave."""
        return self.linear_solver

    def order(self, terms: PyTree[Any]) -> int:
        """The order with constant steps, of which the first two are of order one: 2 at most."""
        del terms
        return min(self.max_order, 2)

    def error_order(self, terms: PyTree[Any]) -> int:
        """The order of the error estimate of the first step; `proposal` states those of others."""
        del terms
        return 2

    def _start(
        self, field: FlatField, t0: Time, t1: Time, y0: Y, differences: Differences, order: Order
    ) -> tuple[Stage, StepStart]:
        """The equation of a step, and the start of its iteration."""
        stage = equation(field, t0, t1, field.space.ravel(y0), (differences, order))
        algebra = field.linear_algebra(self.linear_solver, t0, y0)
        return stage, start_of(stage, algebra, self.root_find_max_steps)

    def _stage_solver(self, space: FlatSpace) -> AbstractStageSolver:
        """Newton's iteration; without error control, which repeats no step, with a new Jacobian at every iterate."""
        if self.tolerances is None:
            like = space.unravel(jnp.zeros(space.size, space.dtype))
            weights = ErrorWeights.of(default_tolerances(like), space)
            return RepeatedIfOutdated(FullNewtonStages(weights, KAPPA, RULES))
        return RepeatedIfOutdated(NewtonStages(ErrorWeights.of(self.tolerances, space), KAPPA, RULES))
