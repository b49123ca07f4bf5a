"""Step size controllers: the length of each step, and whether it is accepted."""

from .base import (
    AbstractAdaptiveStepSizeController as AbstractAdaptiveStepSizeController,
    AbstractStepSizeController as AbstractStepSizeController,
)
from .clip import ClipStepSizeController as ClipStepSizeController, retrying_rejected_times as retrying_rejected_times
from .constant import ConstantStepSize as ConstantStepSize
from .pid import PIDController as PIDController
from .step_to import StepTo as StepTo
