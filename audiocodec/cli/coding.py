"""How the command wants torch to run, and the facts about speed that it tells."""

import os


def prepare_torch() -> None:
    """Settings for coding, to be made before the first model is loaded.

    One thread, unless OMP_NUM_THREADS says otherwise: blocks are small, so that more threads gain little, and
    on a machine that is busy with something else they wait for each other (measured: ten times slower).
    """
    import torch

    torch.set_flush_denormal(True)  # denormal numbers, as in near-silence, are many times as slow
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def times(audio_seconds: float, work_seconds: float) -> str:
    """How many times faster than real time something went.

    >>> times(42.0, 2.0), times(5.0, 2.0)
    ('21x real time', '2.5x real time')
    """
    speed = audio_seconds / max(work_seconds, 1e-9)
    return f"{speed:.0f}x real time" if speed >= 9.95 else f"{speed:.1f}x real time"
