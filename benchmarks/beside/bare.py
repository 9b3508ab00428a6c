"""The models in plain PyTorch: loss, loop of training and likelihood, carefully written."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training_speed import BATCH, Bare

import mimachine as mm

LOG_2PI = math.log(2 * math.pi)


class BareVae:
    """VAE of binary data with one hidden layer in each network.

    Args:
        x: Data, shape (N, D).
        latent: Number of latents.
        hidden: Number of units.
    """

    def __init__(self, x: Tensor, latent: int, hidden: int) -> None:
        self.x, self.latent = x, latent
        self.encoder = mm.MLP(x.shape[1], 2 * latent, (hidden,), nn.ReLU)
        self.decoder = mm.MLP(latent, x.shape[1], (hidden,), nn.ReLU)
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def noise(self, count: int) -> tuple[Tensor, ...]:
        """The standard normal numbers that `losses` draws for so many rows, in its order."""
        return (torch.randn(count, self.latent),)

    def losses(self, x: Tensor) -> Tensor:
        """Negative ELBO of each row, (B,), in nats, by one sample."""
        loc, log_scale = self.encoder(x).chunk(2, -1)
        noise = torch.randn_like(loc)
        z = loc + log_scale.exp() * noise
        # log p(z) - log q(z|x), in which the constants cancel.
        difference = (0.5 * (noise.square() - z.square()) + log_scale).sum(1)
        return _misfit(self.decoder(z), x) - difference

    def losses_by_closed_divergence(self, x: Tensor) -> Tensor:
        """The same with the closed form of KL(q(z|x) | p(z)), as other libraries compute it."""
        loc, log_scale = self.encoder(x).chunk(2, -1)
        z = loc + log_scale.exp() * torch.randn_like(loc)
        scale = log_scale.exp()
        divergence = (0.5 * (loc.square() + scale.square() - 1) - log_scale).sum(1)
        return _misfit(self.decoder(z), x) + divergence

    def train(self, epochs: int) -> None:
        """Train for some epochs."""
        for _ in range(epochs):
            for rows in torch.randperm(len(self.x)).split(BATCH):
                value = self.losses(self.x[rows]).mean()
                self.optimizer.zero_grad(set_to_none=True)
                value.backward()
                self.optimizer.step()


def _misfit(logits: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


class BareMim(Bare):
    """Symmetric MIM of two latents on real data, with one hidden layer in each network.

    Args:
        x: Data, shape (N, D).
        hidden: Number of units.
    """

    def __init__(self, x: Tensor, hidden: int) -> None:
        super().__init__(x, 2, hidden, None)

    def noise(self, count: int) -> tuple[Tensor, ...]:
        """The standard normal numbers that `losses` draws: of q(z|x), p(z) and p(x|z)."""
        sizes = (self.latent, self.latent, self.x.shape[1])
        return tuple(torch.randn(count, size) for size in sizes)

    def losses(self, x: Tensor) -> Tensor:
        """MIM loss of each row, (B,), in nats."""
        return self.mim(x)

    def train(self, epochs: int) -> None:
        """Train for some epochs."""
        for _ in range(epochs):
            self.epoch("mim")


BareModel = BareVae | BareMim


@torch.no_grad()
def log_likelihood(
    model: BareVae, x: Tensor, samples: int, at_once: int = 500
) -> tuple[Tensor, Tensor]:
    """Importance-sampled log p(x) of each row and its standard error, each (N,), in nats.

    Each row is encoded once; the sum over its pixels is a product of a matrix and a vector.
    """
    loc, log_scale = model.encoder(x).chunk(2, -1)
    scale, values, errors = log_scale.exp(), [], []
    for row, mean, width, logs in zip(x, loc, scale, log_scale.sum(1), strict=True):
        parts = []
        for start in range(0, samples, at_once):
            noise = torch.randn(min(at_once, samples - start), model.latent)
            z = mean + width * noise
            logits = model.decoder(z)
            log_p = logits @ row - F.softplus(logits).sum(1)
            parts.append(log_p + 0.5 * (noise.square() - z.square()).sum(1) + logs)
        log_weights = torch.cat(parts)
        values.append(log_weights.logsumexp(0) - math.log(samples))
        errors.append((log_weights - values[-1]).exp().std() / math.sqrt(samples))
    return torch.stack(values), torch.stack(errors)
