r"""Rößler's stochastic Runge–Kutta methods of weak order 2 for Itô equations with any noise.

With the columns $g_k$ of the diffusion for the sources of noise $k = 1, \dots, m$, and the stages

$$H^0_i = y_0 + \sum_j A^0_{ij} f(H^0_j)\, h + \sum_{jl} B^0_{ij}\, g_l(H^l_j)\, W_l, \qquad
H^k_i = y_0 + \sum_j A^1_{ij} f(H^0_j)\, h + \sum_j B^1_{ij}\, g_k(H^k_j) \sqrt h,$$

$$\hat H^k_i = y_0 + \sum_j \sum_{l \ne k} B^2_{ij}\, g_l(H^l_j)\, \tfrac{I_{(k,l)}}{\sqrt h}$$

the step ends at

$$y_1 = y_0 + \sum_i \alpha_i f(H^0_i)\, h
+ \sum_{ik} g_k(H^k_i) \Big(\beta^1_i W_k + \beta^2_i \tfrac{I_{(k,k)}}{\sqrt h}\Big)
+ \sum_{ik} g_k(\hat H^k_i) \Big(\beta^3_i W_k + \beta^4_i \sqrt h\Big).$$

The random variables need only have the moments of the iterated integrals, up to terms of the third order in the step
size:

- $W_k$: the moments of N(0, h) up to the fifth, so that the increment may replace the paper's three-point variable.
- $I_{(k,k)} = \tfrac12 (W_k^2 - h)$, and for $k < l$, with $\tilde I_k = \pm\sqrt h$ equally likely, independent of all
  $W$: $I_{(k,l)} = \tfrac12 (W_k W_l - \sqrt h \tilde I_k)$ and $I_{(l,k)} = \tfrac12 (W_k W_l + \sqrt h \tilde I_k)$.

The signs of $\tilde I_k$ are those of the path's space-time Lévy areas $H_k$, which are symmetric and independent of
$W$.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ....brownian import AbstractBrownianIncrement, AbstractSpaceTimeLevyArea
from ....jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Y, add, combination, scaled
from ....results import RESULTS, Result
from ....terms import AbstractTerm
from ...base import AbstractItoSolver
from ...common.stage_loop import stage_time
from ...common.stage_vectors import stacked, unstacked
from ...tableaus.types.ito import ItoTableau
from ..base import AbstractTwoTermSolver
from ..noise_basis import NoiseBasis, NoiseVector


class AbstractWeakSRK(AbstractTwoTermSolver, AbstractItoSolver[None]):
    """A method of weak order 2 for any noise, given by its coefficients."""

    tableau: ClassVar[ItoTableau]
    minimal_levy_area: ClassVar[type[AbstractBrownianIncrement]] = AbstractSpaceTimeLevyArea
    safe_with_adaptive_steps: ClassVar[bool] = False

    @property
    def term_compatible_contr_kwargs(self) -> PyTree[Any]:
        """For the second term, its path's Lévy areas."""
        return {}, {"use_levy": True}

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
        """One step; costs three evaluations of the drift and 1 + 4 m of the diffusion."""
        del solver_state, made_jump
        drift, diffusion = terms.terms
        tableau = self.tableau
        increment = diffusion.contr(t0, t1, use_levy=True)
        basis = NoiseBasis(increment.W)
        w, areas = basis.coordinates(increment.W), basis.coordinates(increment.H)
        columns = _Columns(diffusion, t0, t1, args, basis)
        root = jnp.sqrt(jnp.asarray(t1 - t0)).astype(w.dtype)

        first = columns.at(t0, y0)
        drifts = _drifts(tableau, drift, (t0, t1), y0, args, _weigh(w, first))
        stages = [first, *columns.at_own(tableau.c1, _own_arguments(tableau, y0, drifts[0], first, root))]
        beta1, beta2, beta3, beta4 = (jnp.asarray(row, w.dtype) for row in tableau.beta)
        pairs = 0.5 * (w * w - root * root) / root
        y1 = combination(tableau.alpha, drifts, y0)
        y1 = add(y1, *(_weigh(beta1[i] * w + beta2[i] * pairs, stage) for i, stage in enumerate(stages)))
        if basis.size > 1:  # else all other stages are at `y0`, and their weights cancel
            mixed = _mixed_integrals(w, jnp.where(areas < 0, -root, root)) / root
            crossed = [first, *columns.at_own(np.zeros_like(tableau.c1), _cross_arguments(tableau, y0, stages, mixed))]
            y1 = add(y1, *(_weigh(beta3[i] * w + beta4[i] * root, stage) for i, stage in enumerate(crossed)))
        return y1, None, {"y0": y0, "y1": y1}, None, RESULTS.successful


type Columns = Any
"""A pytree like the state for each source of noise, stacked along a new first axis."""


class _Columns(NamedTuple):
    """The columns of the diffusion over a step."""

    diffusion: AbstractTerm[Any, Any]
    t0: RealScalar
    t1: RealScalar
    args: Args
    basis: NoiseBasis

    def at(self, t: RealScalar, y: Y) -> Columns:
        """The columns at one state; costs one evaluation."""
        field = self.diffusion.vf(t, y, self.args)
        return jax.vmap(lambda unit: self.diffusion.prod(field, self.basis.increment(unit)))(self.basis.units())

    def at_own(self, nodes: np.ndarray, arguments: list[Columns]) -> list[Columns]:
        """The stages but the first, each column at an argument of its own; one batch of evaluations."""

        def column(t: RealScalar, y: Y, unit: NoiseVector) -> Y:
            return self.diffusion.vf_prod(t, y, self.args, self.basis.increment(unit))

        times = stage_time(self.t0, self.t1, jnp.asarray(nodes[1:], jnp.result_type(self.t1 - self.t0)))
        values = jax.vmap(jax.vmap(column, (None, 0, 0)), (0, 0, None))(times, stacked(arguments), self.basis.units())
        return unstacked(values, len(arguments))


def _drifts(
    tableau: ItoTableau,
    drift: AbstractTerm[Any, Any],
    ends: tuple[RealScalar, RealScalar],
    y0: Y,
    args: Args,
    noise: Y,
) -> list[Y]:
    """The drift at all stages, times the step size."""
    t0, t1 = ends
    step = drift.contr(t0, t1)
    drifts: list[Y] = []
    for i in range(tableau.num_stages):
        y = combination([*tableau.A0[i, :i], tableau.B0[i, 0]], [*drifts, noise], y0)
        drifts.append(drift.vf_prod(stage_time(t0, t1, float(tableau.c0[i])), y, args, step))
    return drifts


def _own_arguments(tableau: ItoTableau, y0: Y, drifted: Y, first: Columns, root: jax.Array) -> list[Columns]:
    """The arguments $H^k_i$ of all stages but the first, which in these methods depend only on the first stages."""

    def argument(i: int) -> Columns:
        start = combination([tableau.A1[i, 0]], [drifted], y0)
        scale = float(tableau.B1[i, 0]) * root
        return jax.vmap(lambda column: jax.tree.map(lambda y, x: y + scaled(scale, x), start, column))(first)

    return [argument(i) for i in range(1, tableau.num_stages)]


def _cross_arguments(tableau: ItoTableau, y0: Y, stages: list[Columns], mixed: jax.Array) -> list[Columns]:
    r"""The arguments $\hat H^k_i$ of all stages but the first."""
    assert tableau.B2 is not None, "weak methods have this matrix"
    return [
        jax.vmap(lambda row, columns: add(y0, _weigh(row, columns)), (0, None))(mixed, combination(weights, stages))
        for weights in tableau.B2[1:]
    ]


def _mixed_integrals(w: NoiseVector, signs: NoiseVector) -> Float[Array, "m m"]:
    """The integrals $I_{(k,l)}$ of pairs of different sources; zero on the diagonal."""
    index = jnp.arange(w.size)
    rows, columns = index[:, None], index[None, :]
    root = jnp.abs(signs[:1])[:, None]
    of_smaller = jnp.where(rows < columns, -signs[:, None], signs[None, :])
    return jnp.where(rows == columns, 0.0, 0.5 * (w[:, None] * w[None, :] + root * of_smaller))


def _weigh(weights: NoiseVector, columns: Columns) -> Y:
    """The weighted sum of columns, as one fused loop; a matrix product would call a library."""

    def leaf(x: jax.Array) -> jax.Array:
        return jnp.sum(weights.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) * x, axis=0)

    return jax.tree.map(leaf, columns)
