"""The model's configuration: strict frozen dataclasses, the same as `config.json`."""

import dataclasses
import itertools
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from audiocodec.errors import ModelError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SpectralConfig:
    """Windowed transform at the frame rate, ConvNeXt blocks, inverse transform (sizes in samples and channels)."""

    window_length: int = 960
    dim: int = 256
    n_blocks: int = 6
    embed_kernel_size: int = 3
    kernel_size: int = 7
    expansion: int = 3


@dataclass(frozen=True, slots=True)
class StridedConfig:
    """The strided convolution stack of SoundStream and EnCodec; channels double at each stride."""

    channels: int = 32
    strides: tuple[int, ...] = (2, 4, 5, 8)
    kernel_size: int = 7
    dilations: tuple[int, ...] = (1, 3)


@dataclass(frozen=True, slots=True)
class QuantizerConfig:
    """One codebook per level, the coarsest level first.

    codebook_sizes: entries of each level's codebook.
    frames_per_code: frames that share one code, per level: 1 for all, or coarse levels first (4, 2, 1).
    """

    codebook_sizes: tuple[int, ...] = (1024,) * 8
    frames_per_code: tuple[int, ...] = (1,) * 8


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything that `CodecModel` is built from.

    sample_rate in Hz; hop_length in samples per frame; lookahead in samples: how far the encoder sees
    ahead of the sample it codes, beyond what the transform itself needs. transform is "spectral" or "strided".
    """

    name: str = "unnamed"
    sample_rate: int = 24000
    hop_length: int = 320
    lookahead: int = 320
    latent_dim: int = 64
    transform: str = "spectral"
    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    strided: StridedConfig = field(default_factory=StridedConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        for part in (self, self.spectral, self.strided):
            _check_sizes(part)
        sizes, frames = self.quantizer.codebook_sizes, self.quantizer.frames_per_code
        _check(
            len(sizes) == len(frames) > 0, "codebook_sizes and frames_per_code need one value per level each"
        )
        _check(all(2 <= size <= 32768 for size in sizes), f"codebook sizes {sizes}: expected 2 to 32768")
        # each level's span must divide the coarser one's, so that any cut into blocks of the coarsest fits all
        spans = itertools.pairwise(frames)
        _check(min(frames) >= 1, f"frames_per_code {frames}: expected 1 or more")
        _check(
            all(a % b == 0 for a, b in spans), f"frames_per_code {frames}: each must divide the one before"
        )
        _check(
            self.transform in ("spectral", "strided"), f"transform {self.transform!r}: spectral or strided"
        )
        if self.transform == "spectral":
            window, hop = self.spectral.window_length, self.hop_length
            _check(
                window % hop == 0 and window >= 2 * hop,
                f"window {window}: a multiple of hop {hop}, from 2 on",
            )
        else:
            product = math.prod(self.strided.strides)
            _check(
                product == self.hop_length, f"strides multiply to {product}, hop_length is {self.hop_length}"
            )

    @property
    def delay(self) -> int:
        """Samples by which decoded audio lags behind its input when the codec runs frame by frame."""
        overlap = self.spectral.window_length - self.hop_length if self.transform == "spectral" else 0
        return overlap + self.lookahead

    @property
    def latency_ms(self) -> float:
        """Algorithmic latency at blocks of one frame: one hop is collected, then the delay passes."""
        return 1000 * (self.hop_length + self.delay) / self.sample_rate


def _check_sizes(config: Any) -> None:
    """Every number is a size, and 1 or more; but the look-ahead may be none."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        numbers = value if isinstance(value, tuple) else (value,)
        least = 0 if item.name == "lookahead" else 1
        for number in numbers:
            _check(
                not isinstance(number, int) or number >= least,
                f"{item.name} {value}: expected {least} or more",
            )


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ModelError(f"model config: {message}")


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """A (nested) config dataclass from plain values; unknown or missing keys and wrong types are a ModelError.

    >>> from_dict(QuantizerConfig, {"codebook_sizes": [512, 256], "frames_per_code": [1, 1]})
    QuantizerConfig(codebook_sizes=(512, 256), frames_per_code=(1, 1))
    """
    if not isinstance(values, Mapping):
        raise ModelError(f"{where}: expected a table, found {values!r}")
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ModelError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(hints)}")
    missing = [item.name for item in dataclasses.fields(cls) if _is_needed(item) and item.name not in values]  # type: ignore[arg-type]
    if missing:
        raise ModelError(f"{where}: the key {missing[0]!r} is missing")
    return cls(**{key: _coerce(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _is_needed(item: "dataclasses.Field[Any]") -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _coerce(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ModelError(f"{where}: expected a list, found {value!r}")
        item = typing.get_args(hint)[0]
        return tuple(_coerce(item, entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ModelError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value
