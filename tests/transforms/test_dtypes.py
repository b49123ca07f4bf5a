"""The state keeps its dtypes, leaf by leaf, whatever the dtype of time; time takes the promotion of all times given."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import name, slow_unless, terms_for
from ..compare import assert_trees_close, wide

# How far from exp(-1) eight rounded steps, or a tolerance of 100 eps, may end.
ERRORS = {
    "float16": 1e-2,
    "bfloat16": 6e-2,
    "float32": 1e-5,
    "float64": 1e-6,
    "complex64": 1e-5,
    "complex128": 1e-6,
}
TIMES = ("float32", "float64")
ENDS: dict[str, Any] = {"saveat": rungax.SaveAt(t0=True, t1=True), "solver": rungax.Heun(), "fixed": True}
"""What is cheapest, for tests of how a state enters a solve and not of what happens to it there."""


def decay(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(lambda leaf: -leaf, y)


def solve(y0: Any, time: str = "float64", fixed: bool = False, **kwargs: Any) -> rungax.Solution:
    """Over one unit of time, with its end saved in every way."""
    options: dict[str, Any] = {
        "t0": jnp.asarray(0.0, time),
        "t1": jnp.asarray(1.0, time),
        "dt0": jnp.asarray(0.125, time) if fixed else None,
        "saveat": rungax.SaveAt(t0=True, ts=jnp.asarray([0.5, 1.0], time), t1=True, dense=True),
        "stepsize_controller": rungax.ConstantStepSize() if fixed else rungax.PIDController(rtol=1e-5, atol=1e-5),
        "max_steps": 64,
        "solver": rungax.Dopri5(),
        **kwargs,
    }
    return rungax.diffeqsolve(decay, y0=y0, **options)


@jax.jit
def dense(solution: rungax.Solution, t: Any) -> tuple[Any, Any]:
    """The value and the slope of the dense output."""
    return solution.evaluate(t), solution.derivative(t)


def dtypes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.result_type(leaf).name, tree)


OFTEN = {
    ("float16", "float32", False),
    ("bfloat16", "float64", True),
    ("float64", "float32", True),
    ("complex64", "float64", True),
}
"""The others are in tests of single precision and of complex states, with their own solvers."""


@pytest.mark.parametrize(
    ("state", "time", "fixed"),
    [pytest.param(*case, marks=slow_unless(case in OFTEN)) for case in product(ERRORS, TIMES, (False, True))],
)
def test_state_keeps_its_dtype(state: str, time: str, fixed: bool) -> None:
    tolerance = max(1e-8, 100 * float(jnp.finfo(state).eps))
    options = {} if fixed else {"stepsize_controller": rungax.PIDController(rtol=tolerance, atol=tolerance)}
    solution = solve(jnp.ones(3, state), time, fixed, **options)
    assert dtypes((solution.ts, solution.ys)) == (time, state)
    middle = dense(solution, 0.5)
    assert dtypes(middle) == (state, state)
    np.testing.assert_allclose(wide(solution.ys[-1]), np.exp(-1.0), rtol=ERRORS[state])
    np.testing.assert_allclose(wide(middle[0]), np.exp(-0.5), rtol=ERRORS[state])


def mixed_state() -> dict[str, Any]:
    return {
        "half": jnp.ones(1, "bfloat16"),
        "single": jnp.ones(2, "float32"),
        "double": jnp.ones((), "float64"),
        "complex": (jnp.ones((2, 1), "complex64"), jnp.ones(3, "complex128")),
        "numpy": np.ones(2, "float32"),
        "nothing": None,
        "empty": jnp.zeros((0, 3), "float32"),
    }


@pytest.mark.filterwarnings("ignore:`rtol=.*` is smaller than the rounding of the state")
@pytest.mark.parametrize("fixed", [pytest.param(True, marks=pytest.mark.slow), False], ids=["fixed", "adaptive"])
def test_leaves_of_unlike_dtypes(fixed: bool) -> None:
    state = mixed_state()
    solution = solve(state, fixed=fixed)
    last = jax.tree.map(lambda leaf: leaf[-1], solution.ys)
    expected = jax.tree.map(lambda leaf: jnp.asarray(leaf) * jnp.asarray(np.exp(-1.0), leaf.dtype), state)
    assert_trees_close(last, expected, rtol=6e-2)
    np.testing.assert_allclose(last["double"], np.exp(-1.0), rtol=1e-5)
    assert dtypes(dense(solution, 0.3)[0]) == dtypes(state)


KINDS = (
    rungax.Euler(),
    rungax.RK4(),
    rungax.Bosh3(),
    rungax.Vern7(),
    rungax.TRBDF2(),
    rungax.KenCarp3(),
    rungax.ROS3P(),
)


@pytest.mark.filterwarnings("ignore:`rtol=.*` is smaller than the rounding of the state")
@pytest.mark.slow
@pytest.mark.parametrize("solver", KINDS, ids=name)
def test_leaves_of_unlike_dtypes_with_every_kind_of_solver(solver: rungax.AbstractSolver[Any]) -> None:
    """Linear and Hermite dense output, a last stage that is the next first, stages for dense output only."""
    state = mixed_state()
    saveat = rungax.SaveAt(ts=[0.3], dense=True)
    terms = terms_for(solver, decay)
    solution = rungax.diffeqsolve(terms, solver, 0.0, 1.0, 0.5, state, saveat=saveat, max_steps=2)
    assert dtypes(solution.ys) == dtypes(state)
    assert_trees_close(jax.tree.map(lambda leaf: leaf[0], solution.ys), solution.evaluate(0.3), rtol=1e-2)


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.0, {"float32": "float32", "float64": "float64"}), (1j, {"float32": "complex64", "float64": "complex128"})],
    ids=["float", "complex"],
)
def test_python_number_takes_the_width_of_time(value: Any, expected: dict[str, str], time: str) -> None:
    solution = solve(value, time, **ENDS)
    assert dtypes(solution.ys) == expected[time]
    assert jnp.shape(solution.ys) == (2,)


@pytest.mark.filterwarnings("ignore:`rtol=.*` is smaller than the rounding of the state")
@pytest.mark.parametrize("options", [pytest.param(ENDS, id="ends"), pytest.param({}, id="all", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "value",
    [np.float32(1), pytest.param(np.float64(1), marks=pytest.mark.slow), np.ones(2, "float16"), np.complex64(1)],
)
def test_numpy_state_keeps_its_dtype(value: Any, options: dict[str, Any]) -> None:
    assert dtypes(solve(value, "float64", **options).ys) == value.dtype.name
    assert dtypes(solve(value, "float32", **options).ys) == value.dtype.name


@pytest.mark.parametrize("fixed", [pytest.param(True, marks=pytest.mark.slow), False], ids=["fixed", "adaptive"])
@pytest.mark.parametrize(
    "state",
    [
        *(pytest.param(nothing, marks=pytest.mark.slow) for nothing in (None, ())),
        {"a": None},
        jnp.zeros(0),
        (jnp.zeros((2, 0)), None),
    ],
    ids=str,
)
def test_state_may_be_empty(state: Any, fixed: bool) -> None:
    solution = solve(state, fixed=fixed)
    assert solution.result == rungax.RESULTS.successful
    assert jax.tree.structure(solution.ys) == jax.tree.structure(state)
    assert [leaf.shape for leaf in jax.tree.leaves(solution.ys)] == [(4, *x.shape) for x in jax.tree.leaves(state)]
    assert list(solution.ts) == [0.0, 0.5, 1.0, 1.0]


INTEGERS = {
    "number": 1,
    "large": 10**30,
    "boolean": True,
    "numpy": np.int8(1),
    "array": np.ones(2, "uint8"),
    "jax": jnp.arange(3),
    "booleans": jnp.array([[True], [False]]),
    "float": jnp.ones((), "float16"),
    "complex": jnp.ones(1, "complex64"),
}


@pytest.mark.parametrize("time", TIMES)
def test_integers_and_booleans_become_floats_of_the_width_of_time(time: str) -> None:
    """And are solved as the same floats are, in the same program that `jit` and `vmap` make."""
    kept = {"float": "float16", "complex": "complex64"}
    floats = {name: jnp.asarray(x, kept.get(name, time)) for name, x in INTEGERS.items()}
    found, expected = (solve(x, time, **ENDS) for x in (INTEGERS, floats))
    assert dtypes(found.ys) == {name: kept.get(name, time) for name in INTEGERS}
    assert_trees_close(found.ys, expected.ys, rtol=0)


@pytest.mark.parametrize("dtype", [bool, "int8", "uint32", int])
def test_arrays_of_integers_inside_transformations(dtype: Any) -> None:
    """Shapes and dtypes are known from the arguments, and derivatives are those of the same float state."""
    state = jnp.asarray([0, 1, 1], dtype)
    end = lambda y0: solve(y0, **ENDS).ys[-1]
    assert jax.eval_shape(end, state) == jax.ShapeDtypeStruct((3,), jnp.result_type(float))
    np.testing.assert_array_equal(jax.jit(end)(state), end(state))
    np.testing.assert_array_equal(jax.vmap(end)(state), end(state))
    np.testing.assert_allclose(jax.vmap(end)(state), end(state.astype(float)), rtol=1e-14)


def test_integers_wherever_a_state_is_read() -> None:
    """By events and their effects, by an adjoint that solves another equation, and by `derivative_error`."""
    field, integers = lambda t, y, args: -args * y, jnp.array([1, 2])
    problem = field, rungax.Heun(), 0.0, 1.0, 0.125
    event = rungax.Event(lambda t, y, args, **kwargs: y[1] < 1.0, effect=lambda t, y, args: y + 1)

    def loss(rate: jax.Array, y0: jax.Array) -> jax.Array:
        adjoint = rungax.BacksolveAdjoint(solver=rungax.Heun())
        return jnp.sum(rungax.diffeqsolve(*problem, y0, rate, adjoint=adjoint).ys)

    def everything(y0: jax.Array) -> Any:
        of_args = (jnp.zeros((1, 2)), jnp.ones(1))
        return {
            "event": rungax.diffeqsolve(*problem, y0, jnp.ones(()), event=event).ys,
            "gradient": jax.grad(loss)(jnp.ones(()), y0),
            "error": tuple(rungax.derivative_error(*problem, y0, jnp.ones(()), directions=of_args)),
        }

    assert_trees_close(everything(integers), everything(integers.astype(float)), rtol=1e-14)


def test_field_of_another_width_takes_the_dtype_of_the_state() -> None:
    def field(t: Any, y: Any, args: Any) -> Any:
        return -y.astype("float64" if y.dtype == "float32" else "float32")

    for state in ("float32", "float64"):
        solution = rungax.diffeqsolve(field, rungax.Tsit5(), 0.0, 1.0, 0.1, jnp.ones(2, state))
        assert dtypes(solution.ys) == state
        np.testing.assert_allclose(solution.ys[-1], np.exp(-1.0), rtol=1e-5)


# Times and the dtype that they all take.
F32, F64, INT = jnp.float32, jnp.float64, jnp.int32
TIME_RULES = {
    "Python floats": ((0.0, 1.0, 0.25, [0.5]), "float64"),
    "float32 arrays": ((F32(0), F32(1), F32(0.25), np.asarray([0.5], "float32")), "float32"),
    "float32 and Python floats": ((F32(0), 1.0, 0.25, None), "float32"),
    "float32 NumPy scalars": ((np.float32(0), np.float32(1), np.float32(0.25), None), "float32"),
    "float32 and one float64 end": ((F32(0), F64(1), F32(0.25), None), "float64"),
    "float32 and a float64 step": ((F32(0), F32(1), np.float64(0.25), None), "float64"),
    "float32 and float64 saves": ((F32(0), F32(1), F32(0.25), np.asarray([0.5])), "float64"),
    "float64 and float32 saves": ((F64(0), 1.0, 0.25, np.asarray([0.5], "float32")), "float64"),
    "Python integers": ((0, 1, 1, None), "float64"),
    "integer arrays": ((INT(0), np.int64(1), INT(1), None), "float64"),
    "integers and Python floats": ((0, 1, 0.25, [0, 1]), "float64"),
    "integer and float32": ((INT(0), F32(1), F32(0.25), np.asarray([0, 1])), "float32"),
    "no step": ((F32(0), F32(1), None, None), "float32"),
    "narrower than float32": ((jnp.bfloat16(0), jnp.bfloat16(1), None, None), "float32"),
}


REPEATS = ("float32 NumPy scalars", "float32 and a float64 step", "integer arrays", "float64 and float32 saves")
"""Rules of which another one has the same pair of widths or the same kind of number."""


@pytest.mark.parametrize("rule", [pytest.param(rule, marks=slow_unless(rule not in REPEATS)) for rule in TIME_RULES])
def test_time_is_the_promotion_of_all_times(rule: str) -> None:
    (t0, t1, dt0, ts), expected = TIME_RULES[rule]
    controller = rungax.PIDController(rtol=1e-3, atol=1e-3) if dt0 is None else rungax.ConstantStepSize()
    seen: set[str] = set()

    def field(t: Any, y: Any, args: Any) -> Any:
        seen.add(jnp.result_type(t).name)
        return -y

    saveat = rungax.SaveAt(t0=True, ts=ts, t1=True, fn=lambda t, y, args: (t, y))
    solution = rungax.diffeqsolve(
        field, rungax.Heun(), t0, t1, dt0, jnp.ones(2, "float32"), saveat=saveat, stepsize_controller=controller
    )
    assert seen == {expected}
    assert dtypes((solution.ts, solution.ys)) == (expected, (expected, "float32"))
    assert solution.ts[-1] == 1
