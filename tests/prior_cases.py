"""Tiny priors, their recipe and their data, for the tests of the prior."""

from pathlib import Path

import numpy as np
import torch

from audiocodec.codes import CodeSpace
from audiocodec.prior.config import NetworkConfig, PriorConfig
from audiocodec.prior.data import CodedClips
from audiocodec.prior.network import Prior
from audiocodec.prior.recipe import PriorDataConfig, PriorRecipe
from audiocodec.prior.store import save_prior
from audiocodec.train.recipe import OptimizerConfig

KINDS = ("speech", "music")
NETWORK = NetworkConfig(
    embedding_dim=8, dim=32, n_layers=2, n_heads=2, expansion=2, span=8, depth_dim=32, dropout=0.0
)
RECIPE = PriorRecipe(
    name="tiny",
    steps=120,
    learning_rate=(1e-2, 1e-3),
    prior=NETWORK,
    data=PriorDataConfig(batch_size=4, crop_frames=24, kinds=KINDS),
    optimizer=OptimizerConfig(betas=(0.9, 0.98), warmup_steps=10, ema_decay=0.9),
)
SPACE_ID = "00" * 16
ONE = [[1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5]]
OTHER = [[9, 8, 9, 10, 11, 15], [7, 6, 5, 4, 7, 6]]


def save_random_prior(folder: Path, space: CodeSpace) -> Path:
    """Writes a prior for the codes of `space` that knows nothing."""
    torch.manual_seed(0)
    config = PriorConfig(space.id.hex(), space.model, space.codebook_sizes, KINDS, NETWORK)
    save_prior(Prior(config), folder)
    return folder


def patterns(*rows: list[list[int]]) -> CodedClips:
    """A clip for each pattern [n_q][frames], repeated; the n-th is of the n-th kind."""
    codes = [torch.tensor(row, dtype=torch.int16).repeat(1, 20) for row in rows]
    starts = np.cumsum([0, *(clip.shape[1] for clip in codes)])
    names = tuple(f"{n}.wav" for n in range(len(rows)))
    return CodedClips(names, torch.cat(codes, 1), torch.from_numpy(starts), torch.arange(len(rows)))
