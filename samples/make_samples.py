"""Makes the sample clips of this folder: speech by espeak-ng, music and noises by the functions next door.

    python samples/make_samples.py [folder]

The same seed gives the same clips, up to the last bit's rounding; speech depends on espeak-ng's version.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr
from synthesis import (
    Rng,
    Signal,
    bass,
    bell,
    door,
    gravel_step,
    hat,
    kick,
    organ,
    pluck,
    rain,
    room,
    shaped,
    snare,
)

SEED = 20
SPEECH_RATE = 24000
PEAK = 0.7  # 3 dB below full scale
ARTIST = "The audiocodec authors"

# file, title, espeak-ng voice, words per minute, pitch (0-99), text
SPEECH = (
    (
        "speech-english.flac",
        "The kettle",
        ("en-gb+m3", 158, 42),
        "The kettle sang before the sun was up. She poured two cups, and waited.",
    ),
    (
        "speech-german.flac",
        "Der Zug",
        ("de+f2", 150, 55),
        "Der Zug nach Würzburg hat heute zwölf Minuten Verspätung. Wir warten im Café.",
    ),
    (
        "speech-spanish-room.flac",
        "El cuarto vacío",
        ("es+m1", 150, 35),
        "En el cuarto vacío queda una silla roja, y desde la ventana se ve el puerto.",
    ),
)


def spoken(voice: str, words_per_minute: int, pitch: int, text: str) -> Signal:
    """A sentence by espeak-ng, at SPEECH_RATE."""
    program = shutil.which("espeak-ng")
    if program is None:
        sys.exit("espeak-ng is not there: install it (apt install espeak-ng, brew install espeak-ng)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        options = ["-v", voice, "-s", str(words_per_minute), "-p", str(pitch), "-w", str(path)]
        subprocess.run([program, *options, text], check=True)
        speech, rate = soundfile.read(path)
    resampled: Signal = soxr.resample(np.pad(speech, (rate // 10, rate // 5)), rate, SPEECH_RATE)
    return resampled


def in_a_noisy_room(speech: Signal, rng: Rng) -> Signal:
    """A lively room, and the hum and hiss of a cheap microphone."""
    hiss = shaped(rng.standard_normal(len(speech)), SPEECH_RATE, lambda hz: 1 / np.sqrt(1 + hz / 300))
    hum = sum(np.sin(2 * np.pi * 50 * k * np.arange(len(speech)) / SPEECH_RATE) / k for k in (1, 2, 3, 5))
    return room(speech, SPEECH_RATE, 0.55, 0.55, rng) + 0.008 * hiss + 0.0015 * hum


class Stage:
    """Two channels to put sounds on: start and length in beats, place from -1 (left) to 1 (right)."""

    def __init__(self, rate: int, seconds: float, beats_per_minute: float) -> None:
        self.rate, self.beat_seconds = rate, 60 / beats_per_minute
        self.channels = np.zeros((round(seconds * rate), 2))

    def put(self, sound: Signal, at_beat: float, level: float, place: float = 0) -> None:
        """Adds a sound, with equal power at every place."""
        start = round(at_beat * self.beat_seconds * self.rate)
        sound = sound[: len(self.channels) - start]
        angle = (place + 1) * np.pi / 4
        self.channels[start : start + len(sound)] += level * np.outer(sound, [np.cos(angle), np.sin(angle)])

    def in_room(self, decay_seconds: float, level: float, rng: Rng) -> Signal:
        """Both channels in a room (each hears it differently), faded out at the end."""
        wet = [room(channel, self.rate, decay_seconds, level, rng) for channel in self.channels.T]
        n_fade = round(0.5 * self.rate)
        fade = np.ones(len(self.channels))
        fade[-n_fade:] = np.cos(np.linspace(0, np.pi / 2, n_fade)) ** 2
        return np.stack(wet, axis=1) * fade[:, None]


def strings(rng: Rng) -> tuple[Signal, int]:
    """ "Early Ferry": two plucked instruments, a bass, and a shaker; D major, 96 beats a minute, 6 s."""
    stage = Stage(48000, 6.0, 96)
    chords = ((50, 57, 62, 66), (47, 54, 62, 66), (43, 55, 59, 62), (45, 57, 61, 64), (50, 57, 62, 66))
    for number, chord in enumerate(chords):
        at_beat = 2 * number
        stage.put(bass(48000, chord[0] - 12, 1.4, rng), at_beat, 0.5)
        order = (0, 2, 1, 3, 2, 3, 1, 2) if number < 4 else (0, 1, 2, 3)
        for step, string in enumerate(order):
            late = rng.normal(0.01, 0.008)
            level = 0.33 + 0.08 * (step % 4 == 0) + rng.normal(0, 0.02)
            stage.put(
                pluck(48000, chord[string], 1.5, rng, bright=0.7), at_beat + step / 4 + late, level, -0.45
            )
    melody = (
        (0, 74, 1.5),
        (1.5, 73, 0.5),
        (2, 71, 1),
        (3, 69, 0.5),
        (3.5, 71, 0.5),
        (4, 74, 0.75),
        (4.75, 76, 0.25),
    )
    melody += ((5, 78, 1), (6, 76, 0.75), (6.75, 74, 0.25), (7, 73, 0.5), (7.5, 76, 0.5), (8, 74, 2))
    for at_beat, midi, beats in melody:
        stage.put(
            pluck(48000, midi, 0.5 + beats * stage.beat_seconds, rng, bright=1.1), at_beat + 0.02, 0.6, 0.4
        )
    for eighth in range(16):
        stage.put(hat(48000, rng, decay_seconds=0.022), eighth / 2 + 0.01, 0.05 + 0.04 * (eighth % 2), 0.15)
    return stage.in_room(0.9, 0.35, rng), 48000


def parade(rng: Rng) -> tuple[Signal, int]:
    """ "Small Parade": organ, bells, bass and drums; C minor, 118 beats a minute, 5 s."""
    rate = 44100
    stage = Stage(rate, 5.0, 118)
    chords = ((0, (48, 60, 63, 67)), (2, (56, 60, 63, 68)), (4, (53, 60, 65, 68)), (6, (55, 59, 62, 67)))
    for at_beat, notes in (*chords, (8, (48, 60, 64, 67))):
        for place, midi in zip((-0.6, -0.2, 0.2, 0.6), notes, strict=True):
            stage.put(organ(rate, midi, 1.0 if at_beat < 8 else 1.1, rng), at_beat, 0.33, place)
        for step in (0, 0.75, 1.5) if at_beat < 8 else (0,):
            stage.put(bass(rate, notes[0] - 12, 0.6, rng), at_beat + step, 0.55)
    melody = ((0, 79), (0.5, 75), (1, 72), (1.5, 75), (2, 80), (2.75, 79), (3.5, 77), (4, 77), (4.5, 80))
    for at_beat, midi in (*melody, (5, 84), (6, 83), (6.5, 79), (7, 74), (7.5, 79), (8, 84)):
        stage.put(bell(rate, midi, 1.6, rng), at_beat, 0.5, 0.35)
    for beat in range(9):
        stage.put(kick(rate, rng), beat if beat % 2 == 0 else beat + 0.5, 0.7)
        if beat % 2:
            stage.put(snare(rate, rng), beat, 0.45, -0.1)
    for quarter in range(32):
        accent = (0.13, 0.05, 0.09, 0.06)[quarter % 4]
        open_seconds = 0.09 if quarter % 8 == 6 else 0.025
        stage.put(
            hat(rate, rng, decay_seconds=open_seconds), quarter / 4 + rng.normal(0.005, 0.004), accent, -0.3
        )
    return stage.in_room(1.1, 0.25, rng), rate


def going_home(rng: Rng) -> tuple[Signal, int]:
    """Rain, four steps on gravel, a door that creaks and falls shut; 32 kHz mono, 5.5 s."""
    rate = 32000
    total = rain(rate, 5.5, rng) * np.interp(
        np.arange(round(5.5 * rate)) / rate, [0, 0.1, 4.2, 4.4], [0, 1, 1, 0.3]
    )
    events = [(at_seconds, 0.8 * gravel_step(rate, rng)) for at_seconds in (0.6, 1.2, 1.78, 2.4)]
    for at_seconds, sound in (*events, (3.2, 0.7 * room(door(rate, rng), rate, 0.5, 0.3, rng))):
        start = round(at_seconds * rate)
        total[start : start + len(sound)] += sound
    total[-3200:] *= np.linspace(1, 0, 3200)
    return total, rate


def save(path: Path, title: str, samples: Signal, rate: int) -> None:
    """Writes 16-bit FLAC at PEAK, with tags, and prints the clip's row for README.md."""
    samples = samples * (PEAK / np.abs(samples).max())
    channels = samples.shape[1] if samples.ndim == 2 else 1
    with soundfile.SoundFile(path, "w", rate, channels, subtype="PCM_16", format="FLAC") as file:
        file.title, file.artist, file.license = title, ARTIST, "CC0-1.0"
        file.write(np.rint(samples * 32768).astype(np.int16))
    kilobytes = path.stat().st_size / 1000
    print(f"| {path.name} | {title} | {rate} | {channels} | {len(samples) / rate:.1f} | {kilobytes:.0f} |")


def main(folder: Path) -> None:
    """Makes all clips."""
    for number, (name, title, voice, text) in enumerate(SPEECH):
        speech = spoken(*voice, text)
        if name.endswith("room.flac"):
            speech = in_a_noisy_room(speech, np.random.default_rng([SEED, number]))
        save(folder / name, title, speech, SPEECH_RATE)
    save(folder / "music-strings.flac", "Early Ferry", *strings(np.random.default_rng([SEED, 10])))
    save(folder / "music-parade.flac", "Small Parade", *parade(np.random.default_rng([SEED, 11])))
    save(folder / "sounds-rain.flac", "Going Home", *going_home(np.random.default_rng([SEED, 12])))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
