"""A Jacobian that logs its evaluations, the implicit solvers, and error control that rejects no step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import rungax

IMPLICIT: tuple[type[Any], ...] = (
    rungax.ImplicitEuler,
    rungax.TRBDF2,
    rungax.Kvaerno3,
    rungax.Kvaerno4,
    rungax.Kvaerno5,
    rungax.KenCarp3,
    rungax.KenCarp4,
    rungax.KenCarp5,
    rungax.Sil3,
)
SPLIT = tuple(solver for solver in IMPLICIT if issubclass(solver, rungax.AbstractIMEXRK))
KINDS = (rungax.ImplicitEuler, rungax.Kvaerno5, rungax.Sil3)
"""One stage; many stages with one factorisation; many with one factorisation each, and an explicit term."""

EVERY_IMPLICIT = [
    pytest.param(solver, id=solver.__name__, marks=() if solver in KINDS else pytest.mark.slow) for solver in IMPLICIT
]
"""Every solver with implicit stages; those that repeat one of `KINDS` are marked as slow."""


def terms_for(solver: type[Any], term: rungax.ODETerm) -> Any:
    """`term` for the solver, as the implicit term with an explicit one that is zero if the solver takes two."""
    if solver not in SPLIT:
        return term
    return rungax.MultiTerm(rungax.ODETerm(lambda t, y, args: jax.tree.map(jnp.zeros_like, y)), term)


class LoggedJacobian:
    """A `jacobian` that records the times at which it is evaluated."""

    def __init__(self, jacobian: Callable[..., Any]):
        self.jacobian = jacobian
        self._times: list[float] = []

    @property
    def times(self) -> list[float]:
        """The recorded times, sorted."""
        jax.effects_barrier()
        return sorted(self._times)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        jax.debug.callback(lambda t: self._times.append(float(t)), t)
        return self.jacobian(t, y, args)


def undemanding(**options: Any) -> rungax.PIDController:
    """Error control that accepts every step whose equations are solved, and makes the next one as long as allowed."""
    return rungax.PIDController(rtol=1e9, atol=1e9, **options)


def strict_chord() -> rungax.VeryChord:
    """A root finder for `undemanding`, whose tolerances it must not take."""
    return rungax.VeryChord(rtol=1e-8, atol=1e-8)
