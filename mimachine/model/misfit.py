"""Explain why data and the parts of a model do not fit together, after a computation failed.

Nothing here runs while everything fits. When torch fails inside a network, the parts are tried
again on two rows, one after the other, and the message names the part and the argument. The
functions that call a loss with data of their own argument explain its failure once more, by the
name of that argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mimachine._support.seeds import forked
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating
from mimachine.model.priors import VampPrior

__all__ = ["FAILURES", "MisfitError", "explained", "naming_misfits"]

# What torch raises when something does not fit.
FAILURES = (RuntimeError, TypeError, IndexError, AttributeError, KeyError)


class MisfitError(ValueError):
    """Data and the parts of a model do not fit together."""


def explained(error: Exception, model: object, x: Any, name: str = "x") -> Exception:
    """The error that says what does not fit; the error itself if that is not known.

    Args:
        error: One of `FAILURES`, or an explained one.
        model: The model, or only its encoder; None if it is unknown.
        x: Data of the model, shape (N, *X).
        name: Name of the data's argument.
    """
    if model is None or isinstance(error, torch.OutOfMemoryError | NotImplementedError):
        return error
    if not isinstance(x, Tensor) or not x.dim():
        return TypeError(f"{name} must be a tensor of shape (N, *X), got {_what(x)}")
    message = _misfit(model, x[:2], name)
    return error if message is None else MisfitError(message)


def _what(x: object) -> str:
    return "a single number" if isinstance(x, Tensor) else f"a {type(x).__name__}"


@contextmanager
def naming_misfits(model: object, x: Any, name: str = "x") -> Iterator[None]:
    """Turn an error of torch within a block into one that names the argument that does not fit.

    Errors that are not due to shapes, types or devices of the parts pass unchanged.

    Args:
        model: The model, or only its encoder; None if it is unknown.
        x: Data of the model, shape (N, *X).
        name: Name of the data's argument.

    Raises:
        ValueError: If the parts or the data do not fit.
    """
    try:
        yield
    except (*FAILURES, MisfitError) as error:
        found = explained(error, model, x, name)
        if found is error:
            raise
        raise found from error


@torch.no_grad()
def _misfit(model: object, x: Tensor, name: str) -> str | None:
    """What does not fit, or None if all parts work."""
    with evaluating(model), forked(0, x.device):
        encoder = model.encoder if isinstance(model, Joint) else model
        posterior = _tried(encoder, x)
        if isinstance(posterior, Exception):
            return _of_input("encoder", encoder, x, name, posterior)
        if not isinstance(posterior, Distribution):
            return _no_distribution("encoder", posterior)
        if not isinstance(model, Joint):
            return None
        return _of_prior(model.prior, posterior) or _of_decoder(model, posterior, x, name)


def _of_prior(part: nn.Module, posterior: Distribution) -> str | None:
    prior = _tried(part)
    if isinstance(prior, Exception):
        if isinstance(part, VampPrior):
            inputs = part.pseudo_inputs.detach()
            return _of_input("encoder", part.encoder, inputs, "pseudo_inputs", prior)
        return f"prior cannot be computed, {_text(prior)}"
    if not isinstance(prior, Distribution):
        return _no_distribution("prior", prior)
    if prior.event_shape != posterior.event_shape:
        return (
            f"prior must have latents of the encoder's shape {tuple(posterior.event_shape)}, got "
            f"{tuple(prior.event_shape)}"
        )
    return None


def _of_decoder(model: Joint, posterior: Distribution, x: Tensor, name: str) -> str | None:
    z = posterior.sample()
    decoded = _tried(model.decoder, z)
    if isinstance(decoded, Exception):
        if not z.is_floating_point():
            return (
                f"encoder must give latents in floating point, got {_type(z)}; for categories use "
                "mm.OneHotCategorical"
            )
        return _of_input("decoder", model.decoder, z, "z", decoded)
    if not isinstance(decoded, Distribution):
        return _no_distribution("decoder", decoded)
    if decoded.event_shape != x.shape[1:]:
        return (
            f"decoder must give events of {name}'s shape {tuple(x.shape[1:])}, got "
            f"{tuple(decoded.event_shape)}"
        )
    return None


def _tried(part: Any, *inputs: Tensor) -> Any:
    """Result of calling a part, or the exception that it raised."""
    try:
        return part(*inputs)
    except Exception as error:
        return error


def _of_input(part: str, module: Any, x: Tensor, name: str, error: Exception) -> str:
    """Why a part fails on an input: another device, another type, another width."""
    if isinstance(error, ValueError):  # It names the argument itself.
        return str(error)
    inside = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    if inside is not None and inside.device != x.device:
        return f"{name} must be on the device of the {part}, {inside.device}, got {x.device}"
    if inside is not None and inside.dtype != x.dtype:
        return f"{name} must have the type of the {part}, {_type(inside)}, got {_type(x)}"
    width, values = _width(module), x.shape[-1] if x.dim() > 1 else 1
    if width is not None and width != values:
        what = "latents" if name == "z" else "values per row"
        return f"{name} must have {width} {what}, as the {part} takes, got {values}"
    shape = ", ".join(["B", *map(str, x.shape[1:])])
    return f"{part} must take {name} of shape ({shape}) and type {_type(x)}, {_text(error)}"


def _width(module: object) -> int | None:
    """Number of values per row that a part takes, if its first layer is linear."""
    if not isinstance(module, nn.Module):
        return None
    weighted = (m for m in module.modules() if isinstance(getattr(m, "weight", None), Tensor))
    first = next(weighted, None)
    return (first.in_features or None) if isinstance(first, nn.Linear) else None


def _no_distribution(part: str, result: object) -> str:
    return (
        f"{part} must return a torch.distributions.Distribution, got {type(result).__name__}; "
        "mm.Gaussian and others put one on top of a network"
    )


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _text(error: Exception) -> str:
    first = (str(error).strip() or "without a message").splitlines()[0]
    return f"got {type(error).__name__}: {first}"
