"""A neural audio codec."""
