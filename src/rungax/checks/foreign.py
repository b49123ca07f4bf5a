"""The names that other libraries have for solvers and arguments, and what to write in place of them."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import jax
import numpy as np

from .. import solvers
from ..solvers import AbstractSolver

# SciPy's methods, torchdiffeq's, MATLAB's, and those of Julia's DifferentialEquations that have other names here.
_SOLVERS = {
    "Dopri5()": ("RK45", "ode45", "DP5", "odeint"),
    "Bosh3()": ("RK23", "ode23", "BS3"),
    "Dopri8()": ("DOP853", "DP8"),
    "Heun()": ("adaptive_heun", "improved_euler"),
    "Vern9()": ("ode89",),
    "Vern8()": ("ode78",),
    "Rodas5P()": ("Radau", "RadauIIA5", "Rodas5"),
    "BDF()": ("BDF", "QNDF", "FBDF", "CVODE_BDF", "ode15s", "vode", "zvode"),
    "Rosenbrock23()": ("ode23s",),
    "TRBDF2()": ("ode23tb", "ode23t"),
    "Auto()": ("LSODA", "AutoTsit5", "auto"),
    "Euler()": ("EM", "Euler-Maruyama", "forward_euler"),
    "ItoMilstein()": ("RKMil", "Milstein"),
    "SRIW1()": ("SOSRI", "SRI"),
    "SRA1()": ("SOSRA", "SRA"),
    "ImplicitEuler()": ("backward_euler",),
    "Vern7()": ("ode113", "adams", "implicit_adams", "explicit_adams"),
}

_ARGUMENTS = {
    "`terms`": ("fun", "func", "f", "vector_field", "rhs", "term"),
    "`solver`": ("method", "alg", "algorithm"),
    "`t0` and `t1`": ("t_span", "tspan"),
    "`y0`": ("u0", "x0", "y", "init"),
    "`args`": ("p", "params", "parameters"),
    "`dt0`": ("first_step", "dt", "h0", "step_size"),
    "`saveat=SaveAt(ts=...)`": ("t_eval", "t", "ts", "save_at", "tstops"),
    "`saveat=SaveAt(dense=True)`": ("dense_output", "dense"),
    "`saveat=SaveAt(steps=True)`": ("save_everystep",),
    "`stepsize_controller=PIDController(rtol=..., atol=...)`": ("rtol", "atol", "reltol", "abstol", "adaptive"),
    "`stepsize_controller=PIDController(..., dtmax=...)`": ("max_step", "dtmax", "hmax"),
    "`stepsize_controller=PIDController(..., dtmin=...)`": ("min_step", "dtmin", "hmin"),
    "`stepsize_controller`": ("controller", "step_size_controller"),
    "`event=Event(...)`": ("events", "callback"),
    "`terms=ODETerm(f, jacobian=...)`": ("jac", "Dfun"),
    "`terms=ODETerm(f, tags=Banded(lower, upper))`": ("lband", "uband", "ml", "mu"),
    "`terms=ODETerm(f, sparsity=S)`": ("jac_sparsity", "jac_prototype", "sparsity"),
    "`max_steps`": ("maxiters", "mxstep", "max_num_steps", "nsteps"),
}

_ORDER = (
    "The order is `diffeqsolve(terms, solver, t0, t1, dt0, y0, args)`. SciPy's `solve_ivp(f, (t0, t1), y0)` is"
    " `diffeqsolve(f, Tsit5(), t0, t1, None, y0, stepsize_controller=PIDController(rtol=1e-3, atol=1e-6))`."
)


def solver_named(name: str) -> str | None:
    """The solver that a name means here or elsewhere, as it is written: `Dopri5()` for "RK45"; `None` if unknown."""
    known = {other.lower(): written for written, names in _SOLVERS.items() for other in names}
    known |= {key.lower(): f"{key}()" for key, cls in vars(solvers).items() if _is_method(cls)}
    return known.get(name.lower().removesuffix("()"))


def fix_of_kind(name: str, value: Any, cls: type) -> str:
    """The last line of the message about the argument `name`, whose `value` is no instance of `cls`: the fix."""
    if isinstance(value, type) and issubclass(value, cls):
        return "Call it: add parentheses."
    if name == "solver" and isinstance(value, str):
        written = solver_named(value)
        return f"Write `solver={written}`." if written else "Write one of its classes; `solver=None` chooses."
    is_numbers = isinstance(value, np.ndarray | jax.Array | list | tuple | int | float)
    if name == "saveat" and is_numbers:
        return "Write `saveat=SaveAt(ts=...)`."
    if name == "stepsize_controller" and is_numbers:
        return "Write `stepsize_controller=PIDController(rtol=..., atol=...)`."
    if name == "event" and (callable(value) or isinstance(value, list | tuple | dict)):
        return "Write `event=Event(cond_fn)`, with one condition or a pytree of conditions."
    if elsewhere := of_other_library(value, cls):
        return elsewhere
    return _ORDER if name == "solver" else "Are the arguments in the order of the signature?"


def of_other_library(value: Any, cls: type) -> str:
    """The fix for an object of another library whose class has the name of a subclass of `cls`; empty for others."""
    library, name = type(value).__module__.partition(".")[0], type(value).__name__
    is_ours = library == __name__.partition(".")[0]
    return "" if is_ours or name not in _names(cls) else f"It is of the library `{library}`: take `rungax.{name}`."


def _names(cls: type) -> set[str]:
    """The names of a class and its subclasses in Rungax."""
    own = {cls.__name__} if cls.__module__.partition(".")[0] == __name__.partition(".")[0] else set[str]()
    return own.union(*(_names(subclass) for subclass in cls.__subclasses__()))


def explaining_arguments[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """`diffeqsolve`; the `TypeError` for arguments that it does not have, or lacks, gets a note with those to write."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            signature = inspect.signature(function)
            try:
                signature.bind(*args, **kwargs)
            except TypeError:
                unknown = [key for key in kwargs if key not in signature.parameters]
                for note in _in_place_of(unknown) if unknown else [_about_missing(str(error))]:
                    error.add_note(note)
            raise

    return call


def _about_missing(message: str) -> str:
    """The note for a call that lacks arguments, from Python's message, which names them."""
    if message.endswith("argument: 'dt0'"):
        return "Give `dt0`, the first step; `None` lets error control choose it."
    return _ORDER


def _in_place_of(names: list[str]) -> Iterator[str]:
    """The notes for arguments of other libraries, as far as these are known."""
    for ours, others in _ARGUMENTS.items():
        if given := [f"`{name}`" for name in names if name in others]:
            yield f"Write {ours} in place of {' and '.join(given)}."


def _is_method(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, AbstractSolver) and not cls.__name__.startswith("Abstract")
