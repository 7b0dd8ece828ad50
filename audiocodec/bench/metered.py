"""Runs a command and says what it cost: `python -m audiocodec.bench.metered COMMAND...`, one JSON object on stdout.

A process of its own, because a child's peak of memory begins at the size of the process that starts it: this one is
small, and a benchmark is not. Standard input is the command's; what it prints is dropped.
"""

import json
import subprocess
import sys


def main() -> int:
    """Prints the command's CPU seconds and peak memory in MB; returns its exit code."""
    import resource

    done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=False)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # macOS counts bytes, Linux kB
    cost = {"cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / unit}
    print(json.dumps(cost))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
