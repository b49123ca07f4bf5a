"""One equation for every solver, that it solves on fixed steps in either direction of time.

The state is that of a driven pendulum. Solvers for pairs get its two equations apart, solvers for noise get additive
noise, for which the interpretations of Itô and of Stratonovich agree.
"""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

import rungax

from ..catalogue import LANGEVIN, STOCHASTIC, SYMPLECTIC, terms_for
from ..problems.fields import pendulum


def driven(t: Any, y: Any, args: Any) -> Any:
    """The pendulum with another phase: if its push were even in time, a wrong sign of time would not show."""
    return pendulum(t + 1, y, args)


START: Any = np.array([1.0, 0.5])
STEPS = 16


def terms_of(solver: rungax.AbstractSolver[Any], dtype: Any) -> Any:
    """The terms for a solver and a state of a dtype; they take `ARGS` as arguments."""
    if solver in SYMPLECTIC:
        return rungax.ODETerm(_angle_rate), rungax.ODETerm(_speed_rate)
    if solver in LANGEVIN:
        force = lambda x, args: args["stiffness"].astype(x.dtype) * jnp.sin(x)
        drift = rungax.UnderdampedLangevinDriftTerm(0.5, 0.7, force)
        return rungax.MultiTerm(drift, rungax.UnderdampedLangevinDiffusionTerm(0.5, 0.7, _noise(solver, (1,), dtype)))
    if solver in STOCHASTIC:
        noise = rungax.ControlTerm(_additive, _noise(solver, (2,), dtype))
        return rungax.MultiTerm(rungax.ODETerm(driven), noise)
    return terms_for(solver, driven)


def start_of(solver: rungax.AbstractSolver[Any]) -> Any:
    """The initial state for a solver."""
    return (START[:1], START[1:]) if solver in SYMPLECTIC + LANGEVIN else START


def solve(
    solver: rungax.AbstractSolver[Any], y0: Any, args: Any, t0: Any, t1: Any, steps: int = STEPS, **options: Any
) -> rungax.Solution:
    """A solve with that many steps, without error control."""
    terms = terms_of(solver, jax.tree.leaves(y0)[0].dtype)
    call = {"dt0": (t1 - t0) / steps, "max_steps": steps, "throw": False, **options}
    return rungax.diffeqsolve(terms, solver, t0, t1, y0=y0, args=args, **call)


def _angle_rate(t: Any, speed: Any, args: Any) -> Any:
    return speed * (1 + args["damping"].astype(speed.dtype) * speed**2)


def _speed_rate(t: Any, angle: Any, args: Any) -> Any:
    stiffness, push = (args[name].astype(angle.dtype) for name in ("stiffness", "push"))
    return push * jnp.cos(jnp.asarray(t) + 1).astype(angle.dtype) - stiffness * jnp.sin(angle)


def _additive(t: Any, y: Any, args: Any) -> Any:
    return lx.DiagonalLinearOperator(jnp.asarray([0.2, 0.3], y.dtype) * args["push"].astype(y.dtype))


def _noise(solver: rungax.AbstractSolver[Any], shape: tuple[int, ...], dtype: Any) -> rungax.VirtualBrownianTree:
    kinds = (rungax.SpaceTimeTimeLevyArea, rungax.SpaceTimeLevyArea, rungax.BrownianIncrement)
    needed = solver.minimal_levy_area
    (levy_area, *_) = [kind for kind in reversed(kinds) if issubclass(kind, needed)]
    leaf = jax.ShapeDtypeStruct(shape, dtype)
    return rungax.VirtualBrownianTree(-1.0, 2.0, 2.0**-9, leaf, jax.random.key(11), levy_area=levy_area)
