r"""Error control that covers tangents: the steps resolve the derivatives of the solution as well as the solution.

A tangent $v$ is the derivative of the solution in a direction $(v_0, \vartheta)$ of initial state and parameters,

$$\frac{\mathrm{d}v}{\mathrm{d}t} = \frac{\partial f}{\partial y} v + \frac{\partial f}{\partial \theta} \vartheta,
\qquad v(t_0) = v_0.$$

The derivative of a solver's step is the same solver's step for this equation, and the derivative of its error estimate
is the estimate of the tangent's error. So a few tangents in random directions, carried with the solution, show where
the steps are too long for its derivatives.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from ..jaxkit import FlatSpace, Time, Y, any_element, match_varying, with_derivatives_of, without_derivatives
from ..nonlinear import Tolerances, like_state
from ..plan import Plan
from ..step import Start, State, Step, Tangents
from ..terms import leaf_terms

SEED = 0
"""The seed of the random directions, the same in every solve: the steps must not depend on chance."""


class Inputs(NamedTuple):
    """The differentiable inputs of a solve: the initial state and the parameters of its terms and effects."""

    y: Y
    terms: PyTree[Any]
    args: PyTree[Any]
    event_map: PyTree[Any]

    @classmethod
    def of(cls, plan: Plan, y: Y) -> "Inputs":
        """Those of a plan, from the state `y`."""
        event_map = None if plan.detector is None else plan.detector.event_map
        return cls(y, plan.problem.terms, plan.problem.args, event_map)

    def in_plan(self, plan: Plan) -> Plan:
        """The plan with these parameters."""
        plan = replace(plan, problem=replace(plan.problem, terms=self.terms, args=self.args))
        if plan.constraints is not None:
            plan = replace(plan, constraints=plan.constraints.with_equation(self.terms, self.args))
        if plan.detector is None:
            return plan
        return eqx.tree_at(lambda plan: plan.detector.event_map, plan, self.event_map)


def check_no_noise(name: str, plan: Plan) -> None:
    """Raise a `ValueError` if the equation of a plan has noise: what `name` names has no meaning there."""
    if plan.is_noisy:
        raise ValueError(
            f"`{name}` needs an equation whose solution is smooth in time.\n"
            "Expected: terms without a Brownian path\nFound:    terms with one\n"
            "With noise, compare the derivatives of solves with several tolerances."
        )


def random_directions(plan: Plan, y: Y, number: int) -> Inputs:
    """Random directions through the inputs of a solve, stacked along the first axis of each leaf; `None` for others.

    Each entry is normal, with the root mean square of its leaf as the standard deviation, or one where that is zero. Of
    several directions every second one goes through the parameters alone and the others through the state alone: so the
    error of neither is small compared with the other's, whatever their units are.
    """
    inputs = eqx.filter(Inputs.of(plan, y), eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(inputs)
    keys = jax.random.split(jax.random.key(SEED), max(len(leaves), 1))
    drawn = [
        jnp.zeros((number, *x.shape), x.dtype) if _is_derived(x, plan) else _random(key, x, number)
        for key, x in zip(keys, leaves, strict=False)
    ]
    directions = jax.tree.unflatten(tree, drawn)
    if number == 1 or all(_is_derived(x, plan) for x in jax.tree.leaves(inputs[1:])):
        return directions
    through_state = jnp.arange(number) % 2 == 0

    def only(flags: Array, x: Array) -> Array:
        return jnp.where(flags.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros_like(x))

    y, *parameters = directions
    y = jax.tree.map(lambda x: only(through_state, x), y)
    return Inputs(y, *jax.tree.map(lambda x: only(~through_state, x), parameters))


def _is_derived(x: Array, plan: Plan) -> bool:
    """True for what the terms hold but no user gave: the direction of travel, and what is computed of a mass matrix."""
    computed = [leaf for term in leaf_terms(plan.problem.terms) for leaf in jax.tree.leaves(term.null_spaces)]
    return any(x is other for other in (plan.problem.direction, *computed))


def given_directions(plan: Plan, y: Y, directions: tuple[Y, PyTree[Any]]) -> Inputs:
    """Directions through state and arguments, stacked along the first axis of each leaf; through all else, zeros.

    Raise a `ValueError` unless there is one array for each inexact array of the state and of the arguments.
    """
    inputs = eqx.filter(Inputs.of(plan, y), eqx.is_inexact_array)
    given = jax.tree.leaves(directions)
    number = jnp.shape(given[0])[0] if given and jnp.ndim(given[0]) else 0
    expected = jax.tree.map(lambda x: jax.ShapeDtypeStruct((number, *x.shape), x.dtype), (inputs.y, inputs.args))
    found = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), directions)
    if number == 0 or expected != found:
        raise ValueError(
            "`derivative_error(directions=(of_y0, of_args))` are tangents of `y0` and `args`, stacked along a first"
            f" axis.\nExpected: {expected}\nFound:    {found}\n"
            "Give an array for each array of floating-point numbers, or an integer for so many random directions."
        )
    zeros = jax.tree.map(lambda x: jnp.zeros((number, *x.shape), x.dtype), (inputs.terms, inputs.event_map))
    of_y, of_args = jax.tree.map(jnp.asarray, directions)
    return Inputs(of_y, zeros[0], of_args, zeros[1])


def _random(key: Array, x: Array, number: int) -> Array:
    """Random directions of a leaf `x`, stacked."""
    x = lax.stop_gradient(x)
    real = jnp.finfo(x.dtype).dtype
    size = jnp.sqrt(jnp.mean(jnp.square(jnp.abs(x)), dtype=real)) if x.size else jnp.ones((), real)
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
    return jax.random.normal(key, (number, *x.shape), x.dtype) * size.astype(x.dtype)


class TangentControl(eqx.Module):
    """Tangents in given directions as part of the error control.

    Parameters
    ----------
    directions
        The directions, stacked along the first axis of each leaf.
    tolerances
        The tolerances and the norm of the solution. The error of a tangent may be `rtol` times the tangent's size.
    """

    directions: Inputs
    tolerances: Tolerances

    def init(self, plan: Plan, state: State) -> Tangents:
        """The tangents at the start of a solve."""

        def start(inputs: Inputs) -> Start:
            return eqx.filter(first_start(inputs, plan, state), eqx.is_inexact_array)

        inputs = without_derivatives(Inputs.of(plan, state.y))
        _, tangents = derivatives_along(start, inputs, self.directions)
        sizes = jax.vmap(self._size)(tangents.y)
        return _rescaled(Tangents(tangents, jnp.ones_like(sizes), jnp.zeros_like(sizes)), sizes)

    def attempt(self, plan: Plan, state: State) -> Step:
        """The next step of the solve in `state`, with the tangents at its end and the error that it adds to them."""
        tangents = state.tangents
        assert tangents is not None, "put there by `with_error_control`"
        plain = replace(plan, tangent_control=None)
        start = plan.start(state.y, state.solver_state, None)

        def attempted(varied: tuple[Inputs, PyTree[Array]]) -> tuple[tuple[Y, PyTree[Any], Y | None], Any]:
            inputs, checkpoint = varied
            made = inputs.in_plan(plain)
            step = made.attempt(replace(state, y=inputs.y, solver_state=_restored(made, state, inputs.y, checkpoint)))
            end = plan.start(step.y1, step.solver_state, None)
            arrays, others = eqx.partition(step, eqx.is_array)
            rest.append(others)
            return (step.y1, eqx.filter(end.solver_checkpoint, eqx.is_inexact_array), step.y_error), arrays

        rest: list[Any] = []
        varied = (Inputs.of(plan, state.y), start.solver_checkpoint)
        directions = (self._directions(tangents), tangents.start.solver_checkpoint)
        arrays, (y1, checkpoint, y_error) = derivatives_along(attempted, varied, directions, has_aux=True)
        step = eqx.combine(arrays, rest[-1])
        return self._with_error(step, tangents, Start(y1, checkpoint), y_error)

    def after_effects(self, plan: Plan, state: State, step: Step) -> Tangents:
        """The tangents after a step and the effects at its end."""
        tangents, active, detector = step.tangents, step.active_events, plan.detector
        assert tangents is not None, "put there by `attempt`"
        if active is None or detector is None:
            return tangents
        assert state.events is not None, "the loop of a solve with events carries their state"
        num_effects = state.events.num_effects

        def applied() -> Tangents:
            def after(inputs: Inputs) -> Y:
                made = inputs.in_plan(plan)
                return inputs.event_map.apply_effects(made, active, num_effects, step.t1, inputs.y)[2]

            inputs = without_derivatives(Inputs.of(plan, step.y1))
            _, y = derivatives_along(after, inputs, self._directions(tangents))
            return replace(tangents, start=replace(tangents.start, y=y))

        like = (plan, state, tangents)
        return lax.cond(
            any_element(jnp.any(active)),
            lambda: match_varying(applied(), like),
            lambda: match_varying(tangents, like),
        )

    def _directions(self, tangents: Tangents) -> Inputs:
        """The tangents of the inputs of a step: of its state, and of the parameters with their weights."""

        def weighted(x: Array) -> Array:
            return x * tangents.weights.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)

        return Inputs(tangents.start.y, *jax.tree.map(weighted, tuple(self.directions[1:])))

    def _with_error(self, step: Step, before: Tangents, end: Start, y_error: Y | None) -> Step:
        """The step with its tangents at the `end`, and the largest of their relative errors."""
        sizes = jnp.maximum(jax.vmap(self._size)(before.start.y), jax.vmap(self._size)(end.y))
        largest = jnp.maximum(before.largest, sizes)
        after = _rescaled(Tangents(end, before.weights, before.largest), sizes)
        if y_error is None:
            return replace(step, tangents=after)
        errors = jax.vmap(lambda x: self._size(self._by_rtol(x)))(y_error)
        # A tangent below the rounding of its own past counts as that rounding.
        floor = jnp.finfo(largest.dtype).eps * largest
        sizes = jnp.maximum(sizes, floor)
        ratios = jnp.where(errors == 0, 0, errors / jnp.where(sizes == 0, 1, sizes))
        return replace(step, tangents=after, tangent_error=jnp.max(ratios))

    def _size(self, y: Y) -> Time:
        """The norm of a tangent of the state."""
        sizes = jax.tree.map(jnp.abs, y)
        dtype = FlatSpace(sizes).dtype
        return jnp.asarray(self.tolerances.norm(jax.tree.map(lambda x: x.astype(dtype), sizes))).astype(dtype)

    def _by_rtol(self, error: Y) -> Y:
        """The error of a tangent divided by the relative tolerance."""
        rtol = like_state("PIDController(rtol=...)", self.tolerances.rtol, error)
        return jax.tree.map(lambda x, rtol: x / jnp.asarray(rtol).astype(x.dtype), error, rtol)


def first_start(inputs: Inputs, plan: Plan, state: State) -> Start:
    """The start of the first step as a differentiable function of the inputs of the solve."""
    plan = inputs.in_plan(plan)
    problem, solver, y = plan.problem, plan.solver, inputs.y
    if plan.constraints is not None:
        y, _ = plan.constraints.made_consistent(state.t, y)
    solver_state = solver.init(problem.terms, state.t, state.t_next, y, problem.args)
    checkpoints = solver.checkpoint_state(state.solver_state), solver.checkpoint_state(solver_state)
    return Start(y, jax.tree.map(with_derivatives_of, *checkpoints), state.user_state)


def _rescaled(tangents: Tangents, sizes: Array) -> Tangents:
    """The tangents, of the given `sizes`, divided so that none is larger than one: they may grow without bound."""
    factors = 1 / jnp.maximum(sizes, 1)

    def scaled(x: Array) -> Array:
        return x * factors.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)

    largest = jnp.maximum(tangents.largest, sizes) * factors
    return lax.stop_gradient(Tangents(jax.tree.map(scaled, tangents.start), tangents.weights * factors, largest))


def _restored(plan: Plan, state: State, y: Y, checkpoint: PyTree[Array]) -> PyTree[Any]:
    """The solver state in `state`, with its derivatives by the state, the checkpoint and the parameters."""
    problem = plan.problem
    restored = plan.solver.restore(problem.terms, state.t, y, problem.args, checkpoint)
    return jax.tree.map(with_derivatives_of, state.solver_state, restored)


def derivatives_along(
    function: Callable[[Any], Any], at: Any, directions: Any, has_aux: bool = False
) -> tuple[Any, Any]:
    """The value of `function`, or its auxiliary output, and its derivatives in several `directions`, stacked.

    `directions` has the structure of the inexact arrays of `at`; the other leaves are constants.
    """
    differentiable, static = eqx.partition(at, eqx.is_inexact_array)

    def of_arrays(differentiable: Any) -> Any:
        return function(eqx.combine(differentiable, static))

    def along(direction: Any) -> Any:
        value, tangent, *aux = jax.jvp(of_arrays, (differentiable,), (direction,), has_aux=has_aux)
        return aux[0] if has_aux else value, tangent

    return jax.vmap(along, out_axes=(None, 0))(directions)
