"""The field `scan_kind` of Runge–Kutta methods, which programs written for Diffrax give and which has no effect."""

from typing import Any

import equinox as eqx

from ...jaxkit import shown, warn_deprecated


def without_effect() -> Any:
    """A field that a constructor accepts by name, and that is always `None`."""
    return eqx.field(default=None, converter=_ignored, kw_only=True, repr=False)


def _ignored(scan_kind: str | None) -> None:
    """The value of the field, `None`; warn if a `scan_kind` is given."""
    if scan_kind is not None:
        warn_deprecated(
            f"`scan_kind={shown(scan_kind)}` has no effect: every adjoint differentiates every solver. Leave it out."
        )
