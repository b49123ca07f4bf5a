"""Conditions on values, and where a program is staged."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from rungax.jaxkit import (
    AbstractChecked,
    Condition,
    all_hold,
    checked_objects,
    is_staging,
    is_transforming,
    operand,
    require,
    violation,
)

ONE = jnp.asarray(1.0)
type Answers = list[tuple[bool, bool]]


def asking(answers: Answers) -> Callable[..., Any]:
    """The identity, which notes whether a program is staged and whether there is a transformation."""

    def ask(x: Any, *others: Any) -> Any:
        answers.append((is_staging(), is_transforming()))
        return 1.0 * x

    return ask


def no_jit(function: Callable[..., Any]) -> Any:
    with jax.disable_jit():
        return jax.jit(function)(ONE)


def compile_time(function: Callable[..., Any]) -> Any:
    def within(x: Any) -> Any:
        with jax.ensure_compile_time_eval():
            function(ONE)
        return x

    return jax.jit(within)(ONE)


def on_a_mesh(function: Callable[..., Any]) -> Any:
    axes = PartitionSpec("i")
    mesh = Mesh(np.asarray(jax.devices()[:1]), "i")
    return jax.shard_map(function, mesh=mesh, in_specs=axes, out_specs=axes)(jnp.ones(2))


STAGED: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "jit": lambda f: jax.jit(f)(ONE),
    "cond": lambda f: lax.cond(False, f, lambda x: x, ONE),
    "scan": lambda f: lax.scan(lambda x, _: (f(x), None), ONE, None, length=2),
    "while_loop": lambda f: lax.while_loop(lambda x: x < 0.0, f, ONE),
    "shard_map": on_a_mesh,
    "eval_shape": lambda f: jax.eval_shape(f, ONE),
    "make_jaxpr": lambda f: jax.make_jaxpr(f)(ONE),
    "checkpoint": lambda f: jax.checkpoint(f)(ONE),
    "cond in vmap": lambda f: jax.vmap(lambda x: lax.cond(True, f, lambda x: x, x))(jnp.ones(2)),
    "vmap in jit": lambda f: jax.jit(jax.vmap(f))(jnp.ones(2)),
    "grad in jit": lambda f: jax.jit(jax.grad(f))(ONE),
}
TRANSFORMED: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "vmap": lambda f: jax.vmap(f)(jnp.ones(2)),
    "grad": lambda f: jax.grad(f)(ONE),
    "jvp": lambda f: jax.jvp(f, (ONE,), (ONE,)),
    "linearize": lambda f: jax.linearize(f, ONE),
    "hessian": lambda f: jax.hessian(f)(ONE),
    "jacrev of vmap": lambda f: jax.jacrev(jax.vmap(f))(jnp.ones(2)),
    # Values of the program around may be traced there.
    "compile time": compile_time,
}
EXECUTED: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "nothing": lambda f: f(ONE),
    "disabled jit": no_jit,
}


@pytest.mark.parametrize("name", [*STAGED, *TRANSFORMED, *EXECUTED])
def test_a_program_is_staged_by_jit_and_control_flow_and_not_by_vmap_and_grad(name: str) -> None:
    answers: Answers = []
    ({**STAGED, **TRANSFORMED, **EXECUTED})[name](asking(answers))
    assert set(answers) == {(name in STAGED, name not in EXECUTED)}


def test_asking_adds_nothing_to_the_program() -> None:
    found = jax.make_jaxpr(lambda x: x + float(is_staging()))(ONE)
    assert str(found) == str(jax.make_jaxpr(lambda x: x + 1.0)(ONE))


def positive(x: Any) -> Condition:
    return Condition(x, lambda: operand(x) > 0, "it must be positive", lambda: f"; found {x}")


class _Number(AbstractChecked):
    x: Any
    inner: Any = None

    def value_conditions(self) -> Iterator[Condition]:
        yield positive(self.x)


def test_known_values_raise_where_nothing_is_staged() -> None:
    require([positive(1.0), positive(ONE)])
    assert _Number(1.0).x == 1.0
    with pytest.raises(ValueError, match=r"it must be positive; found -1.0"):
        require([positive(1.0), positive(-1.0), positive(-2.0)])
    with pytest.raises(ValueError, match=r"it must be positive; found -1.0"):
        jax.vmap(lambda x: _Number(-1.0).x * x)(jnp.ones(2))
    assert jax.jit(lambda x: _Number(-1.0).x * x)(ONE) == -1.0
    assert jax.vmap(lambda x: _Number(x).x)(jnp.asarray([-1.0, 1.0])).tolist() == [-1.0, 1.0]


def test_known_arrays_of_jax_stay_known_in_a_program() -> None:
    wrong, found = jnp.asarray(-2.0), []
    jax.eval_shape(lambda x: found.append(violation([positive(x), positive(wrong)])) or x, ONE)
    assert found == ["it must be positive; found -2.0"]


def test_conditions_on_traced_values_hold_or_not_at_run_time() -> None:
    assert all_hold([]) is True
    assert all_hold([positive(1.0)]) is True
    assert all_hold([positive(1.0), positive(-1.0)]) is False
    found = jax.vmap(lambda x: all_hold([positive(1.0), positive(x), positive(2.0 - x)]))(jnp.asarray([-1.0, 1.0, 3.0]))
    assert np.asarray(found).tolist() == [False, True, False]


def test_objects_within_objects_are_found() -> None:
    tree = {"a": [_Number(1.0, inner=(_Number(2.0), 3.0))], "b": _Number(4.0), "c": 5.0}
    numbers = lambda tree: [found.x for found in checked_objects(tree) if isinstance(found, _Number)]
    assert numbers(tree) == [1.0, 2.0, 4.0]
    assert numbers(_Number(1.0, inner=_Number(2.0))) == [2.0]
