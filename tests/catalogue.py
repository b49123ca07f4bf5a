"""Every solver, controller, adjoint, path, progress meter and way of saving, once.

What to expect of a solver comes from the facts it states. `conformance/` runs over these lists; a test there checks
that nothing public is missing.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax

EXPLICIT: tuple[rungax.AbstractSolver[Any], ...] = (
    rungax.Euler(),
    rungax.Heun(),
    rungax.Midpoint(),
    rungax.Ralston(),
    rungax.RK4(),
    rungax.Bosh3(),
    rungax.Tsit5(),
    rungax.Dopri5(),
    rungax.Dopri8(),
    rungax.Vern6(),
    rungax.Vern7(),
    rungax.Vern8(),
    rungax.Vern9(),
)
IMPLICIT: tuple[rungax.AbstractSolver[Any], ...] = (
    rungax.ImplicitEuler(),
    rungax.TRBDF2(),
    rungax.Kvaerno3(),
    rungax.Kvaerno4(),
    rungax.Kvaerno5(),
)
SPLIT: tuple[rungax.AbstractSolver[Any], ...] = (
    rungax.Sil3(),
    rungax.KenCarp3(),
    rungax.KenCarp4(),
    rungax.KenCarp5(),
)
ROSENBROCK: tuple[rungax.AbstractSolver[Any], ...] = (
    rungax.Rosenbrock23(),
    rungax.ROS3P(),
    rungax.Rodas4(),
    rungax.Rodas5P(),
)
STIFF = IMPLICIT + SPLIT + ROSENBROCK
"""The one-step methods for stiff equations."""
SOLVERS = EXPLICIT + STIFF
"""The one-step methods for ordinary equations that take any field."""
MULTISTEP: tuple[rungax.AbstractSolver[Any], ...] = (rungax.BDF(),)
"""The methods whose steps use the solution at the ends of earlier steps."""

SYMPLECTIC: tuple[rungax.AbstractSolver[Any], ...] = (
    rungax.SemiImplicitEuler(),
    rungax.VelocityVerlet(),
    rungax.Yoshida4(),
    rungax.KahanLi8(),
)
"""The solvers for pairs of equations."""
REVERSIBLE: tuple[rungax.AbstractSolver[Any], ...] = (rungax.LeapfrogMidpoint(), rungax.ReversibleHeun())
WRAPPERS: tuple[rungax.AbstractSolver[Any], ...] = (rungax.HalfSolver(rungax.Heun()), rungax.Auto())
STOCHASTIC: tuple[rungax.AbstractSolver[Any], ...] = (
    rungax.EulerHeun(),
    rungax.ItoMilstein(),
    rungax.StratonovichMilstein(),
    rungax.SRIW1(),
    rungax.DRI1(),
    rungax.SEA(),
    rungax.SRA1(),
    rungax.ShARK(),
    rungax.SPaRK(),
    rungax.GeneralShARK(),
    rungax.SlowRK(),
)
LANGEVIN: tuple[rungax.AbstractSolver[Any], ...] = (rungax.ALIGN(), rungax.ShOULD(), rungax.QUICSORT())
EVERY_SOLVER = SOLVERS + MULTISTEP + SYMPLECTIC + REVERSIBLE + WRAPPERS + STOCHASTIC + LANGEVIN

type Field = Callable[[Any, Any, Any], Any]


def terms_for(solver: rungax.AbstractSolver[Any], field: Field, explicit: float | None = None) -> Any:
    """`field` as the terms that `solver` asks for.

    A solver for two terms gets the part `explicit` of the field as its explicit term and the rest as its implicit one.
    By default that part is another one for every entry, between a quarter and three quarters, so that the terms are no
    multiples of each other and all that couples them matters.
    """
    if not isinstance(solver, rungax.AbstractIMEXRK):
        return rungax.ODETerm(field)
    if explicit == 0:
        return rungax.MultiTerm(rungax.ODETerm(at_rest), rungax.ODETerm(field))
    parts = (partial(_part, field, explicit, is_explicit) for is_explicit in (True, False))
    return rungax.MultiTerm(*(rungax.ODETerm(part) for part in parts))


def terms_around(solver: rungax.AbstractSolver[Any], term: rungax.ODETerm) -> Any:
    """`term` for the solver, as the implicit term beside an explicit one that is zero if the solver takes two."""
    if not isinstance(solver, rungax.AbstractIMEXRK):
        return term
    return rungax.MultiTerm(rungax.ODETerm(at_rest), term)


def at_rest(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, y)


def _part(field: Field, explicit: float | None, is_explicit: bool, t: Any, y: Any, args: Any) -> Any:
    def part(rate: Any) -> Any:
        # The golden ratio spreads the parts evenly, however many there are.
        spread = (np.arange(1, np.size(rate) + 1).reshape(np.shape(rate)) * (np.sqrt(5) - 1) / 2) % 1
        share = 0.25 + 0.5 * spread if explicit is None else np.full(np.shape(rate), explicit)
        return rate * jnp.asarray(share if is_explicit else 1 - share, jnp.result_type(rate))

    return jax.tree.map(part, field(t, y, args))


def is_a(solver: object, *classes: type[Any]) -> bool:
    """True if a solver's own class is one of `classes`, which `isinstance` also says of one around such a solver."""
    return issubclass(type(solver), classes)


def solved_exactly[Solver: rungax.AbstractSolver[Any]](solver: Solver) -> Solver:
    """`solver` with Newton's iteration down to rounding, for what is said of a method and not of its iteration."""
    if not is_a(solver, rungax.AbstractImplicitSolver):
        return solver
    return replace(solver, root_finder=optx.Newton(rtol=1e-9, atol=1e-9), root_find_max_steps=40)


def any_terms(solver: rungax.AbstractSolver[Any]) -> Any:
    """Terms to ask a solver for its orders with."""
    return terms_for(solver, lambda t, y, args: y)


def slow_unless(often: bool) -> list[pytest.MarkDecorator]:
    """The marks of a case that runs with every test run, or with the slow ones only."""
    return [] if often else [pytest.mark.slow]


def name(solver: object) -> str:
    return type(solver).__name__


def order(solver: rungax.AbstractSolver[Any]) -> int:
    stated = solver.order(any_terms(solver))
    assert stated is not None, f"{name(solver)} states no order"
    return stated


def estimates_error(solver: rungax.AbstractSolver[Any]) -> bool:
    """Whether steps come with an estimate; every method for stiff equations here has one."""
    tableau = getattr(solver, "tableau", None)
    return not is_a(solver, rungax.AbstractERK, rungax.Euler) or (tableau is not None and tableau.b_error is not None)


def error_order(solver: rungax.AbstractSolver[Any]) -> float:
    """The order of the local error estimate in the step size."""
    stated = solver.error_order(any_terms(solver))
    assert stated is not None, f"{name(solver)} states no order of its error estimate"
    return float(stated)


def own_interpolant_order(solver: rungax.AbstractSolver[Any]) -> int | None:
    """The order that the paper or the file of a method states for its own dense output, if it has any."""
    match solver:
        case rungax.HalfSolver():
            return None
        case rungax.AbstractERK():
            return None if solver.extension is None else solver.extension.order
        case rungax.AbstractRosenbrock():
            return solver.tableau.interpolant_order
        case rungax.AbstractDIRK() | rungax.AbstractIMEXRK():
            return getattr(type(solver), "method").interpolant_order  # noqa: B009  (only published ones have it)
        case _:
            return None


def dense_order(solver: rungax.AbstractSolver[Any]) -> int:
    """The order q of the dense output, whose local error is of order q + 1.

    A straight line has order one. The cubic through both ends has order three, but errs at the end of the step as much
    as the method does.
    """
    own = own_interpolant_order(solver)
    if own is not None:
        return own
    straight = (rungax.LocalLinearInterpolation, rungax.LocalLinearInterpolation.from_k)
    return 1 if solver.interpolation_cls in straight else min(3, order(solver))


def own_interpolant_weights(solver: rungax.AbstractSolver[Any]) -> np.ndarray | None:
    """The coefficients, stage by power, of an implicit or linearly implicit method's own dense output, if any."""
    match solver:
        case rungax.HalfSolver():
            return None
        case rungax.AbstractRosenbrock():
            return solver.tableau.weights
        case rungax.AbstractDIRK() | rungax.AbstractIMEXRK():
            extension = getattr(type(solver), "method").extension  # noqa: B009
            return None if extension is None else extension.weights
        case _:
            return None


def steps_of_graded(solver: rungax.AbstractSolver[Any], steps: np.ndarray) -> np.ndarray:
    """Those of `steps` from a state that is not zero after which rounding is what `rounding` says.

    Linear systems with the Jacobian of `problems.GRADED` cost a Rosenbrock method digits where steps are long.
    """
    return steps[steps < 0.2] if isinstance(solver, rungax.AbstractRosenbrock) else steps


def rounding(solver: rungax.AbstractSolver[Any]) -> float:
    """A bound on the relative rounding error of a step, which large coefficients of both signs enlarge."""
    return float(np.finfo(float).eps) * (1 + stage_sums(solver, _solution_weights(solver)))


def stage_sums(solver: rungax.AbstractSolver[Any], weights: np.ndarray) -> float:
    """What `weights` make of the stages' own roundings, all of one sign."""
    if isinstance(solver, rungax.AbstractRosenbrock):
        sizes: list[float] = []
        for row in solver.tableau.c:
            sizes.append(solver.tableau.gamma * (1 + float(np.abs(row) @ np.array(sizes))))
        return float(np.abs(weights) @ np.array(sizes))
    rows = [np.abs(row).sum() for row in ([0.0], *_lower_rows(solver))]
    return float(np.abs(weights) @ (1 + np.array(rows[: len(weights)])))


def _lower_rows(solver: rungax.AbstractSolver[Any]) -> tuple[np.ndarray, ...]:
    match solver:
        case rungax.HalfSolver():
            return ()
        case rungax.AbstractERK() | rungax.AbstractDIRK():
            return solver.tableau.a_lower
        case rungax.AbstractIMEXRK():
            tableau = solver.tableau if solver.dense_tableau is None else solver.dense_tableau
            return tuple(np.append(*rows) for rows in zip(*(t.a_lower for t in tableau.tableaus), strict=True))
        case _:
            return ()


def _solution_weights(solver: rungax.AbstractSolver[Any]) -> np.ndarray:
    match solver:
        case rungax.HalfSolver():
            return np.zeros(1)
        case rungax.AbstractERK() | rungax.AbstractDIRK():
            return solver.tableau.b_sol
        case rungax.AbstractIMEXRK():
            return np.abs([t.b_sol for t in solver.tableau.tableaus]).sum(axis=0)
        case rungax.AbstractRosenbrock():
            return np.asarray(solver.tableau.m)
        case _:
            return np.zeros(1)


KINDS = ("Euler", "RK4", "Bosh3", "Dopri8", "Kvaerno3", "KenCarp3", "Rodas4")
"""One solver of each kind: its own class, no estimate, first same as last, further stages for dense output; implicit,
for two terms, linearly implicit.
"""

ONE_OF_A_KIND = [
    pytest.param(solver, id=name(solver), marks=() if name(solver) in KINDS else pytest.mark.slow) for solver in SOLVERS
]
"""Every solver, those that only repeat a kind marked as slow."""

IMPLICIT_KINDS = (rungax.ImplicitEuler, rungax.Kvaerno5, rungax.Sil3)
"""One stage; many stages with one factorisation; many with one factorisation each, and an explicit term."""

EVERY_IMPLICIT = [
    pytest.param(type(solver), id=name(solver), marks=[] if type(solver) in IMPLICIT_KINDS else [pytest.mark.slow])
    for solver in IMPLICIT + SPLIT
]
"""The class of every solver with implicit stages; those that repeat one of `IMPLICIT_KINDS` are marked as slow."""

ADAPTIVE = tuple(filter(estimates_error, SOLVERS))
"""The solvers that step size control works with."""

type Choice = tuple[rungax.AbstractStepSizeController[Any, Any], Any]
"""A controller, and the `dt0` to go with it."""


def constant(t0: Any, t1: Any) -> Choice:
    """Sixteen steps."""
    return rungax.ConstantStepSize(), (t1 - t0) / 16


def step_to(t0: Any, t1: Any) -> Choice:
    """Sixteen steps, each a little longer than the one before."""
    fractions = (np.linspace(0.5, 1.5, 17) ** 2 - 0.25) / 2
    return rungax.StepTo(t0 + (t1 - t0) * jnp.asarray(fractions, jnp.result_type(t0, t1))), None


def pid(t0: Any, t1: Any) -> Choice:
    return rungax.PIDController(rtol=1e-6, atol=1e-8), (t1 - t0) / 16


def pid_from_none(t0: Any, t1: Any) -> Choice:
    """The first step by Hairer's algorithm."""
    return rungax.PIDController(rtol=1e-6, atol=1e-8, pcoeff=0.2, icoeff=0.4), None


def pid_clipped(t0: Any, t1: Any) -> Choice:
    """A time to step to, and one to start anew from."""
    controller, dt0 = pid(t0, t1)
    meet, jump = (t0 + (t1 - t0) * jnp.asarray([part], jnp.result_type(t0, t1)) for part in (0.4, 0.6))
    return rungax.ClipStepSizeController(controller, step_ts=meet, jump_ts=jump), dt0


CONTROLLERS: dict[str, Callable[[Any, Any], Choice]] = {
    "constant": constant,
    "StepTo": step_to,
    "PID": pid,
    "PID, dt0=None": pid_from_none,
    "PID, clipped": pid_clipped,
}

# ------------------------------------------------------------------------------------------------------------- adjoints

ADJOINTS: dict[str, rungax.AbstractAdjoint] = {
    "RecursiveCheckpointAdjoint": rungax.RecursiveCheckpointAdjoint(),
    "DirectAdjoint": rungax.DirectAdjoint(),
    "ForwardMode": rungax.ForwardMode(),
    "BacksolveAdjoint": rungax.BacksolveAdjoint(),
    "ReversibleAdjoint": rungax.ReversibleAdjoint(),
    "ImplicitAdjoint": rungax.ImplicitAdjoint(),
}

# --------------------------------------------------------------------------------------------------------------- saving


def time_and_product(t: Any, y: Any, args: Any) -> Any:
    """A function to save that depends on all that it is given."""
    return {"time": t, "product": jax.tree.map(lambda leaf: t * leaf, y)}


SAVES: dict[str, Callable[[Any], rungax.SaveAt]] = {
    "t0": lambda at: rungax.SaveAt(t0=True),
    "t1": lambda at: rungax.SaveAt(t1=True),
    "ts": lambda at: rungax.SaveAt(ts=at(np.array([0.0, 0.25, 0.25, 0.7, 0.85, 1.0]))),
    "steps": lambda at: rungax.SaveAt(steps=True),
    "every third step": lambda at: rungax.SaveAt(steps=3, t1=True),
    "fn": lambda at: rungax.SaveAt(t0=True, ts=at(np.array([0.4])), steps=True, t1=True, fn=time_and_product),
    "subs": lambda at: rungax.SaveAt(
        subs=(rungax.SubSaveAt(ts=at(np.array([0.55]))), [rungax.SubSaveAt(t1=True, fn=time_and_product)])
    ),
    "dense": lambda at: rungax.SaveAt(dense=True),
    "internals": lambda at: rungax.SaveAt(internals=True),
    "states": lambda at: rungax.SaveAt(t1=True, solver_state=True, controller_state=True, made_jump=True),
}
"""Every way of saving; `at` maps fractions of the interval to times."""

# ---------------------------------------------------------------------------------------------------------------- paths

_KNOTS = np.array([0.0, 0.5, 1.25, 2.0])
_VALUES = {"a": np.array([1.0, -1.0, 4.0, 2.0]), "b": (np.array([[0.0, 1.0], [2.0, 2.0], [3.0, 0.0], [1.0, -1.0]]),)}


def _row(index: int) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x[index]), _VALUES)


def _solved() -> rungax.Solution:
    decay = lambda t, y, args: jax.tree.map(jnp.negative, y)
    saveat = rungax.SaveAt(dense=True)
    return rungax.diffeqsolve(decay, rungax.Tsit5(), 0.0, 2.0, 0.5, _row(0), saveat=saveat, max_steps=8)


class Quartic(rungax.FourthOrderPolynomialInterpolation):
    """An interpolation of order four with some weights for the middle of the step."""

    c_mid = np.array([0.2, 0.3])


INTERPOLATIONS: dict[str, Callable[[], Any]] = {
    "LinearInterpolation": lambda: rungax.LinearInterpolation(_KNOTS, _VALUES),
    "CubicInterpolation": lambda: rungax.CubicInterpolation(
        _KNOTS, rungax.backward_hermite_coefficients(_KNOTS, _VALUES)
    ),
    "DenseInterpolation": lambda: _solved().interpolation,
    "Solution": _solved,
    "LocalLinearInterpolation": lambda: rungax.LocalLinearInterpolation(t0=0.0, t1=2.0, y0=_row(0), y1=_row(1)),
    "ThirdOrderHermitePolynomialInterpolation": lambda: rungax.ThirdOrderHermitePolynomialInterpolation(
        t0=0.0, t1=2.0, y0=_row(0), y1=_row(1), k0=_row(2), k1=_row(3)
    ),
    "FourthOrderPolynomialInterpolation": lambda: Quartic(
        t0=0.0, t1=2.0, y0=_row(0), y1=_row(1), k=jax.tree.map(lambda *x: jnp.stack(x), _row(0), _row(2))
    ),
}
"""Functions of time on [0, 2] that have a derivative, with a pytree of values."""

_SHAPES = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), _VALUES)
NOISES: dict[str, Callable[[], Any]] = {
    "VirtualBrownianTree": lambda: rungax.VirtualBrownianTree(0.0, 2.0, 1e-3, _SHAPES, jax.random.key(5)),
    "UnsafeBrownianPath": lambda: rungax.UnsafeBrownianPath(_SHAPES, jax.random.key(5)),
}
"""Brownian paths with the same pytree of values."""

METERS: dict[str, Callable[[], rungax.AbstractProgressMeter]] = {
    "NoProgressMeter": rungax.NoProgressMeter,
    "TextProgressMeter": rungax.TextProgressMeter,
    "TqdmProgressMeter": rungax.TqdmProgressMeter,
}
