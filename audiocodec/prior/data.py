"""A prior's training data: the codes of clips, made once and kept in the run's folder, and random crops of them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from audiocodec.errors import ModelError
from audiocodec.model.codec import CodecModel
from audiocodec.output import atomic_output
from audiocodec.train.data import Clips, load_clips, split_clips

log = logging.getLogger(__name__)

ENCODED_SECONDS = 60  # long clips need no long matrices
TRAIN_CODES, VALID_CODES = "codes-train.npz", "codes-valid.npz"


@dataclass(frozen=True)
class CodedClips:
    """Clips end to end: codes int16 [n_q, F]; clip i is codes[:, starts[i] : starts[i + 1]], of kind kinds[i].

    kinds: numbers of the recipe's kinds; the one after the last stands for none.
    """

    names: tuple[str, ...]
    codes: Tensor
    starts: Tensor
    kinds: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        """Codes of a clip [n_q, F]."""
        return self.codes[:, int(self.starts[index]) : int(self.starts[index + 1])]

    def to(self, device: torch.device) -> "CodedClips":
        """The same clips with their codes on another device."""
        return CodedClips(self.names, self.codes.to(device), self.starts, self.kinds)


def kind_of(name: str, kinds: Sequence[str]) -> int:
    """Number of the kind that a clip's folder, the nearest that is named by one, says; len(kinds) where none is.

    >>> kind_of("data/music/speech/a.wav", ("speech", "music")), kind_of("music.tar/a.wav", ("speech", "music"))
    (0, 1)
    """
    for part in reversed(PurePath(name).parts[:-1]):
        folder = part.removesuffix(".tar")
        if folder in kinds:
            return kinds.index(folder)
    return len(kinds)


@torch.inference_mode()
def encode_clip(model: CodecModel, audio: Tensor) -> Tensor:
    """Codes int16 [n_q, F] of audio [T]: of the frames that lie wholly in it, as those of a prompt do."""
    config, state = model.config, model.encoder_state(1)
    n_frames = len(audio) // config.hop_length
    coded = [torch.zeros(model.quantizer.n_q, 0, dtype=torch.int16)]
    for piece in torch.split(audio[: n_frames * config.hop_length], ENCODED_SECONDS * config.sample_rate):
        codes, state = model.encode_block(piece[None, None].to(model.device), state, model.quantizer.n_q)
        coded.append(codes[0].to(torch.int16).cpu())
    return torch.cat(coded, dim=1)


def encode_clips(model: CodecModel, clips: Clips, kinds: Sequence[str]) -> CodedClips:
    """Codes of all clips that have a frame. Raises ModelError for a model that no prior is for, and for no codes."""
    config = model.config
    if set(config.quantizer.frames_per_code) != {1}:
        raise ModelError(f"{config.name}: a prior needs a model whose levels all have one code per frame")
    if ENCODED_SECONDS * config.sample_rate % config.hop_length:
        raise ModelError(f"{config.name}: a prior needs a model with whole frames in {ENCODED_SECONDS} s")
    coded = [(name, encode_clip(model, clips[n])) for n, name in enumerate(clips.names)]
    coded = [(name, codes) for name, codes in coded if codes.shape[1]]
    if not coded:
        raise ModelError("no clip is as long as a frame: give more audio")
    return CodedClips(
        tuple(name for name, _ in coded),
        torch.cat([codes for _, codes in coded], dim=1),
        torch.from_numpy(np.cumsum([0, *(codes.shape[1] for _, codes in coded)])),
        torch.tensor([kind_of(name, kinds) for name, _ in coded]),
    )


def coded_data(
    model: CodecModel, data: list[Path], valid: Path | None, kinds: Sequence[str], out: Path
) -> tuple[CodedClips, CodedClips]:
    """Codes to train on and to validate on: those that `out` holds of the same sources and model, else made anew."""
    key = "\n".join([model.code_space().id.hex(), *kinds, "", *map(str, data), "", str(valid)])
    try:
        return load_codes(out / TRAIN_CODES, key), load_codes(out / VALID_CODES, key)
    except (OSError, ValueError, KeyError, BadZipFile) as reason:
        news = str(reason)
    clips = load_clips(data, model.config.sample_rate)
    hours = len(clips.samples) / model.config.sample_rate / 3600
    log.info("coding %.1f hours of audio: %s", hours, news)
    if valid is None:
        clips, held_out = split_clips(clips)
    else:
        held_out = load_clips([valid], model.config.sample_rate)
    train, rest = encode_clips(model, clips, kinds), encode_clips(model, held_out, kinds)
    save_codes(train, out / TRAIN_CODES, key)
    save_codes(rest, out / VALID_CODES, key)
    return train, rest


def save_codes(clips: CodedClips, path: Path, key: str) -> None:
    """Writes coded clips; key: what they were made from. A whole file replaces an old one."""
    with atomic_output(path, overwrite=True) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            key=np.array(key),
            names=np.array(clips.names),
            codes=clips.codes.numpy(),
            starts=clips.starts.numpy(),
            kinds=clips.kinds.numpy(),
        )


def load_codes(path: Path, key: str) -> CodedClips:
    """Reads coded clips. Raises ValueError for other sources or none, and what numpy raises for damage."""
    if not path.exists():
        raise ValueError("no codes are kept yet")
    with np.load(path, allow_pickle=False) as file:
        if str(file["key"]) != key:
            raise ValueError(f"{path} is of other data, another model or other kinds")
        arrays = {name: torch.from_numpy(file[name]) for name in ("codes", "starts", "kinds")}
        return CodedClips(tuple(map(str, file["names"])), **arrays)


def random_crops(
    clips: CodedClips, batch_size: int, n_frames: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Random crops of codes: a clip as likely as it is long, and in it every place alike.

    -> codes [B, n_q, F] (int64), kinds [B], inside [B, F]: False beyond the end of a clip that is shorter than F.
    """
    positions = torch.randint(clips.codes.shape[1], (batch_size,), generator=generator)
    index = torch.searchsorted(clips.starts, positions, right=True) - 1
    first, last = clips.starts[index], clips.starts[index + 1]
    room = (last - first - n_frames).clamp(min=0)
    start = first + (torch.rand(batch_size, generator=generator, dtype=torch.float64) * (room + 1)).long()
    places = start[:, None] + torch.arange(n_frames)
    inside = places < last[:, None]
    found = clips.codes[:, places.clamp(max=clips.codes.shape[1] - 1).to(clips.codes.device)]
    return found.transpose(0, 1).long(), clips.kinds[index], inside
