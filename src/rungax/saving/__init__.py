"""Saving: what users ask for (`saveat`), and the recorders that save it in the loop and in the replay."""

from .dense import DenseRecorder as DenseRecorder
from .internals import InternalsRecorder as InternalsRecorder, SolverInternals as SolverInternals
from .output import OutputRecorder as OutputRecorder
from .saveat import SaveAt as SaveAt, SubSaveAt as SubSaveAt, save_y as save_y
from .savers import AbstractSaver as AbstractSaver, SavedParts as SavedParts
from .slots import Slots as Slots, visit_due as visit_due
from .solver_state import (
    SOLVER_STATE as SOLVER_STATE,
    SolverStateRecorder as SolverStateRecorder,
    handed_out as handed_out,
)
from .tape import Tape as Tape, TapedTimes as TapedTimes, TapeRecorder as TapeRecorder, TapeSize as TapeSize
