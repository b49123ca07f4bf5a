r"""The Rosenbrock 2(3) pair of `ode23s`: L-stable, first same as last, with its second-order dense output.

L. F. Shampine and M. W. Reichelt, *The MATLAB ODE suite*, SIAM Journal on Scientific Computing 18 (1997), 1--22,
section 4.

The paper's $k_1, k_2, k_3$ belong to the matrix $W = I - h d J$ with $d = 1 / (2 + \sqrt 2)$, and its third stage uses
the first two values of $f$ again. With $e_{32} = 6 + \sqrt 2$ the same method has

$$u_1 = h d\, k_1, \qquad u_2 = h d\, (k_2 - k_1), \qquad u_3 = h d\, \big(k_3 - e_{32} (k_2 - k_1) - 2 k_1\big),$$

which turns the stages into those below: $\gamma = d$ and, with $1 / \gamma = 2 + \sqrt 2$,

$$a_{21} = \frac{1}{2\gamma}, \quad a_{31} = a_{32} = m_1 = m_2 = \frac{1}{\gamma}, \quad
c_{21} = -\frac{1}{\gamma}, \quad c_{31} = -\frac{2}{\gamma}, \quad c_{32} = -\frac{e_{32}}{\gamma}, \quad
\hat m - m = \frac{1}{6 \gamma} (1,\, e_{32} - 2,\, 1), \quad h_{12} = -4 - 3 \sqrt 2.$$

The paper advances the solution of order two, which keeps that order with any approximation of $J$. The embedded
solution has order three and is not A-stable.
"""

from rungax.solvers.tableaus.types.rosenbrock import RosenbrockTableau

ROSENBROCK23 = RosenbrockTableau.parse(
    reference="L. F. Shampine and M. W. Reichelt, SIAM J. Sci. Comput. 18 (1997), 1-22, section 4",
    order=2,
    error_order=3,
    interpolant_order=2,
    gamma="0.29289321881345247559915563789515096071516406231153",
    alpha="0  1/2  1",
    gamma_sums="""
    0.29289321881345247559915563789515096071516406231153
    0
    -0.29289321881345247559915563789515096071516406231153
    """,
    a="""
    1.70710678118654752440084436210484903928483593768847

    3.41421356237309504880168872420969807856967187537695
    3.41421356237309504880168872420969807856967187537695
    """,
    c="""
    -3.41421356237309504880168872420969807856967187537695

    -6.82842712474619009760337744841939615713934375075390
    -25.31370849898476039041350979367758462855737500301558
    """,
    m="""
    3.41421356237309504880168872420969807856967187537695
    3.41421356237309504880168872420969807856967187537695
    0
    """,
    m_hat="""
    3.98324915610194422360197017824464775833128385460644
    6.49509379141285676427004411508606282380601041742056
    0.56903559372884917480028145403494967976161197922949
    """,
    interpolant="""
    0
    -8.24264068711928514640506617262909423570901562613084
    0
    """,
)
