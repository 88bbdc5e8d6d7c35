"""Hold what a finished trailer measures, and what its edit list plans, against each other and against the guards."""

from __future__ import annotations

import numpy as np

from pipeline.quality_pictures import Seen
from pipeline.records import SAME_TIME, Check, Cut, EditList
from pipeline.settings import GateSettings

GRID_WITHIN = 0.0005  # s that a frame may lie off its place k / rate
AAC_FRAME = 1024 / 48000  # s; sound is coded in whole ones, and the last may reach over the end
# s from the nearest accent beyond which the music gives nothing to cut on: a slow pulse of 60 beats a minute, and more
NOTHING_NEAR = 1.0
SPARED = 1  # cut that may lie off the beat however few there are: a title starts where it must


def check_plan(seen: Seen, edit: EditList, gate: GateSettings) -> list[Check]:
    """Length, rate and size of the file; and what can be seen of the plan itself."""
    used = [cut.shot for cut in edit.cuts]
    twice = len(used) - len(set(used))
    checks = [*_check_times(seen, edit), _check_sound_length(seen, edit)]
    return [
        *checks,
        Check("shots_used_twice", twice == 0, float(twice), "0"),
        *_check_story(edit),
        _check_beats(edit, gate.on_beat),
    ]


def _check_times(seen: Seen, edit: EditList) -> list[Check]:
    streams, output, rate = seen.streams, edit.output, edit.output.frame_rate
    counted = Check("frames", len(seen.times) == output.frames, float(len(seen.times)), str(output.frames))
    if not seen.times:
        return [counted]
    frame, length = float(1 / rate), float(edit.output.frames / rate)
    off_grid = max(abs(time - float(number / rate)) for number, time in enumerate(seen.times))
    # what the container claims and what decodes: the one that is further off speaks
    seconds = max((streams.seconds, seen.end - seen.times[0]), key=lambda figure: abs(figure - length))
    size, wanted = f"{streams.width}x{streams.height}", f"{output.width}x{output.height}"
    aspect, shape = float(streams.width * streams.pixel_aspect / max(1, streams.height)), output.width / output.height
    return [
        counted,
        Check(
            "duration_seconds",
            abs(seconds - length) <= frame + SAME_TIME,
            round(seconds, 4),
            f"{length:.4f} ± {frame:.4f}",
        ),
        Check("off_grid_seconds", off_grid <= GRID_WITHIN, round(off_grid, 6), f"<= {GRID_WITHIN}"),
        Check("frame_rate", streams.frame_rate == rate, str(streams.frame_rate), str(rate)),
        Check("size", size == wanted, size, wanted),
        # EBU R 95 and every player go by the display aspect; half a percent is a pixel in 200
        Check("display_aspect", abs(aspect / shape - 1) <= 0.005, round(aspect, 4), f"{shape:.4f} ± 0.5 %"),
    ]


def _check_sound_length(seen: Seen, edit: EditList) -> Check:
    frame, length = float(1 / edit.output.frame_rate), float(edit.output.frames / edit.output.frame_rate)
    claimed, decoded = seen.streams.audio_seconds, seen.heard.seconds
    whole = length - frame <= decoded <= length + frame + AAC_FRAME
    value = claimed if whole else decoded
    passed = whole and abs(claimed - length) <= frame + SAME_TIME
    return Check("audio_seconds", passed, round(value, 4), f"{length:.4f} ± {frame:.4f}")


def _check_story(edit: EditList) -> list[Check]:
    """Cuts and lines that show or tell what lies outside the story's bounds. What the user pinned is his word."""
    if edit.film.story is None:
        return []
    begin, end = edit.film.story
    rate = float(edit.output.frame_rate)
    shown = []
    for cut, after in zip(edit.pieces, [*edit.pieces[1:], None], strict=True):
        if isinstance(cut, Cut) and not cut.pinned:
            blended = after.dissolve if isinstance(after, Cut) else 0  # it plays on while the next fades in
            shown.append((cut.source.start, cut.source.end + blended * cut.speed / rate))
    told = [(placed.span.start, placed.span.end) for placed in edit.narration if placed.voice is None]
    outside = sum(first < begin - SAME_TIME or last > end + SAME_TIME for first, last in [*shown, *told])
    return [Check("outside_story", outside == 0, float(outside), f"0 outside {begin:.2f} to {end:.2f} s")]


def _check_beats(edit: EditList, least: float) -> Check:
    """Share of the cuts and cards after the first that begin within a frame of an accent of the music.

    Where only beats are known, as in older edit lists, the figure is told and not judged: a cut may lie on an onset
    between two of them.
    """
    marks = np.array(edit.music.accents or edit.music.beats)
    starts = np.array([float(piece.start_frame / edit.output.frame_rate) for piece in edit.pieces[1:]])
    limit = f">= {least:g}" if edit.music.accents else "known accents"
    if not len(marks) or not len(starts):
        return Check("cuts_on_beats", True, "no beats", limit)
    apart = np.abs(starts[:, None] - marks).min(axis=1)
    apart = apart[apart <= NOTHING_NEAR]
    if not len(apart):
        return Check("cuts_on_beats", True, "no beats", limit)
    on_beat = apart <= float(1 / edit.output.frame_rate) + SAME_TIME
    passed = not edit.music.accents or on_beat.mean() >= least or int((~on_beat).sum()) <= SPARED
    return Check("cuts_on_beats", bool(passed), round(float(on_beat.mean()), 3), limit)
