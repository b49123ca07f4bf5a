"""`SaveAt`: the user's choice of what to save of a solve."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, Real
from numpy.typing import ArrayLike

from ..jaxkit import Args, RealScalar, Y, as_array, kind_of, known, shown


def save_y(t: RealScalar, y: Y, args: Args) -> PyTree[Any]:
    """The state itself: the default of `SubSaveAt.fn`.

    Parameters
    ----------
    t, y, args
        Time, state, and the arguments of the solve.

    Returns
    -------
    PyTree
        `y`.

    Examples
    --------
    >>> import rungax
    >>> rungax.SaveAt(t1=True).subs.fn is rungax.save_y
    True
    """
    del t, args
    return y


def _times(ts: Any) -> Any:
    if ts is None:
        return None
    # An array stays as it is: converting it would change its dtype, which may decide the dtype of time.
    ts = as_array(ts, "`SaveAt(ts=...)`", "a one-dimensional array of times")
    return None if ts.size == 0 else ts


class SubSaveAt(eqx.Module):
    """A function of the solution to save, and the times at which to save it.

    Parameters
    ----------
    t0, t1
        Whether to save at the start; at the end.
    ts
        Times at which to save, shape `(n,)`, sorted in the direction of travel, within the interval up to a few
        roundings; those beyond count as its ends.
    steps
        Whether to save at the end of every accepted step (`True`), or of every n-th one (`n`).
    fn
        The function whose values are saved, `fn(t, y, args)`, any pytree of arrays; by default the state. It receives
        the true time.

    Raises
    ------
    ValueError
        If `ts` is not one-dimensional or `steps` is negative; in a solve, if `ts` is not sorted, or leaves the
        interval, or if `steps` comes with `max_steps=None`.

    Differentiability
    -----------------
    Saved values have derivatives with respect to everything that the solution depends on; saved times with respect to
    `ts`, `t0` and `t1`.

    Cost
    ----
    Memory, and time to fill it: one slot each for `t0` and `t1`, one for each of `ts`, and `max_steps // n` for
    `steps=n`. Values at `ts` inside a step come from the solver's interpolation, which for some solvers takes more
    evaluations of the vector field.

    Examples
    --------
    The norm of the state at every step, and the state at the end:

    >>> import jax.numpy as jnp
    >>> import rungax
    >>> norms = rungax.SubSaveAt(steps=True, fn=lambda t, y, args: jnp.linalg.norm(y))
    >>> saveat = rungax.SaveAt(subs={"norms": norms, "end": rungax.SubSaveAt(t1=True)})
    """

    t0: bool = False
    t1: bool = False
    ts: Real[Array | np.ndarray, " times"] | None = eqx.field(default=None, converter=_times)
    steps: bool | int = False
    fn: Callable[..., PyTree[Any]] = save_y

    def __check_init__(self) -> None:
        for name in ("t0", "t1", "steps"):
            known(getattr(self, name), f"`SaveAt({name}=...)`", "a Python boolean or integer")
        if self.ts is not None and jnp.ndim(self.ts) != 1:
            raise ValueError(
                "`SaveAt(ts=...)` is a list of times.\nExpected: a one-dimensional array\n"
                f"Found:    shape {jnp.shape(self.ts)}\nFor a single time t write `ts=[t]`."
            )
        if isinstance(self.steps, int) and self.steps < 0:
            raise ValueError(
                "`SaveAt(steps=n)` saves every n-th step.\nExpected: True, False or a positive integer\n"
                f"Found:    {shown(self.steps)}\nUse `steps=True` for every step."
            )

    @property
    def stride(self) -> int:
        """The number of accepted steps from one saved step to the next, 0 for none."""
        return int(self.steps)


def _one_sub(t0: bool, t1: bool, ts: Any, steps: bool | int, fn: Callable[..., Any]) -> SubSaveAt | None:
    sub = SubSaveAt(t0=t0, t1=t1, ts=ts, steps=steps, fn=fn)
    return sub if t0 or t1 or sub.ts is not None or steps else None


class SaveAt(eqx.Module):
    """The outputs of a solve: what to save of it, and when.

    Parameters
    ----------
    t0, t1, ts, steps, fn
        As in `SubSaveAt`.
    subs
        A pytree of `SubSaveAt`, instead of the five above; `Solution.ts` and `Solution.ys` take its structure.
    dense
        The solution as a function of time, for `Solution.evaluate` and `Solution.derivative`.
    solver_state, controller_state, made_jump
        The states of solver and controller, and whether the equation just jumped, from which another `diffeqsolve` can
        continue: pass them to it, with `t0` and `y0` where this one ended, and `dt0=None`.
    internals
        Differentiable sums of the steps' error and stiffness estimates, as `Solution.internals`; see `SolverInternals`.

    Raises
    ------
    ValueError
        If both `subs` and one of `t0, t1, ts, steps` are given, a `SubSaveAt` saves nothing, `ts` is not
        one-dimensional or `steps` is negative.

    Differentiability
    -----------------
    Saved values have derivatives with respect to everything that the solution depends on.

    Cost
    ----
    That of each `SubSaveAt`. `dense` stores what the interpolation of `max_steps` steps needs: for a Runge–Kutta method
    all stages.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> saveat = rungax.SaveAt(t0=True, ts=jnp.array([0.25, 0.5]), t1=True)
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -y, rungax.Heun(), 0.0, 1.0, 0.1, 1.0, saveat=saveat
    ... )
    >>> print(solution.ts)
    [0.   0.25 0.5  1.  ]
    >>> print(solution.ys.round(2))
    [1.   0.78 0.61 0.37]
    """

    subs: PyTree[SubSaveAt] = None
    dense: bool = False
    solver_state: bool = False
    controller_state: bool = False
    made_jump: bool = False
    internals: bool = False

    def __init__(
        self,
        *,
        t0: bool = False,
        t1: bool = False,
        ts: ArrayLike | None = None,
        steps: bool | int = False,
        fn: Callable[..., PyTree[Any]] = save_y,
        subs: PyTree[SubSaveAt] = None,
        dense: bool = False,
        solver_state: bool = False,
        controller_state: bool = False,
        made_jump: bool = False,
        internals: bool = False,
    ):
        own = _one_sub(t0, t1, ts, steps, fn)
        if subs is None:
            subs = own
        elif own is not None:
            raise ValueError(
                "`SaveAt(subs=...)` says by itself what is saved.\nExpected: either `subs` or `t0, t1, ts, steps`\n"
                f"Found:    both ({own})\nMove them into one more `SubSaveAt` of `subs`."
            )
        self.subs = subs
        for sub in subs_of(self):
            _check_sub(sub)
        self.dense = known(dense, "`SaveAt(dense=...)`")
        self.solver_state = known(solver_state, "`SaveAt(solver_state=...)`")
        self.controller_state = known(controller_state, "`SaveAt(controller_state=...)`")
        self.made_jump = known(made_jump, "`SaveAt(made_jump=...)`")
        self.internals = known(internals, "`SaveAt(internals=...)`")


def is_sub(x: Any) -> bool:
    """True if `x` is a `SubSaveAt`: for use as `is_leaf`."""
    return isinstance(x, SubSaveAt)


def subs_of(saveat: SaveAt) -> list[SubSaveAt]:
    """The `SubSaveAt`s, in the order of their pytree."""
    return jax.tree.leaves(saveat.subs, is_leaf=is_sub)


def sub_name(i: int) -> str:
    """The name of the recorder of the `SubSaveAt` with index `i`."""
    return f"subs[{i}]"


def in_structure_of(saveat: SaveAt, by_sub: Sequence[Any]) -> PyTree[Any]:
    """One object for each sub, in the structure of `SaveAt.subs`."""
    return jax.tree.unflatten(jax.tree.structure(saveat.subs, is_leaf=is_sub), by_sub)


def _check_sub(sub: Any) -> None:
    if not is_sub(sub):
        raise ValueError(
            f"`SaveAt(subs=...)` is a pytree of `SubSaveAt`.\nExpected: SubSaveAt\nFound:    {kind_of(sub)}\n"
            "Write, for example, `subs=[SubSaveAt(t1=True), SubSaveAt(ts=ts, fn=fn)]`."
        )
    if not (sub.t0 or sub.t1 or sub.ts is not None or sub.steps):
        raise ValueError(
            "This `SubSaveAt` saves nothing.\nExpected: one of `t0`, `t1`, `ts`, `steps`\nFound:    none\n"
            "Give it one of them, or leave it out."
        )
