"""Diagonally implicit Runge–Kutta methods, whose implicit stages are solved one after another."""
