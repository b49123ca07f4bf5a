"""An initial value problem with a known solution.

Fields are JAX functions; exact solutions are NumPy functions of one time, so that no oracle rests on the library.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

type Field = Callable[[Any, Any, Any], Any]
type Exact = Callable[[float], Any]


@dataclass(frozen=True, eq=False)
class Problem:
    """An initial value problem.

    `traits` are some of stiff, autonomous, scalar, complex, conjugate, pytree, linear. `reference` is the state at `t1`
    where there is no closed form.
    """

    name: str
    field: Field
    y0: Any
    t0: float
    t1: float
    args: Any = None
    exact: Exact | None = None
    reference: tuple[float, ...] | None = None
    traits: frozenset[str] = frozenset()

    @property
    def final(self) -> Any:
        """The state at `t1`."""
        if self.exact is not None:
            return self.exact(self.t1)
        assert self.reference is not None, f"{self.name} has no known solution"
        return np.array(self.reference)


def traits(*names: str) -> frozenset[str]:
    return frozenset(names)
