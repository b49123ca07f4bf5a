"""The root finders that users give: Optimistix's, our own, and those with the step size controller's tolerances."""

import abc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, Bool, PyTree

from ..jaxkit import FlatSpace, RealScalar, Time, TracedFunction, Y, shown, trace_once
from ..results import RESULTS
from .jacobian import Vector
from .linear import AbstractField, AbstractLinearAlgebra, LinearSystem, linear_algebra, solve
from .newton import DIVERGED, RUNNING, FullNewtonStages, Iteration, NewtonStages
from .stage import AbstractStageSolver, Stage, StageSolution, StepStart
from .tolerances import ErrorWeights, Norm, Tolerances, default_tolerances


class FromController:
    """Stands for a tolerance or the norm of a root finder, which the step size controller gives.

    It is a pytree without leaves, so that a solver remains a pytree of arrays, and `eqx.tree_at` can replace it.
    """

    def __repr__(self) -> str:
        return "<from the step size controller>"


jax.tree_util.register_pytree_node(FromController, lambda x: ((), None), lambda _, children: FromController())


def missing_tolerances(finder: Any) -> list[str]:
    """The names of the root finder's tolerances that the step size controller gives: of `rtol`, `atol` and `norm`."""
    return [name for name in Tolerances._fields if isinstance(getattr(finder, name, None), FromController)]


def with_stepsize_controller_tols[Finder](cls: Callable[..., Finder]) -> Callable[..., Finder]:
    """A root finder class that takes its tolerances from the step size controller.

    Parameters
    ----------
    cls
        A root finder that takes `rtol`, `atol` and `norm`, for example `VeryChord` or `optimistix.Newton`.

    Returns
    -------
    callable
        Called with the other arguments of `cls`, it returns a root finder for `root_finder=` of an implicit solver.
        `eqx.tree_at(lambda solver: solver.root_finder.rtol, solver, 1e-3)` sets one of the three for all solves.
        In a solve without error control, the tolerances are the machine precision to the power 2/3.

    Raises
    ------
    TypeError
        If the callable is given `rtol`, `atol` or `norm`.

    See Also
    --------
    AbstractDIRK : its default root finder is made with this function.

    Examples
    --------
    >>> import rungax
    >>> finder = rungax.with_stepsize_controller_tols(rungax.VeryChord)(kappa=1e-3)
    >>> solver = rungax.Kvaerno5(root_finder=finder)
    """

    def make(*args: Any, **options: Any) -> Any:
        given = sorted(set(Tolerances._fields) & set(options))
        if given:
            raise TypeError(
                f"`with_stepsize_controller_tols(...)` takes {', '.join(given)} from the step size controller.\n"
                f"Expected: none of rtol, atol, norm\nFound:    {', '.join(given)}\n"
                "Leave them out, or give them to the root finder itself."
            )
        finder = cls(*args, rtol=1.0, atol=1.0, norm=optx.rms_norm, **options)
        return eqx.tree_at(_tolerances_of, finder, [FromController() for _ in Tolerances._fields])

    return make


def _tolerances_of(finder: Any, names: Sequence[str] = Tolerances._fields) -> list[Any]:
    return [getattr(finder, name) for name in names]


def check_root_finder(finder: Any, max_steps: Any) -> None:
    """Raise a `ValueError` unless `finder` is a root finder and `max_steps` an integer of at least 2."""
    is_root_finder = isinstance(finder, AbstractStageFinder | optx.AbstractRootFinder)
    # Optimistix also finds roots with methods for other problems; a user's class may be any.
    if not (is_root_finder or missing_tolerances(finder)):
        raise ValueError(
            "`root_finder` solves the equations of implicit stages.\n"
            "Expected: an Optimistix root finder, or `with_stepsize_controller_tols(VeryChord)()`\n"
            f"Found:    {shown(finder)}\nGive an instance, not a class; leave it out for simplified Newton iteration."
        )
    check_max_iterations(max_steps)


def check_max_iterations(max_steps: Any) -> None:
    """Raise a `ValueError` unless `max_steps` is an integer of at least 2."""
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 2:
        raise ValueError(
            "`root_find_max_steps` is the maximum number of iterations for a stage.\n"
            "Expected: an integer, at least 2: one iteration does not show whether it converges\n"
            f"Found:    {shown(max_steps)}\nLeave it out for the default."
        )


def resolved(finder: Any, tolerances: Tolerances | None, y0: Y) -> Any:
    """The root finder for a solve with these tolerances; `None` stands for a solve without error control."""
    if names := missing_tolerances(finder):
        given = default_tolerances(y0) if tolerances is None else tolerances
        finder = eqx.tree_at(partial(_tolerances_of, names=names), finder, _tolerances_of(given, names))
    return finder.with_full_newton() if tolerances is None and isinstance(finder, AbstractStageFinder) else finder


class AbstractStageFinder(eqx.Module):
    """A root finder with a method of its own for the stages of a step, which may carry data from step to step."""

    linear_solver: eqx.AbstractVar[lx.AbstractLinearSolver[Any] | None]

    @abc.abstractmethod
    def stages(self, space: FlatSpace) -> AbstractStageSolver:
        """The method for the stages, for states that these vectors stand for."""

    @abc.abstractmethod
    def with_full_newton(self) -> "AbstractStageFinder":
        """This root finder for solves with constant steps, where no failed step can be repeated with a shorter one."""


class VeryChord(optx.AbstractRootFinder[Any, Any, Any, Any], AbstractStageFinder):
    r"""Simplified Newton iteration, the default root finder of implicit solvers.

    The Jacobian is evaluated once. The iteration stops when its rate of convergence shows that the remaining error is
    small enough. Inside a solve the Jacobian and its factorisation are used for several stages and steps; with
    `optimistix.root_find`, for one call.

    Parameters
    ----------
    rtol, atol
        Relative and absolute tolerance: scalars, or pytrees like the unknowns.
    norm
        Reduces a pytree of scaled corrections to one number; by default the largest entry.
    kappa
        The fraction of the tolerances to which equations are solved. With the default 0.01 the remaining error of a
        stage is well below the error of the step.
    linear_solver
        A Lineax solver; `None` chooses by size and structure.

    Differentiability
    -----------------
    Roots and stages are differentiated by the implicit function theorem; the iteration is not differentiated.

    Cost
    ----
    An evaluation of the function and a linear solve for each iteration. One Jacobian and one factorisation for each
    call; a solve of a differential equation computes new ones only when needed: see `AbstractDIRK`.

    References
    ----------
    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.8.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optimistix as optx
    >>> import rungax
    >>> finder = rungax.VeryChord(rtol=1e-8, atol=1e-8)
    >>> root = optx.root_find(lambda y, _: y - jnp.cos(y), finder, jnp.array(0.7))
    >>> print(f"{root.value:.6f}")
    0.739085
    """

    # Optimistix declares numbers, and the norm as a method.
    rtol: PyTree[Any]  # pyright: ignore[reportIncompatibleVariableOverride]
    atol: PyTree[Any]  # pyright: ignore[reportIncompatibleVariableOverride]
    norm: Norm = optx.max_norm  # pyright: ignore[reportIncompatibleMethodOverride]
    kappa: RealScalar = 1e-2
    linear_solver: lx.AbstractLinearSolver[Any] | None = None

    def stages(self, space: FlatSpace) -> NewtonStages:
        """The iteration for stages, with a Jacobian and a factorisation that are carried from step to step."""
        return NewtonStages(ErrorWeights.of(Tolerances(self.rtol, self.atol, self.norm), space), self.kappa)

    def with_full_newton(self) -> "FullNewtonChord":
        """The root finder that falls back on full Newton iteration where this one fails."""
        tolerances = Tolerances(self.rtol, self.atol, self.norm)
        return FullNewtonChord(tolerances=tolerances, kappa=self.kappa, linear_solver=self.linear_solver)

    def init(
        self,
        fn: Callable[..., Any],
        y: PyTree[Any],
        args: PyTree[Any],
        options: dict[str, Any],
        f_struct: PyTree[Any],
        aux_struct: PyTree[Any],
        tags: frozenset[object],
    ) -> "_ChordState":
        """The Jacobian at `y` and its factorisation."""
        del options, f_struct, aux_struct
        field = _Residual(fn, args, FlatSpace(y))
        algebra = linear_algebra(tags, self.linear_solver, field.space)
        one = jnp.ones((), jnp.finfo(field.space.dtype).dtype)
        system = LinearSystem.at(algebra, field, one, field.space.ravel(y), one)
        return _ChordState(system.stored, algebra.factorise(system), Iteration.start(one))

    def step(
        self,
        fn: Callable[..., Any],
        y: PyTree[Any],
        args: PyTree[Any],
        options: dict[str, Any],
        state: "_ChordState",
        tags: frozenset[object],
    ) -> tuple[PyTree[Any], "_ChordState", Any]:
        """One iteration."""
        del options
        space = FlatSpace(y)
        algebra = linear_algebra(tags, self.linear_solver, space)
        one = jnp.ones((), jnp.finfo(space.dtype).dtype)
        value, aux = fn(y, args)
        system = LinearSystem(_Residual(fn, args, space), one, state.jacobian, one)
        delta = solve(algebra, system, -space.ravel(value), state.factors)
        vector = space.ravel(y)
        size_of = ErrorWeights(Tolerances(self.rtol, self.atol, self.norm), space).at(vector)
        rounding = 10 * float(jnp.finfo(space.dtype).eps) * size_of(vector)
        iteration = state.iteration.judge(size_of(delta), rounding, self.kappa, None)
        return space.unravel(vector + delta), _ChordState(state.jacobian, state.factors, iteration), aux

    def terminate(
        self,
        fn: Callable[..., Any],
        y: PyTree[Any],
        args: PyTree[Any],
        options: dict[str, Any],
        state: "_ChordState",
        tags: frozenset[object],
    ) -> tuple[Bool[Array, ""], Any]:
        """True if the iteration has converged or diverges, with the result."""
        del fn, y, args, options, tags
        diverged = state.iteration.status == DIVERGED
        result = optx.RESULTS.where(diverged, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful)
        return state.iteration.status != RUNNING, result

    def postprocess(
        self,
        fn: Callable[..., Any],
        y: PyTree[Any],
        aux: Any,
        args: PyTree[Any],
        options: dict[str, Any],
        state: "_ChordState",
        tags: frozenset[object],
        result: Any,
    ) -> tuple[PyTree[Any], Any, dict[str, Any]]:
        """The root as it is."""
        del fn, args, options, state, tags, result
        return y, aux, {}


class _Residual(AbstractField):
    """The field $y - g(y)$ for a function $g$ whose root is sought: its matrix $I - J$ is the Jacobian of $g$."""

    fn: Callable[..., Any]
    args: PyTree[Any]
    space: FlatSpace

    def increment(self, t: RealScalar, y: Vector) -> Vector:
        """The slope: the field has no driver."""
        return self.slope(t, y)

    def slope(self, t: RealScalar, y: Vector) -> Vector:
        """The vector minus the function of it."""
        del t
        return y - self.space.ravel(self.fn(self.space.unravel(y), self.args)[0])

    def jacobian(
        self, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector, rate: Vector | None = None
    ) -> PyTree[Array]:
        """The Jacobian, derived from the slope."""
        del rate
        return algebra.jacobian.evaluate(lambda y: self.slope(t, y), y)


class _ChordState(eqx.Module):
    """The Jacobian, its factorisation, and the progress of the iteration."""

    jacobian: Array
    factors: PyTree[Array]
    iteration: Iteration


class FullNewtonChord(AbstractStageFinder):
    """`VeryChord` with full Newton iteration where it fails, for solves with constant steps."""

    tolerances: Tolerances
    kappa: RealScalar
    linear_solver: lx.AbstractLinearSolver[Any] | None

    def stages(self, space: FlatSpace) -> FullNewtonStages:
        """The method for the stages, for states that these vectors stand for."""
        return FullNewtonStages(ErrorWeights.of(self.tolerances, space), self.kappa)

    def with_full_newton(self) -> Self:
        """This root finder itself."""
        return self


def stage_solver(finder: Any, space: FlatSpace) -> AbstractStageSolver:
    """The method for the stages of a step that a root finder gives."""
    return finder.stages(space) if isinstance(finder, AbstractStageFinder) else RootFinderStages(finder)


class _OfArrays(eqx.Module):
    """A traced function of the arrays among its arguments."""

    program: TracedFunction

    def __call__(self, *args: Any) -> Any:
        return self.program(eqx.filter(args, eqx.is_array))


class RootFinderStages(AbstractStageSolver):
    """An Optimistix root finder, called once for every stage of a step.

    A user's root finder can do work once a step, in its `init`: for every stage `options["init_state"]` holds the value
    that `init` returned at the start of the step.

    Parameters
    ----------
    finder
        The root finder.
    """

    finder: optx.AbstractRootFinder[Any, Any, Any, Any]

    def empty_cache(self, start: StepStart) -> None:
        """No cache: nothing is carried from step to step."""

    def outdated(self, cache: None) -> None:
        """No cache."""

    def is_outdated(self, cache: None, t0: Time) -> bool:
        """False: every step begins with a Jacobian of its own."""
        del cache, t0
        return False

    def prepare(self, start: StepStart, cache: None) -> tuple[PyTree[Any], None]:
        """The value of the root finder's `init` at the start of the step."""
        del cache
        diagonal = 1.0 if start.diagonal is None else start.diagonal
        zero = jnp.zeros_like(start.y0)
        stage = Stage(start.field, start.t0, start.y0, zero, diagonal, start.step_size)
        struct = jax.eval_shape(lambda: start.y0)
        return self.finder.init(_residual, zero, stage, {}, struct, None, frozenset()), None

    def iteration(self, *args: Any) -> Callable[..., StageSolution]:
        """`solve`, traced: the root finder may have captured traced values."""
        arrays, others = eqx.partition(args, eqx.is_array)
        return _OfArrays(trace_once(lambda arrays: self.solve(*eqx.combine(arrays, others)), arrays))

    def solve(
        self, stage: Stage, guess: Vector, start: StepStart, prepared: PyTree[Any], convergence: None
    ) -> StageSolution:
        """The root of the stage's residual."""
        root = optx.root_find(
            lambda displacement, stage: _residual(displacement, stage)[0],
            self.finder,
            guess,
            stage,
            options={"init_state": prepared},
            max_steps=start.max_steps,
            throw=False,
        )
        return StageSolution(root.value, RESULTS.promote(root.result), convergence)

    def update_cache(self, prepared: PyTree[Any], convergence: None) -> None:
        """No cache: nothing is carried from step to step."""


def _residual(displacement: Vector, stage: Stage) -> tuple[Vector, None]:
    r"""Minus the residual of the stage, with derivative $M - \gamma h J$ by the displacement; no other output."""
    return -stage.residual(displacement), None
