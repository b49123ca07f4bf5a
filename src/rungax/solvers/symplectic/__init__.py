"""Symplectic methods for Hamiltonian equations, and the reversible two-step midpoint rule.

`LeapfrogMidpoint` is here because it is a reversible method for waves, like the others. It is not a Runge–Kutta method,
because it uses the previous step, and its step differs from that of the symplectic methods, so it has a file of its
own.
"""
