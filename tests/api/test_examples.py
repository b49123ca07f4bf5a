"""Every example runs and answers its question; its figure is drawn.

`make examples` runs all of them, every test run the two cheapest.
"""

import importlib.util
import pathlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.sparse

from ..problems.stiff import HIRES

matplotlib = pytest.importorskip("matplotlib", reason="the examples draw figures: pip install rungax[examples]")

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))

type Run = Callable[..., Any]


@pytest.fixture
def load(tmp_path: pathlib.Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports an example from its file, to draw into a temporary folder."""
    backend = matplotlib.get_backend()
    matplotlib.use("Agg")

    def load_example(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.FIGURES = tmp_path / "figures"
        return module

    yield load_example
    matplotlib.use(backend)


@pytest.fixture
def run(load: Callable[[str], ModuleType], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example's `main`, and sees that it prints a little and draws."""

    def run_example(name: str, **options: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):  # as a user has it; Optax relies on it
            answer = load(name).main(**options)
        printed = capsys.readouterr().out.splitlines()
        assert 0 < len(printed) <= 12
        assert [path.stem for path in (tmp_path / "figures").iterdir()] == [name]
        return answer

    return run_example


def test_every_example_is_tested_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert set(NAMES) <= tested


@pytest.mark.parametrize("name", NAMES)
def test_an_example_teaches_before_it_starts(load: Callable[[str], ModuleType], name: str) -> None:
    docstring = load(name).__doc__
    assert docstring is not None
    assert len(docstring.splitlines()) > 5


def test_logistic_growth(run: Run) -> None:
    solution, error = run("logistic_growth")
    assert error < 1e-6
    assert solution.ys.shape == (101,)


def test_lotka_volterra(run: Run) -> None:
    _, drift = run("lotka_volterra")
    assert drift < 1e-6


@pytest.mark.slow
def test_spring_mass_damper(run: Run) -> None:
    solution, error = run("spring_mass_damper")
    assert error < 1e-7
    assert jax.tree.map(np.shape, solution.ys) == {"position": (201,), "velocity": (201,)}


@pytest.mark.slow
def test_oscillator_sweep(run: Run) -> None:
    sweep = run("oscillator_sweep", solves=100)
    assert sweep.positions.shape == (100, 101)
    assert sweep.error < 1e-5


@pytest.mark.slow
def test_dense_output(run: Run) -> None:
    answers = run("dense_output")
    assert answers.mismatch < 1e-4
    np.testing.assert_allclose(answers.solution.evaluate(answers.peak_time)[1], 0.0, atol=1e-9)
    # The amplitude of van der Pol's limit cycle for mu = 1.
    np.testing.assert_allclose(answers.peak_height, 2.00862, atol=1e-5)


@pytest.mark.slow
def test_lynx_hare(run: Run) -> None:
    fit = run("lynx_hare", solves=4096)
    assert fit.residual < 0.2193
    assert 4096 < fit.solves < 4196
    assert np.linalg.norm(fit.gradient) < 1e-5
    # Carpenter, "Predator-Prey Population Dynamics: the Lotka-Volterra model in Stan": means and deviations of the
    # posterior. Its priors are weak, so the fit and its standard errors should be close to them.
    mean = np.array([0.55, 0.028, 0.024, 0.80, 34.0, 5.9])
    deviation = np.array([0.065, 0.0043, 0.0036, 0.091, 2.9, 0.53])
    np.testing.assert_allclose(fit.parameters, mean, rtol=0.05)
    np.testing.assert_allclose(fit.errors, deviation / mean, rtol=0.2)


@pytest.mark.slow
def test_neural_ode(run: Run) -> None:
    training = run("neural_ode")
    assert training.after < training.before / 100
    assert training.unseen_error < 0.03


@pytest.mark.slow
def test_pharmacokinetics(run: Run) -> None:
    fit = run("pharmacokinetics")
    true = np.array([5.0, 8.0, 20.0, 40.0])
    assert np.max(fit.errors) < 0.06
    assert np.all(np.abs(np.log(fit.parameters / true)) < 3 * fit.errors)
    np.testing.assert_allclose(fit.truth, concentrations(*true), rtol=1e-5)
    # The second infusion, which a solver that does not know of it steps across.
    assert fit.without_jumps[8] < 0.1 * fit.truth[8]


def concentrations(clearance: float, flow: float, blood: float, tissue: float) -> np.ndarray:
    """The samples of the pharmacokinetic example from matrix exponentials, one for each stretch without a jump."""
    field = np.array(
        [[-(clearance + flow) / blood, flow / tissue, 1.0], [flow / blood, -flow / tissue, 0.0], [0, 0, 0]]
    )
    samples = {start + after for start in (0, 24, 48) for after in (0.5, 1.0, 1.5, 2.5, 4.0, 8.0, 14.0, 23.0)}
    rates = {0.0: 500.0, 1.0: 0.0, 24.0: 2500.0, 24.2: 0.0, 48.0: 250.0, 50.0: 0.0}
    now, y, found = 0.0, np.zeros(3), []
    for t in sorted(samples | rates.keys()):
        y = scipy.linalg.expm(field * (t - now)) @ y
        now, y[2] = t, rates.get(t, y[2])
        if t in samples:
            found.append(y[0] / blood)
    return np.array(found)


@pytest.mark.slow
def test_regularized_neural_ode(run: Run) -> None:
    plain, regularized = run("regularized_neural_ode")
    assert regularized.steps < 0.95 * plain.steps
    assert regularized.loss < 1.2 * plain.loss
    assert plain.loss < 1e-3


@pytest.mark.slow
def test_robertson(run: Run) -> None:
    runs = run("robertson")
    assert set(runs) == {"Rodas5P", "Kvaerno5"}
    for solved in runs.values():
        assert solved.error < 1e-5
        assert solved.solution.stats["num_steps"] < 400
        np.testing.assert_allclose(np.sum(solved.solution.ys, axis=1), 1.0, atol=1e-12)  # nothing is lost


@pytest.mark.slow
def test_brusselator(run: Run) -> None:
    runs = run("brusselator", cells=40, repeats=1)
    steps = {name: int(solved.solution.stats["num_steps"]) for name, solved in runs.items()}
    assert steps["Rodas5P, banded"] == steps["Rodas5P, dense"]
    assert steps["Tsit5, explicit"] > 5 * steps["Rodas5P, banded"]
    differences = {name: solved.difference for name, solved in runs.items()}
    assert differences["Rodas5P, dense"] < 1e-10
    assert differences["Rodas5P, GMRES"] < 1e-5
    assert differences["Tsit5, explicit"] < 1e-3
    found = np.asarray(runs["Rodas5P, banded"].solution.ys)
    np.testing.assert_allclose(found[::20], brusselator(40, np.linspace(0.0, 10.0, 11)), atol=1e-3)


def brusselator(cells: int, ts: np.ndarray) -> np.ndarray:
    """The unknowns of the Brusselator's example from SciPy's LSODA, which knows of the band too."""
    operator = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(cells, cells))
    diffusion, boundary = operator * (cells + 1) ** 2 / 50, np.zeros(cells)
    boundary[[0, -1]] = (cells + 1) ** 2 / 50

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        u, v = y[0::2], y[1::2]
        u_slope = 1 + u**2 * v - 4 * u + diffusion @ u + boundary
        v_slope = 3 * u - u**2 * v + diffusion @ v + 3 * boundary
        return np.stack([u_slope, v_slope], axis=1).ravel()

    u = 1 + np.sin(2 * np.pi * np.arange(1, cells + 1) / (cells + 1))
    y0 = np.stack([u, np.full(cells, 3.0)], axis=1).ravel()
    options = {"method": "LSODA", "lband": 2, "uband": 2, "rtol": 1e-9, "atol": 1e-9}
    return scipy.integrate.solve_ivp(slope, (0.0, 10.0), y0, t_eval=ts, **options).y.T


@pytest.mark.slow
def test_brusselator_2d(run: Run) -> None:
    runs = run("brusselator_2d", width=12)
    assert runs["Kvaerno5"].difference < 5e-3
    assert runs["BDF"].solution.stats["num_steps"] < 400
    found = np.asarray(runs["Kvaerno5"].solution.ys)
    np.testing.assert_allclose(found, brusselator_2d(12, [0.3, 3.0, 5.5, 7.0, 11.5], found[0]), atol=2e-3)


def brusselator_2d(width: int, ts: list[float], y0: np.ndarray) -> np.ndarray:
    """The states of the example at the first time and at `ts` from SciPy's LSODA, which restarts at the jump."""
    x = np.arange(width) / width
    disk = (x[:, None] - 0.3) ** 2 + (x[None, :] - 0.6) ** 2 <= 0.01

    def slope(t: float, y: np.ndarray, heat: float) -> np.ndarray:
        u, v = y.reshape(2, width, width)
        spread = [sum(np.roll(w, shift, axis) for shift in (1, -1) for axis in (0, 1)) - 4 * w for w in (u, v)]
        made, rate = u**2 * v, 0.02 * width**2
        slopes = [1 + made - 4.4 * u + rate * spread[0] + heat * disk, 3.4 * u - made + rate * spread[1]]
        return np.stack(slopes).ravel()

    options: dict[str, Any] = {"method": "LSODA", "rtol": 1e-8, "atol": 1e-8}
    early = scipy.integrate.solve_ivp(slope, (0.0, 1.1), y0.ravel(), t_eval=[*ts[:1], 1.1], args=(0.0,), **options).y.T
    late = scipy.integrate.solve_ivp(slope, (1.1, ts[-1]), early[-1], t_eval=ts[1:], args=(5.0,), **options).y.T
    return np.concatenate([y0.reshape(1, -1), early[:1], late]).reshape(-1, *y0.shape)


@pytest.mark.slow
def test_reaction_diffusion_fit(run: Run) -> None:
    fit = run("reaction_diffusion_fit", width=12)
    assert np.all(fit.errors < [0.01, 0.05, 0.2])
    assert np.all(np.abs(np.log(fit.parameters / [3.4, 0.02, 0.01])) < 3 * fit.errors)
    assert fit.num_iterations < 20


@pytest.mark.slow
def test_hires_sensitivity(run: Run) -> None:
    found = run("hires_sensitivity")
    assert found.table.shape == (8, 10)
    assert found.mismatch < 1e-4
    np.testing.assert_allclose(found.state, HIRES.reference, rtol=1e-6)
    # The last two substances are two states of one, whose amount is the same for all constants.
    np.testing.assert_allclose(found.state[6:] @ found.table[6:], 0.0, atol=1e-10)


@pytest.mark.slow
def test_transistor_amplifier(run: Run) -> None:
    found = run("transistor_amplifier")
    assert found.error < 1e-4
    np.testing.assert_allclose(found.start, [0.0, 3.0, 3.0, 6.0, 3.0, 3.0, 6.0, 0.0], atol=1e-6)
    assert found.amplification > 10


@pytest.mark.slow
def test_pendulum_dae(run: Run) -> None:
    loose, accurate, stabilised = run("pendulum_dae").values()
    drift = lambda found: np.max(np.abs(found.drift))
    assert drift(accurate) < 0.05 * drift(loose)
    assert drift(stabilised) < 1e-3 * drift(loose)
    assert drift(loose) > 1.5 * np.max(np.abs(loose.drift[:501])), "it grows"
    assert stabilised.error < 0.05


@pytest.mark.slow
def test_chemical_akzo_fit(run: Run) -> None:
    fit = run("chemical_akzo_fit")
    assert np.all(np.abs(np.log(fit.constants / [18.7, 0.58, 0.09, 0.42])) < 3 * fit.errors)
    assert np.all(fit.errors[[0, 1, 3]] < 0.03)
    assert fit.losses[-1] < 1.1


@pytest.mark.slow
def test_ornstein_uhlenbeck(run: Run) -> None:
    # Thirty correlated statistics each; a fifth standard error would be one chance in a hundred thousand.
    assert max(run("ornstein_uhlenbeck", paths=1000)) < 4.5


@pytest.mark.slow
def test_fit_ornstein_uhlenbeck(run: Run) -> None:
    fitted = run("fit_ornstein_uhlenbeck", iterations=120)
    np.testing.assert_allclose([fitted[name] for name in ("rate", "level", "volatility")], [1.2, 0.5, 0.4], rtol=0.12)


@pytest.mark.slow
def test_cox_ingersoll_ross(run: Run) -> None:
    constant, adaptive = run("cox_ingersoll_ross", paths=100)
    assert constant < 1.3
    assert adaptive > 1.5 * constant


@pytest.mark.slow
def test_neals_funnel(run: Run) -> None:
    found = run("neals_funnel", chains=32, samples=40)["funnel"]
    assert abs(found.mean_z) < 1.5
    assert 4 < found.variance_z < 14
    assert 0.8 < found.variance_ratio < 1.2
    assert found.per_effective_z < 49_000


@pytest.mark.slow
def test_kepler(run: Run) -> None:
    errors = run("kepler", periods=2_000.0)
    for (_, method), (first, last) in errors.items():
        assert last > 5 * first if method == "Tsit5" else last < 1.2 * first
    for problem in ("Kepler", "Hénon-Heiles"):
        for method, bound in (("VelocityVerlet", 1e-3), ("Yoshida4", 2e-4), ("KahanLi8", 1e-8)):
            assert errors[problem, method][1] < bound


@pytest.mark.slow
def test_neural_cde(run: Run) -> None:
    training = run("neural_cde", steps=100)
    assert training.after < training.before / 10
    assert training.accuracy > 0.95
    assert training.sparse_accuracy > 0.8
