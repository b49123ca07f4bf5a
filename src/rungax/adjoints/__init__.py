"""Adjoints: how derivatives flow through a solve.

The default, `RecursiveCheckpointAdjoint`, passes through these files when `jax.grad` is taken of a solve:

| stage | function | file |
|---|---|---|
| without a derivative, the plain loop runs | `differentiated_as` | `operands.py` |
| its JVP rule calls `rebuilt(taped(...))` instead | `differentiated_as` | `operands.py` |
| the loop runs once and leaves the tape and the saved parts | `record` | `taped_solve.py`, `saving/` |
| outputs become functions of the saved parts | `rebuilt`, the recorders' `rebuild` | `taped_solve.py`, `saving/` |
| the derivative of `taped` is bound as one linear primitive | `sweep` | `taped_solve.py`, `jaxkit/sweep.py` |
| forward mode evaluates it | `play` | `replay.py` |
| reverse mode transposes it | `reverse_from_checkpoints`, `ReverseReplay.step` | `reverse.py` |
| a further derivative needs bounded loops | `play_bounded` | `replay.py` |

`DirectAdjoint` differentiates `play_bounded`, `ReversibleAdjoint` goes back without checkpoints, `ForwardMode` lets JAX
differentiate the loop; `BacksolveAdjoint` and `ImplicitAdjoint` have rules of their own and leave no tape.
"""

from .backsolve import BacksolveAdjoint as BacksolveAdjoint, adjoint_rms_seminorm as adjoint_rms_seminorm
from .base import AbstractAdjoint as AbstractAdjoint
from .direct import DirectAdjoint as DirectAdjoint
from .forward import ForwardMode as ForwardMode
from .implicit import ImplicitAdjoint as ImplicitAdjoint
from .recursive_checkpoint import RecursiveCheckpointAdjoint as RecursiveCheckpointAdjoint
from .reversible import ReversibleAdjoint as ReversibleAdjoint
