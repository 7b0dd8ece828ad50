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
    """Windowed transform at the frame rate, ConvNeXt blocks, inverse transform (sizes in samples and channels).

    expansion: how many times wider than `dim` a block is inside; decoder_expansion: the decoder's, 0 for the same.
    """

    window_length: int = 960
    dim: int = 256
    n_blocks: int = 6
    embed_kernel_size: int = 3
    kernel_size: int = 7
    expansion: int = 3
    decoder_expansion: int = 0

    @property
    def expansions(self) -> tuple[int, int]:
        """The encoder's and the decoder's."""
        return self.expansion, self.decoder_expansion or self.expansion


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
class ResidualConfig:
    """How the quantizer's levels work together.

    combine: the decoder gets the "sum" of their entries, or "concat": those of each level in channels of their own.
    normalised: residuals get mean 0 and deviation 1 before they are looked up (statistics of each level and dimension,
    kept in the model), and entries the opposite.
    gated: entries are multiplied by a factor that is computed from those of the levels before; all at one frame rate.
    """

    combine: str = "sum"
    normalised: bool = False
    gated: bool = False


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """Self-attention at the frame rate, in encoder and decoder: over the last `span` frames; 0 for none."""

    span: int = 0
    heads: int = 4


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything that `CodecModel` is built from.

    sample_rate in Hz; hop_length in samples per frame; lookahead in samples: how far the encoder sees
    ahead of the sample it codes, beyond what the transform itself needs. transform is "spectral" or "strided".
    bottleneck is "quantized"; or, for models without codes, "none" or "gaussian" (a VAE's).
    """

    name: str = "unnamed"
    sample_rate: int = 24000
    hop_length: int = 320
    lookahead: int = 320
    latent_dim: int = 64
    transform: str = "spectral"
    bottleneck: str = "quantized"
    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    strided: StridedConfig = field(default_factory=StridedConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    residual: ResidualConfig = field(default_factory=ResidualConfig)

    def __post_init__(self) -> None:
        for part in (self, self.spectral, self.strided, self.attention):
            _check_sizes(part)
        _check_quantizer(self.quantizer)
        for name, value, known in (
            ("transform", self.transform, ("spectral", "strided")),
            ("bottleneck", self.bottleneck, ("quantized", "none", "gaussian")),
            ("combine", self.residual.combine, ("sum", "concat")),
        ):
            _check(value in known, f"{name} {value!r}: expected {' or '.join(known)}")
        _check(
            self.has_codes or self.residual == ResidualConfig(),
            f"settings of residual need levels, and a bottleneck {self.bottleneck!r} has none",
        )
        one_rate = set(self.quantizer.frames_per_code) == {1}
        _check(one_rate or not self.residual.gated, "gated levels need frames_per_code 1 for all")
        _check_transform(self)

    @property
    def has_codes(self) -> bool:
        """Whether there is a quantizer."""
        return self.bottleneck == "quantized"

    @property
    def decoder_channels(self) -> int:
        """Channels that the decoder is given for each frame."""
        n_parts = len(self.quantizer.codebook_sizes) if self.residual.combine == "concat" else 1
        return n_parts * self.latent_dim

    @property
    def attention_dim(self) -> int:
        """Channels where attention is."""
        strided = self.strided
        return self.spectral.dim if self.transform == "spectral" else strided.channels << len(strided.strides)

    @property
    def delay(self) -> int:
        """Samples by which decoded audio lags behind its input when the codec runs frame by frame."""
        overlap = self.spectral.window_length - self.hop_length if self.transform == "spectral" else 0
        return overlap + self.lookahead

    @property
    def latency_ms(self) -> float:
        """Algorithmic latency at blocks of one frame: one hop is collected, then the delay passes."""
        return 1000 * (self.hop_length + self.delay) / self.sample_rate


def _check_transform(config: ModelConfig) -> None:
    """The transform's sizes fit the hop length, and the attention's heads its channels."""
    hop, window = config.hop_length, config.spectral.window_length
    if config.transform == "spectral":
        whole = window % hop == 0 and window >= 2 * hop
        _check(whole, f"window {window}: a multiple of hop {hop}, from 2 on")
    else:
        product = math.prod(config.strided.strides)
        _check(product == hop, f"strides multiply to {product}, hop_length is {hop}")
    dim, heads = config.attention_dim, config.attention.heads
    if config.attention.span > 0:
        _check(dim % heads == 0, f"attention: {dim} channels do not divide into {heads} heads")


def _check_quantizer(quantizer: QuantizerConfig) -> None:
    """Sizes are in range; slow levels come first, and a cut into blocks of the slowest one's fits all others."""
    sizes, frames = quantizer.codebook_sizes, quantizer.frames_per_code
    _check(len(sizes) == len(frames) > 0, "codebook_sizes and frames_per_code need one value per level each")
    _check(all(2 <= size <= 32768 for size in sizes), f"codebook sizes {sizes}: expected 2 to 32768")
    _check(min(frames) >= 1, f"frames_per_code {frames}: expected 1 or more")
    spans = itertools.pairwise(frames)
    _check(all(a % b == 0 for a, b in spans), f"frames_per_code {frames}: each must divide the one before")


def _check_sizes(config: Any) -> None:
    """Every number is a size, and 1 or more; but some may be none."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        numbers = value if isinstance(value, tuple) else (value,)
        least = 0 if item.name in ("lookahead", "span", "decoder_expansion") else 1
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
