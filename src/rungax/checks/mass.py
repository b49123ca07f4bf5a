"""Checks of mass matrices: their shapes, and whether the solver takes such ones."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import Args, Condition, FlatSpace, Time, Y, is_traced
from ..nonlinear import holomorphic_tag, is_regular, mass_operator
from ..solvers import AbstractSolver
from ..terms import Terms, has_mass, is_term, leaf_terms
from .names import name_of

_MOST_FOR_RANK = 1000
"""Number of entries of the state up to which the rank of a known matrix is computed on the host."""


def check_mass(terms: Terms, solver: AbstractSolver[Any], t0: Time, y0: Y, args: Args) -> None:
    """Raise a `ValueError` unless the solver takes the mass matrix of traced terms, if there is one."""
    if not has_mass(terms):
        return
    if not is_term(terms) or terms.parts:
        raise ValueError(
            "`ODETerm(mass=...)` is the mass matrix of a whole equation.\n"
            "Expected: a single `ODETerm`, without noise and without other terms\n"
            f"Found:    {_classes(terms)}\nAdd the vector fields inside one function, or multiply the equation by the"
            " inverse of the mass matrix."
        )
    term, supported = terms, solver.facts.mass_matrices
    if term.mass_kind == "variable" and supported != "variable":
        raise _not_supported(solver, "depends on time and state", "a function of (t, y, args)", _OF_VARIABLE)
    space = FlatSpace(y0, holomorphic_tag in term.jacobian_tags)
    jax.eval_shape(lambda t, y: mass_operator(term.mass_at(t, y, args), space).mv(space.ravel(y)), t0, y0)


def regular_mass(terms: PyTree[Any], solver: AbstractSolver[Any], y0: Y) -> Iterator[Condition]:
    """The condition that a constant mass matrix is regular, for solvers that need a regular one."""
    if not is_term(terms) or terms.mass_kind != "constant" or solver.facts.mass_matrices != "regular":
        return
    mass = terms.mass_at(0.0, y0, None)

    def holds() -> Any:
        if is_traced(mass):
            return jnp.asarray(True)  # the result of the solve says it
        with jax.ensure_compile_time_eval():
            operator = mass_operator(mass, FlatSpace(y0, holomorphic_tag in terms.jacobian_tags))
            return operator.in_size() > _MOST_FOR_RANK or is_regular(operator)

    yield Condition(mass, holds, *_message(solver, "is singular", "a singular matrix", _OF_SINGULAR))


_OF_SINGULAR = "Rodas5P, Rodas4, Kvaerno5, TRBDF2, ImplicitEuler or BDF, or `None`, which chooses"
_OF_VARIABLE = "BDF, Kvaerno5, Kvaerno4, Kvaerno3, TRBDF2 or ImplicitEuler, or `None`, which chooses"
_FIX = "Methods for stiff equations solve algebraic equations with the differential ones."


def _message(solver: AbstractSolver[Any], what: str, found: str, others: str) -> tuple[str, Any]:
    claim = f"`{name_of(solver)}` cannot solve an equation whose mass matrix {what}."
    return claim, lambda: f"\nExpected: one of {others}\nFound:    {name_of(solver)}, and {found}\n{_FIX}"


def _not_supported(solver: AbstractSolver[Any], what: str, found: str, others: str) -> ValueError:
    claim, rest = _message(solver, what, found, others)
    return ValueError(claim + rest())


def _classes(terms: PyTree[Any]) -> str:
    names = [type(term.unwrapped).__name__ for term in leaf_terms(terms)]
    return f"{len(names)} term{'s' if len(names) > 1 else ' in a pytree'}: {', '.join(names)}"
