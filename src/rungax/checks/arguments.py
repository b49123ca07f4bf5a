"""Checks of the kinds, shapes and dtypes of the arguments of a call."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..adjoints import AbstractAdjoint
from ..controllers import AbstractStepSizeController
from ..events import Event
from ..jaxkit import Time, Y, as_array, kind_of, shape_and_dtype, shown
from ..progress import AbstractProgressMeter
from ..saving import SaveAt
from ..saving.saveat import subs_of
from ..solvers import AbstractSolver
from ..step import NextAttempt
from .foreign import fix_of_kind


def check_times(t0: Any, t1: Any, dt0: Any) -> None:
    """Raise a `ValueError` unless the times are real scalars, whatever their values."""
    for name, value in (("t0", t0), ("t1", t1), ("dt0", dt0)):
        if type(value) is float or (value is None and name == "dt0"):
            continue
        if value is None:
            raise ValueError(f"`{name}` must be a number.\nExpected: a real scalar\nFound:    None")
        if not eqx.is_array_like(value):
            fix = "\nGive the ends of the interval as two arguments, `t0` and `t1`." if _is_pair(value) else ""
            raise ValueError(f"`{name}` must be a number.\nExpected: a real scalar\nFound:    {shown(value)}{fix}")
        shape, dtype = jnp.shape(value), jnp.result_type(value)
        if shape != ():
            raise ValueError(
                f"`{name}` must be a single time.\nExpected: a scalar, shape ()\nFound:    shape {shape}\n"
                "To solve for many, use `jax.vmap` over it."
            )
        if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            raise ValueError(f"`{name}` must be real.\nExpected: a float\nFound:    {dtype}")


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def check_made_jump(made_jump: Any) -> None:
    """Raise a `ValueError` unless `made_jump` is one boolean, or `None`."""
    if made_jump is None or made_jump is False or made_jump is True:
        return
    made_jump = as_array(made_jump, "`made_jump`", "True, False or None")
    if made_jump.shape != () or made_jump.dtype != bool:
        raise ValueError(
            "`made_jump` says whether the equation jumped just before `t0`.\nExpected: True, False or None\n"
            f"Found:    {shape_and_dtype(made_jump)}\nPass `Solution.made_jump` of an earlier solve."
        )


def check_state(y0: Y) -> None:
    """Raise a `ValueError` unless every leaf of the state is an array of numbers; booleans count as numbers."""
    for path, leaf in jax.tree.leaves_with_path(y0):
        where = f"y0{jax.tree_util.keystr(path)}"
        try:
            dtype = jnp.result_type(leaf)
        except TypeError as error:
            raise ValueError(
                f"`{where}` must be a number or an array.\nExpected: a float or complex array\n"
                f"Found:    {kind_of(leaf)}\nPut whatever is not part of the state into `args`."
            ) from error
        if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
            raise ValueError(
                f"`{where}` must be real or complex, because it changes continuously.\n"
                f"Expected: a float or complex dtype\n"
                f"Found:    {dtype}\nPut whatever is not part of the state into `args`."
            )


MOST_STEPS = 2**31 - 1
"""The largest bound on the number of steps."""


def check_saving(saveat: SaveAt, max_steps: int | None) -> None:
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


def check_kinds(**given: Any) -> None:
    """Raise a `ValueError` unless each argument is of its kind."""
    for name, value in given.items():
        cls, expected = _KINDS[name]
        if not isinstance(value, cls):
            is_class = isinstance(value, type) and issubclass(value, cls)
            found = f"the class {value.__name__}" if is_class else kind_of(value)
            if isinstance(value, str):
                found = f"the text {value!r}"
            fix = fix_of_kind(name, value, cls)
            raise ValueError(f"`{name}` is of another kind.\nExpected: {expected}\nFound:    {found}\n{fix}")


def check_next_attempt(earlier: NextAttempt | None, t0: Time) -> None:
    """Raise a `ValueError` unless the attempt that an earlier solve left has one time, of the dtype of this solve's."""
    if earlier is None or (earlier.t.shape == () and earlier.t.dtype == t0.dtype):
        return
    raise ValueError(
        "`controller_state` holds the next step of another solve, which this one cannot make.\n"
        f"Expected: a time of shape () and dtype {t0.dtype}, like `t0`\n"
        f"Found:    shape {earlier.t.shape} and dtype {earlier.t.dtype}\n"
        "Give times of the dtype of `Solution.ts`; for the states of a batch use `jax.vmap` once more."
    )
