"""References for the methods and libraries that a call of `diffeqsolve` uses."""

from .rules import citation as citation, citation_rules as citation_rules
