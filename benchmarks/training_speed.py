"""Training steps per second of the library, compared to a plain PyTorch loop.

The baseline uses no distributions, sources or Fabric: plain tensors, closed formulas, the same
networks, the same fused Adam, and indexing instead of a data pipeline. Both run alternately in this
process with the same number of threads. Ratios are medians over repeats of
time(library) / time(baseline), for epochs with the same number of steps. Times are CPU times, which
other processes affect least; with one thread they equal wall times on an idle machine.

    python benchmarks/training_speed.py --out results/training-speed.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from machine import processor
from torch import Tensor, nn

import mimachine as mm
from mimachine.data import catalogue

LOG_2PI = math.log(2 * math.pi)
BATCH = 128
FLOOR = 1e-3


class Bare:
    """MIM with the decoder's marginal (Algorithm 2), and the VAE, in plain tensors."""

    def __init__(self, x: Tensor, latent: int, hidden: int, levels: int | None) -> None:
        features = x.shape[1]
        self.x, self.latent, self.levels = x, latent, levels
        self.encoder = mm.MLP(features, 2 * latent, (hidden,))
        self.decoder = mm.MLP(latent, 2 * features, (hidden,))
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def normal(self, network: nn.Module, condition: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale = network(condition).chunk(2, -1)
        return loc, log_scale.exp() + FLOOR

    def log_normal(self, noise: Tensor, scale: Tensor) -> Tensor:
        return -(0.5 * noise.square() + scale.log()).sum(-1) - 0.5 * LOG_2PI * noise.shape[-1]

    def log_decoder(self, x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        if self.levels is None:
            return self.log_normal((x - loc) / scale, scale)
        half = 0.5 / (self.levels - 1)
        offset, width = (x - loc) / scale, half / scale
        below, above = F.logsigmoid(offset + width), F.logsigmoid(width - offset)
        inner = below + above + torch.log(-torch.expm1(-2 * width))
        return torch.where(x < half, below, torch.where(x > 1 - half, above, inner)).sum(-1)

    def log_prior(self, z: Tensor) -> Tensor:
        return -0.5 * z.square().sum(-1) - 0.5 * LOG_2PI * self.latent

    def draw_decoder(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.levels is None:
            noise = torch.randn_like(loc)
            return loc + scale * noise, self.log_normal(noise, scale), None
        with torch.no_grad():
            noise = torch.logit(torch.rand_like(loc), eps=1e-7)
            steps = self.levels - 1
            x = ((loc + scale * noise).clamp(0, 1) * steps).round() / steps
        log_prob = self.log_decoder(x, loc, scale)
        return x, log_prob, log_prob

    def encoding(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        loc, scale = self.normal(self.encoder, x)
        noise = torch.randn_like(loc)
        z = loc + scale * noise
        l_pxz = self.log_decoder(x, *self.normal(self.decoder, z))
        return l_pxz, self.log_prior(z), self.log_normal(noise, scale)

    def vae(self, x: Tensor) -> Tensor:
        l_pxz, l_pz, l_qzx = self.encoding(x)
        return -(l_pxz + l_pz - l_qzx)

    def mim(self, x: Tensor) -> Tensor:
        l_pxz, l_pz, _ = self.encoding(x)
        encoding = -(l_pxz + l_pz)
        z = torch.randn(len(x), self.latent)
        x, l_pxz, score = self.draw_decoder(*self.normal(self.decoder, z))
        loc, scale = self.normal(self.encoder, x)
        l_qzx = self.log_normal((z - loc) / scale, scale)
        decoding = -0.5 * (l_qzx + 2 * l_pxz + self.log_prior(z))
        if score is not None:
            reward = decoding.detach()
            advantage = (reward - reward.mean()) * (len(reward) / (len(reward) - 1))
            decoding = decoding + advantage * (score - score.detach())
        return 0.5 * (encoding + decoding)

    def epoch(self, objective: str) -> None:
        loss = getattr(self, objective)
        for rows in torch.randperm(len(self.x)).split(BATCH):
            value = loss(self.x[rows]).mean()
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()
            self.optimizer.step()


def library(
    x: Tensor, latent: int, hidden: int, levels: int | None, objective: mm.Objective
) -> Callable[[int], None]:
    """A function that trains with `fit` for a given number of epochs."""
    decoder_net = mm.MLP(latent, 2 * x.shape[1], (hidden,))
    decoder = (
        mm.Gaussian(decoder_net, FLOOR)
        if levels is None
        else mm.DiscretizedLogistic(decoder_net, levels)
    )
    encoder = mm.Gaussian(mm.MLP(x.shape[1], 2 * latent, (hidden,)), FLOOR)
    loss = mm.Loss(mm.Joint(encoder, decoder, mm.StandardNormal(latent)), objective)

    def train(epochs: int) -> None:
        recipe = mm.Training(epochs=epochs, batch_size=BATCH, warmup=0)
        mm.fit(loss, x, None, recipe, progress=False)

    return train


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(name: str, objective: str, hidden: int, steps: int, repeats: int) -> dict:
    data = catalogue.load(name)
    latent, x = (2 if name == "mixture-2d" else 10), data.train
    steps_per_epoch = math.ceil(len(x) / BATCH)
    epochs = max(1, steps // steps_per_epoch)
    bare = Bare(x, latent, hidden, data.levels)
    train = library(x, latent, hidden, data.levels, {"mim": mm.MIM, "vae": mm.VAE}[objective])
    bare.epoch(objective)
    train(1)
    pairs = []
    for _ in range(repeats):
        baseline = timed(lambda: [bare.epoch(objective) for _ in range(epochs)])
        pairs.append((timed(lambda: train(epochs)), baseline))
    count = epochs * steps_per_epoch
    return {
        "data": name,
        "objective": objective,
        "hidden": hidden,
        "library_steps_per_s": round(count / statistics.median(p[0] for p in pairs), 1),
        "baseline_steps_per_s": round(count / statistics.median(p[1] for p in pairs), 1),
        "time_ratio": round(statistics.median(a / b for a, b in pairs), 3),
        "time_ratio_range": [round(f(a / b for a, b in pairs), 3) for f in (min, max)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for name, hidden in (("mixture-2d", 20), ("mixture-2d", 500), ("digits", 300)):
        for objective in ("mim", "vae"):
            rows.append(compare(name, objective, hidden, arguments.steps, arguments.repeats))
            row = rows[-1]
            print(
                f"{name:>10} {objective} {hidden:>3} units: library "
                f"{row['library_steps_per_s']:7.1f} steps/s, bare loop "
                f"{row['baseline_steps_per_s']:7.1f}, time ratio {row['time_ratio']:.3f} "
                f"{row['time_ratio_range']}",
                flush=True,
            )
    if arguments.out is not None:
        machine = {
            "torch": torch.__version__,
            "threads": arguments.threads,
            "processor": processor(),
            "baseline": "plain PyTorch loop with closed formulas and fused Adam",
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
