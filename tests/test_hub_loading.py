"""Other codecs' models by name: where they come from, what is refused, and that files never download."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from cli_cases import run, write_audio
from hub_models import FAMILIES, SNAC

from audiocodec import decode_file, encode_file, info
from audiocodec.codec import load
from audiocodec.errors import ModelError

huggingface_hub = pytest.importorskip("huggingface_hub", reason="pip install 'audiocodec[hub]'")
pytest.importorskip("transformers", reason="pip install 'audiocodec[hub]'")
pytest.importorskip("snac", reason="pip install 'audiocodec[hub]'")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "hf:demo/encodec"


@pytest.fixture(scope="module")
def encodec_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loading") / "encodec"
    FAMILIES["encodec"].save(FAMILIES["encodec"].make(), folder)
    return folder


@pytest.fixture(scope="module")
def snac_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as SNAC's makers publish it: a configuration and a pickle."""
    folder = tmp_path_factory.mktemp("pickled")
    model = FAMILIES["snac"].make()
    (folder / "config.json").write_text(json.dumps(model.config))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


class Network:
    """A hub that counts what is asked of it, and knows one repository."""

    def __init__(self, files: Path | None, cache: Path) -> None:
        self.files, self.cache, self.calls = files, cache, 0

    def model_info(self, repository: str, **_: object) -> Any:
        self.calls += 1
        if self.files is None:
            raise ConnectionError("Name or service not known\nand much more")
        names = [path.name for path in self.files.iterdir()]
        siblings = [type("Sibling", (), {"rfilename": name}) for name in names]
        return type("Listing", (), {"siblings": siblings})

    def snapshot_download(self, repository: str, *, local_files_only: bool = False, **_: object) -> str:
        folder = self.cache / repository / COMMIT
        if not local_files_only:
            self.calls += 1
            assert self.files is not None
            shutil.copytree(self.files, folder)
        elif not folder.exists():
            raise huggingface_hub.errors.LocalEntryNotFoundError("nothing here")
        return str(folder)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encodec_dir: Path) -> Network:
    stand_in = Network(encodec_dir, tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in.snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", stand_in.model_info)
    return stand_in


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_audio(tmp_path / "in.wav")


def test_a_model_of_the_hub_is_fetched_once_and_its_revision_is_in_the_file(
    network: Network, recording: Path, tmp_path: Path
) -> None:
    encode_file(recording, tmp_path / "out.rq", model=NAME)
    assert network.calls == 2  # the listing and the files
    assert info(tmp_path / "out.rq").model == f"{NAME}@{COMMIT}"
    encode_file(recording, tmp_path / "again.rq", model=NAME)
    decoded, _ = decode_file(tmp_path / "again.rq")  # the file says which model
    assert network.calls == 2
    assert len(decoded) == soundfile.info(recording).frames
    assert (tmp_path / "again.rq").read_bytes() == (tmp_path / "out.rq").read_bytes()


def test_a_file_never_downloads_and_names_the_command_that_does(
    network: Network, recording: Path, tmp_path: Path
) -> None:
    encode_file(recording, tmp_path / "out.rq", model=NAME)
    shutil.rmtree(network.cache)
    calls = network.calls
    result = run("decode", tmp_path / "out.rq", tmp_path / "out.wav")
    assert result.code == 1 and network.calls == calls and not (tmp_path / "out.wav").exists()
    (line,) = result.lines
    command = f"codec models fetch {NAME}@{COMMIT}"
    assert line.endswith(command)
    assert run(*command.split()[1:]).code == 0
    assert run("decode", tmp_path / "out.rq", tmp_path / "out.wav").code == 0


def test_a_folder_of_the_same_model_decodes_its_files(
    network: Network, recording: Path, tmp_path: Path, encodec_dir: Path
) -> None:
    encode_file(recording, tmp_path / "out.rq", model=NAME)
    decode_file(tmp_path / "out.rq", model=encodec_dir)
    encode_file(recording, tmp_path / "local.rq", model=encodec_dir)
    assert info(tmp_path / "local.rq").model == "encodec-24khz"
    with pytest.raises(ModelError, match=r"needs model 'encodec-24khz'.*give its folder with -m"):
        decode_file(tmp_path / "local.rq")


def test_a_model_of_the_hub_takes_part_in_a_benchmark(network: Network, recording: Path) -> None:
    from audiocodec.bench.competitors import build_one
    from audiocodec.bench.results import Clip

    competitor = build_one(NAME)
    assert list(competitor.settings) == ["0.75", "1.5", "2.25", "3"]
    audio, rate = soundfile.read(recording, dtype="float32")
    coded = competitor.code(Clip("in", "speech", recording), audio, rate, "1.5")
    assert coded.audio.shape == audio.shape and coded.payload_bits == pytest.approx(1500 * 3, rel=0.01)


def test_no_network_is_one_line(network: Network, recording: Path, tmp_path: Path) -> None:
    network.files = None
    result = run("encode", recording, tmp_path / "out.rq", "-m", NAME)
    assert result.code == 1 and not (tmp_path / "out.rq").exists()
    (line,) = result.lines
    assert "cannot reach the hub (Name or service not known)" in line and "folder" in line


@pytest.mark.parametrize("name", ["hf:", "hf:encodec", "hf:a/b/c", "hf:a/b@", "hf:../x@../y z"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="expected hf:OWNER/NAME"):
        load(name)


def test_an_unknown_repository_is_refused(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        error = huggingface_hub.errors.RepositoryNotFoundError
        raise error.__new__(error)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unknown)
    with pytest.raises(ModelError, match="knows no such repository"):
        load(NAME)


def test_a_repository_with_only_pickles_is_refused(network: Network, snac_checkpoint: Path) -> None:
    network.files = snac_checkpoint.parent
    with pytest.raises(
        ModelError, match=r"pickled only \(pytorch_model\.bin\).*models import --trust-pickle"
    ):
        load("hf:demo/snac")
    assert not network.cache.exists()


def test_a_folder_with_only_pickles_is_refused_with_the_command(
    snac_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="can run any code") as refused:
        load(snac_checkpoint.parent)
    command = str(refused.value).partition("trust them: codec ")[2]
    result = run(*command.replace("DIR", str(tmp_path / "snac")).split())
    assert result.code == 0 and "snac-24khz" in result.lines[0]
    assert load(tmp_path / "snac").space.frames_per_code == tuple(SNAC["vq_strides"])
    audio = np.random.default_rng(0).standard_normal(24000).astype(np.float32)
    codes = load(tmp_path / "snac").encode(audio, 24000)
    expected = FAMILIES["snac"].encode(FAMILIES["snac"].make(), torch.from_numpy(audio)[None, None])
    assert [level.shape[1] for level in codes.levels] == [len(level) for level in expected]


def test_an_import_needs_trust_and_a_new_folder(snac_checkpoint: Path, tmp_path: Path) -> None:
    result = run("models", "import", snac_checkpoint, tmp_path / "new")
    assert result.code == 2 and "--trust-pickle" in result.lines[0]
    result = run("models", "import", "--trust-pickle", snac_checkpoint, tmp_path)
    assert result.code == 1 and "exists" in result.lines[0]
    assert not (tmp_path / "new").exists()


class Hostile:
    """Unpickled carelessly, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_an_import_runs_no_code_and_leaves_nothing_behind(snac_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    shutil.copy(snac_checkpoint.parent / "config.json", folder)
    torch.save({"weight": Hostile(tmp_path / "harm")}, folder / "hostile.bin")
    torch.save({"weight": torch.zeros(3)}, folder / "other.bin")
    torch.save([1, 2], folder / "list.bin")
    for file in ("hostile.bin", "other.bin", "list.bin", "missing.bin"):
        result = run("models", "import", "--trust-pickle", folder / file, tmp_path / "new")
        assert result.code == 1 and len(result.lines) == 1, result.lines
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "wav2vec2"}, "type 'wav2vec2' is no residual codec.*EnCodec, DAC, Mimi, SNAC"),
        ({"architectures": ["X"]}, "type None is no residual codec"),
        ({"model_type": "encodec"}, r"there is no model\.safetensors"),
    ],
)
def test_a_folder_of_something_else_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("family", ["encodec", "dac", "mimi", "snac"])
def test_weights_that_do_not_fit_are_refused(family: str, tmp_path: Path, encodec_dir: Path) -> None:
    FAMILIES[family].save(FAMILIES[family].make(), tmp_path / "model")
    other = FAMILIES["dac"].make() if family == "encodec" else FAMILIES["encodec"].make()
    other.save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "model")
    with pytest.raises(ModelError, match=r"does not fit|cannot read"):
        load(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="cannot read"):
        load(tmp_path / "model")


def test_a_model_that_normalises_or_looks_ahead_is_no_24_khz_encodec(
    encodec_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(encodec_dir, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"use_causal_conv": False}))
    with pytest.raises(ModelError, match="not a causal mono model"):
        load(tmp_path / "model")


def test_a_shipped_name_is_not_looked_for_in_the_folder_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encodec_dir: Path
) -> None:
    from audiocodec.model.catalogue import DEFAULT_MODEL

    shutil.copytree(encodec_dir, tmp_path / DEFAULT_MODEL)
    monkeypatch.chdir(tmp_path)
    assert load().space.model == DEFAULT_MODEL


def test_a_missing_package_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, encodec_dir: Path
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ModelError, match=r"transformers, which is not installed: pip install 'audiocodec\[hub\]'"
    ):
        load(encodec_dir)


@pytest.mark.parametrize("words", [["fetch"], ["import", "a"], ["export"], ["fetch", "hf:a/b", "--json"]])
def test_other_words_after_models_are_refused(words: list[str]) -> None:
    result = run("models", *words)
    assert result.code == 2 and "expected: codec models" in result.lines[0]
