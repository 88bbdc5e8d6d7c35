"""Find a film's subtitles, beside it or inside it, and read what is said from them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.subtitles.stream import SubtitleStream as AvSubtitleStream
from av.subtitles.subtitle import AssSubtitle

from pipeline.cuefiles import mend_ends, read_cue_file, read_event
from pipeline.cues import Cue, make_lines
from pipeline.errors import InputError
from pipeline.languages import UNKNOWN, find_language, normalise_language
from pipeline.media import check_readable, fingerprint_file, open_media
from pipeline.records import Film, Line, Span
from pipeline.script import Lines
from pipeline.settings import LineSettings
from pipeline.sound import choose_sound
from pipeline.textcodes import decode_text

SUBTITLE_SUFFIXES = frozenset({".srt", ".ass", ".ssa", ".vtt", ".sub"})
OTHER_SUFFIXES = frozenset({".sbv", ".ttml", ".ttxt", ".dfxp", ".xml", ".smi", ".txt"})  # read where they are named
VIDEO_SUFFIX = r"\.(?:mkv|mp4|m4v|avi|mov|webm|ts|m2ts|mts|mpe?g|wmv|flv|ogv|vob|divx|mxf)"
SUBTITLE_FOLDERS = frozenset({"subs", "subtitles"})
TEXT_CODECS = frozenset(
    ["srt", "subrip", "ass", "ssa", "webvtt", "mov_text", "text", "subviewer", "subviewer1", "microdvd", "mpl2", "sami"]
)
# Of these, what a packet holds is text as it is; it can be read although it is not the UTF-8 that it should be.
PLAIN_CODECS = frozenset({"srt", "subrip", "text", "webvtt"})

FORCED = frozenset({"forced", "foreign", "signs", "songs"})
COMMENTARY = frozenset({"commentary", "comment", "comments"})
FOR_DEAF = frozenset({"sdh", "cc", "hi", "hearing", "captions"})

MOST_LATE_SHARE = 0.1  # of the lines may lie past the film's end
MOST_LATE_SECONDS = 60.0  # by which the last of them may


@dataclass(frozen=True, slots=True)
class Source:
    """A film's subtitles that can be tried: a file, or a stream of the film.

    path: the subtitle file, or the film. stream: index in the film's container, -1 for a file. language: two letters, "und"
    unknown. title: what it is, in words. fingerprint: knows it again (beside the film's own fingerprint). named: the
    user asked for it. zero: seconds on the film's clock at which the source's own times begin; frame_rate: the film's.
    """

    kind: Literal["file", "stream"]
    path: Path
    language: str
    title: str
    fingerprint: str
    stream: int = -1
    named: bool = False
    zero: float = 0.0
    frame_rate: Fraction = Fraction(24)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a name or a container says about subtitles. partial: they say only some of what is said, or something else."""

    language: str
    partial: bool
    for_deaf: bool


def find_sources(
    film: Film, settings: LineSettings, named: Path | None = None, *, heard: str = ""
) -> tuple[Source, ...]:
    """Where the film's lines may come from, in the order in which to try.

    named alone where it is given. Else the files beside the film that are called as media servers call them
    (Film.en.srt, Film.en.forced.srt, also in a folder Subs), and the text streams inside the film: those in the wanted
    language (else that of the film's sound, else English, else unknown, else any), a file before a stream, plain ones before
    ones for the deaf; forced ones and commentaries last. With settings.language none of another known language is used.
    heard: the language of the sound that is asked for, see choose_sound.
    Raises InputError for a named file that is not there or cannot be read.
    """
    if named is not None:
        check_readable(named, "subtitle file")
        kind = _read_name(named.stem.split(".")[1:])
        return (_make_file_source(film, named, kind.language, named=True),)
    ranked: list[tuple[tuple[bool, int, bool, bool, int], Source]] = []
    for number, (kind, source) in enumerate([*_find_files(film), *_find_streams(film)]):
        rank = _rank_language(kind.language, find_spoken_language(film, heard), normalise_language(settings.language))
        if rank is not None:
            ranked.append(((kind.partial, rank, source.kind == "stream", kind.for_deaf, number), source))
    return tuple(source for _, source in sorted(ranked, key=lambda pair: pair[0]))


def _rank_language(language: str, spoken: str, wanted: str) -> int | None:
    """0 for the best; None for one that may not be used."""
    if wanted != UNKNOWN:
        return {wanted: 0, UNKNOWN: 1}.get(language)
    if language == spoken != UNKNOWN:
        return 0
    return {"en": 1, UNKNOWN: 2}.get(language, 3)


def find_spoken_language(film: Film, heard: str = "") -> str:
    """The language of the sound that a viewer hears, as its track says; "und" unknown. heard: the one asked for."""
    sound = choose_sound(film.audio, heard)
    return normalise_language(sound.language) if sound else UNKNOWN


def _make_file_source(film: Film, path: Path, language: str, *, named: bool = False) -> Source:
    try:
        fingerprint = fingerprint_file(path)
    except OSError:
        fingerprint = "unreadable"  # reading it will say why
    title = f"subtitle file {path.name}"
    return Source("file", path, language, title, fingerprint, -1, named, film.start, film.frame_rate)


def _find_files(film: Film) -> Iterator[tuple[_Kind, Source]]:
    stem = _fold(film.path.stem)
    beside = _list_folder(film.path.parent)
    films = [_fold(path.stem) for path in beside if re.fullmatch(VIDEO_SUFFIX, path.suffix.lower())]
    longer = [other for other in films if other.startswith(f"{stem}.")]  # Film.2.mkv has its own Film.2.en.srt
    alone = all(other.startswith(stem) for other in films)  # its own trailer beside it does not count
    folders = [path for path in beside if _fold(path.name) in SUBTITLE_FOLDERS]
    inner = [path for folder in folders for path in _list_folder(folder)]
    own = [path for folder in inner if _fold(folder.name) == stem for path in _list_folder(folder)]
    for path in [*beside, *inner, *own]:
        if path.suffix.lower() not in SUBTITLE_SUFFIXES or not path.is_file():
            continue
        name = _fold(path.stem)
        if name == stem or name.startswith(f"{stem}."):
            if any(name == other or name.startswith(f"{other}.") for other in longer):
                continue
            rest = unicodedata.normalize("NFC", path.stem)[len(unicodedata.normalize("NFC", film.path.stem)) :]
        elif path in own or (path in inner and alone):  # Subs/2_English.srt
            rest = path.stem
        else:
            continue
        kind = _read_name([rest])
        yield kind, _make_file_source(film, path, kind.language)


def _list_folder(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError:  # a folder that may not be looked into holds nothing for us
        return []


def _fold(name: str) -> str:
    """A file name for comparing: case and the two ways of writing an accent do not matter."""
    return unicodedata.normalize("NFC", name).casefold()


def _read_name(parts: list[str]) -> _Kind:
    """What the part of a file's name after the film's says: .pt-BR.forced, 2_English, [SDH]."""
    words = [word for part in parts for word in re.split(r"[.\s_()\[\],]+", part) if word]
    low = {piece for word in words for piece in word.lower().split("-")}
    language = find_language([word for word in words if word.lower() != "hi"])
    hindi = language == UNKNOWN and "hi" in low  # Film.hi.srt is Hindi, Film.en.hi.srt is for the hearing impaired
    return _Kind(
        language="hi" if hindi else language,
        partial=bool(low & (FORCED | COMMENTARY)),
        for_deaf=bool(low & FOR_DEAF) and not hindi,
    )


def _find_streams(film: Film) -> Iterator[tuple[_Kind, Source]]:
    streams = [stream for stream in film.subtitles if stream.codec in TEXT_CODECS]
    if not streams:
        return
    with open_media(film.path) as container:
        marks = {stream.index: Disposition(stream.disposition) for stream in container.streams}
    for stream in streams:
        mark = marks.get(stream.index, Disposition(0))
        said = _read_name([stream.title])
        language = normalise_language(stream.language)
        kind = _Kind(
            language=said.language if language == UNKNOWN else language,
            partial=said.partial or bool(mark & (Disposition.forced | Disposition.comment)),
            for_deaf=said.for_deaf or bool(mark & Disposition.hearing_impaired),
        )
        words = ", ".join(word for word in (stream.language, stream.title) if word and word != UNKNOWN)
        title = f"subtitle track {stream.index}{f' ({words})' if words else ''} of {film.path.name}"
        fingerprint = f"stream {stream.index}"
        yield (
            kind,
            Source("stream", film.path, kind.language, title, fingerprint, stream.index, frame_rate=film.frame_rate),
        )


def read_source(source: Source) -> tuple[Cue, ...]:
    """The source's cues in seconds on the film's clock, with their markup.

    A file's times count from the film's first picture, a stream's are on the film's clock as they are. Raises InputError,
    naming the path, where nothing in it can be used.
    """
    if source.kind == "stream":
        return _read_stream(source)
    cues = read_cue_file(source.path, language=source.language, frame_rate=source.frame_rate)
    return tuple(replace(cue, start=source.zero + cue.start, end=source.zero + cue.end) for cue in cues)


def _read_stream(source: Source) -> tuple[Cue, ...]:
    found: list[tuple[float, float, str]] = []
    undecoded: list[tuple[float, float, bytes]] = []
    with open_media(source.path) as container:
        stream = next((s for s in container.streams.subtitles if s.index == source.stream), None)
        if stream is None:
            raise InputError(f"{source.path} has no subtitle track {source.stream}")
        for other in container.streams:
            if other.index != source.stream:
                other.discard = Discard.all  # pictures and sound are not even read where the container allows
        for start, end, content in _read_packets(container.demux(stream), stream):
            if isinstance(content, str):
                found.append((start, end, content))
            else:
                undecoded.append((start, end, content))
    if undecoded:  # together: a code shows better in much text than in little
        texts = decode_text(b"\n\x1e\n".join(content for _, _, content in undecoded), source.language).split("\n\x1e\n")
        found += [(start, end, text) for (start, end, _), text in zip(undecoded, texts, strict=True)]
    cues = tuple(mend_ends(found))
    if not cues:
        raise InputError(f"the {source.title} holds no text")
    return cues


def _read_packets(
    packets: Iterator[Packet[AvSubtitleStream]], stream: AvSubtitleStream
) -> Iterator[tuple[float, float, str | bytes]]:
    """(start, end, what is shown) of each packet; bytes where it is not in UTF-8, which the decoder refuses."""
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:  # the container ends in a broken place: what came before is good
            return
        if packet is None:
            return
        if packet.pts is None or packet.time_base is None or not packet.size:
            continue
        start = float(packet.pts * packet.time_base)
        end = start + float((packet.duration or 0) * packet.time_base)
        try:
            rects = packet.decode()
        except FFmpegError:
            if stream.codec_context.name in PLAIN_CODECS:
                yield start, end, bytes(packet)
            continue
        for rect in rects:
            if isinstance(rect, AssSubtitle):
                text = read_event(rect.ass.decode("utf-8", "replace"))
                if text:
                    yield start, end, text


def read_lines(
    film: Film,
    settings: LineSettings,
    sources: Sequence[Source],
    *,
    recognise: Callable[[Film], tuple[Cue, ...]] | None = None,
    heard: str = "",
) -> Lines:
    """The film's lines from the first of the sources that can be used; none of them: from its sound, if recognise is given.

    A source that cannot be read, says nothing, or is of another film (too many of its lines lie past the film's end) is left
    out with a warning. recognise: film -> cues on its clock, such as speech.recognise_speech. Raises InputError where a file
    that the user named cannot be read.
    """
    warnings: list[str] = []
    if not sources and normalise_language(settings.language) != UNKNOWN:
        others = find_sources(film, settings.model_copy(update={"language": ""}))
        if others:
            there = ", ".join(f"{source.title} ({source.language})" for source in others)
            warnings.append(f"no subtitles in {settings.language} were found; there are: {there}")
    for source in sources:
        try:
            cues = read_source(source)
        except InputError as error:
            if source.named:
                raise
            warnings.append(f"{error}; it is not used")
            continue
        lines, problem = _fit_lines(make_lines(cues), film)
        if problem:
            warnings.append(f"the {source.title} {problem}")
        if lines:
            return Lines(film.fingerprint, lines, source.title, source.language, tuple(warnings))
    if recognise is not None:
        lines, _ = _fit_lines(make_lines(recognise(film)), film)
        language = normalise_language(settings.language)
        language = find_spoken_language(film, heard) if language == UNKNOWN else language
        if lines:
            return Lines(
                film.fingerprint, lines, f"speech recognition ({settings.speech_model})", language, tuple(warnings)
            )
        warnings.append("speech recognition heard nobody speak")
    return Lines(film.fingerprint, (), warnings=tuple(warnings))


def _fit_lines(lines: Sequence[Line], film: Film) -> tuple[tuple[Line, ...], str]:
    """The lines that lie within the film, cut to it, and what was wrong; no lines where they are of another film."""
    if not lines:
        return (), "holds no spoken line; it is not used"
    late = [line for line in lines if line.span.start >= film.end]
    if late:
        beyond = late[-1].span.start - film.end
        figures = f"{len(late)} of {len(lines)} lines begin after the film's end, the last {beyond:.0f} s after it"
        if len(late) > MOST_LATE_SHARE * len(lines) or beyond > MOST_LATE_SECONDS:
            return (), f"is of another film, or of another cut of it: {figures}; it is not used"
    kept = tuple(
        Line(line.text, Span(max(line.span.start, film.start), min(line.span.end, film.end)))
        for line in lines
        if line.span.start < film.end and line.span.end > film.start
    )
    return kept, f"runs on past the film: {figures}; they are left out" if late else ""


def read_alone(path: Path) -> Lines:
    """The lines of a subtitle file whose film is not at hand, on the file's own clock.

    Frames of a MicroDVD file count as 24 a second unless it says otherwise. Raises InputError as read_source does.
    """
    check_readable(path, "subtitle file")
    language = _read_name(path.stem.split(".")[1:]).language
    cues = read_cue_file(path, language=language, frame_rate=Fraction(24))
    return Lines(fingerprint_file(path), make_lines(cues), f"subtitle file {path.name}", language)
