r"""The method of the code RODAS, of order 4(3), stiffly accurate and L-stable, with its third-order dense output.

E. Hairer and G. Wanner, *Solving Ordinary Differential Equations II*, 2nd ed. (1996), VI.4; the coefficients are those
that come with the code as method 1. They have 16 digits.

The embedded solution is the argument of the last stage, so that the error estimate is that stage.
"""

from rungax.solvers.tableaus.types.rosenbrock import RosenbrockTableau

RODAS4 = RosenbrockTableau.parse(
    reference="E. Hairer and G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), VI.4",
    order=4,
    error_order=3,
    interpolant_order=3,
    gamma="0.25",
    alpha="0  0.386  0.21  0.63  1  1",
    gamma_sums="0.25  -0.1043  0.1035  -0.0362  0  0",
    a="""
    1.544

    0.9466785280815826
    0.2557011698983284

    3.314825187068521
    2.896124015972201
    0.9986419139977817

    1.221224509226641
    6.019134481288629
    12.53708332932087
    -0.6878860361058950

    1.221224509226641
    6.019134481288629
    12.53708332932087
    -0.6878860361058950
    1
    """,
    c="""
    -5.6688

    -2.430093356833875
    -0.2063599157091915

    -0.1073529058151375
    -9.594562251023355
    -20.47028614809616

    7.496443313967647
    -10.24680431464352
    -33.99990352819905
    11.70890893206160

    8.083246795921522
    -7.981132988064893
    -31.52159432874371
    16.31930543123136
    -6.058818238834054
    """,
    m="""
    1.221224509226641
    6.019134481288629
    12.53708332932087
    -0.6878860361058950
    1
    1
    """,
    m_hat="""
    1.221224509226641
    6.019134481288629
    12.53708332932087
    -0.6878860361058950
    1
    0
    """,
    interpolant="""
    10.12623508344586
    -7.487995877610167
    -34.80091861555747
    -7.992771707568823
    1.025137723295662
    0

    -0.6762803392801253
    6.087714651680015
    16.43084320892478
    24.76722511418386
    -6.594389125716872
    0
    """,
)
