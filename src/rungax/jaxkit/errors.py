"""Errors raised by a compiled program while it runs."""

import equinox as eqx
import jax


def raise_if[T](tree: T, pred: jax.Array, message: str) -> T:
    """`tree`, but raising a `RuntimeError` with `message` when the program runs and `pred` is true in any lane.

    The only host callback that Rungax puts into a program, after the loop and never inside it.
    """
    return eqx.error_if(tree, pred, message)
