"""Stiff equations are solved for states that are complex, nested or of mixed dtypes, in both directions of time."""

from dataclasses import replace
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import MULTISTEP, STIFF, name, order, slow_unless, terms_for
from ..compare import assert_trees_close
from ..problems.base import Problem
from ..problems.stiff import CLOCKED_KAPS, KAPS, STIFF_COMPLEX, STIFF_CONJUGATE, STIFF_TREE

KINDS = ("Kvaerno4", "KenCarp4", "Rodas4")
"""One method of each family; the others repeat them and are marked as slow."""
SECOND_ORDER = [solver for solver in STIFF + MULTISTEP if order(solver) >= 2]
CASES = [
    pytest.param(solver, id=name(solver), marks=slow_unless(name(solver) in ("Kvaerno4", "Rodas4")))
    for solver in SECOND_ORDER
]


def compiled(solver: rungax.AbstractSolver[Any], problem: Problem, rtol: float = 1e-6, terms: Any = None) -> Any:
    """The last state by `(t0, t1, y0, args)`; a solver for two terms gets the whole field as its implicit one."""
    terms = terms_for(solver, problem.field, 0.0) if terms is None else terms

    @jax.jit
    def last(t0: jax.Array, t1: jax.Array, y0: Any, args: Any) -> Any:
        controller = rungax.PIDController(rtol=rtol, atol=1e-2 * rtol)
        solution = rungax.diffeqsolve(
            terms, solver, t0, t1, None, y0, args, stepsize_controller=controller, max_steps=20_000
        )
        return jax.tree.map(lambda leaf: leaf[-1], solution.ys)

    return last


def solve(solver: rungax.AbstractSolver[Any], problem: Problem, rtol: float = 1e-6, terms: Any = None) -> Any:
    inputs = jax.tree.map(jnp.asarray, (problem.t0, problem.t1, problem.y0))
    return compiled(solver, problem, rtol, terms)(*inputs, problem.args)


def assert_close(found: Any, problem: Problem, rtol: float) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max()), found, problem.final
    )


def cases(problems: tuple[Problem, ...], often: set[tuple[str, Problem]]) -> list[Any]:
    """Every solver with every problem, slow unless named."""
    return [
        pytest.param(solver, problem, id=f"{name(solver)}-{problem.name[:20]}", marks=slow_unless(pair in often))
        for solver, problem in product(SECOND_ORDER, problems)
        for pair in [(name(solver), problem)]
    ]


@pytest.mark.parametrize(
    ("solver", "problem"),
    cases(
        (STIFF_COMPLEX, STIFF_CONJUGATE, STIFF_TREE),
        {("Kvaerno4", STIFF_CONJUGATE), ("Rodas4", STIFF_TREE)},
    ),
)
def test_kinds_of_states(solver: rungax.AbstractSolver[Any], problem: Problem) -> None:
    found = solve(solver, problem)
    assert_close(found, problem, 1e-4)


@pytest.mark.parametrize(
    "solver", [pytest.param(s, id=name(s), marks=slow_unless(name(s) == "Kvaerno4")) for s in SECOND_ORDER]
)
def test_a_field_declared_holomorphic_is_solved_in_complex_numbers(solver: rungax.AbstractSolver[Any]) -> None:
    term = rungax.ODETerm(STIFF_COMPLEX.field, tags=rungax.holomorphic_tag)
    terms = terms_for(solver, STIFF_COMPLEX.field, 0.0)
    terms = rungax.MultiTerm(terms.terms[0], term) if isinstance(terms, rungax.MultiTerm) else term
    found = solve(solver, STIFF_COMPLEX, terms=terms)
    assert_close(found, STIFF_COMPLEX, 1e-4)
    # The solution without the tag, up to rounding.
    assert_trees_close(found, solve(solver, STIFF_COMPLEX), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("solver", CASES)
def test_backwards_in_time(solver: rungax.AbstractSolver[Any]) -> None:
    """The mirrored problem is solved backwards in the same steps."""
    problem = CLOCKED_KAPS
    assert problem.exact is not None

    def field(t: Any, y: Any, direction: Any) -> Any:
        return jax.tree.map(lambda x: direction * x, problem.field(direction * t, y, problem.args))

    last = compiled(solver, replace(problem, field=field))
    forwards, backwards = (last(d * problem.t0, d * problem.t1, problem.y0, d) for d in (1.0, -1.0))
    assert_close(forwards, problem, 1e-4)
    np.testing.assert_allclose(backwards, forwards, rtol=1e-9)


def like(dtypes: Any, tree: Any) -> Any:
    return jax.tree.map(lambda leaf, dtype: jnp.asarray(leaf, dtype), tree, dtypes)


@pytest.mark.slow  # `nonlinear/test_dtypes.py` and `transforms/test_unlike_dtypes.py` have such states too
@pytest.mark.parametrize("solver", SECOND_ORDER, ids=name)
def test_leaves_of_mixed_dtypes(solver: rungax.AbstractSolver[Any]) -> None:
    """Every leaf keeps its dtype; the narrowest one limits the accuracy."""
    dtypes = {"fast": "float32", "slow": "float64", "chain": ("float32",)}

    def field(t: Any, y: Any, args: Any) -> Any:
        wide = jax.tree.map(lambda leaf: leaf.astype("float64"), y)
        return like(dtypes, STIFF_TREE.field(t, wide, args))

    problem = replace(STIFF_TREE, field=field, y0=like(dtypes, STIFF_TREE.y0), args=1e3)
    found = solve(solver, problem, rtol=1e-4)
    assert jax.tree.map(lambda leaf: leaf.dtype.name, found) == dtypes
    assert_close(found, problem, 5e-3)


@pytest.mark.parametrize(
    ("solver", "problem"),
    cases(
        (KAPS, STIFF_COMPLEX, STIFF_TREE),
        {("KenCarp4", KAPS), ("Rodas4", STIFF_COMPLEX)},
    ),
)
def test_single_precision(solver: rungax.AbstractSolver[Any], problem: Problem) -> None:
    """State and time in single precision. The stiffness is a thousand only, because it amplifies rounding errors."""
    narrow = {"float64": "float32", "complex128": "complex64"}
    y0 = jax.tree.map(lambda leaf: np.asarray(leaf).astype(narrow[np.asarray(leaf).dtype.name]), problem.y0)
    t0, t1 = np.float32(problem.t0), np.float32(problem.t1)
    args = None if problem.args is None else 1e3
    problem = replace(problem, y0=y0, t0=t0, t1=t1, args=args)
    found = solve(solver, problem, rtol=1e-4)
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, y0)
    exact = replace(problem, t1=float(t1))
    assert_close(found, exact, 5e-3)


EMPTY = {
    "None": None,
    "()": (),
    "a dict of None": {"a": None},
    "an array": jnp.zeros(0),
    "an array and None": (jnp.zeros((2, 0)), None),
}


@pytest.mark.parametrize(
    ("solver", "state", "fixed"),
    [
        pytest.param(
            solver, state, fixed, id=f"{name(solver)}-{kind}-{'fixed' if fixed else 'adaptive'}",
            marks=slow_unless(kind == "an array and None" and not fixed and name(solver) != "KenCarp4"),
        )
        for solver, (kind, state), fixed in product(SECOND_ORDER, EMPTY.items(), (True, False))
        if name(solver) in KINDS
    ],
)  # fmt: skip
def test_state_may_be_empty(solver: rungax.AbstractSolver[Any], state: Any, fixed: bool) -> None:
    controller = rungax.ConstantStepSize() if fixed else rungax.PIDController(rtol=1e-5, atol=1e-5)
    solution = rungax.diffeqsolve(
        terms_for(solver, lambda t, y, args: y),
        solver,
        0.0,
        1.0,
        0.125 if fixed else None,
        state,
        stepsize_controller=controller,
        saveat=rungax.SaveAt(ts=[0.5, 1.0], dense=True),
        max_steps=16,
    )
    assert solution.result == rungax.RESULTS.successful
    assert jax.tree.structure(solution.ys) == jax.tree.structure(state)
    assert [leaf.shape for leaf in jax.tree.leaves(solution.ys)] == [(2, *x.shape) for x in jax.tree.leaves(state)]
    assert jax.tree.structure(solution.evaluate(0.3)) == jax.tree.structure(state)
