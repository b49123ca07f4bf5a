r"""Runge--Kutta coefficients: as arrays a solver steps with, and as the numbers a paper prints.

A method with $s$ stages advances $y' = f(t, y)$ over a step $h$ by

$$k_i = f\Big(t_0 + c_i h,\; y_0 + h \sum_j a_{ij} k_j\Big), \qquad y_1 = y_0 + h \sum_i b_i k_i.$$

The files of `rungax.solvers.tableaus` hold `PublishedMethod`s, exact rationals laid out as printed, and
`PublishedSplitMethod`s, pairs of them for a split vector field. Solvers read their float64 roundings, `tableau` and
`extension`. Differences such as $b - \hat b$ are formed exactly and rounded once.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from itertools import combinations, islice
from math import comb, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

type Float64Array = NDArray[np.float64]
type Row = tuple[Fraction, ...]

# Loose enough for coefficients that carry only double precision, tight enough that a mistyped digit is caught.
_TOLERANCE = 1e-10

_ONE = Fraction(1)
# See `extrapolation_predictor`.
_MOST_PREDICTOR_NODES = 3
_LARGEST_PREDICTOR = 4


@dataclass(frozen=True, eq=False, init=False)
class ButcherTableau:
    r"""The coefficients of an explicit or diagonally implicit Runge--Kutta method in float64.

    Compared and hashed by identity, so a tableau can be a static argument.

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
        Rows like those of `a_lower`, each summing to one: stage $i$ starts its iteration from the state
        $\sum_j p_{ij} y_j$, extrapolated from those of earlier stages. Needed exactly when `a_diagonal` is given.
    c1
        Node of stage 1.

    Raises
    ------
    ValueError
        If lengths disagree, a row of $a$ does not sum to its node, $\sum_i b_i \neq 1$,
        $\sum_i (b_i - \hat b_i) \neq 0$, a row of `a_predictor` does not sum to one, or only one of `a_diagonal`
        and `a_predictor` is given.
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
        """Whether some stage appears in its own equation."""
        return bool(self.implicit_stages)

    @cached_property
    def implicit_stages(self) -> tuple[int, ...]:
        """The stages, counted from zero, that appear in their own equation."""
        return () if self.a_diagonal is None else tuple(np.flatnonzero(self.a_diagonal).tolist())

    @cached_property
    def constant_diagonal(self) -> float | None:
        """The diagonal entry that all implicit stages share: one Newton matrix serves them; `None` if they differ."""
        entries = set() if self.a_diagonal is None else set(self.a_diagonal[self.a_diagonal != 0].tolist())
        return entries.pop() if len(entries) == 1 else None

    @cached_property
    def ssal(self) -> bool:
        """Solution same as last: the last stage is evaluated at the new solution."""
        if self.num_stages == 1 and self.a_diagonal is None:
            return False
        last_row = self.a_lower[-1] if self.a_lower else np.zeros(0)
        last_diagonal = 0.0 if self.a_diagonal is None else self.a_diagonal[-1]
        return np.array_equal(last_row, self.b_sol[:-1]) and bool(self.b_sol[-1] == last_diagonal)

    @cached_property
    def fsal(self) -> bool:
        """First same as last: the last stage of a step is the first stage of the next one."""
        first_explicit = self.c1 == 0.0 and (self.a_diagonal is None or self.a_diagonal[0] == 0.0)
        return self.ssal and bool(first_explicit) and self.c.size > 0 and bool(self.c[-1] == 1.0)

    @cached_property
    def real_stability(self) -> float:
        r"""How far the stability interval $[-x, 0]$ of an explicit method reaches, to a hundredth, 100 at most.

        There $|R(z)| \le 1$, with $R(z) = 1 + z\, b^T (1 + z A 1 + z^2 A^2 1 + \dots)$.
        """
        assert not self.implicit, "an implicit method's is not a polynomial"
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
    """Tableaus that advance the terms of a split vector field together, as in an implicit-explicit method.

    Parameters
    ----------
    *tableaus
        One tableau per term, with equally many stages at the same nodes, at most one of them implicit.

    Raises
    ------
    ValueError
        If there is no tableau, the numbers of stages or the nodes differ, or more than one tableau is implicit.
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
        nodes = [np.append(tableau.c1, tableau.c) for tableau in tableaus]
        if not all(np.allclose(other, nodes[0], rtol=0, atol=_TOLERANCE) for other in nodes):
            raise ValueError(f"`tableaus`: expected equal nodes, found {[node.tolist() for node in nodes]}.")
        object.__setattr__(self, "tableaus", tableaus)

    @property
    def num_stages(self) -> int:
        """Number of stages, the same for every term."""
        return self.tableaus[0].num_stages

    @property
    def c(self) -> Float64Array:
        r"""Nodes of stages $2, \dots, s$, shape `(s - 1,)`."""
        return self.tableaus[0].c

    @property
    def c1(self) -> float:
        """Node of stage 1."""
        return self.tableaus[0].c1

    @property
    def ssal(self) -> bool:
        """Solution same as last, for every term: the last stage is evaluated at the new solution."""
        return all(tableau.ssal for tableau in self.tableaus)

    @property
    def fsal(self) -> bool:
        """First same as last, for every term: the last stage of a step is the first stage of the next one."""
        return all(tableau.fsal for tableau in self.tableaus)


@dataclass(frozen=True, eq=False, init=False)
class ContinuousExtension:
    r"""Dense output of a Runge--Kutta method, with the stages that only it needs.

    $$y(t_0 + \theta h) = y_0 + h \theta \sum_i k_i \sum_{j} w_{ij}\, (2\theta - 1)^j, \qquad \theta \in [0, 1],$$

    where $i$ runs over the stages of the method followed by the extra ones. Papers print powers of $\theta$, see
    `from_powers`; about the middle of the step the coefficients are up to $10^4$ times smaller for methods of high
    order, and so is the rounding.

    Parameters
    ----------
    c
        Nodes of the extra stages, shape `(e,)`.
    a_lower
        Rows of the extra stages; row `j` has length `num_stages + j`.
    weights
        The matrix $w$, shape `(num_stages + e, degree)`.
    order
        The dense output has local error $O(h^{\mathrm{order} + 1})$ at every $\theta$.

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
        r"""From the coefficients of $\theta, \theta^2, \dots$ of each stage, exact before they are rounded."""
        return cls(c, a_lower, np.stack([_rounded(_about_the_middle(row)) for row in rows]), order)

    @property
    def num_stages(self) -> int:
        """Number of stages of the method that is extended."""
        return self.weights.shape[0] - len(self.a_lower)


@dataclass(frozen=True, eq=False)
class PublishedMethod:
    r"""An explicit or diagonally implicit Runge--Kutta method in the exact rationals its paper prints.

    Parameters
    ----------
    c
        Nodes of stages $2, \dots, s$.
    a
        Rows of $a$ below the diagonal for stages $2, \dots, s$, of lengths $1, \dots, s - 1$.
    a_diagonal
        The diagonal of $a$, of length $s$, or `None` for an explicit method. Its first entry is the node of stage 1.
    a_predictor
        Rows like those of `a` from which implicit stages start, see `ButcherTableau`, exactly if `a_diagonal` is
        given.
    b
        Weights of the solution.
    b_hat
        Weights of the embedded solution, or `None`.
    extra_c, extra_a
        Nodes and rows of the stages that only the dense output needs; row $j$ has length $s + j$.
    interpolant
        Rows stage by power of the dense output, see `ContinuousExtension`, or `None`.
    order, error_order, interpolant_order
        Orders of `b`, `b_hat` and `interpolant`.
    reference
        The source, with table or page.

    Raises
    ------
    ValueError
        If lengths disagree or a row does not sum to its node.
    """

    c: Row
    a: tuple[Row, ...]
    a_diagonal: Row | None
    a_predictor: tuple[Row, ...] | None
    b: Row
    b_hat: Row | None
    extra_c: Row
    extra_a: tuple[Row, ...]
    interpolant: tuple[Row, ...] | None
    order: int
    error_order: int | None
    interpolant_order: int | None
    reference: str

    @classmethod
    def parse(
        cls,
        *,
        reference: str,
        order: int,
        c: str,
        a: str,
        b: str,
        a_diagonal: str | None = None,
        b_hat: str | None = None,
        error_order: int | None = None,
        extra_c: str = "",
        extra_a: str = "",
        interpolant: str | None = None,
        interpolant_order: int | None = None,
    ) -> "PublishedMethod":
        """Read a method from text: fractions such as `3/40` or decimals, separated by white space.

        How the entries are broken into lines is free, since the number of stages fixes the length of every row, and
        a long fraction may be broken at its slash. Implicit stages start from `extrapolation_predictor`.
        """
        nodes = _parse(c)
        weights = _parse(b)
        num_stages = len(weights)
        diagonal = None if a_diagonal is None else next(_split("a_diagonal", _parse(a_diagonal), [num_stages]))
        extra_nodes = _parse(extra_c)
        num_rows = num_stages + len(extra_nodes)
        entries = None if interpolant is None else _parse(interpolant)
        return cls(
            c=nodes,
            a=tuple(_split("a", _parse(a), range(1, num_stages))),
            a_diagonal=diagonal,
            a_predictor=None if diagonal is None else extrapolation_predictor((diagonal[0], *nodes)),
            b=weights,
            b_hat=None if b_hat is None else _parse(b_hat),
            extra_c=extra_nodes,
            extra_a=tuple(_split("extra_a", _parse(extra_a), range(num_stages, num_rows))),
            interpolant=None
            if entries is None
            else tuple(_split("interpolant", entries, [len(entries) // num_rows] * num_rows)),
            order=order,
            error_order=error_order,
            interpolant_order=interpolant_order,
            reference=reference,
        )

    def __post_init__(self) -> None:
        # Both are cached: building them is what checks lengths and sums.
        _ = self.tableau, self.extension
        if (self.b_hat is None) != (self.error_order is None):
            raise ValueError(f"`error_order`: expected exactly when `b_hat` is given, found {self.error_order}.")
        if (self.interpolant is None) != (self.interpolant_order is None):
            found = self.interpolant_order
            raise ValueError(f"`interpolant_order`: expected exactly when `interpolant` is given, found {found}.")

    @cached_property
    def tableau(self) -> ButcherTableau:
        """The method in float64."""
        b_error = None
        if self.b_hat is not None:
            if len(self.b_hat) != len(self.b):
                raise ValueError(f"`b_hat`: expected {len(self.b)} entries, found {len(self.b_hat)}.")
            b_error = _rounded(weight - embedded for weight, embedded in zip(self.b, self.b_hat, strict=True))
        if self.a_diagonal is None or self.a_predictor is None:
            a_lower = tuple(_rounded_to_sum(row, node) for row, node in zip(self.a, self.c, strict=True))
            return ButcherTableau(_rounded(self.c), _rounded_to_sum(self.b, Fraction(1)), b_error, a_lower)
        # The diagonal is kept as it rounds, one number for all stages, and the other entries make up for it.
        diagonal = _rounded(self.a_diagonal)
        rests = [node - Fraction(own) for node, own in zip(self.c, diagonal[1:].tolist(), strict=True)]
        a_lower = tuple(_rounded_to_sum(row, rest) for row, rest in zip(self.a, rests, strict=True))
        stiffly_accurate = self.b == (*self.a[-1], self.a_diagonal[-1])
        b_sol = np.append(a_lower[-1], diagonal[-1]) if stiffly_accurate else _rounded_to_sum(self.b, Fraction(1))
        a_predictor = tuple(_rounded_to_sum(row, Fraction(1)) for row in self.a_predictor)
        return ButcherTableau(
            _rounded(self.c), b_sol, b_error, a_lower, diagonal, a_predictor, c1=float(self.a_diagonal[0])
        )

    @cached_property
    def extension(self) -> ContinuousExtension | None:
        """The dense output in float64, or `None`."""
        if self.interpolant is None or self.interpolant_order is None:
            return None
        a_lower = tuple(_rounded(row) for row in self.extra_a)
        return ContinuousExtension.from_powers(
            _rounded(self.extra_c), a_lower, self.interpolant, self.interpolant_order
        )


@dataclass(frozen=True, eq=False)
class PublishedSplitMethod:
    r"""An implicit--explicit Runge--Kutta method in the exact rationals its paper prints.

    $$y_1 = y_0 + h \sum_i \big(b^E_i k^E_i + b^I_i k^I_i\big), \qquad k^E_i = f^E(t_i, y_i),\ k^I_i = f^I(t_i, y_i),$$

    with $y_i = y_0 + h \sum_j (a^E_{ij} k^E_j + a^I_{ij} k^I_j)$ at the nodes that both parts share.

    Parameters
    ----------
    explicit, implicit
        The parts. Their orders are those of the two together, for which they satisfy the coupling conditions; a part
        alone may have a higher one.

    Raises
    ------
    ValueError
        If the nodes, the facts or the dense outputs of the parts differ, or `implicit` alone is not implicit.
    """

    explicit: PublishedMethod
    implicit: PublishedMethod

    @classmethod
    def parse(
        cls,
        *,
        reference: str,
        order: int,
        c: str,
        a_explicit: str,
        a_implicit: str,
        a_diagonal: str,
        b: str,
        b_explicit: str | None = None,
        b_hat: str | None = None,
        b_hat_explicit: str | None = None,
        error_order: int | None = None,
        interpolant: str | None = None,
        interpolant_order: int | None = None,
    ) -> "PublishedSplitMethod":
        """Read a method from text like `PublishedMethod.parse`; `b` and `b_hat` serve both parts unless they differ."""
        part = partial(
            PublishedMethod.parse,
            reference=reference,
            order=order,
            c=c,
            error_order=error_order,
            interpolant=interpolant,
            interpolant_order=interpolant_order,
        )
        return cls(
            explicit=part(
                a=a_explicit,
                b=b if b_explicit is None else b_explicit,
                b_hat=b_hat if b_hat_explicit is None else b_hat_explicit,
            ),
            implicit=part(a=a_implicit, a_diagonal=a_diagonal, b=b, b_hat=b_hat),
        )

    def __post_init__(self) -> None:
        # Building it is what checks numbers of stages and nodes.
        _ = self.tableau
        if self.explicit.a_diagonal is not None or self.implicit.a_diagonal is None:
            raise ValueError("`explicit` and `implicit`: expected `a_diagonal` of the second and not of the first.")
        for fact in ("order", "error_order", "interpolant_order", "reference"):
            found = getattr(self.explicit, fact), getattr(self.implicit, fact)
            if found[0] != found[1]:
                raise ValueError(f"`{fact}`: expected the same of both parts, found {found[0]} and {found[1]}.")
        if self.explicit.interpolant != self.implicit.interpolant:
            raise ValueError("`interpolant`: expected the same of both parts, found two.")

    @property
    def order(self) -> int:
        """Order of the solution."""
        return self.implicit.order

    @property
    def error_order(self) -> int | None:
        """Order of the embedded solution."""
        return self.implicit.error_order

    @property
    def interpolant_order(self) -> int | None:
        """Order of the dense output."""
        return self.implicit.interpolant_order

    @property
    def reference(self) -> str:
        """The source."""
        return self.implicit.reference

    @cached_property
    def tableau(self) -> MultiButcherTableau:
        """The explicit and the implicit part in float64, in this order."""
        return MultiButcherTableau(self.explicit.tableau, self.implicit.tableau)

    @property
    def extension(self) -> ContinuousExtension | None:
        r"""The dense output in float64, the same weights for $k^E$ and $k^I$, or `None`."""
        return self.implicit.extension


def extrapolation_predictor(c: Row) -> tuple[Row, ...]:
    r"""Rows that extrapolate the states of earlier stages to the node of the next one.

    Row $i$ holds the values at $c_i$ of the Lagrange polynomials on some of the nodes before it: on at most three, so
    that the polynomial is a parabola at best, and such that $\sum_j |p_{ij}| \le 4$. Of those the highest degree wins,
    then the least $\prod_j |c_i - c_j|$.

    Why states and not slopes: where the equation is stiff, a slope computed from a state holds its error times the
    stiffness, which may be larger than all else; started from extrapolated slopes, iterations for Robertson's problem
    diverge at every second step. Why a parabola: the stages of the methods here have stage order two. Why the bound:
    far or crowded nodes break it before the parabola is of use. Of stages at the same node only the last, the most
    accurate, is used; if $c_i$ is such a node itself, the row is that stage alone.

    Parameters
    ----------
    c
        Nodes of all stages, the first included.

    Returns
    -------
    tuple[Row, ...]
        Rows for stages $2, \dots, s$, of lengths $1, \dots, s - 1$, each summing to one exactly.
    """
    return tuple(_extrapolated(c[:i], c[i]) for i in range(1, len(c)))


def _extrapolated(nodes: Row, target: Fraction) -> Row:
    last_at = {node: j for j, node in enumerate(nodes)}
    candidates = [
        {
            last_at[node]: prod(((target - other) / (node - other) for other in chosen if other != node), start=_ONE)
            for node in chosen
        }
        for size in range(_MOST_PREDICTOR_NODES, 0, -1)
        for chosen in sorted(
            combinations(last_at, size), key=lambda chosen: prod(abs(target - node) for node in chosen)
        )
    ]
    row = next(row for row in candidates if sum(map(abs, row.values())) <= _LARGEST_PREDICTOR)
    return tuple(row.get(j, Fraction(0)) for j in range(len(nodes)))


def _parse(text: str) -> Row:
    return tuple(Fraction(token) for token in re.sub(r"\s*/\s*", "/", text).split())


def _split(name: str, entries: Row, lengths: Iterable[int]) -> Iterator[Row]:
    lengths = list(lengths)
    if len(entries) != sum(lengths):
        raise ValueError(f"`{name}`: expected {sum(lengths)} entries, found {len(entries)}.")
    remaining = iter(entries)
    return (tuple(islice(remaining, length)) for length in lengths)


def _about_the_middle(row: Iterable[Fraction | float]) -> list[Fraction]:
    r"""Coefficients in powers of $u = 2\theta - 1$ of the polynomial with these coefficients in powers of $\theta$."""
    coefficients = [Fraction(entry) for entry in row]
    return [
        sum((Fraction(comb(n, j), 2**n) * entry for n, entry in enumerate(coefficients) if n >= j), Fraction(0))
        for j in range(len(coefficients))
    ]


def _rounded(row: Iterable[Fraction]) -> Float64Array:
    return np.array([float(entry) for entry in row], dtype=np.float64)


def _rounded_to_sum(row: Row, total: Fraction) -> Float64Array:
    """`row` rounded, with its smallest entry chosen so that the sum is as near to `total` as can be.

    Where entries are large and cancel, the sum of their roundings is an error that every step makes anew.
    """
    rounded = [float(entry) for entry in row]
    entries = [i for i, entry in enumerate(rounded) if entry != 0]
    if len(entries) > 1:
        smallest = min(entries, key=lambda i: abs(rounded[i]))
        others = sum((Fraction(rounded[i]) for i in entries if i != smallest), Fraction(0))
        rounded[smallest] = float(total - others)
    return np.array(rounded, dtype=np.float64)


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
    # Relative to the entries, since large entries of opposite sign cancel only to their own rounding.
    scale = max(1.0, float(np.max(np.abs(entries), initial=0.0)))
    found = float(np.sum(entries))
    if abs(found - expected) > _TOLERANCE * scale:
        raise ValueError(f"{label}: expected entries that sum to {expected}, found a sum of {found}.")
