r"""Milstein's method for Itô and Stratonovich equations with commutative noise.

With $g_j$ the column of the diffusion for the source of noise $j$, the methods add to Euler–Maruyama

$$\tfrac12 \sum_{jk} (g_j \cdot \nabla) g_k \, (W_j W_k - h \delta_{jk}) \quad\text{(Itô)}, \qquad
\tfrac12 \sum_{jk} (g_j \cdot \nabla) g_k \, W_j W_k \quad\text{(Stratonovich)},$$

which is what the double integrals of the noise amount to if $(g_j \cdot \nabla) g_k = (g_k \cdot \nabla) g_j$. As
$\sum_j g_j W_j = g W$, the Stratonovich term is a single directional derivative, of $g(y) W$ in the direction $g W$.
The Itô term is a sum over the sources,

$$\sum_k \Big(\big(\tfrac12 g\,(W_k W - h e_k)\big) \cdot \nabla\Big) g\,e_k,$$

of one directional derivative each; and a single one where each source moves its own entries of the state.
"""

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Y
from ..results import RESULTS, Result
from ..terms import AbstractTerm
from .base import AbstractItoSolver, AbstractStratonovichSolver, SolverNoise
from .noise_basis import NoiseBasis, acts_elementwise
from .two_term import AbstractTwoTermSolver, add


class AbstractMilstein(AbstractTwoTermSolver):
    """Euler–Maruyama with the derivative of the diffusion."""

    noise: ClassVar[SolverNoise] = "commutative"

    @abc.abstractmethod
    def diffuse(
        self, diffusion: AbstractTerm[Any, Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args
    ) -> tuple[Y, Y]:
        """What the noise adds to the state: the Euler–Maruyama part, and the term with the derivative."""

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
        """One step; costs one evaluation of the drift, one of the diffusion, and directional derivatives of it."""
        del solver_state, made_jump
        drift, diffusion = terms.terms
        drifted = drift.vf_prod(t0, y0, args, drift.contr(t0, t1))
        y1 = add(y0, drifted, *self.diffuse(diffusion, t0, t1, y0, args))
        return y1, None, {"y0": y0, "y1": y1}, None, RESULTS.successful

    def order(self, terms: PyTree[Any]) -> int:
        """Not for ordinary equations.

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
        """One, if the noise commutes."""
        del terms
        return 1


class ItoMilstein(AbstractMilstein, AbstractItoSolver[None]):
    r"""Milstein's method for Itô equations.

    $$y_1 = y_0 + f h + g W + \tfrac12 \sum_{jk} (g_j \cdot \nabla) g_k \, (W_j W_k - h \delta_{jk})$$

    with everything on the right at $t_0, y_0$. For `MultiTerm(drift, diffusion)`. It converges to the Itô solution with
    strong order 1 if the noise is commutative, $(g_j \cdot \nabla) g_k = (g_k \cdot \nabla) g_j$ for all pairs of
    sources: scalar, additive, and diagonal noise $g_j(y_j)$ are. Whether it is cannot be seen from the equation's
    structure and is not checked; for other noise the order is 1/2, that of the cheaper `Euler`. No error estimate,
    linear dense output.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion; from `order`, which is of ordinary equations.

    Differentiability
    -----------------
    Forward and reverse mode, through the derivative of the diffusion. The diffusion itself must be differentiable in
    forward mode, which functions with a `jax.custom_vjp` are not.

    Cost
    ----
    One evaluation of the drift and one of the diffusion a step, and directional derivatives of the diffusion: one for
    diagonal operators and scalar noise, otherwise as many as there are sources, in one batch that holds m times the
    diffusion's m columns in memory.

    References
    ----------
    G. N. Milstein, Approximate integration of stochastic differential equations, Theory Probab. Appl. 19 (1975),
    557–562.

    P. E. Kloeden, E. Platen, Numerical Solution of Stochastic Differential Equations (1992), section 10.3.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.ItoMilstein()
    >>> solver.strong_order(None), solver.noise
    (1, 'commutative')
    """

    def diffuse(
        self, diffusion: AbstractTerm[Any, Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args
    ) -> tuple[Y, Y]:
        """With the expectation of the double integrals taken off; costs one directional derivative for each source."""
        increment = diffusion.contr(t0, t1)
        field = diffusion.vf(t0, y0, args)
        each = _each_source if acts_elementwise(field, increment) else _all_pairs

        def product(y: Y, control: PyTree[Any]) -> Y:
            return diffusion.vf_prod(t0, y, args, control)

        def at_start(control: PyTree[Any]) -> Y:
            return diffusion.prod(field, control)

        return at_start(increment), each(product, at_start, y0, increment, t1 - t0)


class StratonovichMilstein(AbstractMilstein, AbstractStratonovichSolver[None]):
    r"""Milstein's method for Stratonovich equations.

    $$y_1 = y_0 + f h + g W + \tfrac12 \sum_{jk} (g_j \cdot \nabla) g_k \, W_j W_k$$

    with everything on the right at $t_0, y_0$. For `MultiTerm(drift, diffusion)`. It converges to the Stratonovich
    solution with strong order 1 if the noise is commutative, $(g_j \cdot \nabla) g_k = (g_k \cdot \nabla) g_j$ for all
    pairs of sources: scalar, additive, and diagonal noise $g_j(y_j)$ are. Whether it is cannot be seen from the
    equation's structure and is not checked; for other noise the order is 1/2, that of `EulerHeun`. No error estimate,
    linear dense output.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion; from `order`, which is of ordinary equations.

    Differentiability
    -----------------
    Forward and reverse mode, through the derivative of the diffusion. The diffusion itself must be differentiable in
    forward mode, which functions with a `jax.custom_vjp` are not.

    Cost
    ----
    One evaluation of the drift and one of the diffusion a step, and one directional derivative of the diffusion.

    References
    ----------
    P. E. Kloeden, E. Platen, Numerical Solution of Stochastic Differential Equations (1992), section 10.3.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.StratonovichMilstein()
    >>> solver.strong_order(None), solver.noise
    (1, 'commutative')
    """

    def diffuse(
        self, diffusion: AbstractTerm[Any, Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args
    ) -> tuple[Y, Y]:
        """Costs one directional derivative."""
        increment = diffusion.contr(t0, t1)
        diffused, derivative = jax.linearize(lambda y: diffusion.vf_prod(t0, y, args, increment), y0)
        return diffused, jax.tree.map(lambda x: 0.5 * x, derivative(diffused))


def _each_source(product: Any, at_start: Any, y0: Y, increment: PyTree[Any], h: RealScalar) -> Y:
    """The Itô term where sources move entries of their own, all of which one derivative sees at once.

    Were the noise not commutative after all, the term would still be zero in the mean.
    """
    ones = jax.tree.map(jnp.ones_like, increment)
    pairs = jax.tree.map(lambda w: 0.5 * (w * w - jnp.asarray(h).astype(w.dtype)), increment)
    return jax.jvp(lambda y: product(y, pairs), (y0,), (at_start(ones),))[1]


def _all_pairs(product: Any, at_start: Any, y0: Y, increment: PyTree[Any], h: RealScalar) -> Y:
    """The Itô term for any diffusion."""
    basis = NoiseBasis(increment)
    w = basis.coordinates(increment)
    variance = jnp.asarray(h).astype(w.dtype)

    def of_source(unit: jax.Array, w_k: jax.Array) -> Y:
        direction = at_start(basis.increment(0.5 * (w_k * w - variance * unit)))
        return jax.jvp(lambda y: product(y, basis.increment(unit)), (y0,), (direction,))[1]

    return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(of_source)(basis.units(), w))
