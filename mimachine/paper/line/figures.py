"""Reproduce figures 9, 10 and 11 of the paper: effect of the regulariser R_MIM in one dimension.

The paper shows one model of each kind and describes it. It gives no numbers and no training
settings; our choices are in `paper.line.models` and `paper.line.training`. The numbers in the
panels and tables are computed by quadrature, see `paper.line.curves`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mimachine.paper.line.claims import (
    Claim,
    apart,
    claims_table,
    close,
    lower,
    numbers_table,
    similar,
    term,
)
from mimachine.paper.line.curves import Route, curves
from mimachine.paper.line.models import CEILING, COMPONENTS, DATA, HIDDEN, LATENT
from mimachine.paper.line.panels import Column, panels
from mimachine.paper.line.training import Chain, Phase, Recipe, carry_out
from mimachine.paper.reproduction import Reproduction, Request

__all__ = ["figure10", "figure11", "figure9"]

# With a floor of 0.2 on standard deviations, results match the paper's description; 0.05 shows the
# effect of the floor.
_FLOOR, _SMALL_FLOOR = 0.2, 0.05
_ROUTES: dict[Route, str] = {
    "reconstruction": "reconstruction",
    "anchors": "from anchors",
    "priors": "from priors",
}


class _Plan(NamedTuple):
    """Seeds of the models of each kind, and the training recipe."""

    seeds: range
    recipe: Recipe


class _Kind(NamedTuple):
    """Models of one kind, a column of the table, and the seed of the plotted model."""

    label: str
    phase: Phase
    drawn: int


def figure9(request: Request) -> Reproduction:
    """Figure 9: L_CE and L_MIM, reconstructions and samples from anchors and priors (E.2)."""
    plan = _plan(request)
    floors = (_FLOOR, _SMALL_FLOOR)
    chains = [Chain((objective,), floor=floor) for floor in floors for objective in ("ce", "mim")]
    phases = [phase for (phase,) in carry_out(chains, plan.seeds, plan.recipe, request)]
    pictures, kinds, claims = {}, [], []
    for floor, ce, mim in zip(floors, phases[::2], phases[1::2], strict=True):
        suffix = "" if floor == _FLOOR else f"-floor-{floor:g}"
        pictures[f"figure9{suffix}"] = panels(
            [("", _side_by_side({"L_{CE}": ce, "L_{MIM}": mim}, tuple(_ROUTES)))],
            f"Standard deviations above {floor:g}; seed {_middle(ce)} with $L_{{CE}}$, "
            f"{_middle(mim)} with $L_{{MIM}}$",
        )
        kinds += [
            _Kind(f"L_CE, floor {floor:g}", ce, _middle(ce)),
            _Kind(f"L_MIM, floor {floor:g}", mim, _middle(mim)),
        ]
        claims += _claims_9(f"floor {floor:g}: ", ce, mim)
    return _reproduction(pictures, kinds, claims, plan)


def _claims_9(where: str, ce: Phase, mim: Phase) -> list[Claim]:
    def both(pair: str) -> tuple[tuple[str, Any], tuple[str, Any]]:
        return ("L_CE", apart(ce.numbers, pair)), ("L_MIM", apart(mim.numbers, pair))

    reconstruction, (prior_ce, prior_mim) = both("reconstruction"), both("prior")
    anchors, (priors_ce, priors_mim) = both("anchors"), both("priors")
    regulariser = lower(
        "R_MIM",
        ("L_MIM", term(mim.numbers, "regulariser")),
        ("L_CE", term(ce.numbers, "regulariser")),
    )
    return [
        close(dict(reconstruction)).of(
            f"{where}reconstructions match the anchors well under both losses"
        ),
        (close(dict([prior_ce])) & lower("D of priors to anchors", prior_ce, prior_mim)).of(
            f"{where}only priors learned with L_CE approximate the anchors well"
        ),
        similar("D of samples from anchors", anchors[0][1], anchors[1][1]).of(
            f"{where}both losses match the opposite anchors similarly well"
        ),
        close(dict([priors_mim])).of(
            f"{where}with L_MIM, q(x) matches the decoder's marginal and p(z) the encoder's"
        ),
        (lower("D of samples from priors", priors_mim, priors_ce) & regulariser).of(
            f"{where}L_CE fails to learn a consistent pair"
        ),
    ]


def figure10(request: Request) -> Reproduction:
    """Figure 10: Gaussian priors, learned or fixed at N(0, 1), with L_MIM (E.3)."""
    plan = _plan(request)
    chains = {
        "(a) q(x), p(z) learned": Chain(("mim",), "normal", "normal", _FLOOR),
        "(b) q(x) learned": Chain(("mim",), "normal", "standard", _FLOOR),
        "(c) p(z) learned": Chain(("mim",), "standard", "normal", _FLOOR),
        "(d) q(x), p(z) fixed": Chain(("mim",), "standard", "standard", _FLOOR),
    }
    done = carry_out(list(chains.values()), plan.seeds, plan.recipe, request)
    phases = dict(zip(chains, [phase for (phase,) in done], strict=True))
    columns = [
        _column(_in_italics(label), phase, "priors", _middle(phase))
        for label, phase in phases.items()
    ]
    seeds = ", ".join(str(_middle(phase)) for phase in phases.values())
    pictures = {
        "figure10": panels([("", columns)], f"Priors are Gaussians, $L_{{MIM}}$; seeds {seeds}")
    }
    kinds = [_Kind(label, phase, _middle(phase)) for label, phase in phases.items()]
    return _reproduction(pictures, kinds, _claims_10(list(phases.values())), plan)


def _claims_10(phases: Sequence[Phase]) -> list[Claim]:
    def against_a(what: str, values: Sequence[Any]) -> Any:
        first, *rest = [(f"({letter})", each) for letter, each in zip("abcd", values, strict=True)]
        found = lower(what, first, rest[0])
        for other in rest[1:]:
            found &= lower(what, first, other)
        return found

    numbers = [phase.numbers for phase in phases]
    sampled = [apart(each, "priors") for each in numbers]
    regulariser = [term(each, "regulariser") for each in numbers]
    model = [term(each, "kl_model") for each in numbers]
    return [
        against_a("D of samples from priors", sampled).of(
            "(a) has the best consistency between priors and generated samples"
        ),
        against_a("R_MIM", regulariser).of(
            "learned priors make encoding and decoding distribution more consistent"
        ),
        against_a("KL(M_S ‖ M_θ)", model).of("learned priors make M_θ more consistent with M_S"),
    ]


def figure11(request: Request) -> Reproduction:
    """Figure 11: L_CE followed by L_MIM, and L_MIM followed by L_CE (E.4)."""
    plan = _plan(request)
    chains = [Chain(("ce", "mim"), floor=_FLOOR), Chain(("mim", "ce"), floor=_FLOOR)]
    (ce, mim_last), (mim, ce_last) = carry_out(chains, plan.seeds, plan.recipe, request)
    routes: tuple[Route, Route] = ("reconstruction", "priors")
    # A row shows one model before and after.
    seeds = [_middle(mim_last), _middle(ce_last)]
    blocks = [
        (
            "(i) $L_{CE}$, then $L_{MIM}$",
            _side_by_side({"L_{CE}": ce, "L_{MIM}": mim_last}, routes, seeds[0]),
        ),
        (
            "(ii) $L_{MIM}$, then $L_{CE}$",
            _side_by_side({"L_{MIM}": mim, "L_{CE}": ce_last}, routes, seeds[1], "efgh"),
        ),
    ]
    title = f"Training continues with the other loss; seed {seeds[0]} in (i), {seeds[1]} in (ii)"
    kinds = [
        _Kind("(i) L_CE", ce, seeds[0]),
        _Kind("(i) then L_MIM", mim_last, seeds[0]),
        _Kind("(ii) L_MIM", mim, seeds[1]),
        _Kind("(ii) then L_CE", ce_last, seeds[1]),
    ]
    pictures = {"figure11": panels(blocks, title)}
    return _reproduction(pictures, kinds, _claims_11(kinds), plan)


def _claims_11(kinds: Sequence[_Kind]) -> list[Claim]:
    ce, mim_last, mim, ce_last = kinds

    def named(kind: _Kind, pair: str) -> tuple[str, Any]:
        return kind.label, apart(kind.phase.numbers, pair)

    def regulariser(kind: _Kind) -> tuple[str, Any]:
        return kind.label, term(kind.phase.numbers, "regulariser")

    sampled, prior = "D of samples from priors", "D of priors to anchors"
    return [
        close(dict(named(kind, "reconstruction") for kind in kinds)).of(
            "all models reconstruct similarly well"
        ),
        (
            close(dict(named(kind, "priors") for kind in (mim, mim_last)))
            & lower(sampled, named(mim_last, "priors"), named(ce, "priors"))
            & lower(sampled, named(mim, "priors"), named(ce_last, "priors"))
        ).of("only models that were last trained with L_MIM are consistent"),
        lower("R_MIM", regulariser(mim), regulariser(ce_last)).of(
            "a consistent model trained further with L_CE loses its consistency"
        ),
        lower("R_MIM", regulariser(mim_last), regulariser(ce)).of(
            "an inconsistent model trained further with L_MIM becomes consistent"
        ),
        (
            lower(prior, named(ce_last, "prior"), named(mim, "prior"))
            & lower(prior, named(ce_last, "prior"), named(mim_last, "prior"))
        ).of("training with L_CE fits priors to anchors better"),
    ]


def _plan(request: Request) -> _Plan:
    count = (3 if request.quick else 10) if request.seeds is None else request.seeds
    if count < 1:
        raise ValueError(f"seeds must be 1 or more, got {count}")
    return _Plan(range(count), Recipe(epochs=8) if request.quick else Recipe())


def _middle(phase: Phase) -> int:
    """The seed with the median R_MIM; the lower of two."""
    order = np.argsort(term(phase.numbers, "regulariser"))
    return int(order[(len(order) - 1) // 2])


def _side_by_side(
    phases: Mapping[str, Phase],
    routes: Sequence[Route],
    seed: int | None = None,
    letters: str = "abcdef",
) -> list[Column]:
    """Columns ordered by route, then by loss."""
    pairs = [(route, loss) for route in routes for loss in phases]
    columns = []
    for letter, (route, loss) in zip(letters, pairs, strict=False):
        shown = _middle(phases[loss]) if seed is None else seed
        title = f"({letter}) ${loss}$, {_ROUTES[route]}"
        columns.append(_column(title, phases[loss], route, shown))
    return columns


def _in_italics(label: str) -> str:
    """A label with densities as formulas."""
    return label.replace("q(x)", "$q(x)$").replace("p(z)", "$p(z)$")


def _column(title: str, phase: Phase, route: Route, seed: int) -> Column:
    model = phase.models[seed]
    return Column(title, model, curves(model), route)


def _reproduction(
    pictures: Mapping[str, Any], kinds: Sequence[_Kind], claims: Sequence[Claim], plan: _Plan
) -> Reproduction:
    results = {
        "seeds": list(plan.seeds),
        "kinds": {
            kind.label: {
                "settings": kind.phase.settings,
                "drawn": kind.drawn,
                "numbers": kind.phase.numbers,
                "epochs": kind.phase.epochs,
            }
            for kind in kinds
        },
        "claims": [claim._asdict() for claim in claims],
    }
    numbers = numbers_table({kind.label: kind.phase.numbers for kind in kinds})
    parts = [_preface(plan), claims_table(claims), numbers]
    return Reproduction(pictures, results, "\n\n".join(parts) + "\n")


def _preface(plan: _Plan) -> str:
    return (
        "The paper gives no numbers for these figures and no settings except the model families, "
        "so both presets are the same. Our choices: "
        f"P(x) = {DATA}; P(z) = {LATENT}; {COMPONENTS} components; "
        f"{' and '.join(map(str, HIDDEN))} hidden units with swish activation; standard deviations "
        f"above a floor and, for conditionals, less than {CEILING:g} above it; {plan.recipe}.\n\n"
        f"Mean ± standard deviation over {len(plan.seeds)} seeds. W₁ is the 1-Wasserstein "
        "distance of two densities, KL is KL(first ‖ second), both computed by quadrature. D is W₁ "
        "in standard deviations of the anchor, averaged over x and z."
    )
