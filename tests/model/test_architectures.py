"""Image models: parameter counts, densities by independent code, exact likelihoods."""

import itertools
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from oracles import within_standard_errors
from torch import nn
from torch.distributions import Normal

import mimachine as mm
from mimachine.estimation.codes.moments import codes
from mimachine.model.distributions import draw
from mimachine.model.objectives import OBJECTIVES

SMALL = {"latents": (3, 2), "hidden": 6}
BUILDERS = {
    "dense_vae": partial(mm.dense_vae, latents=5, hidden=6),
    "hvae": partial(mm.hvae, **SMALL),
    "conv_hvae": partial(mm.conv_hvae, **SMALL, channels=3),
    "pixel_hvae": partial(mm.pixel_hvae, **SMALL, channels=3, layers=3),
}
models = pytest.mark.parametrize("name", BUILDERS)
hierarchies = pytest.mark.parametrize("name", ["hvae", "conv_hvae", "pixel_hvae"])
priors = pytest.mark.parametrize("prior", ["standard", "vampprior"])


def build(name, shape=(1, 7, 6), prior="standard", **options):
    """A small model whose parameters and statistics are all of order one."""
    pseudo_inputs = torch.rand(4, *shape) if prior == "vampprior" else None
    model = BUILDERS[name](shape, pseudo_inputs, **options)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.normal_(part.bias, 0.5)
    return model


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("build", "parameters", "tensors"),
    [
        (mm.dense_vae, 1_116_864, 22),
        (mm.hvae, 2_431_024, 54),
        (mm.conv_hvae, 2_210_861, 98),
        (mm.pixel_hvae, 1_385_821, 102),
    ],
)
def test_default_sizes_have_the_numbers_of_parameters_of_the_released_models(
    build, parameters, tensors
):
    model = build()
    assert (count(model), len(list(model.parameters()))) == (parameters, tensors)
    model = build(pseudo_inputs=torch.rand(500, 1, 28, 28))
    # A VampPrior has pseudo-inputs, which are images, and otherwise the encoder's parameters.
    assert (count(model), len(list(model.parameters()))) == (parameters + 392_000, tensors + 1)


def test_parts_have_the_numbers_of_parameters_of_the_released_models():
    model = mm.conv_hvae()
    assert count(model.encoder.first) == 228_604
    assert count(model.encoder.second) == 538_496
    assert count(model.prior) == 229_280
    assert count(model.decoder) == 1_214_481
    decoder = mm.pixel_hvae().decoder.decoder
    assert count(decoder.of_z1) + count(decoder.of_z2) == 128_576
    assert count(decoder.network.heads) == 65
    stack = nn.ModuleList(decoder.network.layers)
    assert count(stack) == 260_800
    masked = [part for part in stack.modules() if isinstance(part, mm.MaskedConv2d)]
    seen = sum(int(part.mask.sum()) * part.weight[:, :, 0, 0].numel() for part in masked)
    assert count(stack) - sum(part.weight.numel() for part in masked) + seen == 145_152


def test_features_of_other_shapes_are_as_many_as_strides_leave():
    """210 for 28 x 20 and 384 for 32 x 32, constants of the released code."""
    for shape, features in (((1, 28, 20), 210), ((3, 32, 32), 384), ((1, 28, 28), 294)):
        model = mm.conv_hvae(shape, hidden=2, channels=1, latents=(2, 2))
        assert model.encoder.first.mean.in_features == features
        assert model.encoder.first.network(torch.rand(1, *shape)).shape == (1, features)


# The models again, in plain torch: the computation of each layer, with the layers' weights.


def gated_dense(layer, x):
    value, gate = (F.linear(x, part.weight, part.bias) for part in (layer.value, layer.gate))
    return value * torch.sigmoid(gate)


def gated_conv(layer, x, stride, padding):
    value, gate = (
        F.conv2d(x, part.weight, part.bias, stride, padding) for part in (layer.value, layer.gate)
    )
    return value * torch.sigmoid(gate)


def gated_convs(trunk, x, settings):
    layers = [part for part in trunk if isinstance(part, mm.GatedConv2d)]
    for layer, (stride, padding) in zip(layers, settings, strict=True):
        x = gated_conv(layer, x, stride, padding)
    return x


def dense_features(trunk, x):
    x = x.reshape(len(x), -1)
    for layer in [part for part in trunk if isinstance(part, mm.GatedLinear)]:
        x = gated_dense(layer, x)
    return x


def head(part, features):
    """Mean and standard deviation: linear, and a log-variance clamped to [-6, 2]."""
    mean = F.linear(features, part.mean.weight, part.mean.bias)
    log_variance = F.linear(features, part.log_variance.weight, part.log_variance.bias)
    return mean, log_variance.clamp(-6, 2).mul(0.5).exp()


def features_of_x(name, trunk, x, kernels):
    if name == "hvae":
        return dense_features(trunk, x)
    settings = [(1, kernels[0] // 2), (2, 1), (1, kernels[1] // 2), (2, 1), (1, 1)]
    return gated_convs(trunk, x, settings).reshape(len(x), -1)


def q_z2(name, model, x):
    return head(model.encoder.first, features_of_x(name, model.encoder.first.network, x, (7, 5)))


def q_z1(name, model, x, z2):
    part = model.encoder.second
    of_x = features_of_x(name, part.of_x, x, (3, 3))
    both = torch.cat([of_x, gated_dense(part.of_both.of_z2, z2)], 1)
    return head(part.of_both.head, gated_dense(part.of_both.both, both))


def p_z1(model, z2):
    part = model.prior.second
    return head(part, gated_dense(part.network[1], gated_dense(part.network[0], z2)))


def logits_of(name, model, x, z2, z1):
    decoder = model.decoder.decoder
    if name == "pixel_hvae":
        maps = [
            gated_dense(part, z).reshape(x.shape)
            for part, z in ((decoder.of_z1, z1), (decoder.of_z2, z2))
        ]
        h = torch.cat([x, *maps], 1)
        for index, layer in enumerate([decoder.network.first, *decoder.network.later]):
            mask = torch.tensor([[1.0, 1, 1], [1, index > 0, 0], [0, 0, 0]])
            norm = layer.norm
            h = F.conv2d(h, layer.convolution.weight * mask, padding=1)
            h = F.batch_norm(h, norm.running_mean, norm.running_var, norm.weight, norm.bias)
            h = h.relu()
        return F.conv2d(h, decoder.network.heads[0].weight, decoder.network.heads[0].bias)
    trunk = decoder.trunk if name == "hvae" else decoder.trunk[0]
    h = gated_dense(
        trunk.both, torch.cat([gated_dense(trunk.of_z1, z1), gated_dense(trunk.of_z2, z2)], 1)
    )
    last = decoder.heads[0]
    if name == "hvae":
        return F.linear(h, last.weight, last.bias).reshape(x.shape)
    h = gated_convs(decoder.trunk, h.reshape(x.shape), [(1, 1)] * 4)
    return F.conv2d(h, last.weight, last.bias)


def log_normal(z, mean, std):
    return Normal(mean, std).log_prob(z).sum(-1)


@hierarchies
@priors
@pytest.mark.usefixtures("double")
def test_densities_are_those_of_an_independent_transcription(name, prior):
    model = build(name, (1, 9, 6), prior).eval()
    x = torch.rand(5, 1, 9, 6).round()
    state = torch.get_rng_state()
    sample = model.encode(x)
    log_probs = model.log_probs(sample)

    # The same noise: z2's is drawn first, then z1's.
    torch.set_rng_state(state)
    mean2, std2 = q_z2(name, model, x)
    z2 = mean2 + std2 * torch.randn(5, 3)
    mean1, std1 = q_z1(name, model, x, z2)
    z1 = mean1 + std1 * torch.randn(5, 2)
    torch.testing.assert_close(sample.z, torch.cat([z2, z1], 1), rtol=0, atol=1e-9)

    q = log_normal(z2, mean2, std2) + log_normal(z1, mean1, std1)
    p = log_normal(z1, *p_z1(model, z2))
    if prior == "vampprior":
        of_components = q_z2(name, model, model.prior.first.pseudo_inputs.clamp(0, 1))
        each = log_normal(z2[:, None], *of_components)
        p = p + each.logsumexp(1) - math.log(4)
    else:
        p = p + log_normal(z2, torch.zeros(3), torch.ones(3))
    logits = logits_of(name, model, x, z2, z1)
    likelihood = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
    for value, expected in (
        (log_probs.q_z_given_x, q),
        (log_probs.p_z, p),
        (log_probs.p_x_given_z, likelihood),
    ):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("double")
def test_a_dense_vae_is_an_independent_transcription_too():
    model, x = build("dense_vae"), torch.rand(5, 1, 7, 6).round()
    z = torch.randn(5, 5)
    mean, std = head(model.encoder, dense_features(model.encoder.network, x))
    torch.testing.assert_close(model.encoder(x).log_prob(z), log_normal(z, mean, std))
    decoder = model.decoder.decoder
    logits = F.linear(
        dense_features(decoder.trunk, z), decoder.heads[0].weight, decoder.heads[0].bias
    ).reshape(x.shape)
    expected = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(model.decoder(z).log_prob(x), expected)


def with_wide_posteriors(model):
    """The same model with means near zero: deviations are near one, so no weights are large."""
    for part in model.modules():
        if isinstance(part, mm.ClampedGaussian):
            part.mean.weight.data *= 0.2
    return model


@pytest.mark.usefixtures("double")
@priors
@hierarchies
def test_importance_sampled_likelihoods_are_the_exact_ones(name, prior):
    """With 1 + 1 latents p(x) is a sum over a grid."""
    options = {"latents": (1, 1), "log_variance": (0.0, 0.1)}
    model = with_wide_posteriors(build(name, (1, 2, 2), prior, **options)).eval()
    x = torch.tensor([[0.0, 1, 1, 0], [1, 1, 1, 0]]).reshape(-1, 1, 2, 2)
    axis = torch.linspace(-8, 8, 65)
    z, cell = torch.cartesian_prod(axis, axis), 2 * (axis[1] - axis[0]).log()
    with torch.no_grad():
        log_p = model.decoder(z).log_prob(x[:, None]) + model.prior().log_prob(z)
    # For functions this smooth the rule is exact to rounding, except for the mass beyond the grid.
    total = (model.prior().log_prob(z).logsumexp(0) + cell).exp()
    torch.testing.assert_close(total, torch.ones(()), rtol=0, atol=1e-6)
    estimates = mm.log_likelihood(model, x, 4000)
    assert (estimates.effective_sample_sizes > 400).all()
    gap = (estimates.values - (log_p.logsumexp(1) + cell)).abs()
    assert (gap < 5 * estimates.standard_errors).all()
    assert (estimates.standard_errors < 0.05).all()


@hierarchies
def test_the_encoder_looks_at_a_datum_once_for_all_its_samples(name):
    model = build(name, prior="vampprior").eval()
    rows = {"first": [], "x": [], "z2": []}
    parts = {
        "first": model.encoder.first.network,
        "x": model.encoder.second.of_x,
        "z2": model.encoder.second.of_both.of_z2,
    }
    for key, part in parts.items():
        part.register_forward_hook(
            lambda _, inputs, __, key=key: rows[key].append(
                inputs[0].shape[:-1].numel() if key == "z2" else len(inputs[0])
            )
        )
    mm.log_likelihood(model, torch.rand(6, 1, 7, 6).round(), 50)
    # 4 pseudo-inputs once, and 6 images.
    assert sorted(rows["first"]) == [4, 6]
    assert rows["x"] == [6]
    assert sum(rows["z2"]) == 6 * 50


@hierarchies
@pytest.mark.parametrize("objective", [mm.MIM, mm.A_MIM, mm.VAE])
def test_both_halves_of_a_step_share_the_components_of_the_prior(name, objective):
    model, rows = build(name, prior="vampprior"), []
    model.encoder.first.network.register_forward_hook(
        lambda _, inputs, __: rows.append(len(inputs[0]))
    )
    mm.Loss(model, objective)(torch.rand(6, 1, 7, 6).round()).mean().backward()
    # 4 pseudo-inputs once, and 6 images per half.
    assert sorted(rows) == ([4, 6, 6] if objective is mm.MIM else [4, 6])


@models
@priors
@pytest.mark.parametrize("objective", ["mim", "a-mim", "vae"])
def test_every_objective_trains_every_parameter(name, prior, objective):
    model = build(name, prior=prior)
    x = torch.rand(6, 1, 7, 6).round()
    value = mm.Loss(model, OBJECTIVES[objective])(x)
    assert value.shape == (6,)
    value.mean().backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.isfinite().all(), label
        assert (parameter.grad != 0).any(), label


@models
@pytest.mark.parametrize("pixels", [mm.GreyPixels(), mm.RealPixels()])
def test_grey_and_real_pixels_train_too(name, pixels):
    model = build(name, (2, 5, 6), pixels=pixels)
    x = torch.randint(256, (4, 2, 5, 6)) / 255
    value = mm.Loss(model, mm.MIM)(x)
    value.mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.usefixtures("double")
def test_symmetric_mim_of_binary_images_scores_them_without_bias():
    """The gradient of the decoding half by a sum over all 16 images of 2 x 2 pixels."""
    model = build("pixel_hvae", (1, 2, 2)).eval()
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).reshape(-1, 1, 2, 2)
    z = torch.randn(1, 5)
    parameter = model.decoder.decoder.network.heads[0].bias

    def losses(x, latents):
        sample = mm.Sample(x, latents, "decoding")
        return mm.mim(model.log_probs(sample))

    probability = model.decoder(z).log_prob(images).exp()
    exact = torch.autograd.grad((probability * losses(images, z.expand(16, -1))).sum(), parameter)
    loss, gradients = mm.Loss(model, mm.MIM), []
    for _ in range(60):
        sample = model.decode(z.expand(200, -1))
        half = loss._half(sample, model.prior(), mm.Annealing(1.0))
        gradients.append(torch.autograd.grad(half.mean(), parameter)[0])
    within_standard_errors(torch.stack(gradients), exact[0])


@models
@pytest.mark.usefixtures("double")
def test_bounds_of_log_variances_are_those_given(name):
    model = build(name, log_variance=(-1.5, -1.0))
    x = torch.rand(6, 1, 7, 6).round()
    parts = [model.encoder(x)]
    if name != "dense_vae":
        (chain,), z2 = parts, 100 * torch.randn(6, 3)
        parts = [chain.first, chain.second(z2), model.prior().second(z2)]
    for part in parts:
        log_variance = 2 * part.scale.log()
        assert log_variance.min() >= -1.5 - 1e-12
        assert log_variance.max() <= -1.0 + 1e-12


@models
def test_dense_weights_start_as_he_et_al_draw_them(name):
    model = BUILDERS[name]((1, 20, 20), hidden=50)
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    scaled = [part.weight.detach().flatten() * (part.in_features / 2) ** 0.5 for part in layers]
    within_standard_errors(torch.cat(scaled).square(), 1.0)


@models
@pytest.mark.parametrize("shape", [(1, 28, 20), (3, 32, 32), (1, 1, 3)])
def test_images_of_other_shapes_are_encoded_and_decoded(name, shape):
    model = build(name, shape, prior="vampprior").eval()
    with torch.no_grad():
        sample = model.encode(torch.rand(2, *shape).round())
        assert sample.z.shape == (2, 5)
        assert model.decode(sample.z).x.shape == (2, *shape)
        assert all(part.isfinite().all() for part in model.log_probs(sample))


@models
def test_data_and_latents_of_other_shapes_are_refused(name):
    model = build(name)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 7, 6\), got \(2, 1, 6, 7\)"):
        model.encode(torch.rand(2, 1, 6, 7))
    with pytest.raises(ValueError, match=r"z must have shape \(B, 5\), got \(2, 4\)"):
        model.decode(torch.randn(2, 4))
    with pytest.raises(
        ValueError, match=r"pseudo_inputs must have shape \(K, 1, 7, 6\), got \(4, 42\)"
    ):
        BUILDERS[name]((1, 7, 6), torch.rand(4, 42))
    with pytest.raises(
        ValueError, match=r"shape must be \(C, H, W\), 1 or more each, got \(7, 6\)"
    ):
        BUILDERS[name]((7, 6))
    with pytest.raises(ValueError, match="hidden must be 1 or more, got 0"):
        BUILDERS[name]((1, 7, 6), hidden=0)


@hierarchies
@pytest.mark.usefixtures("double")
def test_codes_are_the_moments_of_draws(name):
    # The accuracy of the rule for z1 depends on the weights, so they are always the same.
    torch.manual_seed(2)
    model, x = build(name).eval(), torch.rand(3, 1, 7, 6).round()
    encoded = codes(model, x)
    assert torch.equal(encoded.mean, codes(model, x).mean)
    with torch.no_grad():
        z = draw(model.encoder(x), (20_000,)).value
    of_z2 = encoded.mean[:, :3]
    within_standard_errors(z[..., :3], of_z2)
    within_standard_errors((z[..., :3] - of_z2).square(), encoded.std[:, :3].square())
    # Layers are nonlinear, so moments of z1 by a rule of degree three are approximate.
    spread = z[..., 3:].std(0)
    assert ((z[..., 3:].mean(0) - encoded.mean[:, 3:]) / spread).abs().max() < 0.1
    assert (spread / encoded.std[:, 3:] - 1).abs().max() < 0.1


@priors
def test_the_prior_draws_all_components_and_its_density_has_a_mean(prior):
    model = build("hvae", prior=prior)
    z = model.prior().sample((1000,))
    assert z.shape == (1000, 5)
    assert len(z[:, 0].unique()) > 990


@hierarchies
def test_a_vampprior_draws_each_of_its_components_as_often(name):
    pseudo_inputs = torch.rand(6, 1, 7, 6)
    # Components so narrow that a draw shows its component.
    model = BUILDERS[name]((1, 7, 6), pseudo_inputs, log_variance=(-40.0, -39.0)).eval()
    with torch.no_grad():
        means = model.prior.first().components.mean
        z2 = model.prior().sample((6000,))[:, :3]
    assert torch.pdist(means).min() > 1000 * math.exp(-19.5)
    nearest = torch.cdist(z2, means).argmin(1)
    within_standard_errors(F.one_hot(nearest, 6).double(), torch.full((6,), 1 / 6))


def test_pseudo_inputs_of_black_images_move_though_noise_puts_them_below_zero():
    pseudo_inputs = 0.01 * torch.randn(4, 1, 7, 6)
    x = torch.rand(6, 1, 7, 6).round()

    def share_moved(**options):
        model = mm.hvae((1, 7, 6), pseudo_inputs, latents=(3, 2), hidden=6, **options)
        moved = torch.zeros_like(pseudo_inputs, dtype=torch.bool)
        for _ in range(20):
            (gradient,) = torch.autograd.grad(
                mm.Loss(model, mm.VAE)(x).mean(), model.prior.first.pseudo_inputs
            )
            moved |= gradient != 0
        return moved.double().mean()

    frozen = share_moved(constraint=partial(F.hardtanh, min_val=0.0, max_val=1.0))
    torch.testing.assert_close(frozen, (pseudo_inputs > 0).double().mean())
    assert share_moved() > 0.9


def test_weights_are_saved_and_loaded():
    model, other = (build("pixel_hvae", prior="vampprior").eval() for _ in range(2))
    other.load_state_dict(model.state_dict())
    x, z = torch.rand(3, 1, 7, 6).round(), torch.randn(3, 5)
    sample = mm.Sample(x, z, "encoding")
    for value, expected in zip(other.log_probs(sample), model.log_probs(sample), strict=True):
        assert torch.equal(value, expected)


@hierarchies
def test_mixed_precision_moves_densities_by_its_rounding(name):
    model, x = build(name, prior="vampprior").eval(), torch.rand(4, 1, 7, 6).round()
    sample = mm.Sample(x, torch.randn(4, 5), "encoding")
    full = model.log_probs(sample)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.log_probs(sample)
        assert model.decode(sample.z).x.unique().tolist() == [0.0, 1.0]
    for value, expected in zip(mixed, full, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, rtol=0.05, atol=0.5)


@pytest.mark.parametrize("build", [mm.hvae, mm.conv_hvae, mm.pixel_hvae, mm.dense_vae])
def test_sizes_and_likelihoods_of_another_kind_are_named(build):
    of_two = build is not mm.dense_vae
    bad = {
        "shape": (3, (8, 8), torch.tensor(3), None),
        "latents": (3, (2,), (1, 2, 3), []) if of_two else (None, (2, 3), 1.5),
        "pixels": (None, "binary", mm.BinaryPixels, 1.5),
    }
    for name, values in bad.items():
        for value in values:
            with pytest.raises(ValueError, match=f"^{name} must be "):
                build(**{"shape": (1, 8, 8), name: value})


@pytest.mark.parametrize("name", ["dense_vae", "hvae"])
@priors
def test_with_a_constant_width_a_regularised_auto_encoder_is_a_mim_at_its_floor(name, prior):
    std = math.exp(-3)
    torch.manual_seed(0)
    learned = build(name, prior=prior)
    constant = BUILDERS[name]((1, 7, 6), torch.rand(4, 1, 7, 6), encoder_std=std)
    if prior == "standard":
        constant = BUILDERS[name]((1, 7, 6), encoder_std=std)
    narrow = {
        key: value - 1e3 if key.startswith("encoder") and "log_variance.bias" in key else value
        for key, value in learned.state_dict().items()
    }
    learned.load_state_dict(narrow)
    shared = constant.state_dict().keys() & narrow.keys()
    constant.load_state_dict({**constant.state_dict(), **{key: narrow[key] for key in shared}})
    assert constant.state_dict().keys() - narrow.keys()  # the widths
    x = torch.rand(40, 1, 7, 6).round()
    found = []
    for model, objective in ((learned, mm.A_MIM), (constant, mm.RAE), (constant, mm.A_MIM)):
        torch.manual_seed(1)
        loss = mm.Loss(model, objective)(x)
        named = {key: value for key, value in model.named_parameters() if key in shared}
        found.append((loss, torch.autograd.grad(loss.mean(), [*named.values()])))
    (one, gradient), *others = found
    for loss, same in others:
        torch.testing.assert_close(loss, one)
        torch.testing.assert_close(same, gradient)


@pytest.mark.parametrize("name", ["dense_vae", "hvae"])
def test_a_constant_width_is_that_of_every_code(name):
    model = BUILDERS[name]((1, 7, 6), encoder_std=0.3)
    x = torch.rand(3, 1, 7, 6)
    if name == "hvae":
        widths = [model.encoder.first(x).stddev, model.encoder.second(x)(torch.randn(3, 3)).stddev]
    else:
        widths = [model.encoder(x).stddev]
    found = torch.cat([each.expand(3, -1) for each in widths], -1)
    torch.testing.assert_close(found, torch.full_like(found, 0.3))
    with pytest.raises(ValueError, match="encoder_std must be"):
        BUILDERS[name]((1, 7, 6), encoder_std=0.0)
