"""Codebooks: how they start and follow their data."""

import numpy as np
import pytest
import torch

from audiocodec.model.config import QuantizerConfig, ResidualConfig
from audiocodec.model.quantizer import ResidualQuantizer
from audiocodec.train.codebooks import MovingAverages, assign, follow_statistics, initialise, kmeans, refit

QUANTIZER = QuantizerConfig((16, 8), (1, 1))


def test_moving_averages_equal_their_formulas() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(QUANTIZER, 8)
    z = torch.randn(2, 8, 40)
    step = quantizer(z, torch.tensor([2, 2]))
    averages = MovingAverages.of(quantizer, decay=0.9, codes_per_step=80)
    expected = []
    for n, level in enumerate(quantizer.levels):
        size = len(level.codebook)
        entries = []
        for k in range(size):
            chosen = [
                step.residuals[b, n, :, f] for b in range(2) for f in range(40) if step.codes[b, n, f] == k
            ]
            count = 0.9 * 80 / size + 0.1 * len(chosen)
            total = 0.9 * level.codebook[k].detach() * 80 / size + 0.1 * sum(chosen, torch.zeros(8))
            smoothed = (count + 1e-5) * 80 / (80 + 1e-5 * size)
            entries.append(total / smoothed)
        expected.append(torch.stack(entries))
    averages.update(quantizer, step, refill_share=0.0, generator=torch.Generator())
    for level, entries in zip(quantizer.levels, expected, strict=True):
        torch.testing.assert_close(level.codebook.detach(), entries)


def test_counting_codes_asks_their_device_nothing() -> None:
    with torch.device("meta"):  # it could not answer
        counts, sums = assign(torch.zeros(10, 3), torch.zeros(10, dtype=torch.int64), 4)
    assert counts.shape == (4,) and sums.shape == (4, 3)


def test_idle_entries_restart_where_data_is() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(QUANTIZER, 8)
    quantizer.levels[0].codebook.data[3] = 1000.0  # far from everything
    averages = MovingAverages.of(quantizer, decay=0.5, codes_per_step=80)
    for _ in range(12):
        step = quantizer(torch.randn(2, 8, 40), torch.tensor([2, 2]))
        averages.update(quantizer, step, refill_share=0.05, generator=torch.Generator().manual_seed(0))
    assert quantizer.levels[0].codebook[3].abs().max() < 10


def test_crowded_entries_are_split_and_idle_ones_take_half() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(QuantizerConfig((6,), (1,)), 2)
    averages = MovingAverages.of(quantizer, decay=1.0, codes_per_step=60)  # decay 1: the averages stand still
    averages.counts[0] = torch.tensor([30.0, 0.1, 12.0, 8.0, 0.0, 9.9])  # an even share is 10
    averages.sums[0] = averages.counts[0].unsqueeze(1) * quantizer.levels[0].codebook.detach()
    before = quantizer.levels[0].codebook.detach().clone()
    step = quantizer(torch.randn(2, 2, 30), torch.tensor([1, 1]))
    averages.update(quantizer, step, 0.05, torch.Generator().manual_seed(0), split_share=2.0)
    assert averages.counts[0].tolist() == pytest.approx(
        [15, 15, 12, 8, 0, 9.9]
    )  # one is crowded, so one is filled
    after = quantizer.levels[0].codebook.detach()
    torch.testing.assert_close((after[0] + after[1]) / 2, before[0], atol=1e-4, rtol=0)
    assert 0 < (after[0] - after[1]).norm() < 0.5
    torch.testing.assert_close(after[[2, 3, 5]], before[[2, 3, 5]], atol=1e-4, rtol=0)


def test_an_adaptive_codebook_comes_to_be_used() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(QuantizerConfig((32,), (1,)), 2)
    quantizer.levels[0].codebook.data[1:] += 100  # all but one are nowhere near
    averages = MovingAverages.of(quantizer, decay=0.9, codes_per_step=400)
    for _ in range(150):
        step = quantizer(torch.randn(4, 2, 100), torch.full((4,), 1))
        averages.update(quantizer, step, 0.03, torch.Generator().manual_seed(0), split_share=2.0)
    assert len(step.codes.unique()) > 12
    assert averages.counts[0].max() < 3 * averages.counts[0].mean()


def test_statistics_of_residuals_equal_their_formulas() -> None:
    torch.manual_seed(0)
    model = ResidualQuantizer(QuantizerConfig((8,), (2,)), 3, ResidualConfig(normalised=True))
    level, z = model.levels[0], 5 * torch.randn(2, 3, 40) + 1
    pooled = np.stack([z[b, :, f : f + 2].mean(1).numpy() for b in range(2) for f in range(0, 40, 2)])
    follow_statistics(level, z, decay=0.9)
    np.testing.assert_allclose(level.mean.numpy(), 0.1 * pooled.mean(0), rtol=1e-4)
    np.testing.assert_allclose(level.deviation.numpy(), 0.9 + 0.1 * pooled.std(0), rtol=1e-4)


def test_random_entries_are_residuals() -> None:
    torch.manual_seed(0)
    model = ResidualQuantizer(QuantizerConfig((64, 64), (1, 1)), 4, ResidualConfig(normalised=True))
    z = torch.tensor([9.0, 1.0, 1.0, 0.1])[:, None] * torch.randn(4, 4, 200)
    untouched = model.levels[1].codebook.clone()
    initialise(model, z, torch.Generator().manual_seed(0), range(1), start="random")
    level = model.levels[0]
    entries = level.place(level.codebook.T[None], torch.zeros(1, 4, 64))[0].T
    assert torch.cdist(entries, z.transpose(1, 2).flatten(0, 1)).min(1).values.max() < 1e-2  # cdist rounds
    assert torch.equal(model.levels[1].codebook, untouched)
    initialise(model, z, torch.Generator().manual_seed(0), range(1, 2), start="random")
    assert not torch.equal(model.levels[1].codebook, untouched)


def test_kmeans_finds_separate_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    vectors = centres.repeat(50, 1) + 0.1 * torch.randn(200, 2, generator=generator)
    found = min(
        (kmeans(vectors, 4, torch.Generator().manual_seed(s)) for s in range(5)),
        key=lambda c: spread(vectors, c),
    )
    assert spread(vectors, found) < 0.1


def spread(vectors: torch.Tensor, centres: torch.Tensor) -> float:
    return float(torch.cdist(vectors, centres).min(1).values.square().mean())


def test_first_codebooks_leave_less_with_every_level() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(QuantizerConfig((32, 32, 32), (1, 1, 1)), 4)
    z = torch.randn(4, 4, 200)
    initialise(quantizer, z, torch.Generator().manual_seed(0))
    left = [(z - quantizer.decode(quantizer.encode(z, n))).square().mean().item() for n in (1, 2, 3)]
    assert 1 > left[0] > left[1] > left[2]


@pytest.mark.parametrize(
    "residual", [ResidualConfig(), ResidualConfig(gated=True), ResidualConfig(normalised=True)]
)
def test_refitted_codebooks_leave_less_and_keep_their_order(residual: ResidualConfig) -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(QuantizerConfig((16, 16), (1, 1)), 2, residual)
    initialise(quantizer, torch.randn(1, 2, 200), torch.Generator().manual_seed(0))  # from too little
    quantizer.levels[0].codebook.data[5] = 100.0  # chosen by none
    old = [level.codebook.detach().clone() for level in quantizer.levels]
    fresh = torch.randn(1, 2, 5000)

    def error() -> float:
        codes = quantizer(fresh, torch.tensor([2])).codes
        return float((fresh - quantizer.decode(codes)).square().mean().detach())

    before = error()
    refit(quantizer, torch.randn(1, 2, 20000))
    assert error() < 0.95 * before
    for level, entries in zip(quantizer.levels, old, strict=True):
        itself = torch.cdist(level.codebook.detach(), entries).argmin(1) == torch.arange(16)
        assert itself.float().mean() > 0.8
    assert torch.equal(quantizer.levels[0].codebook[5], old[0][5])
