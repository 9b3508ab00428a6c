"""The VAE of the plain loop with pythae: its trainer and its likelihood."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
from collections.abc import Callable, Iterator

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn
from training_speed import BATCH

from beside.bare import BareVae


class Encoder(BaseEncoder):
    """Encoder of a plain model, with a layer for the mean and one for the log-variance."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        *trunk, last = copy.deepcopy(network)
        self.trunk = nn.Sequential(*trunk)
        self.mean, self.log_variance = (
            nn.Linear(last.in_features, last.out_features // 2) for _ in range(2)
        )
        with torch.no_grad():
            for name in ("weight", "bias"):
                of_mean, of_log_scale = last.get_parameter(name).chunk(2)
                self.mean.get_parameter(name).copy_(of_mean)
                self.log_variance.get_parameter(name).copy_(2 * of_log_scale)

    def forward(self, x: Tensor) -> ModelOutput:
        features = self.trunk(x)
        return ModelOutput(
            embedding=self.mean(features), log_covariance=self.log_variance(features)
        )


class Decoder(BaseDecoder):
    """Decoder of a plain model; gives probabilities, which pythae expects."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.network(z).sigmoid())


def model(bare: BareVae) -> VAE:
    """A model with the weights of a plain one."""
    features = bare.x.shape[1]
    config = VAEConfig((features,), bare.latent, reconstruction_loss="bce")
    return VAE(config, Encoder(bare.encoder), Decoder(bare.decoder))


def losses(model: VAE, x: Tensor) -> Tensor:
    """Mean loss of a batch, ()."""
    loss: Tensor = model({"data": x}).loss
    return loss


def trainer(bare: BareVae) -> Callable[[int], None]:
    """A function that trains with pythae's trainer for a given number of epochs."""
    trained = model(bare)
    data = BaseDataset(bare.x, torch.zeros(len(bare.x)))

    def train(epochs: int) -> None:
        with tempfile.TemporaryDirectory() as folder, silent():
            config = BaseTrainerConfig(
                output_dir=folder,
                num_epochs=epochs,
                learning_rate=1e-3,
                per_device_train_batch_size=BATCH,
                no_cuda=True,
            )
            BaseTrainer(trained, data, training_config=config).train()

    return train


@torch.no_grad()
def log_likelihood(model: VAE, x: Tensor, samples: int) -> float:
    """Importance-sampled mean of log p(x) over the rows, in nats."""
    return float(model.get_nll(x, samples))


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Drop what the trainer prints."""
    sink = io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            yield
    finally:
        logging.disable(logging.NOTSET)
