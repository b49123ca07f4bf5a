"""A time is clipped to the end where it is past it, or before it by a few roundings only."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from rungax.jaxkit import clip_next_end, clip_to_end

CLIPPED, NEXT = jax.jit(clip_to_end), jax.jit(clip_next_end)
ENDS = st.floats(-1e6, 1e6).filter(lambda end: abs(end) > 1e-6)


def roundings_from(end: Any, number: int) -> Any:
    """The time that lies `number` roundings after `end`."""
    return end + number * np.abs(end) * np.finfo(end.dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None, derandomize=True)
@given(end=ENDS, number=st.integers(-3, 10**6))
def test_a_time_past_the_end_or_nearly_there_is_the_end(dtype: Any, end: float, number: int) -> None:
    exact = dtype(end)
    assert CLIPPED(jnp.asarray(exact), jnp.asarray(roundings_from(exact, number))) == exact


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None, derandomize=True)
@given(end=ENDS, number=st.integers(6, 10**6))
def test_an_earlier_time_stays(dtype: Any, end: float, number: int) -> None:
    exact = dtype(end)
    earlier = roundings_from(exact, -number)
    assert CLIPPED(jnp.asarray(exact), jnp.asarray(earlier)) == earlier


@settings(deadline=None, derandomize=True)
@given(end=ENDS, number=st.integers(-10, 10), accepted=st.booleans())
def test_the_step_after_a_rejection_is_never_lengthened(end: float, number: int, accepted: bool) -> None:
    t_next = np.asarray(roundings_from(np.float64(end), number))
    found = NEXT(jnp.asarray(accepted), jnp.asarray(end), t_next)
    assert found == (CLIPPED(jnp.asarray(end), t_next) if accepted else min(end, float(t_next)))
