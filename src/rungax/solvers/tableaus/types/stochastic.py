r"""Coefficients of stochastic Runge–Kutta methods.

A method with $s$ stages advances $\mathrm{d}y = f(t, y)\,\mathrm{d}t + g(t, y)\,\mathrm{d}B$ over a step $h$ by

$$Y_i = y_0 + h \sum_j a_{ij} f_j + N_i, \qquad y_1 = y_0 + h \sum_i b_i f_i + N,$$

with $f_j = f(t_0 + c_j h, Y_j)$, and with the increment $W$ and the Lévy areas $H$ and $K$ of the noise in

| coefficients | noise in a stage, $N_i$ | noise in the solution, $N$ |
|---|---|---|
| `AdditiveCoeffs` | $g\,(a^W_i W + a^H_i H + a^K_i K)$ | $g\,(b^W W + b^H H + b^K K)$ |
| `GeneralCoeffs` | $\sum_j g_j (a^W_{ij} W + a^H_{ij} H + a^K_{ij} K)$ | $\sum_i g_i (b^W_i W + b^H_i H + b^K_i K)$ |

The files of `rungax.solvers.tableaus` hold `StochasticButcherTableau`s.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ....brownian import AbstractBrownianIncrement, AbstractSpaceTimeLevyArea, AbstractSpaceTimeTimeLevyArea
from ....jaxkit import shown

type Float64Array = NDArray[np.float64]
type BoolArray = NDArray[np.bool_]

# Large enough for coefficients of double precision only, small enough to catch a mistyped digit.
_TOLERANCE = 1e-10


class AbstractNoiseCoeffs(abc.ABC):
    """The weights of one of `W`, `H`, `K` in the stages, the solution and the error estimate."""

    b_error: Float64Array | None

    @abc.abstractmethod
    def choose[T](self, additive: T, general: T) -> T:
        """The argument for coefficients of this class."""

    @abc.abstractmethod
    def used(self, num_stages: int) -> BoolArray:
        """True for each stage whose product with g has a weight in a stage, the solution or the error estimate."""

    @abc.abstractmethod
    def check(self, name: str, num_stages: int, total: float) -> None:
        """Raise a `ValueError` unless these coefficients are right.

        Parameters
        ----------
        name
            The argument that they were given as.
        num_stages
            The number of stages that they must have.
        total
            The sum that the weights of the solution must have.
        """


@dataclass(frozen=True, eq=False, init=False)
class AdditiveCoeffs(AbstractNoiseCoeffs):
    r"""The weights of one of `W`, `H`, `K` in a method for additive noise, whose g does not depend on the state.

    Parameters
    ----------
    a
        Weights $a_i$ in the stages $1, \dots, s$, shape `(s,)`.
    b_sol
        Weight in the solution: 1 for `W`, 0 for `H` and `K`.
    b_error
        Weight in the error estimate, `None` for zero.

    See Also
    --------
    StochasticButcherTableau : the tableau that contains them and checks them.

    Examples
    --------
    >>> import rungax
    >>> rungax.AdditiveCoeffs(a=[0.0, 0.75], b_sol=1.0).a.tolist()
    [0.0, 0.75]
    """

    a: Float64Array
    b_sol: Float64Array
    b_error: Float64Array | None

    def __init__(self, a: ArrayLike, b_sol: ArrayLike, b_error: ArrayLike | None = None) -> None:
        object.__setattr__(self, "a", _frozen(a))
        object.__setattr__(self, "b_sol", _frozen(b_sol))
        object.__setattr__(self, "b_error", None if b_error is None else _frozen(b_error))

    def choose[T](self, additive: T, general: T) -> T:
        """The argument `additive`."""
        del general
        return additive

    def used(self, num_stages: int) -> BoolArray:
        """False for every stage: none has a g of its own."""
        return np.zeros(num_stages, dtype=np.bool_)

    def check(self, name: str, num_stages: int, total: float) -> None:
        """Raise a `ValueError` unless there is a weight for each stage and the right one for the solution."""
        _check_shape(f"{name}.a", self.a, (num_stages,), "Give one weight for each stage, the first included.")
        for field, value in (("b_sol", self.b_sol), ("b_error", self.b_error)):
            if value is not None:
                _check_shape(f"{name}.{field}", value, (), "Give one number: g is the same for all stages.")
        _check_sum(f"{name}.b_sol", self.b_sol, total, _NOISE_SUM)


@dataclass(frozen=True, eq=False, init=False)
class GeneralCoeffs(AbstractNoiseCoeffs):
    r"""The weights of one of `W`, `H`, `K` in a method for noise whose g depends on the state.

    Parameters
    ----------
    a
        Rows of weights $a_{ij}$ below the diagonal for stages $2, \dots, s$, of lengths $1, \dots, s - 1$.
    b_sol
        Weights $b_i$ in the solution, shape `(s,)`; their sum is 1 for `W`, 0 for `H` and `K`.
    b_error
        Weights in the error estimate, shape `(s,)`, `None` for zeros.

    See Also
    --------
    StochasticButcherTableau : the tableau that contains them and checks them.

    Examples
    --------
    >>> import rungax
    >>> rungax.GeneralCoeffs(a=[[1.0]], b_sol=[0.5, 0.5]).b_sol.tolist()
    [0.5, 0.5]
    """

    a: tuple[Float64Array, ...]
    b_sol: Float64Array
    b_error: Float64Array | None

    def __init__(self, a: Sequence[ArrayLike], b_sol: ArrayLike, b_error: ArrayLike | None = None) -> None:
        object.__setattr__(self, "a", tuple(_frozen(row) for row in a))
        object.__setattr__(self, "b_sol", _frozen(b_sol))
        object.__setattr__(self, "b_error", None if b_error is None else _frozen(b_error))

    def choose[T](self, additive: T, general: T) -> T:
        """The argument `general`."""
        del additive
        return general

    def used(self, num_stages: int) -> BoolArray:
        """True for each stage whose column of weights is not zero."""
        return _used_columns(self.a, self.b_sol, self.b_error, num_stages)

    def check(self, name: str, num_stages: int, total: float) -> None:
        """Raise a `ValueError` unless there is a triangle of weights, and for the solution one weight for each stage."""
        _check_triangle(f"{name}.a", self.a, num_stages)
        for field, value in (("b_sol", self.b_sol), ("b_error", self.b_error)):
            if value is not None:
                _check_shape(f"{name}.{field}", value, (num_stages,), "Give one weight for each stage.")
        _check_sum(f"{name}.b_sol", self.b_sol, total, _NOISE_SUM)


@dataclass(frozen=True, eq=False, init=False)
class StochasticButcherTableau[Coeffs: AbstractNoiseCoeffs]:
    r"""The coefficients of a stochastic Runge–Kutta method in float64, for `AbstractSRK`.

    A stage evaluates the drift only if a weight of the drift is not zero, and the diffusion likewise. Tableaus are
    compared and hashed by identity, so that one can be a static argument.

    Parameters
    ----------
    a
        The rows of $a$ below the diagonal for stages $2, \dots, s$, of lengths $1, \dots, s - 1$.
    b_sol
        Weights $b$ of the drift in the solution, shape `(s,)`.
    b_error
        Weights $b - \hat b$ of the drift in the error estimate, shape `(s,)`, or `None` for a method without one.
    c
        Nodes of stages $2, \dots, s$, shape `(s - 1,)`; stage 1 is at the start of the step.
    coeffs_w
        Weights of the increment `W`: `AdditiveCoeffs` for a method for additive noise, `GeneralCoeffs` for any noise.
    coeffs_hh, coeffs_kk
        Weights of the space-time Lévy area `H` and the space-time-time Lévy area `K`, of the same class; `None` if the
        method does not use the area.
    ignore_stage_f, ignore_stage_g
        The stages without an evaluation of drift or diffusion, booleans of shape `(s,)`. These flags change nothing: it
        is only checked that the stages have no weight. `ignore_stage_g` is for `GeneralCoeffs` only.

    Raises
    ------
    ValueError
        If shapes disagree; a row of $a$ does not sum to its node; $\sum b_i \neq 1$ or $\sum (b_i - \hat b_i) \neq 0$;
        the weights of the solution do not sum to one for `W` and to zero for `H` and `K`; the coefficients are of two
        classes, or those of `K` are given without those of `H`; the noise has an error estimate and the drift has none;
        or an ignored stage has a weight.

    Examples
    --------
    Heun's method, for Stratonovich equations:

    >>> import rungax
    >>> noise = rungax.GeneralCoeffs(a=[[1.0]], b_sol=[0.5, 0.5])
    >>> tableau = rungax.StochasticButcherTableau(
    ...     a=[[1.0]], b_sol=[0.5, 0.5], b_error=None, c=[1.0], coeffs_w=noise
    ... )
    >>> tableau.num_stages
    2
    """

    a: tuple[Float64Array, ...]
    b_sol: Float64Array
    b_error: Float64Array | None
    c: Float64Array
    coeffs_w: Coeffs
    coeffs_hh: Coeffs | None
    coeffs_kk: Coeffs | None

    def __init__(
        self,
        a: Sequence[ArrayLike],
        b_sol: ArrayLike,
        b_error: ArrayLike | None,
        c: ArrayLike,
        coeffs_w: Coeffs,
        coeffs_hh: Coeffs | None = None,
        coeffs_kk: Coeffs | None = None,
        ignore_stage_f: ArrayLike | None = None,
        ignore_stage_g: ArrayLike | None = None,
    ) -> None:
        fields = {
            "a": tuple(_frozen(row) for row in a),
            "b_sol": _frozen(b_sol),
            "b_error": None if b_error is None else _frozen(b_error),
            "c": _frozen(c),
            "coeffs_w": coeffs_w,
            "coeffs_hh": coeffs_hh,
            "coeffs_kk": coeffs_kk,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._check_drift()
        self._check_noise()
        _check_ignored("ignore_stage_f", ignore_stage_f, self.uses_f)
        if ignore_stage_g is not None and self.is_additive:
            raise ValueError(
                "`ignore_stage_g` is about stages, but with `AdditiveCoeffs` no stage evaluates g.\n"
                f"Expected: None\nFound:    {shown(ignore_stage_g)}\nLeave it out."
            )
        _check_ignored("ignore_stage_g", ignore_stage_g, self.uses_g)

    @property
    def num_stages(self) -> int:
        """Number of stages $s$."""
        return self.b_sol.size

    @cached_property
    def coeffs(self) -> tuple[Coeffs, ...]:
        """The coefficients of `W`, `H` and `K`, as far as they are given."""
        return tuple(x for x in (self.coeffs_w, self.coeffs_hh, self.coeffs_kk) if x is not None)

    @property
    def is_additive(self) -> bool:
        """True if the method is for additive noise only."""
        return self.coeffs_w.choose(additive=True, general=False)

    def is_additive_noise(self) -> bool:
        """`is_additive`."""
        return self.is_additive

    @property
    def ignore_stage_f(self) -> BoolArray:
        """True for each stage that does not evaluate the drift."""
        return ~self.uses_f

    @property
    def ignore_stage_g(self) -> BoolArray:
        """True for each stage that does not evaluate the diffusion."""
        return ~self.uses_g

    @property
    def minimal_levy_area(self) -> type[AbstractBrownianIncrement]:
        """The Lévy areas that a method with these coefficients needs."""
        classes = (AbstractBrownianIncrement, AbstractSpaceTimeLevyArea, AbstractSpaceTimeTimeLevyArea)
        return classes[len(self.coeffs) - 1]

    @cached_property
    def uses_f(self) -> BoolArray:
        """True for each stage that evaluates the drift: those with a weight that is not zero."""
        return _used_columns(self.a, self.b_sol, self.b_error, self.num_stages)

    @cached_property
    def uses_g(self) -> BoolArray:
        """True for each stage that evaluates the diffusion: those with a weight that is not zero, if noise is general."""
        return np.logical_or.reduce([coeffs.used(self.num_stages) for coeffs in self.coeffs])

    def _check_drift(self) -> None:
        num_stages = self.num_stages
        _check_shape("b_sol", self.b_sol, (max(num_stages, 1),), "Give one weight for each stage.")
        _check_triangle("a", self.a, num_stages)
        _check_shape("c", self.c, (num_stages - 1,), "Give the nodes of all stages but the first, whose node is 0.")
        for i, (row, node) in enumerate(zip(self.a, self.c, strict=True)):
            _check_sum(f"a[{i}]", row, float(node), f"A row sums to its node, here c[{i}].")
        _check_sum("b_sol", self.b_sol, 1.0, "Else a constant drift is not integrated.")
        if self.b_error is not None:
            _check_shape("b_error", self.b_error, (num_stages,), "Give one weight for each stage.")
            _check_sum("b_error", self.b_error, 0.0, "It is the difference of two solutions' weights, not one of them.")

    def _check_noise(self) -> None:
        named = {"coeffs_w": self.coeffs_w, "coeffs_hh": self.coeffs_hh, "coeffs_kk": self.coeffs_kk}
        given = {name: coeffs for name, coeffs in named.items() if coeffs is not None}
        found = ", ".join(f"{name} of {type(coeffs).__name__}" for name, coeffs in given.items())
        kinds = {type(self.coeffs_w), *(type(coeffs) for coeffs in given.values())}
        if len(kinds) > 1 or not all(issubclass(kind, AbstractNoiseCoeffs) for kind in kinds):
            raise ValueError(
                "`coeffs_w`, `coeffs_hh` and `coeffs_kk` describe one kind of noise.\n"
                f"Expected: all of `AdditiveCoeffs`, or all of `GeneralCoeffs`\nFound:    {found or 'nothing'}\n"
                "Write a number b of an additive method as `b_sol`, rows over the stages as `GeneralCoeffs`."
            )
        if self.coeffs_kk is not None and self.coeffs_hh is None:
            raise ValueError(
                "`coeffs_kk` needs `coeffs_hh`: no path has `K` without `H`.\n"
                f"Expected: both\nFound:    {found}\nGive `coeffs_hh` too, of zeros if it does not enter."
            )
        for name, coeffs in given.items():
            coeffs.check(name, self.num_stages, 1.0 if name == "coeffs_w" else 0.0)
            if coeffs.b_error is not None and self.b_error is None:
                raise ValueError(
                    f"`{name}.b_error` is part of an error estimate, but the tableau has `b_error=None`.\n"
                    "Expected: `b_error` of the tableau, or none of the noise\n"
                    f"Found:    {coeffs.b_error.tolist()}\nGive `b_error=`, of zeros if the drift does not enter."
                )


# ------------------------------------------------------------------------------------------------------------- checking

_NOISE_SUM = "The solution's weights sum to one for W and to zero for H and K, else its variance is wrong."


def _frozen(values: ArrayLike) -> Float64Array:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _used_columns(
    a: tuple[Float64Array, ...], b_sol: Float64Array, b_error: Float64Array | None, num_stages: int
) -> BoolArray:
    rows = [row for row in (*a, b_sol, b_error) if row is not None]
    return np.any([np.pad(row != 0, (0, num_stages - row.size)) for row in rows], axis=0)


def _check_shape(name: str, array: Float64Array, expected: tuple[int, ...], fix: str) -> None:
    if array.shape != expected:
        raise ValueError(f"The shape of `{name}` is wrong.\nExpected: {expected}\nFound:    {array.shape}\n{fix}")


def _check_triangle(name: str, rows: tuple[Float64Array, ...], num_stages: int) -> None:
    found = [row.shape for row in rows]
    expected = [(i,) for i in range(1, num_stages)]
    if found != expected:
        raise ValueError(
            f"The rows of `{name}` must fill the triangle below the diagonal.\n"
            f"Expected: {num_stages - 1} rows of shapes {expected}, for {num_stages} stages (the length of `b_sol`)\n"
            f"Found:    {found}\nGive a row for each stage but the first, a weight for each stage before it."
        )


def _check_sum(name: str, entries: Float64Array, expected: float, fix: str) -> None:
    # Relative to the entries: when large ones of opposite sign cancel, their rounding errors remain.
    scale = max(1.0, float(np.max(np.abs(entries), initial=0.0)))
    found = float(np.sum(entries))
    if not abs(found - expected) <= _TOLERANCE * scale:
        raise ValueError(f"The sum of `{name}` is wrong.\nExpected: {expected}\nFound:    {found}\n{fix}")


def _check_ignored(name: str, ignored: ArrayLike | None, used: BoolArray) -> None:
    if ignored is None:
        return
    flags = np.asarray(ignored)
    if flags.shape != used.shape or flags.dtype != np.bool_:
        raise ValueError(
            f"`{name}` must be true for each stage without an evaluation, else false.\n"
            f"Expected: booleans of shape {used.shape}\nFound:    {flags.dtype} of shape {flags.shape}\n"
            "Leave it out: stages without weights are skipped anyway."
        )
    wrong = np.flatnonzero(flags & used).tolist()
    if wrong:
        raise ValueError(
            f"`{name}` ignores stages that are needed.\n"
            f"Expected: zero weights of these stages everywhere\nFound:    others for {wrong}, counted from zero\n"
            "Do not ignore them, or set their weights to zero."
        )
