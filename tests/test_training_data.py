"""Training audio: what is read, and the crops that are drawn of it."""

import shutil
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from audiocodec.errors import AudioError, CodecError
from audiocodec.train import data
from audiocodec.train.data import change_speed, join, load_clips, random_crops, read_mono, split_clips


def test_crops_are_reproducible_and_within_full_scale(audio_folder: Path) -> None:
    clips = load_clips([audio_folder], 24000)
    assert len(clips) == 3 and all(abs(len(clips[i]) - 24000) <= 1 for i in range(3))
    first, again = (random_crops(clips, 16, 4800, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (16, 1, 4800) and first.abs().max() <= 1
    rest, held_out = split_clips(clips)
    assert len(rest) == 2 and len(held_out) == 1


def test_another_speed_plays_crops_at_another_pitch() -> None:
    time = torch.arange(24000) / 24000
    tone = torch.stack([torch.sin(2 * torch.pi * 400 * time), torch.sin(2 * torch.pi * 800 * time)])
    faster = change_speed(tone, 1.25)
    assert faster.shape == (2, 19200)
    for n, pitch in enumerate((500, 1000)):
        expected = torch.sin(2 * torch.pi * pitch * time[:19200])
        assert (faster[n] - expected)[500:-500].abs().max() < 1e-3


def test_speeds_are_drawn_for_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = join([("ramp", torch.arange(24000, dtype=torch.int16))])
    monkeypatch.setattr(data, "augment", lambda crops, _: crops)
    generator = torch.Generator().manual_seed(1)
    found = set()
    for _ in range(8):
        crops = random_crops(clips, 4, 4800, generator, speeds=(0.8, 1.25))
        assert crops.shape == (4, 1, 4800)
        rises = (crops[:, 0, 3000] - crops[:, 0, 1000]) * 32767 / 2000  # of a ramp, by how fast it is played
        assert rises.max() - rises.min() < 0.01
        found.add(round(float(rises.mean()), 2))
    assert found == {0.8, 1.25}


def test_speeds_on_a_gpu_ask_for_torchaudio_and_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = torch.empty(2, 6000, device="meta")  # any device but the CPU
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(CodecError, match=r"audiocodec\[torchaudio\]"):
        change_speed(elsewhere, 1.25)
    asked = []

    class Functional:
        @staticmethod
        def resample(crops: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
            asked.append((from_rate, to_rate))
            return crops[:, : -(-crops.shape[1] * to_rate // from_rate)]

    monkeypatch.setattr("audiocodec.train.data.torchaudio_functional", lambda: Functional)
    assert change_speed(elsewhere, 1.25).shape == (2, 4800) and asked == [(1250, 1000)]


def test_level_polarity_and_mixing_are_drawn_apart() -> None:
    n_crops = 2000
    crops = torch.zeros(n_crops, 2)
    crops[::2, 0], crops[1::2, 1] = 0.01, 0.01  # neighbours do not overlap, and nothing comes near full scale
    found = data.augment(crops, torch.Generator().manual_seed(0)).abs() / 0.01
    gain, added = found.max(1).values, found.min(1).values
    mixed = added > 0
    assert 0.1 < mixed.float().mean() < 0.15
    drawn = torch.stack([gain[mixed], added[mixed] / gain[mixed]]).log()
    assert drawn.corrcoef()[0, 1].abs() < 0.2


def test_silent_crops_are_drawn_again() -> None:
    noise = torch.randint(-3000, 3000, (24000,), generator=torch.Generator().manual_seed(0))
    clips = join([("noise", noise.short()), ("silence", torch.zeros(24000, dtype=torch.int16))])
    crops = random_crops(clips, 800, 240, torch.Generator().manual_seed(1))
    silent = (crops.abs().amax((1, 2)) == 0).float().mean()
    assert 0.06 < silent < 0.19  # half of the audio, three times in a row


def test_drawing_crops_asks_their_device_nothing() -> None:
    clips = join([("a", torch.zeros(6000, dtype=torch.int16))]).to(
        torch.device("meta")
    )  # it could not answer
    crops = random_crops(clips, 4, 4800, torch.Generator())
    assert crops.shape == (4, 1, 4800) and crops.device.type == "meta"


def test_stereo_of_another_rate_becomes_mono(audio_folder: Path) -> None:
    assert read_mono((audio_folder / "1.wav").read_bytes(), 24000).shape == (24000,)


def test_unreadable_clips_are_left_out_and_no_clips_are_an_error(tmp_path: Path, caplog) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no audio at all")
    with pytest.raises(AudioError, match="no audio"):
        load_clips([tmp_path], 24000)
    assert "broken.wav" in caplog.text
    with pytest.raises(AudioError, match="no such file"):
        load_clips([tmp_path / "missing"], 24000)


def test_hidden_files_are_no_clips(audio_folder: Path, tmp_path: Path, caplog) -> None:
    shutil.copytree(audio_folder, tmp_path / "audio")
    (tmp_path / "audio" / "._0.wav").write_bytes(b"what macOS writes beside 0.wav")
    with tarfile.open(tmp_path / "audio.tar", "w") as archive:
        archive.add(tmp_path / "audio", "audio")
    assert len(load_clips([tmp_path / "audio", tmp_path / "audio.tar"], 24000)) == 6
    assert not caplog.messages


def test_a_damaged_tar_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(AudioError, match=r"a\.tar: cannot be read as a \.tar archive"):
        load_clips([tmp_path / "a.tar"], 24000)
