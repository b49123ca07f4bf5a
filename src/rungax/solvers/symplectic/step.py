r"""Symplectic methods for equations in two parts, each of which moves by what the other is.

$$\mathrm{d}v = f(t, w)\,\mathrm{d}t, \qquad \mathrm{d}w = g(t, v)\,\mathrm{d}t$$

Such are Hamilton's equations where $H(v, w) = T(v) + V(w)$: then $f = -\nabla V$ is the force and $g = \nabla T$ the
velocity. A *kick* changes `v` and leaves `w`, a *drift* changes `w` and leaves `v`. Each is the exact flow of one part,
so that every method made of kicks and drifts alone is symplectic, and its error is that of a Hamiltonian near the given
one, which it conserves: the energy errs by a bounded amount for exponentially long times. This holds for steps of one
size.

Kicks move the time of `v` and drifts that of `w`; each vector field is shown the time of its own argument. That makes
an equation with time in it one without, of two more components, and so keeps order and symmetry.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ...jaxkit import (
    Args,
    RealScalar,
    Time,
    Y,
    scaled,
)
from ...terms import AbstractTerm
from ..base import AbstractSolver

type Pair = tuple[Y, Y]
"""`v` and `w`."""


type PairTerms = tuple[AbstractTerm[Any, Any], AbstractTerm[Any, Any]]
"""What kicks `v`, seeing `w`, and what makes `w` drift, seeing `v`."""


class AbstractSymplectic[SolverState](AbstractSolver[SolverState]):
    """A solver for a pair of terms `(f, g)` and a state `(v, w)`, where `f` sees `w` and moves `v`, and `g` sees `v`.

    The two parts of the state are pytrees alike in structure, in shapes, and in which leaves are complex.
    """

    term_structure: ClassVar[PyTree[Any]] = (AbstractTerm, AbstractTerm)

    def trace_terms(self, terms: PairTerms, t0: Time, y0: Pair, args: Args) -> PairTerms:
        """Each term, traced once for the part of the state that it sees.

        Raises
        ------
        ValueError
            If the state is no pair, or a vector field's value does not fit the part that it moves.
        """
        check_pair(y0)
        (f, g), (v, w) = terms, y0
        return f.trace_once(t0, w, args), g.trace_once(t0, v, args)

    def func(self, terms: PairTerms, t0: RealScalar, y0: Pair, args: Args) -> Pair:
        """Both vector fields, `(f(t0, w), g(t0, v))`."""
        (f, g), (v, w) = terms, y0
        return f.vf(t0, w, args), g.vf(t0, v, args)


def moved(y: Y, weight: RealScalar, increment: Y) -> Y:
    """`y + weight * increment` in the dtypes of `y`."""
    return jax.tree.map(lambda y, d: y + scaled(weight, d.astype(jnp.result_type(y))), y, increment)


def check_pair(y0: Any) -> None:
    """Raise a `ValueError` unless `y0` is a pair of pytrees alike."""
    if not isinstance(y0, tuple) or len(y0) != 2:
        raise ValueError(
            "A symplectic method moves two parts of the state in turn.\nExpected: y0 = (v, w), a tuple\n"
            f"Found:    {type(y0).__name__} {jax.tree.structure(y0)}\nPut velocities first, then positions."
        )
    trees, leaves = [jax.tree.structure(part) for part in y0], [jax.tree.leaves(part) for part in y0]
    kinds = [[(jnp.shape(leaf), jnp.iscomplexobj(leaf)) for leaf in part] for part in leaves]
    if trees[0] != trees[1] or kinds[0] != kinds[1]:
        found = [f"{tree}, {_described(part)}" for tree, part in zip(trees, leaves, strict=True)]
        raise ValueError(
            "The two parts of the state `y0 = (v, w)` of a symplectic method must be alike.\n"
            f"Expected (like v): {found[0]}\nFound (w):         {found[1]}\n"
            "Use the same containers, shapes and kind of number, real or complex, in both."
        )


def _described(leaves: list[Any]) -> str:
    return ", ".join(f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}" for leaf in leaves)
