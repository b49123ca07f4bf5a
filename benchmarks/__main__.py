"""Run benchmarks by name, by default all, and write the tables of each to `benchmarks/results/<name>.md`.

With `--quick` each measurement is repeated only a few times and nothing is written, as a check that everything runs.
"""

import argparse

from . import (
    bdf,
    constrained,
    events,
    explicit,
    gradients,
    large,
    noise,
    stiff,
    stiff_work_precision,
    tape,
    work_precision,
)
from .report import Report

BENCHMARKS = {
    "bdf": bdf.run,
    "constrained": constrained.run,
    "events": events.run,
    "explicit": explicit.run,
    "gradients": gradients.run,
    "large": large.run,
    "noise": noise.run,
    "stiff": stiff.run,
    "stiff_work_precision": stiff_work_precision.run,
    "tape": tape.run,
    "work_precision": work_precision.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few repeats, and no files written")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    for name in options.names or BENCHMARKS:
        report = Report(name, quick=options.quick)
        BENCHMARKS[name](report)
        report.finish()


if __name__ == "__main__":
    main()
