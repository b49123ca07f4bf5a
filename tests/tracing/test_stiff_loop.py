"""No loop of a compiled solve by an implicit method holds a custom call; its field is traced once, its values vary.

Three states, so that the factorisation is the unrolled one; with more than a few it is LAPACK's, a custom call.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax

from ..catalogue import slow_unless
from ..fakes import CountedTraces
from .hlo import compiled_text, count_loops, custom_calls_in_loops
from .test_recompilation import compilations as compilations

RATES = np.asarray([0.04, 3e3, 1e2])
Y0 = np.asarray([1.0, 0.0, 0.0])

AT_MOST = 1
"""How often a field is traced: once, and everything else is made of what came of that, its Jacobian too."""


def robertson(t: Any, y: jax.Array, rates: Any) -> jax.Array:
    """Robertson's reactions, slowed down."""
    a, b, c = y
    slow, fast, back = rates[0] * a, rates[1] * b * b, rates[2] * b * c
    return jnp.stack([back - slow, slow - back - fast, fast])


def counted_robertson() -> CountedTraces:
    return CountedTraces(robertson)


def adaptive(rtol: float = 1e-5, atol: float = 1e-8) -> dict[str, Any]:
    return {"stepsize_controller": rungax.PIDController(rtol=rtol, atol=atol)}


def solve(solver: Any, field: Any = None, y0: Any = Y0, t1: Any = 1.0, rates: Any = RATES, **options: Any) -> Any:
    field = counted_robertson() if field is None else field
    options = {"dt0": 1e-3, "max_steps": 256, **adaptive(), **options}
    dt0 = options.pop("dt0")
    term = rungax.ODETerm(field)
    terms = term
    if isinstance(solver, rungax.AbstractIMEXRK):
        terms = rungax.MultiTerm(rungax.ODETerm(lambda t, y, args: 0 * y), term)
    return rungax.diffeqsolve(terms, solver, 0.0, t1, dt0, y0, rates, **options)


def end(solver: Any) -> Callable[[Any], Any]:
    return lambda y0: solve(solver, y0=y0, throw=False).ys


def gradient(solver: Any, **options: Any) -> Callable[[Any], Any]:
    return jax.grad(lambda y0: jnp.sum(solve(solver, y0=y0, throw=False, **options).ys[0] ** 2))


KVAERNO5, RODAS5P = rungax.Kvaerno5(), rungax.Rodas5P()
KVAERNO3, ROS3P = rungax.Kvaerno3(), rungax.ROS3P()
"""Of the same kinds, with fewer stages."""

PROGRAMS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "ROS3P": (1, end(ROS3P)),
    "Kvaerno3": (2, end(KVAERNO3)),
    "gradient, ROS3P": (2, gradient(ROS3P)),
    "gradient, Kvaerno3": (3, gradient(KVAERNO3)),
    "Rodas5P": (1, end(RODAS5P)),
    "Kvaerno5": (2, end(KVAERNO5)),
    "gradient, Rodas5P": (2, gradient(RODAS5P)),
    "gradient, Kvaerno5": (3, gradient(KVAERNO5)),
    "KenCarp4": (2, end(rungax.KenCarp4())),
    "Sil3": (2, end(rungax.Sil3())),
    "Kvaerno5, fixed": (2, lambda y0: solve(KVAERNO5, y0=y0, dt0=0.1, throw=False, **FIXED).ys),
    "Rodas5P, vmap": (1, jax.vmap(end(RODAS5P))),
    "Kvaerno5, vmap": (2, jax.vmap(end(KVAERNO5))),
    "gradient, Kvaerno5, vmap": (3, jax.vmap(gradient(KVAERNO5))),
    "jvp, Kvaerno5": (2, lambda y0: jax.jvp(end(KVAERNO5), (y0,), (y0,))),
    "Rodas5P, dense": (
        1, lambda y0: solve(RODAS5P, y0=y0, throw=False, saveat=rungax.SaveAt(ts=np.linspace(0, 1, 9))).ys,
    ),
}  # fmt: skip
FIXED: dict[str, Any] = {"stepsize_controller": rungax.ConstantStepSize()}
FAST = ("Kvaerno3", "gradient, ROS3P", "gradient, Kvaerno3")
"""Of a Rosenbrock method the gradient alone, whose first loop makes the same steps."""
CASES = [pytest.param(*program, id=name, marks=slow_unless(name in FAST)) for name, program in PROGRAMS.items()]


@pytest.mark.parametrize(("num_loops", "program"), CASES)
def test_no_custom_call_in_a_loop(num_loops: int, program: Callable[[Any], Any], request: Any) -> None:
    y0 = np.stack([Y0] * 3) if "vmap" in request.node.name else Y0
    text = compiled_text(program, y0)
    assert count_loops(text) >= num_loops
    assert custom_calls_in_loops(text) == set()


def test_a_linear_solver_of_lapack_is_one() -> None:
    text = compiled_text(end(rungax.ROS3P(linear_solver=lx.LU())), Y0)
    assert any("lapack" in name for name in custom_calls_in_loops(text))


# ------------------------------------------------------------------------------------------------------- recompilation


def finder(tolerance: float) -> Any:
    return rungax.Kvaerno3(root_finder=rungax.VeryChord(rtol=tolerance, atol=tolerance))


def iterative(tolerance: float) -> Any:
    return rungax.Rosenbrock23(linear_solver=lx.BiCGStab(rtol=tolerance, atol=tolerance))


def kappa(value: float) -> Any:
    return rungax.Kvaerno3(root_finder=rungax.with_stepsize_controller_tols(rungax.VeryChord)(kappa=value))


SAME_PROGRAM: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rtol, t1, rates": (
        {"solver": KVAERNO3, **adaptive()}, {"solver": KVAERNO3, "t1": 2.0, "rates": 2 * RATES, **adaptive(1e-4)},
    ),
    "atol, Rosenbrock": ({"solver": ROS3P, **adaptive()}, {"solver": ROS3P, **adaptive(atol=1e-6)}),
    "tolerance of the iteration": ({"solver": finder(1e-8)}, {"solver": finder(1e-9)}),
    "kappa": ({"solver": kappa(1e-2)}, {"solver": kappa(1e-3)}),
    "tolerance of the linear solver": ({"solver": iterative(1e-8)}, {"solver": iterative(0.1)}),
}  # fmt: skip
OTHER_PROGRAM: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "number of iterations": (
        {"solver": KVAERNO3}, {"solver": rungax.Kvaerno3(root_find_max_steps=9)},
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(*case, id=name, marks=slow_unless(name != "tolerance of the iteration"))
        for name, case in SAME_PROGRAM.items()
    ],
)
def test_other_values_need_no_other_program(
    first: dict[str, Any], second: dict[str, Any], compilations: list[str]
) -> None:
    field = counted_robertson()
    before = solve(field=field, **first)
    traces = field.num_traces
    assert compilations
    compilations.clear()
    after = solve(field=field, **second)
    assert field.num_traces == traces
    assert compilations == []
    assert not jnp.array_equal(before.ys, after.ys), "the second call's values count"


@pytest.mark.parametrize(("first", "second"), OTHER_PROGRAM.values(), ids=OTHER_PROGRAM.keys())
def test_other_structure_needs_another_program(
    first: dict[str, Any], second: dict[str, Any], compilations: list[str]
) -> None:
    field = counted_robertson()
    solve(field=field, **first)
    compilations.clear()
    solve(field=field, **second)
    assert compilations != []


# ------------------------------------------------------------------------------------------------------------- tracing

SOLVES: dict[str, dict[str, Any]] = {
    "Rodas5P": {"solver": RODAS5P},
    "Kvaerno5": {"solver": KVAERNO5},
    "KenCarp4": {"solver": rungax.KenCarp4()},
    "Sil3": {"solver": rungax.Sil3()},
    "Kvaerno3, GMRES": {"solver": rungax.Kvaerno3(linear_solver=lx.GMRES(rtol=1e-8, atol=1e-8))},
    "fixed": {"solver": KVAERNO3, "dt0": 0.1, **FIXED},
    "first step chosen": {"solver": KVAERNO3, "dt0": None},
    "dense": {"solver": ROS3P, "saveat": rungax.SaveAt(dense=True)},
}


@pytest.mark.parametrize("options", SOLVES.values(), ids=SOLVES.keys())
def test_the_field_is_traced_once(options: dict[str, Any]) -> None:
    field = counted_robertson()
    jax.jit(lambda: solve(field=field, **options).ys).lower()
    assert 1 <= field.num_traces <= AT_MOST


@pytest.mark.parametrize(
    "solver",
    [ROS3P, KVAERNO3, *(pytest.param(solver, marks=pytest.mark.slow) for solver in (RODAS5P, KVAERNO5))],
    ids=lambda solver: type(solver).__name__,
)
@pytest.mark.parametrize(
    "transform",
    [jax.grad, pytest.param(jax.jacfwd, marks=pytest.mark.slow), jax.vmap],
    ids=lambda transform: transform.__name__,
)
def test_the_field_is_traced_once_under_transforms(solver: Any, transform: Any) -> None:
    field = counted_robertson()
    y0 = np.stack([Y0] * 3) if transform is jax.vmap else Y0
    jax.jit(transform(lambda y0: jnp.sum(solve(solver, field, y0).ys[0]))).lower(y0)
    assert 1 <= field.num_traces <= AT_MOST


def test_a_given_jacobian_is_traced_once() -> None:
    traces: list[None] = []

    def jacobian(t: Any, y: Any, args: Any) -> Any:
        traces.append(None)
        return -jnp.eye(3)

    term = rungax.ODETerm(lambda t, y, args: -y, jacobian)
    jax.jit(lambda: rungax.diffeqsolve(term, KVAERNO3, 0.0, 1.0, 0.1, Y0, **adaptive()).ys).lower()
    assert len(traces) == AT_MOST
