"""Patterns of Jacobians that occur in practice, as SciPy sparse arrays."""

import itertools

import numpy as np
import scipy.sparse as sp


def grid(*shape: int, box: bool = False, periodic: bool = False, species: int = 1) -> sp.csr_array:
    """The stencil of neighbours along the axes, or of all neighbours, for species that react at each point."""
    places = np.arange(np.prod(shape)).reshape(shape)
    padded = np.pad(places, 1, mode="wrap") if periodic else np.pad(places, 1, constant_values=-1)
    offsets = [o for o in itertools.product((-1, 0, 1), repeat=len(shape)) if box or np.count_nonzero(o) <= 1]
    shifted = [padded[tuple(slice(1 + o, 1 + o + n) for o, n in zip(offset, shape, strict=True))] for offset in offsets]
    rows = np.concatenate([places.reshape(-1)] * len(offsets))
    columns = np.concatenate([x.reshape(-1) for x in shifted])
    inside = columns >= 0
    stencil = sp.coo_array((np.ones(inside.sum()), (rows[inside], columns[inside])), shape=(places.size, places.size))
    reaction = sp.kron(np.ones((species, species)), sp.eye_array(places.size))
    return sp.csr_array(sp.kron(sp.eye_array(species), stencil) + reaction)


def arrow(n: int) -> sp.csr_array:
    """A diagonal, a full row and a full column."""
    i, first = np.arange(n), np.zeros(n, int)
    rows, columns = np.concatenate([i, first, i]), np.concatenate([i, i, first])
    return sp.csr_array(sp.coo_array((np.ones(3 * n), (rows, columns)), shape=(n, n)))


def random(n: int, entries: int, seed: int = 0) -> sp.csr_array:
    """The diagonal, and entries at random places."""
    rng = np.random.default_rng(seed)
    others = sp.coo_array((np.ones(entries), rng.integers(0, n, (2, entries))), shape=(n, n))
    return sp.csr_array(sp.eye_array(n) + others)


def ten(n: int) -> dict[str, sp.csr_array]:
    """Ten patterns of about `n` columns."""
    side, half_side, edge = (round(x) for x in (n**0.5, (n / 2) ** 0.5, n ** (1 / 3)))
    return {
        "1-D, 3 points": grid(n),
        "1-D, periodic": grid(n, periodic=True),
        "1-D, two species": grid(n // 2, species=2),
        "2-D, 5 points": grid(side, side),
        "2-D, 9 points, periodic": grid(side, side, box=True, periodic=True),
        "2-D, 5 points, two species": grid(half_side, half_side, species=2),
        "2-D, 5 points, periodic, two species": grid(half_side, half_side, periodic=True, species=2),
        "3-D, 7 points": grid(edge, edge, edge),
        "arrow": arrow(n),
        "random": random(n, 4 * n),
    }
