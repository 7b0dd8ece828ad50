"""Where and when a figure was measured: for the JSON of the scripts beside this one."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("audiocodec", "torch", "numpy", "soundfile", "soxr", "librosa", "pesq", "pystoi")


def facts() -> dict[str, object]:
    """Date, commit, processor, Python, and the versions of what is installed."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
    }


def commit() -> str:
    """Short id of the checked-out commit, with a mark if files differ from it; "unknown" outside of git."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def installed(package: str) -> str | None:
    """Version of a package, if it is there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
