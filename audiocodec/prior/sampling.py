"""Sampling: new codes, frame by frame, and the audio that they stand for as it comes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiocodec.codec import Codec
from audiocodec.codes import Codes, CodeSpace, Source
from audiocodec.errors import AudioError
from audiocodec.lanes import lane_length
from audiocodec.prior.likelihood import contexts_in_pieces
from audiocodec.prior.network import Prior
from audiocodec.prior.store import check_space
from audiocodec.stream import Floats, file_block_frames

DEFAULT_SECONDS = 10.0


class Choices(TypedDict, total=False):
    """What `Sampler` may be told."""

    kind: str | None
    temperature: float
    top_k: int | None
    seed: int


class Sampler:
    """Draws codes that follow on those it has drawn or read.

    temperature: logits are divided by it (below 1: likelier codes). top_k: only the likeliest codes of each level, None
    for all. Draws come from a generator of its own on the CPU: the same seed gives the same codes, on one machine and
    number of threads.

    >>> from audiocodec.prior.config import NetworkConfig, PriorConfig
    >>> prior = Prior(PriorConfig("00", "demo", (16, 16), (), NetworkConfig(dim=16, n_layers=1))).eval()
    >>> Sampler(prior, seed=1).draw(5).shape
    (2, 5)
    """

    def __init__(
        self,
        prior: Prior,
        *,
        kind: str | None = None,
        temperature: float = 0.9,
        top_k: int | None = None,
        seed: int = 0,
    ) -> None:
        _check_choices(temperature, top_k, seed)
        self._prior, self._temperature, self._top_k = prior, temperature, top_k
        self._kinds = torch.tensor([prior.config.kind_index(kind)], device=prior.device)
        self._generator = torch.Generator().manual_seed(seed)
        self._state = prior.initial_state(1)
        self._take(torch.zeros(1, prior.config.n_q, 0, dtype=torch.int64))

    def read(self, codes: NDArray[np.int16]) -> None:
        """Goes on after codes [n_q, F] of a recording."""
        if codes.shape[1]:
            self._take(torch.from_numpy(codes.astype(np.int64))[None])

    @torch.inference_mode()
    def draw(self, n_frames: int) -> NDArray[np.int16]:
        """The next frames' codes [n_q, n_frames]."""
        drawn = np.zeros((self._prior.config.n_q, n_frames), np.int16)
        for frame in range(n_frames):
            codes = self._draw_frame()
            drawn[:, frame] = codes
            self._take(torch.tensor(codes)[None, :, None])
        return drawn

    @torch.inference_mode()
    def _take(self, codes: Tensor) -> None:
        """Brings the context to the frame after codes [1, n_q, F]."""
        embedded = self._prior.embed(codes.to(self._prior.device))
        for contexts, state in contexts_in_pieces(self._prior, embedded, self._kinds, self._state):
            self._context, self._state = contexts[0, -1], state

    def _draw_frame(self) -> list[int]:
        """One frame's codes, the coarsest first: each knows those before it."""
        codes: list[int] = []
        below = self._context[:0]
        for level, embeddings in zip(self._prior.levels, self._prior.embeddings, strict=True):
            logits = level(self._context, below)
            codes.append(draw_code(logits.cpu(), self._temperature, self._top_k, self._generator))
            below = torch.cat([below, embeddings[codes[-1]]])
        return codes


def draw_code(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    """A code at random, by logits [K]. One uniform number is drawn for each: where its place is in the sum.

    >>> draw_code(torch.tensor([0.0, 9.0, 1.0]), 1.0, 1, torch.Generator())
    1
    """
    logits = logits.double() / temperature
    if top_k is not None and top_k < len(logits):
        logits = torch.where(logits >= logits.topk(top_k).values[-1], logits, -math.inf)
    sums = (logits - logits.max()).exp().cumsum(0)
    place = torch.rand((), generator=generator, dtype=torch.float64) * sums[-1]
    return int(torch.searchsorted(sums, place, right=True).clamp(max=len(sums) - 1))


def _check_choices(temperature: float, top_k: int | None, seed: int) -> None:
    """Raises ValueError for what cannot be sampled with."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature {temperature:g}: expected more than 0")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top-k {top_k}: expected 1 or more")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed {seed}: expected 0 or more, below 2^63")


@dataclass(frozen=True, slots=True)
class Generated:
    """A recording of one lane in the making: `pieces` of codes as they are sampled, and what the whole will be.

    space: of the codes, with the levels that the prior has. The last piece says how long the recording is.
    """

    space: CodeSpace
    source: Source
    n_samples: int
    pieces: Iterator[Codes]


def generate(
    codec: Codec,
    prior: Prior,
    seconds: float = DEFAULT_SECONDS,
    *,
    prompt: Codes | None = None,
    **choices: Unpack[Choices],
) -> Iterator[Floats]:
    """New audio, block [T, 1] by block as it is sampled: at the model's rate, or at the prompt's.

    Without a prompt the blocks have `seconds` together, to the nearest sample. With one, what `codec.encode` gave of a
    recording, they have the recording as the codec gives it back, and `seconds` more. choices: kind, one of
    `prior.config.kinds`; temperature, top_k, seed, as `Sampler` says. The same seed gives the same samples.
    Raises ModelError for a prior of another model, AudioError for a prompt shorter than a frame, ValueError for a kind
    that the prior does not know and for numbers that cannot be.
    """
    return decode_pieces(codec, generate_codes(codec.space, prior, seconds, prompt=prompt, **choices))


def generate_codes(
    space: CodeSpace,
    prior: Prior,
    seconds: float = DEFAULT_SECONDS,
    *,
    prompt: Codes | None = None,
    **choices: Unpack[Choices],
) -> Generated:
    """`generate`, before it is decoded: the prompt's codes, then new ones as they are sampled."""
    check_space(prior, space)
    space = space.first(prior.config.n_q)
    source, n_samples = _recording_to_be(space, seconds, prompt)
    known = np.zeros((space.n_q, 0), np.int16) if prompt is None else prompt_codes(prompt, space)
    pieces = _pieces(space, source, Sampler(prior, **choices), known, n_samples)
    return Generated(space, source, n_samples, pieces)


def decode_pieces(codec: Codec, generated: Generated) -> Iterator[Floats]:
    """The audio [T, 1] of codes as they come."""
    decoder = codec.stream_decoder(generated.source.sample_rate, channels=1, n_q=generated.space.n_q)
    for codes in generated.pieces:
        yield decoder.push(codes)
    yield decoder.finish(generated.n_samples)


def _recording_to_be(space: CodeSpace, seconds: float, prompt: Codes | None) -> tuple[Source, int]:
    """Rate and length in samples of what `generate` will give. Raises ValueError for no time at all."""
    source = Source(space.sample_rate if prompt is None else prompt.source.sample_rate, 1)
    n_new = round(seconds * source.sample_rate) if math.isfinite(seconds) else 0
    if n_new < 1:
        raise ValueError(f"{seconds:g} seconds: expected more than 0")
    return source, n_new if prompt is None else n_new + (prompt.n_samples or 0)


def _pieces(
    space: CodeSpace, source: Source, sampler: Sampler, known: NDArray[np.int16], n_samples: int
) -> Iterator[Codes]:
    """Codes of a recording of n_samples that begins with `known` [n_q, F]."""
    total = space.n_frames(lane_length(n_samples, source.sample_rate, space.sample_rate))
    block_frames = file_block_frames(space)
    sampler.read(known)
    done = known.shape[1]
    if done:
        yield _codes(space, source, known, None)
    while done < total:
        n_frames = min(block_frames - done % block_frames, total - done)  # what a block of the decoder lacks
        done += n_frames
        yield _codes(space, source, sampler.draw(n_frames), n_samples if done == total else None)


def _codes(space: CodeSpace, source: Source, values: NDArray[np.int16], n_samples: int | None) -> Codes:
    """values [n_q, F] as `Codes` of one lane."""
    return Codes(space, source, values.shape[1], tuple(values[:, None]), n_samples)


def prompt_codes(prompt: Codes, space: CodeSpace) -> NDArray[np.int16]:
    """Codes [n_q, F] of the frames of a recording that have heard nothing beyond its end; of stereo, its middle.

    Later frames, those that a recording's last samples need because of the delay, know that silence follows.
    Raises AudioError if there is no such frame, ValueError for codes of another model or of fewer levels than `space`.
    """
    if prompt.space.id != space.id or prompt.n_q < space.n_q:
        raise ValueError(f"the prompt: expected codes of {space.model} at {space.n_q} levels or more")
    if prompt.n_samples is None:
        raise ValueError("the prompt: expected codes of a whole recording, whose length is known")
    n_lane = lane_length(prompt.n_samples, prompt.source.sample_rate, space.sample_rate)
    n_frames = n_lane // space.hop_length
    if n_frames < 1:
        raise AudioError(
            f"the prompt has {1000 * prompt.n_samples / prompt.source.sample_rate:.1f} ms: "
            f"expected {1000 / space.frame_rate:.1f} ms, one frame, or more"
        )
    return prompt.values[0, : space.n_q, :n_frames]
