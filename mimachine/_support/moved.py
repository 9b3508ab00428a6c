"""Old module paths and names, which keep working for one version with a DeprecationWarning.

Version 0.2 moved the modules of 0.1 into folders, and took result classes and inner parts out of
the top-level namespace. Remove this file, and its two uses in `mimachine/__init__.py`, in 0.3.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast

__all__ = ["MODULES", "NAMES", "RENAMED", "install", "moved_name"]

# Modules of 0.1, and where their contents are now.
MODULES: dict[str, tuple[str, ...]] = {
    "advice": ("reporting.run_advice",),
    "aggregate": ("estimation.codes.aggregate",),
    "annealed": ("estimation.likelihood.annealed",),
    "architectures": ("model.architectures",),
    "augmentation": ("data.augmentation",),
    "autoregressive": ("model.pixelcnn",),
    "averages": ("training.state",),
    "bounds": ("estimation.information.bounds",),
    "calibration": ("estimation.information.ksg_calibration",),
    "catalogue": ("data.catalogue",),
    "chain": ("model.hierarchy",),
    "clothing": ("data.fashion_pca",),
    "columns": ("reporting.columns", "reporting.explained"),
    "commands": ("reporting.command_lines",),
    "comparison": ("reporting.comparison",),
    "compilation": ("training.steps.compilation",),
    "conditionals": ("model.conditionals",),
    "construction": ("experiment.build",),
    "decomposition": ("estimation.decomposition",),
    "densities": ("paper.line.densities",),
    "derived": ("data.cache",),
    "diagnosis": ("evaluation.diagnose_arrays", "evaluation.advice"),
    "diagram": ("reporting.diagram",),
    "distributions": ("model.distributions", "model.discrete"),
    "divergence": ("training.steps.nonfinite",),
    "downloads": ("data.downloads",),
    "encodings": ("evaluation.arrays",),
    "ensemble": ("training.ensemble",),
    "estimates": ("estimation.estimate",),
    "euclidean": ("estimation.codes.nearest",),
    "figures": ("reporting.figures",),
    "fitting": ("training.fit",),
    "flattening": ("model.flattening",),
    "flows": ("model.flows",),
    "gradients": ("training.steps.step",),
    "hamiltonian": ("estimation.likelihood.hamiltonian",),
    "imagefolder": ("data.files.image_folder",),
    "imagesets": ("data.image_sets",),
    "information": ("estimation.information.ksg",),
    "informativeness": ("evaluation.information",),
    "inspection": ("workflow.inspect_run",),
    "joint": ("model.joint",),
    "likelihood": ("estimation.likelihood.importance", "model.networks"),
    "meanings": ("evaluation.glossary",),
    "memory": ("_support.memory",),
    "measurements": ("evaluation.classes", "evaluation.codes", "evaluation.budgets"),
    "metrics": ("evaluation.metric", "evaluation.advice"),
    "neighbours": ("estimation.information.ksg_neighbours",),
    "networks": ("model.networks",),
    "objectives": ("model.objectives", "model.loss"),
    "observations": ("model.pixel_likelihoods",),
    "options": ("cli.options",),
    "outcomes": ("reporting.measured_run", "workflow.reports"),
    "paper.line_claims": ("paper.line.claims",),
    "paper.line_curves": ("paper.line.curves",),
    "paper.line_models": ("paper.line.models",),
    "paper.line_panels": ("paper.line.panels",),
    "paper.line_training": ("paper.line.training",),
    "paper.reproduce": ("paper.experiments",),
    "pareto": ("estimation.likelihood.pareto",),
    "pictures": ("reporting.html_image",),
    "pixels": ("data.files.image_file",),
    "preprocessing": ("data.preprocessing", "data.learn_preprocessing", "data.resolution"),
    "priors": ("model.priors",),
    "probes": ("estimation.codes.probes",),
    "progress": ("training.progress",),
    "projections": ("reporting.projections",),
    "proposals": ("estimation.likelihood.proposals",),
    "quadrature": ("estimation.likelihood.quadrature",),
    "randomness": ("_support.seeds",),
    "refits": ("estimation.refit_prior",),
    "remedies": ("evaluation.advice",),
    "report": ("reporting.page",),
    "representation": (
        "estimation.codes.moments",
        "estimation.codes.collapse",
        "estimation.codes.floors",
        "estimation.codes.reencoding",
    ),
    "results": ("workflow.export_results",),
    "rows": ("data.rows",),
    "runs": ("training.run", "_support.files"),
    "sections": ("reporting.sections",),
    "sources": ("data.sources",),
    "state": ("training.state", "training.records"),
    "steps": ("training.steps.step", "training.steps.cuda_graphs"),
    "subspace": ("data.subspace",),
    "tables": ("data.files.read_table", "data.files.table", "data.files.checks"),
    "tables.arrays": ("data.files.numpy_file",),
    "tables.cells": ("data.files.table",),
    "tables.files": ("data.files.table",),
    "tables.labels": ("data.files.labels",),
    "tables.layout": ("data.files.columns",),
    "tables.parquet": ("data.files.parquet_file",),
    "tables.table": ("data.files.table",),
    "tables.text": ("data.files.csv_file",),
    "tabular": ("reporting.tabular",),
    "userdata": ("data.files.load",),
    "wording": ("_support.messages",),
}

# Names in modules of 0.1 that have another name now.
RENAMED: dict[str, dict[str, str]] = {
    "aggregate": {"energy_distance": "energy_distance_from_normal"},
    "catalogue": {"DATASETS": "CATALOGUE"},
    "diagnosis": {"ADVICE": "VERDICTS"},
    "meanings": {"MEANINGS": "GLOSSARY", "Meaning": "Declaration", "meaning": "declaration"},
    "metrics": {"ADVICE": "VERDICTS"},
    "userdata": {
        "blank": "blank_dataset",
        "load": "load_file",
        "read": "read_rows",
        "record": "data_record",
    },
}

# Names of `mimachine` in 0.1 that are now only in their modules.
NAMES: dict[str, str] = {
    "AnnealedLogLikelihood": "estimation.likelihood.annealed",
    "AutoregressiveImage": "model.pixelcnn",
    "BidirectionalCheck": "estimation.likelihood.annealed",
    "Codes": "estimation.codes.moments",
    "Decomposition": "estimation.decomposition",
    "Draw": "model.distributions",
    "Health": "estimation.codes.collapse",
    "InformationBounds": "estimation.information.bounds",
    "KSGCalibration": "estimation.information.ksg_calibration",
    "LogLikelihood": "estimation.likelihood.importance",
    "MeanLogLikelihood": "estimation.likelihood.importance",
    "MutualInformation": "estimation.information.ksg",
    "PriorComparison": "estimation.refit_prior",
    "QuadratureLogLikelihood": "estimation.likelihood.quadrature",
    "Reencoding": "estimation.codes.reencoding",
    "as_bytes": "data.sources",
    "normalise_gradients": "training.steps.step",
    "reencoding_offset": "estimation.codes.reencoding",
    "unit_interval": "model.priors",
}


def moved_name(name: str) -> Any:
    """An old top-level name or module, with a warning that says where it is now.

    Raises:
        KeyError: If there was none.
    """
    if name in MODULES:
        _warn(f"mimachine.{name} has moved to {_homes(name)}", stacklevel=4)
        return sys.modules.setdefault(f"mimachine.{name}", _module(f"mimachine.{name}"))
    module = f"mimachine.{NAMES[name]}"
    _warn(f"mm.{name} has moved to {module}", stacklevel=4)
    return getattr(importlib.import_module(module), name)


def install() -> None:
    """Let the modules of 0.1 be imported by their old paths."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def _homes(name: str) -> str:
    return " and ".join(f"mimachine.{home}" for home in MODULES[name])


def _warn(message: str, stacklevel: int) -> None:
    text = f"{message}; the old name will be removed in 0.3"
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel)


def _old_name(fullname: str) -> str:
    return fullname.removeprefix("mimachine.")


def _module(fullname: str) -> ModuleType:
    module = _Moved(fullname, f"Moved to {_homes(_old_name(fullname))}.")
    if any(name.startswith(f"{_old_name(fullname)}.") for name in MODULES):
        module.__path__ = []  # It was a package.
    return module


class _Moved(ModuleType):
    """A module of 0.1 whose names are looked up in the modules that hold them now."""

    def __getattr__(self, name: str) -> Any:
        old = _old_name(self.__name__)
        if name == "__all__":
            return dir(self)
        new = RENAMED.get(old, {}).get(name, name)
        if not name.startswith("__"):
            for home in MODULES[old]:
                module = importlib.import_module(f"mimachine.{home}")
                if hasattr(module, new):
                    return getattr(module, new)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        old = _old_name(self.__name__)
        homes = [importlib.import_module(f"mimachine.{home}") for home in MODULES[old]]
        return sorted({*RENAMED.get(old, {}), *(name for home in homes for name in home.__all__)})


class _Finder:
    """Finds and loads modules of 0.1; it is last, so that existing modules are never shadowed.

    It derives from no class of `importlib.abc`, whose import takes longer than all else here.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for `mimachine.OLD`."""
        old = _old_name(fullname)
        if old == fullname or old not in MODULES:
            return None
        is_package = any(name.startswith(f"{old}.") for name in MODULES)
        return ModuleSpec(fullname, cast(Any, self), is_package=is_package)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module that looks names up where they are now."""
        return _module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Warn once, when the module is first imported."""
        name = module.__name__
        # Frames of the import system do not count.
        _warn(f"{name} has moved to {_homes(_old_name(name))}", stacklevel=3)
