r"""Runge--Kutta coefficients as arrays.

A method with $s$ stages advances $y' = f(t, y)$ over a step $h$ by

$$k_i = f\Big(t_0 + c_i h,\; y_0 + h \sum_j a_{ij} k_j\Big), \qquad y_1 = y_0 + h \sum_i b_i k_i.$$

`published` holds methods as exact numbers; the arrays are their float64 roundings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

type Float64Array = NDArray[np.float64]

# Large enough for coefficients of double precision only, small enough to catch a mistyped digit.
_TOLERANCE = 1e-10


@dataclass(frozen=True, eq=False, init=False)
class ButcherTableau:
    r"""The coefficients of an explicit or diagonally implicit Runge--Kutta method in float64.

    Tableaus are compared and hashed by identity, so that one can be a static argument.

    Parameters
    ----------
    c
        Nodes of stages $2, \dots, s$, shape `(s - 1,)`.
    b_sol
        Weights $b$ of the solution, shape `(s,)`.
    b_error
        Weights $b - \hat b$ of the error estimate, shape `(s,)`, or `None` for a method without one.
    a_lower
        The rows of $a$ below the diagonal for stages $2, \dots, s$, of lengths $1, \dots, s - 1$.
    a_diagonal
        The diagonal of $a$, shape `(s,)`, if a stage is implicit.
    a_predictor
        Rows of the same lengths as those of `a_lower`, each with the sum one: stage $i$ starts its iteration from the
        state $\sum_j p_{ij} y_j$, extrapolated from those of earlier stages. Required exactly if `a_diagonal` is given.
    c1
        Node of stage 1; it is zero in most methods.

    Raises
    ------
    ValueError
        If lengths disagree, a row of $a$ does not sum to its node, $\sum_i b_i \neq 1$,
        $\sum_i (b_i - \hat b_i) \neq 0$, a row of `a_predictor` does not sum to one, or only one of `a_diagonal`
        and `a_predictor` is given.

    References
    ----------
    E. Hairer, S. P. Nørsett, G. Wanner, Solving Ordinary Differential Equations I, 2nd ed. (1993), II.1.

    Examples
    --------
    Heun's method, with an embedded Euler step:

    >>> import rungax
    >>> tableau = rungax.ButcherTableau(
    ...     c=[1.0], a_lower=[[1.0]], b_sol=[0.5, 0.5], b_error=[-0.5, 0.5]
    ... )
    >>> tableau.num_stages, tableau.implicit, tableau.fsal
    (2, False, False)
    """

    c: Float64Array
    b_sol: Float64Array
    b_error: Float64Array | None
    a_lower: tuple[Float64Array, ...]
    a_diagonal: Float64Array | None
    a_predictor: tuple[Float64Array, ...] | None
    c1: float

    def __init__(
        self,
        c: ArrayLike,
        b_sol: ArrayLike,
        b_error: ArrayLike | None,
        a_lower: Sequence[ArrayLike],
        a_diagonal: ArrayLike | None = None,
        a_predictor: Sequence[ArrayLike] | None = None,
        c1: float = 0.0,
    ) -> None:
        if (a_diagonal is None) != (a_predictor is None):
            given, missing = ("a_diagonal", "a_predictor") if a_predictor is None else ("a_predictor", "a_diagonal")
            raise ValueError(
                f"`a_diagonal` and `a_predictor`: expected both or neither, found `{given}` without `{missing}`."
            )
        fields = {
            "c": _frozen(c),
            "b_sol": _frozen(b_sol),
            "b_error": None if b_error is None else _frozen(b_error),
            "a_lower": tuple(_frozen(row) for row in a_lower),
            "a_diagonal": None if a_diagonal is None else _frozen(a_diagonal),
            "a_predictor": None if a_predictor is None else tuple(_frozen(row) for row in a_predictor),
            "c1": float(c1),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._check_shapes()
        self._check_sums()

    @property
    def num_stages(self) -> int:
        """Number of stages $s$."""
        return self.b_sol.size

    @property
    def implicit(self) -> bool:
        """True if a stage appears in its own equation."""
        return bool(self.implicit_stages)

    @cached_property
    def implicit_stages(self) -> tuple[int, ...]:
        """The stages, counted from zero, that appear in their own equation."""
        return () if self.a_diagonal is None else tuple(np.flatnonzero(self.a_diagonal).tolist())

    @cached_property
    def constant_diagonal(self) -> float | None:
        """The diagonal entry of all implicit stages, which then share a Newton matrix; `None` if they differ."""
        entries = set() if self.a_diagonal is None else set(self.a_diagonal[self.a_diagonal != 0].tolist())
        return entries.pop() if len(entries) == 1 else None

    @cached_property
    def ssal(self) -> bool:
        """True if the method is "solution same as last": the last stage is evaluated at the new solution."""
        if self.num_stages == 1 and self.a_diagonal is None:
            return False
        last_row = self.a_lower[-1] if self.a_lower else np.zeros(0)
        last_diagonal = 0.0 if self.a_diagonal is None else self.a_diagonal[-1]
        return np.array_equal(last_row, self.b_sol[:-1]) and bool(self.b_sol[-1] == last_diagonal)

    @cached_property
    def fsal(self) -> bool:
        """True if the method is "first same as last": the last stage of a step is the first of the next one."""
        first_explicit = self.c1 == 0.0 and (self.a_diagonal is None or self.a_diagonal[0] == 0.0)
        return self.ssal and bool(first_explicit) and self.c.size > 0 and bool(self.c[-1] == 1.0)

    @cached_property
    def real_stability(self) -> float:
        r"""The length $x$ of the stability interval $[-x, 0]$ of an explicit method, to a hundredth, 100 at most.

        In it $|R(z)| \le 1$, with $R(z) = 1 + z\, b^T (1 + z A 1 + z^2 A^2 1 + \dots)$.
        """
        assert not self.implicit, "the stability function of an implicit method is not a polynomial"
        power, polynomial = np.ones(self.num_stages), [1.0]
        for _ in range(self.num_stages):
            polynomial.append(float(self.b_sol @ power))
            power = np.array([0.0, *(row @ power[: row.size] for row in self.a_lower)])
        x = np.arange(1, 10001) / 100
        unstable = np.flatnonzero(np.abs(np.polynomial.polynomial.polyval(-x, polynomial)) > 1 + 1e-9)
        return float(x[unstable[0]]) if unstable.size else float(x[-1])

    def _check_shapes(self) -> None:
        num_stages = self.num_stages
        _check_shape("b_sol", self.b_sol, (max(num_stages, 1),))
        _check_shape("c", self.c, (num_stages - 1,))
        _check_triangle("a_lower", self.a_lower, num_stages)
        if self.b_error is not None:
            _check_shape("b_error", self.b_error, (num_stages,))
        if self.a_diagonal is not None:
            _check_shape("a_diagonal", self.a_diagonal, (num_stages,))
        if self.a_predictor is not None:
            _check_triangle("a_predictor", self.a_predictor, num_stages)

    def _check_sums(self) -> None:
        _check_sum("`b_sol`", self.b_sol, 1.0)
        if self.b_error is not None:
            _check_sum("`b_error`", self.b_error, 0.0)
        diagonal = np.zeros(self.num_stages) if self.a_diagonal is None else self.a_diagonal
        _check_sum("`a_diagonal[0]` and `c1`", diagonal[:1], self.c1)
        for i, (row, own, node) in enumerate(zip(self.a_lower, diagonal[1:], self.c, strict=True)):
            _check_sum(f"`a_lower[{i}]` with its diagonal entry", np.append(row, own), float(node))
        for i, row in enumerate(self.a_predictor or ()):
            _check_sum(f"`a_predictor[{i}]`", row, 1.0)


@dataclass(frozen=True, eq=False, init=False)
class MultiButcherTableau:
    """The tableaus of a method for a split vector field, such as an implicit--explicit one.

    Parameters
    ----------
    *tableaus
        One tableau for each term, with the same number of stages, at most one of them implicit. A stage evaluates each
        term at the node of its own tableau.

    Raises
    ------
    ValueError
        If there is no tableau, the numbers of stages differ, or more than one tableau is implicit.

    Examples
    --------
    >>> import rungax
    >>> explicit = rungax.ButcherTableau(
    ...     c=[1.0], b_sol=[1.0, 0.0], b_error=None, a_lower=[[1.0]]
    ... )
    >>> implicit = rungax.ButcherTableau(
    ...     c=[1.0],
    ...     b_sol=[0.0, 1.0],
    ...     b_error=None,
    ...     a_lower=[[0.0]],
    ...     a_diagonal=[0.0, 1.0],
    ...     a_predictor=[[1.0]],
    ... )
    >>> rungax.MultiButcherTableau(explicit, implicit).num_stages
    2
    """

    tableaus: tuple[ButcherTableau, ...]

    def __init__(self, *tableaus: ButcherTableau) -> None:
        if not tableaus:
            raise ValueError("`tableaus`: expected at least one tableau, found none.")
        num_stages = [tableau.num_stages for tableau in tableaus]
        if len(set(num_stages)) != 1:
            raise ValueError(f"`tableaus`: expected equal numbers of stages, found {num_stages}.")
        num_implicit = sum(tableau.implicit for tableau in tableaus)
        if num_implicit > 1:
            raise ValueError(f"`tableaus`: expected at most one implicit tableau, found {num_implicit}.")
        object.__setattr__(self, "tableaus", tableaus)

    @property
    def num_stages(self) -> int:
        """Number of stages of every term."""
        return self.tableaus[0].num_stages

    @property
    def implicit(self) -> tuple[bool, ...]:
        """For each tableau, true if a stage appears in its own equation."""
        return tuple(tableau.implicit for tableau in self.tableaus)

    @property
    def ssal(self) -> bool:
        """True if every tableau is "solution same as last": the last stage is evaluated at the new solution."""
        return all(tableau.ssal for tableau in self.tableaus)

    @property
    def fsal(self) -> bool:
        """True if every tableau is "first same as last": the last stage of a step is the first of the next one."""
        return all(tableau.fsal for tableau in self.tableaus)


@dataclass(frozen=True, eq=False, init=False)
class ContinuousExtension:
    r"""Dense output of a Runge--Kutta method, and the extra stages that it needs.

    $$y(t_0 + \theta h) = y_0 + h \theta \sum_i k_i \sum_{j} w_{ij}\, (2\theta - 1)^j, \qquad \theta \in [0, 1],$$

    where $i$ runs over the stages of the method followed by the extra ones. Papers print coefficients of powers of
    $\theta$, see `from_powers`. For methods of high order the coefficients of powers of $2\theta - 1$ are up to $10^4$
    times smaller, and so are rounding errors.

    Parameters
    ----------
    c
        Nodes of the extra stages, shape `(e,)`.
    a_lower
        Rows of the extra stages; row `j` has length `num_stages + j`.
    weights
        The matrix $w$, shape `(num_stages + e, degree)`.
    order
        Order of the dense output, whose local error is $O(h^{\mathrm{order} + 1})$ at every $\theta$.

    Raises
    ------
    ValueError
        If lengths disagree, a row does not sum to its node, or $\sum_i w_{ij} (2\theta - 1)^j \neq 1$.
    """

    c: Float64Array
    a_lower: tuple[Float64Array, ...]
    weights: Float64Array
    order: int

    def __init__(self, c: ArrayLike, a_lower: Sequence[ArrayLike], weights: ArrayLike, order: int) -> None:
        object.__setattr__(self, "c", _frozen(c))
        object.__setattr__(self, "a_lower", tuple(_frozen(row) for row in a_lower))
        object.__setattr__(self, "weights", _frozen(weights))
        object.__setattr__(self, "order", order)
        if self.weights.ndim != 2:
            raise ValueError(f"`weights`: expected a matrix stage by power, found shape {self.weights.shape}.")
        _check_shape("c", self.c, (len(self.a_lower),))
        for j, (row, node) in enumerate(zip(self.a_lower, self.c, strict=True)):
            _check_shape(f"a_lower[{j}]", row, (self.num_stages + j,))
            _check_sum(f"`a_lower[{j}]`", row, float(node))
        for j, column in enumerate(self.weights.T):
            _check_sum(f"`weights[:, {j}]`", column, 1.0 if j == 0 else 0.0)

    @classmethod
    def from_powers(
        cls, c: ArrayLike, a_lower: Sequence[ArrayLike], rows: Iterable[Iterable[Fraction | float]], order: int
    ) -> "ContinuousExtension":
        r"""The extension with these coefficients of $\theta, \theta^2, \dots$ for each stage, rounded only once."""
        return cls(c, a_lower, np.stack([rounded(_about_the_middle(row)) for row in rows]), order)

    @property
    def num_stages(self) -> int:
        """Number of stages of the method, without the extra ones."""
        return self.weights.shape[0] - len(self.a_lower)


def _about_the_middle(row: Iterable[Fraction | float]) -> list[Fraction]:
    r"""Coefficients in powers of $u = 2\theta - 1$ of the polynomial with these coefficients in powers of $\theta$."""
    coefficients = [Fraction(entry) for entry in row]
    return [
        sum((Fraction(comb(n, j), 2**n) * entry for n, entry in enumerate(coefficients) if n >= j), Fraction(0))
        for j in range(len(coefficients))
    ]


def rounded(row: Iterable[Fraction]) -> Float64Array:
    """The row in float64."""
    return np.array([float(entry) for entry in row], dtype=np.float64)


def _frozen(values: ArrayLike) -> Float64Array:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _check_shape(name: str, array: Float64Array, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"`{name}`: expected shape {expected}, found {array.shape}.")


def _check_triangle(name: str, rows: tuple[Float64Array, ...], num_stages: int) -> None:
    if len(rows) != num_stages - 1:
        raise ValueError(f"`{name}`: expected {num_stages - 1} rows, found {len(rows)}.")
    for i, row in enumerate(rows):
        _check_shape(f"{name}[{i}]", row, (i + 1,))


def _check_sum(label: str, entries: Float64Array, expected: float) -> None:
    # Relative to the entries: when large ones of opposite sign cancel, their rounding errors remain.
    scale = max(1.0, float(np.max(np.abs(entries), initial=0.0)))
    found = float(np.sum(entries))
    if abs(found - expected) > _TOLERANCE * scale:
        raise ValueError(f"{label}: expected entries that sum to {expected}, found a sum of {found}.")
