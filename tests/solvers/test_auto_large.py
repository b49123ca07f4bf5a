"""Without a given stiff method, `Auto` chooses one by the size and the structure of the equation."""

import logging
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import BDF, Auto, Banded, Krylov, MultiTerm, ODETerm, PIDController, Rodas5P, SaveAt
from rungax.nonlinear import default_tolerances, suitesparse
from rungax.solvers.wrappers import stiff_method
from rungax.terms import in_direction_of_travel

from ..compare import assert_trees_close
from ..gradients.measure import along, difference_quotient, weigh

WIDTH = 8
CONTROLLER = PIDController(rtol=1e-6, atol=1e-8)


def grid(t: Any, y: Any, args: Any) -> Any:
    """Two species that react on a periodic grid: 128 equations with six entries in each row of the Jacobian."""
    u, v = y["u"], y["v"]
    spread = lambda x: sum(jnp.roll(x, s, axis) for s in (1, -1) for axis in (0, 1)) - 4 * x
    reaction = u * u * v
    return {
        "u": 1 + reaction - (args["feed"] + 1) * u + args["rate"] * spread(u),
        "v": args["feed"] * u - reaction + args["rate"] * spread(v) + 0.1 * jnp.sin(t),
    }


ARGS = {"feed": 3.4, "rate": 500.0}


def start() -> dict[str, np.ndarray]:
    x = np.arange(WIDTH) / WIDTH
    bump = (x * (1 - x)) ** 1.5
    u, v = np.meshgrid(22 * bump, 27 * bump, indexing="ij")
    return {"u": u, "v": v}


def solve(y0: Any, args: Any, *, solver: Any = None, t0: Any = 0.0, t1: Any = 0.5, **options: Any) -> rungax.Solution:
    options = {"stepsize_controller": CONTROLLER, "max_steps": 512, "throw": False} | options
    return rungax.diffeqsolve(ODETerm(grid), solver, t0, t1, None, y0, args, **options)


# ----------------------------------------------------------------------------------------------------------- the choice


def choice(term: Any, y0: Any, args: Any = None, with_error_control: bool = True) -> tuple[Any, Any]:
    """The stiff method that `Auto()` chooses, and the terms with the structure that it has found."""
    t0 = jnp.zeros(())
    term = ODETerm(term) if not isinstance(term, rungax.AbstractTerm) else term
    terms = in_direction_of_travel(term.trace_once(t0, y0, args), jnp.ones(()))
    solver, terms = Auto().for_equation(terms, t0, y0, args, default_tolerances(y0) if with_error_control else None)
    return solver.implicit, terms


def line(t: Any, y: Any, args: Any) -> Any:
    """Diffusion on a line with fixed ends: a tridiagonal Jacobian."""
    return 100 * (jnp.pad(y, (0, 1))[1:] - 2 * y + jnp.pad(y, (1, 0))[:-1])


def ring(t: Any, y: Any, args: Any) -> Any:
    return 100 * (jnp.roll(y, 1) - 2 * y + jnp.roll(y, -1))


def mixed(t: Any, y: Any, args: Any) -> Any:
    """Every equation depends on every unknown."""
    return -y * jnp.sum(y**2)


def test_up_to_a_hundred_equations_nothing_changes() -> None:
    method, terms = choice(ring, jnp.ones(stiff_method.MANY))
    assert method == Rodas5P()
    assert terms.jacobian_pattern is None
    assert isinstance(choice(ring, jnp.ones(stiff_method.MANY + 1))[0], BDF)


ILU = Krylov(preconditioner="ilu")


def test_the_pattern_of_a_grid_is_found() -> None:
    y0 = jax.tree.map(jnp.asarray, start())
    method, terms = choice(grid, y0, ARGS)
    assert method == BDF(linear_solver=ILU)
    assert terms.jacobian_pattern == rungax.jacobian_sparsity(grid, 0.0, y0, ARGS)


def test_a_narrow_band_is_solved_as_one() -> None:
    method, terms = choice(line, jnp.ones(120))
    assert method == BDF()
    assert terms.jacobian_tags == {Banded(1, 1)}


def test_dense_equations_are_factorised_up_to_500_and_iterated_beyond(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "rungax"):
        method, terms = choice(mixed, jnp.ones(500))
        assert method == Rodas5P()
        assert terms.jacobian_pattern is None
        assert not caplog.records
        method, _ = choice(mixed, jnp.ones(501))
    assert method == BDF(linear_solver=Krylov())
    (record,) = caplog.records
    assert "ODETerm(sparsity=...)" in record.getMessage()
    assert "501 equations" in record.getMessage()


def test_a_declared_pattern_is_factorised_where_that_is_possible_and_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = lambda size: ODETerm(ring, sparsity=rungax.SparsityPattern.of_band(size, 1, 1))
    assert choice(declared(4900), jnp.ones(4900))[0] == BDF()
    assert choice(declared(5100), jnp.ones(5100))[0] == BDF(linear_solver=ILU)
    monkeypatch.setattr(suitesparse, "is_installed", lambda: False)
    assert choice(declared(120), jnp.ones(120))[0] == BDF(linear_solver=ILU)


def test_no_pattern_is_looked_for_in_very_large_systems() -> None:
    method, terms = choice(ring, jnp.ones(stiff_method._MOST_FOR_PATTERN + 1))
    assert method == BDF(linear_solver=Krylov())
    assert terms.jacobian_pattern is None


def test_given_steps_are_of_high_order() -> None:
    method, terms = choice(ring, jnp.ones(120), with_error_control=False)
    assert method == Rodas5P(linear_solver=ILU)
    assert terms.jacobian_pattern is not None


def test_a_declared_structure_is_used_as_it_is() -> None:
    full = np.ones((120, 120), bool)
    declared = ODETerm(ring, sparsity=full)
    method, terms = choice(declared, jnp.ones(120))
    assert method == BDF()
    assert terms.jacobian_pattern == rungax.SparsityPattern(full)
    for term in (ODETerm(line, tags=lx.tridiagonal_tag), ODETerm(line, jacobian=lambda t, y, args: jnp.eye(1100))):
        method, terms = choice(term, jnp.ones(1100))
        assert method == BDF()
        assert terms.jacobian_pattern is None


def test_a_jacobian_of_ones_own_is_factorised_beside_any_pattern() -> None:
    """An iterative solver would refuse it."""
    band = rungax.SparsityPattern.of_band(5100, 1, 1)
    term = ODETerm(ring, sparsity=band, jacobian=lambda t, y, args: jnp.ones(band.num_entries))
    assert choice(term, jnp.ones(5100))[0] == BDF()


def test_the_pattern_of_a_sum_is_that_of_all_terms() -> None:
    shifted = ODETerm(lambda t, y, args: jnp.roll(y, 7))
    _, terms = choice(MultiTerm(ODETerm(ring), shifted), jnp.ones(120))
    expected = rungax.jacobian_sparsity(lambda t, y, args: ring(t, y, args) + jnp.roll(y, 7), 0.0, jnp.ones(120))
    assert terms.jacobian_pattern == expected


def test_the_pattern_of_complex_equations_has_a_row_for_each_entry() -> None:
    field = lambda t, y, args: 1j * ring(t, y, args) - jnp.abs(y).astype(y.dtype) * y
    _, terms = choice(field, jnp.ones(120, complex))
    assert terms.jacobian_pattern == rungax.jacobian_sparsity(ring, 0.0, jnp.ones(120))


def test_with_noise_nothing_is_chosen() -> None:
    path = rungax.VirtualBrownianTree(0.0, 1.0, 1e-3, (120,), jax.random.key(0))
    noise = rungax.ControlTerm(lambda t, y, args: lx.DiagonalLinearOperator(jnp.ones(120)), path)
    method, terms = choice(MultiTerm(ODETerm(ring), noise), jnp.ones(120))
    assert method == Rodas5P()
    assert terms.jacobian_pattern is None


def test_a_given_method_is_kept() -> None:
    solver = Auto(stiff=Rodas5P())
    assert solver.for_equation(None, jnp.zeros(()), jnp.ones(120), None, None) == (solver, None)


# ----------------------------------------------------------------------------------------------------------- its solves


def test_the_solution_is_that_of_other_methods_with_few_stiff_steps() -> None:
    found = solve(start(), ARGS, saveat=SaveAt(t1=True, solver_state=True))
    assert bool(found.solver_state.is_stiff)
    assert found.solver_state.stiff.differences.shape == (5, 2 * WIDTH**2)
    # A stable step of the explicit method is 1/1200.
    assert int(found.num_steps) < 300
    expected = solve(start(), ARGS, solver=rungax.Tsit5(), max_steps=None)
    assert_trees_close(found.ys, expected.ys, rtol=1e-4, atol=1e-5)


def test_it_stays_with_the_stiff_method() -> None:
    """Constant vectors have no slope here, so that a power iteration from one would not find the stiffness."""
    y0 = np.exp(-100 * (np.linspace(0.0, 1.0, 120) - 0.5) ** 2)
    field = lambda t, y, args: 120**2 * (jnp.roll(y, 1) - 2 * y + jnp.roll(y, -1))
    found = rungax.diffeqsolve(
        field, None, 0.0, 0.1, None, y0, stepsize_controller=PIDController(rtol=1e-5, atol=1e-7), max_steps=400
    )
    assert int(found.num_steps) < 150


def test_auto_is_what_none_chooses() -> None:
    assert_trees_close(solve(start(), ARGS), solve(start(), ARGS, solver=Auto()))


def test_the_program_can_be_exported() -> None:
    program = jax.jit(lambda y0: solve(y0, ARGS, t1=1e-3).ys)
    y0 = jax.tree.map(jnp.asarray, start())
    exported = jax.export.export(program)(y0)
    assert_trees_close(jax.export.deserialize(exported.serialize()).call(y0), program(y0), rtol=1e-12)


@pytest.mark.slow
def test_vmap_is_a_loop() -> None:
    """One element is stiff, the other is not."""
    rates = jnp.asarray([1.0, 500.0])
    of_rate = lambda rate: solve(start(), {"feed": 3.4, "rate": rate}).ys
    assert_trees_close(jax.vmap(of_rate)(rates), jax.tree.map(lambda *x: jnp.stack(x), *map(of_rate, rates)), rtol=1e-5)


@pytest.mark.slow
def test_gradients_are_those_of_differences() -> None:
    loss = jax.jit(lambda args: weigh(solve(start(), args).ys))
    args = jax.tree.map(jnp.asarray, ARGS)
    direction = {"feed": 1.0, "rate": 0.0}
    quotient = difference_quotient(loss, args, direction, h=1e-3)
    forward = jax.jvp(loss, (args,), (jax.tree.map(jnp.asarray, direction),))[1]
    backward = along(jax.grad(loss)(args), direction)
    np.testing.assert_allclose(forward, backward, rtol=1e-6)
    np.testing.assert_allclose(backward, quotient, rtol=1e-3)


@pytest.mark.slow
def test_the_adjoint_equation_has_a_choice_of_its_own() -> None:
    """It has more unknowns than the equation, and another structure."""
    y0, controller = jnp.linspace(0.5, 1.5, 110), PIDController(rtol=1e-7, atol=1e-9)

    def loss(rate: Any, adjoint: Any) -> Any:
        field = lambda t, y, rate: rate * ring(t, y, None) - y**2
        options = {"stepsize_controller": controller, "adjoint": adjoint}
        return weigh(rungax.diffeqsolve(field, None, 0.0, 0.01, None, y0, rate, **options).ys)

    expected = jax.grad(loss)(1.0, rungax.RecursiveCheckpointAdjoint())
    np.testing.assert_allclose(jax.grad(loss)(1.0, rungax.BacksolveAdjoint()), expected, rtol=1e-3)


@pytest.mark.slow
def test_a_continued_solve_makes_the_same_steps() -> None:
    saveat = SaveAt(t1=True, solver_state=True, controller_state=True)
    whole = solve(start(), ARGS)
    first = solve(start(), ARGS, max_steps=80, saveat=saveat)
    assert bool(first.result == rungax.RESULTS.max_steps_reached)
    assert bool(first.solver_state.is_stiff)
    left = {"solver_state": first.solver_state, "controller_state": first.controller_state}
    second = solve(jax.tree.map(lambda y: y[-1], first.ys), ARGS, t0=first.ts[-1], **left)
    assert int(first.num_steps) + int(second.num_steps) == int(whole.num_steps)
    assert_trees_close(second.ys, whole.ys, rtol=1e-9)


@pytest.mark.slow
def test_effects_of_events_change_the_state() -> None:
    """A pulse at a known time, against solves before and after it."""
    pulse = lambda t, y, args, **kwargs: {"u": y["u"] + 1.0, "v": y["v"]}
    newton = optx.Newton(rtol=1e-10, atol=1e-10)
    event = rungax.Event(lambda t, y, args, **kwargs: t - 0.25, effect=pulse, direction=True, root_finder=newton)
    found = rungax.diffeqsolve(
        grid, None, 0.0, 0.5, None, start(), ARGS, stepsize_controller=CONTROLLER, event=event, max_steps=1024
    )
    before = jax.tree.map(lambda y: y[-1], solve(start(), ARGS, t1=0.25).ys)
    after = solve(pulse(0.25, before, ARGS), ARGS, t0=0.25)
    assert_trees_close(found.ys, after.ys, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_dense_output_and_saved_times_agree() -> None:
    ts = np.linspace(0.0, 0.5, 5)
    found = solve(start(), ARGS, saveat=SaveAt(ts=ts, dense=True))
    assert_trees_close(jax.vmap(found.evaluate)(jnp.asarray(ts)), found.ys, rtol=1e-9)
    expected = solve(start(), ARGS, solver=Auto(stiff=Rodas5P()), saveat=SaveAt(ts=ts))
    assert_trees_close(found.ys, expected.ys, rtol=1e-3, atol=1e-4)
