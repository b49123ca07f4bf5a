"""Multistep methods, whose steps use the solution at the ends of earlier steps."""
