"""All-pairs test plans: few combinations, among which every two values of two factors meet."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

type Combination = tuple[str, ...]


def pairwise(factors: Mapping[str, Sequence[str]], possible: Callable[..., bool]) -> list[Combination]:
    """Combinations of one value of each factor, in which every possible pair of values of two factors occurs.

    Greedy and deterministic: always the first of those combinations that bring most new pairs. `possible` is called
    with the factors by name.
    """
    candidates = [c for c in product(*factors.values()) if possible(**dict(zip(factors, c, strict=True)))]
    bits: dict[tuple[int, str, int, str], int] = {}

    def pairs_of(combination: Combination) -> int:
        """The pairs in a combination, as the bits of a number."""
        pairs = ((i, combination[i], j, combination[j]) for i, j in combinations(range(len(combination)), 2))
        return sum(1 << bits.setdefault(pair, len(bits)) for pair in pairs)

    covers = [pairs_of(candidate) for candidate in candidates]
    missing = (1 << len(bits)) - 1
    chosen: list[Combination] = []
    while missing:
        gains = [(cover & missing).bit_count() for cover in covers]
        best = max(range(len(candidates)), key=lambda i: gains[i])
        chosen.append(candidates[best])
        missing &= ~covers[best]
    return chosen
