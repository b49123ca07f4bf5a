"""Milstein's methods, for commutative noise."""
