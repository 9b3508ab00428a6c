"""The models of the plain loops in JAX: an epoch is one compiled `lax.scan` over its steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from torch import Tensor, nn
from training_speed import BATCH, FLOOR

from beside.bare import BareModel, BareVae

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

Layer = tuple[jax.Array, jax.Array]
Networks = tuple[tuple[Layer, ...], tuple[Layer, ...]]
Loss = Callable[[Networks, jax.Array, Sequence[jax.Array]], jax.Array]


def array(tensor: Tensor) -> jax.Array:
    """A copy of a tensor."""
    return jnp.array(tensor.detach().numpy())


def networks(bare: BareModel, of: Callable[[Tensor], Tensor] = lambda p: p) -> Networks:
    """Weights (in, out) and biases of encoder and decoder, or what `of` gives of each parameter."""

    def layers(network: nn.Module) -> tuple[Layer, ...]:
        linear = [part for part in network if isinstance(part, nn.Linear)]
        return tuple((array(of(each.weight).T), array(of(each.bias))) for each in linear)

    return layers(bare.encoder), layers(bare.decoder)


def output(layers: Sequence[Layer], x: jax.Array, activation: Callable[[Any], Any]) -> jax.Array:
    *hidden, (weight, bias) = layers
    for each, offset in hidden:
        x = activation(x @ each + offset)
    return x @ weight + bias


def log_normal(noise: jax.Array, scale: jax.Array | None = None) -> jax.Array:
    """Log-density of a normal value by its distance from the mean in deviations, (B,)."""
    each = -0.5 * jnp.square(noise) - HALF_LOG_2PI
    return (each if scale is None else each - jnp.log(scale)).sum(-1)


def vae(weights: Networks, x: jax.Array, noise: Sequence[jax.Array]) -> jax.Array:
    """Negative ELBO of each row, (B,)."""
    encoder, decoder = weights
    loc, log_scale = jnp.split(output(encoder, x, jax.nn.relu), 2, -1)
    z = loc + jnp.exp(log_scale) * noise[0]
    logits = output(decoder, z, jax.nn.relu)
    log_p = (x * logits - jax.nn.softplus(logits)).sum(-1)
    difference = (0.5 * (jnp.square(noise[0]) - jnp.square(z)) + log_scale).sum(-1)
    return -(log_p + difference)


def mim(weights: Networks, x: jax.Array, noise: Sequence[jax.Array]) -> jax.Array:
    """Symmetric MIM with the decoder's marginal, of each row, (B,)."""
    encoder, decoder = weights

    def normal(layers: Sequence[Layer], condition: jax.Array) -> tuple[jax.Array, jax.Array]:
        loc, log_scale = jnp.split(output(layers, condition, jnp.tanh), 2, -1)
        return loc, jnp.exp(log_scale) + FLOOR

    loc, scale = normal(encoder, x)
    z = loc + scale * noise[0]
    loc, scale = normal(decoder, z)
    encoding = -(log_normal((x - loc) / scale, scale) + log_normal(z))
    z = noise[1]
    loc, scale = normal(decoder, z)
    drawn, log_p = loc + scale * noise[2], log_normal(noise[2], scale)
    loc, scale = normal(encoder, drawn)
    decoding = -0.5 * (log_normal((z - loc) / scale, scale) + 2 * log_p + log_normal(z))
    return 0.5 * (encoding + decoding)


def loss_of(bare: BareModel) -> Loss:
    return vae if isinstance(bare, BareVae) else mim


class Adam(NamedTuple):
    """State of Adam: both moments and the number of steps."""

    first: Any
    second: Any
    count: jax.Array


def started(weights: Any) -> Adam:
    """The state before the first step."""
    zeros = jax.tree.map(jnp.zeros_like, weights)
    return Adam(zeros, jax.tree.map(jnp.zeros_like, weights), jnp.zeros(()))


def advanced(weights: Any, adam: Adam, gradients: Any, rate: float = 1e-3) -> tuple[Any, Adam]:
    """Weights and state after a step."""
    count = adam.count + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, adam.first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, adam.second, gradients)
    size, root = rate / (1 - 0.9**count), jnp.sqrt(1 - 0.999**count)

    def moved(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        return p - size * m / (jnp.sqrt(v) / root + 1e-8)

    return jax.tree.map(moved, weights, first, second), Adam(first, second, count)


class Scan:
    """Training of the models of some plain ones, several at once by `vmap`.

    Each model has its own order of the rows and its own noise.

    Args:
        bare: The plain models, with one data set.
    """

    def __init__(self, bare: Sequence[BareModel]) -> None:
        self.x = array(bare[0].x)
        self.loss, self.sizes = loss_of(bare[0]), [n.shape[1] for n in bare[0].noise(1)]
        self.models = len(bare)
        states = [(weights, started(weights)) for weights in map(networks, bare)]
        self.state = jax.tree.map(lambda *each: jnp.stack(each), *states)
        self.key = jax.random.key(0)
        self.run = jax.jit(jax.vmap(self.epoch, (0, 0, None)), donate_argnums=0)
        if self.models == 1:
            self.state = states[0]
            self.run = jax.jit(self.epoch, donate_argnums=0)

    def epoch(self, state: Any, key: jax.Array, x: jax.Array) -> tuple[Any, jax.Array]:
        """State after an epoch, and its mean loss."""
        of_order, *of_noise = jax.random.split(key, 1 + len(self.sizes))
        steps = len(x) // BATCH
        order = jax.random.permutation(of_order, len(x))[: steps * BATCH].reshape(steps, BATCH)
        # All noise of the epoch at once is faster than that of each step.
        noise = [
            jax.random.normal(each, (steps, BATCH, size))
            for each, size in zip(of_noise, self.sizes, strict=True)
        ]

        def step(state: Any, given: Any) -> tuple[Any, jax.Array]:
            (weights, adam), (rows, noise) = state, given

            def mean(weights: Any) -> jax.Array:
                return self.loss(weights, x[rows], noise).mean()

            value, gradients = jax.value_and_grad(mean)(weights)
            return advanced(weights, adam, gradients), value

        state, values = lax.scan(step, state, (order, noise))
        return state, values.mean()

    def train(self, epochs: int) -> None:
        """Train for some epochs."""
        for _ in range(epochs):
            self.key, key = jax.random.split(self.key)
            keys = key if self.models == 1 else jax.random.split(key, self.models)
            self.state, self.mean_loss = self.run(self.state, keys, self.x)
        jax.block_until_ready((self.state, self.mean_loss))
