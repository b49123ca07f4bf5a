"""Adjoints: how derivatives pass through a solve.

The default, `RecursiveCheckpointAdjoint`, passes through these files when `jax.grad` is taken of a solve:

| stage | function | file |
|---|---|---|
| the adjoint is asked for the solve | `RecursiveCheckpointAdjoint.integrate` | `recursive_checkpoint.py` |
| without a derivative, the plain loop runs | `differentiated_as` | `operands.py` |
| its JVP rule calls `rebuild_outcome(taped(...))` instead | `differentiated_as` | `operands.py` |
| the loop runs once and leaves the tape and the saved parts | `run_with_tape` | `taped_solve.py`, `saving/` |
| outputs become functions of the saved parts | `rebuild_outcome`, `rebuild` | `taped_solve.py`, `saving/` |
| the derivative of `taped` is bound as one linear primitive | `sweep` | `taped_solve.py`, `jaxkit/sweep.py` |
| forward mode evaluates it | `play` | `replay.py` |
| reverse mode transposes it, beginning in | `_Chain.cotangents_of_parameters` | `taped_solve.py` |
| the steps are reversed, one vector–Jacobian product each | `reverse_from_checkpoints` | `reverse.py` |
| a further derivative needs bounded loops | `play_bounded` | `replay.py` |
| with more steps than times fit on a tape, each is done in stretches | `play_stretches`, ... | `stretches.py` |

A *saved part* is what an output needs of one step, and the index of that step: for a time inside it the coefficients of
the interpolation, for its end time and state (`saving/savers.py`).

`DirectAdjoint` differentiates `play_bounded`, `ReversibleAdjoint` goes back without checkpoints, `ForwardMode` lets JAX
differentiate the loop; `BacksolveAdjoint` and `ImplicitAdjoint` have derivative rules of their own and no tape.
"""

from .backsolve import BacksolveAdjoint as BacksolveAdjoint, adjoint_rms_seminorm as adjoint_rms_seminorm
from .base import AbstractAdjoint as AbstractAdjoint
from .direct import DirectAdjoint as DirectAdjoint
from .forward import ForwardMode as ForwardMode
from .implicit import ImplicitAdjoint as ImplicitAdjoint
from .recursive_checkpoint import RecursiveCheckpointAdjoint as RecursiveCheckpointAdjoint
from .reversible import ReversibleAdjoint as ReversibleAdjoint
