"""Rate-distortion against other codecs: competitors, metrics, the sweep over both, the report."""
