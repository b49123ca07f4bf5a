"""Tableaus know whether their last stage is the solution; inconsistent coefficients are rejected by name."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from rungax.solvers.tableaus.types.butcher import ButcherTableau, ContinuousExtension, MultiButcherTableau
from rungax.solvers.tableaus.types.published import PublishedMethod, PublishedSplitMethod

from .methods import EXPLICIT_METHODS, METHODS, SPLIT_METHODS

FSAL = {
    *("Bosh3", "Tsit5", "Dopri5", "Dopri8", "Vern6"),
    *("ImplicitEuler", "TRBDF2", "Kvaerno3", "Kvaerno4", "Kvaerno5", "Sil3"),
}
STAGES = {
    "Euler": 1,
    "Heun": 2,
    "Midpoint": 2,
    "Ralston": 2,
    "RK4": 4,
    "Bosh3": 4,
    "Tsit5": 7,
    "Dopri5": 7,
    "Dopri8": 14,
    "Vern6": 9,
    "Vern7": 10,
    "Vern8": 13,
    "Vern9": 16,
    "ImplicitEuler": 2,
    "TRBDF2": 3,
    "Kvaerno3": 4,
    "Kvaerno4": 5,
    "Kvaerno5": 7,
    "KenCarp3": 4,
    "KenCarp4": 6,
    "KenCarp5": 8,
    "Sil3": 4,
}

HEUN: dict[str, Any] = {"c": [1.0], "b_sol": [0.5, 0.5], "b_error": [0.5, -0.5], "a_lower": [[1.0]]}
# Alexander's L-stable SDIRK of order two.
GAMMA = 1 - 0.5**0.5
SDIRK2 = ButcherTableau(
    c=[1.0],
    b_sol=[1 - GAMMA, GAMMA],
    b_error=None,
    a_lower=[[1 - GAMMA]],
    a_diagonal=[GAMMA, GAMMA],
    a_predictor=[[1.0]],
    c1=GAMMA,
)
TRAPEZOIDAL = ButcherTableau(
    c=[1.0], b_sol=[0.5, 0.5], b_error=None, a_lower=[[0.5]], a_diagonal=[0.0, 0.5], a_predictor=[[1.0]]
)


@pytest.mark.parametrize("name", [*METHODS, *SPLIT_METHODS])
def test_facts_of_the_methods(name: str) -> None:
    tableau = (METHODS | SPLIT_METHODS)[name].tableau
    assert tableau.num_stages == STAGES[name]
    assert tableau.fsal is (name in FSAL)
    assert tableau.ssal is (name in FSAL)


@pytest.mark.parametrize("name", EXPLICIT_METHODS)
def test_facts_of_the_explicit_methods(name: str) -> None:
    tableau = METHODS[name].tableau
    assert not tableau.implicit
    assert tableau.implicit_stages == ()
    assert tableau.constant_diagonal is None
    assert METHODS[name].a_predictor is None


@pytest.mark.parametrize("name", SPLIT_METHODS)
def test_facts_of_the_split_methods(name: str) -> None:
    method = SPLIT_METHODS[name]
    explicit, implicit = method.tableau.tableaus
    assert (explicit, implicit) == (method.explicit.tableau, method.implicit.tableau)
    assert not explicit.implicit
    assert implicit.implicit_stages == tuple(range(1, implicit.num_stages))
    np.testing.assert_array_equal(implicit.c, explicit.c)
    assert implicit.c1 == 0.0
    assert implicit.fsal
    assert method.reference == method.explicit.reference
    if method.interpolant_order is None:
        assert method.extension is None
    else:
        assert method.extension is not None
        assert method.extension.order == method.interpolant_order
        assert method.extension.num_stages == method.dense_tableau.num_stages


def test_implicit_methods() -> None:
    assert SDIRK2.implicit
    assert SDIRK2.implicit_stages == (0, 1)
    assert SDIRK2.constant_diagonal == GAMMA
    assert TRAPEZOIDAL.implicit_stages == (1,)
    assert TRAPEZOIDAL.constant_diagonal == 0.5
    different = ButcherTableau([1.0], [0.5, 0.5], None, [[0.5]], [0.25, 0.5], [[1.0]], c1=0.25)
    assert different.constant_diagonal is None
    explicit = ButcherTableau([1.0], [0.5, 0.5], None, [[1.0]], [0.0, 0.0], [[1.0]])
    assert explicit.constant_diagonal is None
    assert not explicit.implicit
    assert SDIRK2.ssal
    assert not SDIRK2.fsal  # its first stage is implicit
    assert TRAPEZOIDAL.implicit
    assert TRAPEZOIDAL.fsal
    backward_euler = ButcherTableau([], [1.0], None, [], a_diagonal=[1.0], a_predictor=[], c1=1.0)
    assert backward_euler.ssal
    assert not backward_euler.fsal


def test_tableau_is_hashable_immutable_and_converts() -> None:
    tableau = ButcherTableau(**HEUN)
    assert hash(tableau) == hash(tableau)
    assert tableau != ButcherTableau(**HEUN)
    for array in (tableau.c, tableau.b_sol, tableau.b_error, *tableau.a_lower):
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float64
        assert not array.flags.writeable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c": [1.0, 1.0]}, r"`c`: expected shape \(1,\), found \(2,\)"),
        ({"b_sol": []}, r"`b_sol`: expected shape \(1,\), found \(0,\)"),
        ({"b_sol": [[0.5, 0.5]]}, r"`b_sol`: expected shape \(2,\), found \(1, 2\)"),
        ({"b_sol": [0.5, 0.4]}, r"`b_sol`: expected entries that sum to 1.0, found a sum of 0.9"),
        ({"b_error": [0.5]}, r"`b_error`: expected shape \(2,\), found \(1,\)"),
        ({"b_error": [0.5, 0.5]}, r"`b_error`: expected entries that sum to 0.0, found a sum of 1.0"),
        ({"a_lower": []}, "`a_lower`: expected 1 rows, found 0"),
        ({"a_lower": [[0.5, 0.5]]}, r"`a_lower\[0\]`: expected shape \(1,\), found \(2,\)"),
        (
            {"a_lower": [[0.5]]},
            r"`a_lower\[0\]` with its diagonal entry: expected entries that sum to 1.0, found a sum of 0.5",
        ),
        ({"c1": 0.5}, r"`a_diagonal\[0\]` and `c1`: expected entries that sum to 0.5, found a sum of 0.0"),
        ({"a_diagonal": [0.0, 0.5]}, "expected both or neither, found `a_diagonal` without `a_predictor`"),
        ({"a_predictor": [[1.0]]}, "expected both or neither, found `a_predictor` without `a_diagonal`"),
        ({"a_diagonal": [0.0], "a_predictor": [[1.0]]}, r"`a_diagonal`: expected shape \(2,\), found \(1,\)"),
        ({"a_diagonal": [0.0, 0.5], "a_predictor": [[1.0]]}, r"`a_lower\[0\]`.*found a sum of 1.5"),
        ({"a_diagonal": [0.0, 0.0], "a_predictor": []}, "`a_predictor`: expected 1 rows, found 0"),
        ({"a_diagonal": [0.0, 0.0], "a_predictor": [[0.5]]}, r"`a_predictor\[0\]`.*sum to 1.0, found a sum of 0.5"),
    ],
)
def test_inconsistent_tableau_is_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ButcherTableau(**{**HEUN, **change})


def test_multi_tableau() -> None:
    heun = ButcherTableau(**HEUN)
    both = MultiButcherTableau(heun, TRAPEZOIDAL)
    assert both.tableaus == (heun, TRAPEZOIDAL)
    assert both.num_stages == 2
    assert both.implicit == (False, True)
    assert not both.ssal  # the trapezoidal rule is, Heun's method is not
    assert not both.fsal
    euler = ButcherTableau([1.0], [1.0, 0.0], None, [[1.0]])
    assert MultiButcherTableau(euler, TRAPEZOIDAL).ssal
    assert MultiButcherTableau(euler, TRAPEZOIDAL).fsal
    with pytest.raises(ValueError, match="at least one tableau, found none"):
        MultiButcherTableau()
    with pytest.raises(ValueError, match=r"equal numbers of stages, found \[2, 4\]"):
        MultiButcherTableau(heun, METHODS["RK4"].tableau)
    with pytest.raises(ValueError, match="at most one implicit tableau, found 2"):
        MultiButcherTableau(SDIRK2, TRAPEZOIDAL)
    assert MultiButcherTableau(heun, METHODS["Midpoint"].tableau).implicit == (False, False)
    assert MultiButcherTableau(heun, SDIRK2).num_stages == 2  # its first node is not 0


@pytest.mark.parametrize(
    ("extension", "message"),
    [
        (lambda: ContinuousExtension([], [], [1.0], 1), r"`weights`: expected a matrix.*found shape \(1,\)"),
        (lambda: ContinuousExtension([0.5], [], [[1.0]], 1), r"`c`: expected shape \(0,\), found \(1,\)"),
        (lambda: ContinuousExtension([0.5], [[0.5]], [[1.0]], 1), r"`a_lower\[0\]`: expected shape \(0,\)"),
        (lambda: ContinuousExtension([0.5], [[0.4]], [[1.0], [0.0]], 1), r"`a_lower\[0\]`.*sum to 0.5"),
        (lambda: ContinuousExtension([], [], [[0.5]], 1), r"`weights\[:, 0\]`.*sum to 1.0, found a sum of 0.5"),
        (lambda: ContinuousExtension([], [], [[1.0, 0.5]], 1), r"`weights\[:, 1\]`.*sum to 0.0, found a sum of 0.5"),
    ],
)
def test_inconsistent_extension_is_rejected(extension: Callable[[], ContinuousExtension], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extension()


def parse_heun(**changes: Any) -> PublishedMethod:
    fields: dict[str, Any] = {
        "reference": "",
        "order": 2,
        "error_order": 1,
        "c": "1",
        "a": "1",
        "b": "1/2 0.5",
        "b_hat": "1 0",
    }
    return PublishedMethod.parse(**{**fields, **changes})


def test_parse_reads_fractions_decimals_and_broken_lines() -> None:
    method = parse_heun(b="\n 1 /\n 2   5e-1\n")
    assert method.b == (Fraction(1, 2), Fraction(1, 2))
    assert method.extension is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": "1 0"}, "`a`: expected 1 entries, found 2"),
        ({"b_hat": "1"}, "`b_hat`: expected 2 entries, found 1"),
        ({"c": "1/2"}, r"`a_lower\[0\]`.*sum to 0.5, found a sum of 1.0"),
        ({"extra_c": "1", "extra_a": "1"}, "`extra_a`: expected 2 entries, found 1"),
        ({"extra_c": "1", "extra_a": "1 0", "a": "0", "a_diagonal": "0 1"}, "`extra_a_diagonal`: expected that of the"),
        ({"interpolant": "1 0 0", "interpolant_order": 1}, "`interpolant`: expected 2 entries, found 3"),
        ({"interpolant": "1 0"}, "`interpolant_order`: expected exactly when `interpolant` is given, found None"),
        ({"interpolant_order": 1}, "`interpolant_order`: expected exactly when `interpolant` is given, found 1"),
        ({"error_order": None}, "`error_order`: expected exactly when `b_hat` is given, found None"),
        ({"a_diagonal": "0"}, "`a_diagonal`: expected 2 entries, found 1"),
        ({"a_diagonal": "0 1/2"}, r"`a_lower\[0\]` with its diagonal entry.*found a sum of 1.5"),
    ],
)
def test_inconsistent_text_is_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_heun(**change)


def test_the_first_diagonal_entry_is_the_first_node() -> None:
    tableau = parse_heun(a_diagonal="1/4 3/4", a="1/4", b_hat=None, error_order=None).tableau
    assert tableau.c1 == 0.25
    assert tableau.implicit_stages == (0, 1)


def parse_split(**changes: Any) -> PublishedSplitMethod:
    """Heun's method with the trapezoidal rule."""
    fields: dict[str, Any] = {
        "reference": "",
        "order": 2,
        "error_order": 1,
        "c": "1",
        "a_explicit": "1",
        "a_implicit": "1/2",
        "a_diagonal": "0 1/2",
        "b": "1/2 1/2",
        "b_hat": "1 0",
    }
    return PublishedSplitMethod.parse(**{**fields, **changes})


def test_parts_share_weights_unless_given() -> None:
    method = parse_split()
    assert method.explicit.b == method.implicit.b == (Fraction(1, 2), Fraction(1, 2))
    assert method.explicit.b_hat == method.implicit.b_hat == (1, 0)
    method = parse_split(b_explicit="1 0", b_hat_explicit="0 1")
    assert method.explicit.b == (1, 0)
    assert method.explicit.b_hat == (0, 1)
    assert method.implicit.b == (Fraction(1, 2), Fraction(1, 2))
    assert method.implicit.b_hat == (1, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a_implicit": "1/4"}, r"`a_lower\[0\]` with its diagonal entry.*found a sum of 0.75"),
        ({"a_explicit": "1/2"}, r"`a_lower\[0\]`.*found a sum of 0.5"),
        ({"b_explicit": "1"}, r"`a`: expected 0 entries, found 1"),
        ({"b_hat_explicit": "1"}, "`b_hat`: expected 2 entries, found 1"),
    ],
)
def test_inconsistent_split_text_is_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_split(**change)


def test_parts_that_disagree_are_rejected() -> None:
    method, other = parse_split(), parse_split(order=1)
    with pytest.raises(ValueError, match="`order`: expected the same of both parts, found 2 and 1"):
        PublishedSplitMethod(method.explicit, other.implicit)
    with pytest.raises(ValueError, match="at most one implicit tableau, found 2"):
        PublishedSplitMethod(method.implicit, method.implicit)
    with pytest.raises(ValueError, match="expected `a_diagonal` of the second and not of the first"):
        PublishedSplitMethod(method.implicit, method.explicit)
    one, two = (parse_split(interpolant=rows, interpolant_order=1) for rows in ("1/2 1/2", "1 0"))
    with pytest.raises(ValueError, match="`interpolant`: expected the same of both parts"):
        PublishedSplitMethod(one.explicit, two.implicit)
