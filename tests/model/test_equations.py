"""Equations of the paper that no other file tests, on models with known answers."""

import math

import pytest
import torch
from oracles import (
    discrete,
    entropy,
    expectation,
    gaussian,
    gaussian_cross_entropy,
    gaussian_entropy,
    gaussian_kl,
    kl,
)

import mimachine as mm

pytestmark = pytest.mark.usefixtures("double")


def close(actual, expected):
    # Sums of some ten float64 terms of order one: rounding stays far below 1e-10.
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=1e-10, atol=1e-10)


def table(oracle):
    return mm.LogProbs(*oracle.log_tables())


def decoding_share(lp):
    """Contribution of the two factors of p(x, z) to the loss."""
    none = torch.zeros_like(lp.p_z)
    return mm.mim(lp._replace(q_z_given_x=none, q_x=none))


def encoding_share(lp):
    """Contribution of the two factors of q(x, z) to the loss."""
    none = torch.zeros_like(lp.p_z)
    return mm.mim(lp._replace(p_x_given_z=none, p_z=none))


@discrete
def test_eq_1_the_lower_bound_falls_short_by_the_divergence_to_the_posterior(oracle):
    oracle = oracle.with_anchors_as_priors()
    bound = -expectation(oracle.encoding, mm.vae(table(oracle)))
    evidence = oracle.decoding.sum(1)
    posterior = oracle.decoding / evidence[:, None]
    divergence = (oracle.P_x * (oracle.q_zx * (oracle.q_zx / posterior).log()).sum(1)).sum()
    close(bound, expectation(oracle.P_x, evidence.log()) - divergence)
    assert divergence > 0.01


@discrete
def test_eq_2_the_vae_loss_less_the_entropy_of_the_data_is_a_divergence(oracle):
    oracle = oracle.with_anchors_as_priors()
    loss = expectation(oracle.encoding, mm.vae(table(oracle))) - entropy(oracle.P_x)
    close(loss, kl(oracle.encoding, oracle.decoding))


@discrete
def test_eq_3_the_divergence_is_of_both_halves_to_their_mixture(oracle):
    # With the anchors as priors L_CE is -log M_S at every sample.
    to_mixture = mm.cross_entropy(table(oracle.with_anchors_as_priors()))
    divergences = [
        expectation(half, to_mixture) - entropy(half) for half in (oracle.decoding, oracle.encoding)
    ]
    close(divergences[0], kl(oracle.decoding, oracle.M_S))
    close(divergences[1], kl(oracle.encoding, oracle.M_S))
    close(sum(divergences) / 2, oracle.jsd())
    assert 0 < oracle.jsd() < math.log(2)


@discrete
def test_eq_5_the_mean_joint_entropy_is_of_marginals_less_information(oracle):
    lp = table(oracle.with_anchors_as_priors())
    # `joint_entropy` gives the entropy of the encoding half; the entropy of the decoding half is
    # that of the same model with its factorisations exchanged.
    exchanged = mm.LogProbs(lp.p_x_given_z, lp.p_z, lp.q_z_given_x, lp.q_x)
    value = 0.5 * (
        expectation(oracle.encoding, mm.joint_entropy(lp, "encoding"))
        + expectation(oracle.decoding, mm.joint_entropy(exchanged, "encoding"))
    )
    close(value, oracle.r_h())
    of_marginals = sum(
        entropy(half.sum(0)) + entropy(half.sum(1)) for half in (oracle.encoding, oracle.decoding)
    )
    information = sum(
        kl(half, half.sum(1, keepdim=True) * half.sum(0))
        for half in (oracle.encoding, oracle.decoding)
    )
    close(value, (of_marginals - information) / 2)


@discrete
def test_eq_16_to_20_the_loss_comes_apart_step_by_step(oracle):
    lp, r_h = table(oracle), oracle.r_h()
    encoding, decoding, q, p = oracle.encoding, oracle.decoding, oracle.q, oracle.p
    shares = {
        "p": expectation(oracle.M_S, decoding_share(lp)),
        "q": expectation(oracle.M_S, encoding_share(lp)),
    }
    close(shares["p"] + shares["q"], expectation(oracle.M_S, mm.mim(lp)))  # 16
    # A quarter of a cross-entropy is the mean of a share over one half of M_S, halved.
    quarters = {
        (name, half): expectation(joint, share(lp)) / 2
        for name, share in (("p", decoding_share), ("q", encoding_share))
        for half, joint in (("encoding", encoding), ("decoding", decoding))
    }
    for name in ("p", "q"):
        close(shares[name], quarters[name, "encoding"] + quarters[name, "decoding"])  # 17
    kl_prior, kl_data_prior = kl(oracle.P_z, oracle.p_z), kl(oracle.P_x, oracle.q_x)
    close(quarters["p", "decoding"], (entropy(decoding) + kl_prior) / 4)  # 18
    close(quarters["q", "encoding"], (entropy(encoding) + kl_data_prior) / 4)
    close(quarters["p", "encoding"], (kl(encoding, p) + entropy(encoding)) / 4)  # 19
    close(quarters["q", "decoding"], (kl(decoding, q) + entropy(decoding)) / 4)
    close(shares["p"], r_h / 2 + (kl_prior + kl(encoding, p)) / 4)  # 20
    close(shares["q"], r_h / 2 + (kl_data_prior + kl(decoding, q)) / 4)


@gaussian
def test_eq_16_to_20_hold_for_densities(oracle):
    encoder, decoder, prior, q_x, _ = oracle.modules()
    model, split = mm.Joint(encoder, decoder, prior, q_x), len(oracle.b)

    def quarter(share, source, joint):
        """A quarter of a cross-entropy: shares are quadratic, so these points are exact."""
        points = joint.sigma_points()
        sample = mm.Sample(points[:, :split], points[:, split:], source)
        return share(model.log_probs(sample)).mean().detach() / 2

    encoding, decoding = oracle.encoding, oracle.decoding
    of_p = [
        quarter(decoding_share, "encoding", encoding),
        quarter(decoding_share, "decoding", decoding),
    ]
    of_q = [
        quarter(encoding_share, "encoding", encoding),
        quarter(encoding_share, "decoding", decoding),
    ]
    close(of_p[0], gaussian_cross_entropy(encoding, oracle.p) / 4)
    kl_prior = gaussian_kl(oracle.anchor, oracle.p_z)
    kl_data_prior = gaussian_kl(oracle.data, oracle.q_x)
    close(of_p[1], (gaussian_entropy(decoding) + kl_prior) / 4)
    close(of_q[0], (gaussian_entropy(encoding) + kl_data_prior) / 4)
    r_h = (gaussian_entropy(encoding) + gaussian_entropy(decoding)) / 2
    close(sum(of_p), r_h / 2 + (kl_prior + gaussian_kl(encoding, oracle.p)) / 4)
    close(sum(of_q), r_h / 2 + (kl_data_prior + gaussian_kl(decoding, oracle.q)) / 4)


@discrete
def test_appendix_b_mim_is_no_bound_of_the_symmetric_divergence(oracle):
    regularised = expectation(
        oracle.M_S,
        mm.SYMMETRIC_KL(table(oracle), at_anchors=table(oracle.with_anchors_as_priors())),
    )
    close(oracle.skl() / 2, regularised - oracle.r_h())
    # Exact relation of both divergences, below Eq. 21.
    to_halves = (kl(oracle.M_S, oracle.encoding) + kl(oracle.M_S, oracle.decoding)) / 2
    close(oracle.skl() / 2, oracle.jsd() + to_halves)
    # Marginals of M_S as priors make MIM smallest, and smaller than this by half of what the
    # anchors are from them.
    x, z = oracle.M_S.sum(1), oracle.M_S.sum(0)
    shape = oracle.M_S.shape
    best = table(oracle)._replace(q_x=x.log()[:, None].expand(shape), p_z=z.log().expand(shape))
    value = expectation(oracle.M_S, mm.mim(best))
    close(value, regularised - (kl(x, oracle.P_x) + kl(z, oracle.P_z)) / 2)
    assert value < regularised


@discrete
def test_eq_24_to_26_are_one_loss_up_to_a_half_and_the_entropy_of_the_data(oracle):
    oracle = oracle.with_anchors_as_priors()
    lp, half = table(oracle), oracle.encoding
    eq_24 = expectation(half, mm.vae(lp))
    eq_25 = expectation(half, mm.mim(lp) + lp.q_x + lp.q_z_given_x)
    close(eq_25, (eq_24 - entropy(oracle.P_x)) / 2)
    information = kl(half, half.sum(1, keepdim=True) * half.sum(0))
    to_halves = [-expectation(half, log) for log in (oracle.decoding.log(), half.log())]
    eq_26 = sum(to_halves) / 2 - entropy(half.sum(1)) - entropy(half.sum(0)) + information
    close(eq_26, eq_25)
