"""Stochastic Runge–Kutta methods of weak order 2, for expectations."""
