"""The dependence of the entries of a linear function's value on those of its argument, read from its program."""

from .program import dependence as dependence
