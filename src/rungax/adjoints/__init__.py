"""How gradients flow through a solve."""

from .backsolve import BacksolveAdjoint as BacksolveAdjoint, adjoint_rms_seminorm as adjoint_rms_seminorm
from .base import AbstractAdjoint as AbstractAdjoint
from .direct import DirectAdjoint as DirectAdjoint
from .forward import ForwardMode as ForwardMode
from .implicit import ImplicitAdjoint as ImplicitAdjoint
from .recursive_checkpoint import RecursiveCheckpointAdjoint as RecursiveCheckpointAdjoint
from .reversible import ReversibleAdjoint as ReversibleAdjoint
