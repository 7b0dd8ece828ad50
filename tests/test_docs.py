"""The documents are true: their Python runs, their links lead somewhere, and the options they name exist."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audiocodec.cli.app import command
from audiocodec.model import catalogue, store
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import ModelConfig, SpectralConfig

ROOT = Path(__file__).parent.parent
HIDDEN = {".venv", ".git", ".pytest_cache", "runs", "build", "dist"}
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not HIDDEN & set(path.relative_to(ROOT).parts))
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.fixture
def a_folder_to_try_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with in.wav, and a tiny model under the default one's name and with its level count."""
    torch.manual_seed(0)
    config = ModelConfig(
        name=catalogue.DEFAULT_MODEL, latent_dim=8, spectral=SpectralConfig(dim=16, n_blocks=1)
    )
    store.save_model(CodecModel(config), tmp_path / "models" / config.name, config.name)
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path / "models")
    noise = np.random.default_rng(0).standard_normal((44100, 2))
    soundfile.write(tmp_path / "in.wav", 0.1 * noise, 44100)
    monkeypatch.chdir(tmp_path)


def blocks(document: Path, language: str) -> list[str]:
    """Code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def prose(document: Path) -> str:
    """The text without its code blocks."""
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "docs/API.md"])
@pytest.mark.usefixtures("a_folder_to_try_in")
def test_the_python_in_the_documents_runs(name: str) -> None:
    source = "\n".join(blocks(ROOT / name, "python"))
    assert source
    exec(compile(source, name, "exec"), {})


def test_every_python_block_is_in_a_document_that_is_run() -> None:
    with_python = {str(path.relative_to(ROOT)) for path in DOCUMENTS if blocks(path, "python")}
    assert with_python == {"README.md", "docs/API.md"}


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    links = [target for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)) if "://" not in target]
    missing = [
        link for link in links if not (document.parent / link.partition("#")[0]).exists() and link[0] != "#"
    ]
    assert not missing


def command_lines(document: Path) -> list[str]:
    """Calls of the command in code blocks and between backticks."""
    text = "\n".join(blocks(document, "sh")).replace("\\\n", " ")
    text += "\n" + "\n".join(re.findall(r"`([^`\n]+)`", prose(document)))
    calls = re.findall(r"(?:^|[\s'/])(?:codec|-m audiocodec) ([a-z]+\b[^|&#'\n]*)", text, re.MULTILINE)
    return [call.strip() for call in calls]


def options(verb: Any) -> set[str]:
    """Every spelling of the verb's options."""
    return {name for parameter in verb.params for name in (*parameter.opts, *parameter.secondary_opts)}


@every_document
def test_verbs_and_options_exist(document: Path) -> None:
    verbs = command().commands
    for line in command_lines(document):
        name, *words = line.split()
        assert name in verbs, line
        known = options(verbs[name]) | {"-h", "--help", "--debug"}
        named = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert named <= known, f"{line}: no option {named - known}"


def test_the_readme_starts_with_commands_that_are_understood() -> None:
    first, *_ = command_lines(ROOT / "README.md")
    assert first.startswith("encode")
    assert (ROOT / first.split()[-2]).is_file()


def test_the_tests_that_are_named_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "ARCHITECTURE.md").read_text()))
    there = {
        name
        for path in ROOT.glob("tests/test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert named
    assert named <= there, named - there


def test_ci_runs_the_test_command_of_the_readme() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    found = [line for line in lines if "-m pytest" in line]
    assert len(found) == 1
    assert found[0].startswith("python3 -m venv .venv && ")
    script = (ROOT / ".ci" / "run").read_text()
    assert "grep -m 1 -- '-m pytest' README.md" in script
    for check in ("ruff", "mypy", "lint-imports"):
        assert check in script


def test_the_tested_versions_are_within_the_stated_ranges() -> None:
    import tomllib

    from packaging.requirements import Requirement

    rows = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    tested = {name.lower().replace("_", "-"): version for name, version in (row.split("==") for row in rows)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = map(Requirement, [*project["dependencies"], *extras["train"], *extras["bench"], *extras["dev"]])
    for requirement in wanted:
        if requirement.name != project["name"]:
            assert tested[requirement.name.lower()] in requirement.specifier, requirement
    assert not [name for name in tested if "cuda" in name or name.startswith("nvidia")]
