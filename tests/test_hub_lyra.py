"""Lyra V2 in `.rq`, on stand-ins for its networks; and on the real ones, where LYRA_NETWORKS names their folder."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiocodec import decode_file, encode_file, info
from audiocodec.codec import Codec, load
from audiocodec.errors import ModelError
from audiocodec.hub import lyra
from audiocodec.stream import Floats
from audiocodec.tools import drop_file

REAL = os.environ.get("LYRA_NETWORKS")
WEIGHTS = np.random.default_rng(1).standard_normal((64, 320)).astype(np.float32) / 18


class StandIn:
    """Behaves as LiteRT's interpreter of Lyra's networks does: encoder and decoder remember, the quantizer does not.

    Its quantizer is residual: level n says in 16 steps what the levels before left of feature n.
    """

    def __init__(self, path: str, num_threads: int) -> None:
        self.name, self.memory = Path(path).stem, np.zeros((1, 64), np.float32)

    def allocate_tensors(self) -> None: ...

    def get_input_details(self) -> list[dict[str, int]]:
        return [{"index": 0}]

    get_output_details = get_input_details

    def set_tensor(self, index: int, block: Floats) -> None:
        self.input = block

    def invoke(self) -> None:
        features = self.input @ WEIGHTS.T if self.name == lyra.ENCODER else self.input.reshape(1, 64)
        self.memory = features + 0.3 * self.memory

    def get_tensor(self, index: int) -> Floats:
        return self.memory.reshape(1, 1, 64) if self.name == lyra.ENCODER else self.memory @ WEIGHTS

    def get_signature_runner(self, name: str) -> Any:
        return {"encode": self._encode, "decode": self._decode}[name]

    def _encode(self, input_frames: Floats, num_quantizers: np.int32) -> dict[str, Any]:
        codes = np.clip(np.round(input_frames.ravel()[: lyra.N_LEVELS] * 4 + 8), 0, 15).astype(np.int32)
        codes[num_quantizers:] = -1
        return {"output_0": codes.reshape(lyra.N_LEVELS, 1, 1)}

    def _decode(self, encoding_indices: Any) -> dict[str, Any]:
        codes = encoding_indices.ravel()
        features = np.zeros((1, 1, 64), np.float32)
        features[0, 0, : lyra.N_LEVELS] = np.where(codes < 0, 0, (codes - 8) / 4)
        return {"output_0": features}


@pytest.fixture
def codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Codec:
    for name in (lyra.ENCODER, lyra.QUANTIZER, lyra.DECODER):
        (tmp_path / f"{name}.tflite").write_bytes(name.encode())
    monkeypatch.setattr(lyra, "need", lambda _: type("module", (), {"Interpreter": StandIn}))
    return load(tmp_path)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    audio = 0.1 * np.random.default_rng(0).standard_normal((16000 * 5 + 77, 2))
    soundfile.write(tmp_path / "in.wav", audio, 16000, subtype="FLOAT")
    return tmp_path / "in.wav"


def test_the_rates_are_lyras(codec: Codec) -> None:
    assert [codec.levels_for(kbps) for kbps in (3.2, 6, 9.2)] == [16, 30, 46]
    assert codec.space.model == "lyra-v2" and codec.causal


def test_files_are_what_the_networks_say_frame_by_frame(
    codec: Codec, recording: Path, tmp_path: Path
) -> None:
    """Both lanes have networks of their own."""
    encode_file(recording, tmp_path / "out.rq", n_q=16, model=codec)
    decoded, _ = decode_file(tmp_path / "out.rq", model=tmp_path)
    audio, _ = soundfile.read(recording, dtype="float32")
    assert decoded.shape == audio.shape
    middle, side = ((audio[:, 0] + audio[:, 1]) / 2, (audio[:, 0] - audio[:, 1]) / 2)
    expected = [frame_by_frame(StandIn, Path(), lane, 16) for lane in (middle, side)]
    lanes = np.stack([expected[0] + expected[1], expected[0] - expected[1]], axis=1)
    np.testing.assert_allclose(decoded, lanes[: len(decoded)], atol=1e-5)


def frame_by_frame(interpreter: Any, folder: Path, audio: Floats, n_q: int) -> Floats:
    """audio [T] through new networks -> audio [T']."""
    networks = [
        interpreter(str(folder / f"{name}.tflite"), num_threads=1)
        for name in (lyra.ENCODER, lyra.QUANTIZER, lyra.DECODER)
    ]
    encoder, quantizer, decoder = networks
    encoder.allocate_tensors()
    decoder.allocate_tensors()
    encode, decode = (quantizer.get_signature_runner(name) for name in ("encode", "decode"))
    frames = np.pad(audio, (0, -len(audio) % 320)).reshape(-1, 1, 320).astype(np.float32)
    decoded = []
    for frame in frames:
        codes = encode(input_frames=run_one(encoder, frame), num_quantizers=np.int32(n_q))["output_0"]
        decoded.append(run_one(decoder, decode(encoding_indices=codes)["output_0"]).ravel())
    return np.concatenate(decoded)


def run_one(network: Any, block: Floats) -> Floats:
    network.set_tensor(network.get_input_details()[0]["index"], block)
    network.invoke()
    output: Floats = network.get_tensor(network.get_output_details()[0]["index"]).copy()
    return output


def test_dropping_levels_equals_encoding_at_fewer(codec: Codec, recording: Path, tmp_path: Path) -> None:
    encode_file(recording, tmp_path / "all.rq", n_q=46, model=codec)
    encode_file(recording, tmp_path / "few.rq", n_q=30, model=codec)
    drop_file(tmp_path / "all.rq", tmp_path / "dropped.rq", 30)
    assert (tmp_path / "dropped.rq").read_bytes() == (tmp_path / "few.rq").read_bytes()


def test_a_folder_that_lacks_a_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "quantizer.tflite").touch()
    with pytest.raises(ModelError, match=r"lacks soundstream_encoder\.tflite, lyragan\.tflite"):
        load(f"lyra:{tmp_path}")


@pytest.mark.skipif(REAL is None, reason="LYRA_NETWORKS names no folder of Lyra's networks")
def test_the_real_networks_say_the_same_through_files(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    assert REAL is not None
    speech, rate = soundfile.read(Path(__file__).parent.parent / "samples" / "speech-english.flac")
    soundfile.write(
        tmp_path / "in.wav", speech[: 3 * rate], 16000, subtype="FLOAT"
    )  # its speed does not matter
    encode_file(tmp_path / "in.wav", tmp_path / "out.rq", n_q=30, model=f"lyra:{REAL}")
    assert info(tmp_path / "out.rq").codes_kbps == 6
    decoded, _ = decode_file(tmp_path / "out.rq", model=REAL)
    audio, _ = soundfile.read(tmp_path / "in.wav", dtype="float32")
    expected = frame_by_frame(Interpreter, Path(REAL), audio, 30)
    assert np.array_equal(decoded[:, 0], expected[: len(decoded)])
    part, _ = decode_file(tmp_path / "out.rq", model=REAL, start_seconds=2)
    assert np.array_equal(part[:, 0], decoded[32000:, 0])  # LyraGAN forgets wholly within its receptive field
