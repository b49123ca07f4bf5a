"""What an eager solve that fails says: the result by its name, why, where, and what to do."""

import jax.numpy as jnp
import pytest

import rungax
from rungax.results import name_of

NAMES = list(rungax.RESULTS._name_to_item)


@pytest.mark.parametrize("name", NAMES)
def test_every_result_has_its_name(name: str) -> None:
    assert name_of(getattr(rungax.RESULTS, name)) == name


def test_a_failure_is_called_by_its_name() -> None:
    with pytest.raises(RuntimeError) as error:
        rungax.diffeqsolve(lambda t, y, args: -y, rungax.Euler(), 0.0, 1.0, 0.1, jnp.asarray(1.0), max_steps=3)
    report = str(error.value)
    for words in ("`RESULTS.max_steps_reached`", "max_steps", "come to t = 0.3", "3 attempted", "`throw=False`"):
        assert words in report
