"""Training audio: folders and `.tar` archives of any rate, kept as int16 in memory, cut into random crops."""

import io
import logging
import math
import tarfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiocodec.bench.clips import names_audio
from audiocodec.errors import AudioError, CodecError

log = logging.getLogger(__name__)

HELD_OUT_EVERY = 50  # without clips of their own for validation, one clip in so many is held out
MIN_CLIP_SECONDS = 0.2
SILENT_CROP_RMS = 1e-4
REDRAWS = 2  # of silent crops
FILES_AHEAD = 64  # read but not decoded yet: bounds the memory that they take


def audio_files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each audio file in a folder, in a `.tar` archive, or of one file, in a fixed order."""
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if names_audio(p) and p.is_file()):
            try:
                yield str(path), path.read_bytes()
            except OSError as error:
                log.warning("%s: left out, cannot be read: %s", path, error.strerror)
    elif source.suffix == ".tar":
        try:
            with tarfile.open(source) as archive:
                for member in archive:
                    file = archive.extractfile(member)
                    if file is not None and names_audio(Path(member.name)):
                        yield f"{source}/{member.name}", file.read()
        except tarfile.TarError as error:
            raise AudioError(
                f"{source}: cannot be read as a .tar archive ({error}); make it again"
            ) from error
    elif names_audio(source):
        yield str(source), source.read_bytes()
    else:
        raise AudioError(f"{source}: expected a folder, a .tar archive or an audio file")


def read_mono(data: bytes, sample_rate: int) -> NDArray[np.int16]:
    """Audio file bytes -> int16 samples [T] at `sample_rate`, channels averaged."""
    audio, source_rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    mono = audio.mean(axis=1)
    if source_rate != sample_rate:
        mono = soxr.resample(mono, source_rate, sample_rate)
    return np.asarray(np.clip(np.round(mono * 32767), -32768, 32767), np.int16)


@dataclass(frozen=True)
class Clips:
    """Clips end to end in one int16 tensor; clip i is samples[starts[i] : starts[i + 1]]."""

    names: tuple[str, ...]
    samples: Tensor
    starts: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        """Clip as float32 [T]."""
        return self.samples[int(self.starts[index]) : int(self.starts[index + 1])].float() / 32767

    def to(self, device: torch.device) -> "Clips":
        """The same clips with their samples on another device."""
        return Clips(self.names, self.samples.to(device), self.starts)

    def subset(self, indices: list[int]) -> "Clips":
        """Some of the clips."""
        return join([(self.names[i], self.samples[self.starts[i] : self.starts[i + 1]]) for i in indices])


def join(clips: list[tuple[str, Tensor]]) -> Clips:
    """Named int16 clips -> Clips."""
    ends = np.cumsum([0, *(len(samples) for _, samples in clips)])
    samples = torch.cat([samples for _, samples in clips]) if clips else torch.zeros(0, dtype=torch.int16)
    return Clips(tuple(name for name, _ in clips), samples, torch.from_numpy(ends))


def load_clips(sources: list[Path], sample_rate: int) -> Clips:
    """All readable clips of `sources` at `sample_rate`; unreadable ones are named in a warning and left out.

    Raises AudioError when nothing is left.
    """

    clips: list[tuple[str, Tensor] | None] = []
    waiting: deque[Future[tuple[str, Tensor] | None]] = deque()
    with ThreadPoolExecutor() as pool:
        for source in sources:
            if not source.exists():
                raise AudioError(
                    f"{source}: no such file or folder; --data takes folders and .tar archives of audio"
                )
            # files are read here, in order; decoding runs beside it, since libsndfile releases the lock
            for name, data in audio_files(source):
                waiting.append(pool.submit(read_clip, name, data, sample_rate))
                if len(waiting) > FILES_AHEAD:
                    clips.append(waiting.popleft().result())
        clips += [future.result() for future in waiting]
    whole = [clip for clip in clips if clip is not None and len(clip[1]) >= MIN_CLIP_SECONDS * sample_rate]
    if not whole:
        raise AudioError(f"no audio of {MIN_CLIP_SECONDS} s or more in {', '.join(map(str, sources))}")
    return join(whole)


def read_clip(name: str, data: bytes, sample_rate: int) -> tuple[str, Tensor] | None:
    """Name and int16 samples of one audio file; None, with a warning, if it cannot be read."""
    try:
        return name, torch.from_numpy(read_mono(data, sample_rate))
    except (soundfile.LibsndfileError, ValueError) as error:
        log.warning("%s: left out, cannot be read: %s", name, error)
        return None


def split_clips(clips: Clips, max_held_out: int = 24) -> tuple[Clips, Clips]:
    """Clips to train on, and a few that are held out for validation (every 50th)."""
    if len(clips) < 2:
        return clips, clips
    held_out = list(range(0, len(clips), HELD_OUT_EVERY))[:max_held_out]
    rest = sorted(set(range(len(clips))) - set(held_out))
    return clips.subset(rest), clips.subset(held_out)


def random_crops(
    clips: Clips,
    batch_size: int,
    n_samples: int,
    generator: torch.Generator,
    *,
    speeds: tuple[float, ...] = (1.0,),
) -> Tensor:
    """Random augmented crops [B, 1, T] float32, of a clip as likely as it is long, and in it from any place alike.

    Near-silent crops are drawn again, twice at most; clips shorter than T are padded at their end.
    speeds: one of them is drawn for the batch, which is then played so much faster (1: as it is).
    """
    speed = speeds[int(torch.randint(len(speeds), (), generator=generator))] if len(speeds) > 1 else speeds[0]
    n_drawn = math.ceil(n_samples * speed)
    crops = draw_crops(clips, batch_size, n_drawn, generator)
    for _ in range(REDRAWS):  # whether any is silent is not asked: a GPU would have to be waited for
        silent = crops.square().mean(1, keepdim=True).sqrt() < SILENT_CROP_RMS
        crops = torch.where(silent, draw_crops(clips, batch_size, n_drawn, generator), crops)
    if speed != 1.0:
        crops = change_speed(crops, speed)[:, :n_samples]
    return augment(crops, generator).unsqueeze(1)


def change_speed(crops: Tensor, speed: float) -> Tensor:
    """Crops [B, T] played `speed` times as fast: T / speed samples, higher in pitch. On the crops' device."""
    if crops.device.type == "cpu":
        return torch.from_numpy(soxr.resample(crops.T.numpy(), 1000 * speed, 1000)).T
    resampled: Tensor = torchaudio_functional().resample(crops, round(1000 * speed), 1000)
    return resampled


def torchaudio_functional() -> Any:
    """torchaudio's functions, for what is done to whole batches on a GPU. Raises CodecError where it is missing."""
    try:
        import torchaudio.functional
    except (ImportError, OSError) as error:  # a wheel for another torch fails to load its libraries
        raise CodecError(
            f"speeds other than 1 need torchaudio on a GPU, and it does not load here ({error}): install the build "
            "that belongs to your torch (pip install 'audiocodec[torchaudio]'), or leave `speeds` out of the recipe"
        ) from error
    return torchaudio.functional


def draw_crops(clips: Clips, batch_size: int, n_samples: int, generator: torch.Generator) -> Tensor:
    """Crops [B, T]: a clip as likely as it is long, and in it every place alike."""
    positions = torch.randint(len(clips.samples), (batch_size,), generator=generator)
    index = torch.searchsorted(clips.starts, positions, right=True) - 1
    first, last = clips.starts[index], clips.starts[index + 1]
    room = (last - first - n_samples).clamp(min=0)
    start = first + (torch.rand(batch_size, generator=generator, dtype=torch.float64) * (room + 1)).long()
    device = clips.samples.device
    ends = torch.stack([start, last])[..., None].to(device, non_blocking=True)
    places = ends[0] + torch.arange(n_samples, device=device)
    return clips.samples[places.clamp(max=len(clips.samples) - 1)].float() / 32767 * (places < ends[1])


def augment(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Random level (-24 to +6 dB, never clipped) and polarity; one crop in eight is mixed with its neighbour.

    crops [B, T] -> [B, T].
    """
    batch_size = len(crops)
    draw = torch.rand(4, batch_size, 1, generator=generator).to(crops.device, non_blocking=True)
    mixed = (draw[0] < 0.125) * crops.roll(1, 0) * 10 ** (-draw[1])
    crops = crops + mixed
    peak = crops.abs().amax(1, keepdim=True).clamp(min=1e-4)
    gain = 10 ** ((30 * draw[2] - 24) / 20)
    sign = torch.where(draw[3] < 0.5, -1.0, 1.0)
    return crops * sign * torch.minimum(gain, 0.99 / peak)
