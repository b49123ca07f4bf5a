"""How gradients flow through a solve."""

from .base import AbstractAdjoint as AbstractAdjoint
from .recursive_checkpoint import RecursiveCheckpointAdjoint as RecursiveCheckpointAdjoint
