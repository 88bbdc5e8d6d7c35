"""Measure what a finished file is, whatever it shows: its streams, tags and size, and whether it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.quality_pictures import Seen
from pipeline.records import Check, EditList

MP4 = "mp4"  # among the names that libavformat gives an MP4's container
# what players of each container decode; the trailers made here are H.264 and AAC in MP4
VIDEO_CODECS = ("h264", "hevc", "av1")
AUDIO_CODECS = ("aac",)
FOREIGN_VIDEO = {True: VIDEO_CODECS, False: (*VIDEO_CODECS, "vp8", "vp9")}  # in MP4, in WebM and Matroska
FOREIGN_AUDIO = {
    True: ("aac", "ac3", "eac3", "mp3", "opus", "flac", "alac"),
    False: ("aac", "ac3", "eac3", "mp3", "opus", "flac", "vorbis", "dts"),
}
TEN_BIT = ("hevc", "av1", "vp9")  # players decode these codecs' 10 bits a sample, and nobody's of H.264
LEAST_MBPS = 0.005  # a picture of 64 pixels over a steady tone needs more; less is a header
ENDS_WITHIN = 0.5  # s between the length that a container claims and what decodes; the last picture may be held
# ITU-T H.273
UNSAID = "unsaid"
PRIMARIES = {1: "bt709", 2: UNSAID, 5: "bt470bg", 6: "smpte170m", 9: "bt2020", 12: "p3"}
TRANSFERS = {1: "bt709", 2: UNSAID, 6: "smpte170m", 13: "srgb", 14: "bt2020", 16: "pq", 18: "hlg"}
MATRICES = {0: "rgb", 1: "bt709", 2: UNSAID, 5: "bt470bg", 6: "smpte170m", 9: "bt2020"}
RANGES = {1: "tv", 2: "full"}


def check_file(seen: Seen, path: Path, edit: EditList | None, most_mbps: float) -> list[Check]:
    """Streams, tags and size of a file; without an edit list, of anybody's trailer in any container."""
    streams = seen.streams
    mp4 = MP4 in streams.container.split(",")
    videos = FOREIGN_VIDEO[mp4] if edit is None else VIDEO_CODECS
    sounds = FOREIGN_AUDIO[mp4] if edit is None else AUDIO_CODECS
    checks = [
        Check("video_codec", streams.video_codec in videos, streams.video_codec or "none", _either(videos)),
        Check("audio_codec", streams.audio_codec in sounds, streams.audio_codec or "none", _either(sounds)),
    ]
    if seen.times:
        formats = ["yuv420p"]
        if edit is None and streams.video_codec in TEN_BIT:
            formats.append("yuv420p10le")
        fits = streams.pixel_format in formats
        checks.append(Check("pixel_format", fits, streams.pixel_format, _either(formats)))
    damage = streams.damage
    lost = damage.packets + damage.pictures + len(damage.notes)
    checks.append(Check("damaged_packets", lost == 0, float(lost), "0"))
    if mp4:
        first = _index_first(path)
        checks.append(Check("faststart", first, "moov first" if first else "moov last", "moov first"))
    checks.append(_check_size(seen, path, most_mbps))
    if edit is None and streams.seconds:
        checks.append(_check_end(seen))
    return checks


def _either(names: tuple[str, ...] | list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def check_colour(seen: Seen, tags: Mapping[str, str]) -> Check:
    """One set of tags on every picture, these (colours.Colours), and the range that televisions take.

    tags: empty where the film says nothing, and players guess of the trailer what they guess of the film.
    """
    told = [_name_colour(colour) for colour in sorted(seen.colours)]
    names, scale = _list_names(next(iter(seen.colours)))
    wanted = [tags.get(key) for key in ("color_primaries", "color_trc", "colorspace")]
    named = all(name in (None, found) for name, found in zip(wanted, names, strict=True))
    passed = len(told) == 1 and named and scale != RANGES[2]
    limit = f"{'/'.join(name or 'any' for name in wanted)} tv, the same throughout"
    return Check("colour", passed, "; ".join(told), limit)


def _list_names(colour: tuple[int, int, int, int]) -> tuple[list[str], str]:
    """Names of primaries, transfer and matrix, and of the range."""
    tables = zip((PRIMARIES, TRANSFERS, MATRICES), colour[:3], strict=True)
    return [table.get(number, str(number)) for table, number in tables], RANGES.get(colour[3], UNSAID)


def _name_colour(colour: tuple[int, int, int, int]) -> str:
    names, scale = _list_names(colour)
    return f"{'/'.join(names)} {scale}"


def _check_size(seen: Seen, path: Path, most_mbps: float) -> Check:
    size = path.stat().st_size / 1e6
    seconds = max(seen.end, seen.heard.end, 0.1)
    least, most = (mbps * seconds / 8 for mbps in (LEAST_MBPS, most_mbps))
    return Check("size_megabytes", least <= size <= most, round(size, 3), f"{least:.2g} to {most:.4g}")


def _check_end(seen: Seen) -> Check:
    """Hold what decodes against the length that the container claims: a file that was cut off ends sooner."""
    end = max(seen.end, seen.heard.end)
    start = min(time for time in (seen.start, seen.heard.start) if time is not None)
    claimed = seen.streams.seconds
    apart = min(abs(claimed - end), abs(claimed - (end - start)))  # Matroska's counts from 0 on, MP4's from the start
    return Check("duration_seconds", apart <= ENDS_WITHIN, round(end - start, 3), f"{claimed:.3f} ± {ENDS_WITHIN}")


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
