"""Shards as Parquet, for `datasets` and whatever reads tables: a row an item."""

import json
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from audiocodec.corpus.items import SEGMENTS, Tokenised, facts_of, from_facts
from audiocodec.errors import CodecError, FormatError

ROW_GROUP = 100  # items of a row group: what is in memory at once


def write_parquet(path: Path, items: Iterable[Tokenised]) -> None:
    """One row an item; `meta` is JSON."""
    arrow = _arrow()
    schema = _schema(arrow)
    rows: list[dict[str, Any]] = []
    with arrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for item in items:
            levels = item.codes.levels
            nested = [[level[lane].tolist() for level in levels] for lane in range(len(levels[0]))]
            facts = facts_of(item)
            if "meta" in facts:
                facts["meta"] = json.dumps(facts["meta"], sort_keys=True, ensure_ascii=False)
            rows.append({"key": item.key, "codes": nested, **facts})
            if len(rows) == ROW_GROUP:
                writer.write_table(arrow.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(arrow.Table.from_pylist(rows, schema))


def read_parquet(path: Path, start: int, step: int) -> Iterator[Tokenised]:
    arrow = _arrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            position = 0
            for batch in file.iter_batches(ROW_GROUP):
                wanted = [
                    n
                    for n in range(len(batch))
                    if position + n >= start and (position + n - start) % step == 0
                ]
                position += len(batch)
                for row in batch.take(arrow.array(wanted, arrow.int64())).to_pylist():
                    yield _parquet_item(row)
    except arrow.ArrowException as error:
        raise FormatError(
            f"{path}: cannot be read as a shard ({error}); expected what codec tokenize wrote"
        ) from error


def _parquet_item(row: dict[str, Any]) -> Tokenised:
    try:
        levels = tuple(np.array(level, np.int16) for level in zip(*row["codes"], strict=True))
        facts = {key: value for key, value in row.items() if value is not None}
        if "meta" in facts:
            facts["meta"] = json.loads(facts["meta"])
        return from_facts(row["key"], facts, levels)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise FormatError(f"item {row.get('key')}: not what codec tokenize wrote ({error})") from error


def _arrow() -> Any:
    """pyarrow with its Parquet part. Raises CodecError where it is missing."""
    try:
        arrow = import_module("pyarrow")
        import_module("pyarrow.parquet")
    except ImportError as error:
        raise CodecError("Parquet needs pyarrow: pip install 'audiocodec[corpus]'") from error
    return arrow


def _schema(arrow: Any) -> Any:
    """Codes are lists of lanes, of levels, of codes, so that levels may differ in frame rate."""
    codes = arrow.list_(arrow.list_(arrow.list_(arrow.int16())))
    fields = {
        "key": arrow.string(),
        "codes": codes,
        "source": arrow.string(),
        "start_seconds": arrow.float64(),
        "duration_seconds": arrow.float64(),
        "meta": arrow.string(),
        "sample_rate": arrow.int32(),
        "channels": arrow.int32(),
        "n_samples": arrow.int64(),
        "n_frames": arrow.int64(),
        "model": arrow.string(),
        "code_space": arrow.string(),
        "model_sample_rate": arrow.int32(),
        "hop_length": arrow.int32(),
        "delay": arrow.int32(),
        "codebook_sizes": arrow.list_(arrow.int32()),
        "frames_per_code": arrow.list_(arrow.int32()),
        **dict.fromkeys(SEGMENTS, arrow.int32()),
    }
    return arrow.schema(list(fields.items()))
