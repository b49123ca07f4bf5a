"""Euler's method.

L. Euler, *Institutionum calculi integralis*, volume 1 (1768), section 650.
"""

from rungax.solvers.tableaus.types.published import PublishedMethod

EULER = PublishedMethod.parse(
    reference="L. Euler, Institutionum calculi integralis 1 (1768), section 650",
    order=1,
    c="",
    a="",
    b="1",
)
