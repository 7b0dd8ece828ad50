"""The prior: it learns and samples what it should, is cached and seeded soundly, and refuses what cannot be."""

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from prior_cases import KINDS, NETWORK, ONE, OTHER, RECIPE, SPACE_ID, patterns, save_random_prior

from audiocodec.codec import Codec, join_codes
from audiocodec.errors import AudioError, ModelError
from audiocodec.model.catalogue import PRIOR
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import QuantizerConfig
from audiocodec.prior import bits_per_code, generate, generate_codes, likelihood, load_prior
from audiocodec.prior.config import PriorConfig
from audiocodec.prior.data import CodedClips
from audiocodec.prior.network import Prior, first_embeddings, rotation_of, span_mask
from audiocodec.prior.sampling import Sampler, draw_code
from audiocodec.prior.state import new_training, train_step


def random_prior() -> Prior:
    """A prior of two levels with random weights, large enough to matter."""
    torch.manual_seed(0)
    prior = Prior(PriorConfig(SPACE_ID, "tiny", (16, 8), KINDS, NETWORK)).eval().requires_grad_(False)
    for weights in prior.parameters():
        if weights.ndim == 2:
            weights.mul_(3)
    return prior


def random_codes(n_frames: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, 16, n_frames), rng.integers(0, 8, n_frames)]).astype(np.int16)


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory, tiny_codec: Codec) -> Prior:
    """A prior for the tiny model that knows nothing."""
    return load_prior(save_random_prior(tmp_path_factory.mktemp("priors") / PRIOR, tiny_codec.space))


def trained(clips: CodedClips) -> Prior:
    """A tiny prior, trained on clips."""
    torch.manual_seed(0)
    quantizer = QuantizerConfig((16, 8), (1, 1))
    model = CodecModel(dataclasses.replace(TINY, quantizer=quantizer))
    state = new_training(RECIPE, model, torch.device("cpu"))
    for _ in range(RECIPE.steps):
        train_step(state, clips, bf16=False)
    return state.averaged


@pytest.fixture(scope="module")
def of_two_patterns() -> Prior:
    return trained(patterns(ONE, OTHER))


def test_it_overfits_a_repeated_pattern_and_reproduces_it(of_two_patterns: Prior) -> None:
    pattern = np.tile(np.array(OTHER, np.int16), 20)
    assert bits_per_code(of_two_patterns, pattern)[:, 2:].mean() < 0.05
    assert bits_per_code(of_two_patterns, random_codes(120)).mean() > 3
    sampler = Sampler(of_two_patterns, seed=5)
    sampler.read(pattern[:, :4])
    assert np.array_equal(sampler.draw(60), pattern[:, 4:64])


def test_a_kind_gives_what_is_of_that_kind(of_two_patterns: Prior) -> None:
    for kind, pattern in zip(KINDS, (ONE, OTHER), strict=True):
        frames = set(zip(*pattern, strict=True))
        drawn = np.concatenate([Sampler(of_two_patterns, kind=kind, seed=n).draw(12).T for n in range(10)])
        assert np.mean([tuple(map(int, frame)) in frames for frame in drawn]) > 0.75
    told, not_told, wrong = (
        bits_per_code(of_two_patterns, np.array(ONE, np.int16), kind)[:, 0].sum()
        for kind in ("speech", None, "music")
    )
    assert told < not_told < wrong


def test_without_a_kind_all_kinds_come(of_two_patterns: Prior) -> None:
    first = {int(Sampler(of_two_patterns, seed=seed).draw(1)[0, 0]) for seed in range(30)}
    assert first & set(ONE[0]) and first & set(OTHER[0])


def test_what_a_frame_is_worth_depends_on_the_past_within_the_span_only() -> None:
    prior, codes = random_prior(), random_codes(60)
    before = bits_per_code(prior, codes)
    changed = codes.copy()
    changed[1, 30] = (changed[1, 30] + 1) % 8
    differs = np.abs(bits_per_code(prior, changed) - before) > 1e-6
    assert not differs[:, :30].any() and not differs[0, 30]
    assert differs[1, 30] and differs[:, 31].all()
    reach = NETWORK.n_layers * (NETWORK.span - 1) + 1
    assert not differs[:, 31 + reach :].any() and differs[:, 31 + reach // 2].any()


def test_cached_contexts_equal_whole_ones() -> None:
    prior, codes = random_prior(), torch.from_numpy(random_codes(40).astype(np.int64))[None]
    embedded, kinds = prior.embed(codes), torch.tensor([1])
    whole, _ = prior.contexts(embedded, kinds, prior.initial_state(1))
    state, parts = prior.initial_state(1), []
    for first, last in ((0, 0), (0, 1), (1, 2), (2, 13), (13, 14), (14, 40)):
        context, state = prior.contexts(embedded[:, first:last], kinds, state)
        parts.append(context)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-5)
    assert state.n_frames == 41 and state.layers[0][0].shape[2] == NETWORK.span - 1


def test_attention_equals_its_slow_twin() -> None:
    prior, n_frames = random_prior(), 12
    attention, network = prior.blocks[0].attention, NETWORK
    x = torch.randn(1, n_frames, network.dim)
    width = network.dim // network.n_heads
    queries, keys, values = attention.enter(x)[0].view(n_frames, 3, network.n_heads, width).unbind(1)

    def turned(vector: torch.Tensor, frame: int) -> torch.Tensor:
        pairs = torch.complex(vector[: width // 2], vector[width // 2 :])
        rates = 10000 ** (-torch.arange(0, width, 2) / width)
        out = pairs * torch.exp(1j * frame * rates)
        return torch.cat([out.real, out.imag])

    expected = torch.zeros(n_frames, network.n_heads, width)
    for head in range(network.n_heads):
        for t in range(n_frames):
            past = range(max(0, t - network.span + 1), t + 1)
            scores = torch.stack([turned(queries[t, head], t) @ turned(keys[s, head], s) for s in past])
            weights = (scores / math.sqrt(width)).softmax(0)
            expected[t, head] = sum(w * values[s, head] for w, s in zip(weights, past, strict=True))
    state = prior.initial_state(1).layers[0]
    mask = span_mask(n_frames, 0, network.span, x.device)
    found, _ = attention(x, rotation_of(0, n_frames, width, x.device), mask, state)
    torch.testing.assert_close(found[0], attention.leave(expected.flatten(1)), rtol=1e-4, atol=1e-4)


def test_long_recordings_are_scored_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, codes = random_prior(), random_codes(50)
    whole = prior.bits(torch.from_numpy(codes.astype(np.int64))[None], torch.tensor([2]))[0].numpy()
    monkeypatch.setattr(likelihood, "PIECE_FRAMES", 7)
    np.testing.assert_allclose(bits_per_code(prior, codes), whole, atol=1e-4)
    with pytest.raises(ModelError, match=r"expected \[2, F\]"):
        bits_per_code(prior, codes[:1])


def test_bits_are_those_of_a_distribution() -> None:
    prior, codes = random_prior(), random_codes(3)
    chances = 0.0
    for first in range(16):
        for second in range(8):
            codes[:, -1] = first, second
            chances += 2.0 ** -float(bits_per_code(prior, codes)[:, -1].sum())
    assert chances == pytest.approx(1, abs=1e-4)


def test_draws_are_as_frequent_as_their_probabilities() -> None:
    logits, generator = torch.tensor([0.0, 1.0, 2.0, -50.0]), torch.Generator().manual_seed(0)
    for temperature, top_k in ((1.0, None), (0.5, None), (2.0, 2)):
        scaled = logits / temperature
        if top_k:
            scaled[[0, 3]] = -math.inf
        counts = Counter(draw_code(logits, temperature, top_k, generator) for _ in range(4000))
        for code, chance in enumerate(scaled.softmax(0).tolist()):
            assert counts[code] / 4000 == pytest.approx(chance, abs=0.03)


def test_the_same_seed_gives_the_same_codes_and_another_seed_others() -> None:
    prior = random_prior()
    first, again, other = (Sampler(prior, seed=seed).draw(40) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    whole, parts = Sampler(prior, seed=3), Sampler(prior, seed=3)
    assert np.array_equal(whole.draw(30), np.concatenate([parts.draw(n) for n in (1, 12, 17)], axis=1))


def test_embeddings_start_as_the_codebooks_main_directions() -> None:
    book = torch.randn(50, 4) * torch.tensor([5.0, 3.0, 0.01, 0.01])
    small = first_embeddings(book, 2)
    assert small.square().mean() == pytest.approx(1, rel=1e-4)
    distances, expected = torch.cdist(small, small), torch.cdist(book, book)
    assert torch.corrcoef(torch.stack([distances.flatten(), expected.flatten()]))[0, 1] > 0.999
    assert first_embeddings(book, 6).shape == (50, 6)


@pytest.mark.parametrize("seconds", [0.001, 0.5, 1.0, 2.3456])
def test_lengths_are_exact(tiny_codec: Codec, prior: Prior, seconds: float) -> None:
    blocks = list(generate(tiny_codec, prior, seconds))
    assert sum(map(len, blocks)) == round(seconds * 24000)
    assert all(block.shape[1] == 1 and block.dtype == np.float32 for block in blocks)


@pytest.mark.parametrize(("rate", "channels"), [(24000, 1), (16000, 1), (44100, 2)])
def test_a_prompt_is_kept_and_continued(tiny_codec: Codec, prior: Prior, rate: int, channels: int) -> None:
    recording = 0.1 * np.random.default_rng(0).standard_normal((rate + 17, channels)).astype(np.float32)
    coded = tiny_codec.encode(recording, rate)
    audio = np.concatenate(list(generate(tiny_codec, prior, 0.5, prompt=coded)))
    assert audio.shape == (rate + 17 + round(0.5 * rate), 1)
    back = tiny_codec.decode(coded).mean(axis=1)
    kept = rate - round(0.1 * rate)  # the model's delay and the resampler's reach end before
    np.testing.assert_allclose(audio[:kept, 0], back[:kept], atol=1e-4)


def test_audio_comes_while_it_is_sampled(
    tiny_codec: Codec, prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    draw = Sampler.draw
    monkeypatch.setattr(Sampler, "draw", lambda self, n: drawn.append(n) or draw(self, n))
    blocks = generate(tiny_codec, prior, 60.0)
    assert len(next(blocks)) > 20000 and sum(drawn) == 75
    assert len(next(blocks)) > 20000 and sum(drawn) == 150


def test_a_prompt_of_another_model_of_fewer_levels_or_too_short_is_refused(
    tiny_codec: Codec, prior: Prior
) -> None:
    silence = np.zeros(4000, np.float32)
    with pytest.raises(ValueError, match="at 4 levels or more"):
        generate_codes(tiny_codec.space, prior, prompt=tiny_codec.encode(silence, 24000, n_q=2))
    with pytest.raises(AudioError, match="one frame"):
        generate_codes(tiny_codec.space, prior, prompt=tiny_codec.encode(silence[:319], 24000))
    other = dataclasses.replace(tiny_codec.space, id=bytes(16))
    with pytest.raises(ModelError, match="made for model 'tiny'"):
        generate(Codec(_Renamed(tiny_codec.model, other)), prior)


def test_a_prior_of_the_first_levels_makes_and_scores_those(tiny_codec: Codec, tmp_path: Path) -> None:
    prior = load_prior(save_random_prior(tmp_path, tiny_codec.space.first(2)))
    coded = tiny_codec.encode(0.1 * np.random.default_rng(0).standard_normal(24000).astype(np.float32), 24000)
    codes = join_codes(list(generate_codes(tiny_codec.space, prior, 0.2, prompt=coded).pieces))
    assert codes.n_q == 2 and codes.n_samples == 28800
    assert np.array_equal(codes.values[0, :, :75], coded.values[0, :2, :75])
    audio = np.concatenate(list(generate(tiny_codec, prior, 0.2, prompt=coded)))
    np.testing.assert_allclose(audio, tiny_codec.decode(codes), atol=1e-4)
    of_all = bits_per_code(prior, coded.values[0])
    assert of_all.shape[0] == 2 and np.array_equal(of_all, bits_per_code(prior, coded.values[0, :2]))
    other = dataclasses.replace(tiny_codec.space, codebook_sizes=(64, 32, 64, 64))
    with pytest.raises(ModelError, match=r"codebooks of \(64, 64\) entries"):
        generate_codes(other, prior)


class _Renamed:
    """A model whose codes mean something else."""

    def __init__(self, model: Any, space: Any) -> None:
        self.model, self.space = model, space

    def code_space(self) -> Any:
        return self.space


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 0.0}, {"temperature": math.nan}, {"top_k": 0}, {"seed": -1}, {"kind": "jazz"}],
    ids=str,
)
def test_what_cannot_be_sampled_with_is_refused_at_once(
    tiny_codec: Codec, prior: Prior, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"expected|knows speech, music"):
        generate(tiny_codec, prior, **wrong)
    with pytest.raises(ValueError, match="seconds"):
        generate(tiny_codec, prior, -1)
