"""Yoshida's composition of three symmetric steps of order 2 to one of order 4.

H. Yoshida, *Construction of higher order symplectic integrators*, Physics Letters A 150 (1990), 262--268; also in E.
Hairer, C. Lubich and G. Wanner, *Geometric Numerical Integration*, 2nd ed. (2006), section II.4, equation 4.4. The
middle step is backwards.
"""

REFERENCE = "H. Yoshida, Phys. Lett. A 150 (1990), 262-268"

ORDER = 4

# 1 / (2 - 2^(1/3)) and -2^(1/3) / (2 - 2^(1/3))
WEIGHTS = (
     1.351207191959657634047687808971460826922,
    -1.702414383919315268095375617942921653844,
     1.351207191959657634047687808971460826922,
)
