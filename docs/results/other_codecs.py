"""How far coding in pieces is from coding a recording whole, for other codecs at full size.

    python docs/results/other_codecs.py RECORDING

Weights are random: codes of such a model are near ties more often than those of a trained one. Prints, for each
model, the share of equal codes, the largest difference of the audio relative to its peak, and the difference where
decoding starts inside the recording.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
import transformers
from snac import SNAC

from audiocodec.codec import Codec
from audiocodec.hub.dac import Dac
from audiocodec.hub.seanet import Encodec, Mimi
from audiocodec.hub.snac import Snac
from audiocodec.hub.windows import Windowed
from audiocodec.stream import StreamDecoder, file_block_frames

SECONDS = 8.0
START_SECONDS = 5.0
SNAC_24 = {
    "encoder_dim": 48,
    "encoder_rates": [2, 4, 8, 8],
    "decoder_dim": 1024,
    "decoder_rates": [8, 8, 4, 2],
}
SNAC_24 |= {"sampling_rate": 24000, "attn_window_size": None, "vq_strides": [4, 2, 1]}


def randomized(model: Any) -> Any:
    """A model in evaluation mode whose codebooks are not zero and whose biases do not outweigh the sound."""
    for name, tensor in [*model.named_buffers(), *model.named_parameters()]:
        if name.endswith((".embed", "embed_sum", "codebook.weight")):
            torch.nn.init.normal_(tensor, std=0.3)
        elif name.endswith(".bias"):
            torch.nn.init.zeros_(tensor)
    return model.eval().requires_grad_(False)


def encodec() -> tuple[Any, Any, Callable[[Any], Any], Callable[[Any], Any]]:
    model = randomized(transformers.EncodecModel(transformers.EncodecConfig()))
    scale = model.encoder(0.1 * torch.randn(1, 1, 24000)).std()
    for level in model.quantizer.layers:
        level.codebook.embed *= scale / 0.3
    return (
        Encodec(model, "encodec"),
        model,
        lambda audio: model.encode(audio, bandwidth=24.0).audio_codes[0],
        lambda codes: model.decode(codes.unsqueeze(0), [None]).audio_values[0, 0],
    )


def mimi() -> tuple[Any, Any, Callable[[Any], Any], Callable[[Any], Any]]:
    model = randomized(transformers.MimiModel(transformers.MimiConfig()))
    return (
        Mimi(model, "mimi"),
        model,
        lambda audio: model.encode(audio).audio_codes,
        lambda codes: model.decode(codes).audio_values[0, 0],
    )


def dac() -> tuple[Any, Any, Callable[[Any], Any], Callable[[Any], Any]]:
    config = transformers.DacConfig(sampling_rate=44100, downsampling_ratios=(2, 4, 8, 8), n_codebooks=9)
    model = randomized(transformers.DacModel(config))
    return (
        Windowed(Dac(model, "dac")),
        model,
        lambda audio: model.encode(audio).audio_codes,
        lambda codes: model.decode(audio_codes=codes).audio_values[0],
    )


def snac() -> tuple[Any, Any, Callable[[Any], Any], Callable[[Any], Any]]:
    model = randomized(SNAC(**SNAC_24))
    coder = Snac(model, "snac")
    return (
        Windowed(coder),
        model,
        lambda audio: coder.encode(audio, 3),
        lambda codes: coder.decode(codes, 0)[0, 0],
    )


def compare(make: Callable[[], Any], recording: Any, rate: int) -> str:
    """One model's line."""
    torch.manual_seed(0)
    model, _, encode, decode = make()
    codec = Codec(model)
    space = codec.space
    unit = 4 * space.hop_length
    audio = soxr.resample(recording, rate, space.sample_rate).astype(np.float32)
    audio = audio[: min(len(audio), int(SECONDS * space.sample_rate)) // unit * unit]
    codes = codec.encode(audio, space.sample_rate)
    with torch.inference_mode():
        whole = encode(torch.from_numpy(audio)[None, None])
        sound = decode(whole).numpy()[: len(audio)]
    spans = space.frames_per_code
    equal = [
        (level[0] == whole[0, n, ::span].numpy()).mean()
        for n, (level, span) in enumerate(zip(codes.levels, spans, strict=True))
    ]
    levels = tuple(whole[:, n, ::span].numpy().astype(np.int16) for n, span in enumerate(spans))
    in_pieces = codec.decode(type(codes)(space, codes.source, codes.n_frames, levels, len(audio)))[
        : len(sound), 0
    ]
    peak = np.abs(sound).max()
    # from inside, as a file is: the receptive field earlier
    frame = int(START_SECONDS * space.frame_rate) - model.receptive_field
    frame = max(0, frame // 4 * 4)
    late = StreamDecoder(
        model, space, codes.source, space.sample_rate, file_block_frames(space), first_frame=frame
    )
    rest = tuple(level[:, frame // span :] for level, span in zip(levels, spans, strict=True))
    part = late.push(type(codes)(space, codes.source, codes.n_frames - frame, rest, None))
    part = np.concatenate([part, late.finish()])[:, 0]
    first = int(START_SECONDS * space.sample_rate)
    inside = part[first - frame * space.hop_length :][: len(sound) - first]
    late_difference = np.abs(inside - in_pieces[first : first + len(inside)]).max() / peak
    return (
        f"| {space.model} | {100 * float(np.mean(equal)):.3f} % | {np.abs(in_pieces - sound).max() / peak:.1e} "
        f"| {late_difference:.1e} | {model.receptive_field / space.frame_rate:.2f} |"
    )


if __name__ == "__main__":
    samples, sample_rate = soundfile.read(Path(sys.argv[1]), dtype="float32", always_2d=True)
    print("| model | equal codes | audio | audio from inside | receptive field, s |\n|---|--:|--:|--:|--:|")
    for make in (encodec, mimi, dac, snac):
        print(compare(make, samples.mean(1), sample_rate), flush=True)
