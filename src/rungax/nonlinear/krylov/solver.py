"""The linear solver `Krylov`."""

import math
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Inexact

from ...jaxkit import check_parameters, shown
from ..sparse import SparseLinearOperator
from .gmres import CONVERGED, NOT_FINITE, Goal, gmres, gmres_to_digits
from .incomplete_lu import IncompleteLU
from .preconditioners import (
    AbstractCorrection,
    AbstractPreconditioner,
    Jacobi,
    Unpreconditioned,
)

NAMED: dict[str, AbstractPreconditioner] = {"jacobi": Jacobi(), "ilu": IncompleteLU()}
"""The preconditioners that are given by name."""

DIGITS = 7 / 8
"""The fraction of all digits that a solution without a given accuracy has, relative to the right-hand side.

Derivatives and the stages of Rosenbrock methods are solved so, because no iteration around them corrects their errors,
which enter the result. The last two digits would take a seventh more iterations, and rounding takes them anyway.
"""


class KrylovState(eqx.Module):
    """The product with a matrix, and the preconditioner for it."""

    product: lx.AbstractLinearOperator
    correction: AbstractCorrection


@final
class Krylov(lx.AbstractLinearSolver[KrylovState]):
    r"""Restarted GMRES with a preconditioner, for large systems: the Jacobian is never factorised.

    It is a linear solver for implicit and Rosenbrock methods (`linear_solver=`). Each iteration takes one directional
    derivative of the vector field, at the state of the stage. The preconditioner approximates the inverse of
    $I - \gamma J$. It may be several steps old, because it changes the number of iterations and not the solution.

    Parameters
    ----------
    restart
        Number of vectors of a cycle, after which the iteration starts again from its last approximation. More vectors
        take fewer iterations and more memory. With too few the iteration stagnates: without a preconditioner, the
        Brusselator on 32 x 32 points takes 65 steps with 30, and 122 with 15.
    preconditioner
        - `"ilu"`: incomplete LU factors with the pattern of the Jacobian;
        - `"jacobi"`: division by the diagonal;
        - `BlockDiagonal(size, stride)`: solution with blocks on the diagonal;
        - a function `(t, y, args, gamma) -> (residual -> correction)`: an approximate solution of
          $x - \gamma J x = \text{residual}$, with residuals and corrections like `y`. The function that it returns must
          be linear, and JAX must be able to transpose it;
        - `None`: none, which is enough if the system is hardly stiff.

        The first three need the entries of the Jacobian: `ODETerm(sparsity=...)`, or tags that declare a band.

    Raises
    ------
    ValueError
        If `restart` is not a positive integer, or if `preconditioner` is none of these; when solved, if it needs the
        pattern and there is none, or if a function returns something else than corrections like the state.

    Differentiability
    -----------------
    Solves are differentiated in every mode by the implicit function theorem. Derivatives solve systems with their own
    matrix and a preconditioner for it, in reverse mode transposed ones.

    Cost
    ----
    Memory: `restart` states twice, and the numbers of the preconditioner. Time: for each iteration a derivative of the
    field, an application of the preconditioner, and four products with each vector of the cycle. Preconditioners from
    entries take as many derivatives as the pattern has colours whenever the Jacobian is evaluated. Iterations for the
    matrix of the Brusselator on 32 x 32 points: 20 without and 7 with `"ilu"` for a `gamma` of 1e-4, 144 and 44 for
    1e-2.

    Systems of implicit methods are solved until the residual is 0.05 times the tolerance of Newton's iteration, in its
    norm. Those of Rosenbrock methods and of derivatives are solved to almost all digits, because no iteration around
    them corrects their errors. A system that is not solved after 20 cycles, or whose residual a cycle reduces by less
    than a tenth, rejects the step; if steps cannot be repeated, the result is `RESULTS.stagnation`.

    References
    ----------
    P. N. Brown, Y. Saad, Hybrid Krylov methods for nonlinear systems of equations, SIAM J. Sci. Stat. Comput. 11
    (1990), 450–481.

    A. C. Hindmarsh et al., SUNDIALS: suite of nonlinear and differential/algebraic equation solvers, ACM Trans. Math.
    Softw. 31 (2005), 363–396, for the tolerance.

    Y. Saad, M. H. Schultz, GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems,
    SIAM J. Sci. Stat. Comput. 7 (1986), 856–869.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> def heat(t, y, args):
    ...     return 1e3 * (jnp.roll(y, 1) - 2 * y + jnp.roll(y, -1))
    >>> solver = rungax.Kvaerno5(linear_solver=rungax.Krylov())
    >>> y0 = jnp.zeros(50).at[25].set(1.0)
    >>> controller = rungax.PIDController(rtol=1e-5, atol=1e-7)
    >>> ys = rungax.diffeqsolve(
    ...     heat, solver, 0.0, 0.1, None, y0, stepsize_controller=controller
    ... ).ys
    >>> print(f"{jnp.sum(ys[-1]):.3f}")
    1.000
    """

    restart: int = eqx.field(static=True, default=30)
    preconditioner: Any = None

    def __check_init__(self) -> None:
        if isinstance(self.restart, bool) or not isinstance(self.restart, int) or self.restart < 1:
            raise ValueError(
                "`Krylov(restart=...)` is the number of vectors of a cycle.\nExpected: a positive integer\n"
                f"Found:    {shown(self.restart)}\nLeave it out for 30."
            )
        _check_preconditioner(self.preconditioner)

    @property
    def kind(self) -> AbstractPreconditioner | None:
        """The preconditioner; `None` for a function that has not been prepared for a problem."""
        if self.preconditioner is None:
            return Unpreconditioned()
        if isinstance(self.preconditioner, str):
            return NAMED[self.preconditioner]
        return self.preconditioner if isinstance(self.preconditioner, AbstractPreconditioner) else None

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> KrylovState:
        """The product with an operator, and the preconditioner from its entries."""
        del options
        kind, matrix = self.kind, operator if isinstance(operator, SparseLinearOperator) else None
        if kind is None or (kind.needs_entries and matrix is None):
            raise ValueError(
                "`Krylov(preconditioner=...)` makes the preconditioner of an operator from its entries.\n"
                'Expected: a `SparseLinearOperator` for "ilu", "jacobi" and `BlockDiagonal`; no function\n'
                f"Found:    {shown(self.preconditioner)} for a `{type(operator).__name__}`\n"
                "A function is called by implicit and Rosenbrock methods only, which have a time and a state."
            )
        return KrylovState(operator, kind.prepare(None, matrix))

    def compute(
        self, state: KrylovState, vector: Inexact[Array, " n"], options: dict[str, Any]
    ) -> tuple[Inexact[Array, " n"], lx.RESULTS, dict[str, Any]]:
        """The solution; infinite in every entry if the iteration stagnates, and NaN if a number is not finite.

        Whatever uses a solution that was not found is so rejected by error control, or not finite.
        """
        accuracy = options.get("accuracy")
        if accuracy is None:
            outcome = gmres_to_digits(state.product.mv, state.correction, vector, DIGITS, self.restart)
        else:
            outcome = gmres(state.product.mv, state.correction, vector, Goal.of(accuracy), self.restart)
        is_solved, is_finite = outcome.status == CONVERGED, outcome.status != NOT_FINITE
        missing = jnp.where(is_finite, math.inf, math.nan).astype(vector.dtype)
        result = lx.RESULTS.where(is_finite, lx.RESULTS.stagnation, lx.RESULTS.nonfinite_input)
        result = lx.RESULTS.where(is_solved, lx.RESULTS.successful, result)
        return jnp.where(is_solved, outcome.solution, missing), result, {"num_steps": outcome.iterations}

    def transpose(self, state: KrylovState, options: dict[str, Any]) -> tuple[KrylovState, dict[str, Any]]:
        """The products with the transposed matrix, and the transposed preconditioner."""
        return KrylovState(state.product.transpose(), state.correction.transposed()), options

    def conj(self, state: KrylovState, options: dict[str, Any]) -> tuple[KrylovState, dict[str, Any]]:
        """The products with the conjugate matrix, and the conjugate preconditioner."""
        return KrylovState(lx.conj(state.product), Conjugate(state.correction)), options

    def assume_full_rank(self) -> bool:
        """True: singular matrices give no solution."""
        return True


@final
class Conjugate(AbstractCorrection):
    """The conjugate of a correction."""

    correction: AbstractCorrection

    def __call__(self, residual: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        """The conjugate of the correction for the conjugate residual."""
        return self.correction(residual.conj()).conj()

    def transposed(self) -> "Conjugate":
        """The conjugate of the transposed correction."""
        return Conjugate(self.correction.transposed())


def _check_preconditioner(given: Any) -> None:
    """Raise a `ValueError` unless a preconditioner is a known name, an instance, a function or `None`."""
    if given is None or isinstance(given, AbstractPreconditioner) or (isinstance(given, str) and given in NAMED):
        return
    if isinstance(given, type) or not callable(given):
        raise ValueError(
            "`Krylov(preconditioner=...)` makes approximate solutions of the linear systems.\n"
            'Expected: "ilu", "jacobi", `BlockDiagonal(size)`, a function of (t, y, args, gamma), or None\n'
            f"Found:    {shown(given)}\n"
            '"ilu" with `ODETerm(sparsity=...)` is a good first choice; give an instance, not a class.'
        )
    check_parameters(
        given,
        "`Krylov(preconditioner=...)`",
        "preconditioner(t, y, args, gamma), which returns a function from a residual to a correction",
        ("time", "state", "arguments", "gamma"),
    )
