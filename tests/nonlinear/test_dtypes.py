"""Implicit methods keep the dtype of each leaf, whatever the dtype of time, and never promote one implicitly."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax
from rungax import ODETerm

from ..catalogue import slow_unless, terms_around

STATES: dict[str, Any] = {
    "float32": jnp.asarray([1.0, 2.0], jnp.float32),
    "both widths": {"narrow": jnp.asarray([1.0, 2.0], jnp.float32), "wide": jnp.asarray(3.0, jnp.float64)},
    "complex": jnp.asarray([1.0 + 2j, -1j]),
    "complex and real": {"narrow": jnp.asarray([1.0 + 2j], jnp.complex64), "wide": jnp.asarray(3.0, jnp.float64)},
}
SOLVERS: dict[str, Any] = {
    "Kvaerno3": rungax.Kvaerno3(),
    "Sil3": rungax.Sil3(),
    "Rosenbrock23": rungax.Rosenbrock23(),
    "Kvaerno3, GMRES": rungax.Kvaerno3(linear_solver=lx.GMRES(rtol=1e-5, atol=1e-5)),
}


def decay(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(jnp.negative, y)


def check(term: ODETerm, solver: Any, y0: Any, time_dtype: Any) -> None:
    t0, t1, dt0 = (jnp.asarray(t, time_dtype) for t in (0.0, 1.0, 0.0625))
    ys = rungax.diffeqsolve(terms_around(solver, term), solver, t0, t1, dt0, y0).ys
    jax.tree.map(lambda y, y0: np.testing.assert_equal(y.dtype, y0.dtype), ys, y0)
    jax.tree.map(lambda y, y0: np.testing.assert_allclose(y[0], np.asarray(y0) * np.exp(-1), rtol=3e-3), ys, y0)


@pytest.mark.parametrize("state", ["float32", "both widths", "complex and real"])
@pytest.mark.parametrize(
    "solver", ["Kvaerno3", *(pytest.param(name, marks=pytest.mark.slow) for name in SOLVERS if name != "Kvaerno3")]
)
def test_no_number_is_promoted(state: str, solver: str) -> None:
    """Times are of another width than states."""
    narrow = state == "float32" or (state, solver) == ("both widths", "Rosenbrock23")
    check(ODETerm(decay), SOLVERS[solver], STATES[state], jnp.float64 if narrow else jnp.float32)


@pytest.mark.parametrize(
    ("tags", "solver"),
    [
        pytest.param((), "Kvaerno3", id="split-Kvaerno3", marks=pytest.mark.slow),
        pytest.param((), "Kvaerno3, GMRES", id="split-Kvaerno3, GMRES", marks=pytest.mark.slow),
        pytest.param(rungax.holomorphic_tag, "Kvaerno3", id="holomorphic-Kvaerno3", marks=pytest.mark.slow),
        pytest.param(rungax.holomorphic_tag, "Kvaerno3, GMRES", id="holomorphic-Kvaerno3, GMRES"),
    ],
)
def test_a_complex_state_is_not_promoted(tags: Any, solver: str) -> None:
    check(ODETerm(decay, tags=tags), SOLVERS[solver], STATES["complex"], jnp.float64)


OFTEN = {("Kvaerno3", "complex"), ("Rosenbrock23", "complex and real")}


@pytest.mark.parametrize("time_dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("solver", "state"),
    [
        pytest.param(solver, state, marks=slow_unless((solver, state) in OFTEN))
        for solver in ("Kvaerno3", "Rosenbrock23", "Sil3")
        for state in ("both widths", "complex", "complex and real")
    ],
)
def test_each_leaf_keeps_its_dtype(solver: str, state: str, time_dtype: Any) -> None:
    """JAX's default promotion changes none."""
    with jax.numpy_dtype_promotion("standard"):
        check(ODETerm(decay), SOLVERS[solver], STATES[state], time_dtype)


@pytest.mark.parametrize(
    "solver", ["Kvaerno3", *(pytest.param(name, marks=pytest.mark.slow) for name in SOLVERS if name != "Kvaerno3")]
)
def test_a_narrow_state_and_a_wide_time(solver: str) -> None:
    with jax.numpy_dtype_promotion("standard"):
        check(ODETerm(decay), SOLVERS[solver], STATES["float32"], jnp.float64)


STRUCTURES = {"diagonal": lx.diagonal_tag, "tridiagonal": lx.tridiagonal_tag, "band": rungax.Banded(1, 0)}
FAST = {("diagonal", "Kvaerno3"), ("tridiagonal", "Rosenbrock23")}


@pytest.mark.parametrize(
    ("structure", "solver"),
    [
        pytest.param(structure, solver, marks=slow_unless((structure, solver) in FAST))
        for structure in STRUCTURES
        for solver in ("Kvaerno3", "Rosenbrock23")
    ],
)
def test_a_holomorphic_field_keeps_its_structure(structure: str, solver: str) -> None:
    term = ODETerm(decay, tags=(STRUCTURES[structure], rungax.holomorphic_tag))
    with jax.numpy_dtype_promotion("standard"):
        check(term, SOLVERS[solver], STATES["complex"], jnp.float64)
