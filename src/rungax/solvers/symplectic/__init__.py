"""Symplectic methods for Hamiltonian equations, and the reversible two-step midpoint rule.

`LeapfrogMidpoint` is here because it is a reversible method for waves, as its neighbours are. It is not a Runge–Kutta
method, since it uses the step before, and shares no step with the symplectic ones, so that it has a file of its own.
"""
