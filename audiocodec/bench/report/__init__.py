"""The report of a benchmark: one HTML page that opens from disk, with plots, tables, players and a blind test.

`page.py` puts the page together from `tables.py`, `plots.py` and `listening.py`; `page.html`, `page.css` and `page.js`
are its frame, looks and behaviour, and are written into it. No part of the page comes from a network.
"""

from audiocodec.bench.report.page import build

__all__ = ["build"]
