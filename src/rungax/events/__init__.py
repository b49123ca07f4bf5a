"""Events: conditions that end a solve early, or change its state."""

from .detector import ConditionDetector as ConditionDetector
from .event import Event as Event, steady_state_event as steady_state_event
