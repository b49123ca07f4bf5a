"""How long a step is."""

from .base import (
    AbstractAdaptiveStepSizeController as AbstractAdaptiveStepSizeController,
    AbstractStepSizeController as AbstractStepSizeController,
)
from .clip import ClipStepSizeController as ClipStepSizeController, revisiting as revisiting
from .constant import ConstantStepSize as ConstantStepSize
from .pid import PIDController as PIDController
from .step_to import StepTo as StepTo
