"""Runge–Kutta methods: explicit, diagonally implicit, and pairs of both for split equations."""
