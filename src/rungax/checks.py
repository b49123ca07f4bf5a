"""Validation of a call: what can only be judged with the whole call in view.

Constructors check their own arguments. Here nothing is computed for the solve; each check raises or lets pass.
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
from .controllers import AbstractStepSizeController
from .events import Event
from .jaxkit import Args, RealScalar, Time, Y, is_traced
from .saving import SaveAt
from .saving.saveat import SubSaveAt, is_sub
from .solvers import AbstractSolver, AbstractWrappedSolver
from .terms import AbstractTerm, Noise, brownian_paths, describe, fits, leaf_terms, mismatches, parts_asked_for


def check_times(t0: Any, t1: Any, dt0: Any) -> None:
    """What can be said of the times before their values are known: that they are real scalars."""
    for name, value in (("t0", t0), ("t1", t1), ("dt0", dt0)):
        if type(value) is float or (value is None and name == "dt0"):
            continue
        if value is None:
            raise ValueError(f"`{name}` must be a number.\nExpected: a real scalar\nFound:    None")
        try:
            shape, dtype = jnp.shape(value), jnp.result_type(value)
        except TypeError as error:
            raise ValueError(f"`{name}` must be a number.\nExpected: a real scalar\nFound:    {value!r}") from error
        if shape != ():
            raise ValueError(
                f"`{name}` must be a single time.\nExpected: a scalar, shape ()\nFound:    shape {shape}\n"
                "To solve for many, use `jax.vmap` over it."
            )
        if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            raise ValueError(f"`{name}` must be real.\nExpected: a float\nFound:    {dtype}")


def check_state(y0: Y) -> None:
    """That every leaf of the state can move continuously; a Python integer is taken as a float."""
    for path, leaf in jax.tree.leaves_with_path(y0):
        where = f"y0{jax.tree_util.keystr(path)}"
        try:
            dtype = jnp.result_type(leaf)
        except TypeError as error:
            raise ValueError(
                f"`{where}` must be a number or an array.\nExpected: a float or complex array\n"
                f"Found:    {type(leaf).__name__}\nPut whatever is not part of the state into `args`."
            ) from error
        if not jnp.issubdtype(dtype, jnp.inexact) and type(leaf) is not int:
            raise ValueError(
                f"`{where}` must be real or complex, for it changes continuously.\nExpected: a float or complex dtype\n"
                f"Found:    {dtype}\nConvert it with `.astype(float)`; what is not part of the state belongs in `args`."
            )


def check_saving(saveat: SaveAt, max_steps: int | None) -> None:
    """That buffers have a size known in advance."""
    if max_steps is not None and (isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1):
        raise ValueError(
            f"`max_steps` bounds the number of attempted steps.\nExpected: a positive integer or None\n"
            f"Found:    {max_steps!r}\nIt must be a Python integer, for it decides the size of buffers."
        )
    if max_steps is not None:
        return
    subs: list[SubSaveAt] = jax.tree.leaves(saveat.subs, is_leaf=is_sub)
    steps = any(sub.steps for sub in subs)
    for name, asked in (("steps", steps), ("dense", saveat.dense), ("internals", saveat.internals)):
        if asked:
            raise ValueError(
                f"`SaveAt({name}=...)` keeps something of every step and needs to know how many there may be.\n"
                "Expected: `max_steps` to be an integer\nFound:    max_steps=None\n"
                "Give `max_steps`, or save at chosen times with `ts`."
            )


_KINDS: dict[str, tuple[type, str]] = {
    "solver": (AbstractSolver, "a solver, such as Tsit5()"),
    "saveat": (SaveAt, "SaveAt(...), such as SaveAt(ts=times)"),
    "stepsize_controller": (AbstractStepSizeController, "a controller, such as PIDController(rtol=1e-6, atol=1e-6)"),
    "adjoint": (AbstractAdjoint, "an adjoint, such as RecursiveCheckpointAdjoint()"),
    "event": (Event, "Event(condition), or None"),
}


def check_kinds(**given: Any) -> None:
    """That each argument is of its kind."""
    for name, value in given.items():
        cls, expected = _KINDS[name]
        if not isinstance(value, cls):
            is_class = isinstance(value, type) and issubclass(value, cls)
            found = f"the class {value.__name__}" if is_class else type(value).__name__
            advice = "Call it: add parentheses." if is_class else "Are the arguments in the order of the signature?"
            raise ValueError(f"`{name}` is of another kind.\nExpected: {expected}\nFound:    {found}\n{advice}")


def check_no_noise(terms: Any) -> None:
    """That the methods which are chosen where none is given are made for the equation."""
    if brownian_paths(terms):
        raise ValueError(
            "`solver=None` chooses among methods for equations without noise.\nExpected: a solver for noise\n"
            "Found:    None, and a Brownian path in `terms`\n"
            "Give `SPaRK()` or `Heun()` for a Stratonovich equation, `SRIW1()` or `Euler()` for an Itô equation."
        )


def check_terms(terms: PyTree[Any], solver: AbstractSolver[Any], t0: Time, y0: Y, args: Args) -> None:
    """That the terms are what the solver is for."""
    structure = solver.facts.term_structure
    if not fits(structure, terms):
        raise ValueError(
            f"`terms` must be what `{type(solver).__name__}` solves.\nExpected: {describe(structure)}\n"
            f"Found:    {describe(terms)}\n"
            "For an ordinary differential equation use `ODETerm(vector_field)`; a sum of terms is `MultiTerm(...)`."
        )
    for mismatch in mismatches(structure, terms, t0, y0, args):
        raise ValueError(f"`terms` must be what `{type(solver).__name__}` solves.\nExpected: {mismatch}")


def check_noise(
    terms: PyTree[AbstractTerm[Any, Any]],
    solver: AbstractSolver[Any],
    controller: AbstractStepSizeController[Any],
    t0: Time,
    y0: Y,
    args: Args,
) -> None:
    """That solver, steps and Brownian path are right for each other; closed terms."""
    noises = [noise for noise in (term.noise(t0, y0, args) for term in leaf_terms(terms)) if noise is not None]
    paths = brownian_paths(terms)
    _check_slots(terms, solver, t0, y0, args)
    if not paths:
        return
    for noise in noises:
        _check_levy_area(noise, solver)
        _check_kind_of_noise(noise, solver)
    for path in paths:
        _check_memory(path, solver, controller)
    if controller.may_reject and not solver.facts.safe_with_adaptive_steps:
        warnings.warn(
            f"`{_name(solver)}` may converge to the wrong limit when steps are chosen by their error.\n"
            "Use ConstantStepSize, or for Stratonovich equations a solver such as `Heun` or `SPaRK`.",
            stacklevel=2,
        )
    if not solver.facts.interpretations:
        warnings.warn(
            f"`{_name(solver)}` is meant for equations without noise; what it converges to is not known.\n"
            "Use an Itô solver (`Euler`, `ItoMilstein`) or a Stratonovich solver (`Heun`, `SPaRK`).",
            stacklevel=2,
        )


def _name(solver: AbstractSolver[Any]) -> str:
    """The class of a solver, and of one that it wraps."""
    name = type(solver).__name__
    return f"{name}({_name(solver.solver)})" if isinstance(solver, AbstractWrappedSolver) else name


def _check_slots(
    terms: PyTree[AbstractTerm[Any, Any]], solver: AbstractSolver[Any], t0: Time, y0: Y, args: Args
) -> None:
    """That a solver which treats drift and diffusion differently is given one of each, in this order."""
    if not parts_asked_for(solver.facts.term_structure) or not solver.facts.interpretations:
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


def _check_memory(
    path: AbstractBrownianPath, solver: AbstractSolver[Any], controller: AbstractStepSizeController[Any]
) -> None:
    """That a path is asked for no interval twice if it draws anew each time."""
    if path.remembers:
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
            f"`{_name(solver)}` needs to know more of the Brownian path than its increments.\n"
            f"Expected: a path with `levy_area={needed.__name__.removeprefix('Abstract')}`\n"
            f"Found:    `levy_area={given.__name__}`\nGive it to the path's constructor."
        )


def _check_kind_of_noise(noise: Noise, solver: AbstractSolver[Any]) -> None:
    """What the structure of the vector field tells; that noise commutes it does not."""
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


def check_known_values(
    problem: tuple[Any, AbstractSolver[Any], Y],
    t0: Any,
    t1: Any,
    dt0: Any,
    saveat: SaveAt,
    controller: AbstractStepSizeController[Any],
) -> None:
    """Raise for wrong values, if all are known now; if not, the program will see (`values_are_valid`).

    The `problem` is terms, solver and initial state.
    """
    terms, solver, y0 = problem
    if not is_traced(problem):
        solver.check_values(terms, y0)
    ends = _ends_of_paths(terms)
    times = [sub.ts for sub in jax.tree.leaves(saveat.subs, is_leaf=is_sub) if sub.ts is not None]
    if is_traced(t0, t1, dt0, times, controller, ends):
        return
    check_times(t0, t1, dt0)
    # Whatever they came in, float64 holds them exactly.
    t0, t1, dt0 = (None if t is None else np.float64(t) for t in (t0, t1, dt0))
    times = [np.asarray(ts).astype(np.float64) for ts in times]
    ends = [(np.float64(a), np.float64(b)) for a, b in ends]
    for ok, message in _conditions(np, t0, t1, dt0, times, controller, ends):
        if not ok:
            raise ValueError(message())


def values_are_valid(
    terms: Any,
    t0: Time,
    t1: Time,
    dt0: RealScalar | None,
    times: list[Any],
    controller: AbstractStepSizeController[Any],
) -> jax.Array:
    """The same for values that only the running program knows."""
    times = [jnp.asarray(ts).astype(t0.dtype) for ts in times]
    ends = [(jnp.asarray(a).astype(t0.dtype), jnp.asarray(b).astype(t0.dtype)) for a, b in _ends_of_paths(terms)]
    conditions = _conditions(jnp, t0, t1, dt0, times, controller, ends)
    return jnp.all(jnp.stack([jnp.asarray(ok) for ok, _ in conditions]))


def _conditions(
    xp: Any,
    t0: Any,
    t1: Any,
    dt0: Any,
    times: list[Any],
    controller: AbstractStepSizeController[Any],
    ends: list[tuple[Any, Any]],
) -> Iterator[tuple[Any, Callable[[], str]]]:
    """What must hold of the values, and what to say if it does not."""
    for name, t in (("t0", t0), ("t1", t1)):
        number = t == t if name == "t1" else xp.isfinite(t)
        yield number, lambda name=name, t=t: f"`{name}` must be a number.\nExpected: a time\nFound:    {t}"
    if dt0 is not None:
        yield (
            (dt0 * (t1 - t0) > 0) | ((t0 == t1) & (dt0 == dt0)),
            lambda: (
                f"`dt0` must lead from `t0` towards `t1`, and not be zero.\n"
                f"Expected: {'positive' if t1 > t0 else 'negative'}, as t0={t0} and t1={t1}\nFound:    dt0={dt0}\n"
                "Change its sign, or swap `t0` and `t1`."
            ),
        )
    for ts in times:
        yield from _saved_time_conditions(xp, t0, t1, xp.asarray(ts))
    ok = controller.times_fit(t0, t1)
    yield (
        ok,
        lambda: (
            f"The times of `{type(controller).__name__}` must lead from `t0` to `t1`, strictly monotone.\n"
            f"Expected: first {t0}, last {t1}\nFound:    {controller}\nGive the controller the times of this solve."
        ),
    )
    for begin, end in ends:
        yield _path_condition(xp, t0, t1, begin, end)


def _path_condition(xp: Any, t0: Any, t1: Any, begin: Any, end: Any) -> tuple[Any, Callable[[], str]]:
    """That a Brownian path reaches from one end of the solve to the other, up to rounding."""
    lower, upper = xp.minimum(t0, t1), xp.maximum(t0, t1)
    slack = 8 * float(xp.finfo(t0.dtype).eps) * xp.maximum(xp.abs(begin), xp.abs(end))
    # A solve without end is stopped by something else, perhaps in time.
    reaches = (begin - slack <= lower) & ((upper <= end + slack) | xp.isinf(upper))
    # Of an unbounded path the slack is no number.
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


def warn_of_coarse_paths(terms: Any, dt0: Any, controller: AbstractStepSizeController[Any]) -> None:
    """Warn if constant steps are shorter than a Brownian tree is exact, as far as known when the call is made."""
    if type(dt0) is not float or controller.may_reject:
        return
    for path in brownian_paths(terms):
        resolution = path.resolution
        if resolution is not None and abs(dt0) < 0.99 * resolution:
            warnings.warn(
                f"Steps of {abs(dt0)} are shorter than the Brownian path is exact: increments between times nearer\n"
                f"than its `tol` have too small a variance. Give it a `tol` of at most {abs(dt0)}, better half of it.",
                stacklevel=3,
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
