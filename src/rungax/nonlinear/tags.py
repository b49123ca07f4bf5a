"""Tags by which a user declares the structure of a vector field's Jacobian, in addition to Lineax's."""

from dataclasses import dataclass

from ..jaxkit import shown


@dataclass(frozen=True)
class Banded:
    """A tag for terms whose Jacobian is banded.

    Parameters
    ----------
    lower, upper
        Number of diagonals below and above the main one.

    Raises
    ------
    ValueError
        If either is negative or not an integer.

    Cost
    ----
    The Jacobian takes one directional derivative of the field for each diagonal instead of each column. For the
    factorisation see `BandedLU`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> def chain(t, y, args):
    ...     return jnp.roll(y, 2).at[:2].set(0.0) - y
    >>> term = rungax.ODETerm(chain, tags=rungax.Banded(lower=2, upper=0))
    """

    lower: int
    upper: int

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(
                    f"`Banded({name}=...)` is a number of diagonals.\nExpected: an integer that is not negative\n"
                    f"Found:    {shown(value)}\nCount the diagonals on that side of the main one."
                )


@dataclass(frozen=True)
class _HolomorphicTag:
    """The type of `holomorphic_tag`."""

    def __repr__(self) -> str:
        return "holomorphic_tag"


holomorphic_tag = _HolomorphicTag()
"""A tag for terms with complex states whose field is differentiable in the complex sense.

The Jacobian of such a field is a complex matrix with one row for each entry of the state; a field without the tag has
twice as many, for real and imaginary parts. A term with a complex state needs this tag for any tag of structure.

Examples
--------
>>> import lineax
>>> import rungax
>>> tags = (rungax.holomorphic_tag, lineax.diagonal_tag)
>>> term = rungax.ODETerm(lambda t, y, args: 1j * y, tags=tags)
"""
