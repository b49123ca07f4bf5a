"""Differential equations in JAX: ordinary, stochastic and controlled, inside `jit`, `vmap` and `grad`."""

from .solve import diffeqsolve as diffeqsolve
from .solution import Solution as Solution
from .results import RESULTS as RESULTS, is_event as is_event, is_okay as is_okay, is_successful as is_successful
from .terms import AbstractTerm as AbstractTerm, MultiTerm as MultiTerm, ODETerm as ODETerm
from .solvers import *
from .controllers import *
from .saving import SaveAt as SaveAt, SubSaveAt as SubSaveAt, save_y as save_y
from .interpolation import *
from .paths import AbstractPath as AbstractPath
