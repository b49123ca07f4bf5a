"""What is solved: vector fields and what drives them."""

from .base import AbstractTerm as AbstractTerm, is_term as is_term
from .directed import DirectedTerm as DirectedTerm, direct as direct
from .multi import MultiTerm as MultiTerm
from .ode import ODETerm as ODETerm
