"""Measurements of run times and of compile times.

The calls to be compared alternate within one process, so that changes in the speed of the machine affect all of them.
Their order is reversed from turn to turn, and the median over the turns is reported.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

MIN_TURNS, MAX_TURNS = 5, 500


def run_times(calls: Sequence[Callable[[], Any]], budget: float) -> list[float]:
    """The median time of each call in seconds, after a first call, measured for about `budget` seconds in total.

    The time of a call includes waiting for its result.
    """
    for call in calls:
        jax.block_until_ready(call())  # compiles
    turn = sum(seconds(call) for call in calls)
    turns = max(MIN_TURNS, min(MAX_TURNS, int(budget / turn)))
    return _medians([lambda call=call: seconds(call) for call in calls], turns)


def build_times(makers: Sequence[Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]], turns: int) -> list[float]:
    """The median time in seconds to trace, lower and compile a function.

    A maker returns a new function and its arguments, because JAX caches traces by the identity of the function. JAX's
    caches for library functions are cleared.
    """
    for maker in makers:
        build_seconds(maker)  # runs imports that happen at the first call
    return _medians([lambda maker=maker: build_seconds(maker) for maker in makers], turns)


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def build_seconds(maker: Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]) -> float:
    jax.clear_caches()
    gc.collect()
    function, args = maker()
    start = time.perf_counter()
    jax.jit(function).lower(*args).compile()
    return time.perf_counter() - start


def _medians(timers: list[Callable[[], float]], turns: int) -> list[float]:
    taken: list[list[float]] = [[] for _ in timers]
    order = list(range(len(timers)))
    for _ in range(turns):
        for i in order:
            taken[i].append(timers[i]())
        order.reverse()
    return [statistics.median(times) for times in taken]
