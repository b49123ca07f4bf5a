"""The reversible Heun method."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ...interpolation import LocalLinearInterpolation
from ...jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Time, Y
from ...results import RESULTS, Result
from ...terms import AbstractTerm
from ..base import AbstractAdaptiveSolver, AbstractStratonovichSolver
from ..common.restart import after_jump


class ReversibleHeunState(eqx.Module):
    """The solver state of the reversible Heun method.

    Parameters
    ----------
    companion
        The second solution, which starts at the same state as the first.
    field
        The vector field at the companion.
    """

    companion: Y
    field: PyTree[Any]


class ReversibleHeun(AbstractAdaptiveSolver[ReversibleHeunState], AbstractStratonovichSolver[ReversibleHeunState]):
    r"""The reversible Heun method, of order 2, whose steps can be reversed in closed form.

    It computes a second solution, the companion $\hat y$, which starts at the same state:

    $$\hat y_1 = 2 y_0 - \hat y_0 + f(t_0, \hat y_0) h, \qquad
    y_1 = y_0 + \tfrac12 \big(f(t_0, \hat y_0) + f(t_1, \hat y_1)\big) h$$

    From $y_1, \hat y_1$ the same formulas, with $-h$ for $h$ and the times exchanged, yield $y_0, \hat y_0$: see
    `undo`. The price is stability: for $y' = \lambda y$ the method is stable only for $\lambda h$ on the imaginary axis
    between $-i$ and $i$.

    With all drivers' increments for $h$ and their fields for $f$ it solves Stratonovich equations, with strong order
    1/2 for any noise (1 for commutative noise). The embedded estimate is that of Heun's method,
    $\tfrac12 (f(t_1, \hat y_1) - f(t_0, \hat y_0)) h$. Linear dense output.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    One evaluation a step. Reverse-mode differentiation stores the companion of each step too.

    References
    ----------
    P. Kidger, J. Foster, X. Li, T. Lyons, Efficient and accurate gradients for neural SDEs, NeurIPS 34 (2021),
    arXiv:2105.13493, algorithms 1 and 2.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.ReversibleHeun()
    >>> solver.order(None), solver.strong_order(None), solver.interpretations
    (2, 0.5, frozenset({'Stratonovich'}))
    """

    term_structure: ClassVar[PyTree[Any]] = AbstractTerm
    interpolation_cls = LocalLinearInterpolation

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> ReversibleHeunState:
        """The companion at `y0`, and the vector field there; costs one evaluation."""
        del t1
        return ReversibleHeunState(y0, _arrays(terms.vf(t0, y0, args)))

    def step(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: ReversibleHeunState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, ReversibleHeunState, Result]:
        """One step; costs one evaluation. After a jump the companion starts again at `y0`."""
        before = after_jump(self, terms, t0, t1, y0, args, solver_state, made_jump)
        control = terms.contr(t0, t1)
        # A field may be an operator, of which only the arrays can be part of the loop's carry.
        other = eqx.filter(eqx.filter_eval_shape(terms.vf, t0, y0, args), _is_array, inverse=True)
        k0 = terms.prod(eqx.combine(before.field, other), control)
        companion = jax.tree.map(_add_to_difference, y0, before.companion, k0)
        field = terms.vf(t1, companion, args)
        after = ReversibleHeunState(companion, _arrays(field))
        k1 = terms.prod(field, control)
        y1 = jax.tree.map(lambda y, a, b: y + 0.5 * (a + b), y0, k0, k1)
        y_error = jax.tree.map(lambda a, b: 0.5 * (b - a), k0, k1)
        return y1, y_error, {"y0": y0, "y1": y1}, after, RESULTS.successful

    def undo(self, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y1: Y, args: Args, companion: Y) -> tuple[Y, Y]:
        """State and companion at the start of the step from `t0` to `t1`, from those at its end.

        Exact up to rounding. Costs two evaluations.

        Parameters
        ----------
        terms
            The terms of the equation.
        t0, t1
            Ends of the step.
        y1
            The state at `t1`.
        args
            Handed on to the terms.
        companion
            The companion at `t1`.
        """
        control = terms.contr(t0, t1)
        k1 = terms.vf_prod(t1, companion, args, control)
        start = jax.tree.map(lambda y, z, k: _add_to_difference(y, z, -k), y1, companion, k1)
        k0 = terms.vf_prod(t0, start, args, control)
        return jax.tree.map(lambda y, a, b: y - 0.5 * (a + b), y1, k0, k1), start

    def checkpoint_state(self, solver_state: ReversibleHeunState) -> Y:
        """The companion, on which the solution depends; the field can be evaluated again."""
        return solver_state.companion

    def restore(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args, checkpoint: Y) -> ReversibleHeunState:
        """The companion, and the vector field there; costs one evaluation."""
        del y0
        return ReversibleHeunState(checkpoint, _arrays(terms.vf(t0, checkpoint, args)))

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`."""
        return terms.vf(t0, y0, args)

    def order(self, terms: PyTree[Any]) -> int:
        """Two."""
        del terms
        return 2

    def strong_order(self, terms: PyTree[Any]) -> RealScalar:
        """One half, for any noise."""
        del terms
        return 0.5


def _arrays(field: Any) -> Any:
    return eqx.filter(field, _is_array)


def _is_array(x: Any) -> bool:
    return eqx.is_array(x) or isinstance(x, jax.ShapeDtypeStruct)


def _add_to_difference(y: jax.Array, companion: jax.Array, increment: jax.Array) -> jax.Array:
    # The companion stays near the solution, so that their difference is small and exact.
    return jnp.asarray(y) + ((y - companion) + increment)
