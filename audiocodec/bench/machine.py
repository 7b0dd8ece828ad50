"""Where and with what a benchmark was measured."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from audiocodec.pool import n_cores

# what figures depend on: who codes, who resamples, who measures
PACKAGES = (
    "audiocodec",
    "ai-edge-litert",
    "av",
    "librosa",
    "numpy",
    "pesq",
    "pycodec2",
    "pystoi",
    "soundfile",
    "soxr",
    "speechmos",
    "torch",
    "visqol-python",
    "zimtohrli",
)


def facts() -> dict[str, object]:
    """Processor, cores that may be used, Python, operating system, versions of packages."""
    return {
        "cpu": _cpu(),
        "cores": n_cores(),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Version of each of PACKAGES that is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Short id of the commit that this package is checked out from, "-dirty" if files differ; None outside of git."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    words = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # a checkout on a machine without git
        return None
    return done.stdout.strip() or None


def _cpu() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
