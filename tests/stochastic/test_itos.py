"""Steps of Milstein's methods, Euler–Heun, `SRIW1` and `DRI1` agree with their formulas, for states of every kind.

The expected steps are transcriptions of the formulas in NumPy, with loops over sources of noise and Jacobians by hand.
Weak order is measured without sampling: expectations over the noise of a step are sums, by Gauss–Hermite quadrature.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.linalg
from jaxtyping import Array

import rungax
from rungax import AbstractPath, ControlTerm, MultiTerm, ODETerm, SpaceTimeLevyArea
from rungax.solvers.stochastic.euler_heun import EulerHeun
from rungax.solvers.stochastic.milstein.methods import ItoMilstein, StratonovichMilstein
from rungax.solvers.stochastic.sri.methods import SRIW1
from rungax.solvers.stochastic.weak.methods import DRI1
from rungax.solvers.tableaus.dri1 import DRI1 as DRI1_TABLEAU
from rungax.solvers.tableaus.sriw1 import SRIW1 as SRIW1_TABLEAU
from rungax.terms import in_direction_of_travel

from ..compare import assert_trees_close

T0, T1 = 0.3, 0.55
H = T1 - T0
MILSTEINS = [ItoMilstein(), StratonovichMilstein()]
ANY_NOISE = [*MILSTEINS, EulerHeun(), DRI1()]
ALL = [*ANY_NOISE, SRIW1()]


class Given(AbstractPath):
    """A path that returns the same increment for every interval."""

    dt: Any
    W: Any
    H: Any

    @property
    def t0(self) -> float:
        return -np.inf

    @property
    def t1(self) -> float:
        return np.inf

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        return SpaceTimeLevyArea(self.dt, self.W, self.H) if use_levy else self.W


def given(w: Any, area: Any, h: float = H) -> Given:
    def real(x: Any) -> Any:
        return jnp.asarray(h, jnp.finfo(x.dtype).dtype)

    w, area = jax.tree.map(jnp.asarray, w), jax.tree.map(jnp.asarray, area)
    return Given(jax.tree.map(real, w), w, area)


def step(solver: Any, terms: Any, y0: Any, t0: float = T0, t1: float = T1) -> tuple[Any, Any]:
    """The state and the error estimate after one step."""

    @eqx.filter_jit
    def make(terms: Any, y0: Any, t0: Any, t1: Any) -> Any:
        state = solver.init(terms, t0, t1, y0, None)
        return solver.step(terms, t0, t1, y0, None, state, False)[:2]

    return make(terms, jax.tree.map(jnp.asarray, y0), jnp.asarray(t0), jnp.asarray(t1))


# ------------------------------------------------------------------------------------------------------- two equations


class Equation:
    """Drift, diffusion as a matrix `g`, and the derivative `jacobian[i, j, l]` of `g[i, j]`, in NumPy and in JAX."""

    def drift(self, t: Any, y: Any, args: Any = None, xp: Any = jnp) -> Any:
        return xp.stack([xp.sin(y[1]) - t * y[0], y[0] * y[1] + t])

    def field(self, t: Any, y: Any, args: Any = None, xp: Any = jnp) -> Any:
        rows = [[xp.cos(y[1]), y[0] * y[1], 0.4 + t], [y[0] ** 2, xp.sin(y[0] - t), y[1]]]
        return xp.stack([xp.stack([x + 0.0 * y[0] for x in row]) for row in rows])

    def jacobian(self, t: float, y: np.ndarray) -> np.ndarray:
        a, b = y
        first = [[0, -np.sin(b)], [b, a], [0, 0]]
        second = [[2 * a, 0], [np.cos(a - t), 0], [0, 1]]
        return np.array([first, second])

    def terms(self, w: Any, area: Any, h: float = H) -> MultiTerm:
        return MultiTerm(ODETerm(self.drift), ControlTerm(self.field, given(w, area, h)))


class Diagonal(Equation):
    """An equation in which each source of noise acts on one entry of the state."""

    def entries(self, t: Any, y: Any, xp: Any = jnp) -> Any:
        return xp.stack([xp.cos(y[0]) + t, 0.5 * y[1] ** 2 + 0.3])

    def field(self, t: Any, y: Any, args: Any = None, xp: Any = jnp) -> Any:
        entries = self.entries(t, y, xp)
        return xp.stack([xp.stack([entries[0], 0.0 * t + 0.0 * y[0]]), xp.stack([0.0 * t + 0.0 * y[0], entries[1]])])

    def operator(self, t: Any, y: Any, args: Any) -> Any:
        return lx.DiagonalLinearOperator(self.entries(t, y))

    def jacobian(self, t: float, y: np.ndarray) -> np.ndarray:
        result = np.zeros((2, 2, 2))
        result[0, 0, 0], result[1, 1, 1] = -np.sin(y[0]), y[1]
        return result


GENERAL, DIAGONAL = Equation(), Diagonal()
Y0 = np.array([0.8, -0.6])
W3, AREA3 = np.array([0.31, -0.52, 0.24]), np.array([0.11, -0.07, 0.05])


def drift_and_field(equation: Equation, t: float, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return equation.drift(t, y, xp=np), equation.field(t, y, xp=np)


def milstein(equation: Equation, w: np.ndarray, is_ito: bool) -> np.ndarray:
    f, g = drift_and_field(equation, T0, Y0)
    y = Y0 + f * H + g @ w
    derivative = equation.jacobian(T0, Y0)
    for j, k in product(range(w.size), repeat=2):
        y = y + 0.5 * derivative[:, k] @ g[:, j] * (w[j] * w[k] - (H if is_ito and j == k else 0.0))
    return y


def euler_heun(equation: Equation, w: np.ndarray) -> np.ndarray:
    f, g = drift_and_field(equation, T0, Y0)
    return Y0 + f * H + 0.5 * (g + equation.field(T1, Y0 + g @ w, xp=np)) @ w


def sriw1(equation: Diagonal, w: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A step and its error estimate by the formula for diagonal noise, or for one source for all entries."""
    table, root = SRIW1_TABLEAU, np.sqrt(H)
    ww, wt, www = (w**2 - H) / 2, H * (w / 2 + area), (w**3 - 3 * H * w) / 6
    fs: list[np.ndarray] = []
    gs: list[np.ndarray] = []
    for i in range(4):
        of_f = Y0 + sum(table.A0[i, j] * fs[j] * H + table.B0[i, j] * gs[j] * wt / H for j in range(i))
        of_g = Y0 + sum(table.A1[i, j] * fs[j] * H + table.B1[i, j] * gs[j] * root for j in range(i))
        fs.append(equation.drift(T0 + sum(table.A0[i]) * H, of_f, xp=np))
        gs.append(equation.entries(T0 + sum(table.A1[i]) * H, of_g, np))
    beta = table.beta
    main = sum((beta[0, i] * w + beta[1, i] * ww / root) * gs[i] for i in range(4))
    rest = sum((beta[2, i] * wt / H + beta[3, i] * www / H) * gs[i] for i in range(4))
    y1 = Y0 + sum(table.alpha[i] * fs[i] * H for i in range(4)) + main + rest
    return y1, np.abs(rest) + np.abs(fs[0] - fs[1]) * H / 6


def dri1(equation: Equation, w: np.ndarray, area: np.ndarray) -> np.ndarray:
    table, root, m = DRI1_TABLEAU, np.sqrt(H), w.size
    two_point = root * np.where(area < 0, -1.0, 1.0)
    pair = np.zeros((m, m))
    for k, l in product(range(m), repeat=2):
        extra = -H if k == l else (-root * two_point[k] if k < l else root * two_point[l])
        pair[k, l] = 0.5 * (w[k] * w[l] + extra)

    def column(t: float, y: np.ndarray, k: int) -> np.ndarray:
        return equation.field(t, y, xp=np)[:, k]

    fs: list[np.ndarray] = []
    gs: list[list[np.ndarray]] = []
    hats: list[list[np.ndarray]] = []
    assert table.B2 is not None
    for i in range(3):
        y = Y0 + sum(table.A0[i, j] * fs[j] * H for j in range(i))
        y = y + sum(table.B0[i, j] * gs[j][l] * w[l] for j in range(i) for l in range(m))
        args = [
            Y0 + sum(table.A1[i, j] * fs[j] * H + table.B1[i, j] * gs[j][k] * root for j in range(i)) for k in range(m)
        ]
        fs.append(equation.drift(T0 + sum(table.A0[i]) * H, y, xp=np))
        gs.append([column(T0 + sum(table.A1[i]) * H, args[k], k) for k in range(m)])
    for i in range(3):
        sums = [
            sum(table.B2[i, j] * gs[j][l] * pair[k, l] / root for j in range(3) for l in range(m) if l != k)
            for k in range(m)
        ]
        hats.append([column(T0, Y0 + sums[k], k) for k in range(m)])
    y1 = Y0 + sum(table.alpha[i] * fs[i] * H for i in range(3))
    for i, k in product(range(3), range(m)):
        y1 = y1 + gs[i][k] * (table.beta[0, i] * w[k] + table.beta[1, i] * pair[k, k] / root)
        y1 = y1 + hats[i][k] * (table.beta[2, i] * w[k] + table.beta[3, i] * root)
    return y1


EXPECTED: dict[str, Callable[[Equation, np.ndarray, np.ndarray], np.ndarray]] = {
    "ItoMilstein": lambda equation, w, area: milstein(equation, w, is_ito=True),
    "StratonovichMilstein": lambda equation, w, area: milstein(equation, w, is_ito=False),
    "EulerHeun": lambda equation, w, area: euler_heun(equation, w),
    "DRI1": dri1,
}


def name_of(solver: Any) -> str:
    return type(solver).__name__


@pytest.mark.parametrize("solver", ANY_NOISE, ids=name_of)
def test_a_step_with_general_noise_is_that_of_the_formula(solver: Any) -> None:
    found, error = step(solver, GENERAL.terms(W3, AREA3), Y0)
    np.testing.assert_allclose(found, EXPECTED[name_of(solver)](GENERAL, W3, AREA3), rtol=1e-13)
    assert error is None


@pytest.mark.parametrize("solver", ANY_NOISE, ids=name_of)
@pytest.mark.parametrize("operator", [False, True], ids=["array", "operator"])
def test_a_matrix_operator_is_the_same_as_its_matrix(solver: Any, operator: bool) -> None:
    def field(t: Any, y: Any, args: Any) -> Any:
        matrix = GENERAL.field(t, y)
        like = jax.ShapeDtypeStruct((3,), matrix.dtype)
        return lx.MatrixLinearOperator(matrix) if operator else lx.FunctionLinearOperator(lambda x: matrix @ x, like)

    terms = MultiTerm(ODETerm(GENERAL.drift), ControlTerm(field, given(W3, AREA3)))
    expected = EXPECTED[name_of(solver)](GENERAL, W3, AREA3)
    np.testing.assert_allclose(step(solver, terms, Y0)[0], expected, rtol=1e-13)


@pytest.mark.parametrize("solver", ALL, ids=name_of)
def test_a_diagonal_operator_is_the_same_as_its_matrix(solver: Any) -> None:
    w, area = W3[:2], AREA3[:2]
    terms = MultiTerm(ODETerm(DIAGONAL.drift), ControlTerm(DIAGONAL.operator, given(w, area)))
    found, error = step(solver, terms, Y0)
    if isinstance(solver, SRIW1):
        expected, expected_error = sriw1(DIAGONAL, w, area)
        np.testing.assert_allclose(error, expected_error, rtol=1e-12)
    else:
        expected = EXPECTED[name_of(solver)](DIAGONAL, w, area)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("solver", ALL, ids=name_of)
def test_a_scalar_source_is_the_same_as_one_of_many(solver: Any) -> None:
    """A path of shape `()`, a path of shape `(1,)`, and for one entry of the state a diagonal operator."""
    w, area = np.array(0.31), np.array(-0.11)
    results = []
    for shape in ((), (1,)):

        def field(t: Any, y: Any, args: Any, shape: Any = shape) -> Any:
            return DIAGONAL.entries(t, y).reshape(2, *shape)

        terms = MultiTerm(ODETerm(DIAGONAL.drift), ControlTerm(field, given(w.reshape(shape), area.reshape(shape))))
        if isinstance(solver, SRIW1) and shape:
            results.append(sriw1(DIAGONAL, np.array([w, w]), np.array([area, area]))[0])
        else:
            results.append(step(solver, terms, Y0)[0])
    np.testing.assert_allclose(*results, rtol=1e-13)


# ------------------------------------------------------------------------------------------------------ kinds of state


def oscillator(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(lambda x: x * x - jnp.asarray(t).astype(x.dtype), y)


@pytest.mark.parametrize("solver", ALL, ids=name_of)
def test_uncoupled_leaves_are_solved_as_if_alone(solver: Any) -> None:
    """Each leaf has its own source of noise and its own dtype; complex states may be driven by real noise."""
    y0 = {"wide": jnp.asarray([0.4, -0.7]), "narrow": jnp.asarray(0.5, jnp.float32), "complex": jnp.asarray(0.3 + 0.6j)}
    w = {"wide": jnp.asarray(0.3), "narrow": jnp.asarray(-0.2, jnp.float32), "complex": jnp.asarray(0.4)}
    area = jax.tree.map(lambda x: -0.3 * x, w)

    def field(t: Any, y: Any, args: Any) -> Any:
        return jax.tree.map(lambda x: 0.5 * x * x + jnp.asarray(t).astype(x.dtype), y)

    together, error = step(solver, MultiTerm(ODETerm(oscillator), ControlTerm(field, given(w, area))), y0)
    for name in y0:
        alone = MultiTerm(ODETerm(oscillator), ControlTerm(field, given(w[name], area[name])))
        expected, expected_error = step(solver, alone, y0[name])
        assert together[name].dtype == y0[name].dtype
        rtol = 1e-5 if name == "narrow" else 1e-12
        assert_trees_close(together[name], expected, rtol=rtol)
        if expected_error is not None:
            assert_trees_close(error[name], expected_error, rtol=rtol)


@pytest.mark.parametrize("solver", ANY_NOISE, ids=name_of)
def test_complex_noise_is_two_real_sources_of_half_the_variance(solver: Any) -> None:
    y0, w, area = np.array(0.4 - 0.2j), np.array(0.3 + 0.25j), np.array(-0.1 + 0.07j)

    def g(t: Any, y: Any, args: Any) -> Any:
        return 0.6 * y * y.conj() + jnp.asarray(t).astype(y.dtype) * y + 0.2j  # not holomorphic

    def pair(z: Any) -> Any:
        return jnp.stack([z.real, z.imag])

    def real_field(t: Any, y: Any, args: Any) -> Any:
        z = g(t, jax.lax.complex(y[0], y[1]), args)
        return jnp.sqrt(0.5) * jnp.stack([pair(z), pair(1j * z)], axis=1)

    def real_drift(t: Any, y: Any, args: Any) -> Any:
        return pair(oscillator(t, jax.lax.complex(y[0], y[1]), args))

    found = step(solver, MultiTerm(ODETerm(oscillator), ControlTerm(g, given(w, area))), y0)[0]
    root = np.sqrt(2)
    path = given(root * pair(w), root * pair(area))
    expected = step(solver, MultiTerm(ODETerm(real_drift), ControlTerm(real_field, path)), np.asarray(pair(y0)))[0]
    np.testing.assert_allclose(pair(found), expected, rtol=1e-12)


@pytest.mark.parametrize("solver", ALL, ids=name_of)
def test_backwards_is_forwards_for_the_reflected_equation(solver: Any) -> None:
    """Reversing time changes the sign of the drift, of `W` and of the true times, but not of `H`."""
    w, area = jnp.asarray(W3[:2]), jnp.asarray(AREA3[:2])
    terms = MultiTerm(ODETerm(DIAGONAL.drift), ControlTerm(DIAGONAL.operator, given(w, area)))
    reflected = MultiTerm(
        ODETerm(lambda t, y, args: -DIAGONAL.drift(-t, y)),
        ControlTerm(lambda t, y, args: DIAGONAL.operator(-t, y, args), given(-w, area)),
    )
    found = step(solver, in_direction_of_travel(terms, jnp.asarray(-1.0)), Y0, -T1, -T0)
    assert_trees_close(found, step(solver, reflected, Y0, -T1, -T0), rtol=1e-13)


# --------------------------------------------------------------------------------------------------------------- costs


def largest(jaxpr: Any) -> int:
    """The size of the largest value that a program computes."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [int(np.prod(v.aval.shape)) for v in equation.outvars]
        inner = (p.jaxpr if hasattr(p, "jaxpr") else p for p in equation.params.values())
        sizes += [largest(p) for p in inner if hasattr(p, "eqns")]
    return max(sizes)


def count(jaxpr: Any, name: str) -> int:
    """The number of times that a program applies the primitive `name`."""
    total = 0
    for equation in jaxpr.eqns:
        inner = (p.jaxpr if hasattr(p, "jaxpr") else p for p in equation.params.values())
        total += (equation.primitive.name == name) + sum(count(p, name) for p in inner if hasattr(p, "eqns"))
    return total


@pytest.mark.parametrize("solver", [*MILSTEINS, SRIW1()], ids=name_of)
@pytest.mark.parametrize("shape", [(50,), ()], ids=["diagonal", "scalar"])
def test_noise_by_entry_costs_no_more_than_one_derivative(solver: Any, shape: tuple[int, ...]) -> None:
    """No value is larger than the state. Each derivative of `erf` in the program shows as an exponential."""

    def field(t: Any, y: Any, args: Any) -> Any:
        entries = jax.scipy.special.erf(y)
        return lx.DiagonalLinearOperator(entries) if shape else entries

    terms = MultiTerm(ODETerm(lambda t, y, args: -y), ControlTerm(field, given(np.ones(shape), np.ones(shape))))
    program = jax.make_jaxpr(lambda y: solver.step(terms, T0, T1, y, None, None, False)[0])(jnp.ones(50)).jaxpr
    assert largest(program) == 50
    assert count(program, "exp") == (0 if isinstance(solver, SRIW1) else 1)


def test_the_stratonovich_method_costs_one_derivative_for_any_noise() -> None:
    def field(t: Any, y: Any, args: Any) -> Any:
        return jnp.stack([jax.scipy.special.erf(y * k) for k in range(1, 8)], axis=1)

    terms = MultiTerm(ODETerm(lambda t, y, args: -y), ControlTerm(field, given(np.ones(7), np.ones(7))))

    def program(solver: Any) -> Any:
        return jax.make_jaxpr(lambda y: solver.step(terms, T0, T1, y, None, None, False)[0])(jnp.ones(5)).jaxpr

    assert largest(program(StratonovichMilstein())) == 5 * 7
    assert largest(program(ItoMilstein())) == 5 * 7 * 7


# -------------------------------------------------------------------------------------------------------------- orders


def quadrature(m: int, h: Array) -> tuple[Array, Array, Array]:
    """Nodes, `W` and `H` of `m` sources in rows, and weights, exact for polynomials of degree 11 in each `W`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(6)
    rows = list(product(*[range(6)] * m, *[(-1.0, 1.0)] * m))
    w = jnp.sqrt(h) * jnp.asarray([[nodes[i] for i in row[:m]] for row in rows])
    signs = jnp.asarray([row[m:] for row in rows])
    chances = [np.prod([weights[i] for i in row[:m]]) / (2 * np.pi) ** (m / 2) / 2**m for row in rows]
    return w, signs, jnp.asarray(chances)


def expectation(drift: Any, field: Any, m: int, function: Callable[[Array], Array]) -> Callable[[Any, Any], Array]:
    """The mean of a function of the state after one step of `DRI1`, given the state before and the step size."""

    @jax.jit
    def mean(y0: Array, h: Array) -> Array:
        def one(w: Array, area: Array) -> Array:
            terms = MultiTerm(ODETerm(drift), ControlTerm(field, Given(h, w, area)))
            return function(DRI1().step(terms, 0.0, h, y0, None, None, False)[0])

        w, areas, chances = quadrature(m, h)
        return jnp.einsum("r,r...->...", chances, jax.vmap(one)(w, areas))

    return mean


def slope(hs: np.ndarray, errors: list[float]) -> float:
    return float(np.polyfit(np.log(hs), np.log(np.abs(errors)), 1)[0])


def test_the_weak_local_error_is_of_order_three_for_a_nonlinear_equation() -> None:
    r"""The test problem has the solution $X = \sinh(z + t + W)$; the function is a cubic of $z + t + W$."""
    z = 0.4

    def cubic(s: Any) -> Any:
        return s**3 - 6 * s**2 + 8 * s

    def exact(h: float) -> float:
        a = z + h
        return a**3 + 3 * a * h - 6 * (a**2 + h) + 8 * a

    found = expectation(
        lambda t, y, args: 0.5 * y + jnp.sqrt(y * y + 1),
        lambda t, y, args: jnp.sqrt(y * y + 1)[:, None],
        1,
        lambda y: cubic(jnp.arcsinh(y[0])),
    )
    hs = 2.0 ** -np.arange(6, 9)
    errors = [float(found(np.sinh([z]), h)) - exact(h) for h in hs]
    assert abs(slope(hs, errors) - 3) < 0.15


def test_the_weak_local_error_is_of_order_three_for_noise_that_does_not_commute() -> None:
    r"""The equations are $\mathrm{d}X = \mathrm{d}W_1$, $\mathrm{d}Y = \sin X\,\mathrm{d}W_2$, with $E[\cos(X) Y^2]$.

    Conditioning on $W_1$ gives $\int_0^h E[\cos(x + W_h) \sin^2(x + W_s)]\,\mathrm{d}s$, whose integrand follows from
    Gaussian characteristic functions.
    """
    x = 0.7
    s_nodes, s_weights = np.polynomial.legendre.leggauss(20)

    def exact(h: float) -> float:
        s = h * (s_nodes + 1) / 2
        # cos a sin² b = cos a / 2 - (cos(a + 2b) + cos(a - 2b)) / 4
        plain = np.cos(x) * np.exp(-h / 2)
        plus = np.cos(3 * x) * np.exp(-(9 * s + (h - s)) / 2)
        minus = np.cos(x) * np.exp(-(s + (h - s)) / 2)
        return float(h / 2 * np.sum(s_weights * (plain / 2 - (plus + minus) / 4)))

    def field(t: Any, y: Any, args: Any) -> Any:
        zero = jnp.zeros_like(y[0])
        return jnp.stack([jnp.stack([1 + zero, zero]), jnp.stack([zero, jnp.sin(y[0])])])

    found = expectation(lambda t, y, args: 0.0 * y, field, 2, lambda y: jnp.cos(y[0]) * y[1] ** 2)
    hs = 2.0 ** -np.arange(6, 9)
    errors = [float(found(np.array([x, 0.0]), h)) - exact(h) for h in hs]
    assert abs(slope(hs, errors) - 3) < 0.15


def test_second_moments_converge_with_order_two_for_linear_noise_that_does_not_commute() -> None:
    """Second moments satisfy a linear equation, exactly and for the method, so no path is sampled."""
    a = np.array([[-0.5, 0.3], [0.1, -0.7]])
    bs = [np.array([[0.3, 0.6], [-0.4, 0.1]]), np.array([[0.5, 0.0], [0.7, -0.3]])]
    eye = np.eye(2)
    generator = np.kron(a, eye) + np.kron(eye, a) + sum(np.kron(b, b) for b in bs)
    start, end = np.kron([1.0, 0.5], [1.0, 0.5]), 2.0
    exact = scipy.linalg.expm(end * generator) @ start

    field = lambda t, y, args: jnp.stack([jnp.asarray(b) @ y for b in bs], axis=1)
    found = expectation(lambda t, y, args: jnp.asarray(a) @ y, field, 2, lambda y: jnp.kron(y, y))

    def second_moments(h: float) -> np.ndarray:
        """The matrix by which a step acts on second moments, from states that span the symmetric matrices."""
        e0, e1, e2 = (np.asarray(found(np.array(y), h)) for y in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0]))
        mixed = (e2 - e0 - e1) / 2
        return np.stack([e0, mixed, mixed, e1], axis=1)

    numbers = np.array([16, 32, 64])
    errors = [
        float(np.linalg.norm(np.linalg.matrix_power(second_moments(end / n), n) @ start - exact)) for n in numbers
    ]
    assert abs(slope(numbers, errors) + 2) < 0.1


def test_sriw1_agrees_with_the_strong_taylor_expansion_of_order_three_halves() -> None:
    """The root mean square difference over one step is of second order, as strong order 1.5 requires."""

    def f(y: Any) -> Any:
        return jnp.sin(y) + 0.3

    def g(y: Any) -> Any:
        return jnp.cos(y) + 0.5 * y

    y0 = -0.6
    (f0, f1, f2), (g0, g1, g2) = (
        [float(function(y0)) for function in (u, jax.grad(u), jax.grad(jax.grad(u)))] for u in (f, g)
    )
    terms = MultiTerm(ODETerm(lambda t, y, args: f(y)), ControlTerm(lambda t, y, args: g(y), given(0.0, 0.0)))
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    chances = np.outer(weights, weights) / (2 * np.pi)

    @jax.jit
    def mean_square(h: Array) -> Array:
        w = jnp.sqrt(h) * jnp.asarray(nodes)[:, None] * jnp.ones((1, 9))
        area = jnp.sqrt(h / 12) * jnp.asarray(nodes)[None, :] * jnp.ones((9, 1))

        def end(w: Array, area: Array) -> Array:
            driven = eqx.tree_at(lambda t: t.terms[1].control, terms, Given(h, w, area))
            return SRIW1().step(driven, 0.0, h, jnp.asarray(y0), None, None, False)[0]

        wt = h * (w / 2 + area)
        taylor = y0 + f0 * h + g0 * w + g0 * g1 * (w**2 - h) / 2 + f1 * g0 * wt + (f0 * f1 + g0**2 * f2 / 2) * h**2 / 2
        taylor += (f0 * g1 + g0**2 * g2 / 2) * (w * h - wt) + g0 * (g0 * g2 + g1**2) * (w**3 - 3 * h * w) / 6
        return jnp.sum(jnp.asarray(chances) * (jax.vmap(jax.vmap(end))(w, area) - taylor) ** 2)

    hs = 2.0 ** -np.arange(11, 15)
    assert abs(slope(hs, [float(mean_square(jnp.asarray(h))) ** 0.5 for h in hs]) - 2) < 0.1


def test_orders_without_noise() -> None:
    """Without noise `DRI1` is Kutta's method of order 3, and `SRIW1` has order 2 with an estimate of local order 2."""

    def drift(t: Any, y: Any, args: Any) -> Any:
        return jnp.cos(t) * y

    hs = 2.0 ** -np.arange(3, 8)
    local: dict[str, list[float]] = {"DRI1": [], "SRIW1": [], "estimate": []}
    for h in hs:
        zero = given(np.zeros(()), np.zeros(()), h)
        terms = MultiTerm(ODETerm(drift), ControlTerm(lambda t, y, args: 0.0 * y, zero))
        for solver in (DRI1(), SRIW1()):
            y1, error = step(solver, terms, jnp.asarray(1.0), 0.4, 0.4 + h)
            local[name_of(solver)].append(float(y1) - np.exp(np.sin(0.4 + h) - np.sin(0.4)))
            if error is not None:
                local["estimate"].append(float(error))
    slopes = {name: round(slope(hs, errors), 1) for name, errors in local.items()}
    assert slopes["DRI1"] == pytest.approx(DRI1().order(None) + 1, abs=0.15)
    assert slopes["SRIW1"] == pytest.approx(SRIW1().order(None) + 1, abs=0.15)
    assert slopes["estimate"] == pytest.approx(2, abs=0.15)


def test_the_facts() -> None:
    path = rungax.VirtualBrownianTree(0.0, 1.0, 1e-2, (), jax.random.key(0), SpaceTimeLevyArea)
    terms = MultiTerm(ODETerm(lambda t, y, args: -y), ControlTerm(lambda t, y, args: y, path))
    facts = {name_of(s): (set(s.interpretations), s.noise, s.strong_order(terms), s.error_order(terms)) for s in ALL}
    assert facts == {
        "ItoMilstein": ({"Itô"}, "commutative", 1, 1.5),
        "StratonovichMilstein": ({"Stratonovich"}, "commutative", 1, 1.5),
        "EulerHeun": ({"Stratonovich"}, "general", 0.5, 1.0),
        "DRI1": ({"Itô"}, "general", 0.5, 1.0),
        "SRIW1": ({"Itô"}, "diagonal", 1.5, 1.5),
    }
    assert DRI1().weak_order(terms) == 2
    assert [name_of(s) for s in ALL if not s.safe_with_adaptive_steps] == ["DRI1"]


@pytest.mark.parametrize("solver", MILSTEINS, ids=name_of)
def test_milstein_has_no_order_for_ordinary_equations(solver: Any) -> None:
    with pytest.raises(ValueError, match="has no order for ordinary ones"):
        solver.order(ODETerm(lambda t, y, args: -y))
