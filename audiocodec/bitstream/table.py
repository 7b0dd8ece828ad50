"""The seek table: lengths of all groups, as runs of equal ones. A file of constant rate needs two or three runs."""

from collections.abc import Iterator

from audiocodec.bitstream import layout
from audiocodec.errors import FormatError


class TableBuilder:
    """Takes the length of one group after the other; a few bytes per change of length.

    >>> builder = TableBuilder()
    >>> for n_bytes in (384, 384, 384, 20):
    ...     builder.add(n_bytes)
    >>> list(runs(builder.table()))
    [(3, 384), (1, 20)]
    """

    def __init__(self) -> None:
        self._closed = bytearray()
        self._n_groups = 0
        self._group_bytes = 0

    def add(self, group_bytes: int) -> None:
        """Count a group of `group_bytes` bytes, with the chunks that stand before it."""
        if self._n_groups and group_bytes != self._group_bytes:
            self._closed += self._open_run()
            self._n_groups = 0
            if len(self._closed) > layout.MAX_TABLE_BYTES:  # hopeless: keep it small
                del self._closed[layout.MAX_TABLE_BYTES + 1 :]
        self._n_groups += 1
        self._group_bytes = group_bytes

    def table(self) -> bytes:
        """The table of all groups so far; empty where it would be longer than a table may be."""
        table = bytes(self._closed) + (self._open_run() if self._n_groups else b"")
        return table if len(table) <= layout.MAX_TABLE_BYTES else b""

    def _open_run(self) -> bytes:
        """The run that is not closed yet."""
        run = {"n_groups": self._n_groups, "group_bytes": self._group_bytes}
        return layout.pack(layout.TABLE_RUN, run)


def runs(table: bytes) -> Iterator[tuple[int, int]]:
    """Each run of a table: how many groups, and the bytes of each. Raises FormatError for an impossible table."""
    at = 0
    while at < len(table):
        try:
            run, at = layout.unpack(layout.TABLE_RUN, table, at)
        except (ValueError, layout.Incomplete) as error:
            raise FormatError(f"impossible seek table: {str(error) or 'it ends inside a run'}") from None
        if not run["n_groups"] or not run["group_bytes"]:
            raise FormatError("impossible seek table: a run of no groups, or of no bytes")
        yield run["n_groups"], run["group_bytes"]


def locate(table: bytes, index: int) -> tuple[int, int]:
    """Where a group begins: how many groups, and how many bytes, stand before it.

    For an index past the last group: all groups, and the bytes of all.

    >>> table = bytes([3, 100, 1, 20])
    >>> locate(table, 2), locate(table, 99)
    ((2, 200), (4, 320))
    """
    n_groups = n_bytes = 0
    for count, group_bytes in runs(table):
        taken = min(count, index - n_groups)
        n_groups += taken
        n_bytes += taken * group_bytes
    return n_groups, n_bytes
