"""What is kept of a solve."""

from .dense import DenseRecorder as DenseRecorder
from .output import OutputRecorder as OutputRecorder
from .saveat import SaveAt as SaveAt, SubSaveAt as SubSaveAt, save_y as save_y
