"""Build a model from settings and data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimachine._support.messages import Option, OptionError
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.dataset import Dataset
from mimachine.data.image_sets import LEVELS
from mimachine.data.tables.model_columns import model_columns
from mimachine.experiment.settings import DENSE, HIERARCHIES, Experiment, Model
from mimachine.model import architectures, conditionals, flows, priors
from mimachine.model.flattening import flattened
from mimachine.model.joint import Joint
from mimachine.model.networks import MLP, ConvDecoder, ConvEncoder
from mimachine.model.pixel_likelihoods import BinaryPixels, GreyPixels, Pixels, RealPixels
from mimachine.model.table_columns import TableColumn
from mimachine.model.table_networks import TableDecoder, TableFeatures

__all__ = ["build", "encoder_floor", "likelihood_of", "refitted"]

# Standard deviation of the noise on initial pseudo-inputs, as in the released image code.
_PSEUDO_INPUT_NOISE = 0.01
# Largest share of a table row's values that are hidden from the encoder in training.
_HIDE = 0.5


def build(settings: Experiment, data: Dataset) -> Joint:
    """Build a model for rows of data, with initial weights drawn from the seed.

    Raises:
        ValueError: If the settings do not fit the data.
    """
    model = settings.model
    with forked(derived_seed(settings.training.seed, "weights")):
        if model.architecture == "pca":
            # Its weights are set in closed form, see `fit_principal_components`.
            model = replace(model, architecture="mlp", hidden=(), encoder_floor=1e-6)
            return _mlp(model, data)
        if model.architecture in ("mlp", "conv"):
            return _mlp(model, data)
        return _image_model(model, data)


def refitted(settings: Experiment, data: Dataset) -> Joint:
    """Build the model of a run whose prior was fitted after training, see `refit_prior`.

    A fitted prior is a prior of all latents, also for hierarchical architectures.

    Raises:
        ValueError: If the settings do not fit the data.
    """
    trained = build(replace(settings, model=replace(settings.model, prior="standard-normal")), data)
    prior = _prior(settings.model, data, trained.encoder)
    return Joint(trained.encoder, trained.decoder, prior, trained.data_prior)


def likelihood_of(model: Model, data: Dataset) -> str:
    """The likelihood p(x|z), with "auto" resolved for the data."""
    if data.schema is not None:
        return "columns"
    if data.preprocessing is not None:
        return data.preprocessing.likelihood
    if model.likelihood != "auto":
        return model.likelihood
    return "gaussian" if data.levels is None else "discretized-logistic"


# --- multi-layer perceptrons ---------------------------------------------------------------------


def _mlp(model: Model, data: Dataset) -> Joint:
    if data.schema is not None:
        return _of_table(model, data, model_columns(data.schema))
    features = data.train.shape[1]
    encoder = _encoder(model, data, nn.Identity(), features)
    decoder = _decoder(model, data, features)
    prior = _prior(model, data, encoder)
    return Joint(encoder, decoder, prior, _data_prior(model, data, features))


def _encoder(model: Model, data: Dataset, features: nn.Module, size: int) -> conditionals.Gaussian:
    """An encoder of rows from this number of features."""
    outputs = (2 if model.encoder_std is None else 1) * model.latent
    network: nn.Module
    if model.architecture == "conv":
        (hidden,) = model.hidden
        network = ConvEncoder(_image_shape(model, data), outputs, model.channels, hidden)
    else:
        network = MLP(size, outputs, model.hidden)
    if not isinstance(features, nn.Identity):
        network = nn.Sequential(features, network)
    return conditionals.Gaussian(network, encoder_floor(model), scale=model.encoder_std)


def _of_table(model: Model, data: Dataset, columns: Sequence[TableColumn]) -> Joint:
    """The model of a table's rows, whose decoder has a distribution for each kind of column."""
    if model.decoder_floor is not None or model.data_prior != "marginal":
        name = "decoder_floor" if model.decoder_floor is not None else "data_prior"
        raise ValueError(
            f"model.{name} has no meaning for the columns of a table, got {getattr(model, name)}; "
            "model.likelihood gaussian models a table of numbers as an array"
        )
    if model.prior == "vampprior":
        raise ValueError(
            "model.prior must not be vampprior for the columns of a table, whose pseudo-inputs "
            "would be rows of categories; training fits a mixture to the codes at its end"
        )
    features, outputs = TableFeatures(columns, _HIDE), TableDecoder.num_outputs(columns)
    encoder = _encoder(model, data, features, TableFeatures.num_features(columns))
    network = MLP(model.latent, outputs, tuple(reversed(model.hidden)))
    decoder = TableDecoder(columns, network)
    return Joint(encoder, decoder, _prior(model, data, encoder), priors.Marginal(model.marginal))


def _decoder(model: Model, data: Dataset, features: int) -> nn.Module:
    likelihood, hidden = likelihood_of(model, data), tuple(reversed(model.hidden))
    maps = 1 if likelihood == "bernoulli" else 2
    network: nn.Module
    if model.architecture == "conv":
        shape = _image_shape(model, data)
        network = ConvDecoder(model.latent, shape, maps, model.channels, hidden[0])
    else:
        network = MLP(model.latent, maps * features, hidden)
    if likelihood == "bernoulli":
        return conditionals.Bernoulli(network)
    if likelihood == "gaussian":
        return conditionals.Gaussian(network, _gaussian_floor(model, data))
    return conditionals.DiscretizedLogistic(network, _levels(data))


def _levels(data: Dataset) -> int:
    if data.levels is None:
        raise ValueError(
            f'model.likelihood "discretized-logistic" needs grey levels in [0, 1], '
            f"which {data.name} does not have"
        )
    return data.levels


def encoder_floor(model: Model) -> float:
    """Minimum standard deviation of q(z|x) for multi-layer perceptrons."""
    if model.encoder_floor is not None:
        return model.encoder_floor
    # MIM rewards a high prior density, and a VampPrior of narrow posteriors has no upper limit: all
    # codes collapse to one point. The floor of the VampPrior paper's image models, e^-3, prevents
    # this.
    return 0.05 if model.prior == "vampprior" else 1e-3


def _gaussian_floor(model: Model, data: Dataset) -> float | Tensor:
    if model.decoder_floor is not None:
        return model.decoder_floor
    if data.preprocessing is not None:
        return torch.as_tensor(data.preprocessing.floor, dtype=torch.get_default_dtype())
    if data.levels is not None:
        # The resolution of the data: standard deviation of a uniform distribution on a grid step.
        return 1 / (data.levels - 1) / 12**0.5
    return 1e-3 * data.train[:].std(0)


def _prior(model: Model, data: Dataset, encoder: nn.Module) -> nn.Module:
    """A prior p(z) of all latents."""
    if model.prior == "learned-normal":
        return priors.LearnedNormal(model.num_latents)
    if model.prior == "gaussian-mixture":
        return priors.GaussianMixture(model.num_latents, model.components)
    if model.prior == "full-gaussian-mixture":
        return priors.FullGaussianMixture(model.num_latents, model.components)
    if model.prior == "flow":
        return flows.FlowPrior(model.num_latents)
    if model.prior == "vampprior":
        _check_components(model, data)
        rows = torch.randperm(len(data.train))[: model.components]
        return priors.VampPrior(encoder, data.train[rows])
    return priors.StandardNormal(model.num_latents)


def _data_prior(model: Model, data: Dataset, features: int) -> nn.Module | priors.Marginal:
    if model.data_prior == "gaussian-mixture":
        return priors.GaussianMixture(features, model.components)
    if model.data_prior == "data":
        if data.distribution is None:
            raise ValueError(
                f"model.data_prior data needs data with a known density, such as mixture-2d, which "
                f"{data.name} does not have"
            )
        return priors.Fixed(data.distribution)
    return priors.Marginal(model.marginal)


def _check_components(model: Model, data: Dataset) -> None:
    if model.components > len(data.train):
        raise ValueError(
            f"model.components must be at most {len(data.train)}, the number of training rows "
            f"that can initialise pseudo-inputs, got {model.components}"
        )


# --- image models --------------------------------------------------------------------------------


def _image_model(model: Model, data: Dataset) -> Joint:
    shape = _image_shape(model, data)
    hierarchy = model.architecture in HIERARCHIES
    if hierarchy and model.prior not in ("standard-normal", "vampprior"):
        raise ValueError(
            f"model.prior must be standard-normal or vampprior for model.architecture "
            f"{model.architecture}, got {model.prior}; mimachine refit fits others after training"
        )
    images = _unflattened(model, data, shape)
    rows = flattened(images, shape, _data_prior(model, data, math.prod(shape)))
    if hierarchy or model.prior == "vampprior":
        return rows
    return Joint(rows.encoder, rows.decoder, _prior(model, data, rows.encoder), rows.data_prior)


def _image_shape(model: Model, data: Dataset) -> tuple[int, int, int]:
    """Channels, height and width of the images of the data.

    Raises:
        ValueError: If the data are no images.
    """
    shape = data.image_shape
    if shape is None:
        raise OptionError(
            f"model.architecture {model.architecture} needs images, with values in [0, 1] or from "
            f"0 to 255, and {data.name} has none: give a folder of images, an array (N, H, W) or "
            "(N, H, W, C), or for a file whose rows are images their shape, such as ",
            Option("image_shape", (28, 28)),
        )
    return shape


def _unflattened(model: Model, data: Dataset, shape: tuple[int, int, int]) -> Joint:
    """The model of images (C, H, W), before it is adapted to rows."""
    pixels, (hidden,) = _pixels(model, data), model.hidden
    pseudo_inputs = _pseudo_inputs(model, data, shape) if model.prior == "vampprior" else None
    constraint = priors.unit_interval if model.pseudo_inputs == "random" else _clamped
    options: dict[str, Any] = {
        "shape": shape,
        "pseudo_inputs": pseudo_inputs,
        "pixels": pixels,
        "hidden": hidden,
        "constraint": constraint,
    }
    if model.architecture in DENSE:
        options["encoder_std"] = model.encoder_std
    if model.architecture == "dense-vae":
        return architectures.dense_vae(latents=model.latent, **options)
    latents = (model.latent, model.latent)
    if model.architecture == "hvae":
        return architectures.hvae(latents=latents, **options)
    if model.architecture == "conv-hvae":
        return architectures.conv_hvae(latents=latents, channels=model.channels, **options)
    return architectures.pixel_hvae(
        latents=latents,
        channels=model.channels,
        layers=model.layers,
        latent_maps=model.latent_maps,
        **options,
    )


def _pixels(model: Model, data: Dataset) -> Pixels:
    likelihood = likelihood_of(model, data)
    if model.decoder_floor is not None and likelihood != "gaussian":
        raise ValueError(
            f"model.decoder_floor is for gaussian pixels and must be None for {likelihood} pixels, "
            f"got {model.decoder_floor}"
        )
    if likelihood == "bernoulli":
        return BinaryPixels()
    if likelihood == "discretized-logistic":
        return GreyPixels(levels=_levels(data))
    if model.decoder_floor is None:
        return RealPixels()
    if not 0 < model.decoder_floor < 1:
        raise ValueError(
            f"model.decoder_floor must be between 0 and 1, the maximum standard deviation of "
            f"pixels with model.architecture {model.architecture}, got {model.decoder_floor}"
        )
    return RealPixels(log_scale=(math.log(model.decoder_floor), 0.0))


def _pseudo_inputs(model: Model, data: Dataset, shape: tuple[int, int, int]) -> Tensor:
    """Initial pseudo-inputs (K, C, H, W): training images, before binarisation."""
    _check_components(model, data)
    if model.pseudo_inputs == "published":
        rows = torch.arange(model.components)
    else:
        rows = torch.randperm(len(data.train))[: model.components]
    images: Tensor = (data.train if data.grey is None else data.grey)[rows].unflatten(1, shape)
    if images.dtype == torch.uint8:
        images = images.to(torch.get_default_dtype()) / (LEVELS - 1)
    if model.pseudo_inputs == "published":
        images = images + _PSEUDO_INPUT_NOISE * torch.randn_like(images)
    return images


def _clamped(value: Tensor) -> Tensor:
    """Clamp values to [0, 1], without a gradient outside, as in the released code."""
    return F.hardtanh(value, 0.0, 1.0)
