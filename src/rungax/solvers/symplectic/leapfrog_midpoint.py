"""The two-step midpoint rule."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ...interpolation import LocalLinearInterpolation
from ...jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Time, Y
from ...results import RESULTS, Result
from ...terms import AbstractTerm
from ..base import AbstractSolver
from ..common.restart import after_jump


class LeapfrogState(eqx.Module):
    """The start of the last step.

    Parameters
    ----------
    t
        The time at which the last step started.
    y
        The solution at that time.
    """

    t: Time
    y: Y


class LeapfrogMidpoint(AbstractSolver[LeapfrogState]):
    r"""The midpoint rule over two steps, also called leapfrog, of order 2.

    $$y_{n+1} = y_{n-1} + f(t_n, y_n)\,(t_{n+1} - t_{n-1})$$

    Reversible: from $y_{n+1}$ and $y_n$ the same formula yields $y_{n-1}$. The first step is Euler's. Its error of
    order 2 is made only once, so that the order of the method remains 2. No error estimate, linear dense output.

    The price is stability: for $y' = \lambda y$ the method is stable only for $\lambda h$ on the imaginary axis between
    $-i$ and $i$. If solutions decay, an oscillation from step to step appears and grows: it is a method for waves.
    Steps should be of constant size, or change slowly.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable. Reverse-mode differentiation stores the start of the last
    step with each step.

    Cost
    ----
    One evaluation a step.

    References
    ----------
    E. Hairer, S. P. Nørsett, G. Wanner, Solving Ordinary Differential Equations I, 2nd ed. (1993), III.1, the midpoint
    rule among Nyström's methods.

    L. F. Shampine, Stability of the leapfrog/midpoint method, Appl. Math. Comput. 208 (2009), 293–298.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> wave = rungax.ODETerm(lambda t, y, args: 1j * y)
    >>> y1 = rungax.diffeqsolve(
    ...     wave, rungax.LeapfrogMidpoint(), 0.0, 1000.0, 0.25, jnp.array(1.0 + 0j)
    ... ).ys[-1]
    >>> print(f"{abs(y1):.1f}")
    1.0
    """

    term_structure: ClassVar[PyTree[Any]] = AbstractTerm
    interpolation_cls = LocalLinearInterpolation
    asks_for_whole_steps: ClassVar[bool] = False

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> LeapfrogState:
        """The start of the solve in place of a last step, which makes the first step Euler's."""
        del terms, t1, args
        return LeapfrogState(jnp.asarray(t0), y0)

    def step(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: LeapfrogState,
        made_jump: BoolScalar,
    ) -> tuple[Y, None, DenseInfo, LeapfrogState, Result]:
        """One step; costs one evaluation. After a jump the step is Euler's."""
        before = after_jump(self, terms, t0, t1, y0, args, solver_state, made_jump)
        increment = terms.vf_prod(t0, y0, args, terms.contr(before.t, t1))
        y1 = jax.tree.map(lambda y, d: y + d, before.y, increment)
        return y1, None, {"y0": y0, "y1": y1}, LeapfrogState(jnp.asarray(t0), y0), RESULTS.successful

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`."""
        return terms.vf(t0, y0, args)

    def order(self, terms: PyTree[Any]) -> int:
        """Two."""
        del terms
        return 2
