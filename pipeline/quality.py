"""Measure a finished trailer against its edit list before it is handed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from pipeline.cards import SUBTITLE_ZONE
from pipeline.decode import TrailerStreams, read_pictures, watch_trailer
from pipeline.errors import InputError
from pipeline.loudness import measure_loudness
from pipeline.media import find_ffmpeg
from pipeline.quality_sound import check_lines
from pipeline.records import F32, U8, Check, Cut, EditList, Film, QualityReport
from pipeline.render import find_film
from pipeline.settings import Site, Subtitles, parse_config
from pipeline.sound import read_track

THUMBNAIL_WIDTH = 320
GRAY_SIZE = (96, 54)  # px; pictures are compared at this size
LOUDNESS_WITHIN = 1.0  # LU
BLACK_LUMA, BLACK_DEVIATION = 18.0, 6.0
LONGEST_BLACK = 0.5  # s outside the cards
SAME_PICTURE = 0.02  # mean luma change below which a picture repeats the last
LONGEST_FROZEN = 3.0  # s outside the cards
SILENCE_DB, LONGEST_SILENCE = -60.0, 6.0  # s before the last card
SOUND_RATE = 8000  # Hz, for looking for silence
FOREIGN_DIFFERENCE = 12.0  # mean luma difference of a trailer frame to its film picture; encoding costs about 2
GRID_WITHIN = 0.0005  # s that a frame may lie off its place k / rate
WINDOW = 0.1  # s


@dataclass(frozen=True, slots=True)
class Measured:
    """The report, and a picture from the middle of each piece in trailer order: the bytes of a JPEG, (k,) uint8."""

    report: QualityReport
    thumbnails: tuple[U8, ...]


def check_trailer(
    path: Path, edit: EditList | None, site: Site, *, progress: Callable[[float], None] | None = None
) -> Measured:
    """Decode the finished file once and hold it against its edit list; without one, against what any trailer must be.

    Raises InputError when the file cannot be opened as a film at all.
    """
    pieces = edit.pieces if edit is not None else ()
    middles = [piece.start_frame + piece.frames // 2 for piece in pieces]
    keep = (
        {frame for cut in edit.cuts for frame in (cut.start_frame, cut.start_frame + cut.frames - 1)} if edit else set()
    )
    seen = _watch(path, set(middles), keep, edit.output.frames if edit else 0, progress)
    checks = _check_streams(seen.streams, path)
    config = parse_config(edit.config if edit is not None else {})
    if edit is not None:
        checks += _check_plan(seen, edit)
        checks.append(_check_foreign(seen, edit, burned=config.narration.subtitles is Subtitles.burned))
    rate = edit.output.frame_rate if edit is not None else seen.streams.frame_rate
    cards = [(c.start_frame, c.start_frame + c.frames) for c in edit.cards] if edit is not None else []
    checks += _check_pictures(seen, rate, cards)
    if seen.streams.audio_codec:
        patience = 60.0 + 10.0 * len(seen.times) / float(rate)
        loudness, peak = measure_loudness(find_ffmpeg(site.ffmpeg), ["-i", str(path.resolve())], patience)
        limit = config.sound.true_peak_dbtp
        target = edit.output.loudness_lufs if edit is not None else config.sound.loudness_lufs
        checks.append(
            Check("loudness_lufs", abs(loudness - target) <= LOUDNESS_WITHIN, loudness, f"{target} ± {LOUDNESS_WITHIN}")
        )
        checks.append(Check("true_peak_dbtp", peak <= limit, peak, f"<= {limit}"))
        last = min((start for start, _ in cards), default=len(seen.times)) / float(rate)
        silence = _longest_silence(read_track(path, sample_rate=SOUND_RATE)[:, 0], last)
        checks.append(
            Check("longest_silence_seconds", silence <= LONGEST_SILENCE, round(silence, 2), f"<= {LONGEST_SILENCE}")
        )
        if edit is not None and edit.narration:
            checks += check_lines(path, edit, config.sound)
    return Measured(QualityReport(tuple(checks)), tuple(seen.thumbnails[m] for m in middles if m in seen.thumbnails))


@dataclass(slots=True)
class _Seen:
    """What one decode of the trailer saw. luma (n, 2): mean and deviation; change (n,): mean luma change to the last."""

    streams: TrailerStreams
    times: list[float]
    luma: list[tuple[float, float]]
    change: list[float]
    thumbnails: dict[int, U8]
    kept: dict[int, U8]


def _watch(
    path: Path, thumbnails: set[int], keep: set[int], expected: int, progress: Callable[[float], None] | None
) -> _Seen:
    streams, pictures = watch_trailer(path, THUMBNAIL_WIDTH)
    seen = _Seen(streams, [], [], [], {}, {})
    last: U8 | None = None
    for number, picture in enumerate(pictures):
        gray = cv2.cvtColor(picture.bgr, cv2.COLOR_BGR2GRAY)
        mean, deviation = cv2.meanStdDev(gray)
        seen.times.append(picture.time)
        seen.luma.append((float(mean[0, 0]), float(deviation[0, 0])))
        seen.change.append(0.0 if last is None else cv2.norm(gray, last, cv2.NORM_L1) / gray.size)
        last = np.asarray(gray, np.uint8)
        if number in thumbnails:
            jpeg = cv2.imencode(".jpg", picture.bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
            seen.thumbnails[number] = np.asarray(jpeg, np.uint8).reshape(-1)
        if number in keep:
            seen.kept[number] = np.asarray(cv2.resize(gray, GRAY_SIZE, interpolation=cv2.INTER_AREA), np.uint8)
        if progress is not None and expected and number % 48 == 0:
            progress(min(0.9, 0.9 * number / expected))
    if not seen.times:
        raise InputError(f"no picture of {path} can be decoded")
    return seen


def _check_streams(streams: TrailerStreams, path: Path) -> list[Check]:
    return [
        Check(
            "video_codec",
            streams.video_codec in ("h264", "hevc", "av1"),
            streams.video_codec or "none",
            "h264, hevc or av1",
        ),
        Check("audio_codec", streams.audio_codec == "aac", streams.audio_codec or "none", "aac"),
        Check("pixel_format", streams.pixel_format == "yuv420p", streams.pixel_format, "yuv420p"),
        Check("damaged_packets", streams.damage.packets == 0, float(streams.damage.packets), "0"),
        Check("faststart", _index_first(path), "moov first" if _index_first(path) else "moov last", "moov first"),
    ]


def _index_first(path: Path) -> bool:
    """Whether an MP4's index (moov) lies before its data (mdat), so that it plays while it loads."""
    with path.open("rb") as file:
        while len(head := file.read(16)) >= 8:
            size, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if kind == b"moov":
                return True
            if kind == b"mdat" or size == 0:
                return False
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            if size < 8:
                return False
            file.seek(size - len(head), 1)
    return False


def _check_plan(seen: _Seen, edit: EditList) -> list[Check]:
    rate, wanted = edit.output.frame_rate, edit.output.frames
    frame = float(1 / rate)
    length = float(wanted / rate)
    off_grid = max(abs(time - float(number / rate)) for number, time in enumerate(seen.times))
    used = [cut.shot for cut in edit.cuts]
    size = f"{seen.streams.width}x{seen.streams.height}"
    sound = seen.streams.audio_seconds
    return [
        Check("frames", len(seen.times) == wanted, float(len(seen.times)), str(wanted)),
        Check(
            "duration_seconds",
            abs(seen.streams.seconds - length) <= frame,
            round(seen.streams.seconds, 4),
            f"{length:.4f} ± {frame:.4f}",
        ),
        Check("audio_seconds", abs(sound - length) <= frame, round(sound, 4), f"{length:.4f} ± {frame:.4f}"),
        Check("off_grid_seconds", off_grid <= GRID_WITHIN, round(off_grid, 6), f"<= {GRID_WITHIN}"),
        Check(
            "size",
            size == f"{edit.output.width}x{edit.output.height}",
            size,
            f"{edit.output.width}x{edit.output.height}",
        ),
        Check("shots_used_twice", len(used) == len(set(used)), float(len(used) - len(set(used))), "0"),
    ]


def _check_foreign(seen: _Seen, edit: EditList, *, burned: bool) -> Check:
    """Compare the first and last frame of every cut with the film's picture there: a neighbour's frame stands out.

    burned: what is said stands in the picture, and its zone is not compared.
    """
    rows = slice(0, int(SUBTITLE_ZONE * GRAY_SIZE[1]) - 1 if burned else GRAY_SIZE[1])
    try:
        film = find_film(edit)
    except InputError as error:
        return Check("picture_difference", False, str(error), f"<= {FOREIGN_DIFFERENCE}")
    worst = 0.0
    for cut in edit.cuts:
        frames = [cut.start_frame, cut.start_frame + cut.frames - 1]
        for frame, expected in zip(frames, _film_pictures(film, cut, edit.output.frame_rate), strict=True):
            if frame in seen.kept:
                worst = max(worst, float(np.mean(np.abs(seen.kept[frame].astype(np.int16) - expected)[rows])))
    return Check("picture_difference", worst <= FOREIGN_DIFFERENCE, round(worst, 2), f"<= {FOREIGN_DIFFERENCE}")


def _film_pictures(film: Film, cut: Cut, rate: Fraction) -> list[F32]:
    times = [cut.source.start, cut.source.start + float((cut.frames - 1) / rate)]
    pictures = []
    for frame in read_pictures(film, times):
        rgb = frame.to_ndarray(
            format="rgb24", width=min(frame.width, THUMBNAIL_WIDTH * 2), height=min(frame.height, THUMBNAIL_WIDTH * 2)
        )
        turned = np.rot90(rgb, film.rotation // 90)
        gray = cv2.cvtColor(np.ascontiguousarray(turned), cv2.COLOR_RGB2GRAY)
        pictures.append(np.asarray(cv2.resize(gray, GRAY_SIZE, interpolation=cv2.INTER_AREA), np.float32))
    return pictures


def _check_pictures(seen: _Seen, rate: Fraction, cards: Sequence[tuple[int, int]]) -> list[Check]:
    luma = np.array(seen.luma)
    story = np.ones(len(luma), bool)
    for start, end in cards:
        story[start:end] = False
    black = _longest((luma[:, 0] < BLACK_LUMA) & (luma[:, 1] < BLACK_DEVIATION) & story) / float(rate)
    frozen = _longest((np.array(seen.change) < SAME_PICTURE) & story) / float(rate)
    return [
        Check("longest_black_seconds", black <= LONGEST_BLACK, round(black, 3), f"<= {LONGEST_BLACK}"),
        Check("longest_frozen_seconds", frozen <= LONGEST_FROZEN, round(frozen, 3), f"<= {LONGEST_FROZEN}"),
    ]


def _longest(flags: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


def _longest_silence(samples: F32, until: float) -> float:
    """Longest silent stretch in seconds before `until` seconds."""
    size = round(WINDOW * SOUND_RATE)
    count = min(len(samples), round(until * SOUND_RATE)) // size
    power = np.mean(samples[: count * size].reshape(count, size) ** 2, axis=1) if count else np.zeros(0)
    return _longest(power < 10 ** (SILENCE_DB / 10)) * WINDOW
