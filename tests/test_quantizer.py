"""The residual quantizer equals its formulas, computed the slow way."""

import math

import pytest
import torch

from audiocodec.model.config import QuantizerConfig, ResidualConfig
from audiocodec.model.gaussian import Gaussian, GaussianBottleneck
from audiocodec.model.quantizer import ResidualQuantizer, straight_through, substitute_noise
from audiocodec.model.vector_quantizer import nearest

B, D, F = 3, 6, 8


def quantizer(frames_per_code: tuple[int, ...] = (1, 1, 1), **residual: object) -> ResidualQuantizer:
    """Statistics and gates, where there are any, are not those of the beginning."""
    torch.manual_seed(0)
    model = ResidualQuantizer(QuantizerConfig((16, 8, 8), frames_per_code), D, ResidualConfig(**residual))
    for level in model.levels:
        if level.mean is not None:
            level.mean.data.normal_()
            level.deviation.data.uniform_(0.5, 2)
        if level.gate is not None:
            level.gate.weight.data.normal_()
            level.gate.bias.data.normal_()
    return model


def latents() -> torch.Tensor:
    return torch.randn(B, D, F, generator=torch.Generator().manual_seed(1))


def slow_encode(z: torch.Tensor, codebooks: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Codes [B, n_q, F] and the entries of each level, vector by vector."""
    codes = torch.zeros(B, len(codebooks), F, dtype=torch.int64)
    entries = [torch.zeros_like(z) for _ in codebooks]
    for b in range(B):
        for f in range(F):
            residual = z[b, :, f]
            for n, codebook in enumerate(codebooks):
                best = min(range(len(codebook)), key=lambda k: float(((residual - codebook[k]) ** 2).sum()))
                codes[b, n, f], entries[n][b, :, f] = best, codebook[best]
                residual = residual - codebook[best]
    return codes, entries


def test_codes_in_training_are_the_nearest_entries_level_by_level() -> None:
    model, z = quantizer(), latents()
    codebooks = [level.codebook.detach() for level in model.levels]
    codes, entries = slow_encode(z, codebooks)
    assert torch.equal(model(z, torch.full((B,), 3)).codes, codes)
    torch.testing.assert_close(model.decode(codes), sum(entries))
    assert torch.equal(model(z, torch.full((B,), 2), levels=2).codes, codes[:, :2])


def test_ties_go_to_the_lowest_code() -> None:
    assert nearest(torch.zeros(1, 1, 2), torch.tensor([[1.0], [-1.0], [1.0]])).tolist() == [[0, 0]]


def test_codebook_and_commitment_terms_equal_their_formulas() -> None:
    model, z = quantizer(), latents()
    _, entries = slow_encode(z, [level.codebook.detach() for level in model.levels])
    residual, expected = z, []
    for entry in entries:
        expected.append(((residual - entry) ** 2).mean())
        residual = residual - entry
    out = model(z, torch.full((B,), 3))
    torch.testing.assert_close(out.codebook_loss, torch.stack(expected).mean())
    torch.testing.assert_close(out.commitment_loss, torch.stack(expected).mean())


def test_the_codebook_term_moves_codebooks_and_the_commitment_term_latents() -> None:
    model, z = quantizer(), latents().requires_grad_()
    out = model(z, torch.full((B,), 3))
    out.codebook_loss.backward(retain_graph=True)
    assert z.grad is None and all(level.codebook.grad.abs().sum() > 0 for level in model.levels)
    for level in model.levels:
        level.codebook.grad = None
    out.commitment_loss.backward()
    assert all(level.codebook.grad is None for level in model.levels)
    # d/dz of mean over levels of mean squared r_n, with r_n = z - (entries, held constant)
    _, entries = slow_encode(z.detach(), [level.codebook.detach() for level in model.levels])
    residual, expected = z.detach(), torch.zeros_like(z)
    for entry in entries:
        residual = residual - entry
        expected += 2 * residual / residual.numel() / len(entries)
    torch.testing.assert_close(z.grad, expected)


def test_the_gradient_goes_straight_through() -> None:
    model, z = quantizer(), latents().requires_grad_()
    out = model(z, torch.tensor([1, 2, 3]))
    weights = torch.randn(B, D, F, generator=torch.Generator().manual_seed(2))
    (out.quantized * weights).sum().backward()
    torch.testing.assert_close(z.grad, weights)  # as if the quantizer were the identity
    assert all(
        level.codebook.grad is None for level in model.levels
    )  # none to the codebooks through the decoder


def test_items_use_as_many_levels_as_asked_but_residuals_know_nothing_of_it() -> None:
    model, z = quantizer(), latents()
    n_q = torch.tensor([1, 2, 3])
    out, full = model(z, n_q), model(z, torch.full((B,), 3))
    for item in range(B):
        torch.testing.assert_close(
            out.quantized[item : item + 1], model.decode(full.codes[item : item + 1, : n_q[item]])
        )
    assert torch.equal(out.codes, full.codes) and torch.equal(out.residuals, full.residuals)


def test_frames_may_use_as_many_levels_as_each_is_asked() -> None:
    model, z = quantizer(), latents()
    counts = torch.randint(1, 4, (B, z.shape[2]), generator=torch.Generator().manual_seed(3))
    out = model(z, counts)
    torch.testing.assert_close(out.quantized, model.decode(out.codes, counts))
    item = torch.tensor([1, 2, 3])
    repeated = item[:, None].expand(-1, z.shape[2])
    torch.testing.assert_close(model(z, repeated).quantized, model(z, item).quantized)


def test_searched_training_has_the_codes_that_coding_finds() -> None:
    model, z = quantizer(), latents()
    out = model(z, torch.full((B,), 3), searched=True)
    assert torch.equal(out.codes, model.encode(z, 3))
    assert not torch.equal(out.codes, model(z, torch.full((B,), 3)).codes)
    torch.testing.assert_close(out.quantized, model.decode(out.codes))
    torch.testing.assert_close(out.residuals[:, 2], z - model.decode(out.codes[:, :2]))


def test_slow_levels_code_the_mean_of_their_frames() -> None:
    model, z = quantizer((4, 2, 1)), latents()
    codes = model.encode(z, 3)
    coarse = z.unflatten(-1, (2, 4)).mean(-1)
    assert torch.equal(codes[:, 0, ::4], nearest(coarse, model.levels[0].codebook))
    assert torch.equal(codes[:, 0], codes[:, 0, ::4].repeat_interleave(4, dim=1))
    assert torch.equal(codes[:, 1], codes[:, 1, ::2].repeat_interleave(2, dim=1))


def test_noise_in_place_of_the_error_is_as_large_as_it() -> None:
    model, z = quantizer(), latents()
    n_q, noisy = torch.tensor([1, 2, 3]), torch.tensor([True, False, True])
    plain, out = model(z, n_q), model(z, n_q, noisy)
    errors = [(x.quantized - z).norm(dim=1) for x in (plain, out)]
    torch.testing.assert_close(errors[1], errors[0])
    assert torch.equal(out.quantized[1], plain.quantized[1])
    assert (out.quantized - plain.quantized)[noisy].norm(dim=1).min() > 1e-3  # another error of that size
    assert torch.equal(out.codes, plain.codes)


def test_the_gradient_of_noise_grows_with_the_error() -> None:
    z, entries = latents().requires_grad_(), torch.zeros(B, D, F)
    entries[:, :, 0] = z.detach()[:, :, 0]  # a latent that is an entry has no error
    torch.manual_seed(2)
    noisy = substitute_noise(z, entries)
    direction = ((noisy - z) / (z - entries).norm(dim=1, keepdim=True)).detach()
    noisy.square().sum().backward()
    # y = z + |z - e| n, so d/dz sum y^2 = 2 y + 2 (y . n) (z - e) / |z - e|
    unit = (z - entries) / (z - entries).norm(dim=1, keepdim=True)
    expected = 2 * noisy + 2 * (noisy * direction).sum(1, keepdim=True) * unit
    torch.testing.assert_close(z.grad[:, :, 1:], expected.detach()[:, :, 1:])
    assert z.grad.isfinite().all()


def test_the_codebook_term_is_not_its_mirror_image() -> None:
    """|sg(q) - z|^2 has the value of the codebook term and moves the encoder: the published mistake."""
    model, z = quantizer(), latents().requires_grad_()
    model(z, torch.full((B,), 3)).codebook_loss.backward()
    residual = z.detach()
    for level in model.levels:
        codes = nearest(residual, level.codebook)
        expected = torch.zeros_like(level.codebook)
        for b in range(B):
            for f in range(F):
                k = int(codes[b, f])
                gap = level.codebook.detach()[k] - residual[b, :, f]
                expected[k] += 2 * gap / residual.numel() / len(model.levels)
        torch.testing.assert_close(level.codebook.grad, expected)
        residual = residual - level.decode(codes, torch.zeros_like(residual)).detach()


def test_the_other_straight_through_would_move_the_codebook() -> None:
    z, q = (torch.randn(2, 3, generator=torch.Generator().manual_seed(n)).requires_grad_() for n in (0, 1))
    ours, other = straight_through(z, q), q + (z - z.detach())
    torch.testing.assert_close(ours, other)
    from_ours = torch.autograd.grad(ours.sum(), (z, q), allow_unused=True)
    from_other = torch.autograd.grad(other.sum(), (z, q))
    assert torch.equal(from_ours[0], torch.ones_like(z)) and from_ours[1] is None
    assert all(torch.equal(gradient, torch.ones_like(z)) for gradient in from_other)


def slow_entry(
    level: torch.nn.Module, residual: torch.Tensor, below: torch.Tensor
) -> tuple[int, torch.Tensor]:
    """Code and what it stands for, for one frame [D], by the formulas of normalised and gated levels."""
    mean = torch.zeros(D) if level.mean is None else level.mean
    deviation = torch.ones(D) if level.deviation is None else level.deviation
    gate = 1.0
    if level.gate is not None:
        score = sum(float(w) * float(x) for w, x in zip(level.gate.weight[0], below, strict=True))
        gate = 2 / (1 + math.exp(-score - float(level.gate.bias)))
    wanted = (residual - mean) / deviation / gate
    code = min(range(len(level.codebook)), key=lambda k: float(((wanted - level.codebook[k]) ** 2).sum()))
    return code, mean + deviation * gate * level.codebook[code]


@pytest.mark.parametrize(
    "residual", [{"normalised": True}, {"gated": True}, {"normalised": True, "gated": True}]
)
@torch.no_grad()
def test_normalised_and_gated_levels_equal_their_formulas(residual: dict[str, bool]) -> None:
    model, z = quantizer(**residual), latents()
    codes, decoded = torch.zeros(B, 3, F, dtype=torch.int64), torch.zeros(B, D, F)
    for b in range(B):
        for f in range(F):
            for n, level in enumerate(model.levels):
                left = z[b, :, f] - decoded[b, :, f]
                codes[b, n, f], entry = slow_entry(level, left, decoded[b, :, f])
                decoded[b, :, f] += entry
    torch.testing.assert_close(model.decode(codes), decoded)
    out = model(z, torch.full((B,), 3))
    assert torch.equal(out.codes, codes)
    torch.testing.assert_close(out.quantized, decoded)


def test_gates_learn_from_the_codebook_term_alone() -> None:
    model, z = quantizer(gated=True), latents().requires_grad_()
    out = model(z, torch.full((B,), 3))
    (out.quantized.sum() + out.commitment_loss).backward(retain_graph=True)
    assert all(level.gate.weight.grad is None for level in model.levels)
    out.codebook_loss.backward()
    assert all(level.gate.bias.grad.abs().sum() > 0 for level in model.levels)


def test_slow_levels_may_be_normalised() -> None:
    model, z = quantizer((4, 2, 1), normalised=True), latents()
    out = model(z, torch.full((B,), 3))
    torch.testing.assert_close(model.decode(out.codes), out.quantized)
    pooled = (z.unflatten(-1, (2, 4)).mean(-1) - model.levels[0].mean[:, None]) / model.levels[0].deviation[
        :, None
    ]
    assert torch.equal(out.codes[:, 0, ::4], nearest(pooled, model.levels[0].codebook))


def test_concatenated_levels_stand_side_by_side() -> None:
    model, summed, z = quantizer(combine="concat"), quantizer(), latents().requires_grad_()
    assert torch.equal(model.encode(z, 3), summed.encode(z, 3))  # how the decoder gets them changes no code
    codes, entries = slow_encode(z.detach(), [level.codebook.detach() for level in model.levels])
    torch.testing.assert_close(model.decode(codes), torch.cat(entries, dim=1))
    fewer = torch.cat([entries[0], torch.zeros(B, 2 * D, F)], dim=1)
    torch.testing.assert_close(model.decode(codes[:, :1]), fewer)
    torch.testing.assert_close(model.bypass(z)[:, D:], torch.zeros(B, 2 * D, F))
    out = model(z, torch.tensor([1, 2, 3]))
    weights = torch.randn(B, 3 * D, F, generator=torch.Generator().manual_seed(2))
    (out.quantized * weights).sum().backward()
    expected = torch.stack([sum(weights[item].split(D)[: item + 1]) for item in range(B)])
    torch.testing.assert_close(z.grad, expected)  # of the levels that an item uses
    for item in range(B):
        torch.testing.assert_close(out.quantized[item], model.decode(codes[item : item + 1, : item + 1])[0])


def test_soft_assignment_equals_its_formula() -> None:
    model, z, temperature = quantizer(), latents().requires_grad_(), 2.0
    out = model(z, torch.full((B,), 3), temperature=temperature)
    codebooks = [level.codebook.detach().clone().requires_grad_() for level in model.levels]
    frames = []
    for b in range(B):
        for f in range(F):
            residual, total = z.detach()[b, :, f], torch.zeros(D)
            for codebook in codebooks:
                scores = torch.stack([-((residual - entry) ** 2).sum() / temperature for entry in codebook])
                powers = (scores - scores.max()).exp()
                entry = sum(p / powers.sum() * e for p, e in zip(powers, codebook, strict=True))
                residual, total = residual - entry.detach(), total + entry
            frames.append(total)
    expected = torch.stack(frames).unflatten(0, (B, F)).transpose(1, 2)
    torch.testing.assert_close(out.quantized, expected)
    weights = torch.randn(B, D, F, generator=torch.Generator().manual_seed(2))
    (out.quantized * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(z.grad, weights)  # the latents' gradient goes straight through
    for level, codebook in zip(model.levels, codebooks, strict=True):
        torch.testing.assert_close(level.codebook.grad, codebook.grad)


def test_soft_assignment_becomes_hard() -> None:
    model, z = quantizer((4, 2, 1)), latents()
    hard, soft = (model(z, torch.full((B,), 3), temperature=t) for t in (0.0, 1e-4))
    torch.testing.assert_close(soft.quantized, hard.quantized)


def test_fewer_levels_can_be_trained() -> None:
    model, z = quantizer(), latents()
    out, first = (
        model(z, torch.full((B,), 2), levels=2),
        ResidualQuantizer(QuantizerConfig((16, 8), (1, 1)), D),
    )
    first.load_state_dict({key: value for key, value in model.state_dict().items() if "levels.2" not in key})
    alone = first(z, torch.full((B,), 2))
    assert out.codes.shape == (B, 2, F) and all(map(torch.equal, out, alone))


def test_the_divergence_from_a_normal_distribution_equals_its_formula() -> None:
    torch.manual_seed(0)
    gaussian = Gaussian(torch.randn(B, D, F), torch.randn(B, D, F))
    terms = [
        1 + float(v) - float(m) ** 2 - math.exp(float(v))
        for m, v in zip(gaussian.mean.flatten(), gaussian.log_variance.flatten(), strict=True)
    ]
    assert float(gaussian.divergence()) == pytest.approx(-0.5 * sum(terms) / len(terms), rel=1e-5)
    ours = torch.distributions.Normal(gaussian.mean, (gaussian.log_variance / 2).exp())
    theirs = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(gaussian.divergence(), theirs)
    assert float(Gaussian(torch.zeros(2), torch.zeros(2)).divergence()) == 0


def test_samples_hand_gradients_to_mean_and_variance() -> None:
    torch.manual_seed(0)
    gaussian = Gaussian(torch.randn(B, D, F).requires_grad_(), torch.randn(B, D, F).requires_grad_())
    torch.manual_seed(1)
    sample = gaussian.sample()
    torch.manual_seed(1)
    eps = torch.randn(B, D, F)
    sigma = (gaussian.log_variance / 2).exp()
    torch.testing.assert_close(sample, gaussian.mean + sigma * eps)
    sample.sum().backward()
    torch.testing.assert_close(gaussian.mean.grad, torch.ones(B, D, F))
    torch.testing.assert_close(gaussian.log_variance.grad, (eps * sigma / 2).detach())


def test_each_frame_has_a_mean_and_a_variance() -> None:
    torch.manual_seed(0)
    heads, z = GaussianBottleneck(D), latents()
    gaussian = heads(z)
    for b in range(B):
        for f in range(F):
            torch.testing.assert_close(gaussian.mean[b, :, f], heads.mean(z[b, :, f]))
            torch.testing.assert_close(gaussian.log_variance[b, :, f], heads.log_variance(z[b, :, f]))


@pytest.mark.parametrize("residual", [{}, {"combine": "concat"}, {"gated": True, "normalised": True}])
def test_each_frame_may_have_a_number_of_levels_of_its_own(residual: dict[str, object]) -> None:
    model = quantizer(**residual)
    codes = model.encode(latents(), 3)
    counts = torch.randint(4, (B, F), generator=torch.Generator().manual_seed(2))
    variable = model.decode(codes, counts)
    for n in (1, 2, 3):
        fixed = model.decode(codes[:, :n])
        here = (counts == n)[:, None].expand_as(fixed)
        torch.testing.assert_close(variable[here], fixed[here])
    assert not variable[(counts == 0)[:, None].expand_as(variable)].any()
