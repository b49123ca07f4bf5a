r"""Coefficients of Rosenbrock methods, in the form without products with the Jacobian.

A method with $s$ stages advances $y' = f(t, y)$ over a step $h$ by solving, one after another,

$$\Big(\frac{1}{h \gamma} I - J\Big) u_i = f\Big(t_0 + \alpha_i h,\; y_0 + \sum_{j<i} a_{ij} u_j\Big)
+ \frac{1}{h} \sum_{j<i} c_{ij} u_j + \gamma_i h \frac{\partial f}{\partial t}(t_0, y_0),
\qquad y_1 = y_0 + \sum_i m_i u_i,$$

with $J = \partial f / \partial y\,(t_0, y_0)$: all stages share one matrix (E. Hairer and G. Wanner, *Solving Ordinary
Differential Equations II*, 2nd ed. (1996), IV.7, equation 7.25). The files of `rungax.solvers.tableaus` hold
`RosenbrockTableau`s. They store the decimals of the papers as exact rational numbers; solvers use their float64
roundings.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

type Float64Array = NDArray[np.float64]
type Number = Fraction | float
type Row = tuple[Fraction, ...]

# Large enough for coefficients of double precision only, small enough to catch a mistyped digit.
_TOLERANCE = Fraction(1, 10**10)


@dataclass(frozen=True, eq=False)
class RosenbrockCoefficients:
    """The exact coefficients of a `RosenbrockTableau`, with the names of its parameters."""

    gamma: Fraction
    alpha: Row
    gamma_sums: Row
    a: tuple[Row, ...]
    c: tuple[Row, ...]
    m: Row
    m_hat: Row | None
    interpolant: tuple[Row, ...] | None


@dataclass(frozen=True, eq=False, init=False)
class RosenbrockTableau:
    r"""A Rosenbrock method: its coefficients, their orders and their source.

    $$\Big(\frac{1}{h \gamma} I - J\Big) u_i = f\Big(t_0 + \alpha_i h,\; y_0 + \sum_{j<i} a_{ij} u_j\Big)
    + \frac{1}{h} \sum_{j<i} c_{ij} u_j + \gamma_i h \frac{\partial f}{\partial t}(t_0, y_0),
    \qquad y_1 = y_0 + \sum_i m_i u_i$$

    Tableaus are compared and hashed by identity, so that one can be a static argument.

    Parameters
    ----------
    gamma
        The diagonal $\gamma$, shared by all stages.
    alpha
        Nodes $\alpha_1, \dots, \alpha_s$; the first is zero.
    gamma_sums
        Weights $\gamma_1, \dots, \gamma_s$ of the time derivative; the first is $\gamma$.
    a, c
        Rows of $a$ and of $c$ for stages $2, \dots, s$, of lengths $1, \dots, s - 1$.
    m
        Weights of the solution.
    m_hat
        Weights of the embedded solution, or `None`.
    interpolant
        Rows $h_1, \dots, h_n$ over the stages of the dense output

        $$y(t_0 + \theta h) = (1 - \theta) y_0
        + \theta \big(y_1 + (1 - \theta)(\kappa_1 + \theta \kappa_2 + \dots + \theta^{n-1} \kappa_n)\big),
        \qquad \kappa_l = \sum_i h_{li} u_i,$$

        or `None` for a method without one of its own.
    order, error_order, interpolant_order
        Orders of `m`, `m_hat` and `interpolant`. The local error of the dense output is
        $O(h^{\text{interpolant order} + 1})$ at every $\theta$.
    reference
        The source.

    Raises
    ------
    ValueError
        If lengths disagree; an order is given without its weights or weights without their order; `alpha` or
        `gamma_sums` contradicts `a` and `c`; or the solution, the embedded solution or the dense output is wrong for
        constant $f$.

    References
    ----------
    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.7, equation 7.25.

    Examples
    --------
    The linearly implicit Euler method:

    >>> import rungax
    >>> tableau = rungax.RosenbrockTableau(
    ...     gamma=1, alpha=[0], gamma_sums=[1], a=[], c=[], m=[1], order=1
    ... )
    >>> tableau.num_stages, tableau.num_evaluations
    (1, 1)
    """

    exact: RosenbrockCoefficients
    order: int
    error_order: int | None
    interpolant_order: int | None
    reference: str

    def __init__(
        self,
        *,
        gamma: Number,
        alpha: Sequence[Number],
        gamma_sums: Sequence[Number],
        a: Sequence[Sequence[Number]],
        c: Sequence[Sequence[Number]],
        m: Sequence[Number],
        m_hat: Sequence[Number] | None = None,
        interpolant: Sequence[Sequence[Number]] | None = None,
        order: int,
        error_order: int | None = None,
        interpolant_order: int | None = None,
        reference: str = "",
    ) -> None:
        exact = RosenbrockCoefficients(
            gamma=Fraction(gamma),
            alpha=_row(alpha),
            gamma_sums=_row(gamma_sums),
            a=tuple(_row(row) for row in a),
            c=tuple(_row(row) for row in c),
            m=_row(m),
            m_hat=None if m_hat is None else _row(m_hat),
            interpolant=None if interpolant is None else tuple(_row(row) for row in interpolant),
        )
        object.__setattr__(self, "exact", exact)
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "error_order", error_order)
        object.__setattr__(self, "interpolant_order", interpolant_order)
        object.__setattr__(self, "reference", reference)
        _check_order("error_order", error_order, "m_hat", exact.m_hat)
        _check_order("interpolant_order", interpolant_order, "interpolant", exact.interpolant)
        _check_lengths(exact)
        _check_constants(exact)

    @classmethod
    def parse(
        cls,
        *,
        reference: str,
        order: int,
        gamma: str,
        alpha: str,
        gamma_sums: str,
        a: str,
        c: str,
        m: str,
        m_hat: str | None = None,
        error_order: int | None = None,
        interpolant: str | None = None,
        interpolant_order: int | None = None,
    ) -> "RosenbrockTableau":
        """Read a method from text: decimals or fractions such as `3/40`, separated by white space.

        Line breaks have no meaning, since the number of stages determines the length of every row.
        """
        weights = _parse(m)
        num_stages = len(weights)
        entries = None if interpolant is None else _parse(interpolant)
        return cls(
            gamma=Fraction(gamma),
            alpha=_parse(alpha),
            gamma_sums=_parse(gamma_sums),
            a=tuple(_split("a", _parse(a), range(1, num_stages))),
            c=tuple(_split("c", _parse(c), range(1, num_stages))),
            m=weights,
            m_hat=None if m_hat is None else _parse(m_hat),
            interpolant=None
            if entries is None
            else tuple(_split("interpolant", entries, [num_stages] * max(1, len(entries) // num_stages))),
            order=order,
            error_order=error_order,
            interpolant_order=interpolant_order,
            reference=reference,
        )

    @property
    def num_stages(self) -> int:
        """Number of stages $s$, and of linear systems that a step solves."""
        return len(self.exact.m)

    @cached_property
    def gamma(self) -> float:
        r"""The diagonal $\gamma$."""
        return float(self.exact.gamma)

    @cached_property
    def alpha(self) -> Float64Array:
        r"""Nodes $\alpha_i$, shape `(s,)`."""
        return _rounded(self.exact.alpha)

    @cached_property
    def gamma_sums(self) -> Float64Array:
        r"""Weights $\gamma_i$ of the time derivative, shape `(s,)`."""
        return _rounded(self.exact.gamma_sums)

    @cached_property
    def a(self) -> tuple[Float64Array, ...]:
        r"""Rows of $a$, one for each stage, of lengths $0, 1, \dots, s - 1$."""
        return (_rounded(()), *(_rounded(row) for row in self.exact.a))

    @cached_property
    def c(self) -> tuple[Float64Array, ...]:
        r"""Rows of $c$, one for each stage, of lengths $0, 1, \dots, s - 1$."""
        return (_rounded(()), *(_rounded(row) for row in self.exact.c))

    @cached_property
    def m(self) -> Float64Array:
        """Weights of the solution, shape `(s,)`."""
        return _rounded(self.exact.m)

    @cached_property
    def e(self) -> Float64Array | None:
        r"""Weights $m - \hat m$ of the error estimate $y_1 - \hat y_1$, shape `(s,)`, or `None`."""
        if self.exact.m_hat is None:
            return None
        return _rounded(weight - embedded for weight, embedded in zip(self.exact.m, self.exact.m_hat, strict=True))

    @cached_property
    def weights(self) -> Float64Array | None:
        r"""The coefficients of the dense output, with a row for each stage and a column for each power, or `None`.

        $$y(t_0 + \theta h) = y_0 + \theta \sum_i u_i \sum_j w_{ij}\, (2\theta - 1)^j$$
        """
        if self.exact.interpolant is None:
            return None
        rows = zip(self.exact.m, *self.exact.interpolant, strict=True)
        matrix = np.stack([_rounded(_about_the_middle(_over_theta(row))) for row in rows])
        matrix.flags.writeable = False
        return matrix

    @cached_property
    def stiffly_accurate(self) -> bool:
        """True if the solution is the argument of the last stage plus that stage, and the last node is 1.

        An infinitely stiff component then reaches its equilibrium in one step, even if this depends on time.
        """
        exact = self.exact
        last_row = exact.a[-1] if exact.a else ()
        return exact.m == (*last_row, Fraction(1)) and exact.alpha[-1] == 1

    @cached_property
    def fsal(self) -> bool:
        """True if the method is "first same as last": the last stage evaluates $f(t_1, y_1)$, as the next step does."""
        exact = self.exact
        return bool(exact.a) and exact.m == (*exact.a[-1], Fraction(0)) and exact.alpha[-1] == 1

    @cached_property
    def evaluated_at(self) -> tuple[int, ...]:
        """Indices, for each stage, of the first stage with the same node and argument, and so the same $f$.

        Stage `i` needs an evaluation of its own if `evaluated_at[i] == i`.
        """
        arguments = [
            (node, _without_trailing_zeros(row))
            for node, row in zip(self.exact.alpha, ((), *self.exact.a), strict=True)
        ]
        return tuple(arguments.index(argument) for argument in arguments)

    @property
    def num_evaluations(self) -> int:
        """Number of evaluations of $f$ in a step; the last one of an `fsal` method is also the next step's first."""
        return len(set(self.evaluated_at))


def _row(entries: Iterable[Number]) -> Row:
    return tuple(Fraction(entry) for entry in entries)


def _parse(text: str) -> Row:
    return tuple(Fraction(token) for token in text.split())


def _split(name: str, entries: Row, lengths: Iterable[int]) -> Iterator[Row]:
    lengths = list(lengths)
    if len(entries) != sum(lengths):
        raise ValueError(f"`{name}`: expected {sum(lengths)} entries, found {len(entries)}.")
    remaining = iter(entries)
    return (tuple(islice(remaining, length)) for length in lengths)


def _rounded(row: Iterable[Fraction]) -> Float64Array:
    array = np.array([float(entry) for entry in row], dtype=np.float64)
    array.flags.writeable = False
    return array


def _over_theta(row: Sequence[Fraction]) -> list[Fraction]:
    r"""$m + (1 - \theta)(h_1 + \theta h_2 + \dots)$ for the row $m, h_1, h_2, \dots$, in powers of $\theta$."""
    weight, *corrections = row
    zero = Fraction(0)
    raised = [weight + corrections[0], *corrections[1:], zero]
    return [above - below for above, below in zip(raised, [zero, *corrections], strict=True)]


def _about_the_middle(coefficients: Sequence[Fraction]) -> list[Fraction]:
    r"""Coefficients in powers of $u = 2\theta - 1$ of the polynomial with these coefficients in powers of $\theta$."""
    result: list[Fraction] = []
    for coefficient in reversed(coefficients):  # Horner's rule, each time by (1 + u) / 2
        halves = [entry / 2 for entry in result]
        result = [low + high for low, high in zip([*halves, Fraction(0)], [Fraction(0), *halves], strict=True)]
        result[0] += coefficient
    return result


def _without_trailing_zeros(row: Row) -> Row:
    length = max((i + 1 for i, entry in enumerate(row) if entry != 0), default=0)
    return row[:length]


def _check_order(name: str, order: int | None, weights_name: str, weights: object) -> None:
    if (order is None) != (weights is None):
        raise ValueError(f"`{name}`: expected exactly when `{weights_name}` is given, found {order}.")


def _check_lengths(exact: RosenbrockCoefficients) -> None:
    num_stages = len(exact.m)
    _check_length("m", exact.m, max(num_stages, 1))
    _check_length("alpha", exact.alpha, num_stages)
    _check_length("gamma_sums", exact.gamma_sums, num_stages)
    for name, rows in (("a", exact.a), ("c", exact.c)):
        if len(rows) != num_stages - 1:
            raise ValueError(f"`{name}`: expected {num_stages - 1} rows, found {len(rows)}.")
        for i, row in enumerate(rows):
            _check_length(f"{name}[{i}]", row, i + 1)
    if exact.m_hat is not None:
        _check_length("m_hat", exact.m_hat, num_stages)
    if exact.interpolant is not None and not exact.interpolant:
        raise ValueError("`interpolant`: expected at least one row, found none.")
    for i, row in enumerate(exact.interpolant or ()):
        _check_length(f"interpolant[{i}]", row, num_stages)


def _check_length(name: str, row: Row, expected: int) -> None:
    if len(row) != expected:
        raise ValueError(f"`{name}`: expected {expected} entries, found {len(row)}.")


def _check_constants(exact: RosenbrockCoefficients) -> None:
    r"""Raise a `ValueError` unless the coefficients are right for constant $f = 1$, with stages $u_i = h \gamma_i$."""
    if exact.gamma <= 0:
        raise ValueError(f"`gamma`: expected a positive number, found {float(exact.gamma)}.")
    sums = exact.gamma_sums
    for i, (row, found) in enumerate(zip(((), *exact.c), sums, strict=True)):
        products = [entry * stage for entry, stage in zip(row, sums, strict=False)]
        terms = [exact.gamma, *(exact.gamma * product for product in products)]
        _check_sum(f"`gamma_sums[{i}]`, from `gamma` and `c`", terms, found)
    for i, (row, node) in enumerate(zip(((), *exact.a), exact.alpha, strict=True)):
        terms = [entry * stage for entry, stage in zip(row, sums, strict=False)]
        _check_sum(f"`alpha[{i}]`, from `a` and `gamma_sums`", terms, node)
    weights = {"m": (exact.m, 1), "m_hat": (exact.m_hat, 1)}
    weights |= {f"interpolant[{i}]": (row, 0) for i, row in enumerate(exact.interpolant or ())}
    for name, (row, total) in weights.items():
        if row is not None:
            terms = [weight * stage for weight, stage in zip(row, sums, strict=True)]
            _check_sum(f"`{name}` times `gamma_sums`", terms, Fraction(total))


def _check_sum(label: str, terms: Sequence[Fraction], stated: Fraction) -> None:
    # Relative to the terms: when large ones of opposite sign cancel, their rounding errors remain.
    scale = max(Fraction(1), *(abs(term) for term in terms), abs(stated))
    found = sum(terms, Fraction(0))
    if abs(found - stated) > _TOLERANCE * scale:
        raise ValueError(f"{label}: expected {float(stated)}, found a sum of {float(found)}.")
