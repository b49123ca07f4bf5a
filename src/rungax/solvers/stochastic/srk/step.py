"""The step of stochastic Runge–Kutta methods; `tableaus.types.stochastic` defines their coefficients."""

from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import PyTree

from ....brownian import AbstractBrownianIncrement
from ....jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Y, combination, optimization_barrier
from ....results import RESULTS, Result
from ...common.scan_kind import without_effect
from ...common.stage_loop import stage_time
from ...facts import SolverNoise, fact
from ...tableaus.types.stochastic import StochasticButcherTableau
from ..base import AbstractTwoTermSolver

type Part = tuple[float, Any]
"""A weight and the pytree that it multiplies, which may be `None` if the weight is zero."""


class AbstractSRK(AbstractTwoTermSolver):
    r"""A stochastic Runge–Kutta method, given by its coefficients.

    $$\mathrm{d}y = f(t, y)\,\mathrm{d}t + g(t, y)\,\mathrm{d}B$$

    Subclass it for a method of your own: define `tableau` and the orders, and derive from `AbstractItoSolver` or
    `AbstractStratonovichSolver` (from both for additive noise, whose solutions are the same) and, with an error
    estimate, from `AbstractAdaptiveSolver`. The terms are a `MultiTerm(drift, diffusion)`, dense output is linear.

    A step evaluates drift and diffusion once for every stage with a weight. For additive noise the diffusion is
    evaluated at both ends of the step instead. The stages use $g(t_0)$. The solution contains its noise with $g(t_0)$
    and

    $$\big(g(t_1) - g(t_0)\big) \Big(\frac{W}{2} - H\Big),$$

    without which the strong order would be one if the diffusion depends on time. If the tableau has no coefficients of
    `H`, this term has no `H` either.

    Parameters
    ----------
    scan_kind
        Without effect: accepted so that programs written for Diffrax run.

    Attributes
    ----------
    tableau
        The coefficients. They determine `minimal_levy_area` and `noise`, unless the class states these attributes.

    Cost
    ----
    One evaluation of the drift and one of the diffusion a step for each stage with a weight; for additive noise two of
    the diffusion. The error estimate takes none.

    Examples
    --------
    The midpoint rule for Stratonovich equations, which needs only the increment of the noise:

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> class StochasticMidpoint(rungax.AbstractSRK, rungax.AbstractStratonovichSolver):
    ...     tableau = rungax.StochasticButcherTableau(
    ...         c=[1 / 2],
    ...         a=[[1 / 2]],
    ...         b_sol=[0, 1],
    ...         b_error=None,
    ...         coeffs_w=rungax.GeneralCoeffs(a=[[1 / 2]], b_sol=[0, 1]),
    ...     )
    ...
    ...     def order(self, terms):
    ...         return 2
    ...
    ...     def strong_order(self, terms):
    ...         return 0.5
    >>> path = rungax.VirtualBrownianTree(0.0, 1.0, tol=1e-3, shape=(), key=jax.random.key(0))
    >>> drift = rungax.ODETerm(lambda t, y, args: -y)
    >>> diffusion = rungax.ControlTerm(lambda t, y, args: 0.1 * y, path)
    >>> terms = rungax.MultiTerm(drift, diffusion)
    >>> solution = rungax.diffeqsolve(
    ...     terms, StochasticMidpoint(), 0.0, 1.0, 0.01, jnp.array(1.0)
    ... )
    >>> exact = jnp.exp(-1.0 + 0.1 * path.evaluate(0.0, 1.0))
    >>> bool(abs(solution.ys[0] - exact) < 1e-3)
    True
    """

    tableau: ClassVar[StochasticButcherTableau[Any]]
    scan_kind: None = without_effect()

    noise: ClassVar[SolverNoise] = fact(lambda cls: "additive" if cls.tableau.is_additive else "general")
    minimal_levy_area: ClassVar[type[AbstractBrownianIncrement]] = fact(lambda cls: cls.tableau.minimal_levy_area)

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
        """One step; drift and diffusion are evaluated for the stages with a weight."""
        del solver_state, made_jump
        tableau = self.tableau
        drift, diffusion = terms.terms
        control = drift.contr(t0, t1)
        noise = tableau.coeffs_w.choose(_AdditiveNoise, _GeneralNoise)(tableau, diffusion, t0, t1, y0, args)
        ks: list[Y | None] = []
        for i in range(tableau.num_stages):
            t = stage_time(t0, t1, float(tableau.c[i - 1]) if i else 0.0)
            row = tableau.a[i - 1] if i else np.zeros(0)
            y = _stage_argument([*_parts(row, ks), *noise.stage(i)], y0)
            ks.append(optimization_barrier(drift.vf_prod(t, y, args, control)) if tableau.uses_f[i] else None)
            noise.evaluate(i, t, y)
        y1 = _sum([*_parts(tableau.b_sol, ks), *noise.solution()], y0)
        y_error = None
        if tableau.b_error is not None:
            # The part with weight zero determines the shape.
            y_error = _sum([(0.0, y0), *_parts(tableau.b_error, ks), *noise.error()])
        return y1, y_error, {"y0": y0, "y1": y1}, None, RESULTS.successful


def _stage_argument(parts: list[Part], y0: Y) -> Y:
    # Without a barrier at the start, the compiler sees that evaluations there are the same.
    return optimization_barrier(_sum(parts, y0)) if any(weight != 0 for weight, _ in parts) else y0


def _parts(weights: np.ndarray, trees: list[Any]) -> list[Part]:
    return list(zip(weights.tolist(), trees, strict=True))


def _sum(parts: list[Part], start: Y | None = None) -> Y:
    return combination([weight for weight, _ in parts], [tree for _, tree in parts], start)


class _AdditiveNoise:
    """Noise whose g does not depend on the state, so that all stages use the same g."""

    def __init__(
        self, tableau: StochasticButcherTableau[Any], term: Any, t0: RealScalar, t1: RealScalar, y0: Y, args: Args
    ) -> None:
        self.coeffs: tuple[Any, ...] = tableau.coeffs
        increments = _increments(tableau, term, t0, t1)
        field = term.vf(t0, y0, args)
        self.products = [optimization_barrier(term.prod(field, increment)) for increment in increments]
        self.at_end = term.vf_prod(t1, y0, args, _time_integral(increments))

    def stage(self, i: int) -> list[Part]:
        """The noise in the argument of stage `i`."""
        return [(float(coeffs.a[i]), product) for coeffs, product in zip(self.coeffs, self.products, strict=True)]

    def evaluate(self, i: int, t: RealScalar, y: Y) -> None:
        """No evaluation at a stage."""
        del i, t, y

    def solution(self) -> list[Part]:
        """The noise in the solution, with the term of `AbstractSRK` for a g that depends on time."""
        at_start = [-0.5, 1.0, 0.0][: len(self.coeffs)]
        weights = [float(coeffs.b_sol) + w for coeffs, w in zip(self.coeffs, at_start, strict=True)]
        return [*zip(weights, self.products, strict=True), (1.0, self.at_end)]

    def error(self) -> list[Part]:
        """The noise in the error estimate."""
        pairs = zip(self.coeffs, self.products, strict=True)
        return [(float(coeffs.b_error), product) for coeffs, product in pairs if coeffs.b_error is not None]


class _GeneralNoise:
    """Noise whose g depends on the state and is evaluated at the stages."""

    def __init__(
        self, tableau: StochasticButcherTableau[Any], term: Any, t0: RealScalar, t1: RealScalar, y0: Y, args: Args
    ) -> None:
        del y0
        self.coeffs: tuple[Any, ...] = tableau.coeffs
        self.term, self.args = term, args
        self.increments = _increments(tableau, term, t0, t1)
        self.used = [coeffs.used(tableau.num_stages) for coeffs in self.coeffs]
        self.uses_g = tableau.uses_g
        # For each of the increments a list over the stages.
        self.products: list[list[Y | None]] = [[] for _ in self.coeffs]

    def stage(self, i: int) -> list[Part]:
        """The noise in the argument of stage `i`."""
        rows = [coeffs.a[i - 1] if i else np.zeros(0) for coeffs in self.coeffs]
        return self._weighted(rows)

    def evaluate(self, i: int, t: RealScalar, y: Y) -> None:
        """Evaluate g at stage `i`, with its time and argument, if the stage has a weight that is not zero."""
        field = self.term.vf(t, y, self.args) if self.uses_g[i] else None
        for products, used, increment in zip(self.products, self.used, self.increments, strict=True):
            products.append(optimization_barrier(self.term.prod(field, increment)) if used[i] else None)

    def solution(self) -> list[Part]:
        """The noise in the solution."""
        return self._weighted([coeffs.b_sol for coeffs in self.coeffs])

    def error(self) -> list[Part]:
        """The noise in the error estimate."""
        return self._weighted([coeffs.b_error for coeffs in self.coeffs])

    def _weighted(self, rows: list[np.ndarray | None]) -> list[Part]:
        pairs = zip(rows, self.products, strict=True)
        return [part for row, products in pairs if row is not None for part in _parts(row, products)]


def _increments(tableau: StochasticButcherTableau[Any], term: Any, t0: RealScalar, t1: RealScalar) -> list[PyTree[Any]]:
    """The values of `W`, `H` and `K` over the step that have coefficients."""
    control = term.contr(t0, t1, use_levy=True)
    return [getattr(control, name) for name, _ in zip("WHK", tableau.coeffs, strict=False)]


def _time_integral(increments: list[PyTree[Any]]) -> PyTree[Any]:
    r"""The integral $\frac{1}{h} \int (s - t_0)\,\mathrm{d}B_s = W / 2 - H$, or its mean $W / 2$ without $H$."""
    W, *others = increments
    half = jax.tree.map(lambda w: 0.5 * w, W)
    return jax.tree.map(lambda w, H: w - H, half, others[0]) if others else half
