"""Clips, metrics, means and ratings of the benchmark: the laws that figures must keep to be believed."""

import sys
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiocodec.bench import metrics
from audiocodec.bench.clips import choose, find_clips, load
from audiocodec.bench.metrics import BY_NAME, METRICS, available, measure
from audiocodec.bench.ratings import correlations, system_correlations
from audiocodec.bench.results import Clip, Floats, Mean, Measurement
from audiocodec.bench.statistics import bootstrap, means, worst
from audiocodec.errors import AudioError, CodecError

RATE = 24000
SAMPLES = Path(__file__).resolve().parent.parent / "samples"
CLIP = Clip("a", "speech", Path("a.wav"))
BEST = {
    "pesq_wb": 4.644,
    "stoi": 1,
    "estoi": 1,
    "visqol_audio": 4.732,
    "zimtohrli": 0,
    "mel12": 0,
    "mel8": 0,
    "mel_multiscale": 0,
    "stft": 0,
    "si_sdr": 100,
    "bandwidth": 100,
}  # ViSQOL in speech mode gives an unchanged clip anything from 3.6 on; DNSMOS does not know the original
JUDGES_OF_NOISE = [metric.name for metric in METRICS if metric.name != "bandwidth"]


@cache
def speech() -> Floats:
    """Four seconds of somebody speaking, at 24 kHz."""
    audio, rate = load(Clip("speech-english", "speech", SAMPLES / "speech-english.flac"))
    assert rate == RATE
    return audio[: 4 * RATE]


def noise(n_samples: int, seed: int = 0) -> Floats:
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


def with_noise(audio: Floats, snr_db: float) -> Floats:
    """The same noise every time, at this ratio."""
    added = noise(len(audio))
    return audio + added * np.float32(np.linalg.norm(audio) / np.linalg.norm(added) * 10 ** (-snr_db / 20))


def lowpass(audio: Floats, hz: float, rate: int) -> Floats:
    """audio without anything above hz."""
    spectrum = np.fft.rfft(audio)
    spectrum[np.fft.rfftfreq(len(audio), 1 / rate) > hz] = 0
    return np.fft.irfft(spectrum, len(audio)).astype(np.float32)


def figure(name: str, original: Floats, decoded: Floats, rate: int = RATE) -> float:
    """What one metric says; the test is skipped where a package that it needs is not installed."""
    _, lines = available([BY_NAME[name]])
    if lines:
        pytest.skip(lines[0])
    figures, missing = measure(CLIP, original, decoded, rate, [BY_NAME[name]])
    assert not missing
    return figures[name]


@pytest.mark.parametrize("name", BEST)
def test_identical_signals_give_the_best_value(name: str) -> None:
    value = figure(name, speech(), speech())
    assert value == pytest.approx(BEST[name], abs=1e-3)


@pytest.mark.parametrize("name", JUDGES_OF_NOISE)
def test_more_noise_is_worse(name: str) -> None:
    values = [figure(name, speech(), with_noise(speech(), snr_db)) for snr_db in (45, 25, 12, 0)]
    steps = np.diff(values)
    assert (steps < 0).all() if BY_NAME[name].higher_is_better else (steps > 0).all()


@pytest.mark.parametrize("ratio_db", [-20, 0, 12.5, 60])
def test_si_sdr_is_the_ratio_that_a_pair_was_made_with_at_any_level(ratio_db: float) -> None:
    original, other = (audio - audio.mean() for audio in (noise(RATE, 1), noise(RATE, 2)))
    distortion = other - (other @ original) / (original @ original) * original
    distortion *= np.linalg.norm(original) / np.linalg.norm(distortion) * 10 ** (-ratio_db / 20)
    decoded = 0.05 * (original + distortion) + 0.01  # another level, and an offset, which counts for nothing
    assert figure("si_sdr", original, decoded) == pytest.approx(ratio_db, abs=0.01)


def test_si_sdr_of_unrelated_signals_stays_finite() -> None:
    time = np.arange(RATE) / RATE
    sine, cosine = (0.5 * wave(2 * np.pi * 500 * time).astype(np.float32) for wave in (np.sin, np.cos))
    assert -100 <= figure("si_sdr", sine, cosine) < -80


def test_a_tenth_of_the_level_is_one_decade_of_mel_at_each_of_seven_scales() -> None:
    loud = noise(2 * RATE)
    assert figure("mel_multiscale", loud, loud / 10) == pytest.approx(7, abs=0.02)
    assert figure("mel12", loud, loud / 10) == pytest.approx(0, abs=1e-5)
    magnitudes = [metrics.spectrum(loud, window, window // 4).mean() for window in (2048, 512)]
    assert figure("stft", loud, loud / 10) == pytest.approx(2 * 2 + 0.9 * sum(magnitudes), rel=1e-3)


def test_mel8_hears_nothing_above_7500_hertz_and_mel12_does() -> None:
    full, dull = speech(), lowpass(speech(), 7600, RATE)
    assert figure("mel8", full, dull) < 0.01
    assert figure("mel12", full, dull) > 0.05


@pytest.mark.parametrize("window", [32, 512, 2048])
def test_spectra_equal_librosas(window: int) -> None:
    librosa = pytest.importorskip("librosa")
    audio = noise(5000)
    theirs = librosa.stft(audio, n_fft=window, hop_length=window // 4, pad_mode="reflect")
    np.testing.assert_allclose(metrics.spectrum(audio, window, window // 4).T, np.abs(theirs), atol=1e-4)


@pytest.mark.parametrize("seconds", [2, 5.4, 11.5])
def test_dnsmos_equals_its_own_package(seconds: float) -> None:
    for package in ("onnxruntime", "requests"):
        pytest.importorskip(package)
    dnsmos = pytest.importorskip("speechmos.dnsmos")
    audio = np.tile(speech(), 3)[: int(seconds * 16000)]
    theirs = dnsmos.run(audio, 16000)["p808_mos"]
    assert figure("dnsmos_p808", audio, audio, 16000) == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("share", [1 / 6, 1 / 2, 5 / 6])
def test_bandwidth_of_lowpassed_noise_is_its_share(share: float) -> None:
    original = noise(96000)
    decoded = lowpass(original, 24000 * share, 48000)
    assert figure("bandwidth", original, decoded, 48000) == pytest.approx(100 * share, abs=1.1)  # a band


def test_bandwidth_counts_dull_treble_but_nothing_above_the_original() -> None:
    wide, narrow = noise(96000), lowpass(noise(96000), 6000, 48000)
    low = lowpass(wide, 6000, 48000)
    assert figure("bandwidth", wide, low + 0.3 * (wide - low), 48000) == 100
    assert figure("bandwidth", narrow, wide, 48000) == 100


def test_what_is_beyond_full_scale_is_clipped_before_it_is_measured() -> None:
    loud = speech() * (1.5 / np.abs(speech()).max())
    assert figure("stft", speech(), loud) == figure("stft", speech(), np.clip(loud, -1, 1))


def test_metrics_are_asked_for_their_kinds_only_and_share_what_is_resampled() -> None:
    seen = []

    def spy(fetch: metrics.Fetch) -> float:
        seen.append(fetch(16000))
        return float(len(fetch(16000)[0]))

    chosen = [metrics.Metric(name, name, "", True, ("music",), False, spy) for name in "ab"]
    other = metrics.Metric("c", "c", "", True, ("speech",), False, spy)
    clip = Clip("a", "music", Path("a.wav"))
    figures, missing = measure(clip, noise(RATE), noise(RATE), RATE, [*chosen, other])
    assert (figures, missing) == ({"a": 16000.0, "b": 16000.0}, {})
    assert seen[0] is seen[1]


@pytest.mark.parametrize("n_samples", [1, 10, 100, 1000, 3000, 10000])
def test_short_clips_have_figures_or_reasons_and_break_nothing(n_samples: int) -> None:
    chosen, _ = available(METRICS)
    audio = speech()[RATE : RATE + n_samples]
    figures, missing = measure(CLIP, audio, with_noise(audio, 20), RATE, chosen)
    assert figures.keys() | missing.keys() == {metric.name for metric in chosen}
    assert np.isfinite(list(figures.values())).all()
    assert all("shorter" in reason or "silent" in reason for reason in missing.values())


def test_silence_and_numbers_that_are_none_are_named() -> None:
    chosen, _ = available(METRICS)
    silence, broken = np.zeros_like(speech()), speech().copy()
    broken[100] = np.nan
    every = {metric.name for metric in chosen}
    for nothing, something in ((silence, speech()), (silence[:0], silence[:0])):
        found = measure(CLIP, nothing, something, RATE, chosen)
        assert found == ({}, dict.fromkeys(every, "the clip is silent"))
    figures, missing = measure(CLIP, speech(), silence, RATE, chosen)
    assert set(missing.values()) == {"the decoded clip is silent"}
    assert "stft" in figures and "si_sdr" in missing
    figures, missing = measure(CLIP, speech(), broken, RATE, chosen)
    assert not figures and all("not numbers" in reason for reason in missing.values())
    assert missing.keys() == every


def test_pesq_wants_an_utterance_and_judges_the_parts_that_have_one() -> None:
    pytest.importorskip("pesq")
    stub, pause = np.zeros(2 * RATE, np.float32), np.zeros(20 * RATE, np.float32)
    stub[:450] = noise(450)
    figures, missing = measure(CLIP, stub, stub, RATE, [BY_NAME["pesq_wb"]])
    assert not figures and "no utterance" in missing["pesq_wb"]
    said, heard = speech(), with_noise(speech(), 15)
    alone = figure("pesq_wb", said, heard)
    assert figure("pesq_wb", np.append(said, pause), np.append(heard, pause)) == pytest.approx(alone, abs=0.3)
    assert figure("pesq_wb", np.r_[said, pause, pause], np.r_[heard, pause, pause]) < 4


def test_pesq_outlives_a_clip_of_more_utterances_than_its_tables_hold() -> None:
    burst = np.concatenate([noise(6000), np.zeros(8000, np.float32)])
    bursts = np.tile(burst, 70)  # 61 s; in one piece this ends the process
    assert figure("pesq_wb", bursts, bursts, 16000) == pytest.approx(BEST["pesq_wb"], abs=0.01)


def test_a_missing_package_is_named_and_costs_its_own_metrics_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    chosen = [BY_NAME[name] for name in ("pesq_wb", "si_sdr")]
    left, lines = available(chosen)
    assert [metric.name for metric in left] == ["si_sdr"]
    assert len(lines) == 1 and "PESQ" in lines[0] and "pip install" in lines[0]
    figures, missing = measure(CLIP, speech(), with_noise(speech(), 20), RATE, chosen)
    assert figures.keys() == {"si_sdr"} and "pip install" in missing["pesq_wb"]


def test_a_metric_that_fails_costs_no_other_its_figure() -> None:
    def fails(_: metrics.Fetch) -> float:
        raise ZeroDivisionError("by itself")

    bad = [
        metrics.Metric("fails", "", "", True, ("speech",), False, fails),
        metrics.Metric("nan", "", "", True, ("speech",), False, lambda _: float("nan")),
    ]
    figures, missing = measure(CLIP, speech(), speech(), RATE, [*bad, BY_NAME["si_sdr"]])
    assert figures.keys() == {"si_sdr"}
    assert missing["fails"] == "ZeroDivisionError: by itself" and "finite" in missing["nan"]


def test_two_lengths_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="one length"):
        measure(CLIP, speech(), speech()[1:], RATE, METRICS)


def measurement(
    clip: str, seconds: float = 1.0, *, kbps: float | None = 6.0, **figures: float
) -> Measurement:
    return Measurement(clip, "speech", seconds, "ours", "6", kbps, None, figures)


def mean_of(values: list[float], name: str = "pesq_wb") -> Mean:
    (mean,) = means([measurement(str(n), **{name: value}) for n, value in enumerate(values)])
    return mean


def test_the_interval_holds_the_mean_and_narrows_with_the_number_of_clips() -> None:
    few, many = (mean_of(list(np.random.default_rng(0).normal(3, 1, n))) for n in (20, 500))
    assert few.low < few.mean < few.high and many.low < many.mean < many.high
    assert (many.high - many.low) < (few.high - few.low) / 3
    assert mean_of([2.0]).low == mean_of([2.0]).high == 2


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    samples = np.random.default_rng(0).normal(0, 1, (300, 40))
    held = [low <= 0 <= high for low, high in map(partial(bootstrap, seed=1), samples)]
    assert 0.9 <= np.mean(held) <= 0.98


def test_the_worst_clips_are_those_of_the_metrics_direction() -> None:
    values = [float(n) for n in range(40)]
    assert mean_of(values).worst == 0.5
    assert mean_of(values, "zimtohrli").worst == 38.5
    assert worst(np.array([1.0, 2.0]), higher_is_better=True) == 1
    assert worst(np.arange(41.0), higher_is_better=True) == 1  # 5 % of 41 are 3 whole clips


def test_rates_are_all_bits_by_all_seconds_of_what_was_coded() -> None:
    rows = [
        measurement("short", 1, kbps=10, pesq_wb=1),
        measurement("long", 9, kbps=5, stoi=1),
        measurement("failed", 90, kbps=None),
    ]
    found = {mean.metric: mean for mean in means(rows)}
    assert found.keys() == {"pesq_wb", "stoi"}
    assert all(mean.kbps == pytest.approx(5.5) and mean.n_clips == 1 for mean in found.values())


def test_a_mean_does_not_depend_on_what_else_was_measured() -> None:
    rows = [measurement(str(n), pesq_wb=value) for n, value in enumerate(noise(30).tolist())]
    others = [Measurement(str(n), "music", 1, "opus", "12", 12, None, {"stft": n}) for n in range(5)]
    together = means([*others, *rows])
    assert [mean.kind for mean in together] == ["speech", "music"]
    assert together == means(rows) + means(others)


def write_ratings(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["clip,system,mushra_mean,listeners", *rows]) + "\n")
    return path


def test_correlations_are_over_clips_and_over_systems(tmp_path: Path) -> None:
    scores = {("a", "x"): 10, ("b", "x"): 30, ("a", "y"): 50, ("b", "y"): 40, ("a", "z"): 90, ("b", "z"): 70}
    rows = [f"{clip},{system},{score},11" for (clip, system), score in scores.items()]
    table = write_ratings(tmp_path / "ratings.csv", [*rows, "a,unknown,55,11"])
    bias = {"a": 1.0, "b": -1.0}  # a clip's own, which leaves the systems' means alone
    measured = [
        Measurement(
            f"speech/{clip}",
            "speech",
            1,
            system,
            "6",
            6,
            None,
            {"stft": -score / 10, "zimtohrli": score + 20 * bias[clip], "si_sdr": 1},
        )
        for (clip, system), score in scores.items()
    ]
    by_clip, by_system = correlations(measured, table), system_correlations(measured, table)
    assert by_clip["stft"] == pytest.approx(-1) and by_system["stft"] == pytest.approx(-1)
    expected = np.corrcoef([one.metrics["zimtohrli"] for one in measured], list(scores.values()))[0, 1]
    assert by_clip["zimtohrli"] == pytest.approx(expected) and expected < 0.9
    assert by_system["zimtohrli"] == pytest.approx(1)
    assert "si_sdr" not in by_clip and "pesq_wb" not in by_clip
    assert not correlations(measured[:2], table)  # a line goes through any two points


def test_ratings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    measured = [measurement("a", stft=1)]
    with pytest.raises(CodecError, match="none of its clips"):
        correlations(measured, write_ratings(tmp_path / "other.csv", ["b,ours,50,11"]))
    with pytest.raises(CodecError, match="expected the columns"):
        correlations(measured, write_ratings(tmp_path / "words.csv", ["a,ours,good,11"]))
    with pytest.raises(CodecError, match="cannot be read"):
        correlations(measured, tmp_path / "absent.csv")


def write_clips(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, noise(100), 8000)
    return folder


def test_kinds_come_from_folders_names_and_tables(tmp_path: Path) -> None:
    folder = write_clips(
        tmp_path / "clips", "deep/Speech/a.wav", "music-b.flac", "c.wav", "sub/d.ogg", "._e.wav"
    )
    table = tmp_path / "kinds.csv"
    table.write_text("clip,kind\nc.wav,sounds\nsub/d,music\nmusic-b.flac,speech\n")
    found = {clip.name: clip.kind for clip in find_clips(folder, table)}
    assert found == {"c": "sounds", "deep/Speech/a": "speech", "music-b": "speech", "sub/d": "music"}


def test_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="not a folder"):
        find_clips(tmp_path / "absent")
    with pytest.raises(AudioError, match="no audio"):
        find_clips(tmp_path)
    with pytest.raises(AudioError, match=r"x.*speech/x.*speech-x.*CSV"):
        find_clips(write_clips(tmp_path / "kindless", "x.wav"))
    with pytest.raises(AudioError, match="suffix"):
        find_clips(write_clips(tmp_path / "twice", "speech/x.wav", "speech/x.flac"))


@pytest.mark.parametrize("row", ["x.wav,song", "y.wav,music", "x.wav"])
def test_a_table_of_kinds_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, row: str) -> None:
    table = tmp_path / "kinds.csv"
    table.write_text(f"clip,kind\n{row}\n")
    with pytest.raises(AudioError, match="line 2"):
        find_clips(write_clips(tmp_path / "clips", "x.wav"), table)


def test_a_choice_is_even_and_the_same_every_time() -> None:
    clips = [Clip(f"{kind}/{n:02}", kind, Path()) for kind in ("music", "speech") for n in range(21)]
    chosen = choose(clips, 5)
    assert [clip.name for clip in chosen if clip.kind == "music"] == [
        f"music/{n:02}" for n in (0, 5, 10, 15, 20)
    ]
    assert [clip.kind for clip in chosen] == ["speech"] * 5 + ["music"] * 5
    assert choose(clips, 5) == chosen and len(choose(clips, 99)) == 42
    with pytest.raises(ValueError, match="at least 1"):
        choose(clips, 0)


def test_a_clip_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    stereo = np.stack([noise(300000, 1), noise(300000, 2)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44100, subtype="FLOAT")
    audio, rate = load(Clip("a", "speech", tmp_path / "a.wav"))
    assert rate == 44100 and audio.dtype == np.float32
    np.testing.assert_allclose(audio, stereo.mean(axis=1), atol=1e-7)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 44100)
    with pytest.raises(AudioError, match="no samples"):
        load(Clip("empty", "speech", tmp_path / "empty.wav"))
