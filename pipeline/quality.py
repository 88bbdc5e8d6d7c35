"""Measure a finished trailer against its edit list before it is handed over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.colours import choose_colours
from pipeline.errors import InputError
from pipeline.loudness import measure_loudness
from pipeline.media import find_ffmpeg
from pipeline.quality_file import check_colour, check_file
from pipeline.quality_mix import Heard, check_mix, check_silence
from pipeline.quality_pictures import (
    THUMBNAIL_WIDTH,
    Seen,
    check_difference,
    check_pictures,
    check_repeats,
    compare_with_film,
    watch,
)
from pipeline.quality_plan import check_plan
from pipeline.quality_sound import check_lines
from pipeline.records import U8, Check, EditList, Film, QualityReport
from pipeline.render import find_film, make_mix
from pipeline.settings import Site, Subtitles, TrailerConfig, parse_config

LOUDNESS_WITHIN = 1.0  # LU
# From what American broadcasts ask for (ATSC A/85: -24, EBU R 128: -23) to what streaming services play at: without an edit
# list nobody says for whom a trailer was made.
LOUDNESS_ALONE = (-24.0, -14.0)  # LUFS
KEPT_SECONDS = 1.0  # of sound past the planned end
WATCHED, COMPARED, HEARD = 0.5, 0.85, 0.95  # of the whole work, when each part is done


@dataclass(frozen=True, slots=True)
class Measured:
    """The report, and a picture from the middle of each piece in trailer order: the bytes of a JPEG, (k,) uint8.

    Black where the file ends before that; none at all without an edit list.
    """

    report: QualityReport
    thumbnails: tuple[U8, ...]


def check_trailer(
    path: Path,
    edit: EditList | None,
    site: Site,
    *,
    memory: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> Measured:
    """Decode the finished file once and hold it against its edit list; without one, against what any trailer must be.

    memory: folder in which the film's pictures are kept, small, for the next check of a trailer of the same film. Raises
    InputError when the file cannot be opened as a film at all.
    """

    def tell(share: float) -> None:
        if progress is not None:
            progress(share)

    config = parse_config(edit.config if edit is not None else {})
    length = float(edit.output.frames / edit.output.frame_rate) if edit is not None else 0.0
    heard = Heard(length + KEPT_SECONDS if edit is not None else 0.0)
    seen = watch(path, edit, heard, lambda share: tell(WATCHED * share))
    if not seen.times and heard.start is None:
        raise InputError(f"nothing of {path} can be decoded")
    checks = check_file(seen, path, edit, config.gate.most_mbps)
    if edit is None:
        if seen.times:
            checks += [check_colour(seen, {}), *check_pictures(seen, None, None)]
    else:
        checks += check_plan(seen, edit, config.gate)
        checks += _check_against_film(
            seen, edit, config, memory, lambda share: tell(WATCHED + (COMPARED - WATCHED) * share)
        )
    tell(HEARD)
    if heard.start is not None:
        checks += _check_sound(path, heard, edit, config, site)
    thumbnails = _thumbnails(seen, edit) if edit is not None else ()
    return Measured(QualityReport(tuple(checks)), thumbnails)


def _check_against_film(
    seen: Seen, edit: EditList, config: TrailerConfig, memory: Path | None, tell: Callable[[float], None]
) -> list[Check]:
    """What only the film itself can say: whether these are its pictures, its words, and the mix that was asked for."""
    try:
        film = find_film(edit)
    except InputError as error:
        checks = [check_colour(seen, {}), *check_pictures(seen, edit, None)] if seen.times else []
        return [*checks, _unknown("picture_difference", error)]
    checks = []
    if seen.times:
        burned = config.narration.subtitles is Subtitles.burned
        checks = [
            check_colour(seen, choose_colours(film).tags),
            check_repeats(seen, edit, config.gate.repeats, judged=config.guards.twins),
        ]
        try:
            compared = compare_with_film(seen, edit, film, burned=burned, memory=memory, progress=tell)
        except InputError as error:
            checks += [*check_pictures(seen, edit, None), _unknown("picture_difference", error)]
        else:
            checks += [*check_pictures(seen, edit, compared), check_difference(compared)]
    if seen.heard.start is not None:
        checks += _check_against_mix(seen, edit, film, config)
        if edit.narration:
            checks += check_lines(seen.heard, edit, film, config.sound)
    return checks


def _check_against_mix(seen: Seen, edit: EditList, film: Film, config: TrailerConfig) -> list[Check]:
    late = float(np.median([t - float(k / edit.output.frame_rate) for k, t in enumerate(seen.times)] or [0.0]))
    try:
        try:
            mix = make_mix(edit, film, config.sound)
        except InputError:  # a voice may be gone, which lines_heard says: music and film are in step without it
            mix = make_mix(replace(edit, narration=()), film, config.sound)
    except InputError as error:
        return [_unknown("sound_offset_seconds", error)]
    return check_mix(seen.heard, late, mix, config.gate.offset_seconds)


def _unknown(name: str, error: InputError) -> Check:
    """What could not be measured is not passed: nobody looked."""
    return Check(name, False, str(error), "measured")


def _check_sound(path: Path, heard: Heard, edit: EditList | None, config: TrailerConfig, site: Site) -> list[Check]:
    loudness, peak = measure_loudness(find_ffmpeg(site.ffmpeg), ["-i", str(path.resolve())], 60.0 + heard.end)
    most = config.sound.true_peak_dbtp
    quietest, loudest = LOUDNESS_ALONE
    wanted = f"{quietest} to {loudest} ± {LOUDNESS_WITHIN}"
    cards = []
    if edit is not None:
        quietest = loudest = edit.output.loudness_lufs
        wanted = f"{loudest} ± {LOUDNESS_WITHIN}"
        edges = [(card.start_frame, card.start_frame + card.frames) for card in edit.cards]
        cards = [(float(a / edit.output.frame_rate), float(b / edit.output.frame_rate)) for a, b in edges]
    level = quietest - LOUDNESS_WITHIN <= loudness <= loudest + LOUDNESS_WITHIN
    return [
        Check("loudness_lufs", level, loudness, wanted),
        Check("true_peak_dbtp", peak <= most, peak, f"<= {most}"),
        check_silence(heard, cards, config.gate.silence_seconds),
    ]


def _thumbnails(seen: Seen, edit: EditList) -> tuple[U8, ...]:
    height = max(2, round(THUMBNAIL_WIDTH * edit.output.height / edit.output.width))
    black = cv2.imencode(".jpg", np.zeros((height, THUMBNAIL_WIDTH, 3), np.uint8))[1]
    nothing = np.asarray(black, np.uint8).reshape(-1)
    middles = [piece.start_frame + piece.frames // 2 for piece in edit.pieces]
    return tuple(seen.thumbnails.get(middle, nothing) for middle in middles)
