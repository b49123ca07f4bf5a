"""What can drive an equation."""

from .base import AbstractPath as AbstractPath
