"""Milstein's methods for Itô and for Stratonovich equations."""

from typing import Any

import jax
from jaxtyping import PyTree

from ....jaxkit import Args, RealScalar, Y
from ....terms import AbstractTerm
from ...base import AbstractItoSolver, AbstractStratonovichSolver
from ..noise_basis import acts_elementwise
from .step import AbstractMilstein, all_pairs, each_source


class ItoMilstein(AbstractMilstein, AbstractItoSolver[None]):
    r"""Milstein's method for Itô equations.

    $$y_1 = y_0 + f h + g W + \tfrac12 \sum_{jk} (g_j \cdot \nabla) g_k \, (W_j W_k - h \delta_{jk})$$

    with everything on the right at $t_0, y_0$. For `MultiTerm(drift, diffusion)`. It converges to the Itô solution with
    strong order 1 if the noise is commutative, $(g_j \cdot \nabla) g_k = (g_k \cdot \nabla) g_j$ for all pairs of
    sources: scalar, additive, and diagonal noise $g_j(y_j)$ are. This condition cannot be seen from the equation's
    structure and is not checked; for other noise the order is 1/2, that of the cheaper `Euler`. No error estimate,
    linear dense output.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion; from `order`, which is for ordinary equations.

    Differentiability
    -----------------
    Forward and reverse mode, through the derivative of the diffusion. The diffusion must be differentiable in forward
    mode, which functions with a `jax.custom_vjp` are not.

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
        """The noise of Euler–Maruyama, and the Itô term.

        Costs one evaluation, and one directional derivative for each source or, for elementwise noise, one in all.
        """
        increment = diffusion.contr(t0, t1)
        field = diffusion.vf(t0, y0, args)
        each = each_source if acts_elementwise(field, increment) else all_pairs

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
    pairs of sources: scalar, additive, and diagonal noise $g_j(y_j)$ are. This condition cannot be seen from the
    equation's structure and is not checked; for other noise the order is 1/2, that of `EulerHeun`. No error estimate,
    linear dense output.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion; from `order`, which is for ordinary equations.

    Differentiability
    -----------------
    Forward and reverse mode, through the derivative of the diffusion. The diffusion must be differentiable in forward
    mode, which functions with a `jax.custom_vjp` are not.

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
        """The noise of Euler–Maruyama, and the Stratonovich term.

        Costs one evaluation and one directional derivative.
        """
        increment = diffusion.contr(t0, t1)
        diffused, derivative = jax.linearize(lambda y: diffusion.vf_prod(t0, y, args, increment), y0)
        return diffused, jax.tree.map(lambda x: 0.5 * x, derivative(diffused))
