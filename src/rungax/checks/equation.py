"""Checks that solver, controller and Brownian paths suit the equation."""

from typing import Any

from jaxtyping import PyTree

from ..brownian import AbstractBrownianIncrement, AbstractBrownianPath
from ..controllers import AbstractStepSizeController
from ..jaxkit import Args, Time, Y, warn_user
from ..solvers import AbstractSolver
from ..terms import (
    AbstractTerm,
    Noise,
    brownian_paths,
    describe,
    fits,
    leaf_terms,
    mismatches,
    required_parts,
)
from .foreign import of_other_library
from .names import name_of


def check_no_noise(terms: Any) -> None:
    """Raise a `ValueError` if the equation has noise: the methods chosen by default are for equations without."""
    if brownian_paths(terms):
        raise ValueError(
            "`solver=None` chooses among methods for equations without noise.\nExpected: a solver for noise\n"
            "Found:    None, and a Brownian path in `terms`\n"
            "Give `SPaRK()` or `Heun()` for a Stratonovich equation, `SRIW1()` or `Euler()` for an Itô equation."
        )


def check_terms(terms: PyTree[Any], solver: AbstractSolver[Any], t0: Time, y0: Y, args: Args) -> None:
    """Raise a `ValueError` unless the terms are those that the solver solves."""
    structure = solver.facts.term_structure
    if not fits(structure, terms):
        raise ValueError(
            f"Terms are not compatible with solver `{name_of(solver)}`, which solves other `terms`.\n"
            f"Expected: {describe(structure)}\n"
            f"Found:    {describe(terms)}\n{of_other_library(terms, AbstractTerm) or _fix_of_terms(structure)}"
        )
    for mismatch in mismatches(structure, terms, t0, y0, args, solver.term_compatible_contr_kwargs):
        raise ValueError(
            f"Terms are not compatible with solver `{name_of(solver)}`, which solves other `terms`.\n"
            f"Expected: {mismatch}"
        )


def _fix_of_terms(structure: PyTree[Any]) -> str:
    """The last line of the message about terms: the fix, for a required structure."""
    if isinstance(structure, tuple):
        fields = ", ".join(f"ODETerm({name})" for name, _ in zip("fghk", structure, strict=False))
        return f"Give a tuple with a term for each part of the state, `({fields})`, and `y0` as a tuple of the parts."
    if parts := required_parts(structure):
        fields = ", ".join(f"ODETerm({name})" for name, _ in zip("fghk", parts, strict=False))
        return f"Give a sum of terms, such as `MultiTerm({fields})`, in the order that the solver's docstring gives."
    return "For an ordinary differential equation use `ODETerm(vector_field)`; a sum of terms is `MultiTerm(...)`."


def check_noise(
    terms: PyTree[AbstractTerm[Any, Any]],
    solver: AbstractSolver[Any],
    controller: AbstractStepSizeController[Any, Any],
    t0: Time,
    y0: Y,
    args: Args,
) -> None:
    """Raise an error unless solver, steps and Brownian path suit each other; the terms are traced."""
    noises = [noise for noise in (term.noise(t0, y0, args) for term in leaf_terms(terms)) if noise is not None]
    paths = brownian_paths(terms)
    _check_drift_and_diffusion(terms, solver, t0, y0, args)
    if not paths:
        return
    for noise in noises:
        _check_levy_area(noise, solver)
        _check_kind_of_noise(noise, solver)
    for path in paths:
        _check_increments_add_up(path, solver, controller)
    if controller.may_reject and not solver.facts.safe_with_adaptive_steps:
        warn_user(
            f"`{name_of(solver)}` may converge to the wrong limit when steps are chosen by their error.\n"
            "Use ConstantStepSize, or for Stratonovich equations a solver such as `Heun` or `SPaRK`.",
        )
    if not solver.facts.interpretations:
        warn_user(
            f"`{name_of(solver)}` is meant for equations without noise; its limit with noise is not known.\n"
            "Use an Itô solver (`Euler`, `ItoMilstein`) or a Stratonovich solver (`Heun`, `SPaRK`).",
        )


def _check_drift_and_diffusion(
    terms: PyTree[AbstractTerm[Any, Any]], solver: AbstractSolver[Any], t0: Time, y0: Y, args: Args
) -> None:
    """Raise a `ValueError` unless a solver that distinguishes drift and diffusion gets one of each, in this order."""
    if not required_parts(solver.facts.term_structure) or not solver.facts.interpretations:
        return
    drift, diffusion = terms.parts
    if brownian_paths(drift) or diffusion.parts:
        found = [
            ("noise" if brownian_paths(term) else "no noise") + (", a sum" if term.parts else "")
            for term in terms.parts
        ]
        raise ValueError(
            f"Terms are not compatible with solver `{name_of(solver)}`, which treats drift and diffusion differently.\n"
            "Expected: `MultiTerm(drift, diffusion)`, the drift without noise and the diffusion one term\n"
            f"Found:    the first with {found[0]}; the second with {found[1]}\n"
            "Put the drift first; put several sources of noise side by side into one ControlTerm, as columns."
        )
    if solver.facts.minimal_levy_area is not AbstractBrownianIncrement and diffusion.noise(t0, y0, args) is None:
        raise ValueError(
            f"Terms are not compatible with solver `{name_of(solver)}`, which needs a Brownian path to drive the"
            " second.\n"
            f"Expected: a ControlTerm with a path such as VirtualBrownianTree\nFound:    {type(diffusion).__name__}"
        )


def _check_increments_add_up(
    path: AbstractBrownianPath[Any], solver: AbstractSolver[Any], controller: AbstractStepSizeController[Any, Any]
) -> None:
    """Raise a `ValueError` if a path that draws anew each time would be asked for an interval twice."""
    if path.increments_add_up:
        return
    if not solver.facts.asks_for_whole_steps:
        raise ValueError(
            f"`{name_of(solver)}` asks a path for parts of a step as well as for the whole.\n"
            "Expected: a path whose increments add up, such as VirtualBrownianTree\n"
            f"Found:    {type(path).__name__}\nUse the tree, or a solver that asks for whole steps."
        )
    if controller.may_reject:
        raise ValueError(
            f"`{type(path).__name__}` draws anew whenever it is asked, so steps must not be rejected.\n"
            f"Expected: ConstantStepSize or StepTo\nFound:    {type(controller).__name__}\n"
            "For adaptive steps use `VirtualBrownianTree`."
        )


def _check_levy_area(noise: Noise, solver: AbstractSolver[Any]) -> None:
    needed, given = solver.facts.minimal_levy_area, noise.path.levy_area
    if not issubclass(given, needed):
        raise ValueError(
            f"Terms are not compatible with solver `{name_of(solver)}`, which needs more of the Brownian path than its"
            " increments.\n"
            f"Expected: a path with `levy_area={needed.__name__.removeprefix('Abstract')}`\n"
            f"Found:    `levy_area={given.__name__}`\nGive it to the path's constructor."
        )


def _check_kind_of_noise(noise: Noise, solver: AbstractSolver[Any]) -> None:
    """Raise a `ValueError` if the vector field's structure shows another kind of noise than the solver is for.

    Commutative noise does not show in the structure.
    """
    name = name_of(solver)
    if solver.facts.noise == "additive" and not noise.is_additive:
        raise ValueError(
            f"Terms are not compatible with solver `{name}`, which is for additive noise: a diffusion that does not"
            " depend on the state.\n"
            "Expected: a `vector_field(t, y, args)` of the ControlTerm that makes no use of `y`\n"
            "Found:    one that does (shapes and dtypes are free to use)\n"
            "For noise that depends on the state use `SPaRK` or `SlowRK` (Stratonovich), `Euler` or `SRIW1` (Itô)."
        )
    if solver.facts.noise == "diagonal" and noise.shape == "general":
        raise ValueError(
            f"Terms are not compatible with solver `{name}`, which is for diagonal noise, one source for each entry of"
            " the state, or for a single source.\n"
            "Expected: a vector field that returns a `lineax.DiagonalLinearOperator`, or a path of shape ()\n"
            "Found:    a field from several sources to the whole state\n"
            "Return `lineax.DiagonalLinearOperator(d)` if it is diagonal; else use `Euler`, or `DRI1` for expectations."
        )


def warn_of_coarse_paths(terms: Any, dt0: Any, controller: AbstractStepSizeController[Any, Any]) -> None:
    """Warn if constant steps are shorter than the resolution of a Brownian tree, as far as both are known now."""
    if type(dt0) is not float or controller.may_reject:
        return
    for path in brownian_paths(terms):
        resolution = path.resolution
        if resolution is not None and abs(dt0) < 0.99 * resolution:
            warn_user(
                f"Steps of {abs(dt0)} are shorter than the Brownian path is exact: increments between times nearer\n"
                f"than its `tol` have too small a variance. Give it a `tol` of at most {abs(dt0)}, better half of it.",
            )
