"""Implicit–explicit Runge–Kutta methods: one term is treated explicitly, the other implicitly."""

from typing import Any, ClassVar

from jaxtyping import PyTree

from ....terms import AbstractTerm, MultiTerm
from ...facts import fact, has_time_past_end
from ...tableaus.types.butcher import MultiButcherTableau
from ..diagonally_implicit.stages import Coefficients
from ..diagonally_implicit.step import AbstractImplicitRK


class AbstractIMEXRK(AbstractImplicitRK):
    """Two Runge–Kutta methods with common stages: an explicit one for the first of two terms, and an implicit one.

    Subclass it for a method of your own: define a `tableau` of the explicit and the implicit coefficients, in this
    order, `calculate_jacobian`, `interpolation_cls` and `order`. `interpolation_cls` receives `y0`, `y1`, and as `k` a
    pair of the explicit and the implicit stages (times the step, stacked along the first axis of each leaf). A
    `dense_tableau`, which is `tableau` with further stages of no weight, adds these to `k` for steps inside which the
    solution is evaluated.

    Parameters
    ----------
    root_finder
        The solver of the stage equations: `VeryChord`, any Optimistix root finder, or
        `with_stepsize_controller_tols(...)` of either, which takes its tolerances from the step size controller. By
        default simplified Newton iteration, `VeryChord`, with the tolerances of the controller.
    root_find_max_steps
        Maximum number of iterations for a stage, at least 2. A stage that needs more has failed, and its step is
        rejected. Most stages take one to three iterations; the default 10 allows for slow convergence.
    linear_solver
        A Lineax solver for the linear systems of the iteration and of the derivatives. By default it is chosen by their
        size and by the structure that the term declares. An iterative one never forms the Jacobian.

    Raises
    ------
    ValueError
        If `root_finder` is none of these, `root_find_max_steps` is not an integer of at least 2, or `linear_solver` is
        neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated. The vector field
    must itself be differentiable in forward mode, which functions with a `jax.custom_vjp` are not.

    Cost
    ----
    One evaluation of the implicit vector field for each iteration of each implicit stage, mostly one to three; one of
    the explicit one for each stage. The Jacobian takes one directional derivative of the field for each column, or for
    each diagonal of a band that `ODETerm(tags=...)` declares. With the default root finder it is used until the
    iteration becomes slow, until steps have doubled, until a jump, and for fifty steps at most; its factorisation until
    the step size has changed by a fifth. Stages with different diagonal coefficients need a factorisation each
    (`CalculateJacobian.every_stage`). Memory: the Jacobian and its factors.

    Examples
    --------
    Euler's two methods, the implicit one for the second term:

    >>> import rungax
    >>> class ForwardBackward(rungax.AbstractIMEXRK):
    ...     tableau = rungax.MultiButcherTableau(
    ...         rungax.ButcherTableau(c=[1.0], b_sol=[1.0, 0.0], b_error=None, a_lower=[[1.0]]),
    ...         rungax.ButcherTableau(
    ...             c=[1.0],
    ...             b_sol=[0.0, 1.0],
    ...             b_error=None,
    ...             a_lower=[[0.0]],
    ...             a_diagonal=[0.0, 1.0],
    ...             a_predictor=[[1.0]],
    ...         ),
    ...     )
    ...     calculate_jacobian = rungax.CalculateJacobian.second_stage
    ...     interpolation_cls = staticmethod(
    ...         lambda *, t0, t1, y0, y1, k: rungax.LocalLinearInterpolation(
    ...             t0=t0, t1=t1, y0=y0, y1=y1
    ...         )
    ...     )
    ...
    ...     def order(self, terms):
    ...         return 1
    """

    term_structure: ClassVar[PyTree[Any]] = MultiTerm[AbstractTerm, AbstractTerm]
    tableau: ClassVar[MultiButcherTableau]
    dense_tableau: ClassVar[MultiButcherTableau | None] = None
    evaluates_past_steps: ClassVar[bool] = fact(lambda cls: any(has_time_past_end(t.c) for t in cls.tableau.tableaus))

    def coefficients(self) -> Coefficients:
        """The coefficients of both tableaus."""
        explicit, implicit = self.tableau.tableaus
        return Coefficients(explicit, implicit, self.calculate_jacobian)

    def dense_coefficients(self) -> Coefficients | None:
        """The coefficients of `dense_tableau`, if there is one."""
        if self.dense_tableau is None:
            return None
        explicit, implicit = self.dense_tableau.tableaus
        return Coefficients(explicit, implicit, self.calculate_jacobian)

    def split(self, terms: PyTree[Any]) -> tuple[AbstractTerm[Any, Any], AbstractTerm[Any, Any]]:
        """The first term, which is explicit, and the second, which is implicit."""
        return terms.terms
