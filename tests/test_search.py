"""The search for codes: its best case is the best of all codes, its narrowest the nearest entry at every level."""

import itertools

import pytest
import torch

from audiocodec.model.config import QuantizerConfig, ResidualConfig
from audiocodec.model.quantizer import ResidualQuantizer
from audiocodec.model.search import LOOKAHEAD, search

B, D, F = 3, 4, 40
SIZES = (6, 5, 4, 3, 4, 5)
KINDS = [ResidualConfig(), ResidualConfig(normalised=True), ResidualConfig(gated=True)]


def quantizer(kind: ResidualConfig, n_q: int = len(SIZES)) -> ResidualQuantizer:
    """Levels that get finer; statistics and gates, where there are any, are not those of the beginning."""
    torch.manual_seed(0)
    model = ResidualQuantizer(QuantizerConfig(SIZES[:n_q], (1,) * n_q), D, kind)
    for n, level in enumerate(model.levels):
        level.codebook.data *= 0.7**n
        if level.mean is not None and level.deviation is not None:
            level.mean.data.normal_(std=0.1)
            level.deviation.data.uniform_(0.5, 1)
        if level.gate is not None:
            level.gate.weight.data.normal_()
    return model.requires_grad_(False)


def latents() -> torch.Tensor:
    return torch.randn(B, D, F, generator=torch.Generator().manual_seed(1))


def errors(model: ResidualQuantizer, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """What the codes leave of the latents: squared, [B, F]."""
    return (z - model.decode(codes)).square().sum(1)


@pytest.mark.parametrize("kind", KINDS)
def test_with_all_ways_kept_no_codes_are_better(kind: ResidualConfig) -> None:
    model, z = quantizer(kind, 4), latents()
    found = search(model.levels, z, 4, width=1000, lookahead=4)
    every = itertools.product(*(range(size) for size in SIZES[:4]))
    least = torch.stack(
        [errors(model, z, torch.tensor(codes)[None, :, None].expand(B, -1, F)) for codes in every]
    ).amin(0)
    torch.testing.assert_close(errors(model, z, found), least)


@pytest.mark.parametrize("kind", KINDS)
def test_one_way_takes_the_nearest_entry_at_every_level(kind: ResidualConfig) -> None:
    model, z = quantizer(kind), latents()
    in_training = model(z, torch.full((B,), len(SIZES))).codes
    assert torch.equal(search(model.levels, z, len(SIZES), width=1), in_training)


@pytest.mark.parametrize("kind", KINDS)
def test_it_leaves_less_than_the_nearest_entries(kind: ResidualConfig) -> None:
    model, z = quantizer(kind), latents()
    found, nearest = model.encode(z, len(SIZES)), search(model.levels, z, len(SIZES), width=1)
    assert errors(model, z, found).mean() < 0.95 * errors(model, z, nearest).mean()


@pytest.mark.parametrize("n_q", range(1, len(SIZES)))
def test_codes_of_fewer_levels_are_the_first_of_more(n_q: int) -> None:
    model, z = quantizer(KINDS[0]), latents()
    assert torch.equal(model.encode(z, n_q), model.encode(z, len(SIZES))[:, :n_q])


def test_a_level_depends_on_none_beyond_the_lookahead() -> None:
    model, z = quantizer(KINDS[0]), latents()
    before = model.encode(z, 1)
    model.levels[1 + LOOKAHEAD].codebook.data.normal_()
    assert torch.equal(model.encode(z, 1), before)
    for level in model.levels[1 : 1 + LOOKAHEAD]:
        level.codebook.data.normal_()
    assert not torch.equal(model.encode(z, 1), before)  # but those within are looked at


def test_each_item_gets_the_codes_that_it_gets_alone() -> None:
    model, z = quantizer(KINDS[0]), latents()
    alone = torch.cat([model.encode(item, len(SIZES)) for item in z.split(1)])
    assert torch.equal(model.encode(z, len(SIZES)), alone)
