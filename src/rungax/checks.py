"""Validation of a call, in two places: before tracing and inside the trace.

Constructors check their own arguments; here are the checks that need the whole call. `before_tracing` checks what is
known when `diffeqsolve` is called; `known_values` the values of times, if they are known: at once with `throw=False`,
otherwise after the solve has failed. Inside the trace, `argument_types` checks shapes and dtypes of times and state,
and what the adjoint can do; `inside_trace` traces the terms and checks that solver, controller and noise suit them;
`values_are_valid` checks the values that only the running program knows.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .adjoints import AbstractAdjoint
from .brownian import AbstractBrownianIncrement, AbstractBrownianPath
from .call import Call
from .controllers import AbstractStepSizeController
from .events import Event
from .jaxkit import Args, RealScalar, Time, Y, as_array, is_traced, kind_of, shape_and_dtype, shown
from .progress import AbstractProgressMeter
from .saving import SaveAt
from .saving.saveat import subs_of
from .solvers import AbstractSolver, AbstractWrappedSolver
from .step import NextAttempt
from .terms import (
    AbstractTerm,
    Noise,
    ODETerm,
    Terms,
    brownian_paths,
    describe,
    fits,
    is_term,
    leaf_terms,
    mismatches,
    required_parts,
)

# ------------------------------------------------------------------------------------------------------ before tracing


def before_tracing(call: Call, *, chose_solver: bool) -> None:
    """Raise a `ValueError` unless the arguments are of their kinds, and what is saved has a known size.

    `chose_solver` says whether the solver was left to Rungax to choose.
    """
    if chose_solver:
        _check_no_noise(call.terms)
    _check_kinds(solver=call.solver, saveat=call.saveat, stepsize_controller=call.controller, adjoint=call.adjoint)
    _check_kinds(progress_meter=call.progress_meter)
    if call.event is not None:
        _check_kinds(event=call.event)
    call.adjoint.check_controller(call.controller)
    _check_saving(call.saveat, call.max_steps)
    _warn_of_coarse_paths(call.terms, call.dt0, call.controller)


def known_values(call: Call) -> None:
    """Raise a `ValueError` for wrong values, if all are known now; if not, the program checks (`values_are_valid`)."""
    if not is_traced(call.terms, call.solver, call.y0):
        call.solver.check_values(call.terms, call.y0)
    ends, times = _ends_of_paths(call.terms), _saved_times(call)
    t0, t1, dt0 = call.t0, call.t1, call.dt0
    if is_traced(t0, t1, dt0, times, call.controller, ends):
        return
    _check_times(t0, t1, dt0)
    # In whatever dtype they are given, float64 holds them exactly.
    t0, t1, dt0 = (None if t is None else np.float64(t) for t in (t0, t1, dt0))
    times = [np.asarray(ts).astype(np.float64) for ts in times]
    ends = [(np.float64(a), np.float64(b)) for a, b in ends]
    # The times of a controller may be arrays of JAX, on which operations are traced inside `jit`, though known.
    with jax.ensure_compile_time_eval():
        for ok, message in _conditions(np, t0, t1, dt0, times, call, ends):
            if not ok:
                raise ValueError(message())


# ---------------------------------------------------------------------------------------------------- inside the trace


def argument_types(call: Call) -> None:
    """Raise an error unless times and state have usable shapes and dtypes, and the adjoint can do what is asked."""
    _check_times(call.t0, call.t1, call.dt0)
    _check_state(call.y0)
    _check_made_jump(call.resumed.made_jump)
    call.adjoint.check(call.saveat)
    if call.event is not None:
        call.adjoint.check_event(call.event)


def inside_trace(call: Call, t0: Time, y0: Y) -> Terms:
    """The call's terms, traced once; raises a `ValueError` unless solver, controller and noise suit them."""
    _check_next_attempt(call.resumed.next_attempt, t0)
    terms = as_terms(call.terms)
    _check_terms(terms, call.solver, t0, y0, call.args)
    terms = call.solver.trace_terms(terms, t0, y0, call.args)
    _check_noise(terms, call.solver, call.controller, t0, y0, call.args)
    return terms


def values_are_valid(call: Call, t0: Time, t1: Time, dt0: RealScalar | None) -> jax.Array:
    """True if the values that only the running program knows are right."""
    times = [jnp.asarray(ts).astype(t0.dtype) for ts in _saved_times(call)]
    ends = [(jnp.asarray(a).astype(t0.dtype), jnp.asarray(b).astype(t0.dtype)) for a, b in _ends_of_paths(call.terms)]
    conditions = _conditions(jnp, t0, t1, dt0, times, call, ends)
    return jnp.all(jnp.stack([jnp.asarray(ok) for ok, _ in conditions]))


def _check_next_attempt(earlier: NextAttempt | None, t0: Time) -> None:
    """Raise a `ValueError` unless the attempt that an earlier solve left has one time, of the dtype of this solve's."""
    if earlier is None or (earlier.t.shape == () and earlier.t.dtype == t0.dtype):
        return
    raise ValueError(
        "`controller_state` holds the next step of another solve, which this one cannot make.\n"
        f"Expected: a time of shape () and dtype {t0.dtype}, like `t0`\n"
        f"Found:    shape {earlier.t.shape} and dtype {earlier.t.dtype}\n"
        "Give times of the dtype of `Solution.ts`; for the states of a batch use `jax.vmap` once more."
    )


def as_terms(terms: PyTree[Any]) -> Terms:
    """`terms` with plain functions made `ODETerm`s."""
    return jax.tree.map(lambda x: x if is_term(x) or not callable(x) else ODETerm(x), terms, is_leaf=is_term)


# ----------------------------------------------------------------------------------------------------------- arguments


def _check_times(t0: Any, t1: Any, dt0: Any) -> None:
    """Raise a `ValueError` unless the times are real scalars, whatever their values."""
    for name, value in (("t0", t0), ("t1", t1), ("dt0", dt0)):
        if type(value) is float or (value is None and name == "dt0"):
            continue
        if value is None:
            raise ValueError(f"`{name}` must be a number.\nExpected: a real scalar\nFound:    None")
        try:
            shape, dtype = jnp.shape(value), jnp.result_type(value)
        except TypeError as error:
            raise ValueError(
                f"`{name}` must be a number.\nExpected: a real scalar\nFound:    {shown(value)}"
            ) from error
        if shape != ():
            raise ValueError(
                f"`{name}` must be a single time.\nExpected: a scalar, shape ()\nFound:    shape {shape}\n"
                "To solve for many, use `jax.vmap` over it."
            )
        if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            raise ValueError(f"`{name}` must be real.\nExpected: a float\nFound:    {dtype}")


def _check_made_jump(made_jump: Any) -> None:
    """Raise a `ValueError` unless `made_jump` is one boolean, or `None`."""
    if made_jump is None or made_jump is False or made_jump is True:
        return
    made_jump = as_array(made_jump, "`made_jump`", "True, False or None")
    if made_jump.shape != () or made_jump.dtype != bool:
        raise ValueError(
            "`made_jump` says whether the equation jumped just before `t0`.\nExpected: True, False or None\n"
            f"Found:    {shape_and_dtype(made_jump)}\nPass `Solution.made_jump` of an earlier solve."
        )


def _check_state(y0: Y) -> None:
    """Raise a `ValueError` unless every leaf of the state is real or complex; a Python integer counts as a float."""
    for path, leaf in jax.tree.leaves_with_path(y0):
        where = f"y0{jax.tree_util.keystr(path)}"
        try:
            dtype = jnp.result_type(leaf)
        except TypeError as error:
            raise ValueError(
                f"`{where}` must be a number or an array.\nExpected: a float or complex array\n"
                f"Found:    {kind_of(leaf)}\nPut whatever is not part of the state into `args`."
            ) from error
        if not jnp.issubdtype(dtype, jnp.inexact) and type(leaf) is not int:
            raise ValueError(
                f"`{where}` must be real or complex, because it changes continuously.\n"
                f"Expected: a float or complex dtype\n"
                f"Found:    {dtype}\nConvert it with `.astype(float)`; what is not part of the state belongs in `args`."
            )


MOST_STEPS = 2**31 - 1
"""The largest bound on the number of steps."""


def _check_saving(saveat: SaveAt, max_steps: int | None) -> None:
    """Raise a `ValueError` unless the sizes of buffers are known."""
    if max_steps is not None and (isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1):
        raise ValueError(
            f"`max_steps` bounds the number of attempted steps.\nExpected: a positive integer or None\n"
            f"Found:    {shown(max_steps)}\nIt must be a Python integer, because it decides the size of buffers."
        )
    if max_steps is not None and max_steps > MOST_STEPS:
        raise ValueError(
            "`max_steps` bounds the number of attempted steps, which is counted in 32 bits.\n"
            f"Expected: at most {MOST_STEPS}\nFound:    {max_steps}\nUse `max_steps=None` for no bound."
        )
    if max_steps is not None:
        return
    steps = any(sub.steps for sub in subs_of(saveat))
    for name, asked in (("steps", steps), ("dense", saveat.dense), ("internals", saveat.internals)):
        if asked:
            raise ValueError(
                f"`SaveAt({name}=...)` saves something of every step and needs a bound on their number.\n"
                "Expected: `max_steps` to be an integer\nFound:    max_steps=None\n"
                "Give `max_steps`, or save at chosen times with `ts`."
            )


_KINDS: dict[str, tuple[type, str]] = {
    "solver": (AbstractSolver, "a solver, such as Tsit5()"),
    "saveat": (SaveAt, "SaveAt(...), such as SaveAt(ts=times)"),
    "stepsize_controller": (AbstractStepSizeController, "a controller, such as PIDController(rtol=1e-6, atol=1e-6)"),
    "adjoint": (AbstractAdjoint, "an adjoint, such as RecursiveCheckpointAdjoint()"),
    "event": (Event, "Event(condition), or None"),
    "progress_meter": (AbstractProgressMeter, "a progress meter, such as TextProgressMeter()"),
}


def _check_kinds(**given: Any) -> None:
    """Raise a `ValueError` unless each argument is of its kind."""
    for name, value in given.items():
        cls, expected = _KINDS[name]
        if not isinstance(value, cls):
            is_class = isinstance(value, type) and issubclass(value, cls)
            found = f"the class {value.__name__}" if is_class else kind_of(value)
            hint = "Call it: add parentheses." if is_class else "Are the arguments in the order of the signature?"
            raise ValueError(f"`{name}` is of another kind.\nExpected: {expected}\nFound:    {found}\n{hint}")


def _check_no_noise(terms: Any) -> None:
    """Raise a `ValueError` if the equation has noise: the methods chosen by default are for equations without."""
    if brownian_paths(terms):
        raise ValueError(
            "`solver=None` chooses among methods for equations without noise.\nExpected: a solver for noise\n"
            "Found:    None, and a Brownian path in `terms`\n"
            "Give `SPaRK()` or `Heun()` for a Stratonovich equation, `SRIW1()` or `Euler()` for an Itô equation."
        )


def _check_terms(terms: PyTree[Any], solver: AbstractSolver[Any], t0: Time, y0: Y, args: Args) -> None:
    """Raise a `ValueError` unless the terms are those that the solver solves."""
    structure = solver.facts.term_structure
    if not fits(structure, terms):
        raise ValueError(
            f"`terms` must be what `{type(solver).__name__}` solves.\nExpected: {describe(structure)}\n"
            f"Found:    {describe(terms)}\n"
            "For an ordinary differential equation use `ODETerm(vector_field)`; a sum of terms is `MultiTerm(...)`."
        )
    for mismatch in mismatches(structure, terms, t0, y0, args):
        raise ValueError(f"`terms` must be what `{type(solver).__name__}` solves.\nExpected: {mismatch}")


def _check_noise(
    terms: PyTree[AbstractTerm[Any, Any]],
    solver: AbstractSolver[Any],
    controller: AbstractStepSizeController[Any],
    t0: Time,
    y0: Y,
    args: Args,
) -> None:
    """Raise an error unless solver, steps and Brownian path suit each other; the terms are traced."""
    noises = [noise for noise in (term.noise(t0, y0, args) for term in leaf_terms(terms)) if noise is not None]
    paths = brownian_paths(terms)
    _check_drift_and_diffusion(terms, solver, t0, y0, args)
    if not paths:
        return
    for noise in noises:
        _check_levy_area(noise, solver)
        _check_kind_of_noise(noise, solver)
    for path in paths:
        _check_increments_add_up(path, solver, controller)
    if controller.may_reject and not solver.facts.safe_with_adaptive_steps:
        warnings.warn(
            f"`{_name(solver)}` may converge to the wrong limit when steps are chosen by their error.\n"
            "Use ConstantStepSize, or for Stratonovich equations a solver such as `Heun` or `SPaRK`.",
            stacklevel=2,
        )
    if not solver.facts.interpretations:
        warnings.warn(
            f"`{_name(solver)}` is meant for equations without noise; its limit with noise is not known.\n"
            "Use an Itô solver (`Euler`, `ItoMilstein`) or a Stratonovich solver (`Heun`, `SPaRK`).",
            stacklevel=2,
        )


def _name(solver: AbstractSolver[Any]) -> str:
    """The class of a solver, and of the solver that it wraps."""
    name = type(solver).__name__
    return f"{name}({_name(solver.solver)})" if isinstance(solver, AbstractWrappedSolver) else name


def _check_drift_and_diffusion(
    terms: PyTree[AbstractTerm[Any, Any]], solver: AbstractSolver[Any], t0: Time, y0: Y, args: Args
) -> None:
    """Raise a `ValueError` unless a solver that distinguishes drift and diffusion gets one of each, in this order."""
    if not required_parts(solver.facts.term_structure) or not solver.facts.interpretations:
        return
    drift, diffusion = terms.parts
    if brownian_paths(drift) or diffusion.parts:
        found = [
            ("noise" if brownian_paths(term) else "no noise") + (", a sum" if term.parts else "")
            for term in terms.parts
        ]
        raise ValueError(
            f"`{_name(solver)}` treats drift and diffusion differently.\n"
            "Expected: `MultiTerm(drift, diffusion)`, the drift without noise and the diffusion one term\n"
            f"Found:    the first with {found[0]}; the second with {found[1]}\n"
            "Put the drift first; put several sources of noise side by side into one ControlTerm, as columns."
        )
    if solver.facts.minimal_levy_area is not AbstractBrownianIncrement and diffusion.noise(t0, y0, args) is None:
        raise ValueError(
            f"`{_name(solver)}` needs a Brownian path to drive the second of its terms.\n"
            f"Expected: a ControlTerm with a path such as VirtualBrownianTree\nFound:    {type(diffusion).__name__}"
        )


def _check_increments_add_up(
    path: AbstractBrownianPath, solver: AbstractSolver[Any], controller: AbstractStepSizeController[Any]
) -> None:
    """Raise a `ValueError` if a path that draws anew each time would be asked for an interval twice."""
    if path.increments_add_up:
        return
    if not solver.facts.asks_for_whole_steps:
        raise ValueError(
            f"`{_name(solver)}` asks a path for parts of a step as well as for the whole.\n"
            "Expected: a path whose increments add up, such as VirtualBrownianTree\n"
            f"Found:    {type(path).__name__}\nUse the tree, or a solver that asks for whole steps."
        )
    if controller.may_reject:
        raise ValueError(
            f"`{type(path).__name__}` draws anew whenever it is asked, so steps must not be rejected.\n"
            f"Expected: ConstantStepSize or StepTo\nFound:    {type(controller).__name__}\n"
            "For adaptive steps use `VirtualBrownianTree`."
        )


def _check_levy_area(noise: Noise, solver: AbstractSolver[Any]) -> None:
    needed, given = solver.facts.minimal_levy_area, noise.path.levy_area
    if not issubclass(given, needed):
        raise ValueError(
            f"`{_name(solver)}` needs more of the Brownian path than its increments.\n"
            f"Expected: a path with `levy_area={needed.__name__.removeprefix('Abstract')}`\n"
            f"Found:    `levy_area={given.__name__}`\nGive it to the path's constructor."
        )


def _check_kind_of_noise(noise: Noise, solver: AbstractSolver[Any]) -> None:
    """Raise a `ValueError` if the vector field's structure shows another kind of noise than the solver is for.

    Commutative noise does not show in the structure.
    """
    name = _name(solver)
    if solver.facts.noise == "additive" and not noise.is_additive:
        raise ValueError(
            f"`{name}` is for additive noise: a diffusion that does not depend on the state.\n"
            "Expected: a `vector_field(t, y, args)` of the ControlTerm that makes no use of `y`\n"
            "Found:    one that does (shapes and dtypes are free to use)\n"
            "For noise that depends on the state use `SPaRK` or `SlowRK` (Stratonovich), `Euler` or `SRIW1` (Itô)."
        )
    if solver.facts.noise == "diagonal" and noise.shape == "general":
        raise ValueError(
            f"`{name}` is for diagonal noise, one source for each entry of the state, or for a single source.\n"
            "Expected: a vector field that returns a `lineax.DiagonalLinearOperator`, or a path of shape ()\n"
            "Found:    a field from several sources to the whole state\n"
            "Return `lineax.DiagonalLinearOperator(d)` if it is diagonal; else use `Euler`, or `DRI1` for expectations."
        )


def _conditions(
    xp: Any,
    t0: Any,
    t1: Any,
    dt0: Any,
    times: list[Any],
    call: Call,
    ends: list[tuple[Any, Any]],
) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Conditions on the values, each with the message for the case that it does not hold."""
    for name, t, number in (("t0", t0, xp.isfinite(t0)), ("t1", t1, t1 == t1)):
        yield number, lambda name=name, t=t: f"`{name}` must be a number.\nExpected: a time\nFound:    {t}"
    if dt0 is not None:
        yield (
            # Their product may be too small for a floating-point number.
            ((dt0 > 0) & (t1 > t0)) | ((dt0 < 0) & (t1 < t0)) | ((t0 == t1) & (dt0 == dt0)),
            lambda: (
                f"`dt0` must lead from `t0` towards `t1`, and not be zero.\n"
                f"Expected: {'positive' if t1 > t0 else 'negative'}, as t0={t0} and t1={t1}\nFound:    dt0={dt0}\n"
                "Change its sign, or swap `t0` and `t1`."
            ),
        )
    for ts in times:
        yield from _saved_time_conditions(xp, t0, t1, xp.asarray(ts))
    controller, continued = call.controller, call.resumed.controller_state is not None
    ok = controller.continued_times_fit(t0, t1) if continued else controller.times_fit(t0, t1)
    yield (
        ok,
        lambda: (
            f"The times of `{type(controller).__name__}` must lead from `t0` to `t1`, strictly monotone.\n"
            f"Expected: {'up to' if continued else 'first'} {t0}, last {t1}\nFound:    {controller}\n"
            "Give the controller the times of this solve."
        ),
    )
    for begin, end in ends:
        yield _path_condition(xp, t0, t1, begin, end)


def _path_condition(xp: Any, t0: Any, t1: Any, begin: Any, end: Any) -> tuple[Any, Callable[[], str]]:
    """The condition that a Brownian path reaches from one end of the solve to the other, up to rounding."""
    lower, upper = xp.minimum(t0, t1), xp.maximum(t0, t1)
    slack = 8 * float(xp.finfo(t0.dtype).eps) * xp.maximum(xp.abs(begin), xp.abs(end))
    # A solve without end is stopped by something else, perhaps within the path.
    reaches = (begin - slack <= lower) & ((upper <= end + slack) | xp.isinf(upper))
    # The slack of an unbounded path is NaN.
    fits = reaches | (xp.isinf(begin) & xp.isinf(end))
    return (
        fits,
        lambda: (
            f"A Brownian path must reach over the whole solve.\nExpected: from {lower} to {upper}\n"
            f"Found:    from {begin} to {end}\n"
            f"Give the path the ends of the solve, `VirtualBrownianTree({lower}, {upper}, ...)`."
        ),
    )


def _ends_of_paths(terms: Any) -> list[tuple[Any, Any]]:
    """The ends of all Brownian paths in `terms`."""
    return [(path.t0, path.t1) for path in brownian_paths(terms)]


def _saved_times(call: Call) -> list[Any]:
    """The requested times of each `SubSaveAt` that has some."""
    return [sub.ts for sub in subs_of(call.saveat) if sub.ts is not None]


def _warn_of_coarse_paths(terms: Any, dt0: Any, controller: AbstractStepSizeController[Any]) -> None:
    """Warn if constant steps are shorter than the resolution of a Brownian tree, as far as both are known now."""
    if type(dt0) is not float or controller.may_reject:
        return
    for path in brownian_paths(terms):
        resolution = path.resolution
        if resolution is not None and abs(dt0) < 0.99 * resolution:
            warnings.warn(
                f"Steps of {abs(dt0)} are shorter than the Brownian path is exact: increments between times nearer\n"
                f"than its `tol` have too small a variance. Give it a `tol` of at most {abs(dt0)}, better half of it.",
                stacklevel=4,  # the line that calls `diffeqsolve`
            )


def _saved_time_conditions(xp: Any, t0: Any, t1: Any, ts: Any) -> Iterator[tuple[Any, Callable[[], str]]]:
    lower, upper = xp.minimum(t0, t1), xp.maximum(t0, t1)
    # Comparing so that a NaN fails.
    yield (
        xp.all((ts >= lower) & (ts <= upper)),
        lambda: (
            f"`SaveAt(ts=...)` must lie between `t0` and `t1`.\nExpected: from {lower} to {upper}\n"
            f"Found:    from {ts.min()} to {ts.max()}\nLeave out the times outside, or enlarge the interval."
        ),
    )
    steps = (ts[1:] - ts[:-1]) * xp.where(t1 >= t0, 1, -1).astype(ts.dtype)
    yield (
        xp.all(steps >= 0),
        lambda: (
            "`SaveAt(ts=...)` must be sorted in the direction of travel.\n"
            f"Expected: {'increasing' if t1 >= t0 else 'decreasing'}, as t0={t0} and t1={t1}\n"
            f"Found:    ts[{int((steps < 0).argmax())}:][:2] = {ts[int((steps < 0).argmax()) :][:2]}\n"
            f"Sort them: `jnp.sort(ts)`{'' if t1 >= t0 else '[::-1]'}."
        ),
    )
