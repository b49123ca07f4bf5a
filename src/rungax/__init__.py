"""Differential equations in JAX: ordinary, stochastic and controlled, inside `jit`, `vmap` and `grad`."""

from .controllers import *
from .interpolation import *
from .paths import AbstractPath as AbstractPath
from .results import RESULTS as RESULTS, is_event as is_event, is_okay as is_okay, is_successful as is_successful
from .saving import SaveAt as SaveAt, SubSaveAt as SubSaveAt, save_y as save_y
from .solution import Solution as Solution
from .solve import diffeqsolve as diffeqsolve
from .solvers import *
from .terms import AbstractTerm as AbstractTerm, MultiTerm as MultiTerm, ODETerm as ODETerm
