"""Models whose answers are known: closed forms and sums in float64, without the library;
`joint` alone makes a model of it.

A joint is over (x, z), in this order. H(a, b) = -E_a[log b]; all quantities are in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MultivariateNormal
from torch.distributions import Normal as TorchNormal

import mimachine as mm


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(*shape: int, seed: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=seed, dtype=torch.float64)


def within_standard_errors(samples: Tensor, expected: Tensor | float, errors: float = 5.0) -> None:
    """Assert that the mean over the first axis is as expected.

    At 5 standard errors a correct mean fails once in 1.7 million comparisons.
    """
    expected = torch.as_tensor(expected, dtype=samples.dtype)
    error = samples.std(0) / math.sqrt(len(samples))
    gap = (samples.mean(0) - expected).abs()
    # A quantity without variance is compared up to rounding.
    allowed = errors * error + 1e-9 * (1 + expected.abs())
    assert (gap <= allowed).all(), f"off by {(gap / error).max():.1f} standard errors"


@dataclass(frozen=True)
class Normal:
    """N(mean, covariance)."""

    mean: Tensor
    covariance: Tensor

    @staticmethod
    def random(dim: int, seed: torch.Generator) -> Normal:
        root = normals(dim, dim, seed=seed)
        eye = torch.eye(dim, dtype=torch.float64)
        return Normal(normals(dim, seed=seed), 0.3 * root @ root.T + 0.5 * eye)

    @staticmethod
    def standard(dim: int) -> Normal:
        return Normal(torch.zeros(dim).double(), torch.eye(dim).double())

    def log_prob(self, value: Tensor) -> Tensor:
        offset = value - self.mean
        exponent = (offset * torch.linalg.solve(self.covariance, offset.T).T).sum(-1)
        return -0.5 * (exponent + self.covariance.logdet() + len(self.mean) * math.log(2 * math.pi))

    def sigma_points(self) -> Tensor:
        """2D points with this mean and covariance: averages of quadratics over them are exact."""
        dim = len(self.mean)
        root = math.sqrt(dim) * torch.linalg.cholesky(self.covariance).T
        return torch.cat([self.mean + root, self.mean - root])

    def part(self, rows: slice) -> Normal:
        return Normal(self.mean[rows], self.covariance[rows, rows])


def gaussian_cross_entropy(a: Normal, b: Normal) -> Tensor:
    offset = a.mean - b.mean
    precision = torch.linalg.inv(b.covariance)
    exponent = (precision * a.covariance).sum() + offset @ precision @ offset
    return 0.5 * (exponent + b.covariance.logdet() + len(a.mean) * math.log(2 * math.pi))


def gaussian_entropy(a: Normal) -> Tensor:
    return 0.5 * (a.covariance.logdet() + len(a.mean) * math.log(2 * math.pi * math.e))


def gaussian_kl(a: Normal, b: Normal) -> Tensor:
    return gaussian_cross_entropy(a, b) - gaussian_entropy(a)


@dataclass(frozen=True)
class LinearGaussian:
    """q(z|x) = N(Ax + a, diag s_q²), p(x|z) = N(Bz + b, diag s_p²), all priors normal."""

    A: Tensor
    a: Tensor
    s_q: Tensor
    B: Tensor
    b: Tensor
    s_p: Tensor
    data: Normal
    anchor: Normal
    q_x: Normal
    p_z: Normal

    @staticmethod
    def random(dim_x: int, dim_z: int, seed: int) -> LinearGaussian:
        source = generator(seed)
        return LinearGaussian(
            A=0.5 * normals(dim_z, dim_x, seed=source),
            a=normals(dim_z, seed=source),
            s_q=0.3 + normals(dim_z, seed=source).abs(),
            B=0.5 * normals(dim_x, dim_z, seed=source),
            b=normals(dim_x, seed=source),
            s_p=0.3 + normals(dim_x, seed=source).abs(),
            data=Normal.random(dim_x, source),
            anchor=Normal.standard(dim_z),
            q_x=Normal.random(dim_x, source),
            p_z=Normal.random(dim_z, source),
        )

    @staticmethod
    def consistent(dim_x: int, dim_z: int, seed: int) -> LinearGaussian:
        """q(x, z) = p(x, z) with the anchors as priors; B makes the posterior diagonal."""
        source = generator(seed)
        s_p = 0.3 + normals(dim_x, seed=source).abs()
        orthogonal = torch.linalg.qr(normals(dim_x, dim_x, seed=source))[0][:, :dim_z]
        orthogonal = nn.functional.pad(orthogonal, (0, dim_z - orthogonal.shape[1]))
        strength = 0.5 + normals(dim_z, seed=source).abs()
        B = s_p[:, None] * orthogonal * strength
        b = normals(dim_x, seed=source)
        zero = torch.zeros_like(B)
        unfinished = LinearGaussian(
            A=zero.T, a=zero[0], s_q=strength, B=B, b=b, s_p=s_p,
            data=Normal.standard(dim_x), anchor=Normal.standard(dim_z),
            q_x=Normal.standard(dim_x), p_z=Normal.standard(dim_z),
        )  # fmt: skip
        weight, bias, covariance = unfinished.posterior()
        marginal = unfinished.marginal()
        return replace(
            unfinished, A=weight, a=bias, s_q=covariance.diagonal().sqrt(),
            data=marginal, q_x=marginal,
        )  # fmt: skip

    def with_anchors_as_priors(self) -> LinearGaussian:
        return replace(self, q_x=self.data, p_z=self.anchor)

    def encoding_joint(self, x: Normal) -> Normal:
        """q(z|x) times a density of x."""
        cross = x.covariance @ self.A.T
        z = self.A @ cross + self.s_q.square().diag()
        covariance = torch.cat([torch.cat([x.covariance, cross], 1), torch.cat([cross.T, z], 1)])
        return Normal(torch.cat([x.mean, self.A @ x.mean + self.a]), covariance)

    def decoding_joint(self, z: Normal) -> Normal:
        """p(x|z) times a density of z."""
        cross = self.B @ z.covariance
        x = cross @ self.B.T + self.s_p.square().diag()
        covariance = torch.cat([torch.cat([x, cross], 1), torch.cat([cross.T, z.covariance], 1)])
        return Normal(torch.cat([self.B @ z.mean + self.b, z.mean]), covariance)

    @property
    def encoding(self) -> Normal:
        """q(z|x) P(x)."""
        return self.encoding_joint(self.data)

    @property
    def decoding(self) -> Normal:
        """p(x|z) P(z)."""
        return self.decoding_joint(self.anchor)

    @property
    def q(self) -> Normal:
        """q(z|x) q(x)."""
        return self.encoding_joint(self.q_x)

    @property
    def p(self) -> Normal:
        """p(x|z) p(z)."""
        return self.decoding_joint(self.p_z)

    def marginal(self) -> Normal:
        """p(x) = E_{p(z)} p(x|z)."""
        return self.p.part(slice(len(self.b)))

    def posterior(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, bias and covariance of p(z|x), which is linear in x."""
        precision = self.s_p.square().reciprocal().diag()
        prior = torch.linalg.inv(self.p_z.covariance)
        covariance = torch.linalg.inv(prior + self.B.T @ precision @ self.B)
        weight = covariance @ self.B.T @ precision
        return weight, covariance @ prior @ self.p_z.mean - weight @ self.b, covariance

    def mutual_information(self, joint: Normal) -> Tensor:
        split = len(self.b)
        x, z = joint.part(slice(split)), joint.part(slice(split, None))
        return gaussian_entropy(x) + gaussian_entropy(z) - gaussian_entropy(joint)

    def encoder_entropy(self) -> Tensor:
        """H(q(z|x)), which is the same at every x."""
        return self.s_q.log().sum() + 0.5 * len(self.a) * math.log(2 * math.pi * math.e)

    def vae_loss(self) -> Tensor:
        """-E log p(x|z) + E KL(q(z|x) ‖ p(z)) over the data."""
        return gaussian_cross_entropy(self.encoding, self.p) - self.encoder_entropy()

    def modules(self) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module, nn.Module]:
        """Encoder, decoder, prior, data prior and anchor."""
        return (
            LinearNormal(self.A, self.a, self.s_q),
            LinearNormal(self.B, self.b, self.s_p),
            Unconditional(self.p_z),
            Unconditional(self.q_x),
            Unconditional(self.anchor),
        )


class LinearNormal(nn.Module):
    """N(Wv + b, diag s²) given v."""

    def __init__(self, weight: Tensor, bias: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.log_scale = nn.Parameter(scale.log())

    def forward(self, condition: Tensor) -> Independent:
        loc = condition @ self.weight.T + self.bias
        return Independent(TorchNormal(loc, self.log_scale.exp().expand_as(loc)), 1)


class Unconditional(nn.Module):
    def __init__(self, normal: Normal) -> None:
        super().__init__()
        self.loc, self.covariance = normal.mean, normal.covariance

    def forward(self) -> MultivariateNormal:
        return MultivariateNormal(self.loc, self.covariance)


def joint(case: LinearGaussian) -> mm.Joint:
    """The oracle's encoder, decoder and prior as a model."""
    encoder, decoder, prior, _, _ = case.modules()
    return mm.Joint(encoder, decoder, prior)


def draws(normal: Normal, count: int) -> Tensor:
    """Draws of a normal by the global generator, shape (count, D)."""
    root = torch.linalg.cholesky(normal.covariance)
    return normal.mean + torch.randn(count, len(normal.mean), dtype=torch.float64) @ root.T


def expectation(a: Tensor, f: Tensor) -> Tensor:
    return (a * f).sum()


def entropy(a: Tensor) -> Tensor:
    return -torch.special.xlogy(a, a).sum()


def kl(a: Tensor, b: Tensor) -> Tensor:
    return (a * (a / b).log()).sum()


@dataclass(frozen=True)
class Discrete:
    """Tables over x in {0..Kx-1} and z in {0..Kz-1}; joints have shape (Kx, Kz)."""

    P_x: Tensor
    P_z: Tensor
    q_zx: Tensor
    p_xz: Tensor
    q_x: Tensor
    p_z: Tensor

    @staticmethod
    def random(num_x: int, num_z: int, seed: int) -> Discrete:
        source = generator(seed)

        def table(*shape: int) -> Tensor:
            return normals(*shape, seed=source).softmax(-1)

        return Discrete(
            table(num_x), table(num_z), table(num_x, num_z), table(num_z, num_x), table(num_x),
            table(num_z),
        )  # fmt: skip

    @staticmethod
    def consistent(num_x: int, num_z: int, seed: int) -> Discrete:
        """Both factorisations of one joint distribution, anchors as priors."""
        joint = normals(num_x, num_z, seed=generator(seed)).flatten().softmax(-1)
        joint = joint.reshape(num_x, num_z)
        x, z = joint.sum(1), joint.sum(0)
        return Discrete(x, z, joint / x[:, None], (joint / z).T, x, z)

    def with_anchors_as_priors(self) -> Discrete:
        return replace(self, q_x=self.P_x, p_z=self.P_z)

    def with_marginal(self) -> Discrete:
        """q(x) is the exact marginal of the decoder."""
        return replace(self, q_x=self.p_z @ self.p_xz)

    @property
    def encoding(self) -> Tensor:
        return self.P_x[:, None] * self.q_zx

    @property
    def decoding(self) -> Tensor:
        return (self.P_z[:, None] * self.p_xz).T

    @property
    def q(self) -> Tensor:
        return self.q_x[:, None] * self.q_zx

    @property
    def p(self) -> Tensor:
        return (self.p_z[:, None] * self.p_xz).T

    @property
    def M_S(self) -> Tensor:
        return 0.5 * (self.encoding + self.decoding)

    @property
    def M_theta(self) -> Tensor:
        return 0.5 * (self.q + self.p)

    def jsd(self) -> Tensor:
        return 0.5 * (kl(self.decoding, self.M_S) + kl(self.encoding, self.M_S))

    def skl(self) -> Tensor:
        return 0.5 * (kl(self.decoding, self.encoding) + kl(self.encoding, self.decoding))

    def r_h(self) -> Tensor:
        return 0.5 * (entropy(self.decoding) + entropy(self.encoding))

    def r_mim(self) -> Tensor:
        divergence = 0.5 * (kl(self.M_S, self.p) + kl(self.M_S, self.q))
        return divergence - kl(self.M_S, self.M_theta)

    def partition(self) -> Tensor:
        """β of Eq. (15), the sum of the geometric mean."""
        return (self.q * self.p).sqrt().sum()

    def mutual_information(self, joint: Tensor) -> Tensor:
        return entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint)

    def log_tables(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log q(z|x), log q(x), log p(x|z), log p(z), each of shape (Kx, Kz)."""
        shape = self.encoding.shape
        return (
            self.q_zx.log(),
            self.q_x.log()[:, None].expand(shape),
            self.p_xz.T.log(),
            self.p_z.log().expand(shape),
        )

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Every (x, z) in the order of the tables, each of shape (Kx Kz, 1)."""
        num_x, num_z = self.encoding.shape
        x, z = torch.meshgrid(torch.arange(num_x), torch.arange(num_z), indexing="ij")
        return x.reshape(-1, 1), z.reshape(-1, 1)

    def modules(self) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module, nn.Module]:
        """Encoder, decoder, prior, data prior and anchor."""
        return (
            Table(self.q_zx),
            Table(self.p_xz),
            UnconditionalTable(self.p_z),
            UnconditionalTable(self.q_x),
            UnconditionalTable(self.P_z),
        )


class Table(nn.Module):
    """A categorical value given another; values and conditions have shape (B, 1)."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(table.log())

    def forward(self, condition: Tensor) -> Independent:
        return Independent(
            Categorical(logits=self.logits[condition.long()], validate_args=False), 1
        )


class UnconditionalTable(nn.Module):
    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(table.log())

    def forward(self) -> Independent:
        return Independent(Categorical(logits=self.logits[None], validate_args=False), 1)


# Marks for tests of an oracle: of a few sizes, random, encoder and decoder at odds.
discrete = pytest.mark.parametrize(
    "oracle",
    [Discrete.random(2, 2, 0), Discrete.random(3, 5, 1), Discrete.random(7, 4, 2)],
    ids=["2x2", "3x5", "7x4"],
)
gaussian = pytest.mark.parametrize(
    "oracle",
    [LinearGaussian.random(x, z, seed) for x, z, seed in ((1, 1, 0), (3, 2, 1), (2, 4, 2))],
    ids=["1-1", "3-2", "2-4"],
)
