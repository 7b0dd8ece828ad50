"""Generated recordings as files: `.rq` from the codes as they are, audio as it is decoded."""

from pathlib import Path
from typing import BinaryIO

from audiocodec.audio import AudioReader, AudioWriter, Progress
from audiocodec.codec import Codec, join_codes
from audiocodec.codes import Codes
from audiocodec.encoding import open_groups
from audiocodec.output import atomic_output
from audiocodec.prior.sampling import Generated, decode_pieces


def read_prompt(codec: Codec, n_q: int, source: str | Path | BinaryIO) -> Codes:
    """Codes of n_q levels of an audio file or pipe, to be continued. Raises AudioError where it cannot be read."""
    with AudioReader(source) as reader:
        encoder = codec.stream_encoder(reader.sample_rate, channels=reader.channels, n_q=n_q)
        parts = [encoder.push(block) for block in reader.blocks(reader.sample_rate)]
        return join_codes([*parts, encoder.finish()])


def write_audio(
    codec: Codec,
    generated: Generated,
    target: str | Path | BinaryIO,
    *,
    overwrite: bool = False,
    progress: Progress = lambda _: None,
) -> None:
    """Decodes codes as they come into an audio file or pipe."""
    source = generated.source
    with AudioWriter(
        target, source.sample_rate, source.channels, n_samples=generated.n_samples, overwrite=overwrite
    ) as writer:
        for block in decode_pieces(codec, generated):
            writer.write(block)
            progress(writer.n_samples / source.sample_rate)


def write_codes(
    codec: Codec,
    generated: Generated,
    target: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress = lambda _: None,
) -> None:
    """Writes codes as they come into a `.rq` file, entropy-coded where the model has tables; nothing is decoded."""
    with atomic_output(target, overwrite=overwrite) as path, path.open("wb") as file:
        groups = open_groups(file, generated.space, generated.source, {}, tables=codec.tables)
        n_frames = 0
        for codes in generated.pieces:
            groups.write(codes)
            n_frames += codes.n_frames
            progress(n_frames / codec.space.frame_rate)
        groups.finish(generated.n_samples)
