"""Brownian paths, the random drivers of stochastic differential equations."""

from .base import AbstractBrownianPath as AbstractBrownianPath
from .branch import Branch as Branch
from .bridges import (
    AbstractBridge as AbstractBridge,
    BrownianBridge as BrownianBridge,
    SpaceTimeBridge as SpaceTimeBridge,
    SpaceTimeTimeBridge as SpaceTimeTimeBridge,
)
from .increments import (
    AbstractBrownianIncrement as AbstractBrownianIncrement,
    AbstractSpaceTimeLevyArea as AbstractSpaceTimeLevyArea,
    AbstractSpaceTimeTimeLevyArea as AbstractSpaceTimeTimeLevyArea,
    BrownianIncrement as BrownianIncrement,
    SpaceTimeLevyArea as SpaceTimeLevyArea,
    SpaceTimeTimeLevyArea as SpaceTimeTimeLevyArea,
)
from .tree import VirtualBrownianTree as VirtualBrownianTree
from .unsafe import UnsafeBrownianPath as UnsafeBrownianPath
