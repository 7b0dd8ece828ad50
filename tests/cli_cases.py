"""Runs the command line in this process, on streams that can be looked at; and the files that it is tried on."""

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import soundfile
from bitstream_cases import Pipe

from audiocodec.cli import main

RATE = 16000


@dataclass(frozen=True)
class Result:
    """What a run left: exit code, standard output as bytes, standard error as lines."""

    code: int
    out: bytes
    lines: list[str]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Standard output as JSON, one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def run(*args: object, stdin: bytes = b"") -> Result:
    """Runs `codec ARGS`; standard input is a pipe with these bytes."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with patch.multiple(sys, stdin=SimpleNamespace(buffer=Pipe(stdin)), stdout=out, stderr=err):
        code = main([str(arg) for arg in args])
    lines = err.buffer.getvalue().decode().splitlines()
    return Result(code, out.buffer.getvalue(), lines)


def write_audio(path: Path, n_samples: int = 3 * RATE, channels: int = 1, **tags: str) -> Path:
    """A file of quiet noise at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = 0.1 * np.random.default_rng(0).standard_normal((n_samples, channels))
    with soundfile.SoundFile(path, "w", RATE, channels) as file:
        for name, text in tags.items():
            setattr(file, name, text)
        file.write(audio)
    return path


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder: names and bytes (None for folders)."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}
