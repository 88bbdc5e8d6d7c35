"""Trace how loud the music under a trailer is, for its picture in the storyboard."""

from __future__ import annotations

import numpy as np

from pipeline.errors import InputError
from pipeline.music_parts import join_parts
from pipeline.records import EditList, Span
from pipeline.sound import read_track

RATE = 8000  # Hz; loudness needs no more
STEPS_A_SECOND = 8


def trace_music(edit: EditList) -> tuple[float, ...] | None:
    """RMS of the music from the trailer's start to its end, evenly spaced, the loudest 1; None where it cannot be read."""
    seconds = float(edit.output.frames / edit.output.frame_rate)
    parts = edit.music.parts or (Span(edit.music.offset, edit.music.offset + seconds),)
    try:
        track = read_track(edit.music.path, sample_rate=RATE, longest=max(part.end for part in parts) + 1.0)
    except InputError:
        return None  # the track may be gone by now; the page says so
    played = join_parts(track[:, 0], RATE, parts, round(seconds * RATE)).astype(np.float64)
    steps = np.array_split(played**2, max(1, round(seconds * STEPS_A_SECOND)))
    levels = np.sqrt([step.mean() if len(step) else 0.0 for step in steps])
    return tuple(round(float(level), 3) for level in levels / max(float(levels.max()), 1e-9))
