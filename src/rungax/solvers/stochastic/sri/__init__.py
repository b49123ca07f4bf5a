"""Stochastic Runge–Kutta methods of strong order 1.5 for scalar or diagonal noise."""
