r"""The base class of symplectic methods, for two equations each of which depends on the unknown of the other.

$$\mathrm{d}v = f(t, w)\,\mathrm{d}t, \qquad \mathrm{d}w = g(t, v)\,\mathrm{d}t$$

Hamilton's equations for $H(v, w) = T(v) + V(w)$ have this form: $f = -\nabla V$ is the force and $g = \nabla T$ the
velocity. A *kick* changes `v` only, a *drift* changes `w` only. Each is the exact flow of one part, so that every
composition of kicks and drifts is symplectic. With steps of constant size such a method conserves a Hamiltonian close
to the given one, and the error of the energy remains bounded for exponentially long times.

A kick advances the time of `v` and a drift that of `w`; each vector field is evaluated at the time of its argument. So
time is treated as two further components of the state, `v` and `w` having one each. This preserves order and symmetry.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ...jaxkit import Args, RealScalar, Time, Y, inexact_dtype, layout, scaled
from ...terms import AbstractTerm
from ..base import AbstractSolver

type Pair = tuple[Y, Y]
"""`v` and `w`."""


type PairTerms = tuple[AbstractTerm[Any, Any], AbstractTerm[Any, Any]]
"""The term of the kicks, a function of `w`, and the term of the drifts, a function of `v`."""


class AbstractSymplectic[SolverState](AbstractSolver[SolverState]):
    """A solver for a pair of terms `(f, g)` and a state `(v, w)`: `f` depends on `w` and changes `v`, `g` vice versa.

    Both parts of the state are pytrees with the same structure and shapes, and the same leaves are complex.
    """

    term_structure: ClassVar[PyTree[Any]] = (AbstractTerm, AbstractTerm)

    def trace_terms(self, terms: PairTerms, t0: Time, y0: Pair, args: Args) -> PairTerms:
        """Both terms, each traced once for the part of the state that it depends on.

        Raises
        ------
        ValueError
            If the state is not a pair, or the value of a vector field does not have the structure of the part that it
            changes.
        """
        check_pair(y0)
        (f, g), (v, w) = terms, y0
        return f.trace_once(t0, w, args), g.trace_once(t0, v, args)

    def func(self, terms: PairTerms, t0: RealScalar, y0: Pair, args: Args) -> Pair:
        """Both vector fields, `(f(t0, w), g(t0, v))`."""
        (f, g), (v, w) = terms, y0
        return f.vf(t0, w, args), g.vf(t0, v, args)


def add_scaled(y: Y, weight: RealScalar, increment: Y) -> Y:
    """`y + weight * increment` in the dtypes of `y`, or in floats where those are of integers."""
    return jax.tree.map(lambda y, d: y + scaled(weight, d.astype(inexact_dtype(y))), y, increment)


def check_pair(y0: Any) -> None:
    """Raise a `ValueError` unless `y0` is a pair of pytrees with the same structure, shapes and kinds of number."""
    if not isinstance(y0, tuple) or len(y0) != 2:
        raise ValueError(
            "A symplectic method changes two parts of the state in turn.\nExpected: y0 = (v, w), a tuple\n"
            f"Found:    {layout(y0)}\nPut velocities first, then positions."
        )
    trees, leaves = [jax.tree.structure(part) for part in y0], [jax.tree.leaves(part) for part in y0]
    kinds = [[(jnp.shape(leaf), jnp.iscomplexobj(leaf)) for leaf in part] for part in leaves]
    if trees[0] != trees[1] or kinds[0] != kinds[1]:
        raise ValueError(
            "The two parts of the state `y0 = (v, w)` of a symplectic method must have the same structure.\n"
            f"Expected (like v): {layout(y0[0])}\nFound (w):         {layout(y0[1])}\n"
            "Use the same containers, shapes and kind of number, real or complex, in both."
        )
