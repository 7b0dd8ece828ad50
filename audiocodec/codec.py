"""The road: audio -> lanes -> codes, and back, for recordings in memory and for streams."""

import logging
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from audiocodec.audio import checked_rate
from audiocodec.bitstream.entropy import EntropyTables, load_tables
from audiocodec.codes import Codes, CodeSpace, Source
from audiocodec.errors import AudioError, FormatError, ModelError
from audiocodec.hub.download import PREFIX as HUB_PREFIX
from audiocodec.hub.load import is_foreign, load_foreign
from audiocodec.lanes import output_length
from audiocodec.model.catalogue import DEFAULT_MODEL, FORMER, TABLES, model_folder, shipped_models
from audiocodec.model.protocol import BlockModel, LookAheadModel, VariableModel
from audiocodec.model.store import load_model
from audiocodec.stream import (
    Floats,
    StreamDecoder,
    StreamEncoder,
    checked_samples,
    file_block_frames,
    live_block_frames,
)
from audiocodec.variable import LevelChooser, Measured, price_of

log = logging.getLogger(__name__)


class Codec:
    """A model with what is needed to code recordings of any rate, mono or stereo.

    model: a CodecModel, or another codec's (docs/OTHER-CODECS.md); space: what its codes mean.
    tables: of the entropy coder for these codes, None where the model has none.

    >>> codec = load()
    >>> codes = codec.encode(np.zeros((44100, 2), np.float32), 44100, n_q=2)
    >>> codes.values.shape, codec.decode(codes).shape
    ((2, 2, 78), (44100, 2))
    """

    def __init__(self, model: BlockModel, tables: EntropyTables | None = None) -> None:
        self.model = model
        self.space = model.code_space()
        self.tables = tables

    @property
    def causal(self) -> bool:
        """Whether each block is coded as it comes, so that live use makes sense."""
        return not isinstance(self.model, LookAheadModel)

    def levels_for(self, kbps: float, channels: int = 1) -> int:
        """The most levels whose codes stay within `kbps`, all channels together.

        Raises ValueError for less than one level's rate, and for more than all of them.
        """
        rates = [self.space.n_lanes(channels) * self.space.kbps(n) for n in range(1, self.space.n_q + 1)]
        fitting = [n for n, rate in enumerate(rates, 1) if rate <= kbps * 1.0001]
        if not fitting or kbps > rates[-1] * 1.0001:
            kind = "mono" if channels == 1 else "stereo"
            raise ValueError(
                f"{kbps:g} kbps: {self.space.model} codes {kind} at {rates[0]:g} to {rates[-1]:g} kbps"
            )
        return fitting[-1]

    def encode(
        self, audio: Floats, sample_rate: int, n_q: int | None = None, *, quality: float | None = None
    ) -> Codes:
        """Codes of a recording.

        audio [T] or [T, C], float32 in [-1, 1], C 1 or 2; sample_rate in Hz; n_q: levels, all by default.
        quality: of variable bitrate, as `stream_encoder` takes it.
        Samples beyond full scale are clipped, with a warning in the log, as those of files are.
        Raises AudioError for another shape and for samples that are not numbers, ValueError for a wrong n_q, rate or
        type of samples.
        """
        samples = checked_samples(audio)
        if samples.ndim != 2 or samples.shape[1] not in (1, 2):
            raise AudioError(f"audio of shape {np.shape(audio)}: expected [T], [T, 1] or [T, 2]")
        samples = _clipped(samples)
        encoder = self.stream_encoder(sample_rate, channels=samples.shape[1], n_q=n_q, quality=quality)
        return join_codes([encoder.push(samples), encoder.finish()])

    def decode(self, codes: Codes, sample_rate: int | None = None) -> Floats:
        """The recording [T, C] float32 that `codes` stand for: exact length and channels.

        sample_rate: in Hz, the source's own by default. Raises ModelError if the codes are another model's, ValueError
        for a rate that audio cannot have.
        """
        self.check_space(codes.space)
        out_rate = checked_rate(codes.source.sample_rate if sample_rate is None else sample_rate)
        space = self.space.first(codes.n_q)
        decoder = StreamDecoder(self.model, space, codes.source, out_rate, file_block_frames(space))
        n_samples = codes.n_samples
        if n_samples is not None:
            n_samples = output_length(n_samples, codes.source.sample_rate, out_rate)
        return np.concatenate([decoder.push(codes), decoder.finish(n_samples)])

    def stream_encoder(
        self,
        sample_rate: int,
        *,
        channels: int = 1,
        n_q: int | None = None,
        live: bool = False,
        quality: float | None = None,
    ) -> StreamEncoder:
        """An encoder to push audio of `sample_rate` Hz into; `live` answers every two frames, not every second.

        quality: gives each frame a number of levels of its own, up to n_q, so that all sounds about as good as with
        so many levels everywhere; what comes out has `counts`. Raises ValueError where the model has none such, and for
        a rate that audio cannot have.
        """
        if live and not self.causal:
            raise ValueError(f"{self.space.model} looks ahead: live coding needs a causal model")
        n_q = self.space.n_q if n_q is None else n_q
        source = Source(checked_rate(sample_rate), channels)
        chooser = None
        if quality is not None:
            if live:
                raise ValueError("live coding has a constant number of levels: leave the quality out")
            self.check_variable()
            chooser = self._chooser(channels, n_q, price_of(quality, n_q))
        block_frames = live_block_frames(self.space) if live else file_block_frames(self.space)
        return StreamEncoder(self.model, self.space, source, n_q, block_frames, chooser=chooser)

    def measure_levels(
        self, blocks: Iterable[Floats], sample_rate: int, channels: int
    ) -> tuple[Codes, Measured]:
        """Codes at all levels; how far frames are from the recording with fewer, and their bits, for `fit_to_rate`.

        blocks: of the recording, each [T, C]. Raises ValueError where the model has no variable bitrate.
        """
        self.check_variable()
        chooser = self._chooser(channels, self.space.n_q, None)
        source = Source(sample_rate, channels)
        encoder = StreamEncoder(
            self.model, self.space, source, self.space.n_q, file_block_frames(self.space), chooser=chooser
        )
        values = bytearray()  # one buffer, as the chooser has it
        for block in blocks:
            values += encoder.push(block).values.transpose(2, 0, 1).tobytes()
        last = encoder.finish()
        values += last.values.transpose(2, 0, 1).tobytes()
        codes = np.frombuffer(values, np.int16).reshape(-1, *last.values.shape[:2])
        levels = tuple(codes.transpose(2, 1, 0))
        return replace(last, levels=levels, n_frames=len(codes), counts=None), chooser.measured

    def check_variable(self, quality: float | None = None) -> None:
        """Raises ValueError where the model cannot have variable bitrate, or not of that quality."""
        if not isinstance(self.model, VariableModel) or max(self.space.frames_per_code) > 1:
            raise ValueError(
                f"{self.space.model} has no variable bitrate, which takes a model of this project with one code per "
                "frame at every level: ask for a constant rate, or for a number of levels"
            )
        if quality is not None:
            price_of(quality, self.space.n_q)

    def _chooser(self, channels: int, n_q: int, price: float | None) -> LevelChooser:
        """What chooses the number of levels of each frame."""
        model, space = cast(VariableModel, self.model), self.space.first(n_q)
        n_lanes, block_frames = space.n_lanes(channels), file_block_frames(space)
        return LevelChooser(model, space, n_lanes, block_frames, tables=self.tables, price=price)

    def stream_decoder(
        self, sample_rate: int, *, channels: int = 1, n_q: int | None = None, live: bool = False
    ) -> StreamDecoder:
        """A decoder to push `Codes` of n_q levels into, with output at `sample_rate` Hz."""
        space = self.space if n_q is None else self.space.first(n_q)
        block_frames = live_block_frames(space) if live else file_block_frames(space)
        source = Source(checked_rate(sample_rate), channels)
        return StreamDecoder(self.model, space, source, source.sample_rate, block_frames)

    def check_space(self, space: CodeSpace) -> None:
        """Raises ModelError if `space` is not this model's: its codes would decode to noise.

        Raises FormatError if it only pretends to be: its id is this model's, its facts are others.
        """
        if space.id != self.space.id:
            raise ModelError(
                f"the codes were made by model {space.model!r} (code space {space.id.hex()}), "
                f"this is {self.space.model!r} ({self.space.id.hex()}): name the right one with -m"
            )
        own = replace(self.space.first(min(space.n_q, self.space.n_q)), model=space.model)
        for name in (item.name for item in fields(CodeSpace)):
            stated, right = getattr(space, name), getattr(own, name)
            if stated != right:
                raise FormatError(
                    f"code space {space.id.hex()} has {name} {right}, the header says {stated}: "
                    "it is damaged or forged; get the file again"
                )


def load(model: str | Path = DEFAULT_MODEL, *, device: str = "auto") -> Codec:
    """The codec with a shipped model (by name), any other (by folder), or another codec's: `hf:OWNER/NAME`, `lyra:DIR`.

    device: "auto" takes a GPU where there is one. Raises ModelError if there is no such model. What begins with `hf:`
    is downloaded at its first use.
    """
    name = str(model)
    if name not in shipped_models() and is_foreign(name):
        return Codec(load_foreign(name, torch.device(_device(device))))
    folder = model_folder(name)
    tables = load_tables(folder / TABLES) if (folder / TABLES).exists() else None
    return Codec(load_model(folder).to(_device(device)), tables)


def load_for(space: CodeSpace) -> Codec:
    """The model that decodes files of `space`: a shipped one, or another codec's that was used here before.

    Raises ModelError, saying what to do, if there is none; it never downloads.
    """
    if space.model in shipped_models():
        codec = load(space.model)
    elif space.model.startswith(HUB_PREFIX):
        codec = Codec(load_foreign(space.model, torch.device(_device("auto")), may_download=False))
    else:
        where = f"; {FORMER[space.model]} of this project has it" if space.model in FORMER else ""
        raise ModelError(
            f"the file needs model {space.model!r} (code space {space.id.hex()}), which is not among the shipped ones "
            f"({', '.join(shipped_models()) or 'none'}): give its folder with -m{where}"
        )
    codec.check_space(space)
    return codec


def _clipped(samples: Floats) -> Floats:
    """Samples within full scale; a warning says how many were beyond it."""
    n_beyond = int(np.count_nonzero(np.abs(samples) > 1))
    if not n_beyond:
        return samples
    peak = float(np.abs(samples).max())
    log.warning("%d samples beyond full scale were clipped (peak %.2f)", n_beyond, peak)
    return np.clip(samples, -1, 1)


def _device(name: str) -> str:
    """The device's name; "auto" is resolved."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def join_codes(parts: list[Codes]) -> Codes:
    """Codes of consecutive stretches as one; the length is what the last of them says."""
    levels = [np.concatenate(level, axis=1) for level in zip(*(part.levels for part in parts), strict=True)]
    n_frames = sum(part.n_frames for part in parts)
    counts = [part.counts for part in parts if part.counts is not None]
    joined = np.concatenate(counts, axis=1) if counts else None
    return replace(parts[-1], levels=tuple(levels), n_frames=n_frames, counts=joined)
