"""Other codecs' models for tests: their real layers, random weights, few channels, saved as their makers save them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

RATE_44 = 44100
ENCODEC_LATENTS = 0.003  # about as large, against the codebooks


@dataclass(frozen=True)
class Family:
    """How to make a small model, save it, and code with its own package.

    encode(model, audio [1, 1, T]) -> per level [ceil(F / frames_per_code)]; decode(model, levels) -> audio [T].
    unit: recordings of whole units of so many samples are coded alike; settles_to: how exactly decoding from
    inside a file equals that part of the whole.
    """

    make: Callable[[], Any]
    save: Callable[[Any, Path], None]
    encode: Callable[[Any, torch.Tensor], list[NDArray[np.int64]]]
    decode: Callable[[Any, list[NDArray[np.int64]]], NDArray[np.float32]] | None
    unit: int
    settles_to: float = 1e-5


def _shake(model: Any) -> Any:
    """A model whose codes say something: no biases that outweigh the sound, no codebooks of zeros."""
    for name, tensor in [*model.named_buffers(), *model.named_parameters()]:
        if name.endswith((".embed", "embed_sum", "codebook.weight")):
            torch.nn.init.normal_(tensor, std=0.3)
        elif name.endswith(".bias"):
            torch.nn.init.zeros_(tensor)
    return model.eval()


def encodec() -> Any:
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    model = _shake(EncodecModel(EncodecConfig(num_filters=4, hidden_size=16, target_bandwidths=(1.5, 3.0))))
    for level in model.quantizer.layers:
        level.codebook.embed *= ENCODEC_LATENTS
    return model


ENCODEC_48 = {
    "sampling_rate": 48000,
    "audio_channels": 2,
    "normalize": True,
    "chunk_length_s": 1.0,
    "overlap": 0.01,
}
ENCODEC_48 |= {
    "norm_type": "time_group_norm",
    "use_causal_conv": False,
    "target_bandwidths": (3.0, 6.0, 12.0, 24.0),
}
SEGMENT, OVERLAP = 48000, 480


def encodec_48() -> Any:
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    return _shake(EncodecModel(EncodecConfig(num_filters=4, hidden_size=16, **ENCODEC_48)))


def encode_segments(model: Any, audio: torch.Tensor) -> list[NDArray[np.int64]]:
    """audio [1, 1, T] on both channels, T whole segments without the last one's overlap -> scales, then the levels."""
    from audiocodec.hub.segments import scale_codes

    n_segments = audio.shape[-1] // (SEGMENT - OVERLAP)
    pair = torch.nn.functional.pad(audio.expand(-1, 2, -1), (0, OVERLAP))
    output = model.encode(pair, bandwidth=24.0)  # it adds a segment that begins with the overlap
    scales = torch.cat([scale_codes(scale) for scale in output.audio_scales[:n_segments]])
    return [scales[:, 0].numpy(), *output.audio_codes[:n_segments, 0].transpose(0, 1).flatten(1).numpy()]


def decode_segments(model: Any, levels: list[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Scales and levels -> audio [T], the mean of both channels."""
    from audiocodec.hub.segments import scale_values

    scales, *rest = (torch.from_numpy(level) for level in levels)
    codes = torch.stack(rest).unflatten(1, (len(scales), -1)).transpose(0, 1).unsqueeze(1)
    audio = model.decode(codes, [scale_values(scale[None, None]) for scale in scales]).audio_values
    return audio[0].mean(0)[:-OVERLAP].numpy()


def mimi() -> Any:
    from transformers import MimiConfig, MimiModel

    torch.manual_seed(0)
    config = MimiConfig(
        num_filters=4,
        hidden_size=32,
        num_hidden_layers=2,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=4,
        upsample_groups=32,
        vector_quantization_hidden_dimension=16,
        codebook_dim=16,
        codebook_size=64,
        num_quantizers=6,
        sliding_window=12,
    )
    return _shake(MimiModel(config))


def dac() -> Any:
    """Like the 24 kHz one, whose stride of 5 makes the decoder fall short of whole frames."""
    from transformers import DacConfig, DacModel

    torch.manual_seed(0)
    config = DacConfig(
        encoder_hidden_size=4,
        decoder_hidden_size=32,
        downsampling_ratios=(2, 4, 5, 8),
        n_codebooks=4,
        sampling_rate=24000,
    )
    return _shake(DacModel(config))


SNAC = {"sampling_rate": 24000, "encoder_rates": [2, 4, 8, 8], "decoder_rates": [8, 8, 4, 2]}
SNAC |= {"encoder_dim": 4, "decoder_dim": 32, "codebook_size": 256, "vq_strides": [4, 2, 1]}
SNAC |= {"attn_window_size": None}
SNAC_ATTENDING = SNAC | {"sampling_rate": RATE_44, "vq_strides": [8, 4, 2, 1], "attn_window_size": 16}
SNAC_ATTENDING |= {"encoder_rates": [3, 3, 7, 7], "decoder_rates": [7, 7, 3, 3], "decoder_dim": 64}


def snac(config: dict[str, Any]) -> Any:
    import snac as package

    torch.manual_seed(0)
    model = package.SNAC(**config)
    model.config = config
    return _shake(model)


def save_transformers(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)


def save_snac(model: Any, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(model.config))
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")


def _numpy(codes: torch.Tensor) -> list[NDArray[np.int64]]:
    """[n_q, F] -> a level each."""
    return list(codes.numpy())


def _stack(levels: list[NDArray[np.int64]]) -> torch.Tensor:
    """Levels -> [1, n_q, F]."""
    return torch.from_numpy(np.stack(levels)).unsqueeze(0)


FAMILIES = {
    "encodec": Family(
        encodec,
        save_transformers,
        lambda model, audio: _numpy(model.encode(audio, bandwidth=3.0).audio_codes[0, 0]),
        lambda model, levels: model.decode(_stack(levels).unsqueeze(0), [None]).audio_values[0, 0].numpy(),
        unit=320,
        settles_to=1e-4,  # its LSTM forgets, but not exactly
    ),
    "encodec 48 kHz": Family(
        encodec_48, save_transformers, encode_segments, decode_segments, unit=SEGMENT - OVERLAP
    ),
    "mimi": Family(
        mimi,
        save_transformers,
        lambda model, audio: _numpy(model.encode(audio).audio_codes[0]),
        lambda model, levels: model.decode(_stack(levels)).audio_values[0, 0].numpy(),
        unit=1920,
    ),
    "dac": Family(
        dac,
        save_transformers,
        lambda model, audio: _numpy(model.encode(audio).audio_codes[0]),
        lambda model, levels: model.decode(audio_codes=_stack(levels)).audio_values[0].numpy(),
        unit=320,
    ),
    "snac": Family(
        lambda: snac(SNAC | {"noise": False}),
        save_snac,
        lambda model, audio: [codes[0].numpy() for codes in model.encode(audio)],
        lambda model, levels: model.decode([torch.from_numpy(level)[None] for level in levels])[0, 0].numpy(),
        unit=4 * 512,
    ),
    "snac with noise": Family(
        lambda: snac(SNAC | {"noise": True}),
        save_snac,
        lambda model, audio: [codes[0].numpy() for codes in model.encode(audio)],
        None,  # the package draws other noise every time
        unit=4 * 512,
    ),
    "snac with attention": Family(
        lambda: snac(SNAC_ATTENDING | {"noise": False}),
        save_snac,
        lambda model, audio: [codes[0].numpy() for codes in model.encode(audio)],
        lambda model, levels: model.decode([torch.from_numpy(level)[None] for level in levels])[0, 0].numpy(),
        unit=16 * 441,
    ),
}
