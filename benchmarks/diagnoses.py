"""Diagnose auto-encoders in plain PyTorch, and a MIM, on the digits of scikit-learn.

The plain models are a VAE, a VAE that collapses because of a large KL weight, and an auto-encoder
without noise. The fourth model is an A-MIM of this library with networks of the same size. Each is
diagnosed on 360 test images. Takes half a minute.

    python benchmarks/diagnoses.py --out results/diagnoses.txt
    python benchmarks/diagnoses.py --speed 10000 784 40    # CPU time for this size
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import mimachine as mm
from mimachine.data.bundled import digits
from mimachine.estimation.codes.moments import mean_of

LATENTS, EPOCHS = 16, 200


class AutoEncoder(nn.Module):
    """Auto-encoder: an encoder to means and log-variances, a decoder to Gaussian means."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 2 * LATENTS))
        self.decoder = nn.Sequential(nn.Linear(LATENTS, 300), nn.ReLU(), nn.Linear(300, 64))

    def loss(self, x: Tensor, weight: float) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, 1)
        noise = torch.randn_like(mean) * (0.5 * log_variance).exp() if weight else 0.0
        error = (self.decoder(mean + noise) - x).square().sum(1) / (2 * 0.1**2)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
        return (error + weight * divergence).mean()


def trained(data: Tensor, weight: float) -> AutoEncoder:
    torch.manual_seed(0)
    model = AutoEncoder()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(EPOCHS):
        for rows in data[torch.randperm(len(data))].split(64):
            optimizer.zero_grad()
            model.loss(rows, weight).backward()
            optimizer.step()
    return model


@torch.no_grad()
def diagnosis(model: AutoEncoder, data: mm.Dataset, noisy: bool) -> mm.Diagnosis:
    mean, log_variance = model.encoder(data.test).chunk(2, 1)
    std = (0.5 * log_variance).exp() if noisy else 0.0
    return mm.diagnose(data.test, mean, std, model.decoder(mean), data.test_labels)


def of_mim(data: mm.Dataset) -> mm.Diagnosis:
    torch.manual_seed(0)
    model = mm.Joint(
        mm.Gaussian(mm.MLP(64, 2 * LATENTS, (300,))),
        mm.Gaussian(mm.MLP(LATENTS, 2 * 64, (300,)), floor=0.05),
        mm.StandardNormal(LATENTS),
    )
    mm.fit(mm.Loss(model, mm.A_MIM), data.train, data.val, mm.Training(epochs=EPOCHS))
    codes = mm.codes(model, data.test)
    with torch.no_grad():
        reconstructed = mean_of(model.decoder(codes.mean))
    return mm.diagnose(data.test, codes.mean, codes.std, reconstructed, data.test_labels)


def seconds(count: int, features: int, latents: int) -> float:
    """CPU seconds of `mm.diagnose` on linear-Gaussian data with ten classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 10
    z = torch.randn(count, latents, generator=generator)
    z[:, :10] += 2 * torch.eye(10)[labels, :latents]
    noise = torch.randn(count, features, generator=generator)
    x = z @ torch.randn(latents, features, generator=generator) + noise
    start = time.process_time()
    mm.diagnose(x, z, 0.3, x - noise, labels)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--speed", type=int, nargs=3, metavar=("N", "F", "D"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.speed is not None:
        print(f"{seconds(*arguments.speed):.1f} s")
        return
    data = digits()
    found = {
        "VAE": diagnosis(trained(data.train, 1.0), data, noisy=True),
        "VAE, KL term times 200": diagnosis(trained(data.train, 200.0), data, noisy=True),
        "auto-encoder without noise": diagnosis(trained(data.train, 0.0), data, noisy=False),
        "A-MIM": of_mim(data),
    }
    text = "\n\n\n".join(f"=== {name} ===\n{each}" for name, each in found.items()) + "\n"
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
