r"""Solutions with the factors of a nearby matrix, improved until the last correction is a rounding error.

$$x_0 = \tilde A^{-1} b, \qquad x_{k+1} = x_k + \tilde A^{-1} (b - A x_k).$$

The iteration converges for matrices with $\lVert \tilde A^{-1} (\tilde A - A) \rVert < 1$. It serves the derivative of
a stage, whose matrix differs from that of the stage's iteration by the change of the Jacobian within the step.

References
----------
N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. (2002), chapter 12.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from ..jaxkit import any_element, match_varying
from .jacobian import Vector
from .linear import AbstractLinearAlgebra, LinearSystem, transposable_solve
from .sparse_lu import SparseLU

SLOW_RATE = 0.1
"""Rate of convergence above which another factorisation costs less than the iteration."""

STAGNANT = 1e3
"""The size of the last correction, in roundings of the solution, up to which an iteration that stagnates has ended.

Corrections do not become smaller than the rounding errors of a solution, which grow with the matrix's condition.
"""

type Solution = Callable[[Vector], Vector]
"""The solution of a linear system for a right-hand side."""


@singledispatch
def refinement_pays(solver: Any) -> bool:
    """True if a factorisation of the linear solver costs more than several solutions with one."""
    del solver
    return False


@refinement_pays.register(SparseLU)
def _(solver: Any) -> bool:
    del solver
    return True


def solve_tangent_near(
    algebra: AbstractLinearAlgebra, system: LinearSystem, b: Vector, factors: PyTree[Array]
) -> Vector:
    """`solve_tangent` by the factors of a nearby matrix, or by the system's own if the iteration converges slowly."""
    return transposable_solve(algebra, system, b, [factors, None], refined)


def refined(product: Solution, b: Vector, near: Solution, own: Solution) -> Vector:
    """The solution of $A x = b$.

    Parameters
    ----------
    product
        The matrix times a vector.
    b
        The right-hand side.
    near
        The solution for a nearby matrix.
    own
        The solution for the matrix itself, used where the iteration does not converge fast.
    """

    def improve(now: Refinement) -> Refinement:
        return now.after(near(b - product(now.x)))

    x = near(b)
    size = _size(x)
    first = match_varying(Refinement(x, size, jnp.zeros_like(size), size == 0), (x, b))
    last = lax.while_loop(lambda now: any_element(now.is_running), improve, first)
    return lax.cond(any_element(~last.has_ended), lambda: jnp.where(last.has_ended, last.x, own(b)), lambda: last.x)


class Refinement(NamedTuple):
    """The progress: the solution, the size of the last correction, the rate, and whether the iteration has ended."""

    x: Vector
    size: Array
    rate: Array
    has_ended: Array

    @property
    def is_running(self) -> Array:
        """True if the iteration goes on: it has not ended, and converges fast."""
        return ~self.has_ended & (self.rate <= SLOW_RATE)

    def after(self, correction: Vector) -> "Refinement":
        """The progress after a correction; that of an iteration that has ended does not change."""
        x, size = self.x + correction, _size(correction)
        rate = size / jnp.where(self.size == 0, 1.0, self.size)
        rounding = float(jnp.finfo(x.dtype).eps) * _size(x)
        has_ended = (size <= rounding) | ((rate > SLOW_RATE) & (size <= STAGNANT * rounding))
        running = self.is_running
        following = Refinement(x, size, rate, has_ended)
        return Refinement(*(jnp.where(running, new, old) for new, old in zip(following, self, strict=True)))


def _size(vector: Vector) -> Array:
    return jnp.max(jnp.abs(vector), initial=0.0)
