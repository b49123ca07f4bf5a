"""Root finders as users give them: Optimistix's, our own, and ones whose tolerances are the step size controller's."""

import abc
from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, Bool, PyTree

from ..jaxkit import FlatSpace, RealScalar, Y
from ..results import RESULTS
from .jacobian import Vector
from .linear import AbstractField, LinearAlgebra, LinearSystem, linear_algebra, solve
from .newton import DIVERGED, RUNNING, FullNewtonStages, Iterate, NewtonStages
from .stage import AbstractStageSolver, Stage, StageSolution, StepStart
from .tolerances import Norm, Tolerances, Weights, default_tolerances


class AbstractUnresolvedFinder(eqx.Module):
    """A root finder that is yet to be told its tolerances."""

    @abc.abstractmethod
    def with_tolerances(self, tolerances: Tolerances) -> optx.AbstractRootFinder[Any, Any, Any, Any]:
        """The root finder."""


class _FromController(AbstractUnresolvedFinder):
    cls: Callable[..., Any] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    values: tuple[Any, ...]

    def with_tolerances(self, tolerances: Tolerances) -> Any:
        """The root finder with these tolerances."""
        options = dict(zip(self.names, self.values, strict=True))
        return self.cls(rtol=tolerances.rtol, atol=tolerances.atol, norm=tolerances.norm, **options)


def with_stepsize_controller_tols[**P](cls: Callable[P, Any]) -> Callable[..., AbstractUnresolvedFinder]:
    """A root finder class without its tolerances, which come from the step size controller.

    Parameters
    ----------
    cls
        A root finder that takes `rtol`, `atol` and `norm`, for example `VeryChord` or `optimistix.Newton`.

    Returns
    -------
    callable
        Called with the other arguments of `cls`, it gives a root finder for `root_finder=` of an implicit solver.
        Where nothing controls the error, the tolerances are the machine's, to the power 2/3.

    Raises
    ------
    TypeError
        If the callable is given `rtol`, `atol` or `norm`.

    See Also
    --------
    AbstractDIRK : whose default root finder is made so.

    Examples
    --------
    >>> import rungax
    >>> finder = rungax.with_stepsize_controller_tols(rungax.VeryChord)(kappa=1e-3)
    >>> solver = rungax.Kvaerno5(root_finder=finder)
    """

    def make(**options: Any) -> AbstractUnresolvedFinder:
        given = sorted({"rtol", "atol", "norm"} & set(options))
        if given:
            raise TypeError(
                f"`with_stepsize_controller_tols(...)` takes {', '.join(given)} from the step size controller.\n"
                f"Expected: none of rtol, atol, norm\nFound:    {', '.join(given)}\n"
                "Leave them out, or give them to the root finder itself."
            )
        return _FromController(cls, tuple(options), tuple(options.values()))

    return make


def check_root_finder(finder: Any, max_steps: Any) -> None:
    """That an implicit solver's `root_finder` and `root_find_max_steps` are what they must be.

    Raises
    ------
    ValueError
        If not.
    """
    if not isinstance(finder, AbstractUnresolvedFinder | AbstractStageFinder | optx.AbstractRootFinder):
        raise ValueError(
            "`root_finder` solves the equations of implicit stages.\n"
            "Expected: an Optimistix root finder, or `with_stepsize_controller_tols(VeryChord)()`\n"
            f"Found:    {finder!r}\nGive an instance, not a class; leave it out for simplified Newton iteration."
        )
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 2:
        raise ValueError(
            "`root_find_max_steps` is how often a stage may iterate.\n"
            "Expected: an integer, at least 2, for one iteration alone does not show whether it converges\n"
            f"Found:    {max_steps!r}\nLeave it out for 10."
        )


def resolved(finder: Any, tolerances: Tolerances | None, y0: Y) -> Any:
    """The root finder for a solve with these tolerances, or for one that controls no error."""
    if isinstance(finder, AbstractUnresolvedFinder):
        finder = finder.with_tolerances(default_tolerances(y0) if tolerances is None else tolerances)
    return finder.with_full_newton() if tolerances is None and isinstance(finder, AbstractStageFinder) else finder


class AbstractStageFinder(eqx.Module):
    """A root finder that has a way of its own to serve all stages of a step, and many steps."""

    linear_solver: eqx.AbstractVar[lx.AbstractLinearSolver[Any] | None]

    @abc.abstractmethod
    def stages(self, space: FlatSpace) -> AbstractStageSolver:
        """That way, for states of this kind."""

    @abc.abstractmethod
    def with_full_newton(self) -> "AbstractStageFinder":
        """The same for solves where a failed stage cannot be mended by a shorter step."""


class VeryChord(optx.AbstractRootFinder[Any, Any, Any, Any], AbstractStageFinder):
    r"""Simplified Newton iteration that knows when to stop: the root finder of implicit solvers.

    The Jacobian is evaluated once, and the iteration stops by its own rate of convergence. Inside a solve the
    Jacobian and its factorisation are kept across stages and steps; with `optimistix.root_find` for one call.

    Parameters
    ----------
    rtol, atol
        Relative and absolute tolerance: scalars, or pytrees like the unknowns.
    norm
        Reduces a pytree of scaled displacements to one number; by default the largest.
    kappa
        The fraction of the tolerances to which equations are solved. At the default 0.01 what is left of a stage's
        equation is well below the error of the step.
    linear_solver
        A Lineax solver; `None` chooses by size and structure.

    Differentiability
    -----------------
    Roots and stages move by the implicit function theorem; the iteration is not differentiated.

    Cost
    ----
    An evaluation of the function and a solve for each iteration; one Jacobian and one factorisation for each call, and
    in a solve of a differential equation only where the old ones no longer serve: see `AbstractDIRK`.

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

    rtol: PyTree[Any]  # pyright: ignore[reportIncompatibleVariableOverride]  # Optimistix: a number
    atol: PyTree[Any]  # pyright: ignore[reportIncompatibleVariableOverride]
    norm: Norm = optx.max_norm  # pyright: ignore[reportIncompatibleMethodOverride]
    kappa: RealScalar = 1e-2
    linear_solver: lx.AbstractLinearSolver[Any] | None = None

    def stages(self, space: FlatSpace) -> NewtonStages:
        """The same iteration, with the Jacobian and its factorisation kept while they serve."""
        return NewtonStages(Weights(Tolerances(self.rtol, self.atol, self.norm), space), self.kappa)

    def with_full_newton(self) -> "FullNewtonChord":
        """With full Newton iteration where this one fails."""
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
        """The Jacobian at `y`, factorised."""
        del options, f_struct, aux_struct
        field = _Residual(fn, args, FlatSpace(y))
        algebra = linear_algebra(tags, self.linear_solver, field.space)
        one = jnp.ones((), jnp.finfo(field.space.dtype).dtype)
        system = LinearSystem.at(algebra, field, one, field.space.ravel(y), one)
        return _ChordState(system.kept, algebra.factorise(system), Iterate.start(one))

    def step(
        self,
        fn: Callable[..., Any],
        y: PyTree[Any],
        args: PyTree[Any],
        options: dict[str, Any],
        state: "_ChordState",
        tags: frozenset[object],
    ) -> tuple[PyTree[Any], "_ChordState", Any]:
        """One displacement."""
        del options
        space = FlatSpace(y)
        algebra = linear_algebra(tags, self.linear_solver, space)
        one = jnp.ones((), jnp.finfo(space.dtype).dtype)
        value, aux = fn(y, args)
        system = LinearSystem(_Residual(fn, args, space), one, state.jacobian, one)
        delta = solve(algebra, system, -space.ravel(value), state.factors)
        vector = space.ravel(y)
        size_of = Weights(Tolerances(self.rtol, self.atol, self.norm), space).at(vector)
        noise = 10 * float(jnp.finfo(space.dtype).eps) * size_of(vector)
        iterate = state.iterate.judge(size_of(delta), noise, self.kappa, None)
        return space.unravel(vector + delta), _ChordState(state.jacobian, state.factors, iterate), aux

    def terminate(
        self,
        fn: Callable[..., Any],
        y: PyTree[Any],
        args: PyTree[Any],
        options: dict[str, Any],
        state: "_ChordState",
        tags: frozenset[object],
    ) -> tuple[Bool[Array, ""], Any]:
        """Whether the iteration has converged or diverges."""
        del fn, y, args, options, tags
        diverged = state.iterate.status == DIVERGED
        result = optx.RESULTS.where(diverged, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful)
        return state.iterate.status != RUNNING, result

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
        """Nothing more to do."""
        del fn, args, options, state, tags, result
        return y, aux, {}


class _Residual(AbstractField):
    """The field whose matrix $I - J$ is the Jacobian of a function whose root is sought."""

    fn: Callable[..., Any]
    args: PyTree[Any]
    space: FlatSpace

    def increment(self, t: RealScalar, y: Vector) -> Vector:
        """The same as the slope."""
        return self.slope(t, y)

    def slope(self, t: RealScalar, y: Vector) -> Vector:
        """What is left of a vector when the function is taken from it."""
        del t
        return y - self.space.ravel(self.fn(self.space.unravel(y), self.args)[0])

    def jacobian(self, algebra: LinearAlgebra, t: RealScalar, y: Vector) -> Array:
        """Derived from the slope."""
        return algebra.jacobian.evaluate(lambda y: self.slope(t, y), y)


class _ChordState(eqx.Module):
    """The Jacobian, its factorisation, and how the iteration stands."""

    jacobian: Array
    factors: PyTree[Array]
    iterate: Iterate


class FullNewtonChord(AbstractStageFinder):
    """`VeryChord`, and where it fails full Newton iteration: for constant steps."""

    tolerances: Tolerances
    kappa: RealScalar
    linear_solver: lx.AbstractLinearSolver[Any] | None

    def stages(self, space: FlatSpace) -> FullNewtonStages:
        """Both, for states of this kind."""
        return FullNewtonStages(Weights(self.tolerances, space), self.kappa)

    def with_full_newton(self) -> Self:
        """It is."""
        return self


def stage_solver(finder: Any, space: FlatSpace) -> AbstractStageSolver:
    """How a root finder serves the stages of a step."""
    return finder.stages(space) if isinstance(finder, AbstractStageFinder) else RootFinderStages(finder)


class RootFinderStages(AbstractStageSolver):
    """Any Optimistix root finder, for the stages of a step, each on its own.

    A finder of the user's may want to do something once a step: `options["init_state"]` holds what its `init` returned
    for the step's first stage.

    Parameters
    ----------
    finder
        The root finder.
    """

    finder: optx.AbstractRootFinder[Any, Any, Any, Any]

    def empty_cache(self, start: StepStart) -> None:
        """Nothing is kept from step to step."""

    def outdated(self, cache: None) -> None:
        """No cache."""

    def prepare(self, start: StepStart, cache: None) -> tuple[PyTree[Any], None]:
        """What the root finder's `init` makes of the first stage."""
        del cache
        diagonal = 1.0 if start.diagonal is None else start.diagonal
        stage = Stage(start.field, start.t0, start.y0, diagonal, start.step_size)
        struct = jax.eval_shape(lambda: start.y0)
        zero = jnp.zeros_like(start.y0)
        return self.finder.init(_residual, zero, stage, {}, struct, None, frozenset()), None

    def solve(
        self, stage: Stage, guess: Vector, start: StepStart, prepared: PyTree[Any], convergence: None
    ) -> StageSolution:
        """Find the root of the stage's residual."""
        root = optx.root_find(
            lambda k, stage: k - stage.increment(k),
            self.finder,
            guess,
            stage,
            options={"init_state": prepared},
            max_steps=start.max_steps,
            throw=False,
        )
        return StageSolution(root.value, RESULTS.promote(root.result), convergence)

    def update_cache(self, prepared: PyTree[Any], convergence: None) -> None:
        """Nothing."""


def _residual(k: Vector, stage: Stage) -> tuple[Vector, None]:
    return k - stage.increment(k), None
