"""Methods for stochastic equations, a folder for each kind.

`EulerHeun` and `ReversibleHeun` are here because they were made for noise, although they solve ordinary equations too.
"""
