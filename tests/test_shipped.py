"""What is promised of the model that comes with the package, on the samples that come with the repository."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from audiocodec import decode_file
from audiocodec.codec import Codec, load
from audiocodec.model.catalogue import DEFAULT_MODEL, model_folder
from audiocodec.stream import Floats
from audiocodec.train.losses import mel_distance, mel_filters, spectrum

SAMPLES = sorted((Path(__file__).parent.parent / "samples").glob("*.flac"))


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load(device="cpu")


def mono(path: Path) -> Floats:
    """A sample as the model hears it: one channel at 24 kHz."""
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(audio.mean(axis=1), rate, 24000), np.float32)


def mel(decoded: Floats, audio: Floats) -> float:
    filters = mel_filters(80, 1024, 24000, torch.device("cpu"))
    ours, theirs = (spectrum(torch.from_numpy(x)[None], 1024) for x in (decoded, audio))
    return float(mel_distance(ours, theirs, filters))


def test_every_further_level_lowers_the_mel_distance(codec: Codec) -> None:
    distances = {n: 0.0 for n in (1, 2, 4, 8)}
    for path in SAMPLES:
        audio = mono(path)
        for n in distances:
            distances[n] += mel(codec.decode(codec.encode(audio, 24000, n_q=n))[:, 0], audio) / len(SAMPLES)
    assert distances[1] > distances[2] > distances[4] > distances[8]


def test_codes_are_the_same_twice_and_with_one_and_two_threads(codec: Codec) -> None:
    audio = mono(SAMPLES[0])
    before = torch.get_num_threads()
    codes = []
    try:
        for n_threads in (1, 2, 1):
            torch.set_num_threads(n_threads)
            codes.append(codec.encode(audio, 24000).values)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(codes[0], codes[1]) and np.array_equal(codes[0], codes[2])


def test_another_process_gets_the_same_bytes(codec: Codec, tmp_path: Path) -> None:
    source = SAMPLES[0]
    for name, n_threads in (("a.rq", "1"), ("b.rq", "2")):
        command = [sys.executable, "-m", "audiocodec", "encode", "-q", str(source), str(tmp_path / name)]
        subprocess.run(command, check=True, env={"OMP_NUM_THREADS": n_threads})
    assert (tmp_path / "a.rq").read_bytes() == (tmp_path / "b.rq").read_bytes()


def test_clips_in_a_batch_get_nearly_all_the_codes_that_they_get_alone(codec: Codec) -> None:
    clips = [mono(path) for path in SAMPLES]
    lengths = torch.tensor([len(clip) for clip in clips])
    batch = torch.zeros(len(clips), 1, int(lengths.max()))
    for row, clip in zip(batch, clips, strict=True):
        row[0, : len(clip)] = torch.from_numpy(clip)
    together = codec.model.encode(batch, lengths=lengths)
    same, total = 0, 0
    for item, clip in enumerate(clips):
        alone = codec.encode(clip, 24000).values[0]
        assert alone.shape[1] == together.frames[item]
        ours = together.audio_codes[item, :, : alone.shape[1]].numpy()
        same += int((alone == ours).all(axis=0).sum())
        total += alone.shape[1]
    assert same / total >= 0.999


def test_file_and_live_blocks_agree_on_nearly_all_frames(codec: Codec) -> None:
    same, total = 0, 0
    for path in SAMPLES[:3]:
        audio = mono(path)[:, None]
        encoder = codec.stream_encoder(24000, live=True)
        live = np.concatenate([encoder.push(audio).values, encoder.finish().values], axis=2)
        filed = codec.encode(audio, 24000).values
        same += int((live == filed).all(axis=(0, 1)).sum())
        total += filed.shape[2]
    assert same / total >= 0.999


def test_the_model_is_small_and_quick_to_answer(codec: Codec) -> None:
    folder = model_folder(DEFAULT_MODEL)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 40e6
    assert codec.model.config.latency_ms < 60
    assert codec.space.model == DEFAULT_MODEL
    assert (folder / "README.md").is_file()


def test_the_coded_samples_decode_to_what_they_were_made_of(codec: Codec) -> None:
    for path in SAMPLES:
        coded = path.with_suffix(".rq")
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
        decoded, decoded_rate = decode_file(coded, model=codec)
        assert (decoded.shape, decoded_rate) == (audio.shape, rate)
        pair = [soxr.resample(x.mean(axis=1), rate, 24000).astype(np.float32) for x in (decoded, audio)]
        assert mel(pair[0], pair[1]) < 0.5  # silence is at 2 and more
