"""Rosenbrock methods, whose implicit stages are linear equations."""
