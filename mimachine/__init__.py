"""Mutual Information Machines in PyTorch.

A model is two factorisations of one joint distribution over data x and latents z; an objective is
a function of their four log-probabilities. Names are imported when they are first used, so that
the command line answers before torch is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mimachine.conditionals import Bernoulli as Bernoulli
    from mimachine.conditionals import Conditional as Conditional
    from mimachine.conditionals import DiscretizedLogistic as DiscretizedLogistic
    from mimachine.conditionals import Gaussian as Gaussian
    from mimachine.distributions import DiagNormal as DiagNormal
    from mimachine.distributions import Draw as Draw
    from mimachine.distributions import Mixture as Mixture
    from mimachine.distributions import draw as draw
    from mimachine.fitting import Epoch as Epoch
    from mimachine.fitting import History as History
    from mimachine.fitting import fit as fit
    from mimachine.joint import Joint as Joint
    from mimachine.joint import LogProbs as LogProbs
    from mimachine.joint import Sample as Sample
    from mimachine.networks import MLP as MLP
    from mimachine.objectives import A_MIM as A_MIM
    from mimachine.objectives import A_MIM_ONE_SAMPLE as A_MIM_ONE_SAMPLE
    from mimachine.objectives import AUTO_ENCODER as AUTO_ENCODER
    from mimachine.objectives import CE as CE
    from mimachine.objectives import MIM as MIM
    from mimachine.objectives import MIM_H as MIM_H
    from mimachine.objectives import VAE as VAE
    from mimachine.objectives import VAE_H as VAE_H
    from mimachine.objectives import Loss as Loss
    from mimachine.objectives import Objective as Objective
    from mimachine.objectives import beta_vae as beta_vae
    from mimachine.objectives import cross_entropy as cross_entropy
    from mimachine.objectives import joint_entropy as joint_entropy
    from mimachine.objectives import mim as mim
    from mimachine.objectives import one_sample_mim as one_sample_mim
    from mimachine.objectives import vae as vae
    from mimachine.priors import Anchor as Anchor
    from mimachine.priors import GaussianMixture as GaussianMixture
    from mimachine.priors import LearnedNormal as LearnedNormal
    from mimachine.priors import Marginal as Marginal
    from mimachine.priors import Prior as Prior
    from mimachine.priors import StandardNormal as StandardNormal
    from mimachine.priors import VampPrior as VampPrior
    from mimachine.runs import Run as Run
    from mimachine.sources import Binarized as Binarized
    from mimachine.sources import FreshDraws as FreshDraws
    from mimachine.sources import Source as Source
    from mimachine.sources import TensorSource as TensorSource
    from mimachine.training import Annealing as Annealing
    from mimachine.training import Noam as Noam
    from mimachine.training import Training as Training
    from mimachine.training import Warmup as Warmup

_MODULES = {
    "networks": ("MLP",),
    "distributions": ("DiagNormal", "Draw", "Mixture", "draw"),
    "conditionals": ("Bernoulli", "Conditional", "DiscretizedLogistic", "Gaussian"),
    "priors": (
        "Anchor",
        "GaussianMixture",
        "LearnedNormal",
        "Marginal",
        "Prior",
        "StandardNormal",
        "VampPrior",
    ),
    "joint": ("Joint", "LogProbs", "Sample"),
    "objectives": (
        "A_MIM",
        "A_MIM_ONE_SAMPLE",
        "AUTO_ENCODER",
        "CE",
        "MIM",
        "MIM_H",
        "VAE",
        "VAE_H",
        "Loss",
        "Objective",
        "beta_vae",
        "cross_entropy",
        "joint_entropy",
        "mim",
        "one_sample_mim",
        "vae",
    ),
    "sources": ("Binarized", "FreshDraws", "Source", "TensorSource"),
    "training": ("Annealing", "Noam", "Training", "Warmup"),
    "runs": ("Run",),
    "fitting": ("Epoch", "History", "fit"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mimachine' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mimachine.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
