"""A Jacobian that tells when it was evaluated, solvers by name, and a solve that leaves all steps to Newton."""

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
"""One stage, many with one factorisation, many with one each and an explicit term."""

EVERY_IMPLICIT = [
    pytest.param(solver, id=solver.__name__, marks=() if solver in KINDS else pytest.mark.slow) for solver in IMPLICIT
]
"""Every solver with implicit stages, those that only repeat a kind marked as slow."""


def terms_for(solver: type[Any], term: rungax.ODETerm) -> Any:
    """`term` for the solver: the implicit one, beside an explicit one that is zero where it takes two."""
    if solver not in SPLIT:
        return term
    return rungax.MultiTerm(rungax.ODETerm(lambda t, y, args: jax.tree.map(jnp.zeros_like, y)), term)


class LoggedJacobian:
    """A `jacobian` that keeps the times at which it ran."""

    def __init__(self, jacobian: Callable[..., Any]):
        self.jacobian = jacobian
        self._times: list[float] = []

    @property
    def times(self) -> list[float]:
        """In the order of time."""
        jax.effects_barrier()
        return sorted(self._times)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        jax.debug.callback(lambda t: self._times.append(float(t)), t)
        return self.jacobian(t, y, args)


def undemanding(**options: Any) -> rungax.PIDController:
    """Error control that keeps every step whose equations are solved, and makes the next one as long as it may be."""
    return rungax.PIDController(rtol=1e9, atol=1e9, **options)


def strict_chord() -> rungax.VeryChord:
    """The root finder to go with it, which must not have such tolerances."""
    return rungax.VeryChord(rtol=1e-8, atol=1e-8)
