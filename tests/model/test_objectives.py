"""Objectives against the identities of the paper, on models with known answers."""

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import (
    Discrete,
    LinearGaussian,
    Normal,
    Unconditional,
    discrete,
    entropy,
    expectation,
    gaussian,
    gaussian_cross_entropy,
    gaussian_entropy,
    gaussian_kl,
    kl,
    within_standard_errors,
)
from torch import nn
from torch.distributions import Bernoulli, Distribution, Independent
from torch.func import functional_call, grad, vmap

import mimachine as mm
from mimachine.experiment.presets import published_image_training
from mimachine.model.discrete import Bernoulli as OurBernoulli
from mimachine.model.discrete import Categorical, OneHotCategorical
from mimachine.model.distributions import Mixture, draw
from mimachine.model.objectives import OBJECTIVES

pytestmark = pytest.mark.usefixtures("double")

consistent = pytest.mark.parametrize(
    "oracle",
    [LinearGaussian.consistent(1, 1, 0), LinearGaussian.consistent(4, 2, 1)],
    ids=["1-1", "4-2"],
)


def close(actual, expected):
    # Sums of some ten float64 terms of order one: rounding stays far below 1e-10.
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=1e-10, atol=1e-10)


def table(oracle):
    return mm.LogProbs(*oracle.log_tables())


def model_of(oracle, data_prior="explicit"):
    encoder, decoder, prior, q_x, _ = oracle.modules()
    return mm.Joint(encoder, decoder, prior, q_x if data_prior == "explicit" else data_prior)


def halves(oracle, loss, data_prior="explicit"):
    """Exact expectations of a loss that is quadratic in (x, z), on the two halves of M_S."""
    model, split = model_of(oracle, data_prior), len(oracle.b)
    result = []
    for source, joint in (("encoding", oracle.encoding), ("decoding", oracle.decoding)):
        points = joint.sigma_points()
        sample = mm.Sample(points[:, :split], points[:, split:], source)
        result.append(loss(model.log_probs(sample)).mean().detach())
    return result


def random_log_probs(num=200, scale=3.0):
    return mm.LogProbs(*(scale * torch.randn(4, num)))


# Identities of the paper, by summation over small tables


@discrete
def test_eq_6_jensen_shannon_divergence_and_entropies_make_the_sample_entropy(oracle):
    anchored = oracle.with_anchors_as_priors()
    value = expectation(oracle.M_S, mm.cross_entropy(table(anchored)))
    close(value, oracle.jsd() + oracle.r_h())
    close(value, entropy(oracle.M_S))


@discrete
def test_eq_7_cross_entropy_is_the_sample_entropy_and_a_divergence(oracle):
    value = expectation(oracle.M_S, mm.cross_entropy(table(oracle)))
    close(value, kl(oracle.M_S, oracle.M_theta) + entropy(oracle.M_S))
    assert value > entropy(oracle.M_S)


@discrete
def test_eq_9_and_10_mim_is_cross_entropy_and_the_regulariser(oracle):
    lp = table(oracle)
    cross_entropy = expectation(oracle.M_S, mm.cross_entropy(lp))
    close(expectation(oracle.M_S, mm.mim(lp)), cross_entropy + oracle.r_mim())
    assert oracle.r_mim() > 0


@pytest.mark.parametrize("seed", range(3))
def test_eq_10_the_regulariser_is_zero_on_a_consistent_model(seed):
    oracle = Discrete.consistent(3, 4, seed)
    close(mm.MIM_H(table(oracle)), torch.zeros(3, 4))
    close(expectation(oracle.M_S, mm.mim(table(oracle))), entropy(oracle.M_S))


def eq_11(oracle, joint_kl, marginal_kl, entropy_terms, factor):
    divergences = (
        marginal_kl(oracle.P_z, oracle.p_z)
        + marginal_kl(oracle.P_x, oracle.q_x)
        + joint_kl(oracle.encoding, oracle.p)
        + joint_kl(oracle.decoding, oracle.q)
    )
    return entropy_terms + factor * divergences


@discrete
def test_eq_11_holds_with_a_quarter_of_the_divergences_and_not_with_a_half(oracle):
    value = expectation(oracle.M_S, mm.mim(table(oracle)))
    close(value, eq_11(oracle, kl, kl, oracle.r_h(), 0.25))
    # The divergences of random tables are of order one, so a wrong factor shows.
    assert (value - eq_11(oracle, kl, kl, oracle.r_h(), 0.5)).abs() > 0.01


@gaussian
def test_eq_11_holds_for_densities(oracle):
    r_h = 0.5 * (gaussian_entropy(oracle.decoding) + gaussian_entropy(oracle.encoding))
    divergences = (
        gaussian_kl(oracle.anchor, oracle.p_z)
        + gaussian_kl(oracle.data, oracle.q_x)
        + gaussian_kl(oracle.encoding, oracle.p)
        + gaussian_kl(oracle.decoding, oracle.q)
    )
    value = sum(halves(oracle, mm.mim)) / 2
    close(value, r_h + divergences / 4)
    assert (value - (r_h + divergences / 2)).abs() > 0.01


@discrete
def test_eq_13_and_26_the_vae_minimises_a_one_sided_divergence(oracle):
    oracle = oracle.with_anchors_as_priors()
    lp, variational = table(oracle), oracle.encoding
    bound = expectation(variational, mm.mim(lp)) - entropy(variational)
    vae_loss = expectation(variational, mm.vae(lp))
    close(bound, 0.5 * (vae_loss - entropy(oracle.P_x)))
    close(bound, 0.5 * kl(oracle.encoding, oracle.decoding))


@gaussian
def test_eq_13_and_26_hold_for_densities(oracle):
    oracle = oracle.with_anchors_as_priors()
    bound = halves(oracle, mm.mim)[0] - gaussian_entropy(oracle.encoding)
    vae_loss = halves(oracle, mm.vae)[0]
    close(bound, 0.5 * (vae_loss - gaussian_entropy(oracle.data)))
    close(bound, 0.5 * gaussian_kl(oracle.encoding, oracle.decoding))


@pytest.mark.parametrize("seed", range(3))
def test_eq_14_self_correcting_gradient(seed):
    torch.manual_seed(seed)
    lp = mm.LogProbs(*torch.randn(4, 50).requires_grad_())
    q, p = (lp.q_z_given_x + lp.q_x).exp(), (lp.p_x_given_z + lp.p_z).exp()

    def gradient(value):
        return torch.stack(torch.autograd.grad(value.sum(), lp, retain_graph=True))

    fixed_q, fixed_p = q.detach(), p.detach()
    correction = (fixed_p / fixed_q - 1) * q + (fixed_q / fixed_p - 1) * p
    correction = 0.5 * correction / (fixed_q + fixed_p)
    close(gradient(-mm.mim(lp)), gradient(-mm.cross_entropy(lp)) + gradient(correction))


@discrete
def test_eq_15_mim_is_the_loss_of_the_geometric_mean(oracle):
    loss = mm.mim(table(oracle))
    partition = (-loss).exp().sum()
    close(partition, oracle.partition())
    assert partition < 1
    normalised = (oracle.q * oracle.p).sqrt() / oracle.partition()
    value = expectation(oracle.M_S, -normalised.log())
    close(value, expectation(oracle.M_S, loss) + oracle.partition().log())


@discrete
def test_eq_21_the_jensen_shannon_divergence_is_below_half_the_symmetric_one(oracle):
    lp = table(oracle.with_anchors_as_priors())
    half_skl = expectation(oracle.M_S, mm.mim(lp)) - oracle.r_h()
    jsd = expectation(oracle.M_S, mm.cross_entropy(lp)) - oracle.r_h()
    close(half_skl, 0.5 * oracle.skl())
    close(jsd, oracle.jsd())
    assert 0 < jsd < half_skl


@discrete
def test_appendix_b_mim_with_the_anchors_as_priors_is_the_symmetric_divergence(oracle):
    value = expectation(oracle.M_S, mm.mim(table(oracle.with_anchors_as_priors())))
    close(value, 0.5 * oracle.skl() + oracle.r_h())
    divergences = 0.5 * (kl(oracle.M_S, oracle.encoding) + kl(oracle.M_S, oracle.decoding))
    close(value, divergences + entropy(oracle.M_S))


@discrete
def test_appendix_b_whatever_the_model_priors(oracle):
    anchored = table(oracle.with_anchors_as_priors())
    value = expectation(oracle.M_S, mm.SYMMETRIC_KL(table(oracle), at_anchors=anchored))
    close(value, 0.5 * oracle.skl() + oracle.r_h())
    divergences = 0.5 * (kl(oracle.M_S, oracle.encoding) + kl(oracle.M_S, oracle.decoding))
    close(value, divergences + entropy(oracle.M_S))
    # Eq. 21, with the mean entropy on both sides: JSD + R_H = H(M_S).
    close(oracle.jsd() + oracle.r_h(), entropy(oracle.M_S))
    assert value > entropy(oracle.M_S)


def cross_entropy_of_halves(oracle, model):
    """H(M_S, model) for a normal model."""
    halves = (oracle.encoding, oracle.decoding)
    return sum(gaussian_cross_entropy(half, model) for half in halves) / 2


@gaussian
def test_appendix_b_holds_for_densities(oracle):
    entropies = [gaussian_entropy(half) for half in (oracle.encoding, oracle.decoding)]
    divergences = (
        gaussian_kl(oracle.encoding, oracle.decoding),
        gaussian_kl(oracle.decoding, oracle.encoding),
    )
    # SKL contains another factor ½.
    expected = 0.25 * sum(divergences) + 0.5 * sum(entropies)
    to_anchors = [cross_entropy_of_halves(oracle, m) for m in (oracle.encoding, oracle.decoding)]
    close(0.5 * sum(to_anchors), expected)
    encoder, decoder, prior, q_x, anchor = oracle.modules()
    model = mm.Joint(encoder, decoder, prior, q_x)
    loss = mm.Loss(model, mm.SYMMETRIC_KL, anchor, data_anchor=Unconditional(oracle.data))
    x = Unconditional(oracle.data)().sample((20_000,))
    within_standard_errors(loss(x).detach(), expected)


@discrete
def test_mim_less_the_true_entropy_is_the_regulariser_and_a_divergence(oracle):
    lp, anchored = table(oracle), table(oracle.with_anchors_as_priors())
    true = expectation(oracle.M_S, mm.MIM_H_TRUE(lp, at_anchors=anchored))
    close(true, expectation(oracle.M_S, mm.mim(lp)) - entropy(oracle.M_S))
    published = expectation(oracle.M_S, mm.MIM_H(lp))
    close(published, oracle.r_mim())
    close(true - published, kl(oracle.M_S, oracle.M_theta))
    assert true > published > 0


@pytest.mark.parametrize("seed", range(3))
def test_mim_less_the_true_entropy_is_zero_on_a_consistent_model(seed):
    oracle = Discrete.consistent(3, 4, seed)
    close(mm.MIM_H_TRUE(table(oracle), at_anchors=table(oracle)), torch.zeros(3, 4))


@consistent
def test_objectives_of_the_anchors_know_their_values_on_a_consistent_model(oracle):
    encoder, decoder, prior, q_x, anchor = oracle.modules()
    model = mm.Joint(encoder, decoder, prior, q_x)
    x = Unconditional(oracle.data)().sample((20_000,))
    loss = mm.Loss(model, mm.MIM_H_TRUE, anchor, data_anchor=Unconditional(oracle.data))
    close(loss(x).detach(), torch.zeros(20_000))
    loss = mm.Loss(model, mm.SYMMETRIC_KL, anchor, data_anchor=Unconditional(oracle.data))
    within_standard_errors(loss(x).detach(), gaussian_entropy(oracle.p))


@discrete
def test_mim_bounds_the_marginal_entropies_less_the_mutual_information(oracle):
    bound = entropy(oracle.M_S.sum(1)) + entropy(oracle.M_S.sum(0))
    bound = bound - oracle.mutual_information(oracle.M_S)
    assert expectation(oracle.M_S, mm.mim(table(oracle))) > bound
    assert expectation(oracle.M_S, mm.mim(table(oracle.with_marginal()))) > bound


@gaussian
def test_mim_is_the_mean_of_four_cross_entropies(oracle):
    encoding, decoding = halves(oracle, mm.mim)
    for half, joint in ((encoding, oracle.encoding), (decoding, oracle.decoding)):
        to_q, to_p = (gaussian_cross_entropy(joint, model) for model in (oracle.q, oracle.p))
        close(half, 0.5 * (to_q + to_p))


@consistent
def test_all_joint_losses_are_the_joint_entropy_on_a_consistent_model(oracle):
    joint_entropy = gaussian_entropy(oracle.p)
    for loss in (mm.mim, mm.cross_entropy, lambda lp: mm.joint_entropy(lp, "encoding")):
        for half in halves(oracle, loss):
            close(half, joint_entropy)


@gaussian
def test_learned_priors_end_at_the_marginals_of_the_sample_distribution(oracle):
    # With fixed anchors priors learn by Eq. 8 alone, H(M_S, p) and H(M_S, q): a normal one has its
    # optimum at the mean and the variances of M_S, which is half the anchor and half the codes.
    model, split = model_of(oracle), len(oracle.b)
    mean = 0.5 * (oracle.encoding.mean + oracle.decoding.mean)
    second = [j.covariance.diagonal() + j.mean.square() for j in (oracle.encoding, oracle.decoding)]
    std = (0.5 * sum(second) - mean.square()).sqrt()
    for part, rows in (("data_prior", slice(split)), ("prior", slice(split, None))):
        learned = mm.LearnedNormal(len(mean[rows]), floor=0.0)
        with torch.no_grad():
            learned.loc.copy_(mean[rows])
            learned.log_scale.copy_(std[rows].log())
        setattr(model, part, learned)

    def loss():
        total = 0.0
        for source, half in (("encoding", oracle.encoding), ("decoding", oracle.decoding)):
            points = half.sigma_points()
            sample = mm.Sample(points[:, :split], points[:, split:], source)
            total = total + 0.5 * mm.mim(model.log_probs(sample)).mean()
        return total

    parameters = [*model.prior.parameters(), *model.data_prior.parameters()]
    for gradient in torch.autograd.grad(loss(), parameters):
        close(gradient, torch.zeros_like(gradient))
    at_optimum = loss()
    with torch.no_grad():
        model.prior.loc.add_(0.1)
    assert loss() > at_optimum


def test_mim_is_above_cross_entropy_at_every_sample():
    lp = random_log_probs()
    assert (mm.mim(lp) > mm.cross_entropy(lp)).all()
    same = lp._replace(q_x=lp.p_x_given_z + lp.p_z - lp.q_z_given_x)
    close(mm.mim(same), mm.cross_entropy(same))


def test_cross_entropy_survives_where_densities_overflow():
    lp = random_log_probs()
    for shift in (1e4, -1e4):
        lp32 = mm.LogProbs(*(term.float() for term in lp))
        shifted = lp32._replace(q_x=lp32.q_x + shift, p_z=lp32.p_z + shift)
        # Float32 resolves 1e4 to 1e-3.
        torch.testing.assert_close(
            mm.cross_entropy(shifted) + shift, mm.cross_entropy(lp32), rtol=0, atol=5e-3
        )


# The marginal of the decoder as q(x), Eq. 23 and Algorithm 2


@consistent
def test_algorithm_2_encoding_half_is_the_joint_entropy(oracle):
    encoding, _ = halves(oracle, mm.mim, mm.Marginal("conditional"))
    close(encoding, gaussian_entropy(oracle.p))


@consistent
def test_algorithm_2_decoding_half_falls_short_by_half_the_mutual_information(oracle):
    _, decoding = halves(oracle, mm.mim, mm.Marginal("conditional"))
    information = oracle.mutual_information(oracle.p)
    assert information > 0.1
    close(decoding, gaussian_entropy(oracle.p) - 0.5 * information)


@consistent
def test_importance_sampled_marginal_leaves_no_gap_under_the_exact_posterior(oracle):
    model, anchor = model_of(oracle, mm.Marginal("importance")), Unconditional(oracle.anchor)
    sample = model.decode(anchor().sample((50,)))
    close(model.log_probs(sample).q_x, oracle.marginal().log_prob(sample.x))
    sample = model.encode(Unconditional(oracle.data)().sample((50,)))
    close(model.log_probs(sample).q_x, oracle.marginal().log_prob(sample.x))


@gaussian
def test_importance_sampled_marginal_errs_by_the_divergence_to_the_posterior(oracle):
    model = model_of(oracle, mm.Marginal("importance"))
    x = Unconditional(oracle.data)().sample((1,))
    weight, bias, covariance = oracle.posterior()
    posterior = Normal(weight @ x[0] + bias, covariance)
    encoder = Normal(oracle.A @ x[0] + oracle.a, oracle.s_q.square().diag())
    expected = oracle.marginal().log_prob(x)[0] - gaussian_kl(encoder, posterior)

    second_z = encoder.sigma_points()
    x = x.expand(len(second_z), -1)
    sample = mm.Sample(x, torch.zeros_like(second_z), "decoding", second_z=second_z)
    close(model.log_probs(sample).q_x.mean().detach(), expected)


@gaussian
def test_a_mim_with_the_marginal_is_the_vae_loss_plus_the_encoder_entropy(oracle):
    value, _ = halves(oracle, mm.A_MIM, mm.Marginal())
    close(value, oracle.vae_loss() + oracle.encoder_entropy())


@gaussian
def test_cross_entropy_equals_mim_on_the_encoding_half_under_the_marginal(oracle):
    model = model_of(oracle, mm.Marginal())
    lp = model.log_probs(model.encode(Unconditional(oracle.data)().sample((50,))))
    close(mm.cross_entropy(lp), mm.mim(lp))
    close(mm.MIM_H(lp), torch.zeros(50))


# The other objectives


@gaussian
def test_vae_loss_is_reconstruction_plus_divergence(oracle):
    close(halves(oracle, mm.VAE)[0], oracle.vae_loss())


@gaussian
def test_auto_encoder_is_the_reconstruction_term(oracle):
    # H(p(x|z)) under the encoding joint: H(encoding, p) minus the term of the prior.
    latents = oracle.encoding.part(slice(len(oracle.b), None))
    reconstruction = gaussian_cross_entropy(oracle.encoding, oracle.p)
    reconstruction = reconstruction - gaussian_cross_entropy(latents, oracle.p_z)
    close(halves(oracle, mm.AUTO_ENCODER)[0], reconstruction)


@gaussian
@pytest.mark.parametrize("weight", [0.0, 0.5, 4.0])
def test_beta_vae_weights_the_divergence(oracle, weight):
    reconstruction, total = halves(oracle, mm.AUTO_ENCODER)[0], oracle.vae_loss()
    expected = reconstruction + weight * (total - reconstruction)
    close(halves(oracle, mm.beta_vae(weight))[0], expected)


@gaussian
def test_vae_with_entropy_adds_the_cross_entropy_of_the_encoding_joint(oracle):
    expected = oracle.vae_loss() + gaussian_cross_entropy(oracle.encoding, oracle.q)
    close(halves(oracle, mm.VAE_H)[0], expected)


@discrete
def test_mim_without_entropy_is_the_regulariser_of_eq_10(oracle):
    value = mm.MIM_H(table(oracle))
    close(expectation(oracle.M_S, value), oracle.r_mim())
    assert (value > 0).all()


@discrete
def test_joint_entropy_terms_bound_the_entropies_they_stand_for(oracle):
    encoding = expectation(oracle.encoding, mm.joint_entropy(table(oracle), "encoding"))
    close(encoding, entropy(oracle.encoding) + kl(oracle.encoding, oracle.q))
    mixture = expectation(oracle.M_S, mm.joint_entropy(table(oracle), "mixture"))
    close(mixture, entropy(oracle.M_S) + kl(oracle.M_S, oracle.M_theta))


def test_one_sample_form_is_mim_where_the_prior_of_data_equals_the_likelihood():
    lp = random_log_probs()
    expected = -(lp.p_x_given_z + 0.5 * (lp.q_z_given_x + lp.p_z))
    close(mm.A_MIM_ONE_SAMPLE(lp), expected)
    close(mm.A_MIM_ONE_SAMPLE(lp), mm.mim(lp._replace(q_x=lp.p_x_given_z)))
    close(mm.A_MIM_ONE_SAMPLE(lp._replace(q_x=torch.full_like(lp.q_x, torch.nan))), expected)


def test_a_mim_is_a_regularised_auto_encoder():
    """With the decoder's marginal as q(x), and for one sample if the width is constant."""
    encoder = mm.Gaussian(mm.MLP(3, 2, (8,)), scale=0.05)
    decoder = mm.Gaussian(mm.MLP(2, 6, (8,)))
    x = torch.randn(50, 3)
    for a_mim, weight, prior in (
        (mm.A_MIM, 1.0, mm.Marginal("conditional")),
        (mm.A_MIM, 1.0, mm.Marginal("importance")),
        (mm.A_MIM_ONE_SAMPLE, 0.5, mm.Marginal("conditional")),
    ):
        model = mm.Joint(encoder, decoder, mm.StandardNormal(2), prior)
        found = []
        for objective in (a_mim, mm.rae(weight)):
            torch.manual_seed(0)
            loss = mm.Loss(model, objective)(x)
            gradient = torch.autograd.grad(loss.mean(), [*model.parameters()])
            found.append((loss, gradient))
        (one, gradient), (other, same) = found
        # log q(z|x) at a draw is a constant minus half of the squared noise.
        noise = one - other if a_mim is mm.A_MIM_ONE_SAMPLE else torch.zeros(50)
        close(one, other + noise)
        for left, right in zip(gradient, same, strict=True):
            close(left, right)
    # The penalty of a standard normal prior.
    lp = random_log_probs()
    close(mm.RAE(lp), -lp.p_x_given_z - lp.p_z)
    close(mm.rae(0.3)(lp, 0.5), -lp.p_x_given_z - 0.15 * lp.p_z)
    assert mm.rae(0.0)(lp).equal(mm.AUTO_ENCODER(lp))


def test_one_sample_form_rewards_tight_posteriors():
    lp = mm.LogProbs(*torch.zeros(4, 5).requires_grad_())
    for loss, slope in ((mm.A_MIM_ONE_SAMPLE, -0.5), (mm.VAE, 1.0)):
        close(torch.autograd.grad(loss(lp).sum(), lp.q_z_given_x)[0], torch.full((5,), slope))


def test_objectives_sample_where_the_paper_says():
    decoding = {name for name, objective in OBJECTIVES.items() if objective.sampling == "mixture"}
    assert decoding == {"mim", "mim-of-means", "ce", "mim-h", "mim-h-true", "symmetric-kl"}
    assert mm.beta_vae(2.0).sampling == "encoding"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.beta_vae(-1.0), "weight must be 0 or more, got -1"),
        (lambda: mm.beta_vae(math.nan), "weight must be 0 or more, got nan"),
        (lambda: mm.Objective(mm.mim, "both"), "sampling must be .* got 'both'"),
        (lambda: mm.Objective(mm.mim, "mixture", q_x="data"), "q_x must be .* got 'data'"),
        (lambda: mm.joint_entropy(random_log_probs(), "all"), "of must be .* got 'all'"),
        (lambda: mm.Objective(mm.mim, "mixture", priors="data"), "priors must be .* got 'data'"),
        (
            lambda: mm.Objective(mm.mim, "mixture", regulariser_priors="data"),
            "regulariser_priors must be .* got 'data'",
        ),
        (
            lambda: mm.Objective(mm.mim, "mixture", q_x="decoder", priors="anchors"),
            'q_x must be "model" if the anchors',
        ),
        (lambda: mm.SYMMETRIC_KL(random_log_probs()), "at_anchors must be given"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_objectives_reject_what_they_do_not_know(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Warm-up, Eq. 12


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_eq_12_warm_up_weighs_the_priors(beta):
    lp = random_log_probs()
    conditionals, priors = lp.p_x_given_z + lp.q_z_given_x, lp.q_x + lp.p_z
    for objective in (mm.MIM, mm.A_MIM):
        close(objective(lp, beta), -0.5 * (conditionals + beta * priors))
    close(
        mm.CE(lp, beta),
        -torch.log(
            0.5 * lp.q_z_given_x.exp() * lp.q_x.exp() ** beta
            + 0.5 * lp.p_x_given_z.exp() * lp.p_z.exp() ** beta
        ),
    )
    one_sample = lp.p_x_given_z + lp.q_z_given_x + beta * (lp.p_x_given_z + lp.p_z)
    close(mm.A_MIM_ONE_SAMPLE(lp, beta), -0.5 * one_sample)
    close(mm.VAE(lp, beta), -lp.p_x_given_z + beta * (lp.q_z_given_x - lp.p_z))
    close(mm.beta_vae(4.0)(lp, beta), mm.VAE(lp, 4 * beta))
    close(mm.AUTO_ENCODER(lp, beta), -lp.p_x_given_z)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_warm_up_weighs_the_regulariser(beta):
    lp = random_log_probs()
    close(mm.VAE_H(lp, beta), mm.vae(lp, beta) + beta * mm.joint_entropy(lp, "encoding"))
    close(mm.MIM_H(lp, beta), mm.mim(lp, beta) - beta * mm.cross_entropy(lp))


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_warm_up_weighs_the_anchors_where_they_are_the_priors(beta):
    lp, anchored = random_log_probs(), random_log_probs()
    anchored = anchored._replace(q_z_given_x=lp.q_z_given_x, p_x_given_z=lp.p_x_given_z)
    close(mm.SYMMETRIC_KL(lp, beta, at_anchors=anchored), mm.mim(anchored, beta))
    close(
        mm.MIM_H_TRUE(lp, beta, at_anchors=anchored),
        mm.mim(lp, beta) - beta * mm.cross_entropy(anchored),
    )
    terms = ("q_z_given_x", "q_x")
    close(
        mm.SYMMETRIC_KL(lp, beta, terms, anchored),
        mm.MIM(anchored, beta, terms),
    )


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_published_warm_up_weighs_the_encoding_log_probabilities(beta):
    lp = random_log_probs()
    encoding, decoding = lp.q_z_given_x + lp.q_x, lp.p_x_given_z + lp.p_z
    close(mm.MIM(lp, beta, ("q_z_given_x", "q_x")), -0.5 * (beta * encoding + decoding))


@pytest.mark.parametrize("name", ["mim", "a-mim", "ce", "a-mim-one-sample"])
def test_the_terms_of_eq_12_are_what_objectives_weigh_by_themselves(name):
    lp, objective = random_log_probs(), OBJECTIVES[name]
    close(objective(lp, 0.3, ("q_x", "p_z")), objective(lp, 0.3))


@pytest.mark.parametrize("name", ["vae", "vae+h", "auto-encoder"])
def test_the_terms_of_the_divergence_are_what_vaes_weigh_by_themselves(name):
    lp, objective = random_log_probs(), OBJECTIVES[name]
    close(objective(lp, 0.3, ("q_z_given_x", "p_z")), objective(lp, 0.3))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_placement_of_the_warm_up_does_not_matter_at_its_end(name):
    lp, objective = random_log_probs(), OBJECTIVES[name]
    other = lp._replace(q_x=lp.q_x + 1, p_z=lp.p_z - 2)
    for terms in (("q_z_given_x", "q_x"), ("q_z_given_x", "q_x", "p_x_given_z", "p_z"), ()):
        close(objective(lp, 1.0, terms, other), objective(lp, at_anchors=other))


def small_model(data_prior=None, prior=None):
    encoder = mm.Gaussian(mm.MLP(2, 2 * 3, hidden=(4,)))
    decoder = mm.Gaussian(mm.MLP(3, 2 * 2, hidden=(4,)))
    prior = mm.LearnedNormal(3) if prior is None else prior
    if isinstance(prior, mm.LearnedNormal):
        nn.init.normal_(prior.loc)
        nn.init.normal_(prior.log_scale, std=0.3)
    return mm.Joint(encoder, decoder, prior, data_prior)


def same_noise(loss, x, *args):
    torch.manual_seed(5)
    return loss(x, *args)


@pytest.mark.parametrize("terms", [None, ("q_z_given_x", "q_x")])
@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_loss_is_the_mean_of_one_encoding_and_one_decoding_sample_for_each_datum(beta, terms):
    model, x = small_model(), torch.randn(6, 2)
    value = same_noise(mm.Loss(model, mm.MIM), x, mm.Annealing(beta, terms))

    def by_hand(x):
        encoding = model.log_probs(model.encode(x))
        decoding = model.log_probs(model.decode(model.prior().sample((6,))))
        return mm.MIM(encoding, beta, terms), mm.MIM(decoding, beta, terms)

    encoding, decoding = same_noise(by_hand, x)
    assert value.shape == (6,)
    close(value, 0.5 * (encoding + decoding))
    close(same_noise(mm.Loss(model, mm.A_MIM), x, mm.Annealing(beta, terms)), encoding)


def test_halves_are_averaged_or_summed():
    loss, x = mm.Loss(small_model(), mm.MIM), torch.randn(6, 2)
    total = same_noise(loss, x, mm.Annealing(0.3, halves="sum"))
    close(same_noise(loss, x, mm.Annealing(0.3, halves="mean")), total / 2)
    close(same_noise(loss, x, 0.3), total / 2)


def test_without_decoding_samples_the_encoding_half_stands_alone():
    model, x = small_model(), torch.randn(6, 2)
    encoding = same_noise(mm.Loss(model, mm.A_MIM), x, 0.3)
    for how in ("mean", "sum"):
        annealing = mm.Annealing(0.3, decoding=False, halves=how)
        close(same_noise(mm.Loss(model, mm.MIM), x, annealing), encoding)


def test_encoding_objectives_take_no_decoding_samples():
    model, x = small_model(), torch.randn(6, 2)

    class NoAnchor(nn.Module):
        def forward(self):
            raise AssertionError("the anchor was asked for")

    for name, objective in OBJECTIVES.items():
        loss = mm.Loss(model, objective, anchor=NoAnchor(), data_anchor=mm.StandardNormal(2))
        if objective.sampling == "encoding":
            close(same_noise(loss, x), objective(model.log_probs(same_noise(model.encode, x))))
        else:
            with pytest.raises(AssertionError, match="anchor was asked"):
                loss(x)
            if not objective.anchored:
                assert loss(x, mm.Annealing(0.5, decoding=False)).shape == (6,), name


def test_published_warm_up_takes_decoding_samples_only_at_its_end():
    loss, x = mm.Loss(small_model(), mm.MIM), torch.randn(6, 2)
    warmup = mm.Warmup(3, ("q_z_given_x", "q_x"), decoding="after", halves="sum")
    alone = same_noise(mm.Loss(loss.model, mm.A_MIM), x, mm.Annealing(2 / 3, warmup.terms))
    close(same_noise(loss, x, warmup.at(2)), alone)
    close(same_noise(loss, x, warmup.at(3)), 2 * same_noise(loss, x))


# Densities at the anchors


class OnlySamples:
    def __init__(self, distribution):
        self.distribution = distribution

    def sample(self, shape):
        return self.distribution.sample(shape)


class WithoutDensity(OnlySamples, Distribution):
    def __init__(self, distribution):
        Distribution.__init__(self, (), distribution.event_shape, validate_args=False)
        self.distribution = distribution


@pytest.mark.parametrize("name", ["mim-h-true", "symmetric-kl"])
def test_a_density_that_is_needed_and_not_there_is_named(name):
    model, objective, x = small_model(), OBJECTIVES[name], torch.randn(4, 2)
    normal = mm.StandardNormal
    with pytest.raises(ValueError, match=r"data_anchor must give P\(x\)"):
        mm.Loss(model, objective)
    with pytest.raises(TypeError, match=r"data_anchor must be callable.*StandardNormal.*Fixed"):
        mm.Loss(model, objective, data_anchor=normal(2)())
    for hidden in (OnlySamples, WithoutDensity):
        message = f"must give a distribution that can be evaluated.*{hidden.__name__}"
        with pytest.raises(TypeError, match=f"^data_anchor {message}"):
            mm.Loss(model, objective, data_anchor=lambda hidden=hidden: hidden(normal(2)()))(x)
        loss = mm.Loss(
            model, objective, lambda hidden=hidden: hidden(normal(3)()), data_anchor=normal(2)
        )
        with pytest.raises(TypeError, match=f"^anchor {message}"):
            loss(x)
    with pytest.raises(ValueError, match=r"^data_anchor gives events of shape \(3,\)"):
        mm.Loss(model, objective, data_anchor=normal(3))(x)
    batch = mm.DiagNormal(torch.zeros(4, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"^data_anchor must give .* batch shape \(\)"):
        mm.Loss(model, objective, data_anchor=lambda: batch)(x)


def test_other_objectives_never_look_at_a_density_of_an_anchor():
    x = torch.randn(4, 2)
    for name, objective in OBJECTIVES.items():
        if not objective.anchored and objective.latents == "fixed":
            anchors = (lambda: OnlySamples(mm.StandardNormal(3)()), lambda: OnlySamples(None))
            loss = mm.Loss(small_model(), objective, anchors[0], data_anchor=anchors[1])
            assert loss(x).isfinite().all(), name


def test_no_gradient_reaches_an_anchor_of_many_models_at_once():
    model = small_model(prior=mm.GaussianMixture(3, 4))
    loss = mm.Loss(model, mm.SYMMETRIC_KL, data_anchor=mm.LearnedNormal(2))
    gradients = repeated_gradients(loss, torch.randn(5, 2), 3)
    for name, gradient in gradients.items():
        assert (gradient == 0).all() == ("prior" in name or "data_anchor" in name), name


# Monte Carlo estimates by `Loss`, both halves drawn by the model


@gaussian
def test_loss_estimates_mim_without_bias(oracle):
    encoder, decoder, prior, q_x, anchor = oracle.modules()
    x = Unconditional(oracle.data)().sample((20_000,))
    expected = sum(halves(oracle, mm.mim)) / 2
    model = mm.Joint(encoder, decoder, prior, q_x)
    within_standard_errors(mm.Loss(model, mm.MIM, anchor)(x).detach(), expected)


@gaussian
def test_the_default_anchor_is_the_model_prior(oracle):
    x = Unconditional(oracle.data)().sample((20_000,))
    anchored = replace(oracle, anchor=oracle.p_z)
    expected = sum(halves(anchored, mm.mim)) / 2
    within_standard_errors(mm.Loss(model_of(oracle), mm.MIM)(x).detach(), expected)


def test_an_anchor_need_not_be_evaluated():
    oracle = LinearGaussian.random(3, 2, 1)
    x = Unconditional(oracle.data)().sample((20_000,))
    loss = mm.Loss(
        model_of(oracle), mm.MIM, anchor=lambda: OnlySamples(Unconditional(oracle.anchor)())
    )
    within_standard_errors(loss(x).detach(), sum(halves(oracle, mm.mim)) / 2)


@pytest.mark.parametrize("num", [(2, 3), (5, 2)])
def test_loss_estimates_mim_and_cross_entropy_of_discrete_models(num):
    oracle = Discrete.random(*num, seed=1)
    encoder, decoder, prior, q_x, anchor = oracle.modules()
    model = mm.Joint(encoder, decoder, prior, q_x)
    x = torch.multinomial(oracle.P_x, 20_000, replacement=True)[:, None]
    for objective in (mm.MIM, mm.CE, mm.MIM_H):
        expected = expectation(oracle.M_S, objective(table(oracle)))
        within_standard_errors(mm.Loss(model, objective, anchor)(x).detach(), expected)


# Gradients


def finite_difference(loss, x, *args):
    """Directional derivative by central differences, and by autograd."""
    step = 1e-5
    parameters = [p for p in loss.parameters() if p.requires_grad]
    direction = [torch.randn_like(p) for p in parameters]
    gradient = torch.autograd.grad(same_noise(loss, x, *args).mean(), parameters, allow_unused=True)
    by_autograd = sum(
        (g * d).sum() for g, d in zip(gradient, direction, strict=True) if g is not None
    )
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(sign * step * d)
            values.append(same_noise(loss, x, *args).mean())
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(sign * step * d)
    return by_autograd, (values[0] - values[1]) / (2 * step)


def assert_gradient_is_the_derivative(loss, x, *args):
    for _ in range(3):
        by_autograd, by_difference = finite_difference(loss, x, *args)
        # Truncation is of order step² = 1e-10 times a third derivative, rounding of order
        # 1e-16 |loss| / step = 1e-9.
        torch.testing.assert_close(by_autograd, by_difference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"mim-of-means"}))
@pytest.mark.parametrize("data_prior", ["explicit", "conditional", "importance"])
def test_gradient_is_the_derivative_of_the_loss(name, data_prior):
    q_x = mm.GaussianMixture(2, 3) if data_prior == "explicit" else mm.Marginal(data_prior)
    loss = mm.Loss(
        small_model(q_x),
        OBJECTIVES[name],
        anchor=mm.StandardNormal(3),
        data_anchor=mm.GaussianMixture(2, 3).requires_grad_(False),
    )
    assert_gradient_is_the_derivative(loss, torch.randn(5, 2))
    assert_gradient_is_the_derivative(loss, torch.randn(5, 2), 0.4)


def test_gradient_is_the_derivative_with_a_vamp_prior():
    model = small_model()
    model.prior = mm.VampPrior(model.encoder, torch.randn(4, 2))
    loss = mm.Loss(model, mm.MIM, anchor=mm.StandardNormal(3))
    assert_gradient_is_the_derivative(loss, torch.randn(5, 2))


@pytest.mark.parametrize("data_prior", ["conditional", "importance"])
@pytest.mark.parametrize("name", ["mim", "mim-h-true", "symmetric-kl"])
def test_the_default_anchor_is_held_fixed_in_the_gradient(name, data_prior):
    model, x = small_model(mm.Marginal(data_prior)), torch.randn(5, 2)
    frozen = copy.deepcopy(model.prior).requires_grad_(False)
    gradients = []
    for anchor in (None, frozen):
        loss = mm.Loss(model, OBJECTIVES[name], anchor, data_anchor=mm.StandardNormal(2))
        value = same_noise(loss, x).mean()
        gradients.append(
            torch.autograd.grad(value, list(model.parameters()), materialize_grads=True)
        )
    for default, fixed in zip(*gradients, strict=True):
        close(default, fixed)


def repeated_gradients(loss, x, repeats):
    """Gradients of the mean loss over the batch, one per repeat with separate noise."""
    parameters = {name: p.detach() for name, p in loss.named_parameters()}

    def value(parameters, x):
        return functional_call(loss, parameters, (x,)).mean()

    x = x.expand(repeats, *x.shape)
    return vmap(grad(value), in_dims=(None, 0), randomness="different")(parameters, x)


def discrete_objective(objective, oracle, data_prior):
    """Expected loss by enumeration, with the anchors held fixed."""
    q_zx, q_x, p_xz, p_z = oracle.log_tables()
    ratio = p_xz + p_z - q_zx
    on_encoding = q_x if data_prior == "explicit" else ratio
    lp = mm.LogProbs(q_zx, on_encoding, p_xz, p_z)
    anchored = table(oracle.with_anchors_as_priors())
    value = expectation(oracle.encoding, objective(lp, at_anchors=anchored))
    if objective.sampling == "encoding":
        return value
    weight = oracle.decoding
    if data_prior == "importance":
        # Over x, z and the second latent that estimates q(x).
        lp = mm.LogProbs(q_zx[:, :, None], ratio[:, None, :], p_xz[:, :, None], p_z[:, :, None])
        anchored = mm.LogProbs(*(term[:, :, None] for term in anchored))
        weight = weight[:, :, None] * oracle.q_zx[:, None, :]
    else:
        lp = lp._replace(q_x=q_x if data_prior == "explicit" else p_xz)
    return 0.5 * (value + expectation(weight, objective(lp, at_anchors=anchored)))


class Lookup(nn.Module):
    """Logits of one category given another, as a number in (B, 1) or one-hot in (B, K)."""

    def __init__(self, table):
        super().__init__()
        self.logits = nn.Parameter(table.log())

    def forward(self, condition):
        if condition.shape[1] == 1:
            return self.logits[condition[:, 0].long()]
        return condition @ self.logits


class NumberPrior(nn.Module):
    """Learned distribution of category numbers; a table (K,) is for a single value."""

    def __init__(self, table):
        super().__init__()
        self.logits = nn.Parameter(table.log())

    def forward(self):
        return Categorical(self.logits.reshape(-1, self.logits.shape[-1]))


def discrete_parts(oracle, family):
    """Encoder, decoder, prior, data prior, anchor: torch's categories, or ours with z one-hot."""
    if family == "torch":
        return oracle.modules()
    num_x, num_z = oracle.encoding.shape
    prior = mm.LearnedOneHot(num_z)
    with torch.no_grad():
        prior.logits.copy_(oracle.p_z.log())
    return (
        mm.OneHotCategorical(Lookup(oracle.q_zx), num_z),
        mm.Categorical(Lookup(oracle.p_xz), num_x),
        prior,
        NumberPrior(oracle.q_x),
        mm.Fixed(OneHotCategorical(oracle.P_z.log())),
    )


@pytest.mark.parametrize("family", ["torch", "ours"])
@pytest.mark.parametrize(
    ("name", "data_prior"),
    [
        ("mim", "explicit"),
        ("mim", "conditional"),
        ("mim", "importance"),
        ("ce", "explicit"),
        ("vae", "conditional"),
        ("a-mim", "explicit"),
        ("a-mim", "conditional"),
        ("vae+h", "explicit"),
        ("symmetric-kl", "conditional"),
        ("mim-h-true", "explicit"),
        ("mim-h-true", "importance"),
    ],
)
def test_score_function_gradient_is_unbiased_on_discrete_models(name, data_prior, family):
    oracle, objective = Discrete.random(4, 3, seed=3), OBJECTIVES[name]
    encoder, decoder, prior, q_x, anchor = discrete_parts(oracle, family)
    explicit = data_prior == "explicit"
    model = mm.Joint(encoder, decoder, prior, q_x if explicit else mm.Marginal(data_prior))
    data_anchor = NumberPrior(torch.full((4,), 0.25))
    loss = mm.Loss(model, objective, anchor, data_anchor=data_anchor)

    logits = {
        part: getattr(module, "network", module).logits
        for part, module in (("q_zx", encoder), ("p_xz", decoder), ("p_z", prior), ("q_x", q_x))
    }
    tables = {part: parameter.softmax(-1) for part, parameter in logits.items()}
    differentiable = Discrete(P_x=torch.full((4,), 0.25), P_z=oracle.P_z, **tables)
    value = discrete_objective(objective, differentiable, data_prior)
    exact = torch.autograd.grad(value, list(logits.values()), materialize_grads=True)

    # A batch with each x once makes the mean over data exact; being small, it would show a
    # baseline that is not independent of its own sample.
    x = torch.arange(4)[:, None]
    estimates = repeated_gradients(loss, x if family == "torch" else x.double(), 20_000)
    names = {id(parameter): path for path, parameter in loss.named_parameters()}
    for parameter, expected in zip(logits.values(), exact, strict=True):
        if id(parameter) in names:
            within_standard_errors(estimates.pop(names[id(parameter)]), expected)
    # The other parameters are those of the anchors, which are fixed.
    assert all("anchor" in path and (g == 0).all() for path, g in estimates.items())


class BernoulliPrior(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(size))

    def forward(self):
        return Independent(Bernoulli(logits=self.logits, validate_args=False), 1)


def pixels_model(data_prior, pixels=2, prior=None):
    q_x = BernoulliPrior(pixels) if data_prior == "explicit" else mm.Marginal(data_prior)
    encoder = mm.Gaussian(mm.MLP(pixels, 2, hidden=(3,)))
    decoder = mm.Bernoulli(mm.MLP(1, pixels, hidden=(3,)))
    prior = mm.StandardNormal(1) if prior is None else prior
    return mm.Joint(encoder, decoder, prior, q_x)


def prior_nodes(prior, nodes, weights):
    """Quadrature nodes and weights for the latent of a normal prior or a mixture of normals."""
    components = prior.components if isinstance(prior, Mixture) else prior
    log_weights = prior.log_weights if isinstance(prior, Mixture) else torch.zeros(1)
    z = components.mean.reshape(-1, 1) + components.stddev.reshape(-1, 1) * nodes
    return z.reshape(-1, 1), (log_weights.exp()[:, None] * weights).flatten()


def pixels_loss(model, objective, x):
    """Expected loss over the images x, latents integrated by Gauss-Hermite quadrature."""
    nodes, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(40))
    weights = weights / weights.sum()

    def encoded(x):
        """Latents for each row of x at each node, (len(x) * 40, 1), with repeated x."""
        x = x.repeat_interleave(len(nodes), 0)
        posterior = model.encoder(x)
        return x, posterior.loc + posterior.scale * nodes.repeat(len(x) // len(nodes))[:, None]

    rows, z = encoded(x)
    values = objective(model.log_probs(mm.Sample(rows, z, "encoding")))
    encoding = (values.reshape(len(x), -1) @ weights).mean()

    z, chance_of_z = prior_nodes(model.prior(), nodes, weights)
    if objective.latents == "fixed":
        z, chance_of_z = z.detach(), chance_of_z.detach()
    if objective.decoded == "means":
        rows, chance = model.decoder(z).mean.detach(), chance_of_z
    else:
        rows = x.repeat(len(z), 1)
        z, chance_of_z = (part.repeat_interleave(len(x), 0) for part in (z, chance_of_z))
        chance = chance_of_z * model.decoder(z).log_prob(rows).exp()
    if model.data_prior == mm.Marginal("importance"):
        z = z.repeat_interleave(len(nodes), 0)
        chance = (chance[:, None] * weights).flatten()
        rows, second_z = encoded(rows)
        sample = mm.Sample(rows, z, "decoding", second_z=second_z)
    else:
        sample = mm.Sample(rows, z, "decoding")
    return 0.5 * (encoding + chance @ objective(model.log_probs(sample)))


@pytest.mark.parametrize(
    ("name", "data_prior"),
    [("mim", "conditional"), ("mim", "importance"), ("ce", "explicit"), ("mim-h", "explicit")],
)
def test_score_function_gradient_is_unbiased_with_binary_pixels(name, data_prior):
    model, objective = pixels_model(data_prior), OBJECTIVES[name]
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    names, parameters = zip(*model.named_parameters(), strict=True)
    exact = torch.autograd.grad(pixels_loss(model, objective, x), parameters)
    estimates = repeated_gradients(mm.Loss(model, objective), x, 10_000)
    for part, expected in zip(names, exact, strict=True):
        within_standard_errors(estimates[f"model.{part}"], expected)


@pytest.mark.parametrize("prior", [mm.LearnedNormal, mm.GaussianMixture])
@pytest.mark.parametrize("data_prior", ["conditional", "importance"])
def test_gradient_through_reparameterised_latents_is_unbiased(data_prior, prior):
    model = pixels_model(data_prior, prior=prior(1))
    objective = mm.Objective(mm.mim, "mixture", latents="reparameterised")
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    names, parameters = zip(*model.named_parameters(), strict=True)
    exact = torch.autograd.grad(pixels_loss(model, objective, x), parameters)
    fixed = torch.autograd.grad(pixels_loss(model, mm.MIM, x), parameters)
    estimates = repeated_gradients(mm.Loss(model, objective), x, 10_000)
    for part, expected, other in zip(names, exact, fixed, strict=True):
        within_standard_errors(estimates[f"model.{part}"], expected)
        # The encoder sees the same samples; the prior is drawn along.
        assert torch.allclose(expected, other) == ("prior" not in part), part


@pytest.mark.parametrize("data_prior", ["conditional", "importance"])
def test_gradient_of_a_prior_whose_latents_are_decoded_to_means_is_unbiased(data_prior):
    model = pixels_model(data_prior, prior=mm.GaussianMixture(1, 2))
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    exact = torch.autograd.grad(
        pixels_loss(model, mm.MIM_OF_MEANS, x), list(model.prior.parameters())
    )
    estimates = repeated_gradients(mm.Loss(model, mm.MIM_OF_MEANS), x, 10_000)
    for (name, _), expected in zip(model.prior.named_parameters(), exact, strict=True):
        within_standard_errors(estimates[f"model.prior.{name}"], expected)


def decoding_half(model, objective, x):
    """Twice the contribution of the decoding half to a loss."""
    model_loss = mm.Loss(model, objective)
    encoding = same_noise(model_loss, x, mm.Annealing(decoding=False))
    return same_noise(model_loss, x, mm.Annealing(halves="sum")) - encoding


@pytest.mark.parametrize("prior", [mm.StandardNormal, mm.LearnedNormal])
def test_means_of_binary_pixels_leave_the_decoder_without_gradient(prior):
    model = pixels_model("conditional", 5, prior(1))
    x = torch.rand(200, 5).round()
    value = decoding_half(model, mm.MIM_OF_MEANS, x)
    value.sum().backward()
    for parameter in model.decoder.parameters():
        assert parameter.grad.abs().max() < 1e-10
    assert all(p.grad.abs().max() > 1e-3 for p in model.encoder.parameters())
    assert all(p.grad.abs().max() > 1e-3 for p in model.prior.parameters())

    # With draws it is not zero, and nor is its mean: these are two objectives.
    model.zero_grad()
    decoding_half(model, mm.MIM, x).sum().backward()
    assert all(p.grad.abs().max() > 1e-1 for p in model.decoder.parameters())


@pytest.mark.parametrize("vampprior", [False, True])
def test_the_decoding_half_of_means_is_that_of_the_released_code(vampprior):
    pseudo_inputs = torch.rand(3, 1, 4, 4) if vampprior else None
    model = mm.hvae((1, 4, 4), pseudo_inputs, latents=(2, 3), hidden=6)
    x = torch.rand(8, 1, 4, 4).round()

    def by_hand(x):
        model.encode(x)
        # One draw per row, and no other noise, which a compiler would leave out.
        z = draw(model.prior(), (len(x),)).value
        pixels = model.decoder(z)
        mean = pixels.mean
        encoder, prior = model.encoder(mean), model.prior()
        z2, z1 = z.split([2, 3], -1)
        log_q = encoder.first.log_prob(z2) + encoder.second(z2).log_prob(z1)
        log_p = prior.first.log_prob(z2) + prior.second(z2).log_prob(z1)
        return -0.5 * (2 * pixels.log_prob(mean) + log_p + log_q)

    close(decoding_half(model, mm.MIM_OF_MEANS, x), same_noise(by_hand, x))


def test_decoded_means_are_scored_as_they_are():
    model = pixels_model("conditional", 5)
    z = torch.randn(7, 1)
    sample = model.decode_mean(z)
    p = torch.sigmoid(model.decoder.network(z))
    close(sample.x, p)
    # Minus the entropy of the pixels.
    close(sample.log_prob, (p * p.log() + (1 - p) * (1 - p).log()).sum(-1))
    assert sample.score is None
    assert not sample.x.requires_grad
    lp = model.log_probs(sample)
    close(lp.q_x, sample.log_prob)
    close(lp.q_z_given_x, model.encoder(p).log_prob(z))
    second = replaced_prior(model, mm.Marginal("importance")).decode_mean(z)
    assert second.second_z.shape == (7, 1)


def replaced_prior(model, data_prior):
    return mm.Joint(model.encoder, model.decoder, model.prior, data_prior)


def test_means_and_reparameterised_latents_need_parts_that_have_them():
    model = pixels_model("conditional", 5)
    anchor = mm.Loss(model, mm.MIM_OF_MEANS, lambda: OnlySamples(mm.StandardNormal(1)()))
    with pytest.raises(TypeError, match=r"anchor must give a distribution.*got OnlySamples"):
        anchor(torch.zeros(3, 5))
    image = mm.pixel_hvae((1, 4, 4), latents=(2, 2), hidden=4, channels=2, layers=2)
    with pytest.raises(TypeError, match=r"decoder must give .* mean.*AutoregressiveImage has none"):
        mm.Loss(image, mm.MIM_OF_MEANS)(torch.zeros(3, 1, 4, 4))
    for name in ("decoded", "latents"):
        with pytest.raises(ValueError, match=f"{name} must be .* got 'both'"):
            mm.Objective(mm.mim, "mixture", **{name: "both"})


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_released_warm_up_of_images_weighs_the_first_latent_wherever_it_stands(beta):
    model = mm.hvae((1, 4, 4), torch.rand(3, 1, 4, 4), latents=(2, 3), hidden=6)
    x = torch.rand(8, 1, 4, 4).round()
    annealing = published_image_training("a-mim").annealing.at(round(100 * beta))
    assert annealing.beta == beta

    def by_hand(x):
        z = model.encode(x).z
        z2, z1 = z.split([2, 3], -1)
        first, second = model.prior().first, model.prior().second
        log_p = model.decoder(z).log_prob(x) + second(z2).log_prob(z1)
        return log_p, first.log_prob(z2)

    # The encoder's density cancels.
    log_p, log_first = same_noise(by_hand, x)
    expected = -(1 + beta) / 2 * (log_p + beta * log_first)
    close(same_noise(mm.Loss(model, mm.A_MIM), x, annealing), expected)
    # For a prior without hierarchy it is the whole log-density.
    flat = small_model()
    x, first = torch.randn(5, 2), mm.Annealing(beta, (), first_latent=True)
    close(
        same_noise(mm.Loss(flat, mm.VAE), x, first),
        same_noise(mm.Loss(flat, mm.VAE), x, mm.Annealing(beta, ("p_z",))),
    )


def test_leave_one_out_baseline_lowers_the_variance():
    # With 20 pixels the loss is far from zero, and the baseline subtracts this offset.
    loss = mm.Loss(pixels_model("conditional", 20), mm.MIM)
    # A single row has no others to compare with; eight such steps use as many samples.
    alone = repeated_gradients(loss, torch.ones(1, 20), 4_000)
    together = repeated_gradients(loss, torch.ones(8, 20), 4_000)
    for name, _ in loss.model.decoder.named_parameters():
        name = f"model.decoder.{name}"
        assert together[name].var(0).sum() < 0.5 * alone[name].var(0).sum() / 8


def test_leave_one_out_baseline_leaves_the_value_unchanged():
    model = pixels_model("conditional")
    x = torch.ones(6, 2)
    value = same_noise(mm.Loss(model, mm.MIM), x)

    def by_hand(x):
        encoding = mm.mim(model.log_probs(model.encode(x)))
        return encoding, mm.mim(model.log_probs(model.decode(model.prior().sample((6,)))))

    close(value, sum(same_noise(by_hand, x)) / 2)


# Mixtures as encoder or decoder: one component drawn, or a sum over all of them


class BernoulliMixture(nn.Module):
    """Two components of independent binary pixels; their draws have scores."""

    def __init__(self, features, pixels):
        super().__init__()
        self.network = mm.MLP(features, 2 + 2 * pixels, hidden=(3,))

    def forward(self, condition):
        logits, pixels = self.network(condition).tensor_split([2], -1)
        return mm.Mixture(logits, OurBernoulli(2 * pixels.unflatten(-1, (2, -1))))


def mixture_density(features, events):
    network = mm.MLP(features, 2 * (1 + 2 * events), hidden=(3,))
    conditional = mm.MixtureDensity(network, 2, floor=0.3)
    with torch.no_grad():
        # Components that lie apart and are not equally likely, but overlap: their log-density
        # is smooth enough for the quadrature.
        side = torch.tensor([[0.4], [-0.4]])
        bias = torch.cat([side, 1.5 * side.expand(2, events), 0.5 * side.expand(2, events)], 1)
        conditional.network[-1].weight.mul_(0.5)
        conditional.network[-1].bias.copy_(bias.flatten())
    return conditional


def mixture_model(decoder, data_prior):
    """z of one dimension; x of one dimension or two binary pixels."""
    size = 1 if decoder == "density" else 2
    parts = {"density": lambda: mixture_density(1, 1), "binary": lambda: BernoulliMixture(1, 2)}
    parts["plain binary"] = lambda: mm.Bernoulli(mm.MLP(1, 2, hidden=(3,)))
    return mm.Joint(
        mixture_density(size, 1),
        parts[decoder](),
        mm.StandardNormal(1),
        mm.GaussianMixture(1, 2) if data_prior == "explicit" else mm.Marginal(data_prior),
    )


def mixture_data(decoder):
    if decoder == "density":
        return torch.tensor([-1.2, -0.3, 0.4, 1.1])[:, None]
    return torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])


def support(distribution):
    """Every value of a discrete distribution, (P, *event)."""
    if isinstance(distribution, Categorical | OneHotCategorical):
        size = distribution.log_probabilities.shape[-1]
        variables = distribution.log_probabilities.shape[len(distribution.batch_shape) : -1]
        values = torch.tensor(list(itertools.product(range(size), repeat=variables.numel())))
        values = values.reshape(-1, *variables)
        return values if isinstance(distribution, Categorical) else torch.eye(size)[values]
    pixels = itertools.product((0.0, 1.0), repeat=distribution.event_shape.numel())
    return torch.tensor(list(pixels))


def outcomes(distribution, count):
    """Values (P, N, *event) to sum over and their probabilities (P, N), differentiable."""
    if distribution.event_shape != (1,):
        values = support(distribution)
        values = values[(slice(None), *[None] * len(distribution.batch_shape))]
        values = values.expand(-1, *distribution.batch_shape, *distribution.event_shape)
        return values, distribution.log_prob(values).exp()
    nodes, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(count))
    normals = distribution.components
    points = normals.loc[..., None, :] + normals.scale[..., None, :] * nodes[:, None]
    chances = distribution.log_weights.exp()[..., None] * weights / weights.sum()
    # From (N, K, count) to (K count, N).
    return points.movedim(0, 2).flatten(0, 1), chances.movedim(0, 2).flatten(0, 1)


def repeated_rows(rows, count):
    return rows.expand(count, *rows.shape).flatten(0, 1)


def exact_loss(model, objective, x, count=30):
    """Expected loss by sums over pixels and Gauss-Hermite quadrature of each component."""

    def expected(source, x, z, chances, **second):
        sample = mm.Sample(x, z, source, **second)
        return (chances * objective(model.log_probs(sample)).reshape(chances.shape)).sum(0)

    z, chances = outcomes(model.encoder(x), count)
    rows = repeated_rows(x, len(z))
    encoding = expected("encoding", rows, z.flatten(0, 1), chances).mean()
    if objective.sampling == "encoding":
        return encoding
    if isinstance(model.prior, mm.StandardNormal):
        z, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(count))
        z = z[:, None]
    else:
        # The anchor is the prior, held fixed.
        z, weights = (part.detach() for part in outcomes(model.prior(), count))
    x, chances = outcomes(model.decoder(z), count)
    weights = (weights / weights.sum()).repeat(len(x))
    z, x, chances = repeated_rows(z, len(x)), x.flatten(0, 1), chances.flatten()
    second = {}
    if model.data_prior == mm.Marginal("importance"):
        second_z, more = outcomes(model.encoder(x), count)
        z, x = repeated_rows(z, len(second_z)), repeated_rows(x, len(second_z))
        second = {"second_z": second_z.flatten(0, 1)}
        chances = more * chances
    decoding = expected("decoding", x, z, (chances * weights).reshape(-1, len(weights)), **second)
    return 0.5 * (encoding + decoding.sum())


MIXTURES = [
    ("mim", "density", "explicit"),
    ("ce", "density", "explicit"),
    ("mim", "density", "importance"),
    ("a-mim-one-sample", "density", "conditional"),
    ("vae", "density", "conditional"),
    ("mim", "binary", "conditional"),
    ("mim", "binary", "importance"),
    ("mim", "plain binary", "importance"),
]


@pytest.mark.parametrize("components", ["draw", "sum"])
@pytest.mark.parametrize(("name", "decoder", "data_prior"), MIXTURES)
def test_gradient_through_mixtures_is_unbiased(name, decoder, data_prior, components):
    model, x, objective = (
        mixture_model(decoder, data_prior),
        mixture_data(decoder),
        OBJECTIVES[name],
    )
    loss = mm.Loss(model, objective, components=components)
    names, parameters = zip(*loss.named_parameters(), strict=True)
    exact = torch.autograd.grad(exact_loss(model, objective, x), parameters, materialize_grads=True)
    estimates = repeated_gradients(loss, x, 10_000)
    for part, expected in zip(names, exact, strict=True):
        within_standard_errors(estimates[part], expected)


class OneHotNumbers(nn.Module):
    """Numbers of three categories, (B, V), as vectors (B, 3V)."""

    def forward(self, numbers):
        return torch.eye(3)[numbers.long()].flatten(1)


def categorical_model(decoder, data_prior):
    """Two binary latents, one-hot; two binary pixels or two values of three categories."""
    if decoder == "pixels":
        network = mm.MLP(2, 4, hidden=(3,))
        likelihood = mm.Bernoulli(nn.Sequential(nn.Flatten(), mm.MLP(4, 2, hidden=(3,))))
        explicit = BernoulliPrior(2)
    else:
        network = nn.Sequential(OneHotNumbers(), mm.MLP(6, 4, hidden=(3,)))
        likelihood = mm.Categorical(nn.Sequential(nn.Flatten(), mm.MLP(4, 6, hidden=(3,))), 3)
        explicit = NumberPrior(torch.rand(2, 3))
    prior = mm.LearnedOneHot((2, 2))
    nn.init.normal_(prior.logits)
    return mm.Joint(
        mm.OneHotCategorical(network, 2, event_dims=2),
        likelihood,
        prior,
        explicit if data_prior == "explicit" else mm.Marginal(data_prior),
    )


@pytest.mark.parametrize("decoder", ["pixels", "numbers"])
@pytest.mark.parametrize(
    ("name", "data_prior"),
    [
        ("mim", "explicit"),
        ("mim", "importance"),
        ("ce", "explicit"),
        ("vae", "conditional"),
        ("a-mim", "conditional"),
    ],
)
def test_score_function_gradient_is_unbiased_with_several_categories(name, data_prior, decoder):
    model, objective = categorical_model(decoder, data_prior), OBJECTIVES[name]
    x = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    x = x.double() if decoder == "pixels" else x + torch.tensor([0.0, 1])
    loss = mm.Loss(model, objective)
    names, parameters = zip(*loss.named_parameters(), strict=True)
    value = exact_loss(model, objective, x)
    exact = torch.autograd.grad(value, parameters, materialize_grads=True)
    within_standard_errors(loss(x.repeat(5_000, 1)).detach().reshape(-1, 4).mean(1), value.detach())
    estimates = repeated_gradients(loss, x, 10_000)
    for part, expected in zip(names, exact, strict=True):
        within_standard_errors(estimates[part], expected)


def square_deviations(gradients):
    """Contribution of each repeat to the trace of the gradient's covariance."""
    return sum((g - g.mean(0)).square().flatten(1).sum(1) for g in gradients.values())


@pytest.mark.parametrize("decoder", ["pixels", "numbers"])
def test_baseline_lowers_the_variance_with_categories(decoder):
    loss = mm.Loss(categorical_model(decoder, "conditional"), mm.MIM)
    x = torch.zeros(8, 2)
    # A single row has no others to compare with; eight such steps use as many samples.
    alone = square_deviations(repeated_gradients(loss, x[:1], 4_000)) / 8
    together = square_deviations(repeated_gradients(loss, x, 4_000))
    gap = alone.mean() - together.mean()
    assert gap > 5 * ((alone.var() + together.var()) / 4_000).sqrt()


class Sorting(nn.Module):
    """Codes of dark pixels are at the prior's mean, codes of light pixels far from it."""

    def forward(self, x):
        logits = 3 * (x.sum(1, keepdim=True) - 1) * torch.tensor([-1.0, 1.0])
        loc = torch.tensor([[0.0], [3.0]]).expand(len(x), 2, 1)
        return mm.Mixture(logits, mm.DiagNormal(loc, torch.ones(2, 1)))


def test_baseline_of_a_datum_is_one_for_all_its_components():
    # The weights of the second latents' components depend on the pixels that are scored. With a
    # baseline for each component, their sum would too, and have a gradient.
    model = mixture_model("plain binary", "importance")
    model.encoder = Sorting()
    x = mixture_data("binary")[:2]
    names, parameters = zip(*model.named_parameters(), strict=True)
    exact = torch.autograd.grad(exact_loss(model, mm.MIM, x), parameters)
    estimates = repeated_gradients(mm.Loss(model, mm.MIM, components="sum"), x, 20_000)
    for part, expected in zip(names, exact, strict=True):
        within_standard_errors(estimates[f"model.{part}"], expected)


@pytest.mark.parametrize("decoder", ["density", "binary"])
def test_quadrature_of_mixtures_has_converged(decoder):
    model, x = mixture_model(decoder, "conditional"), mixture_data(decoder)
    fewer, more = (
        torch.autograd.grad(exact_loss(model, mm.MIM, x, count), list(model.encoder.parameters()))
        for count in (30, 45)
    )
    # The standard errors of the test above are about 3e-3.
    torch.testing.assert_close(fewer, more, rtol=0, atol=2e-4)


@pytest.mark.parametrize("components", ["draw", "sum"])
@pytest.mark.parametrize(("name", "decoder", "data_prior"), MIXTURES)
def test_loss_of_mixtures_is_estimated_without_bias(name, decoder, data_prior, components):
    model, x, objective = (
        mixture_model(decoder, data_prior),
        mixture_data(decoder),
        OBJECTIVES[name],
    )
    with torch.no_grad():
        expected = exact_loss(model, objective, x)
        # Means over the four rows, equally often each, are independent of each other.
        value = mm.Loss(model, objective, components=components)(x.repeat(10_000, 1))
    within_standard_errors(value.reshape(-1, 4).mean(1), expected)


@pytest.mark.parametrize(("name", "decoder", "data_prior"), MIXTURES)
def test_a_sum_over_components_has_the_gradient_of_a_draw_with_less_variance(
    name, decoder, data_prior
):
    model, x = mixture_model(decoder, data_prior), mixture_data(decoder)
    drawn, summed = (
        repeated_gradients(mm.Loss(model, OBJECTIVES[name], components=how), x, 4_000)
        for how in ("draw", "sum")
    )
    for part, gradient in drawn.items():
        within_standard_errors(gradient - summed[part], 0.0)
    total_variance = [sum(g.var(0).sum() for g in each.values()) for each in (drawn, summed)]
    # Between 0.4 and 0.65, to a few per cent.
    assert total_variance[1] < 0.8 * total_variance[0]


@pytest.mark.parametrize("data_prior", ["explicit", "conditional", "importance"])
@pytest.mark.parametrize("name", ["mim", "ce", "a-mim-one-sample", "vae+h"])
def test_gradient_of_a_sum_over_components_is_the_derivative_of_the_loss(name, data_prior):
    # No score is left where the components are reparameterised.
    loss = mm.Loss(mixture_model("density", data_prior), OBJECTIVES[name], components="sum")
    x = mixture_data("density")
    assert_gradient_is_the_derivative(loss, x)
    assert_gradient_is_the_derivative(loss, x, 0.4)
    assert_gradient_is_the_derivative(loss, x, mm.Annealing(0.4, ("q_z_given_x", "q_x")))


@pytest.mark.parametrize("data_prior", ["explicit", "conditional", "importance"])
def test_a_sum_over_components_weighs_what_each_of_them_gives(data_prior):
    model, x = mixture_model("density", data_prior), mixture_data("density")
    annealing = mm.Annealing(0.3, ("q_z_given_x", "q_x"), halves="sum")

    def by_hand(x):
        z, _, _ = mm.draw(model.encoder(x).components)
        weights = model.encoder(x).log_weights.exp()
        value = torch.zeros(len(x))
        for k in range(2):
            lp = model.log_probs(mm.Sample(x, z[:, k], "encoding"))
            value += weights[:, k] * mm.MIM(lp, annealing.beta, annealing.terms)
        z = model.prior().sample((len(x),))
        drawn, _, _ = mm.draw(model.decoder(z).components)
        weights = model.decoder(z).log_weights.exp()
        # The second latents come for all rows at once, those of the first component first.
        rows = drawn.movedim(1, 0).flatten(0, 1)
        second = model.encoder(rows)
        others = mm.draw(second.components).value if data_prior == "importance" else None
        for k in range(2):
            for j in range(2 if data_prior == "importance" else 1):
                other, weight = None, weights[:, k]
                if others is not None:
                    own = slice(k * len(x), (k + 1) * len(x))
                    other = others[own, j]
                    weight = weight * second.log_weights.exp()[own, j]
                lp = model.log_probs(mm.Sample(drawn[:, k], z, "decoding", second_z=other))
                value += weight * mm.MIM(lp, annealing.beta, annealing.terms)
        return value

    loss = mm.Loss(model, mm.MIM, components="sum")
    close(same_noise(loss, x, annealing), same_noise(by_hand, x))


def test_a_sum_over_one_component_is_the_loss_of_a_gaussian():
    network, x = mm.MLP(2, 6, hidden=(4,)), torch.randn(5, 2)
    shifted = nn.Sequential(network, nn.ConstantPad1d((1, 0), 0.7))
    decoder, prior = mm.Gaussian(mm.MLP(3, 4)), mm.LearnedNormal(3)
    for marginal in (mm.Marginal(), mm.Marginal("importance")):
        gaussian = mm.Joint(mm.Gaussian(network), decoder, prior, marginal)
        mixture = mm.Joint(mm.MixtureDensity(shifted, 1), decoder, prior, marginal)
        close(
            same_noise(mm.Loss(mixture, mm.MIM, components="sum"), x),
            same_noise(mm.Loss(gaussian, mm.MIM), x),
        )


def test_a_sum_over_components_changes_nothing_without_mixtures():
    model, x = small_model(mm.Marginal("importance"), mm.GaussianMixture(3, 4)), torch.randn(6, 2)
    close(
        same_noise(mm.Loss(model, mm.MIM, components="sum"), x),
        same_noise(mm.Loss(model, mm.MIM), x),
    )


def test_what_to_do_with_components_is_one_of_two():
    with pytest.raises(ValueError, match='components must be "draw" or "sum", got \'score\''):
        mm.Loss(small_model(), mm.MIM, components="score")


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, None, "3", True, [2.0]])
def test_a_weight_of_beta_vae_that_is_no_number_is_named(weight):
    with pytest.raises(ValueError, match=r"^weight must be "):
        mm.beta_vae(weight)
