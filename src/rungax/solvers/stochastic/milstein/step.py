r"""The step of Milstein's methods for Itô and Stratonovich equations with commutative noise.

With $g_j$ the column of the diffusion for the source of noise $j$, the methods add to Euler–Maruyama

$$\tfrac12 \sum_{jk} (g_j \cdot \nabla) g_k \, (W_j W_k - h \delta_{jk}) \quad\text{(Itô)}, \qquad
\tfrac12 \sum_{jk} (g_j \cdot \nabla) g_k \, W_j W_k \quad\text{(Stratonovich)},$$

the double integrals of the noise if $(g_j \cdot \nabla) g_k = (g_k \cdot \nabla) g_j$. Since $\sum_j g_j W_j = g W$,
the Stratonovich term is a single directional derivative, of $g(y) W$ in the direction $g W$. The Itô term is a sum over
the sources,

$$\sum_k \Big(\big(\tfrac12 g\,(W_k W - h e_k)\big) \cdot \nabla\Big) g\,e_k,$$

with a directional derivative for each. A single one is enough if each source drives entries of the state of its own.
"""

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ....jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Y, add, cast_like
from ....results import RESULTS, Result
from ....terms import AbstractTerm
from ...facts import SolverNoise
from ..base import AbstractTwoTermSolver
from ..noise_basis import NoiseBasis


class AbstractMilstein(AbstractTwoTermSolver):
    """Euler–Maruyama with the derivative of the diffusion."""

    noise: ClassVar[SolverNoise] = "commutative"

    @abc.abstractmethod
    def diffuse(
        self, diffusion: AbstractTerm[Any, Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args
    ) -> tuple[Y, Y]:
        """The contributions of the noise to the state: the Euler–Maruyama part, and the term with the derivative."""

    def step(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: None,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, None, Result]:
        """One step; costs one evaluation of each field, and directional derivatives of the diffusion."""
        del solver_state, made_jump
        drift, diffusion = terms.terms
        y0 = cast_like(y0, y0)  # floats, of which there is a derivative
        drifted = drift.vf_prod(t0, y0, args, drift.contr(t0, t1))
        y1 = add(y0, drifted, *self.diffuse(diffusion, t0, t1, y0, args))
        return y1, None, {"y0": y0, "y1": y1}, None, RESULTS.successful

    def order(self, terms: PyTree[Any]) -> int:
        """No order: the method is not for ordinary equations.

        Raises
        ------
        ValueError
            Always.
        """
        del terms
        raise ValueError(
            f"`{type(self).__name__}` is a method for stochastic equations and has no order for ordinary ones.\n"
            "Expected: terms with a Brownian path\nFound:    terms without one\nUse `Heun`, for example."
        )

    def strong_order(self, terms: PyTree[Any]) -> RealScalar:
        """One, if the noise is commutative."""
        del terms
        return 1


def each_source(product: Any, at_start: Any, y0: Y, increment: PyTree[Any], h: RealScalar) -> Y:
    """The Itô term if each source drives entries of the state of its own: one derivative for all sources.

    The mean of the term is zero even if the noise is not commutative.
    """
    ones = jax.tree.map(jnp.ones_like, increment)
    pairs = jax.tree.map(lambda w: 0.5 * (w * w - jnp.asarray(h).astype(w.dtype)), increment)
    return jax.jvp(lambda y: product(y, pairs), (y0,), (at_start(ones),))[1]


def all_pairs(product: Any, at_start: Any, y0: Y, increment: PyTree[Any], h: RealScalar) -> Y:
    """The Itô term for any diffusion."""
    basis = NoiseBasis(increment)
    w = basis.coordinates(increment)
    variance = jnp.asarray(h).astype(w.dtype)

    def of_source(unit: jax.Array, w_k: jax.Array) -> Y:
        direction = at_start(basis.increment(0.5 * (w_k * w - variance * unit)))
        return jax.jvp(lambda y: product(y, basis.increment(unit)), (y0,), (direction,))[1]

    return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(of_source)(basis.units(), w))
