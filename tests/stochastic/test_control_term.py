"""`ControlTerm`: permitted values of a vector field, their product with a path's increment, and error messages."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax
from rungax import ControlTerm, Euler, Heun, MultiTerm, ODETerm, UnsafeBrownianPath, VirtualBrownianTree, diffeqsolve

from ..compare import assert_trees_close

KEY = jax.random.key(3)


def tree(shape: Any, levy_area: Any = rungax.BrownianIncrement) -> VirtualBrownianTree:
    return VirtualBrownianTree(0.0, 1.0, 1e-2, shape, KEY, levy_area=levy_area)


def by_euler(field: Any, path: Any, y0: Any, steps: int = 4, **options: Any) -> Any:
    """The state at time 1 of dy = field dX."""
    return jax.jit(lambda y0: diffeqsolve(ControlTerm(field, path), Euler(), 0.0, 1.0, 1 / steps, y0, **options).ys)(y0)


# Products of vector fields and increments


def test_a_field_of_arrays_is_summed_over_the_axes_of_the_control() -> None:
    g = jnp.arange(12.0).reshape(2, 2, 3)
    path = UnsafeBrownianPath((2, 3), KEY)
    found = by_euler(lambda t, y, args: g, path, jnp.zeros(2), steps=1)[0]
    np.testing.assert_allclose(found, np.tensordot(g, path.evaluate(0.0, 1.0), axes=2), rtol=1e-12)


def test_scalar_diagonal_and_matrix_fields_of_the_same_equation_agree() -> None:
    d = jnp.array([0.3, -0.2, 0.5])
    path = UnsafeBrownianPath((3,), KEY)  # the same increments in every solve with these steps
    as_operator = by_euler(lambda t, y, args: lx.DiagonalLinearOperator(d * y), path, jnp.ones(3))
    as_matrix = by_euler(lambda t, y, args: jnp.diag(d * y), path, jnp.ones(3))
    as_matrix_operator = by_euler(lambda t, y, args: lx.MatrixLinearOperator(jnp.diag(d * y)), path, jnp.ones(3))
    assert_trees_close(as_operator, as_matrix, rtol=1e-13)
    assert_trees_close(as_matrix_operator, as_matrix, rtol=1e-13)
    scalar = UnsafeBrownianPath((), KEY)
    one_source = by_euler(lambda t, y, args: d * y, scalar, jnp.ones(3))
    as_column = by_euler(lambda t, y, args: (d * y)[:, None], lambda t0, t1: scalar.evaluate(t0, t1)[None], jnp.ones(3))
    assert_trees_close(one_source, as_column, rtol=1e-13)


def test_a_pytree_is_driven_leaf_by_leaf_or_through_an_operator() -> None:
    shapes = {"a": jax.ShapeDtypeStruct((), jnp.float64), "b": jax.ShapeDtypeStruct((2,), jnp.float64)}
    path = UnsafeBrownianPath(shapes, KEY)
    y0 = {"a": jnp.zeros(3), "b": jnp.array(0.0)}
    g = {"a": jnp.arange(3.0), "b": jnp.array([1.0, -1.0])}
    found = jax.tree.map(lambda x: x[0], by_euler(lambda t, y, args: g, path, y0, steps=1))
    whole = path.evaluate(0.0, 1.0)
    assert_trees_close(found, {"a": g["a"] * whole["a"], "b": g["b"] @ whole["b"]}, rtol=1e-12)

    def shared(t: Any, y: Any, args: Any) -> Any:
        """One source of noise for all leaves."""

        def apply(w: Any) -> Any:
            return {"a": w * jnp.arange(3.0), "b": 2 * w}

        return lx.FunctionLinearOperator(apply, jax.ShapeDtypeStruct((), jnp.float64))

    scalar = UnsafeBrownianPath((), KEY)
    found = jax.tree.map(lambda x: x[0], by_euler(shared, scalar, y0, steps=1))
    w = scalar.evaluate(0.0, 1.0)
    assert_trees_close(found, {"a": w * jnp.arange(3.0), "b": 2 * w}, rtol=1e-12)


@pytest.mark.parametrize("form", [lambda g: g, lx.MatrixLinearOperator], ids=["array", "operator"])
def test_a_complex_matrix_is_not_conjugated(form: Any) -> None:
    """Neither by the product of an array with a complex control, nor by that of an operator."""
    g = jnp.array([[1.0 + 2.0j, 0.5j], [0.0, 1.0 - 1.0j]])
    control = np.asarray([1.0 + 1.0j, 2.0])
    found = by_euler(
        lambda t, y, args: form(g), lambda t0, t1: (t1 - t0).astype(complex) * control, jnp.zeros(2, complex)
    )
    np.testing.assert_allclose(found[0], np.asarray(g) @ control, rtol=1e-12)


def test_leaves_keep_their_dtypes() -> None:
    y0 = {"narrow": jnp.zeros((), jnp.float32), "wide": jnp.zeros((), jnp.float64)}
    shapes = jax.tree.map(lambda _: jax.ShapeDtypeStruct((), jnp.float64), y0)
    found = by_euler(lambda t, y, args: jax.tree.map(jnp.ones_like, y), tree(shapes), y0)
    assert {name: leaf.dtype for name, leaf in found.items()} == {"narrow": jnp.float32, "wide": jnp.float64}


def test_a_function_of_two_times_is_a_control() -> None:
    found = by_euler(lambda t, y, args: y, lambda t0, t1: t1**2 - t0**2, jnp.array(1.0), steps=1000)[0]
    np.testing.assert_allclose(found, np.e, rtol=2e-3)


def test_backwards_a_function_of_two_times_gets_the_earlier_time_first() -> None:
    def increment(t0: Any, t1: Any) -> Any:
        return eqx.error_if(t1**2 - t0**2, t0 > t1, "called with the later time first")

    term = ControlTerm(lambda t, y, args: y, increment)
    found = jax.jit(lambda: diffeqsolve(term, Heun(), 1.0, 0.0, -1e-3, jnp.array(np.e)).ys[0])()
    np.testing.assert_allclose(found, 1.0, rtol=1e-5)


class Circle(rungax.AbstractPath):
    """A path with a derivative."""

    t0: Any = 0.0
    t1: Any = 1.0

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Any:
        value = jnp.stack([jnp.cos(t0), jnp.sin(t0)])
        return value if t1 is None else jnp.stack([jnp.cos(t1), jnp.sin(t1)]) - value

    def derivative(self, t: Any, left: bool = True) -> Any:
        return jnp.stack([-jnp.sin(t), jnp.cos(t)])


def test_to_ode_is_the_same_equation() -> None:
    def field(t: Any, y: Any, args: Any) -> Any:
        return jnp.stack([jnp.stack([y[1], args * y[0]]), jnp.stack([jnp.ones_like(t), y[0] * y[1]])])

    term, y0 = ControlTerm(field, Circle()), jnp.array([0.5, 0.25])
    driven = jax.jit(lambda: diffeqsolve(term, Heun(), 0.0, 1.0, 1e-3, y0, 0.7).ys)()
    options = {"stepsize_controller": rungax.PIDController(rtol=1e-10, atol=1e-10)}
    as_ode = jax.jit(lambda: diffeqsolve(term.to_ode(), rungax.Tsit5(), 0.0, 1.0, None, y0, 0.7, **options).ys)()
    assert_trees_close(driven, as_ode, rtol=1e-5)


def test_a_solve_works_under_every_transformation() -> None:
    """The field holds a traced parameter in a module, the path a traced key, under `vmap` of `grad`."""

    class Scale(eqx.Module):
        weight: Any

        def __call__(self, t: Any, y: Any, args: Any) -> Any:
            return self.weight * jnp.sin(y)

    def end(weight: Any, key: Any) -> Any:
        terms = MultiTerm(ODETerm(lambda t, y, args: -y), ControlTerm(Scale(weight), UnsafeBrownianPath((), key)))
        return diffeqsolve(terms, Heun(), 0.0, 1.0, 0.1, jnp.array(1.0), max_steps=16).ys[0]

    keys, weights = jax.random.split(KEY, 3), np.array([0.1, 0.5, 1.0])
    slopes = jax.jit(jax.vmap(jax.grad(end)))(weights, keys)
    forward = jax.jit(lambda weight, key: jax.jvp(lambda weight: end(weight, key), (weight,), (1.0,)))
    for weight, key, slope in zip(weights, keys, slopes, strict=True):
        (ahead, _), (behind, _), (_, by_jvp) = (forward(weight + h, key) for h in (1e-5, -1e-5, 0.0))
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-7)
        np.testing.assert_allclose(slope, by_jvp, rtol=1e-12)


# Invalid input


@pytest.mark.parametrize(
    ("field", "shape", "words"),
    [
        (lambda t, y, args: jnp.ones(3), (3,), ("shape", "(3, 3)", "(3,)", "DiagonalLinearOperator")),
        (lambda t, y, args: jnp.ones((3, 2)), (), ("shape", "(3,)", "(3, 2)")),
        (lambda t, y, args: 1.0, (), ("shape", "(3,)", "()")),
        (lambda t, y, args: (jnp.ones(3),), (), ("structure", "returned a tuple of 1", "jnp.stack")),
        (lambda t, y, args: jnp.ones(3, complex), (), ("complex", "real part")),
        (lambda t, y, args: lx.DiagonalLinearOperator(jnp.ones(2)), (3,), ("operator", "float64[2]", "float64[3]")),
        (lambda t, y, args: lx.MatrixLinearOperator(jnp.ones((3, 2), jnp.float32)), (2,), ("float32[3]", "float64[3]")),
    ],
)
def test_messages_explain_a_field_that_does_not_fit(field: Any, shape: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="ControlTerm") as error:
        by_euler(field, tree(shape), jnp.zeros(3))
    for word in words:
        assert word in str(error.value)


def test_a_complex_path_of_a_real_state_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype of the control is complex"):
        by_euler(lambda t, y, args: jnp.ones(()), tree(jax.ShapeDtypeStruct((), jnp.complex128)), jnp.zeros(()))


def test_invalid_fields_and_controls_are_refused() -> None:
    with pytest.raises(ValueError, match="vector_field"):
        ControlTerm(1.0, tree(()))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="the driver of the equation"):
        ControlTerm(lambda t, y, args: y, 1.0)  # pyright: ignore[reportArgumentType]


def test_a_function_of_increments_has_no_value_and_no_levy_area() -> None:
    control = ControlTerm(lambda t, y, args: y, lambda t0, t1: t1 - t0).control
    with pytest.raises(ValueError, match="has no value at one time"):
        control.evaluate(0.5)
    with pytest.raises(TypeError):
        ControlTerm(lambda t, y, args: y, lambda t0, t1: t1 - t0).contr(0.0, 1.0, use_levy=True)
