r"""Kennedy and Carpenter's ARK3(2)4L[2]SA, implicit--explicit of order 3 with dense output of order 2.

C. A. Kennedy and M. H. Carpenter, *Additive Runge--Kutta schemes for convection--diffusion--reaction equations*,
Applied Numerical Mathematics 44 (2003), 139--181; first as NASA/TM-2001-211038. The printed fractions are
approximations to irrational numbers: they satisfy the order conditions to 2e-26, those of the dense output to 3e-26.

The implicit part is an L-stable, stiffly accurate ESDIRK; the two parts share nodes and weights.
"""

from rungax.solvers.tableaus.types.published import PublishedSplitMethod

KENCARP3 = PublishedSplitMethod.parse(
    reference="C. A. Kennedy and M. H. Carpenter, Appl. Numer. Math. 44 (2003), 139-181, ARK3(2)4L[2]SA",
    order=3,
    error_order=2,
    interpolant_order=2,
    c="1767732205903/2027836641118  3/5  1",
    a_explicit="""
    1767732205903/2027836641118
    5535828885825/10492691773637   788022342437/10882634858940
    6485989280629/16251701735622  -4246266847089/9704473918619  10755448449292/10357097424841
    """,
    a_implicit="""
    1767732205903/4055673282236
    2746238789719/10658868560708  -640167445237/6845629431997
    1471266399579/7840856788654   -4482444167858/7529755066697  11266239266428/11593286722821
    """,
    a_diagonal="""
    0
    1767732205903/4055673282236
    1767732205903/4055673282236
    1767732205903/4055673282236
    """,
    b="""
    1471266399579/7840856788654  -4482444167858/7529755066697
    11266239266428/11593286722821  1767732205903/4055673282236
    """,
    b_hat="""
    2756255671327/12835298489170  -10771552573575/22201958757719
    9247589265047/10645013368117  2193209047091/5459859503100
    """,
    interpolant="""
    4655552711362/22874653954995    -215264564351/13552729205753
    -18682724506714/9892148508045   17870216137069/13817060693119
    34259539580243/13192909600954   -28141676662227/17317692491321
    584795268549/6622622206610      2508943948391/7218656332882
    """,
)
