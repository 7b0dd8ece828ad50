"""The bottleneck of a variational autoencoder: each latent is a normal distribution, not a point."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Gaussian(NamedTuple):
    """Normal distributions of latents: mean and log_variance, both [B, D, F]."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """mean + sigma * eps with eps from N(0, 1), so that gradients reach both (the reparameterisation)."""
        return self.mean + (self.log_variance / 2).exp() * torch.randn_like(self.mean)

    def divergence(self) -> Tensor:
        """KL divergence from N(0, 1), mean over all elements: -1/2 (1 + log sigma^2 - mu^2 - sigma^2)."""
        terms = 1 + self.log_variance - self.mean.square() - self.log_variance.exp()
        return -0.5 * terms.mean()


class GaussianBottleneck(nn.Module):
    """Two heads on the encoder's latents: means and log variances. Source: Kingma and Welling 2014, eq. 10, appendix B.

    latents [B, D, F] -> Gaussian of the same shape.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean = nn.Linear(dim, dim)
        self.log_variance = nn.Linear(dim, dim)

    def forward(self, latents: Tensor) -> Gaussian:
        frames = latents.transpose(1, 2)
        mean, log_variance = (head(frames).float().transpose(1, 2) for head in (self.mean, self.log_variance))
        return Gaussian(mean, log_variance)
