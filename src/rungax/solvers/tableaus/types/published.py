r"""Runge--Kutta methods as exact numbers.

The files of `rungax.solvers.tableaus` hold `PublishedMethod`s, rational numbers in the layout of the papers, and
`PublishedSplitMethod`s, pairs of them for a split vector field. Solvers use their float64 roundings, `tableau` and
`extension`. Differences such as $b - \hat b$ are computed exactly and rounded once.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from itertools import combinations, islice
from math import prod

import numpy as np

from .butcher import ButcherTableau, ContinuousExtension, Float64Array, MultiButcherTableau, rounded

type Row = tuple[Fraction, ...]

_ONE = Fraction(1)
# See `extrapolation_predictor`.
_MOST_PREDICTOR_NODES = 3
_LARGEST_PREDICTOR = 4


@dataclass(frozen=True, eq=False)
class PublishedMethod:
    r"""An explicit or diagonally implicit Runge--Kutta method in exact rational numbers.

    Parameters
    ----------
    c
        Nodes of stages $2, \dots, s$.
    a
        Rows of $a$ below the diagonal for stages $2, \dots, s$, of lengths $1, \dots, s - 1$.
    a_diagonal
        The diagonal of $a$, of length $s$, or `None` for an explicit method. Its first entry is the node of stage 1.
    a_predictor
        Rows of the same lengths as those of `a`, for the initial values of implicit stages: see `ButcherTableau`.
        Given exactly if `a_diagonal` is.
    b
        Weights of the solution.
    b_hat
        Weights of the embedded solution, or `None`.
    extra_c, extra_a, extra_a_diagonal
        Nodes, rows and diagonal of the extra stages of the dense output; row $j$ has length $s + j$. The diagonal is
        given exactly if `a_diagonal` is and there are such stages.
    interpolant
        Coefficients of the dense output, a row for each stage: see `ContinuousExtension`; or `None`.
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
    extra_a_diagonal: Row | None
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
        extra_a_diagonal: str | None = None,
        interpolant: str | None = None,
        interpolant_order: int | None = None,
    ) -> "PublishedMethod":
        """Read a method from text: fractions such as `3/40` or decimals, separated by white space.

        Line breaks have no meaning, since the number of stages determines the length of every row. A long fraction may
        be broken at its slash. Implicit stages start from `extrapolation_predictor`.
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
            extra_a_diagonal=None if extra_a_diagonal is None else _parse(extra_a_diagonal),
            interpolant=None
            if entries is None
            else tuple(_split("interpolant", entries, [len(entries) // num_rows] * num_rows)),
            order=order,
            error_order=error_order,
            interpolant_order=interpolant_order,
            reference=reference,
        )

    def __post_init__(self) -> None:
        # They are cached; their constructors check lengths and sums.
        _ = self.tableau, self.extension, self.dense_tableau
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
            b_error = rounded(weight - embedded for weight, embedded in zip(self.b, self.b_hat, strict=True))
        if self.a_diagonal is None or self.a_predictor is None:
            a_lower = tuple(_rounded_to_sum(row, node) for row, node in zip(self.a, self.c, strict=True))
            return ButcherTableau(rounded(self.c), _rounded_to_sum(self.b, Fraction(1)), b_error, a_lower)
        # The rounded diagonal is one number for all stages, and the other entries compensate for its rounding.
        diagonal = rounded(self.a_diagonal)
        rests = [node - Fraction(own) for node, own in zip(self.c, diagonal[1:].tolist(), strict=True)]
        a_lower = tuple(_rounded_to_sum(row, rest) for row, rest in zip(self.a, rests, strict=True))
        stiffly_accurate = self.b == (*self.a[-1], self.a_diagonal[-1])
        b_sol = np.append(a_lower[-1], diagonal[-1]) if stiffly_accurate else _rounded_to_sum(self.b, Fraction(1))
        a_predictor = tuple(_rounded_to_sum(row, Fraction(1)) for row in self.a_predictor)
        return ButcherTableau(
            rounded(self.c), b_sol, b_error, a_lower, diagonal, a_predictor, c1=float(self.a_diagonal[0])
        )

    @cached_property
    def dense_tableau(self) -> ButcherTableau:
        """The method in float64 with the extra stages of its dense output as its last ones, which have no weight."""
        if not self.extra_c:
            return self.tableau
        method, extra_c, none = self.tableau, rounded(self.extra_c), np.zeros(len(self.extra_c))
        c, b_sol = np.append(method.c, extra_c), np.append(method.b_sol, none)
        a_lower = (*method.a_lower, *(rounded(row) for row in self.extra_a))
        if self.a_diagonal is None or method.a_diagonal is None or method.a_predictor is None:
            return ButcherTableau(c, b_sol, None, a_lower)
        if self.extra_a_diagonal is None:
            raise ValueError("`extra_a_diagonal`: expected that of the extra stages of an implicit method, found none.")
        predictor = extrapolation_predictor((self.a_diagonal[0], *self.c, *self.extra_c))
        extra_predictor = tuple(_rounded_to_sum(row, Fraction(1)) for row in predictor[len(self.c) :])
        diagonal = np.append(method.a_diagonal, rounded(self.extra_a_diagonal))
        a_predictor = (*method.a_predictor, *extra_predictor)
        return ButcherTableau(c, b_sol, None, a_lower, diagonal, a_predictor, c1=method.c1)

    @cached_property
    def extension(self) -> ContinuousExtension | None:
        """The dense output in float64, or `None`."""
        if self.interpolant is None or self.interpolant_order is None:
            return None
        # An implicit method has its extra stages in `dense_tableau`.
        extra_c, extra_a = (self.extra_c, self.extra_a) if self.a_diagonal is None else ((), ())
        a_lower = tuple(rounded(row) for row in extra_a)
        return ContinuousExtension.from_powers(rounded(extra_c), a_lower, self.interpolant, self.interpolant_order)


@dataclass(frozen=True, eq=False)
class PublishedSplitMethod:
    r"""An implicit--explicit Runge--Kutta method in exact rational numbers.

    $$y_1 = y_0 + h \sum_i \big(b^E_i k^E_i + b^I_i k^I_i\big), \qquad k^E_i = f^E(t_i, y_i),\ k^I_i = f^I(t_i, y_i),$$

    with $y_i = y_0 + h \sum_j (a^E_{ij} k^E_j + a^I_{ij} k^I_j)$ at the nodes that both parts share.

    Parameters
    ----------
    explicit, implicit
        The parts. Their orders are those of the pair, for which they satisfy the coupling conditions; a part alone may
        have a higher order.

    Raises
    ------
    ValueError
        If the parts differ in nodes, orders, reference or dense output, or if not exactly `implicit` is implicit.
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
        extra_c: str = "",
        extra_a_explicit: str = "",
        extra_a_implicit: str = "",
        extra_a_diagonal: str | None = None,
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
            extra_c=extra_c,
            interpolant=interpolant,
            interpolant_order=interpolant_order,
        )
        return cls(
            explicit=part(
                a=a_explicit,
                extra_a=extra_a_explicit,
                b=b if b_explicit is None else b_explicit,
                b_hat=b_hat if b_hat_explicit is None else b_hat_explicit,
            ),
            implicit=part(
                a=a_implicit,
                a_diagonal=a_diagonal,
                b=b,
                b_hat=b_hat,
                extra_a=extra_a_implicit,
                extra_a_diagonal=extra_a_diagonal,
            ),
        )

    def __post_init__(self) -> None:
        # Its constructor checks numbers of stages and nodes.
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

    @cached_property
    def dense_tableau(self) -> MultiButcherTableau:
        """Both parts in float64 with the extra stages of the dense output as their last ones, which have no weight."""
        return MultiButcherTableau(self.explicit.dense_tableau, self.implicit.dense_tableau)

    @property
    def extension(self) -> ContinuousExtension | None:
        r"""The dense output in float64, with the same weights for $k^E$ and $k^I$, or `None`."""
        return self.implicit.extension


def extrapolation_predictor(c: Row) -> tuple[Row, ...]:
    r"""Rows that extrapolate the states of earlier stages to the node of the next one.

    Row $i$ holds the values at $c_i$ of the Lagrange polynomials on some of the nodes before it. There are at most
    three of these nodes, so that the degree is at most two, and $\sum_j |p_{ij}| \le 4$. Of all such sets of nodes one
    with the highest degree is chosen, among these the one with the least $\prod_j |c_i - c_j|$.

    States are extrapolated, not slopes, because a slope computed from a state contains the error of the state times the
    stiffness, which may be larger than the slope itself: started from extrapolated slopes, iterations for Robertson's
    problem diverge at every second step. The degree is at most two because the methods here have stage order two. The
    bound excludes nodes that are far away or close to each other, from which extrapolation is inaccurate. Of stages at
    the same node only the last is used, which is the most accurate. If $c_i$ is itself the node of an earlier stage,
    the row selects that stage.

    Parameters
    ----------
    c
        Nodes of all stages, including the first.

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


def _rounded_to_sum(row: Row, total: Fraction) -> Float64Array:
    """`row` rounded, with its smallest entry chosen so that the sum is as close to `total` as possible.

    If entries are large and cancel, the sum of their rounding errors would be an error of every step.
    """
    rounded = [float(entry) for entry in row]
    entries = [i for i, entry in enumerate(rounded) if entry != 0]
    if len(entries) > 1:
        smallest = min(entries, key=lambda i: abs(rounded[i]))
        others = sum((Fraction(rounded[i]) for i in entries if i != smallest), Fraction(0))
        rounded[smallest] = float(total - others)
    return np.array(rounded, dtype=np.float64)
