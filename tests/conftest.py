"""Configuration of JAX for every test, the `slow` marker, and the `key` fixture.

The environment is set before JAX is imported, the flags before it is used:

- 64-bit numbers are on; a test of float32 asks for it by dtype.
- Promotion is strict in dtype and in rank, so that the library never relies on either.
- The CPU shows four devices, for `shard_map`.
- Programs are compiled without optimizations of their machine code, which take a third of the time of compilation.
  `tracing/hlo.py` compiles as users do, for tests that read the compiled program; the fixture `optimized` is for tests
  whose result depends on it.
  `JAX_DISABLE_MOST_OPTIMIZATIONS=0` optimizes everything, as `make test-all` does.
- Compiled programs are stored in `.cache/jax`. All workers share it: JAX reports a half-written entry and compiles the
  program again (pyproject.toml ignores that warning). `JAX_ENABLE_COMPILATION_CACHE=0` switches the cache off.
- Python's garbage collector runs less often: tracing makes millions of objects and few cycles.
"""

import gc
import os
import pathlib
import zlib
from collections.abc import Iterator

FOUR_DEVICES = "--xla_force_host_platform_device_count=4"
if FOUR_DEVICES not in os.environ.get("XLA_FLAGS", ""):  # xdist's workers inherit what their parent has set
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FOUR_DEVICES}".strip()

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_traceback_filtering", "off")  # which would hide the lines of the library
if jax.config.jax_compilation_cache_dir is None:
    jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
    jax.config.update("jax_disable_most_optimizations", True)

gc.set_threshold(50_000, 20, 100)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too (or set RUN_SLOW=1)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or os.environ.get("RUN_SLOW", "") not in ("", "0"):
        return
    skip = pytest.mark.skip(reason="slow: needs --slow or RUN_SLOW=1")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


MAPPINGS = pathlib.Path("/proc/self/maps")
MOST_MAPPINGS = 30_000
"""Half of what Linux allows a process; every compiled program takes some, and one too many is a crash."""


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Free the compiled programs between two files, before there are too many."""
    stays = nextitem is None or nextitem.path == item.path or not MAPPINGS.exists()
    if not stays and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def optimized() -> Iterator[None]:
    """The compiler's default optimizations."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> jax.Array:
    """A PRNG key that depends on the test's name, parameters included, and on nothing else."""
    return jax.random.key(zlib.crc32(request.node.name.encode()))
