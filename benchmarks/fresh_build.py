"""The build of a gradient in a process of its own, as a user meets it: `python -m benchmarks.fresh_build rungax`.

Prints the seconds for the gradient of one Lorenz solve; imports do not count, everything that happens once does.
"""

import importlib
import statistics
import subprocess
import sys
import time

import jax


def fresh_build_times(libraries: tuple[str, ...], turns: int) -> list[float]:
    """The median of the times of each library, measured in turn, each in a new process."""
    taken: dict[str, list[float]] = {library: [] for library in libraries}
    for _ in range(turns):
        for library in libraries:
            command = [sys.executable, "-m", "benchmarks.fresh_build", library]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            taken[library].append(float(run.stdout.split()[-1]))
    return [statistics.median(times) for times in taken.values()]


def main() -> None:
    from .explicit import LORENZ_ARGS, LORENZ_Y0
    from .gradients import loss_at_end

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_enable_compilation_cache", False)
    gradient = jax.jit(jax.grad(loss_at_end(importlib.import_module(sys.argv[1])), (0, 1)))
    start = time.perf_counter()
    gradient.lower(LORENZ_Y0, LORENZ_ARGS).compile()
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
