"""Audio files and pipes: the same samples by every road, clear errors, outputs that are whole or absent."""

import io
import logging
import os
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile

from audiocodec.audio import OUTPUT_SUFFIXES, AudioReader, AudioWriter, RawFormat
from audiocodec.errors import AudioError
from audiocodec.output import atomic_output
from audiocodec.wav import PcmLayout, needs_rf64, read_wav_header, wav_header

RATE = 24000
TAGS = {"title": "Tüte", "artist": "Someone", "album": "A", "comment": "odd", "date": "2024", "genre": "Test"}


class Pipe(io.RawIOBase):
    """A stream that cannot seek and gives one byte at a time, or as many as `piece_bytes`."""

    def __init__(self, data: bytes = b"", piece_bytes: int = 1) -> None:
        self.data, self.piece_bytes = io.BytesIO(data), piece_bytes

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def read(self, n_bytes: int = -1) -> bytes:
        return self.data.read(self.piece_bytes if n_bytes < 0 else min(n_bytes, self.piece_bytes))

    def write(self, data: bytes) -> int:
        return self.data.write(data)


def noise(n_samples: int = 1000, channels: int = 2) -> np.ndarray:
    """White noise [T, C] at half scale, of 16-bit values."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (n_samples, channels))
    return (np.rint(samples * 32768) / 32768).astype(np.float32)


def read_all(
    source: object, raw: RawFormat | None = None, block: int = 300
) -> tuple[np.ndarray, AudioReader]:
    """All samples of a source, and its reader."""
    with AudioReader(source, raw=raw) as reader:
        blocks = list(reader.blocks(block))
        return np.concatenate([np.zeros((0, reader.channels), np.float32), *blocks]), reader


def write_all(target: object, samples: np.ndarray, **options: object) -> None:
    """All samples in blocks of 300."""
    with AudioWriter(target, RATE, samples.shape[1], **options) as writer:
        for start in range(0, len(samples), 300):
            writer.write(samples[start : start + 300])


def wav_bytes(samples: np.ndarray, subtype: str = "PCM_16", container: str = "WAV") -> bytes:
    """A file as libsndfile writes it."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, subtype, format=container)
    return file.getvalue()


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_a_wav_from_a_pipe_equals_the_file(container: str, subtype: str) -> None:
    data = wav_bytes(noise(), subtype, container)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    samples, reader = read_all(Pipe(data, piece_bytes=777))
    assert np.array_equal(samples, expected)
    assert (reader.sample_rate, reader.channels, reader.n_samples) == (RATE, 2, 1000)
    assert np.array_equal(read_all(io.BytesIO(data))[0], expected)


@pytest.mark.parametrize("suffix", sorted({".mp3", ".ogg", ".opus", ".flac", ".wav"} & set(OUTPUT_SUFFIXES)))
def test_blocks_of_any_length_are_the_same_samples(suffix: str, tmp_path: Path) -> None:
    noise = 0.2 * np.random.default_rng(0).standard_normal((3 * RATE, 1))
    codec = {"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {}
    soundfile.write(tmp_path / f"a{suffix}", noise, RATE, **codec)
    recordings = []
    for n_samples in (10 * RATE, RATE, 1000):
        with AudioReader(tmp_path / f"a{suffix}") as reader:
            recordings.append(np.concatenate(list(reader.blocks(n_samples))))
    assert np.array_equal(recordings[0], recordings[1]) and np.array_equal(recordings[0], recordings[2])


@pytest.mark.parametrize("stated_bytes", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_a_header_of_unknown_length_reads_to_the_end(stated_bytes: int, tmp_path: Path) -> None:
    data = bytearray(wav_bytes(noise()))
    data[4:8] = struct.pack("<I", stated_bytes + 36 if stated_bytes < 0xFFFFFFFF else stated_bytes)
    data[40:44] = struct.pack("<I", stated_bytes)
    samples, reader = read_all(Pipe(bytes(data)))
    assert reader.n_samples is None
    assert np.array_equal(samples, noise())
    (tmp_path / "killed.wav").write_bytes(data)
    assert np.array_equal(read_all(tmp_path / "killed.wav")[0], noise())


def test_what_follows_the_samples_on_a_pipe_is_not_sound() -> None:
    data = wav_bytes(noise()) + b"LIST\x04\x00\x00\x00INFO"
    assert len(read_all(Pipe(data))[0]) == 1000
    empty = bytearray(wav_bytes(noise(0)) + b"LIST\x04\x00\x00\x00INFO")
    empty[4:8] = struct.pack("<I", len(empty) - 8)
    assert len(read_all(Pipe(bytes(empty)))[0]) == 0


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("WAV", "ULAW"), ("OGG", "VORBIS")])
def test_other_formats_come_through_a_pipe_too(container: str, subtype: str) -> None:
    data = wav_bytes(noise(), subtype, container)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    assert np.array_equal(read_all(Pipe(data, piece_bytes=100))[0], expected)


def test_raw_samples_need_no_header(tmp_path: Path) -> None:
    data = (noise() * 32768).astype("<i2").tobytes()
    raw = RawFormat(RATE, 2)
    assert np.array_equal(read_all(Pipe(data), raw)[0], noise())
    assert len(read_all(Pipe(data[:-1]), raw)[0]) == 999  # half a sample at the end is none
    (tmp_path / "a.raw").write_bytes(data)
    assert np.array_equal(read_all(tmp_path / "a.raw", raw)[0], noise())
    out = Pipe()
    write_all(out, noise(), raw=True)
    assert out.data.getvalue() == data
    with pytest.raises(AudioError, match="--raw"):
        read_all(tmp_path / "a.raw")


def test_a_reader_refuses_what_is_not_audio(tmp_path: Path) -> None:
    def refused(content: bytes, match: str, raw: RawFormat | None = None) -> None:
        (tmp_path / "a.wav").write_bytes(content)
        for source in (tmp_path / "a.wav", Pipe(content)):
            with pytest.raises(AudioError, match=match):
                read_all(source, raw)

    refused(b"", r"empty \(0 bytes\)")
    refused(b"", r"empty \(0 bytes\)", RawFormat(RATE, 1))
    refused(b"x", "expected WAV, FLAC")
    refused(b"hello " * 100, "expected WAV, FLAC")
    refused(wav_bytes(noise())[:30], "expected WAV, FLAC")
    refused(wav_bytes(noise(100, 6)), "6 channels: expected 1 or 2")
    with pytest.raises(AudioError, match="does not exist"):
        AudioReader(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="is a folder"):
        AudioReader(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_named(value: float) -> None:
    samples = noise(RATE)
    samples[12000, 1] = value
    with pytest.raises(AudioError, match=r"at 0\.500 s"):
        read_all(io.BytesIO(wav_bytes(samples, "FLOAT")))


def test_samples_beyond_full_scale_are_clipped_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    samples = noise()
    samples[[10, 20, 900], 0] = [1.5, -1.25, 1.25]
    clipped, _ = read_all(io.BytesIO(wav_bytes(samples, "FLOAT")))
    assert np.array_equal(clipped, samples.clip(-1, 1))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "3 samples beyond full scale were clipped (peak 1.50)" in caplog.text


def test_a_damaged_or_short_file_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    flac = wav_bytes(noise(50000), container="FLAC")
    with pytest.raises(AudioError, match="damaged or cut short"):
        read_all(io.BytesIO(flac[: len(flac) // 2]))


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("kind", [Pipe, io.BytesIO])
def test_a_wav_that_was_cut_off_is_noticed(
    container: str, kind: Callable[[bytes], BinaryIO], caplog: pytest.LogCaptureFixture
) -> None:
    data = wav_bytes(noise(RATE), container=container)
    samples, reader = read_all(kind(data))
    assert not caplog.text
    cut = data[: -RATE * 2]  # half of the samples, of two channels with two bytes each
    samples, reader = read_all(kind(cut))
    assert (len(samples), reader.n_samples) == (RATE // 2, RATE)
    assert "ends after 0.50 s, its header says 1.00 s" in caplog.text
    with AudioReader(kind(cut)) as reader:
        reader.skip(RATE - 10)
        assert not list(reader.blocks(100))
    assert caplog.text.count("ends after 0.50 s") == 2


def test_a_wav_that_only_libsndfile_reads_ends_where_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    samples, reader = read_all(io.BytesIO(wav_bytes(noise(), "ULAW")[:-400]))
    assert (len(samples), reader.n_samples) == (800, 800)
    assert not caplog.text


@pytest.mark.parametrize("suffix", OUTPUT_SUFFIXES)
def test_every_suffix_can_be_written_and_read(suffix: str, tmp_path: Path) -> None:
    write_all(tmp_path / f"a{suffix}", noise(5000), tags=TAGS)
    samples, reader = read_all(tmp_path / f"a{suffix}")
    assert (reader.sample_rate, reader.channels) == (RATE, 2)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]
    if suffix not in (".mp3", ".ogg", ".oga", ".opus"):
        assert np.array_equal(samples, noise(5000))
    if suffix in (".wav", ".flac", ".ogg"):
        assert reader.tags == TAGS


def test_a_float_wav_keeps_every_bit(tmp_path: Path) -> None:
    samples = noise() * np.float32(3.3)
    write_all(tmp_path / "a.wav", samples, float32=True, tags={"title": "x", "license": "no place in WAV"})
    back, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert np.array_equal(back, samples)
    with pytest.raises(AudioError, match="float samples go into"):
        AudioWriter(tmp_path / "a.flac", RATE, 1, float32=True)


def test_a_written_wav_is_the_same_every_time_and_valid(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        write_all(tmp_path / name, noise(), float32=True, tags=TAGS)
    data = (tmp_path / "a.wav").read_bytes()
    assert data == (tmp_path / "b.wav").read_bytes()
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    assert soundfile.info(tmp_path / "a.wav").frames == 1000


def test_a_pipe_gets_a_wav_of_unknown_or_known_length() -> None:
    for n_samples, tags in ((None, {}), (1000, TAGS)):
        out = Pipe()
        write_all(out, noise(), n_samples=n_samples, tags=tags)
        samples, reader = read_all(Pipe(out.data.getvalue()))
        assert np.array_equal(samples, noise())
        assert (reader.n_samples, reader.tags) == (n_samples, tags)


def test_more_than_four_gigabytes_become_rf64(tmp_path: Path) -> None:
    layout, n_samples = PcmLayout(48000, 2), 1 << 30
    assert needs_rf64(layout, n_samples)
    assert not needs_rf64(layout, n_samples - (1 << 19))
    header, _ = read_wav_header(io.BytesIO(wav_header(layout, n_samples, tags=TAGS, rf64=True)))
    assert header is not None
    assert (header.layout, header.n_samples, header.tags) == (layout, n_samples, TAGS)
    write_all(tmp_path / "a.wav", noise(), n_samples=n_samples)  # told so, but it was shorter
    assert soundfile.info(tmp_path / "a.wav").format == "RF64"
    assert np.array_equal(read_all(tmp_path / "a.wav")[0], noise())


def test_no_header_makes_the_parser_fail() -> None:
    data = wav_bytes(noise(10))
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.integers(0, 44)] = rng.integers(0, 256)
        read_wav_header(io.BytesIO(damaged[: rng.integers(0, len(data))]))


def test_zero_samples_are_a_valid_recording(tmp_path: Path) -> None:
    for suffix in (".wav", ".flac"):
        write_all(tmp_path / f"a{suffix}", noise(0))
    assert read_all(tmp_path / "a.wav")[0].shape == (0, 2)
    out = Pipe()
    write_all(out, noise(0))
    assert read_all(Pipe(out.data.getvalue()))[0].shape == (0, 2)


def test_a_writer_refuses_what_the_format_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"expected one of \.wav"):
        AudioWriter(tmp_path / "a.xyz", RATE, 1)
    with pytest.raises(AudioError, match="opus at 44100 Hz"):
        AudioWriter(tmp_path / "a.opus", 44100, 1)
    for rate in (1, 1 << 24):
        with pytest.raises(AudioError, match=rf"cannot be written at {rate} Hz: expected 1000 to 768000 Hz"):
            AudioWriter(tmp_path / "a.wav", rate, 1)
    with pytest.raises(ValueError, match="expected"):
        write_one_wrong_block(tmp_path / "a.wav")
    assert not list(tmp_path.iterdir())


def write_one_wrong_block(path: Path) -> None:
    with AudioWriter(path, RATE, 1) as writer:
        writer.write(noise(10, 2))


def test_an_existing_output_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"precious")
    with pytest.raises(AudioError, match="exists: use -f"):
        AudioWriter(path, RATE, 1)
    assert path.read_bytes() == b"precious"
    write_all(path, noise(), overwrite=True)
    assert len(read_all(path)[0]) == 1000


def test_an_output_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.rq"
    with pytest.raises(AudioError, match="exists: use -f"), atomic_output(path, overwrite=False) as temporary:
        temporary.write_bytes(b"mine")
        path.write_bytes(b"theirs")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.rq", b"theirs")]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_an_interrupted_output_leaves_nothing(error: type, suffix: str, tmp_path: Path) -> None:
    def interrupted() -> None:
        with AudioWriter(tmp_path / f"a{suffix}", RATE, 2) as writer:
            writer.write(noise())
            raise error

    with pytest.raises(error):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_takes_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="make it first"):
        AudioWriter(tmp_path / "none" / "a.wav", RATE, 1)
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError, match="is a folder"):
        AudioWriter(tmp_path / "folder.wav", RATE, 1)


def test_links_and_permissions_are_those_of_an_ordinary_write(tmp_path: Path) -> None:
    (tmp_path / "real.rq").write_bytes(b"old")
    (tmp_path / "link.rq").symlink_to(tmp_path / "real.rq")
    with atomic_output(tmp_path / "link.rq", overwrite=True) as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "link.rq").is_symlink()
    assert (tmp_path / "real.rq").read_bytes() == b"new"
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "real.rq").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_devices_and_named_pipes_are_written_to_as_they_are(tmp_path: Path) -> None:
    write_all("/dev/null", noise())
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=write_all, args=(fifo, noise()))
    writer.start()
    samples, reader = read_all(fifo)
    writer.join()
    assert np.array_equal(samples, noise())
    assert reader.n_samples is None
    assert fifo.is_fifo()


@pytest.mark.skipif(sys.platform == "win32", reason="limits file sizes the POSIX way")
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_full_disk_is_an_error_and_leaves_nothing(suffix: str, tmp_path: Path) -> None:
    program = f"""
        import resource, numpy as np
        from audiocodec.audio import AudioWriter
        from audiocodec.errors import AudioError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as a disk with 1000 bytes left
        block = np.random.default_rng(0).uniform(-1, 1, (3000, 2)).astype(np.float32)
        for n_blocks in (1, 30):
            try:
                with AudioWriter("a{suffix}", 24000, 2) as writer:
                    for _ in range(n_blocks):
                        writer.write(block)
            except AudioError as error:
                print(error)
        """
    script = [sys.executable, "-c", textwrap.dedent(program)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.count("the disk is full") == 2, done
    assert not done.stderr
    assert not list(tmp_path.iterdir())
