"""Kahan and Li's composition of seventeen symmetric steps of order 2 to one of order 8.

W. Kahan and R.-C. Li, *Composition constants for raising the orders of unconventional schemes for ordinary differential
equations*, Mathematics of Computation 66 (1997), 1089--1099; printed also by E. Hairer, C. Lubich and G. Wanner,
*Geometric Numerical Integration*, 2nd ed. (2006), section V.3.2, equation 3.14.
"""

REFERENCE = "W. Kahan and R.-C. Li, Math. Comp. 66 (1997), 1089-1099"

ORDER = 8

# Nine numbers, followed by the first eight in reverse order.
WEIGHTS = (
     0.13020248308889008087881763,
     0.56116298177510838456196441,
    -0.38947496264484728640807860,
     0.15884190655515560089621075,
    -0.39590389413323757733623154,
     0.18453964097831570709183254,
     0.25837438768632204729397911,
     0.29501172360931029887096624,
    -0.60550853383003451169892108,
     0.29501172360931029887096624,
     0.25837438768632204729397911,
     0.18453964097831570709183254,
    -0.39590389413323757733623154,
     0.15884190655515560089621075,
    -0.38947496264484728640807860,
     0.56116298177510838456196441,
     0.13020248308889008087881763,
)
