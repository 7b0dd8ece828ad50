"""The residual quantizer equals its formulas, computed the slow way."""

import torch

from audiocodec.model.config import QuantizerConfig
from audiocodec.model.quantizer import ResidualQuantizer, nearest, substitute_noise

B, D, F = 3, 6, 8


def quantizer(frames_per_code: tuple[int, ...] = (1, 1, 1)) -> ResidualQuantizer:
    torch.manual_seed(0)
    return ResidualQuantizer(QuantizerConfig((16, 8, 8), frames_per_code), D)


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


def test_codes_are_the_nearest_entries_level_by_level() -> None:
    model, z = quantizer(), latents()
    codebooks = [level.codebook.detach() for level in model.levels]
    codes, entries = slow_encode(z, codebooks)
    assert torch.equal(model.encode(z, 3), codes)
    torch.testing.assert_close(model.decode(codes), sum(entries))
    assert torch.equal(model.encode(z, 2), codes[:, :2])  # levels below do not know of those above


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
