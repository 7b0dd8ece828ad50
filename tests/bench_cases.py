"""Codecs and tasks that worker processes of the tests do: importable there, and light, for each worker imports them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from audiocodec.bench.equipment import Equipment
from audiocodec.bench.metrics import BY_NAME
from audiocodec.bench.results import Clip, Coded, Floats

METRICS = [BY_NAME["si_sdr"], BY_NAME["stft"]]


@dataclass
class Noisy:
    """A competitor that adds noise, and notes what it was asked for. trouble: what happens to some clips."""

    log: Path
    trouble: dict[str, str] = field(default_factory=dict)
    about: str = "1"
    name: str = "noisy"
    kinds: tuple[str, ...] = ("speech", "music", "sounds")
    settings: tuple[str, ...] = ("1", "2", "3")

    def code(self, clip: Clip, audio: Floats, sample_rate: int, setting: str) -> Coded:
        with self.log.open("a") as file:
            file.write(f"{clip.name} {setting}\n")
        match self.trouble.get(clip.name):
            case "raises":
                raise RuntimeError("no idea\nwhat to do")
            case "dies":
                os._exit(9)
            case "shortens":
                audio = audio[1:]
        noise = np.random.default_rng(0).standard_normal(len(audio))
        noisy = (audio + 0.1 / int(setting) * noise).astype(np.float32)
        return Coded(noisy, 1000.0 * int(setting), None, encode_cpu_seconds=0.5, decode_cpu_seconds=0.25)

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines()


def equip(codec: Noisy) -> Equipment:
    return Equipment([codec], METRICS)


def equipment_as_it_is(equipment: Equipment) -> Callable[[], Equipment]:
    """Metrics and codecs here are names and plain values: they pickle."""
    return partial(Equipment, equipment.competitors, equipment.metrics, (), equipment.stamps)


def doubled(number: int) -> int:
    return 2 * number


def work() -> Callable[[int], int]:
    return doubled


def broken() -> Callable[[int], int]:
    os._exit(3)


def results(
    shift: float = 0.0, *, names: str = "abcdef", si_sdr: bool = True, rate: float = 6.0
) -> dict[str, Any]:
    """Results of one codec, whose PESQ differs from clip to clip by more than by `shift`."""
    rng = np.random.default_rng(1)
    pesq = {name: 1 + 0.5 * n + shift + 0.01 * rng.standard_normal() for n, name in enumerate(names)}
    return {
        "format": 1,
        "date": "2026-01-01",
        "version": "1",
        "data": "clips",
        "clips": [{"name": name, "kind": "speech", "seconds": 1.0, "hash": name} for name in names],
        "codecs": [{"name": "ours", "settings": ["6"]}],
        "metrics": [
            {"name": "pesq_wb", "higher_is_better": True},
            {"name": "si_sdr", "higher_is_better": True},
        ],
        "measurements": [
            {
                "clip": name,
                "kind": "speech",
                "seconds": 1.0,
                "codec": "ours",
                "setting": "6",
                "kbps": rate,
                "file_kbps": None,
                "metrics": {"pesq_wb": pesq[name]} | ({"si_sdr": 3.0} if si_sdr else {}),
                "missing": {},
            }
            for name in names
        ],
    }
