"""Derivatives of steady states by the implicit function theorem."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx

from ..jaxkit import Time, Y, jvp_skipping_zeros, without_derivatives
from ..plan import Plan
from ..saving import SaveAt, save_y
from ..saving.saveat import is_sub
from ..step import Outcome, State
from ..terms import is_stochastic, is_term, leaf_terms
from .base import AbstractAdjoint
from .operands import Restore, Solve, differentiated_as


class ImplicitAdjoint(AbstractAdjoint):
    r"""Derivatives of a steady state, $f(y) = 0$, without going through the solve that found it.

    $$\mathrm{d}y = -\Big(\frac{\partial f}{\partial y}\Big)^{-1} \frac{\partial f}{\partial \theta}\,\mathrm{d}\theta$$

    Use it if the solve runs until the state no longer changes. The final state is assumed to be steady; this is not
    checked.

    Parameters
    ----------
    linear_solver
        A Lineax solver for the linear system with the Jacobian of the vector field; by default the choice of Lineax
        according to `tags`. If a quantity is conserved the Jacobian is singular: give
        `lineax.AutoLinearSolver(well_posed=False)`.
    tags
        Lineax tags of the Jacobian, one or several, such as `lineax.negative_semidefinite_tag`; by default none.

    Raises
    ------
    ValueError
        If anything but `SaveAt(t1=True)` is saved.

    Differentiability
    -----------------
    Every mode, with respect to `args` and parameters inside the terms. A small change of the initial state or of the
    times is assumed to lead to the same steady state: derivatives with respect to them are zero.

    Cost
    ----
    One solve of a linear system with the Jacobian, and the products with it that `linear_solver` asks for.

    References
    ----------
    M. Blondel et al., Efficient and modular implicit differentiation, NeurIPS 35 (2022), arXiv:2105.15183.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> adjoint = rungax.ImplicitAdjoint()
    >>> def steady(rate):
    ...     solution = rungax.diffeqsolve(
    ...         lambda t, y, rate: 1.0 - rate * y,
    ...         rungax.Euler(),
    ...         0.0,
    ...         20.0,
    ...         0.5,
    ...         0.0,
    ...         rate,
    ...         adjoint=adjoint,
    ...     )
    ...     return solution.ys[-1]
    >>> print(f"{jax.grad(steady)(2.0):.3f}")
    -0.250
    """

    linear_solver: lx.AbstractLinearSolver[Any] = eqx.field(
        default_factory=lambda: lx.AutoLinearSolver(well_posed=None)
    )
    tags: Any = ()

    def check(self, saveat: SaveAt) -> None:
        """Raise a `ValueError` if anything but the end is saved."""
        sub = saveat.subs
        only_end = is_sub(sub) and sub.t1 and not (sub.t0 or sub.ts is not None or sub.steps)
        others = saveat.dense or saveat.solver_state or saveat.controller_state or saveat.made_jump or saveat.internals
        if not only_end or others or sub.fn is not save_y:
            raise ValueError(
                "`ImplicitAdjoint` differentiates the steady state only.\nExpected: SaveAt(t1=True)\n"
                f"Found:    {saveat}\nSave nothing else, or use `RecursiveCheckpointAdjoint`."
            )

    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The solve, with the derivative of a steady state."""
        if not is_term(plan.problem.terms):
            raise NotImplementedError(
                "`ImplicitAdjoint` needs the vector field as a whole.\nExpected: one term, or a MultiTerm\n"
                f"Found:    {type(plan.problem.terms).__name__} of terms\n"
                "Use `RecursiveCheckpointAdjoint`, the default."
            )
        if is_stochastic(plan.problem.terms):
            raise ValueError(
                "`ImplicitAdjoint` differentiates a steady state, which an equation with noise does not have.\n"
                "Expected: terms without a Brownian path\nFound:    terms with one\n"
                "Use `RecursiveCheckpointAdjoint`, the default."
            )
        problem = plan.problem
        if eqx.filter_eval_shape(problem.terms.time_derivative, problem.t0, state.y, problem.args) is None:
            raise NotImplementedError(
                "`ImplicitAdjoint` differentiates dy/dt = 0, and a term does not know its dy/dt.\n"
                "Expected: `ODETerm`, or a term with the method `time_derivative(t, y, args)`\n"
                f"Found:    {', '.join(type(term.unwrapped).__name__ for term in leaf_terms(problem.terms))}\n"
                "Use `RecursiveCheckpointAdjoint`, the default."
            )

        def replayed(restore: Restore, leaves: Sequence[jax.Array]) -> Outcome:
            solve = without_derivatives(restore(leaves))
            outcome = solve.run()
            y = _steady_state(restore, leaves, outcome.state.t, outcome.state.y)
            plan, state = restore(leaves).plan, eqx.tree_at(lambda s: s.y, outcome.state, y)
            end = plan.start(y, state.solver_state, state.user_state)
            # Only the end is saved, which a recorder makes of the final state alone.
            outputs = {
                name: recorder.rebuild(plan, {"output": outcome.outputs[name]}, state, end)
                for name, recorder in plan.recorders.items()
            }
            return Outcome(state, outcome.result, outputs)

        return differentiated_as(replayed, Solve(plan, state, self))


def _steady_state(restore: Restore, leaves: Sequence[jax.Array], t: Time, y: Y) -> Y:
    """The steady state `y`, reached at `t`, as a differentiable function of the leaves."""

    def field(leaves: Sequence[jax.Array], t: Time, y: Y) -> Y:
        problem = restore(leaves).plan.problem
        if problem.terms.mass_kind != "identity":
            # Of algebraic equations the time derivative says only that they stay as they are.
            return problem.terms.vf(t, y, problem.args)
        return problem.terms.time_derivative(t, y, problem.args)

    @jax.custom_jvp
    def steady(t: Time, y: Y, *leaves: jax.Array) -> Y:
        del t, leaves
        return y

    def steady_jvp(primals: Any, tangents: Any) -> tuple[Y, Y]:
        (t, y, *leaves), (_, _, *tangents) = primals, tangents
        y = steady(t, y, *leaves)
        rate = jvp_skipping_zeros(lambda *leaves: field(leaves, t, y), leaves, tangents)[1]
        adjoint = restore(leaves).adjoint
        assert isinstance(adjoint, ImplicitAdjoint), "put there by `integrate`"
        jacobian = lx.JacobianLinearOperator(lambda y, _: field(leaves, t, y), y, tags=adjoint.tags)
        return y, lx.linear_solve(jacobian, jax.tree.map(jnp.negative, rate), adjoint.linear_solver).value

    steady.defjvp(steady_jvp, symbolic_zeros=True)
    return steady(t, y, *leaves)
