"""Mutation testing of the mathematics: wrong signs, missing factors, swapped terms.

Each mutant is a single change in a temporary copy of the package, tested by the test files listed
with it. A mutant "survives" if all of them pass: either a test is missing, or the mutant is
equivalent, and the list says why. The exit status is 1 if a survivor is not explained.

    python benchmarks/mutation_check.py --out results/mutation-check.txt
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
# A mutant may cause an endless loop; the slowest test file takes half a minute.
TIME_LIMIT = 300


class Mutant(NamedTuple):
    """A replacement of `old` by `new` in a file; `why` it is equivalent, if it is."""

    file: str
    old: str
    new: str
    why: str = ""


# By file: the tests to run, and (old, new) or (old, new, why) for each mutant. The old text must
# occur once in the file.
MUTANTS: dict[str, tuple[list[str], list[tuple[str, ...]]]] = {
    "estimation/refit_prior.py": (
        ["estimation/test_refit_prior.py"],
        [
            ("mean + std * loc, ", "mean - std * loc, "),
            ("std[:, None] * scale_tril", "std * scale_tril"),
            ("return -log_prior(", "return log_prior("),
            (
                "self.after.values - self.before.values",
                "self.before.values - self.after.values",
            ),
        ],
    ),
    "model/objectives.py": (
        ["model/test_objectives.py"],
        [
            # Eq. 8 and 12
            ("return -0.5 * (lp.p_x_given_z + lp.q_z", "return -1.0 * (lp.p_x_given_z + lp.q_z"),
            ("(lp.p_x_given_z + lp.q_z_given_x + _sc", "(lp.p_x_given_z - lp.q_z_given_x + _sc"),
            ("_scaled(lp.q_x + lp.p_z, beta))", "_scaled(lp.q_x, beta) + lp.p_z)"),
            ("_scaled(lp.q_x + lp.p_z, beta))", "_scaled(lp.q_x - lp.p_z, beta))"),
            # Eq. 7
            ("encoding = lp.q_z_given_x + beta * lp.q_x", "encoding = lp.q_z_given_x + lp.q_x"),
            (
                "decoding = lp.p_x_given_z + beta * lp.p_z",
                "decoding = lp.p_x_given_z + beta * lp.q_x",
            ),
            ("math.log(2) - torch.logaddexp", "-torch.logaddexp"),
            (
                "torch.logaddexp(encoding, decoding)",
                "torch.log(encoding.exp() + decoding.exp())",
            ),
            # Eq. 1 and 24
            ("_scaled(lp.q_z_given_x - lp.p_z, beta)", "_scaled(lp.q_z_given_x + lp.p_z, beta)"),
            ("lp.p_z, beta) - lp.p_x_given_z", "lp.p_z, beta) + lp.p_x_given_z"),
            (
                "_scaled(lp.q_z_given_x - lp.p_z, beta) - lp.p_x_given_z",
                "_scaled(lp.q_z_given_x - lp.p_z - lp.p_x_given_z, beta)",
            ),
            ("return vae(lp, beta * self.weight)", "return vae(lp, self.weight)"),
            # E.1
            ("return -(lp.q_z_given_x + lp.q_x)", "return -(lp.p_x_given_z + lp.p_z)"),
            ("return cross_entropy(lp)\n", "return mim(lp)\n"),
            ('return -joint_entropy(lp, "mixture")', 'return joint_entropy(lp, "mixture")'),
            ('return joint_entropy(lp, "encoding")', 'return joint_entropy(lp, "mixture")'),
            ("value + beta * self.regulariser(", "value + self.regulariser("),
            # Definitions of the objectives
            ('\nMIM = Objective(mim, "mixture"', '\nMIM = Objective(mim, "encoding"'),
            ('\nA_MIM = Objective(mim, "encoding"', '\nA_MIM = Objective(mim, "mixture"'),
            ('"encoding", q_x="decoder", ', '"encoding", '),
            (
                'CE = Objective(cross_entropy, "mixture")',
                'CE = Objective(cross_entropy, "encoding")',
            ),
            ('"encoding", _encoding_entropy, ', '"encoding", '),
            (', regulariser_priors="anchors"', ""),
            ('Objective(mim, "mixture", priors="anchors")', 'Objective(mim, "mixture")'),
            ("AUTO_ENCODER = beta_vae(0.0)", "AUTO_ENCODER = beta_vae(1.0)"),
            ("lp = lp._replace(q_x=lp.p_x_given_z)", "lp = lp._replace(q_x=lp.p_z)"),
            ("self.loss(lp.scaled(beta, terms), 1.0)", "self.loss(lp.scaled(beta, terms), beta)"),
        ],
    ),
    "model/loss.py": (
        ["model/test_objectives.py"],
        [
            # Algorithm 1
            ('halves == "sum" else 0.5 * total', 'halves == "sum" else total'),
            ("total = total + self._half(", "total = total - self._half("),
            (
                "anchor = drawn if self.anchor is None else self.anchor()",
                "anchor = drawn",
            ),
            # Released image code
            ("prior = weigh_first(prior, annealing.beta)", "prior = weigh_first(prior, 1.0)"),
            (
                'self.model.decode if self.objective.decoded == "draws"',
                'self.model.decode if self.objective.decoded == "means"',
            ),
            ("sample.score + score)", "sample.score)"),
            ("score=score if sample.score is None", "score=None if sample.score is None"),
            ('q_x=_log_anchor("data_anchor", self.data_anchor, sample.x),', ""),
            ('p_z=_log_anchor("anchor", anchor, sample.z),', ""),
            # REINFORCE, C.2
            ("value + _advantage(value.detach())", "value - _advantage(value.detach())"),
            ("_advantage(value.detach()) * (", "value.detach() * ("),
            (
                "_advantage(value.detach()) * (sample.score - sample.score.detach())",
                "_advantage(value.detach()) * sample.score",
            ),
            (
                "_advantage(value.detach()) * (",
                "_advantage(value) * (",
                "the other factor is zero, so there is no gradient; detaching saves memory",
            ),
            (" * (count / (count - 1))", ""),
            ("(reward - reward.mean())", "(reward + reward.mean())"),
            ("total = (weight * value).sum(0)", "total = value.mean(0)"),
            ("baseline = reward - _advantage(reward)", "baseline = reward.mean()"),
            ("(value.detach() - baseline) *", "(value.detach() + baseline) *"),
            ("total + (weight.detach() * terms).sum(0)", "total + terms.mean(0)"),
            ("total + (weight.detach() * terms).sum(0)", "total"),
        ],
    ),
    "model/joint.py": (
        ["model/test_joint.py", "model/test_objectives.py"],
        [
            # Eq. 23 and Algorithm 2
            ("q_x = p_x_given_z + p_z - q_z_given_x", "q_x = p_x_given_z + p_z + q_z_given_x"),
            ("q_x = p_x_given_z + p_z - q_z_given_x", "q_x = p_x_given_z - q_z_given_x"),
            ("            q_x = p_x_given_z\n", "            q_x = p_x_given_z + p_z\n"),
            (
                'self.data_prior.decoding == "conditional"',
                'self.data_prior.decoding != "conditional"',
            ),
            ("prior, z) - log_q", "prior, z) + log_q"),
            ('log_prob_of_drawn(decoder, x) + _log_prob("prior", prior, z)', "0.0"),
            ("x = decoder.mean.detach()", "x = decoder.mean"),
            ('"decoding", _log_prob("decoder", decoder, x))', '"decoding")'),
            ("x, z = sample.x, sample.second_z", "x, z = sample.x, sample.z"),
            # Samples
            ("if score is None else score + second.score", "if score is None else score"),
            ('"decoding" or q_z_given_x is None', '"encoding" or q_z_given_x is None'),
            ("inner.unflatten(1, outer.shape) * outer", "inner.unflatten(1, outer.shape) * 1.0"),
            ("term: factor * getattr(self, term)", "term: factor + getattr(self, term)"),
        ],
    ),
    "model/priors.py": (
        ["model/test_priors.py", "model/test_objectives.py"],
        [
            ("self.log_scale.exp() + self.floor, self.loc", "self.log_scale.exp(), self.loc"),
            (
                "    with torch.no_grad():\n        return anchor.s",
                "    if True:\n        return anchor.s",
            ),
        ],
    ),
    "model/distributions.py": (
        ["model/test_distributions.py"],
        [
            ("noise, noise, value=0.5)", "noise, noise, value=1.0)"),
            ("addcmul(self.scale.log(), noise", "addcmul(-self.scale.log(), noise"),
            (
                "self._log_density((value - self.loc) / self.scale)",
                "self._log_density((value - self.loc) * self.scale)",
            ),
            (
                "sum_last(log_scale, dims) + 0.5 * self",
                "sum_last(log_scale, dims) - 0.5 * self",
            ),
            (
                "return -0.5 * event_shape.numel() * _LOG_2PI",
                "return -event_shape.numel() * _LOG_2PI",
            ),
            (" - 0.5 * square\n", " - square\n"),
            (
                "self.loc.new_tensor(0.5 * self.event_shape.numel() * (1 + _LOG_2PI))",
                "self.loc.new_tensor(0.5 * self.event_shape.numel() * _LOG_2PI)",
            ),
            (
                "self._log_prob_of_each(value) + self.log_weights, -1)",
                "self._log_prob_of_each(value), -1)",
            ),
            ("self.components.variance + offset.square()", "self.components.variance"),
            ("score = _at(log_weights, index)", "score = 0.0 * _at(log_weights, index)"),
            (
                "            score = log_prob\n",
                "            score = score + _at(each.score, index)\n",
            ),
            ("score = score + _at(each.score, index)", "score = _at(each.score, index)"),
            ("self.log_weights.exp().movedim(-1, 0)", "self.log_weights.movedim(-1, 0)"),
            ("return Draw(value, log_prob, log_prob)", "return Draw(value, log_prob, None)"),
        ],
    ),
    "model/discrete.py": (
        ["model/test_distributions.py"],
        [
            ("value, self.logits, value=-1)", "value, self.logits, value=1)"),
            ("torch.rand_like(probability) < p", "torch.rand_like(probability) > p"),
            ("places[..., :1]).squeeze(-1)", "0 * places[..., :1]).squeeze(-1)"),
            ("torch.where(known, each, -math.inf)", "each"),
            ("torch.where(value == 0, 0.0, self.log_probabilities)", "self.log_probabilities"),
            ("half = 0.5 / (self.levels - 1)", "half = 1.0 / (self.levels - 1)"),
            ("F.logsigmoid(offset + width)", "F.logsigmoid(offset - width)"),
            ("F.logsigmoid(width - offset)", "F.logsigmoid(width + offset)"),
            ("torch.expm1(-2 * width)", "torch.expm1(-width)"),
            (
                "torch.where(bottom, below, torch.where(top",
                "torch.where(top, below, torch.where(bottom",
            ),
            ("edge = (k + 0.5) / ", "edge = k / "),
        ],
    ),
    "estimation/decomposition.py": (
        ["estimation/test_decomposition.py"],
        [
            ("_sum_of_means(0.5 * e.mim, 0.5 * d.mim)", "_sum_of_means(0.5 * e.mim, 0.5 * e.mim)"),
            ("-0.5 * e.q_z_given_x, -0.5 * d.p_x", "-0.5 * d.q_z_given_x, -0.5 * d.p_x"),
            ("_sum_of_means(-d.p_z)", "_sum_of_means(-e.p_z)"),
            ("e.q_z_given_x - e.p_x_given_z - e.p_z)", "e.q_z_given_x - e.p_x_given_z + e.p_z)"),
            ("_sum_of_means(-d.anchor)", "_sum_of_means(d.anchor)"),
            ("_sum_of_means(d.anchor - d.p_z)", "_sum_of_means(e.anchor - e.p_z)"),
            ("e.q_z_given_x + e.data - e.p_x", "e.q_z_given_x - e.data - e.p_x"),
            (
                "d.p_x_given_z + d.anchor - d.q_z_given_x - d.q_x",
                "d.p_x_given_z - d.q_z_given_x - d.q_x",
            ),
            ("_sum_of_means(e.data - e.q_x)", "_sum_of_means(d.data - d.q_x)"),
            ("_sum_of_means(-e.q_x)", "_sum_of_means(-d.q_x)"),
            ("d.p_x_given_z - d.q_z_given_x - d.q_x)", "d.p_x_given_z - d.q_z_given_x + d.q_x)"),
            ("_sum_of_means(-_log_ratio(d))", "_sum_of_means(_log_ratio(d))"),
            ("0.5 * (e.sample_entropy - at_e)", "0.5 * (e.sample_entropy - at_d)"),
            ("(half.cross_entropy - half.sample_entropy)", "(half.mim - half.sample_entropy)"),
            (
                "regulariser = _log_cosh(0.5 * _log_ratio(lp))",
                "regulariser = _log_cosh(_log_ratio(lp))",
            ),
            (
                "lp.q_z_given_x + lp.q_x - lp.p_x_given_z - lp.p_z",
                "lp.q_z_given_x + lp.q_x - lp.p_x_given_z",
            ),
            ("F.softplus(-2 * size)", "F.softplus(-size)"),
            ("-_log_cosh(0.5 * log_ratio)", "_log_cosh(0.5 * log_ratio)"),
            ("largest + math.log(mean.value)", "math.log(mean.value)"),
            ("mean.standard_error / mean.value", "mean.standard_error"),
            ("error = math.hypot(*(", "error = sum(("),
            ('    "kl_encoding": 0.25,', '    "kl_encoding": 0.5,'),
            ('    "vae_loss": 0.25,', '    "vae_loss": 0.5,'),
        ],
    ),
    "estimation/codes/aggregate.py": (
        ["estimation/codes/test_aggregate.py"],
        [
            ("(-ratio.log() + 0.5", "(ratio.log() + 0.5"),
            ("offset.square() - 1)", "offset.square())"),
            ("ratio.square() + offset.square()", "ratio.square() - offset.square()"),
            ("values = (offset / width).double()", "values = offset.double()"),
            (
                "from_prior[rows, None] + from_prior - of_prior",
                "from_prior[rows, None] + from_prior",
            ),
            ("kernel -= torch.cdist", "kernel -= 2 * torch.cdist"),
            ("kernel[torch.arange(len(rows)), rows] = 0", ""),
            ("value = float(sums.mean()) / others", "value = float(sums.mean()) / count"),
            ("others - value**2)", "others)"),
            ("(4 * (count - 2) * first", "((count - 2) * first"),
            ("first + 2 * of_pairs)", "first)"),
            ("(of_means * others - noise)", "(of_means * others)"),
            ("value / of_prior, math.sqrt(variance) / of_prior", "value, math.sqrt(variance)"),
            ("2 * math.exp(float(gammaln", "math.exp(float(gammaln"),
            ("square * t / (1 + 2 * t)", "square * t / (1 + t)"),
            ("dimensions / 2 * np.log1p", "dimensions * np.log1p"),
        ],
    ),
    "estimation/two_samples/energy.py": (
        ["estimation/two_samples/test_energy.py", "estimation/two_samples/test_units.py"],
        [
            ("(2 * between.mean - of_x.mean) / unit", "(between.mean - of_x.mean) / unit"),
            ("return Estimate(ratio - 1,", "return Estimate(ratio,"),
            ("distances[torch.arange(len(block)), block] = 0", "pass"),
            ("n, m = len(x) - same, len(others) - same", "n, m = len(x), len(others)"),
            ("(count - 1) / (count - 2) if", "1.0 if"),
            ("(n - 2) * float(of_rows @ of_rows)", "(n - 1) * float(of_rows @ of_rows)"),
            ("(n * (n - 3) / 2)", "(n * (n - 1) / 2)"),
            ("/ ((n - 1) * (m - 1))", "/ (n * m)"),
            ("squares - 2 * (x * (weights @ y))", "squares - (x * (weights @ y))"),
            ("of_units -= _square", "of_units += _square"),
            ("4 * between.pair_variance, 4 * of_x", "4 * between.pair_variance, 0 * of_x"),
            ("2 * x_effects - 2 * of_x", "2 * x_effects - of_x"),
            ("2 * y_effects - 2 * ratio * of_y", "2 * y_effects - 2 * of_y"),
            ("y_rows += on_units", "y_rows -= on_units"),
            ("first -= (1 - concentration", "first += (1 - concentration"),
            ("math.sqrt(max(0.0, first) + second)", "math.sqrt(max(0.0, first))"),
        ],
    ),
    "estimation/two_samples/distances.py": (
        ["estimation/two_samples/test_energy.py"],
        [("between.mean(1, keepdim=True) + between.mean()", "between.mean(1, keepdim=True)")],
    ),
    "estimation/two_samples/classifier.py": (
        ["estimation/two_samples/test_classifier.py"],
        [
            (
                "(ranks[: len(x)] - rankdata(x)) / len(y)",
                "(ranks[: len(x)] - rankdata(x)) / len(x)",
            ),
            ("above = 1 - (", "above = ("),
            ("[each for each in folds if each != k]", "folds"),
            ("float(of_given) / _FOLDS**2", "float(of_given) / _FOLDS"),
            ("order = random.permutation(len(points))[:most]", "order = np.arange(len(points))"),
            ("0.5 / smallest", "0.0"),
            ("part - part.mean() for part in each", "part for part in each"),
        ],
    ),
    "estimation/codes/nearest.py": (
        ["estimation/codes/test_nearest.py"],
        [
            ("itself[:, -1] |= ~itself.any(1)", "itself[:, -1] |= True"),
            (".sort(dim=1, stable=True)", ".sort(dim=1, descending=True)"),
            ("candidates.sort(1).values", "candidates"),
            ("farthest >= bounds", "farthest < -bounds.abs()"),
            ("(values[:, -1].double() - error)", "(values[:, -1].double() + error)"),
        ],
    ),
    "estimation/codes/probes.py": (
        ["estimation/codes/test_probes.py"],
        [
            ("1 / (penalty * len(points))", "1 / penalty"),
            ("max(1.0, scatter / expected)", "1.0"),
            ("int(np.argmax(found))", "int(np.argmin(found))"),
            ("votes.argmax(1)", "votes.argmin(1)"),
            ("(points - centre) / width, (", "points - centre, ("),
            ("nearest_others(points, k)", "nearest(points, points, k)"),
        ],
    ),
    "estimation/estimate.py": (
        ["estimation/codes/test_probes.py"],
        [
            ("(share * count + 2) / (count + 4)", "share"),
            ("more * (1 - more) / (count + 4)", "more * (1 - more)"),
        ],
    ),
    "estimation/likelihood/hamiltonian.py": (
        ["estimation/likelihood/test_hamiltonian.py"],
        [
            ("self.base + torch.where(beta > 0, beta", "self.base - torch.where(beta > 0, beta"),
            ("torch.where(beta > 0, beta * self.ratio, 0.0)", "self.ratio"),
            ("self.base_gradient, factor, self", "-self.base_gradient, factor, self"),
            ("torch.addcmul(self.base_gradient, factor,", "torch.add(self.base_gradient,"),
            ("finite & ~log.isnan(), log, -torch.inf)", "finite, log, -torch.inf)"),
            ("finite & ~log.isnan(), log, -torch.inf)", "~log.isnan(), log, -torch.inf)"),
            ("momentum + 0.5 * step * point", "momentum + step * point"),
            ("momentum + share * step * point", "momentum - share * step * point"),
            ("num_steps - 1 else 0.5", "num_steps - 1 else 1.0"),
            ("point.z + step * momentum)", "point.z - step * momentum)"),
            ("2 * torch.rand_like(point.base) - 1", "2 * torch.rand_like(point.base) + 1"),
            ("+ _kinetic(momentum) - _kinetic(last)", "- _kinetic(momentum) + _kinetic(last)"),
            ("+ _kinetic(momentum) - _kinetic(last)", ""),
            ("gain = end.log_density(beta) - point", "gain = -point"),
            ("torch.rand_like(probability) < prob", "0 * probability < prob"),
            ("return end.where(accepted, point)", "return point.where(accepted, end)"),
            ("    return 0.5 * (squares", "    return 1.0 * (squares"),
        ],
    ),
    "estimation/likelihood/importance.py": (
        ["estimation/likelihood/test_annealed.py", "estimation/likelihood/test_importance.py"],
        [
            ("- torch.logsumexp(2 * log_weights, 0)", "- torch.logsumexp(log_weights, 0)"),
            ("/ (samples - 1 if samples > 1", "/ (samples if samples > 1"),
            ("return total - math.log(samples)", "return total"),
        ],
    ),
    "estimation/likelihood/annealed.py": (
        ["estimation/likelihood/test_annealed.py"],
        [
            ("return log_prior, log_p\n", "return log_prior, log_p + log_prior\n"),
            ("log_p + log_prior - log_start", "log_p + log_prior + log_start"),
            ("log_p + log_prior - log_start", "log_p - log_start"),
            ("beta + stride, beta **", "beta + 100 * stride, beta **"),
            ("moved = beta - left", "moved = left - beta"),
            ("((number - 1, number), (number, number - 1))", "((number, number + 1),) * 2"),
            (
                "path.log_densities, point, beta, step, settings.num_leapfrog\n            )\n"
                "            window",
                "path.log_densities, point, left, step, settings.num_leapfrog"
                "\n            )\n            window",
            ),
            ("(value if exact is None else -value)", "value"),
            ("self.upper.values - self.lower.values", "self.lower.values - self.upper.values"),
            ("torch.hypot(self.lower", "torch.add(self.lower"),
            ("log_size + _GAIN *", "log_size - _GAIN *"),
            ("low.lerp(high, part", "low.lerp(high, 2 + part"),
        ],
    ),
    "model/hierarchy.py": (
        ["model/test_hierarchy.py", "model/test_objectives.py"],
        [
            ("log_prob_of_a + log_prob_of_b, score", "log_prob_of_a, score"),
            ("torch.stack(scores).sum(0) if", "scores[0].detach() if"),
            ("self.first.log_prob(a) + self._given", "self._given"),
            ("math.pi / size * steps", "math.pi / (size + 1) * steps"),
            ("waves[1:] *= math.sqrt(2)", "waves[1:] *= 1.0"),
            ("within + means.var", "means.var"),
            ("Chain(self.first(), Bound(self.second)", "Chain(self.first(), self.second"),
            ("torch.stack([a + step, a - step])", "torch.stack([a + step, a + step])"),
            ("return self.weight * log_prob", "return log_prob"),
            ("return Chain(_Weighed(prior.first", "return Chain(_Weighed(prior"),
        ],
    ),
    "model/networks.py": (
        ["model/test_networks.py"],
        [
            ("value * torch.sigmoid(gate)", "value * torch.tanh(gate)"),
            ("self.value.weight[:, -rest.shape[-1] :]", "self.value.weight[:, : rest.shape[-1]]"),
            (
                "self.taps = [*above, *((0, column) for column in range(-reach, centre))]",
                "self.taps = [*above, *((0, column) for column in range(-reach, 1))]",
            ),
            ("F.pad(input, (reach, reach, reach, 0))", "F.pad(input, (reach, reach, 0, reach))"),
            ("[:, :, : input.shape[2]]", "[:, :, -input.shape[2] :]"),
            ("images.movedim(1, 3).reshape", "images.reshape"),
            (
                "torch.cat([self.value.weight, self.gate.weight])",
                "torch.cat([self.gate.weight, self.value.weight])",
            ),
            ("nn.init.kaiming_normal_(part.weight)", "nn.init.xavier_normal_(part.weight)"),
        ],
    ),
    "model/pixelcnn.py": (
        ["model/test_pixelcnn.py"],
        [
            ("centre=False)", "centre=True)"),
            (
                "across, slope = width + 2 * reach, reach + 1",
                "across, slope = width + 2 * reach, reach",
            ),
            ("self._log_prob(value, running=True)", "self._log_prob(value, running=False)"),
            ("running = running or not self.training", "running = not self.training"),
            ("self.norm.bias - mean * scale", "self.norm.bias"),
            ("variance + self.norm.eps", "variance"),
            ("torch.addcmul(convolved, context, scale.to(convolved.dtype))", "convolved + context"),
            ("self.scale * context", "context"),
            ('if self.condition == "earlier":', 'if self.condition != "earlier":'),
            ("weight = weight * convolution.mask", "weight = 0 * weight"),
        ],
    ),
    "model/pixel_likelihoods.py": (
        ["model/test_pixel_likelihoods.py"],
        [
            ("location.sigmoid(), torch.exp", "location, torch.exp"),
            ("torch.exp(F.hardtanh(log_scale, *self.log_scale))", "torch.exp(log_scale)"),
        ],
    ),
    "model/architectures.py": (
        ["model/test_architectures.py"],
        [
            (
                "torch.cat([self.of_z1(z1), self.of_z2(z2)], -1))",
                "torch.cat([self.of_z2(z2), self.of_z1(z1)], -1))",
            ),
            ("channels, (7, 5))", "channels, (5, 7))"),
            ("channels, (3, 3))", "channels, (5, 3))"),
            ("for _ in range(3)),", "for _ in range(2)),"),
            ("features, latents[0], log_variance)", "features, latents[0])"),
            ("VampPrior(encoder, pseudo_inputs, constraint)", "VampPrior(encoder, pseudo_inputs)"),
            ("    he_initialise(model)\n", ""),
        ],
    ),
}


def mutants() -> list[Mutant]:
    """All mutants; exits with an error if an old text does not occur exactly once."""
    listed = [Mutant(file, *change) for file, (_, changes) in MUTANTS.items() for change in changes]
    for mutant in listed:
        count = (ROOT / "mimachine" / mutant.file).read_text().count(mutant.old)
        if count != 1:
            raise SystemExit(f"{mutant.file} contains {mutant.old!r} {count} times, not once")
        if mutant.old == mutant.new:
            raise SystemExit(f"{mutant.file}: {mutant.old!r} is not changed")
    return listed


def copy_of_package(folder: Path) -> Path:
    """Copy everything that the tests need."""
    for name in ("mimachine", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def run_tests(folder: Path, tests: list[str]) -> subprocess.CompletedProcess[str] | None:
    """Run tests against a copy until the first failure; None if they time out."""
    # Python identifies compiled files by size and time, which two versions may share.
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    paths = [f"tests/{name}" for name in tests]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *paths]
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def check(mutant: Mutant, folder: Path) -> str | None:
    """The first test that fails, or None for a survivor."""
    file = folder / "mimachine" / mutant.file
    original = file.read_text()
    file.write_text(original.replace(mutant.old, mutant.new))
    try:
        done = run_tests(folder, MUTANTS[mutant.file][0])
    finally:
        file.write_text(original)
    if done is None:
        return f"timeout after {TIME_LIMIT} s"
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+?)(?:\[| |$)", done.stdout, re.MULTILINE)
    # A mutant that cannot be imported does not test the tests.
    if done.returncode != 1 or failed is None:
        raise SystemExit(f"{mutant} broke the run:\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}")
    return failed[1]


def shown(mutant: Mutant) -> list[str]:
    """Format the change in one or two lines."""
    old, new = (" ".join(text.split()) for text in (mutant.old, mutant.new))
    both = f"{old}  ->  {new or '(nothing)'}"
    return [both] if len(both) <= 90 else [old, f"  ->  {new}"]


def checked(chosen: list[Mutant], jobs: int) -> list[tuple[str | None, float]]:
    """For each mutant the first failed test, or None, and the seconds taken."""
    with tempfile.TemporaryDirectory() as temporary:
        folders: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(jobs):
            folders.put(copy_of_package(Path(temporary) / str(number)))

        # Check that all tests pass without a change, and that they import the copy.
        folder = folders.get()
        (folder / "tests" / "test_copy.py").write_text(
            "import mimachine\n\n\ndef test_copy():\n"
            f"    assert mimachine.__file__.startswith({str(folder)!r})\n"
        )
        used = sorted({test for m in chosen for test in MUTANTS[m.file][0]})
        unchanged = run_tests(folder, ["test_copy.py", *used])
        if unchanged is None or unchanged.returncode:
            raise SystemExit(f"tests fail unchanged:\n{unchanged and unchanged.stdout[-3000:]}")
        folders.put(folder)

        def one(mutant: Mutant) -> tuple[str | None, float]:
            folder, start = folders.get(), time.monotonic()
            try:
                return check(mutant, folder), time.monotonic() - start
            finally:
                folders.put(folder)
                print(".", end="", flush=True, file=sys.stderr)

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, chosen))


def summary(chosen: list[Mutant], results: list[tuple[str | None, float]]) -> tuple[list[str], int]:
    """The table, and the number of unexplained mutants."""
    lines = ["python benchmarks/mutation_check.py --out results/mutation-check.txt"]
    unexplained = equivalent = 0
    file = ""
    for mutant, (failed, seconds) in zip(chosen, results, strict=True):
        if mutant.file != file:
            file = mutant.file
            lines += ["", f"{file}, by {' and '.join(MUTANTS[file][0])}", ""]
        lines += [f"  {line}" for line in shown(mutant)]
        if failed is not None:
            verdict = f"caught by {failed}"
            if mutant.why:
                verdict, unexplained = f"{verdict}, but said to be equivalent", unexplained + 1
        elif mutant.why:
            verdict, equivalent = f"SURVIVED, equivalent: {mutant.why}", equivalent + 1
        else:
            verdict, unexplained = "SURVIVED", unexplained + 1
        lines.append(f"      {verdict} ({seconds:.0f} s)")
    caught = sum(failed is not None for failed, _ in results)
    lines.insert(
        1,
        f"{len(chosen)} mutants: {caught} caught, {equivalent} survived as equivalent, "
        f"{unexplained} not explained",
    )
    return lines, unexplained


def main() -> None:
    """Run all mutants and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--file", choices=MUTANTS, help="only mutants of this file")
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs")
    arguments = parser.parse_args()
    chosen = [m for m in mutants() if arguments.file in (None, m.file)]
    lines, unexplained = summary(chosen, checked(chosen, arguments.jobs))
    print(file=sys.stderr)
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")
    sys.exit(bool(unexplained))


if __name__ == "__main__":
    main()
