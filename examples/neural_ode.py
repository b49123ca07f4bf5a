"""Learn a damped oscillator from noisy observations, knowing nothing about oscillators: a neural ODE.

    y' = network(y),    truth: x'' = -0.3 x' - 4 x, of which y = (x, x') is observed with noise

The vector field is an Equinox module, and a module is a pytree: given to `ODETerm`, the network's weights are inputs of
the solve like any others, and `eqx.filter_value_and_grad` differentiates the loss with respect to them. A batch is
`jax.vmap` over the initial states: each trajectory makes its own steps. The gradient is that of the steps the solver made,
so loose tolerances are in order: the network learns the field that is right with this solver.

A fit to a long stretch of oscillations starts in a maze of local minima, and one to a short stretch does not. So the
first third of the training sees only the beginning of each trajectory.
"""

import pathlib
import time
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from matplotlib import pyplot as plt

from rungax import ODETerm, PIDController, SaveAt, Tsit5, diffeqsolve

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

DAMPING, STIFFNESS, NOISE = 0.3, 4.0, 0.03
TRAJECTORIES = 16
TS = np.linspace(0.0, 6.0, 31)


class Field(eqx.Module):
    """The vector field to learn."""

    network: eqx.nn.MLP

    def __init__(self, key: jax.Array):
        self.network = eqx.nn.MLP(2, 2, width_size=32, depth=2, activation=jnp.tanh, key=key)

    def __call__(self, t: jax.Array, y: jax.Array, args: None) -> jax.Array:
        return self.network(y)


def truth(t: jax.Array, y: jax.Array, args: None) -> jax.Array:
    x, velocity = y
    return jnp.stack([velocity, -DAMPING * velocity - STIFFNESS * x])


def trajectory(field, y0, ts=TS, rtol=1e-3, atol=1e-4):
    solution = diffeqsolve(
        ODETerm(field), Tsit5(), t0=ts[0], t1=ts[-1], dt0=0.05, y0=y0, saveat=SaveAt(ts=ts),
        stepsize_controller=PIDController(rtol=rtol, atol=atol))
    return solution.ys

def main(steps=200, lr=1e-2, depthwise=None, seed=0, short=1/3):
    data_key, noise_key, key = jax.random.split(jax.random.key(seed), 3)
    y0 = jax.random.uniform(data_key, (TRAJECTORIES, 2), minval=-1.0, maxval=1.0)*jnp.array([1.,2.])
    clean = jax.vmap(lambda y: trajectory(truth, y, rtol=1e-8, atol=1e-8))(y0)
    data = clean + NOISE*jax.random.normal(noise_key, clean.shape)
    field = Field(key)
    def loss(field, weights):
        ys = jax.vmap(lambda y: trajectory(field, y))(data[:,0])
        return jnp.mean(weights[:,None]*(ys-data)**2)
    sched = optax.cosine_decay_schedule(lr, steps)
    opt = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(sched))
    @eqx.filter_jit
    def step(field, state, w):
        l, g = eqx.filter_value_and_grad(loss)(field, w)
        u, state = opt.update(g, state)
        return eqx.apply_updates(field,u), state, l
    state = opt.init(eqx.filter(field, eqx.is_array))
    full = jnp.ones(len(TS)); begin = jnp.where(jnp.arange(len(TS))<11, 1.0, 0.0)
    ls=[]
    t=time.perf_counter()
    l0=loss(field,full)
    for i in range(steps):
        field, state, l = step(field, state, begin if i < steps*short else full)
        if i==0: print('compile',time.perf_counter()-t)
        ls.append(float(l))
    print(seed, short, lr, l0, ls[::20], loss(field,full), time.perf_counter()-t)
if __name__=="__main__":
    for seed in range(4):
        for short in (0,1/3):
            for lr in (1e-2,3e-2): main(seed=seed,short=short,lr=lr)
