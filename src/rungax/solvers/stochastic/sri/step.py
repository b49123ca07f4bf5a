r"""Rößler's stochastic Runge–Kutta methods of strong order 1.5 for Itô equations with scalar or diagonal noise.

With the stages

$$H^0_i = y_0 + \sum_j A^0_{ij} f(H^0_j)\, h + \sum_j B^0_{ij}\, g(H^1_j)\, \tfrac{I_{(1,0)}}{h}, \qquad
H^1_i = y_0 + \sum_j A^1_{ij} f(H^0_j)\, h + \sum_j B^1_{ij}\, g(H^1_j) \sqrt h$$

of drift and diffusion (at the times $t_0 + c^0_i h$ and $t_0 + c^1_i h$) the step ends at

$$y_1 = y_0 + \sum_i \alpha_i f(H^0_i)\, h
+ \sum_i g(H^1_i) \Big(\beta^1_i I_{(1)} + \beta^2_i \tfrac{I_{(1,1)}}{\sqrt h}
+ \beta^3_i \tfrac{I_{(1,0)}}{h} + \beta^4_i \tfrac{I_{(1,1,1)}}{h}\Big).$$

In terms of the increment and the area of a path, elementwise,

$$I_{(1)} = W, \qquad I_{(1,1)} = \tfrac12 (W^2 - h), \qquad I_{(1,0)} = h (\tfrac12 W + H), \qquad
I_{(1,1,1)} = \tfrac16 (W^3 - 3 h W).$$
"""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ....brownian import AbstractBrownianIncrement, AbstractSpaceTimeLevyArea
from ....jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Y, add, combination
from ....results import RESULTS, Result
from ....terms import is_stochastic
from ...base import AbstractAdaptiveSolver, AbstractItoSolver
from ...common.stage_loop import stage_time
from ...facts import SolverNoise
from ...tableaus.types.ito import ItoTableau
from ..base import AbstractTwoTermSolver


class AbstractSRI(AbstractTwoTermSolver, AbstractAdaptiveSolver[None], AbstractItoSolver[None]):
    """A method of strong order 1.5 for scalar or diagonal noise, given by its coefficients.

    Attributes
    ----------
    delta
        Weight of the drift in the error estimate.
    """

    delta: eqx.AbstractVar[float]

    tableau: ClassVar[ItoTableau]
    noise: ClassVar[SolverNoise] = "diagonal"
    minimal_levy_area: ClassVar[type[AbstractBrownianIncrement]] = AbstractSpaceTimeLevyArea

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
        """One step; costs two evaluations of the drift and four of the diffusion."""
        del solver_state, made_jump
        diffusion, tableau = terms.terms[1], self.tableau
        integrals = _Integrals.of(diffusion.contr(t0, t1, use_levy=True))
        drifts, fields = _stages(tableau, terms, t0, t1, y0, args, integrals)

        def weighed(*rows: tuple[np.ndarray, Any]) -> Y:
            """The sum of the diffusion's stages, each times its own combination of integrals."""
            weights, variables = zip(*rows, strict=True)
            columns = np.stack(weights, axis=1)
            return add(
                *(
                    diffusion.prod(field, combination(column, variables))
                    for field, column in zip(fields, columns, strict=True)
                    if column.any()
                )
            )

        beta1, beta2, beta3, beta4 = tableau.beta
        main = weighed((beta1, integrals.w), (beta2, integrals.ww))
        rest = weighed((beta3, integrals.wt), (beta4, integrals.www))
        y1 = add(y0, combination(tableau.alpha, drifts), main, rest)
        first, second = (drift for drift, weight in zip(drifts, tableau.alpha, strict=True) if weight != 0)
        y_error = jax.tree.map(lambda n, a, b: _size(n) + self.delta * _size(a - b), rest, first, second)
        return y1, y_error, {"y0": y0, "y1": y1}, None, RESULTS.successful

    def order(self, terms: PyTree[Any]) -> int:
        """Two."""
        del terms
        return 2

    def strong_order(self, terms: PyTree[Any]) -> RealScalar:
        """One and a half."""
        del terms
        return 1.5

    def error_order(self, terms: PyTree[Any]) -> RealScalar:
        """Order of the local error of the embedded method, 1.5; for ordinary equations 2."""
        return 1.5 if is_stochastic(terms) else 2


class _Integrals(NamedTuple):
    r"""Iterated integrals over a step, scaled to the size of `w`: controls for the diffusion.

    Attributes
    ----------
    root
        The square root of the step size.
    w, ww, wt, www
        $I_{(1)}$, $I_{(1,1)} / \sqrt h$, $I_{(1,0)} / h$ and $I_{(1,1,1)} / h$.
    """

    root: PyTree[Any]
    w: PyTree[Any]
    ww: PyTree[Any]
    wt: PyTree[Any]
    www: PyTree[Any]

    @classmethod
    def of(cls, increment: Any) -> "_Integrals":
        dt, w = increment.dt, increment.W
        if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(w)):
            raise ValueError(
                "`SRIW1` is for real noise: complex noise has other iterated integrals.\n"
                "Expected: a Brownian path of real dtype\nFound:    a complex one\n"
                "Use `Euler`, or two real sources of half the variance each."
            )
        return cls(
            root=jax.tree.map(lambda h, w: jnp.broadcast_to(jnp.sqrt(h), jnp.shape(w)), dt, w),
            w=w,
            ww=jax.tree.map(lambda h, w: 0.5 * (w * w - h) / jnp.sqrt(h), dt, w),
            wt=jax.tree.map(lambda w, area: 0.5 * w + area, w, increment.H),
            www=jax.tree.map(lambda h, w: (w * w - 3.0 * h) * w / (6.0 * h), dt, w),
        )


def _stages(
    tableau: ItoTableau, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args, integrals: _Integrals
) -> tuple[list[Y], list[Any]]:
    """The drift at all stages, times the step size, and the diffusion at all stages."""
    drift, diffusion = terms.terms
    step = drift.contr(t0, t1)
    drifts: list[Y] = []
    fields: list[Any] = []

    def argument(of_drift: np.ndarray, of_diffusion: np.ndarray, variable: PyTree[Any]) -> Y:
        noises = [
            diffusion.prod(field, combination([weight], [variable]))
            for field, weight in zip(fields, of_diffusion, strict=False)
            if weight != 0
        ]
        return add(combination(of_drift[: len(drifts)], drifts, y0) if drifts else y0, *noises)

    for i in range(tableau.num_stages):
        if i > 0 and not (tableau.A0[i].any() or tableau.B0[i].any()):
            drifted = drifts[0]  # its argument is `y0` again
        else:
            y = argument(tableau.A0[i], tableau.B0[i], integrals.wt)
            drifted = drift.vf_prod(stage_time(t0, t1, float(tableau.c0[i])), y, args, step)
        y = argument(tableau.A1[i], tableau.B1[i], integrals.root)
        fields.append(diffusion.vf(stage_time(t0, t1, float(tableau.c1[i])), y, args))
        drifts.append(drifted)
    return drifts, fields


def _size(x: jax.Array) -> jax.Array:
    return jnp.abs(x).astype(x.dtype)
