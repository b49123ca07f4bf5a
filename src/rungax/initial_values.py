"""`consistent_initial_values`: initial values that fulfil the algebraic equations of an equation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from . import checks
from .jaxkit import Args, RealScalar, Y, compiled, raise_where, strong, time_dtype
from .report.leaves import largest_entries
from .results import RESULTS, Result, SolveError, code_of, is_successful, messages_by_code, name_of_code
from .solvers import BDF
from .solvers.common.mass_terms import prepared
from .terms import AbstractTerm


def consistent_initial_values(terms: PyTree[AbstractTerm[Any, Any]], t0: RealScalar, y0: Y, args: Args = None) -> Y:
    r"""The initial values of an equation with a mass matrix, with their algebraic part changed to fulfil its equations.

    $$M (y - y_0) = 0, \qquad W^\top f(t_0, y) = 0$$

    The columns of $W$ are a basis of the left null space of the mass matrix $M$. For a diagonal $M$, the entries of
    `y0` with a diagonal entry other than zero stay as they are, and the others are solved for, from `y0` on. A solve
    does the same before its first step, to its own tolerances.

    Parameters
    ----------
    terms
        An `ODETerm` with a `mass`.
    t0
        The initial time.
    y0
        The initial state; its algebraic part is the first guess.
    args
        Handed on to the vector field.

    Returns
    -------
    PyTree
        The state, like `y0`, to almost all digits. Without algebraic equations, or if they hold already, `y0` itself.

    Raises
    ------
    ValueError
        If the terms have no such form, as in a solve.
    SolveError
        If no such state is found near `y0`, or if the equations do not determine the algebraic part: their index is
        higher than one.

    Differentiability
    -----------------
    In every mode with respect to `t0`, `args`, parameters inside the terms, and the differential part of `y0`, by the
    implicit function theorem. The first guess has no derivative.

    Cost
    ----
    One Jacobian and one factorisation for each iteration of Newton's method, of which there are mostly three to six.

    References
    ----------
    P. Deuflhard, Newton Methods for Nonlinear Problems (2004), 3.3.

    Examples
    --------
    The two variables of `x' = -z`, `0 = z**3 + z - x`:

    >>> import jax.numpy as jnp
    >>> import rungax
    >>> def field(t, y, args):
    ...     x, z = y
    ...     return jnp.stack([-z, z**3 + z - x])
    >>> term = rungax.ODETerm(field, mass=jnp.array([1.0, 0.0]))
    >>> print(rungax.consistent_initial_values(term, 0.0, jnp.array([2.0, 0.3])))
    [2. 1.]
    """
    y, result, residuals = _made_consistent(checks.as_terms(terms), t0, y0, args)
    failed = jnp.logical_not(is_successful(result))
    return raise_where(y, failed, (code_of(result), residuals), _error)


def _error(failed: np.ndarray, values: tuple[np.ndarray, PyTree[np.ndarray]]) -> SolveError:
    """The error for the first batch element that has failed."""
    code, residuals = jax.tree.map(lambda x: np.asarray(x)[failed][0], values)
    name = name_of_code(int(code))
    worst = largest_entries("y0", residuals)
    return SolveError(
        f"`consistent_initial_values` found none: `RESULTS.{name}`: {messages_by_code()[int(code)]}\n"
        f"The algebraic equations with the largest residuals, by their places: {worst or 'none'}.\n"
        "Give a `y0` nearer to a solution of them."
    )


@compiled
def _made_consistent(terms: Any, t0: RealScalar, y0: Y, args: Args) -> tuple[Y, Result, Y]:
    """The consistent state, the reason if there is none, and the largest residuals."""
    solver, t = BDF(), jnp.asarray(t0, time_dtype(t0))
    y = jax.tree.map(lambda x: strong(x, t.dtype), y0)
    checks.check_terms(terms, solver, t, y, args)
    terms = terms.trace_once(t, y, args)
    checks.check_mass(terms, solver, t, y, args)
    constraints = prepared(terms, solver, t, y, args, None).constraints
    if constraints is None:
        return y, RESULTS.successful, jax.tree.map(jnp.zeros_like, y)
    found, result = constraints.found(t, y)
    return found, result, constraints.worst_residuals(t, found)
