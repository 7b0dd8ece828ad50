"""Instruments and noises for the sample clips: additive strings, organ, bells; drums, rain, steps; a room.

Everything is float64 mono [T] at full scale 1 unless it says otherwise; randomness comes from the `rng` given.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]
Rng = np.random.Generator


def hertz(midi: float) -> float:
    """Frequency of a MIDI note number: 69 is the a' of 440 Hz."""
    return float(440 * 2 ** ((midi - 69) / 12))


def seconds_axis(seconds: float, rate: int) -> Signal:
    """The time of each sample."""
    return np.arange(round(seconds * rate)) / rate


def shaped(signal: Signal, rate: int, gain: Callable[[Signal], Signal]) -> Signal:
    """The signal filtered by a gain that is a function of frequency in Hz (no phase shift, wraps around)."""
    return np.fft.irfft(np.fft.rfft(signal) * gain(np.fft.rfftfreq(len(signal), 1 / rate)), len(signal))


def band(low_hz: float, high_hz: float, order: int = 4) -> Callable[[Signal], Signal]:
    """A band pass with soft edges."""
    return lambda hz: 1 / np.sqrt((1 + (low_hz / np.maximum(hz, 1)) ** order) * (1 + (hz / high_hz) ** order))


def noise_burst(
    rate: int, seconds: float, decay_seconds: float, gain: Callable[[Signal], Signal], rng: Rng
) -> Signal:
    """Filtered noise that dies away; peak 1."""
    time = seconds_axis(seconds, rate)
    burst = shaped(rng.standard_normal(len(time)), rate, gain) * np.exp(-time / decay_seconds)
    burst *= np.minimum(1, time / 0.0005)
    return burst / np.abs(burst).max()


def partials(
    rate: int, seconds: float, hz: Signal, amplitude: Signal, decay_per_second: Signal, *, rng: Rng
) -> Signal:
    """A sum of sines below the Nyquist frequency, each with its own decay; phases are random."""
    time = seconds_axis(seconds, rate)
    total = np.zeros(len(time))
    for each_hz, each_amplitude, each_decay in zip(hz, amplitude, decay_per_second, strict=True):
        if each_hz < 0.49 * rate and each_amplitude:
            phase = rng.uniform(0, 2 * np.pi)
            wave = np.sin(2 * np.pi * each_hz * time + phase)
            total += each_amplitude * np.exp(-each_decay * time) * wave
    return total


def pluck(rate: int, midi: float, seconds: float, rng: Rng, *, bright: float = 1.0) -> Signal:
    """A plucked steel string: stiff (partials stretch), plucked off its middle, with the sound of the nail."""
    number = np.arange(1, 140)
    hz = hertz(midi) * number * np.sqrt(1 + 0.00012 * number**2)
    place = rng.uniform(0.12, 0.22)
    amplitude = np.abs(np.sin(np.pi * number * place)) / number ** (1.55 - 0.35 * bright)
    amplitude *= rng.uniform(0.6, 1.3, len(number)) * (1 + 1.2 * np.exp(-(((hz - 210) / 90) ** 2)))  # a body
    string = partials(
        rate, seconds, hz, amplitude, 0.9 + 0.35 * (hz / 1000) + 0.12 * (hz / 1000) ** 2, rng=rng
    )
    time = seconds_axis(seconds, rate)
    string *= np.minimum(1, time / 0.0015) * np.minimum(1, (seconds - time) / 0.03)
    nail = noise_burst(rate, min(0.05, seconds), 0.006, band(1500, 0.45 * rate, 2), rng)
    string[: len(nail)] += 0.25 * bright * nail
    return string / 2


def bass(rate: int, midi: float, seconds: float, rng: Rng) -> Signal:
    """A bowed-off, round bass string."""
    number = np.arange(1, 40)
    amplitude = 1 / number**1.6 * rng.uniform(0.8, 1.2, len(number))
    tone = partials(rate, seconds, hertz(midi) * number, amplitude, 1.2 + 0.5 * number, rng=rng)
    time = seconds_axis(seconds, rate)
    return tone * np.minimum(1, time / 0.008) * np.minimum(1, (seconds - time) / 0.03) / 1.5


def bell(rate: int, midi: float, seconds: float, rng: Rng) -> Signal:
    """A small bell: inharmonic partials in beating pairs, and a hard strike."""
    ratio = np.array(
        [0.5, 1, 1.19, 1.5, 2, 2.51, 2.66, 3.01, 4.1, 5.2, 6.3, 7.7, 9.1, 11.2, 13.1, 15.3, 18.0]
    )
    ratio = np.concatenate([ratio, ratio * rng.uniform(1.0005, 1.003, len(ratio))])
    amplitude = rng.uniform(0.5, 1, len(ratio)) / (1 + 0.35 * ratio)
    tone = partials(rate, seconds, hertz(midi) * ratio, amplitude, 0.7 + 0.55 * ratio, rng=rng)
    strike = noise_burst(rate, min(0.04, seconds), 0.004, band(3000, 0.47 * rate, 2), rng)
    tone[: len(strike)] += 0.8 * strike
    return tone * np.minimum(1, (seconds - seconds_axis(seconds, rate)) / 0.03) / 5


def organ(rate: int, midi: float, seconds: float, rng: Rng) -> Signal:
    """An organ pipe rank: harmonics that waver a little, breath, and the chiff of the start."""
    time = seconds_axis(seconds, rate)
    stops = {0.5: 0.5, 1: 1.0, 2: 0.7, 3: 0.35, 4: 0.45, 5: 0.15, 6: 0.2, 8: 0.3, 10: 0.1, 12: 0.12, 16: 0.12}
    tone = np.zeros(len(time))
    for ratio, level in stops.items():
        wander = 0.0016 * np.sin(2 * np.pi * rng.uniform(4.5, 6) * time + rng.uniform(0, 6))
        detune = rng.normal(1, 0.0008)
        cycles = np.cumsum(hertz(midi) * ratio * detune * (1 + wander)) / rate
        tone += level * (np.sin(2 * np.pi * cycles) + 0.25 * np.sin(6 * np.pi * cycles))
    breath = shaped(rng.standard_normal(len(time)), rate, band(hertz(midi) * 2, 9000, 2))
    tone += breath * (0.05 + 0.4 * np.exp(-time / 0.03))
    return tone * np.minimum(1, time / 0.02) * np.minimum(1, (seconds - time) / 0.05) / 8


def kick(rate: int, rng: Rng) -> Signal:
    """A bass drum: a falling tone under a click."""
    time = seconds_axis(0.35, rate)
    cycles = np.cumsum(48 + 140 * np.exp(-time / 0.025)) / rate
    click = noise_burst(rate, 0.35, 0.004, band(800, 9000, 2), rng)
    return np.sin(2 * np.pi * cycles) * np.exp(-time / 0.1) + 0.3 * click


def snare(rate: int, rng: Rng) -> Signal:
    """A snare drum: two modes of the skin and the rattle of the wires."""
    time = seconds_axis(0.3, rate)
    skin = np.sin(2 * np.pi * 187 * time) + 0.6 * np.sin(2 * np.pi * 331 * time)
    wires = noise_burst(rate, 0.3, 0.07, band(1200, 0.46 * rate, 2), rng)
    return 0.4 * skin * np.exp(-time / 0.05) + 0.8 * wires


def hat(rate: int, rng: Rng, *, decay_seconds: float = 0.03) -> Signal:
    """A cymbal pair or a shaker: noise with a few metallic resonances."""
    hiss = noise_burst(rate, 8 * decay_seconds, decay_seconds, band(6500, 0.48 * rate), rng)
    ring_hz = rng.uniform(4000, 0.45 * rate, 24)
    ring = partials(
        rate, 8 * decay_seconds, ring_hz, np.full(24, 0.08), np.full(24, 1 / decay_seconds), rng=rng
    )
    return 0.7 * hiss + ring


def scatter(length: int, n_grains: int, grain: Callable[[], Signal], rng: Rng) -> Signal:
    """Grains at random places: rain, gravel."""
    total = np.zeros(length)
    for start in rng.integers(0, length, n_grains):
        piece = grain()[: length - start]
        total[start : start + len(piece)] += piece
    return total


def rain(rate: int, seconds: float, rng: Rng) -> Signal:
    """Far rain as a wash of noise, near drops as small resonant ticks."""
    length = round(seconds * rate)

    def drop() -> Signal:
        time = seconds_axis(0.012, rate)
        hz, strength = rng.uniform(900, 0.42 * rate), min(0.1, 0.022 * np.exp(1.1 * rng.standard_normal()))
        tick = rng.standard_normal(len(time)) * np.exp(-time / 0.0008)
        return strength * (
            np.sin(2 * np.pi * hz * time) * np.exp(-time / rng.uniform(0.0008, 0.004)) + 0.5 * tick
        )

    wash = shaped(rng.standard_normal(length), rate, band(700, 0.4 * rate, 2)) * 0.022
    swell = 1 + 0.25 * np.interp(np.arange(length), np.linspace(0, length, 9), rng.uniform(-1, 1, 9))
    return (wash + scatter(length, round(420 * seconds), drop, rng)) * swell


def gravel_step(rate: int, rng: Rng) -> Signal:
    """A step on gravel: the heel's thud, then stones that grind while the weight moves."""
    length = round(0.32 * rate)

    def stone() -> Signal:
        low_hz = rng.uniform(900, 4000)
        return rng.exponential(0.25) * noise_burst(
            rate, 0.02, rng.uniform(0.001, 0.005), band(low_hz, 4 * low_hz, 2), rng
        )

    grind = scatter(length, 90, stone, rng) * np.exp(-(((np.arange(length) / length - 0.35) / 0.22) ** 2))
    grind[: round(0.15 * rate)] += noise_burst(rate, 0.15, 0.025, band(50, 400), rng) * 0.6
    return grind


def door(rate: int, rng: Rng) -> Signal:
    """A door: hinges that stick and slip ever faster, then the leaf falls shut and the latch clicks."""
    time = seconds_axis(1.5, rate)
    slips_hz = (
        45 + 110 * np.sin(np.pi * np.minimum(time / 0.95, 1)) ** 2 + np.cumsum(rng.normal(0, 0.05, len(time)))
    )
    cycles = np.cumsum(slips_hz) / rate
    slips = (np.diff(np.floor(cycles), prepend=0) > 0) * rng.uniform(0.4, 1, len(time))
    creak = sum(
        shaped(slips, rate, lambda hz, centre=centre, width=width: 1 / (1 + ((hz - centre) / width) ** 2))
        for centre, width in ((640, 60), (1150, 80), (2300, 150), (3900, 300), (7200, 900))
    )
    creak *= np.clip(np.minimum(time / 0.1, (0.95 - time) / 0.1), 0, 1)
    slam_at, latch_at = round(1.0 * rate), round(1.06 * rate)
    slam = np.zeros(len(time))
    modes_hz = np.array([62, 97, 148, 221, 310, 455, 690, 1020.0])
    thud = partials(rate, 0.4, modes_hz, 1 / np.arange(1, 9) ** 0.6, np.linspace(12, 45, 8), rng=rng)
    slam[slam_at : slam_at + len(thud)] += thud / 2 * np.minimum(1, seconds_axis(0.4, rate) / 0.002)
    for start, level, decay_seconds in (
        (slam_at, 0.8, 0.02),
        (latch_at, 0.5, 0.004),
        (latch_at + 700, 0.3, 0.006),
    ):
        click = noise_burst(rate, 0.12, decay_seconds, band(300, 0.45 * rate, 2), rng)
        slam[start : start + len(click)] += level * click
    return 0.9 * creak / np.abs(creak).max() + slam


def room(dry: Signal, rate: int, decay_seconds: float, level: float, rng: Rng) -> Signal:
    """The sound in a room: a few early echoes, then a tail that darkens and falls by 60 dB in `decay_seconds`."""
    time = seconds_axis(decay_seconds, rate)
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay_seconds)
    dark = shaped(tail, rate, band(120, 2500, 2))
    tail = dark + (tail - dark) * np.exp(-time * 12 / decay_seconds) * 0.5
    tail[: round(0.012 * rate)] = 0
    for at_seconds in rng.uniform(0.003, 0.03, 7):
        tail[round(at_seconds * rate)] += rng.choice([-1, 1]) * rng.uniform(2, 5)
    tail *= level / np.sqrt(np.sum(tail**2))
    n_points = len(dry) + len(tail)
    wet = np.fft.irfft(np.fft.rfft(dry, n_points) * np.fft.rfft(tail, n_points), n_points)
    return dry + wet[: len(dry)]
