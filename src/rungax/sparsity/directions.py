"""Directions in which derivatives show whether entries are missing."""

import functools

import numpy as np


@functools.lru_cache(maxsize=8)
def random_direction(size: int) -> np.ndarray:
    """A random vector without small entries, always the same for a size."""
    generator = np.random.default_rng(size)
    direction = generator.uniform(0.5, 1.5, size) * generator.choice([-1.0, 1.0], size)
    direction.setflags(write=False)
    return direction
