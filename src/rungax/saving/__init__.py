"""What is kept of a solve."""

from .dense import DenseRecorder as DenseRecorder
from .internals import InternalsRecorder as InternalsRecorder, SolverInternals as SolverInternals
from .output import OutputRecorder as OutputRecorder
from .saveat import SaveAt as SaveAt, SubSaveAt as SubSaveAt, save_y as save_y
from .tape import (
    NEVER as NEVER,
    Kind as Kind,
    SavedParts as SavedParts,
    Tape as Tape,
    TapeRecorder as TapeRecorder,
    part_of as part_of,
)
