"""Corpora to tokenise, and workers that die."""

import io
import os
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from audiocodec.corpus.listing import Item
from audiocodec.stream import Floats


def sound(n_samples: int, channels: int = 1, seed: int = 0) -> Floats:
    """Noise [T, C] that 16-bit files hold exactly."""
    samples = np.random.default_rng(seed).integers(-9000, 9000, (n_samples, channels))
    return (samples / 32768).astype(np.float32)


def write_corpus(folder: Path, n_items: int, seconds: float = 0.7) -> Path:
    """Clips of several lengths, rates and channels, all of them readable."""
    folder.mkdir(parents=True)
    for number in range(n_items):
        rate, channels = (8000, 24000, 44100)[number % 3], 1 + (number % 4 == 3)
        n_samples = round(seconds * rate * (1 + number % 5) / 3)
        soundfile.write(folder / f"{number:03d}.wav", sound(n_samples, channels, number), rate)
    return folder


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """An archive of these members, in their order."""
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def wav_bytes(samples: Floats, rate: int = 24000) -> bytes:
    """A WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


def killed() -> Callable[[list[Item]], None]:
    """For a `Pool`: a worker that dies of whatever it is given."""
    return kill_this_process


def kill_this_process(_: object) -> None:
    """As the system does where memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
