"""Print the tables of the `.rq` format, as docs/FORMAT.md shows them: `python -m audiocodec.bitstream`."""

from audiocodec.bitstream.layout import tables_markdown

print(tables_markdown())
