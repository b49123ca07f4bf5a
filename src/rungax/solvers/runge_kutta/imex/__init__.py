"""Implicit–explicit Runge–Kutta methods for a sum of two terms, of which one is stiff."""
