"""The report of a failed solve: which batch elements failed, why, where, and what to do about it.

The loop carries nothing for it. What it does not know is found by a few evaluations of the vector field after it.
"""

from .ending import Ending as Ending
from .examination import Examination as Examination, examine as examine, examine_if as examine_if
from .explanations import Explanations as Explanations
from .failure import Failure as Failure, Subject as Subject
from .text import solve_error as solve_error
