"""Terms and paths may be subscripted, and what a solver's `term_structure` says of shapes in this way is checked."""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, PyTree

from rungax import AbstractPath, AbstractTerm, ControlTerm, Euler, MultiTerm, ODETerm, diffeqsolve


class Clock(AbstractPath[Float[Array, ""]]):
    t0: float = 0.0
    t1: float = 1.0

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Any:
        return jnp.asarray(t0 if t1 is None else t1 - t0)


def solver_for(structure: Any) -> Any:
    class Annotated(Euler):
        term_structure: ClassVar[Any] = structure

    return Annotated()


DECAY = ODETerm(lambda t, y, args: -y)
DRIVEN = ControlTerm(lambda t, y, args: -y, Clock())
VECTOR, SCALAR = Float[Array, "3"], Float[Array, ""]

FITTING = {
    "shapes": (AbstractTerm[VECTOR, SCALAR], DECAY),
    "any shape": (AbstractTerm[Float[Array, "..."], Any], DECAY),
    "a pytree": (ODETerm[PyTree[VECTOR]], DECAY),
    "a union": (AbstractTerm[VECTOR | float, float | SCALAR], DECAY),
    "a control": (ControlTerm[VECTOR, SCALAR], DRIVEN),
    "a sum": (MultiTerm[tuple[ODETerm[VECTOR], AbstractTerm[VECTOR, SCALAR]]], MultiTerm(DECAY, DRIVEN)),
    "what Python cannot tell": (AbstractTerm[tuple[VECTOR, VECTOR], SCALAR], DECAY),
}


@pytest.mark.parametrize("name", FITTING)
def test_terms_that_fit(name: str) -> None:
    structure, terms = FITTING[name]
    y1 = diffeqsolve(terms, solver_for(structure), 0.0, 1.0, 0.5, jnp.ones(3)).ys[0]
    np.testing.assert_allclose(y1, 0.0 if isinstance(terms, MultiTerm) else 0.25, atol=1e-14)


UNFITTING = {
    "a shape": (AbstractTerm[Float[Array, "2"], SCALAR], DECAY, "vf"),
    "a dtype": (ODETerm[Float[Array, "2 2"]], DECAY, "vf"),
    "a control": (AbstractTerm[VECTOR, Float[Array, "2"]], DECAY, "contr"),
    "a pytree": (AbstractTerm[PyTree[Float[Array, "2"]], Any], DECAY, "vf"),
    "part of a sum": (
        MultiTerm[tuple[ODETerm, ControlTerm[VECTOR, Float[Array, "2"]]]], MultiTerm(DECAY, DRIVEN), "contr",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFITTING)
def test_terms_that_do_not_fit(name: str) -> None:
    structure, terms, word = UNFITTING[name]
    with pytest.raises(ValueError, match="not compatible with solver `Annotated`") as error:
        diffeqsolve(terms, solver_for(structure), 0.0, 1.0, 0.5, jnp.ones(3))
    assert f"`{word}`" in str(error.value)
