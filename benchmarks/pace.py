"""How a track is cut: lengths, pace, how many cuts lie on the music, and what is played where a length is asked for.

    python benchmarks/pace.py [--tracks DIR ...] [--lengths 15 30 60 90] [--markdown table.md]

Without --tracks: the bundled beds, and the music in ../shared/films/music (or $TRAILER_TEST_FILMS). A cut is on the music
when an independent listener, librosa's onset_detect and beat_track with their defaults on what is played, hears an onset or
a beat within one picture at 24/s of it (42 ms), or one picture and one of librosa's own frames (65 ms): librosa's times are
10 to 40 ms late. Opening: the first fifth; climax: the loudest fifth of what comes after the first three tenths.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from flows.tables import Table
from pipeline.media import probe_track
from pipeline.music import segment_music
from pipeline.music_parts import join_parts
from pipeline.records import F32, F64, Segments, Span
from pipeline.settings import ASSETS, MusicSettings
from pipeline.sound import read_track
from pipeline.steps import LONGEST_TRACK, MUSIC_RATE

PICTURE = 1 / 24  # s
LISTENED = 512 / MUSIC_RATE  # s; a frame of librosa's
SUFFIXES = {".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"}


def hear(samples: F32) -> F64:
    """Seconds of onsets and beats as librosa hears them with its defaults."""
    from librosa.beat import beat_track
    from librosa.onset import onset_detect

    onsets = onset_detect(y=samples, sr=MUSIC_RATE, units="time", backtrack=False)
    _, beats = beat_track(y=samples, sr=MUSIC_RATE, units="time")
    return np.sort(np.concatenate([onsets, beats]))


def describe(segments: Segments, played: F32) -> list[str]:
    """Cells of one row."""
    lengths = np.array([span.duration for span in segments.spans])
    cuts = np.array([span.start for span in segments.spans])[1:]
    total = segments.duration

    def rate(start: float, end: float) -> float:
        return float(((cuts >= start) & (cuts < end)).sum()) / (end - start) * 60

    heard = hear(played)
    off = np.abs(cuts[:, None] - heard).min(axis=1, initial=np.inf)
    own = np.abs(cuts[:, None] - segments.accents).min(axis=1, initial=np.inf)
    fifth = total / 5
    power = np.concatenate([[0.0], np.cumsum(played.astype(np.float64) ** 2)])
    starts = np.arange(0.3 * total, total - fifth + 0.05, 0.1)
    bounds = np.clip(np.round(np.stack([starts, starts + fifth]) * MUSIC_RATE).astype(int), 0, len(power) - 1)
    loudest = float(starts[np.argmax(power[bounds[1]] - power[bounds[0]])])
    thirds = " ".join(f"{rate(k * total / 3, (k + 1) * total / 3):.0f}" for k in range(3))
    quartiles = " ".join(f"{q:.1f}" for q in np.percentile(lengths, [25, 50, 75]))
    last = 10 * np.log10(np.mean(played[-MUSIC_RATE:] ** 2) / np.mean(played**2) + 1e-12)
    parts = segments.parts or (Span(segments.offset, segments.offset + total),)
    return [
        f"{total:.1f}",
        str(len(lengths)),
        f"{lengths.mean():.2f}",
        f"{lengths.std() / lengths.mean():.2f}",
        f"{lengths.min():.1f} {quartiles} {lengths.max():.1f}",
        thirds,
        f"{rate(0, fifth):.0f} {rate(loudest, loudest + fifth):.0f}",
        f"{np.mean(own < 1e-3):.0%}",
        f"{np.mean(off <= PICTURE):.0%} {np.mean(off <= PICTURE + LISTENED):.0%}",
        f"{last:.0f}",
        ", ".join(f"{part.start:.1f}-{part.end:.1f}" for part in parts[:4])
        + (f" ... {len(parts)}" if parts[4:] else ""),
        f"{segments.fade_seconds:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("TRAILER_TEST_FILMS", "../shared/films")) / "music"
    parser.add_argument("--tracks", type=Path, nargs="+", default=[ASSETS / "music", shared], help="folders or files")
    parser.add_argument("--lengths", type=float, nargs="*", default=[15, 30, 60, 90], help="seconds")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    files = [
        file
        for given in options.tracks
        for file in (sorted(given.iterdir()) if given.is_dir() else [given])
        if file.suffix.lower() in SUFFIXES
    ]
    rows, seconds = [], []
    for file in files:
        track = probe_track(file)
        samples = read_track(file, sample_rate=MUSIC_RATE, longest=LONGEST_TRACK)[:, 0]
        for length in (None, *options.lengths):
            started = time.perf_counter()
            segments = segment_music(track, samples, MUSIC_RATE, MusicSettings(), length=length)
            seconds.append(time.perf_counter() - started)
            parts = segments.parts or (Span(segments.offset, segments.offset + segments.duration),)
            played = join_parts(samples, MUSIC_RATE, parts, round(segments.duration * MUSIC_RATE))
            rows.append(
                [f"{file.stem[:18]}{'' if length is None else f' --length {length:g}'}", *describe(segments, played)]
            )
    head = ["track", "s", "cuts", "mean", "cv", "least, quartiles, most", "a minute, thirds", "opening, climax", "own",
            "librosa 42, 65 ms", "last s dB", "parts", "fade"]  # fmt: skip
    note = f"Listening and cutting: median {np.median(seconds):.1f} s a track, most {max(seconds):.1f} s."
    text = Table("Pace", head, rows, note).markdown()
    print(text)
    if options.markdown is not None:
        options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
