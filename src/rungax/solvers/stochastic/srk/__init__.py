"""Stochastic Runge–Kutta methods given by a tableau, for additive or for any noise."""
