"""The gate of `codec bench`: better, worse or the same than earlier results."""

import json
from pathlib import Path

import pytest
from bench_cases import results
from cli_cases import run

from audiocodec.bench.compare import Change, compare
from audiocodec.errors import CodecError


def verdicts(changes: list[Change]) -> dict[str, str]:
    return {change.metric: change.verdict for change in changes}


def test_the_gate_tells_better_from_worse_from_the_same() -> None:
    old = results()
    same = {"pesq_wb": "same", "si_sdr": "same", "kbps": "same"}
    assert verdicts(compare(old, results())) == same
    assert verdicts(compare(old, results(-0.1))) == same | {"pesq_wb": "worse"}
    assert verdicts(compare(old, results(0.1))) == same | {"pesq_wb": "better"}
    assert verdicts(compare(old, results(1e-6))) == same
    assert verdicts(compare(old, results(rate=6.2))) == same | {"kbps": "worse"}
    assert verdicts(compare(old, results(si_sdr=False))) == same | {"si_sdr": "worse"}


def test_the_gate_pairs_clips_where_they_are_the_same() -> None:
    worse = compare(results(), results(-0.1))[0]
    assert worse.paired and worse.n_clips == 6
    assert worse.low is not None and worse.high is not None
    assert -0.11 < worse.low < worse.high < -0.09
    apart = compare(results(), results(-0.1, names="abcdeg"))[0]
    assert (apart.paired, apart.verdict) == (False, "same")  # clips differ by far more
    assert compare(results(), results(-3, names="abcdeg"))[0].verdict == "worse"
    assert compare(results(names="a"), results(-3, names="a"))[0].verdict == "unknown"
    other = results()
    other["codecs"][0]["settings"] = ["3"]
    with pytest.raises(CodecError, match="nothing to compare"):
        compare(results(), other)


@pytest.mark.parametrize(("shift", "code"), [(-0.1, 1), (0.1, 0), (0.0, 0)])
def test_the_gate_exits_1_when_something_is_worse(shift: float, code: int, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(results()))
    (tmp_path / "results.json").write_text(json.dumps(results(shift)))
    result = run("bench", "--compare", tmp_path / "old.json", "--out", tmp_path)
    assert result.code == code
    *changes, last = result.out.decode().splitlines()
    assert [line.split(":")[0] for line in changes] == ["worse"] * (shift < 0) + ["better"] * (shift > 0)
    assert last.endswith("compared with clips of 2026-01-01, version 1")
