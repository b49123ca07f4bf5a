"""The coefficients of the numerical differentiation formulas of orders 1 to 5.

References
----------
L. F. Shampine, M. W. Reichelt, The MATLAB ODE Suite, SIAM J. Sci. Comput. 18 (1997), 1–22: section 2.2 and Table 1.
"""

import numpy as np

MAX_ORDER = 5

KAPPA = np.array([-0.1850, -1 / 9, -0.0823, -0.0415, 0.0])
r"""The coefficients $\kappa_k$ of orders 1 to 5. With zeros, the formulas are the backward differentiation formulas."""

GAMMA = np.cumsum(1 / np.arange(1, MAX_ORDER + 1))
r"""The sums $\gamma_k = \sum_{j=1}^k 1/j$."""

ALPHA = (1 - KAPPA) * GAMMA
r"""The leading coefficients $(1 - \kappa_k) \gamma_k$."""

ERROR = KAPPA * GAMMA + 1 / np.arange(2, MAX_ORDER + 2)
r"""The error constants $\kappa_k \gamma_k + 1/(k + 1)$: the factors of $\nabla^{k+1} y$ in the local error."""
