"""Stochastic Runge–Kutta methods that use the space-time Lévy area, for additive or for any noise."""
