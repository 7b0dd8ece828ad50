"""Competitors of the benchmark: bytes are counted, lengths kept, delays taken out, the missing are named."""

import ctypes.util
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocodec import decode_file, encode_file
from audiocodec.bench.competitors import BY_NAME, build, decoded, lyra, ours, pyav, speech, tools
from audiocodec.bench.competitors.alignment import coding_rate, fit, lag
from audiocodec.bench.results import Clip, Competitor, Floats, Unavailable
from audiocodec.codec import Codec
from audiocodec.errors import CodecError, ModelError
from audiocodec.hub.lyra import NETWORKS
from audiocodec.variable import RATE_TOLERANCE

SPEECH = Path(__file__).parent.parent / "samples" / "speech-english.flac"
CLIP = Clip("speech-english", "speech", SPEECH)
SOURCES = {**BY_NAME, "opus by opus-tools": tools.opus}
# Vorbis and AAC only aim at a rate; Opus at 24 kHz goes below it in speech.
NOMINAL_WITHIN = {"vorbis": 0.2, "aac": 0.35, "opus": 0.2, "opus by opus-tools": 0.25}
KEEPS_NO_WAVEFORM = {"codec2": ("0.7", "1.3", "1.4", "2.4", "3.2"), "speex": ("4",)}
MAX_LAG_SECONDS = 0.0003  # the smallest delay that is taken out, AMR-WB's, is 6 ms; resamplers bend phases
NO_PACKAGE = importlib.metadata.PackageNotFoundError


@pytest.fixture(scope="module")
def recording() -> Floats:
    audio, sample_rate = soundfile.read(SPEECH, dtype="float32")
    assert sample_rate == 24000
    return np.asarray(audio, np.float32)


@pytest.fixture(params=SOURCES, scope="module")
def competitor(request: pytest.FixtureRequest) -> Competitor:
    try:
        return SOURCES[request.param]()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def tiny(tiny_codec: Codec) -> ours.Ours:
    return ours.Ours("tiny", tiny_codec)


def test_bits_are_counted_and_delays_are_taken_out(
    competitor: Competitor, recording: Floats, request: pytest.FixtureRequest
) -> None:
    codec = request.node.callspec.params["competitor"]
    rates = []
    for setting in competitor.settings:
        coded = competitor.code(CLIP, recording, 24000, setting)
        assert coded.audio.shape == recording.shape and coded.audio.dtype == np.float32
        assert coded.file_bits is not None and coded.file_bits >= coded.payload_bits
        taken = coded.encode_cpu_seconds, coded.decode_cpu_seconds
        assert min(seconds or 0 for seconds in taken) > 0
        rates.append(coded.payload_bits / 1000 / (len(recording) / 24000))
        assert rates[-1] == pytest.approx(float(setting), rel=NOMINAL_WITHIN.get(codec, 0.03))
        if setting not in KEEPS_NO_WAVEFORM.get(codec, ()):
            assert abs(lag(recording, coded.audio, 24000)) <= MAX_LAG_SECONDS * 24000
    assert rates == sorted(rates)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 44100])
def test_any_rate_and_odd_lengths_come_back_as_they_were(
    competitor: Competitor, recording: Floats, sample_rate: int
) -> None:
    audio = soxr.resample(recording, 24000, sample_rate)[: sample_rate + 1317]
    coded = competitor.code(CLIP, audio, sample_rate, competitor.settings[-1])
    assert coded.audio.shape == audio.shape and coded.audio.dtype == np.float32
    if competitor.name != "codec2":
        assert abs(lag(audio, coded.audio, sample_rate)) <= max(1, MAX_LAG_SECONDS * sample_rate)
        assert np.corrcoef(audio, coded.audio)[0, 1] > 0.5


@pytest.mark.parametrize("length", [0, 1, 100])
def test_a_clip_shorter_than_a_frame_comes_back_or_is_refused(competitor: Competitor, length: int) -> None:
    audio = np.full(length, 0.1, np.float32)
    try:
        coded = competitor.code(CLIP, audio, 24000, competitor.settings[0])
    except CodecError as error:
        assert CLIP.name in str(error)
    else:
        assert length and coded.audio.shape == (length,)


@pytest.mark.parametrize("setting", ["6", "8", "12"])
def test_opus_is_in_time_to_the_sample(recording: Floats, setting: str) -> None:
    pytest.importorskip("av", reason="PyAV: pip install 'audiocodec[bench]'")
    coded = pyav.opus().code(CLIP, recording, 24000, setting)
    pair = (soxr.resample(audio, 24000, 96000) for audio in (recording, coded.audio))
    assert abs(lag(*pair, 96000)) <= 2  # without OPUS_LAG it is 3 or 4


def test_codec2_is_in_time_by_its_envelope(recording: Floats) -> None:
    pytest.importorskip("pycodec2", reason="codec2: pip install 'audiocodec[bench]'")
    for setting in speech.CODEC2_MODES:
        coded = speech.codec2().code(CLIP, recording, 24000, setting)
        window = np.hanning(480)
        envelopes = [np.convolve(np.abs(x), window, "same") for x in (recording, coded.audio)]
        original, copy = (np.asarray(x - x.mean(), np.float32) for x in envelopes)
        assert abs(lag(original, copy, 24000)) < 0.01 * 24000


def test_ours_gives_what_files_give(tiny: ours.Ours, tiny_codec: Codec, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for sample_rate, length in ((24000, 50001), (44100, 12345), (24000, 50001)):
        audio = (0.1 * rng.standard_normal(length)).astype(np.float32)
        soundfile.write(tmp_path / "in.wav", audio, sample_rate, subtype="FLOAT")
        for n_q, setting in enumerate(tiny.settings, 1):
            written = encode_file(
                tmp_path / "in.wav", tmp_path / "out.rq", n_q=n_q, model=tiny_codec, overwrite=True
            )
            expected, _ = decode_file(tmp_path / "out.rq", model=tiny_codec)
            coded = tiny.code(CLIP, audio, sample_rate, setting)
            assert np.array_equal(coded.audio, expected[:, 0])
            assert coded.file_bits == 8 * written.file_bytes > coded.payload_bits
            codes_bits = written.codes_kbps * 1000 * written.n_frames / 75
            assert codes_bits <= coded.payload_bits <= codes_bits + 8 * n_q * written.n_groups


def test_ours_has_level_counts_by_their_rates(tiny: ours.Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tiny.settings == ("0.45", "0.9", "1.35", "1.8")
    monkeypatch.setattr(ours, "LEVELS", (1, 2, 8))
    few = ours.Ours("few", tiny._codec)
    assert few.settings == ("0.45", "0.9", "1.8")
    audio = np.zeros(9600, np.float32)
    for setting in few.settings:
        assert np.array_equal(
            few.code(CLIP, audio, 24000, setting).audio, tiny.code(CLIP, audio, 24000, setting).audio
        )


def test_variable_bitrate_has_the_rate_that_its_setting_names(tiny_codec: Codec) -> None:
    variable = ours.OursVariable("ours-vbr", tiny_codec)
    assert variable.settings == ("1.5",)
    rng = np.random.default_rng(0)
    first, other = ((0.1 * rng.standard_normal(n)).astype(np.float32) for n in (100001, 80000))
    coded = [variable.code(CLIP, audio, 24000, "1") for audio in (first, other, first)]
    assert coded[0].payload_bits == pytest.approx(1000 * len(first) / 24000, rel=RATE_TOLERANCE)
    assert len(coded[0].audio) == len(first) and len(coded[1].audio) == len(other)
    assert np.array_equal(coded[0].audio, coded[2].audio)
    half = variable.code(CLIP, first, 24000, "0.5")
    assert half.payload_bits < 0.6 * coded[0].payload_bits


def test_variable_bitrate_takes_part_by_name(tiny_model_dir: Path) -> None:
    competitors, missing = build(["vbr", f"vbr:{tiny_model_dir}"], str(tiny_model_dir))
    assert [c.name for c in competitors[:2]] == ["ours", "ours-vbr"] and not missing
    assert competitors[2].name.endswith("models0-tiny-vbr")
    assert [type(c) for c in competitors[1:]] == [ours.OursVariable] * 2


def test_the_default_model_is_first_and_others_take_part(tiny_model_dir: Path) -> None:
    competitors, missing = build([f"ours:{tiny_model_dir}"])
    assert [type(c) for c in competitors] == [ours.Ours] * 2 and not missing
    assert competitors[0].name == "ours" and competitors[1].name.endswith("models0-tiny")
    assert "/" not in competitors[1].name
    with pytest.raises(ModelError, match="no such model"):
        build(["ours:nowhere"])


def test_decoded_files_that_come_late_are_brought_forward(tmp_path: Path) -> None:
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 8000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", np.pad(audio, (40, 0))[:8000], 8000, subtype="FLOAT")
    clip = Clip("a", "speech", tmp_path / "a.wav")
    coded = decoded.build(f"{tmp_path}@6@5").code(clip, audio, 8000, "6")
    assert np.array_equal(coded.audio[:7960], audio[:7960]) and not coded.audio[7960:].any()


@pytest.mark.parametrize("name", ["opsu", "ours", "ours:", "vbr:", "lyra", "decoded:", "opus:6", ""])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(CodecError, match=r"known are vbr, opus, lc3, .*lyra:DIR, decoded:DIR@KBPS"):
        build([name])


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(10), 8000)
    with pytest.raises(CodecError, match=f"{tmp_path.name}: named twice"):
        build([f"decoded:{tmp_path}@6", f"decoded:{tmp_path}@3"])


def test_what_is_not_installed_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_package(name: str) -> str:
        raise NO_PACKAGE(name)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("audiocodec.bench.competitors.foreign.version", no_package)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    for network in NETWORKS:
        (tmp_path / f"{network}.tflite").touch()
    competitors, missing = build([*BY_NAME, f"lyra:{tmp_path}"])
    assert [c.name for c in competitors] == ["ours"]
    packages = {
        "opus": "audiocodec[bench]' or: opus: opusenc and opusdec not found: apt install opus-tools",
        "lc3": "apt install liblc3-tools",
        "codec2": "pycodec2 is not installed: pip install 'audiocodec[bench]'",
        "mp3": "pip install 'audiocodec[bench]'",
        "vorbis": "apt install vorbis-tools",
        "aac": "pip install 'audiocodec[bench]'",
        "speex": "apt install speex",
        "amrwb": "apt install libvo-amrwbenc0",
        "lyra": "ai-edge-litert is not installed: pip install 'audiocodec[bench]'",
    }
    assert len(missing) == len(packages)
    for line, (codec, advice) in zip(missing, packages.items(), strict=True):
        assert line.startswith(f"{codec}: ") and advice in line.replace("; or", " or")


def test_opus_tools_stand_in_for_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("opusenc") is None:
        pytest.skip("opusenc is missing: apt install opus-tools")

    def no_package(name: str) -> str:
        raise NO_PACKAGE(name)

    monkeypatch.setattr("audiocodec.bench.competitors.foreign.version", no_package)
    competitors, missing = build(["opus"])
    assert "opus-tools" in competitors[1].about and not missing


def test_a_pyav_without_a_codec_is_as_good_as_none() -> None:
    pytest.importorskip("av", reason="PyAV: pip install 'audiocodec[bench]'")
    with pytest.raises(Unavailable, match="this PyAV has no libnothing"):
        pyav.require("nothing", "libnothing")


def test_a_command_that_fails_is_a_codec_error_with_its_last_words(tmp_path: Path) -> None:
    script = "import sys; print('first', file=sys.stderr); sys.exit('no such rate')"
    with pytest.raises(CodecError, match="ended with 1: no such rate"):
        tools.run([sys.executable, "-c", script], tmp_path)


def test_decoded_files_are_found_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "other_6"
    (folder / "speech").mkdir(parents=True)
    sine = np.sin(np.arange(8000) / 10).astype(np.float32) / 2
    soundfile.write(folder / "speech" / "a.flac", np.stack([sine, np.zeros_like(sine)], 1), 16000)
    soundfile.write(folder / "b.wav", sine, 16000, subtype="FLOAT")
    (folder / "notes.txt").touch()
    codec = decoded.build(f"{folder}@5.5")
    assert (codec.name, codec.settings) == ("other_6", ("5.5",))
    original = np.zeros(8100, np.float32)
    in_folder = codec.code(Clip("speech/a", "speech", SPEECH), original, 16000, "5.5")
    by_last_part = codec.code(Clip("music/b", "music", SPEECH), original, 16000, "5.5")
    np.testing.assert_allclose(in_folder.audio[:8000], sine / 2, atol=1e-4)
    np.testing.assert_array_equal(by_last_part.audio, np.pad(sine, (0, 100)))
    assert by_last_part.payload_bits == pytest.approx(5500 * 8100 / 16000)
    assert by_last_part.file_bits is by_last_part.encode_cpu_seconds is None
    resampled = codec.code(Clip("b", "speech", SPEECH), np.zeros(12000, np.float32), 24000, "5.5")
    np.testing.assert_allclose(resampled.audio[500:-500], soxr.resample(sine, 16000, 24000)[500:-500])
    with pytest.raises(CodecError, match="no file named c"):
        codec.code(Clip("c", "speech", SPEECH), original, 16000, "5.5")
    (folder / "b.wav").write_bytes(b"nothing")
    with pytest.raises(CodecError, match=r"b\.wav: cannot be read"):
        codec.code(Clip("b", "speech", SPEECH), original, 16000, "5.5")


@pytest.mark.parametrize("argument", ["{}", "{}@", "{}@fast", "{}@-1", "{}@nan", "@6", "{}/none@6", "{}@6"])
def test_decoded_wants_a_folder_with_audio_and_a_rate(argument: str, tmp_path: Path) -> None:
    with pytest.raises(CodecError, match=r"expected decoded:DIR@KBPS|no audio files"):
        build([f"decoded:{argument.format(tmp_path)}"])


@given(level_count=st.sampled_from(list(lyra.LEVELS.values())), data=st.data())
@settings(max_examples=30, deadline=None)
def test_lyra_packets_hold_their_codes(level_count: int, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.integers(0, 15), min_size=level_count, max_size=level_count))
    packet = lyra.pack(np.array(drawn, np.int32))
    assert len(packet) == level_count / 2
    assert lyra.unpack(packet).tolist() == drawn + [-1] * (lyra.N_LEVELS - level_count)


def test_lyra_names_the_networks_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "quantizer.tflite").touch()
    with pytest.raises(CodecError, match=r"lacks soundstream_encoder\.tflite, lyragan\.tflite"):
        build([f"lyra:{tmp_path}"])


def test_a_network_that_cannot_be_read_is_a_codec_error(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="lyra: pip install 'audiocodec[bench]'")
    for network in NETWORKS:
        (tmp_path / f"{network}.tflite").write_bytes(b"nothing")
    with pytest.raises(CodecError, match=r"lyra at 3\.2 kbps failed on speech-english"):
        lyra.build(str(tmp_path)).code(CLIP, np.zeros(1000, np.float32), 16000, "3.2")


@given(shift=st.integers(-1600, 1600), length=st.integers(6000, 9000), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_lag_and_fit_undo_each_other(shift: int, length: int, seed: int) -> None:
    audio = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    late = fit(audio, -shift, length + 100)
    assert late.shape == (length + 100,) and lag(audio, late, 16000) == shift
    back = fit(late, shift, length)
    inside = slice(max(0, -shift), length - max(0, shift))
    np.testing.assert_array_equal(back[inside], audio[inside])


def test_silence_has_no_lag() -> None:
    assert lag(np.zeros(1000, np.float32), np.zeros(10, np.float32), 16000) == 0


def test_a_codec_gets_no_lower_rate_than_the_clip_if_it_has_one() -> None:
    assert [coding_rate(r, (8000, 24000)) for r in (8000, 8001, 24000, 96000)] == [8000, 24000, 24000, 24000]


def test_ogg_packets_are_counted_as_ffmpeg_counts_them(recording: Floats) -> None:
    pytest.importorskip("av", reason="PyAV: pip install 'audiocodec[bench]'")
    file = pyav._encode(recording, 24000, 24000, "libopus", "ogg")
    _, _, packets = pyav.decode(file, "libopus")
    assert tools.ogg_payload_bytes(file, 2) == sum(map(len, packets))


def test_lc3_frames_are_counted_without_their_sizes() -> None:
    header = b"\x1c\xcc\x12\x00" + bytes(14)
    assert tools.lc3_payload_bytes(header + b"\x03\x00abc" + b"\x02\x00de") == 5


def test_importing_the_competitors_loads_none_of_their_libraries() -> None:
    script = "import sys, audiocodec.bench.competitors; print({'torch', 'av', 'pycodec2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
