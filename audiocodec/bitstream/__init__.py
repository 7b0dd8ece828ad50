"""The `.rq` format: codes in, bytes out, and back. numpy only, no torch; docs/FORMAT.md is its specification."""

from audiocodec.bitstream.edit import StreamInfo, drop, info, recode, verify
from audiocodec.bitstream.entropy import EntropyTables
from audiocodec.bitstream.header import Header
from audiocodec.bitstream.reader import Reader
from audiocodec.bitstream.records import Damage, Group
from audiocodec.bitstream.writer import Writer

__all__ = [
    "Damage",
    "EntropyTables",
    "Group",
    "Header",
    "Reader",
    "StreamInfo",
    "Writer",
    "drop",
    "info",
    "recode",
    "verify",
]
