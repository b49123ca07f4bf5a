"""Solvers belong to the families that code asks for by `isinstance`."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import rungax

FAMILIES: dict[str, tuple[type, ...]] = {
    "Tsit5": (rungax.AbstractRungeKutta, rungax.AbstractERK, rungax.AbstractAdaptiveSolver),
    "ImplicitEuler": (rungax.AbstractImplicitSolver, rungax.AbstractAdaptiveSolver),
    "Kvaerno5": (rungax.AbstractRungeKutta, rungax.AbstractDIRK, rungax.AbstractESDIRK, rungax.AbstractImplicitSolver),
    "KenCarp4": (rungax.AbstractRungeKutta, rungax.AbstractIMEXRK, rungax.AbstractImplicitSolver),
    "Rodas5P": (rungax.AbstractRosenbrock, rungax.AbstractAdaptiveSolver),
    "Euler": (rungax.AbstractItoSolver,),
    "Heun": (rungax.AbstractRungeKutta, rungax.AbstractStratonovichSolver),
    "SPaRK": (rungax.AbstractSRK, rungax.AbstractStratonovichSolver),
    "SRA1": (rungax.AbstractSRK, rungax.AbstractItoSolver, rungax.AbstractStratonovichSolver),
    "ALIGN": (rungax.AbstractFosterLangevinSRK, rungax.AbstractItoSolver, rungax.AbstractStratonovichSolver),
    "QUICSORT": (rungax.AbstractFosterLangevinSRK,),
    "KahanLi8": (rungax.AbstractSymmetricComposition,),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_solver_belongs_to_its_families(name: str) -> None:
    solver = getattr(rungax, name)()
    assert [family.__name__ for family in FAMILIES[name] if not isinstance(solver, family)] == []
    assert not isinstance(solver, rungax.AbstractWrappedSolver)


def test_explicit_methods_are_not_implicit() -> None:
    assert not isinstance(rungax.Tsit5(), rungax.AbstractImplicitSolver)
    assert not isinstance(rungax.RK4(), rungax.AbstractESDIRK)


def test_dense_output_is_an_interpolation_by_class() -> None:
    decay = rungax.ODETerm(lambda t, y, args: -y)
    solution: Any = rungax.diffeqsolve(
        decay, rungax.RK4(), 0.0, 1.0, 0.1, jnp.asarray(1.0), saveat=rungax.SaveAt(dense=True), max_steps=16
    )
    assert isinstance(solution.interpolation, rungax.DenseInterpolation)
    assert isinstance(solution.interpolation, rungax.AbstractPath)
    np.testing.assert_allclose(solution.interpolation.evaluate(0.5), np.exp(-0.5), rtol=1e-5)
