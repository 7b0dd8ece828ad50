"""The command `codec`: one file per verb. Verbs import the rooms they need when they run, for a quick start."""

from audiocodec.cli.app import main

__all__ = ["main"]
