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
    from mimachine.aggregate import energy_distance as energy_distance
    from mimachine.aggregate import kl_per_dimension as kl_per_dimension
    from mimachine.annealed import AnnealedLogLikelihood as AnnealedLogLikelihood
    from mimachine.annealed import BidirectionalCheck as BidirectionalCheck
    from mimachine.annealed import annealed_log_likelihood as annealed_log_likelihood
    from mimachine.annealed import bidirectional_check as bidirectional_check
    from mimachine.architectures import conv_hvae as conv_hvae
    from mimachine.architectures import dense_vae as dense_vae
    from mimachine.architectures import hvae as hvae
    from mimachine.architectures import pixel_hvae as pixel_hvae
    from mimachine.autoregressive import AutoregressiveImage as AutoregressiveImage
    from mimachine.autoregressive import PixelCNN as PixelCNN
    from mimachine.bounds import InformationBounds as InformationBounds
    from mimachine.bounds import bounds_from_conditionals as bounds_from_conditionals
    from mimachine.bounds import information_bounds as information_bounds
    from mimachine.calibration import KSGCalibration as KSGCalibration
    from mimachine.calibration import ksg_calibration as ksg_calibration
    from mimachine.chain import Chain as Chain
    from mimachine.chain import ChainConditional as ChainConditional
    from mimachine.chain import ChainPrior as ChainPrior
    from mimachine.conditionals import Bernoulli as Bernoulli
    from mimachine.conditionals import Categorical as Categorical
    from mimachine.conditionals import ClampedGaussian as ClampedGaussian
    from mimachine.conditionals import Conditional as Conditional
    from mimachine.conditionals import DiscretizedLogistic as DiscretizedLogistic
    from mimachine.conditionals import Gaussian as Gaussian
    from mimachine.conditionals import MixtureDensity as MixtureDensity
    from mimachine.conditionals import OneHotCategorical as OneHotCategorical
    from mimachine.datasets import Dataset as Dataset
    from mimachine.decomposition import Decomposition as Decomposition
    from mimachine.decomposition import decompose as decompose
    from mimachine.decomposition import (
        geometric_mean_log_normaliser as geometric_mean_log_normaliser,
    )
    from mimachine.diagnosis import Diagnosis as Diagnosis
    from mimachine.diagnosis import diagnose as diagnose
    from mimachine.distributions import DiagNormal as DiagNormal
    from mimachine.distributions import Draw as Draw
    from mimachine.distributions import Mixture as Mixture
    from mimachine.distributions import draw as draw
    from mimachine.ensemble import Ensemble as Ensemble
    from mimachine.estimates import Estimate as Estimate
    from mimachine.evaluation import evaluate as evaluate
    from mimachine.experiment import Experiment as Experiment
    from mimachine.experiment import paper_image_training as paper_image_training
    from mimachine.experiment import published_image_training as published_image_training
    from mimachine.fitting import History as History
    from mimachine.fitting import fit as fit
    from mimachine.flattening import flattened as flattened
    from mimachine.flows import Flow as Flow
    from mimachine.flows import FlowConditional as FlowConditional
    from mimachine.flows import FlowPrior as FlowPrior
    from mimachine.flows import InvertibleGaussian as InvertibleGaussian
    from mimachine.flows import InvertibleMap as InvertibleMap
    from mimachine.flows import MaskedAutoregressive as MaskedAutoregressive
    from mimachine.flows import NeuralSpline as NeuralSpline
    from mimachine.flows import RealNVP as RealNVP
    from mimachine.flows import invertible_pair as invertible_pair
    from mimachine.gradients import normalise_gradients as normalise_gradients
    from mimachine.imagesets import published_binarisation as published_binarisation
    from mimachine.information import MutualInformation as MutualInformation
    from mimachine.information import mutual_information as mutual_information
    from mimachine.joint import Joint as Joint
    from mimachine.joint import LogProbs as LogProbs
    from mimachine.joint import Sample as Sample
    from mimachine.likelihood import LogLikelihood as LogLikelihood
    from mimachine.likelihood import MeanLogLikelihood as MeanLogLikelihood
    from mimachine.likelihood import log_likelihood as log_likelihood
    from mimachine.likelihood import mean_log_likelihood as mean_log_likelihood
    from mimachine.metrics import Metric as Metric
    from mimachine.metrics import Report as Report
    from mimachine.networks import MLP as MLP
    from mimachine.networks import Bound as Bound
    from mimachine.networks import GatedConv2d as GatedConv2d
    from mimachine.networks import GatedLinear as GatedLinear
    from mimachine.networks import MaskedConv2d as MaskedConv2d
    from mimachine.objectives import A_MIM as A_MIM
    from mimachine.objectives import A_MIM_ONE_SAMPLE as A_MIM_ONE_SAMPLE
    from mimachine.objectives import AUTO_ENCODER as AUTO_ENCODER
    from mimachine.objectives import CE as CE
    from mimachine.objectives import MIM as MIM
    from mimachine.objectives import MIM_H as MIM_H
    from mimachine.objectives import MIM_H_TRUE as MIM_H_TRUE
    from mimachine.objectives import MIM_OF_MEANS as MIM_OF_MEANS
    from mimachine.objectives import SYMMETRIC_KL as SYMMETRIC_KL
    from mimachine.objectives import VAE as VAE
    from mimachine.objectives import VAE_H as VAE_H
    from mimachine.objectives import Loss as Loss
    from mimachine.objectives import Objective as Objective
    from mimachine.objectives import beta_vae as beta_vae
    from mimachine.objectives import cross_entropy as cross_entropy
    from mimachine.objectives import joint_entropy as joint_entropy
    from mimachine.objectives import mim as mim
    from mimachine.objectives import vae as vae
    from mimachine.observations import BinaryPixels as BinaryPixels
    from mimachine.observations import GreyPixels as GreyPixels
    from mimachine.observations import Pixels as Pixels
    from mimachine.observations import RealPixels as RealPixels
    from mimachine.priors import Anchor as Anchor
    from mimachine.priors import Fixed as Fixed
    from mimachine.priors import FullGaussianMixture as FullGaussianMixture
    from mimachine.priors import GaussianMixture as GaussianMixture
    from mimachine.priors import LearnedNormal as LearnedNormal
    from mimachine.priors import LearnedOneHot as LearnedOneHot
    from mimachine.priors import Marginal as Marginal
    from mimachine.priors import Prior as Prior
    from mimachine.priors import StandardNormal as StandardNormal
    from mimachine.priors import UniformOneHot as UniformOneHot
    from mimachine.priors import VampPrior as VampPrior
    from mimachine.priors import unit_interval as unit_interval
    from mimachine.probes import knn_accuracy as knn_accuracy
    from mimachine.probes import leave_one_out_accuracy as leave_one_out_accuracy
    from mimachine.probes import linear_probe as linear_probe
    from mimachine.proposals import DefensiveProposal as DefensiveProposal
    from mimachine.proposals import refit_proposal as refit_proposal
    from mimachine.quadrature import QuadratureLogLikelihood as QuadratureLogLikelihood
    from mimachine.quadrature import quadrature_log_likelihood as quadrature_log_likelihood
    from mimachine.refits import PriorComparison as PriorComparison
    from mimachine.refits import compare_priors as compare_priors
    from mimachine.refits import refit_prior as refit_prior
    from mimachine.representation import Codes as Codes
    from mimachine.representation import Health as Health
    from mimachine.representation import Reencoding as Reencoding
    from mimachine.representation import codes as codes
    from mimachine.representation import diagnose_codes as diagnose_codes
    from mimachine.representation import reencode as reencode
    from mimachine.representation import reencoding_offset as reencoding_offset
    from mimachine.runs import Run as Run
    from mimachine.sources import Binarized as Binarized
    from mimachine.sources import FreshDraws as FreshDraws
    from mimachine.sources import Source as Source
    from mimachine.sources import TensorSource as TensorSource
    from mimachine.sources import Versions as Versions
    from mimachine.sources import as_bytes as as_bytes
    from mimachine.state import Epoch as Epoch
    from mimachine.tabular import latex_table as latex_table
    from mimachine.tabular import markdown_table as markdown_table
    from mimachine.training import Annealing as Annealing
    from mimachine.training import Noam as Noam
    from mimachine.training import Training as Training
    from mimachine.training import Warmup as Warmup

_MODULES = {
    "training": (
        "Annealing",
        "Noam",
        "Training",
        "Warmup",
    ),
    "networks": (
        "Bound",
        "GatedConv2d",
        "GatedLinear",
        "MLP",
        "MaskedConv2d",
    ),
    "distributions": (
        "DiagNormal",
        "Draw",
        "Mixture",
        "draw",
    ),
    "conditionals": (
        "Bernoulli",
        "Categorical",
        "ClampedGaussian",
        "Conditional",
        "DiscretizedLogistic",
        "Gaussian",
        "MixtureDensity",
        "OneHotCategorical",
    ),
    "priors": (
        "Anchor",
        "Fixed",
        "FullGaussianMixture",
        "GaussianMixture",
        "LearnedNormal",
        "LearnedOneHot",
        "Marginal",
        "Prior",
        "StandardNormal",
        "UniformOneHot",
        "VampPrior",
        "unit_interval",
    ),
    "chain": (
        "Chain",
        "ChainConditional",
        "ChainPrior",
    ),
    "observations": (
        "BinaryPixels",
        "GreyPixels",
        "Pixels",
        "RealPixels",
    ),
    "autoregressive": (
        "AutoregressiveImage",
        "PixelCNN",
    ),
    "flows": (
        "Flow",
        "FlowConditional",
        "FlowPrior",
        "InvertibleGaussian",
        "InvertibleMap",
        "MaskedAutoregressive",
        "NeuralSpline",
        "RealNVP",
        "invertible_pair",
    ),
    "joint": (
        "Joint",
        "LogProbs",
        "Sample",
    ),
    "architectures": (
        "conv_hvae",
        "dense_vae",
        "hvae",
        "pixel_hvae",
    ),
    "flattening": ("flattened",),
    "objectives": (
        "AUTO_ENCODER",
        "A_MIM",
        "A_MIM_ONE_SAMPLE",
        "CE",
        "Loss",
        "MIM",
        "MIM_H",
        "MIM_H_TRUE",
        "MIM_OF_MEANS",
        "Objective",
        "SYMMETRIC_KL",
        "VAE",
        "VAE_H",
        "beta_vae",
        "cross_entropy",
        "joint_entropy",
        "mim",
        "vae",
    ),
    "ensemble": ("Ensemble",),
    "gradients": ("normalise_gradients",),
    "sources": (
        "Binarized",
        "FreshDraws",
        "Source",
        "TensorSource",
        "Versions",
        "as_bytes",
    ),
    "runs": ("Run",),
    "state": ("Epoch",),
    "fitting": (
        "History",
        "fit",
    ),
    "estimates": ("Estimate",),
    "likelihood": (
        "LogLikelihood",
        "MeanLogLikelihood",
        "log_likelihood",
        "mean_log_likelihood",
    ),
    "bounds": (
        "InformationBounds",
        "bounds_from_conditionals",
        "information_bounds",
    ),
    "annealed": (
        "AnnealedLogLikelihood",
        "BidirectionalCheck",
        "annealed_log_likelihood",
        "bidirectional_check",
    ),
    "decomposition": (
        "Decomposition",
        "decompose",
        "geometric_mean_log_normaliser",
    ),
    "information": (
        "MutualInformation",
        "mutual_information",
    ),
    "calibration": (
        "KSGCalibration",
        "ksg_calibration",
    ),
    "probes": (
        "knn_accuracy",
        "leave_one_out_accuracy",
        "linear_probe",
    ),
    "aggregate": (
        "energy_distance",
        "kl_per_dimension",
    ),
    "representation": (
        "Codes",
        "Health",
        "Reencoding",
        "codes",
        "diagnose_codes",
        "reencode",
        "reencoding_offset",
    ),
    "proposals": (
        "DefensiveProposal",
        "refit_proposal",
    ),
    "refits": (
        "PriorComparison",
        "compare_priors",
        "refit_prior",
    ),
    "quadrature": (
        "QuadratureLogLikelihood",
        "quadrature_log_likelihood",
    ),
    "datasets": ("Dataset",),
    "imagesets": ("published_binarisation",),
    "metrics": (
        "Metric",
        "Report",
    ),
    "evaluation": ("evaluate",),
    "experiment": (
        "Experiment",
        "paper_image_training",
        "published_image_training",
    ),
    "tabular": (
        "latex_table",
        "markdown_table",
    ),
    "diagnosis": (
        "Diagnosis",
        "diagnose",
    ),
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
