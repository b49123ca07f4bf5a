r"""Explicit Runge–Kutta methods.

$$k_i = f\Big(t_0 + c_i h,\; y_0 + \sum_{j<i} a_{ij} k_j\Big) \cdot h, \qquad y_1 = y_0 + \sum_i b_i k_i$$

Here and in the code a stage `k` is already multiplied by the increment of the driver (`h` for an ODE), so that one
implementation serves ordinary, controlled and Stratonovich equations.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax import lax
from jaxtyping import PyTree

from ....jaxkit import (
    Args,
    BoolScalar,
    DenseInfo,
    FlatSpace,
    RealScalar,
    Y,
    accumulation,
    cast_like,
    combination,
    match_varying,
    optimization_barrier,
    scaled,
)
from ....results import RESULTS, Result
from ....step import Step
from ....terms import AbstractTerm
from ...common.completed import completed
from ...common.restart import after_jump
from ...common.stage_loop import StepInputs, are_unrolled
from ...common.stage_vectors import stacked, unstacked
from ...facts import fact, has_time_past_end
from ...tableaus.types.butcher import ButcherTableau, ContinuousExtension
from .base import AbstractExplicitRK, ERKState


class AbstractERK(AbstractExplicitRK):
    """An explicit Runge–Kutta method, given by its coefficients.

    Subclass it for a method of your own: define `tableau`, `interpolation_cls` and `order`. `interpolation_cls`
    receives `y0`, `y1` and the stages `k` (times the step, stacked along the first axis of each leaf). If the last
    stage is the slope at the end of the step, as in methods whose last stage is the next step's first, it may be
    `ThirdOrderHermitePolynomialInterpolation.from_k`. A straight line, `LocalLinearInterpolation.from_k`, is right for
    any method. With an `extension`, `k` is a tuple of the stages followed by the stages of the extension, which are
    evaluated only for steps inside which the solution is evaluated.

    Cost
    ----
    One evaluation of the vector field for each stage, one less for methods whose last stage is the next step's first
    (`tableau.fsal`). Dense output inside a step takes one more for each stage of `extension`.

    Examples
    --------
    >>> import rungax
    >>> class Heun3(rungax.AbstractERK):
    ...     tableau = rungax.ButcherTableau(
    ...         c=[1 / 3, 2 / 3],
    ...         a_lower=[[1 / 3], [0, 2 / 3]],
    ...         b_sol=[1 / 4, 0, 3 / 4],
    ...         b_error=[-1 / 4, 1 / 2, -1 / 4],
    ...     )
    ...     interpolation_cls = rungax.LocalLinearInterpolation.from_k
    ...
    ...     def order(self, terms):
    ...         return 3
    """

    term_structure: ClassVar[PyTree[Any]] = AbstractTerm
    tableau: ClassVar[ButcherTableau]
    evaluates_past_steps: ClassVar[bool] = fact(lambda cls: has_time_past_end(cls.tableau.c))
    extension: ClassVar[ContinuousExtension | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        tableau = getattr(cls, "tableau", None)
        if cls.step is AbstractERK.step and tableau is not None and tableau.implicit:
            raise ValueError(
                f"`{cls.__name__}.tableau` is that of an implicit method, and the class is for explicit ones.\n"
                "Expected: a tableau without `a_diagonal`\nFound:    one with `a_diagonal`\n"
                "Subclass `AbstractRungeKutta`, which makes the step that suits the tableau."
            )

    def attempt(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: ERKState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, ERKState, Result]:
        """The step without the stages of the extension.

        It costs `num_stages` evaluations, one less if the last stage is the next step's first.
        """
        tableau = self.tableau
        solver_state = after_jump(self, terms, t0, t1, y0, args, solver_state, made_jump)
        first = solver_state if tableau.fsal else terms.vf(t0, y0, args)
        inputs = StepInputs(terms, t0, t1, y0, args, terms.contr(t0, t1))
        stages = _evaluate(inputs, [terms.prod(first, inputs.control)], tableau.c, tableau.a_lower)
        y1 = stages.last_y if tableau.ssal else combination(tableau.b_sol, stages.ks, y0)
        y_error = None if tableau.b_error is None else combination(tableau.b_error, stages.ks)
        # An extension takes the stages one by one, which is faster; the classes of users receive them stacked.
        k = stacked(stages.ks) if self.extension is None else tuple(stages.ks)
        dense_info = {"y0": y0, "y1": y1, "k": k}
        return y1, y_error, dense_info, stages.last_vf if tableau.fsal else None, RESULTS.successful

    def densify(self, step: Step) -> DenseInfo:
        """The step's `dense_info` with the stages of the extension, if it has any; costs one evaluation each."""
        # Without the barrier XLA may compute `y1` twice, and round it here in another way than where it is saved.
        info = {**step.dense_info, "y1": optimization_barrier(step.y1)}
        if self.extension is None or not self.extension.a_lower:
            return info
        terms, t0, t1 = step.terms, step.t0, step.t1
        inputs = StepInputs(terms, t0, t1, step.y0, step.args, terms.contr(t0, t1))
        stages = _evaluate(
            inputs, list(step.dense_info["k"][: self.tableau.num_stages]), self.extension.c, self.extension.a_lower
        )
        return {**info, "k": tuple(stages.ks)}

    step = completed(attempt, densify)

    def stiffness(self, step: Step, norm: Callable[[Y], RealScalar] | None = None) -> RealScalar | None:
        """The difference of the last two stages' slopes divided by that of their arguments.

        Parameters
        ----------
        step
            The record of the step.
        norm
            The norm of both differences, by default the two-norm.

        References
        ----------
        E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.2, equation 2.18.
        """
        if self.tableau.num_stages < 2:
            return None
        k = step.dense_info["k"]
        ks = unstacked(k, self.tableau.num_stages) if self.extension is None else list(k)
        rows = [np.zeros(0), *self.tableau.a_lower][-2:]
        arguments = [combination(row, ks[: len(row)], step.y0) for row in rows]
        norm = _two_norm if norm is None else norm
        slopes = norm(jax.tree.map(jnp.subtract, ks[self.tableau.num_stages - 1], ks[self.tableau.num_stages - 2]))
        scale = scaled(step.t1 - step.t0, jnp.asarray(norm(jax.tree.map(jnp.subtract, *arguments))))
        return jnp.where(scale > 0, slopes / jnp.where(scale > 0, scale, 1.0), 0.0)


def _two_norm(tree: Y) -> jax.Array:
    """The two-norm over all leaves, which may differ in dtype."""
    return jnp.asarray(optx.two_norm(FlatSpace(tree).ravel(tree)))


class _Stages(NamedTuple):
    """The stages computed so far, and the argument and the vector field of the last one."""

    ks: list[Y]
    last_y: Y
    last_vf: Any


def _evaluate(inputs: StepInputs, ks: list[Y], c: np.ndarray, a_lower: tuple[np.ndarray, ...]) -> _Stages:
    """The stages `ks` and those after them, with nodes `c` and coefficients `a_lower`."""
    if not a_lower:
        return _Stages(ks, inputs.y0, None)
    return (_unroll if are_unrolled(inputs.terms) else _scan)(inputs, ks, c, a_lower)


def _unroll(inputs: StepInputs, ks: list[Y], c: np.ndarray, a_lower: tuple[np.ndarray, ...]) -> _Stages:
    """The stages one after another in the program, with their coefficients as constants."""
    ks = list(ks)
    y, vf = inputs.y0, None
    for node, row in zip(c, a_lower, strict=True):
        # The newest stage is added last, so that the processor can add the others while it waits for it. If the
        # argument is the solution itself, small terms are added to each other before the large one instead.
        is_solution = row is a_lower[-1]
        y = optimization_barrier(combination(row, ks, inputs.y0) if is_solution else accumulation(row, ks, inputs.y0))
        vf = inputs.terms.vf(inputs.time(float(node)), y, inputs.args)
        ks.append(optimization_barrier(inputs.terms.prod(vf, inputs.control)))
    return _Stages(ks, y, vf)


def _scan(inputs: StepInputs, ks: list[Y], c: np.ndarray, a_lower: tuple[np.ndarray, ...]) -> _Stages:
    """The stages as one loop, so that the program holds the vector field once."""
    num_known, num_all = len(ks), len(ks) + len(a_lower)
    matrix = np.stack([np.pad(row, (0, num_all - len(row))) for row in a_lower])

    def allocate(*leaves: jax.Array) -> jax.Array:
        return jnp.concatenate([jnp.stack(leaves), jnp.zeros((len(a_lower), *leaves[0].shape), leaves[0].dtype)])

    def stage(carry: tuple[Any, Y, Any], coefficients: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        k, _, _ = carry
        i, node, row = coefficients
        y = jax.tree.map(lambda y0, k: y0 + jnp.tensordot(row.astype(k.dtype), k, axes=1), inputs.y0, k)
        vf = inputs.terms.vf(inputs.time(node), y, inputs.args)
        new = inputs.terms.prod(vf, inputs.control)
        k = jax.tree.map(lambda k, new: lax.dynamic_update_index_in_dim(k, new, i, 0), k, new)
        return (k, y, vf), None

    first_vf = jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda: inputs.terms.vf(inputs.t0, inputs.y0, inputs.args)))
    # As the stages, floats also if a step by hand starts from integers.
    y0 = cast_like(inputs.y0, inputs.y0)
    carry = match_varying((jax.tree.map(allocate, *ks), y0, first_vf), inputs)
    nodes = jnp.asarray(c, jnp.result_type(inputs.t0))
    (k, y, vf), _ = lax.scan(stage, carry, (jnp.arange(num_known, num_all), nodes, jnp.asarray(matrix)))
    return _Stages(unstacked(k, num_all), y, vf)
