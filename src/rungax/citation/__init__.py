"""What to cite: the papers behind the parts of a call."""

from .rules import citation as citation, citation_rules as citation_rules
