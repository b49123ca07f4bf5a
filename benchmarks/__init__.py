"""Benchmarks of Rungax, Diffrax and others in one process: `python -m benchmarks [names] [--quick]`."""

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_enable_compilation_cache", False)  # builds are timed too
