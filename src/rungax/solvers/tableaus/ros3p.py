r"""ROS3P, of order 3(2), A-stable and without order reduction for parabolic problems.

J. Lang and J. Verwer, *ROS3P -- an accurate third-order Rosenbrock solver designed for parabolic problems*, BIT
Numerical Mathematics 41 (2001), 731--738.

The paper prints 16 digits. More are computed here from the closed forms: with $1 / \gamma = 3 - \sqrt 3$,

$$a_{21} = a_{31} = \frac{1}{\gamma}, \quad c_{21} = -\frac{1}{\gamma^2}, \quad c_{31} = -2 \sqrt 3, \quad
c_{32} = -\sqrt 3, \quad m = \Big(2,\, \frac{1}{\sqrt 3},\, 1 - \frac{1}{\sqrt 3}\Big), \quad
\hat m = \Big(5 - \frac{5}{\sqrt 3},\, 1,\, 1 - \frac{1}{\sqrt 3}\Big).$$

Stages 2 and 3 share their argument, so a step evaluates $f$ twice. No dense output is given; the cubic Hermite
interpolant of the step's end points has the order of the method.
"""

from rungax.solvers.tableaus.types.rosenbrock import RosenbrockTableau

ROS3P = RosenbrockTableau.parse(
    reference="J. Lang and J. Verwer, BIT 41 (2001), 731-738",
    order=3,
    error_order=2,
    gamma="0.78867513459481288225457439025097872782380087563506",
    alpha="0  1  1",
    gamma_sums="""
    0.78867513459481288225457439025097872782380087563506
    -0.21132486540518711774542560974902127217619912436494
    -1.07735026918962576450914878050195745564760175127013
    """,
    a="""
    1.26794919243112270647255365849412763305719474618962

    1.26794919243112270647255365849412763305719474618962
    0
    """,
    c="""
    -1.60769515458673623883532195096476579834316847713772

    -3.46410161513775458705489268301174473388561050762076
    -1.73205080756887729352744634150587236694280525381038
    """,
    m="""
    2
    0.57735026918962576450914878050195745564760175127013
    0.42264973081037423549085121949804254435239824872987
    """,
    m_hat="""
    2.11324865405187117745425609749021272176199124364937
    1
    0.42264973081037423549085121949804254435239824872987
    """,
)
