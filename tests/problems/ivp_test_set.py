"""Oscillating stiff problems of the Test Set for Initial Value Problem Solvers, for which a method must be stable.

F. Mazzia, C. Magherini, release 2.4 (Bari, 2008): Ring modulator (part II-12) and Beam (part II-8). The references are
the test set's, by Radau IIA methods with tolerances of 1e-12 and 1e-18.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from .base import Problem, traits

_RESISTANCE, _LEAK, _INNER, _OUTER = 25e3, 50.0, 50.0, 600.0
_GAPS = (36.3, 17.3, 17.3)
_CAPACITY, _STRAY, _PARALLEL = 1.6e-8, 2e-12, 1e-8
_MAIN, _COILS = 4.45, (2e-3, 5e-4, 5e-4)
_SATURATION, _STEEPNESS = 40.67286402e-9, 17.7493332


def _ring_modulator_field(t: Any, y: Any, args: Any) -> Any:
    u1, u2, u3, u4, u5, u6, u7, i1, i2, i3, i4, i5, i6, i7, i8 = y
    low, high = 0.5 * jnp.sin(2e3 * jnp.pi * t), 2.0 * jnp.sin(2e4 * jnp.pi * t)
    diode = lambda voltage: _SATURATION * (jnp.exp(_STEEPNESS * voltage) - 1)
    q1, q2 = diode(u3 - u5 - u7 - high), diode(-u4 + u6 - u7 - high)
    q3, q4 = diode(u4 + u5 + u7 + high), diode(-u3 - u6 + u7 + high)
    return jnp.stack(
        [
            (i1 - 0.5 * i3 + 0.5 * i4 + i7 - u1 / _RESISTANCE) / _CAPACITY,
            (i2 - 0.5 * i5 + 0.5 * i6 + i8 - u2 / _RESISTANCE) / _CAPACITY,
            (i3 - q1 + q4) / _STRAY,
            (-i4 + q2 - q3) / _STRAY,
            (i5 + q1 - q3) / _STRAY,
            (-i6 - q2 + q4) / _STRAY,
            (-u7 / _LEAK + q1 + q2 - q3 - q4) / _PARALLEL,
            -u1 / _MAIN,
            -u2 / _MAIN,
            (0.5 * u1 - u3 - _GAPS[1] * i3) / _COILS[1],
            (-0.5 * u1 + u4 - _GAPS[2] * i4) / _COILS[2],
            (0.5 * u2 - u5 - _GAPS[1] * i5) / _COILS[1],
            (-0.5 * u2 + u6 - _GAPS[2] * i6) / _COILS[2],
            (-u1 + low - (_INNER + _GAPS[0]) * i7) / _COILS[0],
            (-u2 - (_OUTER + _GAPS[0]) * i8) / _COILS[0],
        ]
    )


RING_MODULATOR = Problem(
    name="Ring modulator",
    field=_ring_modulator_field,
    y0=np.zeros(15),
    t0=0.0,
    t1=1e-3,
    reference=(
        -0.2339057358486745e-1, -0.7367485485540825e-2, 0.2582956709291169, -0.4064465721283450, -0.4039455665149794,
        0.2607966765422943, 0.1106761861269975, 0.2939904342435596e-6, -0.2840029933642329e-7, 0.7267198267264553e-3,
        0.7929487196960840e-3, -0.7255283495698965e-3, -0.7941401968526521e-3, 0.7088495416976114e-4,
        0.2390059075236570e-4,
    ),
    traits=traits("stiff"),
)  # fmt: skip
"""The regular case, in which the stray capacity is 2e-12: fast oscillations that decay slowly.

SciPy's Radau agrees to 1e-4 with `rtol=1e-7`, but takes minutes. `Rodas5P` agrees to 7e-9 with `rtol=1e-9`.
"""

_PIECES = 40


def _beam_field(t: Any, y: Any, args: Any) -> Any:
    angles, speeds = y[:_PIECES], y[_PIECES:]
    left = jnp.concatenate([-angles[:1], angles[:-1]])  # clamped
    right = jnp.concatenate([angles[1:], angles[-1:]])  # free
    force = jnp.where(t <= jnp.pi, 1.5 * jnp.sin(t) ** 2, 0.0).astype(y.dtype)
    v = _PIECES**4 * (left - 2 * angles + right) + _PIECES**2 * force * (jnp.cos(angles) + jnp.sin(angles))
    turns = angles[1:] - angles[:-1]
    ends = jnp.asarray([1.0] + [2.0] * (_PIECES - 2) + [3.0], y.dtype)
    cosines = jnp.diag(ends) - jnp.diag(jnp.cos(turns), 1) - jnp.diag(jnp.cos(turns), -1)
    sines = jnp.diag(jnp.sin(turns), 1) - jnp.diag(jnp.sin(turns), -1)
    return jnp.concatenate([speeds, cosines @ v + sines @ jnp.linalg.solve(cosines, sines @ v + speeds**2)])


BEAM = Problem(
    name="Beam",
    field=_beam_field,
    y0=np.zeros(2 * _PIECES),
    t0=0.0,
    t1=5.0,
    reference=(
        -0.5792366591285007e-2, -0.1695298550721735e-1, -0.2769103312973094e-1, -0.3800815655879158e-1,
        -0.4790616859743763e-1, -0.5738710435274594e-1, -0.6645327313454617e-1, -0.7510730581979037e-1,
        -0.8335219765414992e-1, -0.9119134654647947e-1, -0.9862858700132091e-1, -0.1056682200378002,
        -0.1123150395409595, -0.1185743552727245, -0.1244520128755561, -0.1299544113264161,
        -0.1350885180610398, -0.1398618819194422, -0.1442826441015242, -0.1483595472463012,
        -0.1521019429001447, -0.1555197978061129, -0.1586236993420229, -0.1614248603702127,
        -0.1639351238193223, -0.1661669673440852, -0.1681335081778558, -0.1698485080602243,
        -0.1713263782440888, -0.1725821847462537, -0.1736316537975654, -0.1744911773840049,
        -0.1751778187863392, -0.1757093178712902, -0.1761040960228576, -0.1763812607175549,
        -0.1765606097564671, -0.1766626352260565, -0.1767085270807460, -0.1767201761075488,
        0.3747362681329794e-1, 0.1099117880217593, 0.1798360474312799, 0.2472427305442391,
        0.3121293820596567, 0.3744947377019500, 0.4343386073492798, 0.4916620354601748,
        0.5464677854586807, 0.5987609702624270, 0.6485493611110740, 0.6958435169132503,
        0.7406572668520808, 0.7830081747813241, 0.8229176659201515, 0.8604110305190560,
        0.8955175502377805, 0.9282708263127953, 0.9587089334522034, 0.9868747821728363,
        1.012816579961883, 1.036587736679858, 1.058246826481355, 1.077857811433353,
        1.095490222005369, 1.111219164294898, 1.125125269286501, 1.137294526609229,
        1.147818025153607, 1.156792132004482, 1.164318845130183, 1.170505992596124,
        1.175467424299550, 1.179323003228859, 1.182198586299667, 1.184226111223146,
        1.185543909805575, 1.186297084203716, 1.186637618908127, 1.186724615113034,
    ),
    traits=traits("stiff"),
)  # fmt: skip
"""An elastic beam in 40 pieces: its eigenvalues are on the imaginary axis, up to 6400 from the real one.

The linear system with `cosines` is that of E. Hairer, G. Wanner, Solving Ordinary Differential Equations II (1996),
section IV.1, equation 1.20.
"""
