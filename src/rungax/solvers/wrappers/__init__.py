"""Solvers that wrap other solvers."""
