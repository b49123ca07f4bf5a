"""The stages that only the dense output of an implicit method has satisfy their equations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax

from ..catalogue import solved_exactly, terms_for
from ..compare import assert_trees_close
from ..steps import make_step

T0, T1, Y0 = jnp.asarray(0.5), jnp.asarray(0.75), {"a": jnp.array([1.0, -0.5]), "b": jnp.asarray(0.3)}


def field(t: Any, y: Any, args: Any) -> Any:
    return {"a": -50 * (y["a"] - y["b"] * jnp.cos(t)), "b": jnp.sum(y["a"] ** 2) - t * y["b"]}


def with_middle(method: rungax.ButcherTableau) -> rungax.ButcherTableau:
    """The method with a further implicit stage in the middle of the step, which starts from the first stage."""
    assert method.a_diagonal is not None
    assert method.a_predictor is not None
    diagonal, none = method.a_diagonal[-1], np.zeros(method.num_stages - 1)
    return rungax.ButcherTableau(
        c=np.append(method.c, 0.5),
        b_sol=np.append(method.b_sol, 0.0),
        b_error=None,
        a_lower=[*method.a_lower, np.append(0.5 - diagonal, none)],
        a_diagonal=np.append(method.a_diagonal, diagonal),
        a_predictor=[*method.a_predictor, np.append(1.0, none)],
    )


class WithMiddle(rungax.Kvaerno3):
    """A method for one term with a stage of that kind."""

    dense_tableau = with_middle(rungax.Kvaerno3.tableau)


@pytest.mark.parametrize(
    "solver", [pytest.param(WithMiddle(), marks=pytest.mark.slow), rungax.KenCarp5()], ids=["one term", "two terms"]
)
def test_further_stages_satisfy_their_equations(solver: Any) -> None:
    solver, terms = solved_exactly(solver), terms_for(solver, field)
    step = make_step(solver, terms, T0, T1, Y0)
    info = solver.densify(step)
    is_split = isinstance(terms, rungax.MultiTerm)
    parts, known = (x["k"] if is_split else (x["k"],) for x in (info, step.dense_info))
    tableaus = solver.dense_tableau.tableaus if is_split else (solver.dense_tableau,)
    for part, before in zip(parts, known, strict=True):
        assert_trees_close(jax.tree.map(lambda x: x[:-1], part), before, rtol=1e-14)
    y = Y0
    for tableau, part in zip(tableaus, parts, strict=True):
        row = np.append(tableau.a_lower[-1], 0.0 if tableau.a_diagonal is None else tableau.a_diagonal[-1])
        y = jax.tree.map(lambda y, k, row=row: y + jnp.tensordot(row, k, axes=1), y, part)
    t = T0 + tableaus[0].c[-1] * (T1 - T0)
    for term, part in zip(terms.terms if is_split else (terms,), parts, strict=True):
        expected = term.vf_prod(t, y, None, term.contr(T0, T1))
        assert_trees_close(jax.tree.map(lambda x: x[-1], part), expected, rtol=1e-8)


def test_a_further_stage_that_is_not_solved_is_not_a_number() -> None:
    solver = rungax.KenCarp5(root_finder=optx.Newton(rtol=1e-14, atol=1e-14), root_find_max_steps=2)
    terms = terms_for(solver, field)
    step = make_step(solver, terms, T0, T1, Y0)
    found = solver.interpolation_for(terms, None)(t0=T0, t1=T1, **solver.densify(step)).evaluate(0.6)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(found))
