"""What an editor gets is what the edit list says, to the frame, read again by OpenTimelineIO's own adapters."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

import opentimelineio as otio
import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decode import read_pictures
from pipeline.editfile import edit_to_json
from pipeline.errors import InputError
from pipeline.handoff import export_edit
from pipeline.handoff_media import find_picture, read_timecode
from pipeline.media import find_ffmpeg, fingerprint_file, probe_film, run_ffmpeg
from pipeline.records import Card, Cut, EditList, Film, Music, Placement, Span
from pipeline.timecode import format_timecode, parse_timecode
from tests.conftest import Answer
from tests.plans import plan_edit, take
from tests.synthetic import barcode_film, click_track, read_barcode, vfr_timestamps

NTSC_FILM, NTSC, NTSC_TWICE = Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)
# rate, time code of the trailer's first frame, of the film's first picture ("": it has none)
KINDS = [
    (NTSC_FILM, "01:00:00:00", ""),
    (NTSC_FILM, "00:59:58:12", "01:00:00:00"),
    (Fraction(24), "01:00:00:00", "01:00:00:00"),
    (Fraction(25), "10:00:00:00", ""),
    (NTSC, "01:00:00:00", "01:00:00:00"),
    (NTSC, "00:59:59;00", "01:00:00;00"),
    (NTSC_TWICE, "01:00:00:00", ""),
    (NTSC_TWICE, "00:09:59;30", "00:59:58;00"),
]
SHOT = 41
NASTY = "“He said 'no'\n<script>alert(\"1\")</script> & 🎬"
FLAT = " ".join(NASTY.split())
# source picture, frames, dissolve, speed; a card stands between the second and the third
CUTS = ((10, 40, 0, 1.0), (60, 30, 9, 1.0), (100, 30, 0, 0.8), (150, 25, 0, 1.0))
CARD = (70, 20)  # where it lies, and how long
STARTS = (0, 40, 90, 120)
TOTAL = 145
LINE_STARTS = (12, 100)


@dataclass(frozen=True)
class Case:
    edit: EditList
    path: Path
    rate: Fraction
    start: str
    drop: bool
    first: int  # number of the trailer's first frame
    film_first: int  # and of the film's
    folder: Path

    def export(self, name: str, **how: Any) -> Path:
        out = self.folder / name
        export_edit(self.path, out, start=self.start, **how)
        return out


def write_edit(edit: EditList, path: Path) -> Path:
    path.write_text(edit_to_json(edit), encoding="utf-8")
    return path


def plan(film: Film, track: Path, *, rate: Fraction | None = None) -> EditList:
    """The edit list of the cuts above, with two lines, beats, a looped track and a fade."""
    pictures = rate or film.frame_rate

    def at(picture: float) -> float:
        return film.start + float((Fraction(picture) + Fraction(1, 4)) / film.frame_rate)

    cuts = [
        take(film, at(source), frames, rate=pictures, dissolve=dissolve, speed=speed, sound=speed == 1)
        for source, frames, dissolve, speed in CUTS
    ]
    pieces = [*cuts[:2], Card(NASTY, 0, CARD[1], "a note"), *cuts[2:]]
    seconds = float(TOTAL / pictures)
    music = Music(
        track,
        fingerprint_file(track),
        0.75,
        (0.0,),
        beats=(0.0, 0.5, 1.0, 1.5, 2.0),
        parts=(Span(0.75, 0.75 + seconds / 3), Span(2.0, 2.0 + 2 * seconds / 3)),
        fade_seconds=0.5,
    )
    edit = plan_edit(film, pieces, rate=rate, music=music)
    lines = (
        Placement(6, NASTY, Span(film.start + 1.0, film.start + 1.5), 0, LINE_STARTS[0], 0.5),
        Placement(7, "Twice. --> so", Span(0.25, 0.6), 2, LINE_STARTS[1], 0.5, track),
    )
    return replace(
        edit,
        title=NASTY,
        cuts=tuple(replace(cut, shot=SHOT, slot=n) for n, cut in enumerate(edit.cuts)),
        narration=lines,
        shots=edit.shots * (SHOT + 1),
    )


def stamp(film: Path, code: str) -> Film:
    """The same film with a time code, as a camera writes it."""
    if not code:
        return probe_film(film)
    out = film.with_name(f"{film.stem}-{re.sub(r'[^0-9]', '', code)}{'d' if ';' in code else ''}.mov")
    run_ffmpeg(find_ffmpeg(), ["-v", "error", "-i", str(film), "-c", "copy", "-timecode", code, str(out)], timeout=60)
    return probe_film(out)


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("track") / "the song's own.wav"
    click_track(path, bpm=120, seconds=12)
    return path


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, track: Path) -> Callable[[int], Case]:
    folder = tmp_path_factory.mktemp("films")
    films: dict[Fraction, Path] = {}
    made: dict[int, Case] = {}

    def find(number: int) -> Case:
        rate, start, code = KINDS[number]
        if rate not in films:
            films[rate] = folder / f"a film & more {float(rate):.2f}.mp4"
            barcode_film(films[rate], frame_rate=rate, shots=(200,), size=(64, 36))
        if number not in made:
            film = stamp(films[rate], code)
            assert film.frame_rate == rate
            assert read_timecode(film.path) == code
            own = folder / f"edit{number}"
            own.mkdir()
            edit = plan(film, track)
            first, drop = parse_timecode(start, rate)
            made[number] = Case(
                edit,
                write_edit(edit, own / "t.edit.json"),
                rate,
                start,
                drop,
                first,
                parse_timecode(code, rate)[0] if code else 0,
                own,
            )
        return made[number]

    return find


@pytest.fixture(params=range(len(KINDS)), ids=lambda n: f"{float(KINDS[n][0]):.2f}-{KINDS[n][1]}-{KINDS[n][2]}")
def case(request: pytest.FixtureRequest, cases: Callable[[int], Case]) -> Case:
    return cases(request.param)


@pytest.fixture
def simple(cases: Callable[[int], Case], tmp_path: Path) -> Case:
    """The case of 24 frames a second whose film begins at one hour, writing to a folder of the test's own."""
    return replace(cases(2), folder=tmp_path)


def expect(case: Case) -> list[tuple[int, int, int]]:
    """Record in, record out and source in of each cut, in numbers of frames from 0 and from the film's own start."""
    rows = zip(STARTS, CUTS, strict=True)
    return [(start, start + frames, case.film_first + source) for start, (source, frames, _, _) in rows]


def number_of(code: str, rate: Fraction) -> int:
    """A time code's frame, by OpenTimelineIO, which counts them with code of its own."""
    return round(otio.opentime.from_timecode(code, float(rate)).value)


# --- time codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "drop"),
    [
        (NTSC_FILM, False),
        (Fraction(24), False),
        (Fraction(25), False),
        (NTSC, False),
        (NTSC, True),
        (NTSC_TWICE, False),
        (NTSC_TWICE, True),
    ],
)
@given(frame=st.integers(0, 24 * 3600 * 24 - 1))
def test_time_codes_are_those_of_opentimelineio(rate: Fraction, drop: bool, frame: int) -> None:
    code = format_timecode(frame, rate, drop=drop)
    theirs = otio.opentime.RationalTime(frame, float(rate))
    assert code == otio.opentime.to_timecode(theirs, float(rate), drop)
    assert parse_timecode(code, rate) == (frame, drop)


def test_drop_frame_leaves_numbers_out() -> None:
    assert [format_timecode(frame, NTSC, drop=True) for frame in (1799, 1800, 17981, 17982)] == [
        "00:00:59;29",
        "00:01:00;02",
        "00:09:59;29",
        "00:10:00;00",
    ]
    assert parse_timecode("01:00:00;00", NTSC) == (107892, True)
    for bad in ("00:01:00;00", "00:01:00;30", "24:00:00:00", "1:00:00:00", "", "00:00:61:00"):
        with pytest.raises(ValueError, match=r"time code|leaves out"):
            parse_timecode(bad, NTSC)
    with pytest.raises(ValueError, match=r"29\.97 and 59\.94"):
        parse_timecode("00:00:00;00", Fraction(25))


@pytest.mark.parametrize("rate", [NTSC_FILM, Fraction(25), NTSC_TWICE])
def test_the_picture_is_the_one_on_screen(rate: Fraction) -> None:
    """Times a quarter into a picture and on its edge, exact and as Matroska rounds them, hours into a film."""
    for picture in (0, 1, 7, 215_999, 431_997):
        for start in (0.0, 1.4):
            exact = Fraction(picture) / rate
            for time in (exact, exact + Fraction(1, 4) / rate, Fraction(round(exact * 1000), 1000)):
                assert find_picture(float(time) + start, start, rate) == picture


@pytest.mark.parametrize("name", ["t.mkv", "t.mp4"])
def test_the_source_frame_is_the_one_that_the_trailer_shows(name: str, track: Path, tmp_path: Path) -> None:
    """The number in the picture that the render takes at a cut's start, and the one that an editor is sent to."""
    barcode_film(tmp_path / name, frame_rate=NTSC_FILM, shots=(60, 60), clicks=False)
    film = probe_film(tmp_path / name)
    times = [film.start + float((Fraction(p) + Fraction(1, 4)) / NTSC_FILM) for p in range(0, 100, 7)]
    pieces = [take(film, time, 5) for time in times]
    edit = plan_edit(film, pieces, music=Music(track, fingerprint_file(track), 0.0, (0.0,)))
    out = tmp_path / "t.otio"
    export_edit(write_edit(edit, tmp_path / "t.edit.json"), out)
    timeline = otio.adapters.read_from_file(str(out))
    clips = timeline.tracks[0].find_clips()
    shown = [read_barcode(frame.to_ndarray(format="bgr24")) for frame in read_pictures(film, times)]
    assert [clip.source_range.start_time.value for clip in clips] == shown
    assert shown == list(range(0, 100, 7))


# --- the formats ------------------------------------------------------------------------------------------------------


def test_otio(case: Case) -> None:
    timeline = otio.adapters.read_from_file(str(case.export("t.otio")))
    assert timeline.global_start_time.value == case.first
    picture, film, first_lines, music = timeline.tracks
    assert (film.name, first_lines.name, music.name) == ("Film", "Dialogue", "Music")
    clips = [clip for clip in picture if isinstance(clip, otio.schema.Clip)]
    assert [clip.name for clip in clips] == ["shot 041", "shot 041", FLAT, "shot 041", "shot 041"]
    rows = []
    for clip in clips:
        place = picture.range_of_child(clip)
        assert place.start_time.rate == pytest.approx(float(case.rate), abs=1e-9)
        rows.append(
            (place.start_time.value, place.end_time_exclusive().value, clip.source_range.start_time.value, clip)
        )
    cuts = [row[:3] for row in rows if isinstance(row[3].media_reference, otio.schema.ExternalReference)]
    assert cuts == expect(case)
    assert rows[2][:2] == (CARD[0], sum(CARD))
    assert dict(rows[2][3].media_reference.parameters) == {"text": NASTY, "note": "a note"}
    assert [fx.time_scalar for clip in clips for fx in clip.effects] == [0.8]
    (dissolve,) = [item for item in picture if isinstance(item, otio.schema.Transition)]
    assert picture.index(dissolve) == 1
    assert (dissolve.in_offset.value, dissolve.out_offset.value) == (0, 9)
    whole = clips[0].available_range()
    assert (whole.start_time.value, whole.duration.value) == (case.film_first, 200)
    sounds = [film.range_of_child(clip).start_time.value for clip in film if isinstance(clip, otio.schema.Clip)]
    assert sounds == [STARTS[0], STARTS[1], STARTS[3]]  # not under the slowed-down one
    assert [clip.source_range.start_time.value for clip in film.find_clips()] == [
        case.film_first + CUTS[n][0] for n in (0, 1, 3)
    ]
    lines = list(first_lines.find_clips())
    assert [first_lines.range_of_child(clip).start_time.value for clip in lines] == list(LINE_STARTS)
    assert lines[0].metadata["trailer-pipeline"]["text"] == NASTY
    assert lines[0].source_range.start_time.value == case.film_first + round(case.rate)  # 1 s into the film
    assert lines[1].source_range.start_time.to_seconds() == pytest.approx(0.25, abs=1e-4)
    check_music(music, case)
    marks = [(mark.marked_range.start_time.value, mark.name) for mark in timeline.tracks.markers]
    assert marks == expected_marks(case)


def expected_marks(case: Case) -> list[tuple[int, str]]:
    marks = [(round(beat * case.rate), "beat") for beat in (0, 0.5, 1, 1.5, 2) if round(beat * case.rate) < TOTAL]
    lines = [(LINE_STARTS[0], f"line 7: {FLAT}"), (LINE_STARTS[1], "line 8: Twice. --> so")]
    return sorted(lines + marks, key=lambda mark: (mark[0], mark[1] == "beat"))


def check_music(music: Any, case: Case) -> None:
    """Each part begins where it is heard in the trailer, to the sample, and the last one fades."""
    parts = list(music.find_clips())
    edges = [music.range_of_child(part).start_time.value for part in parts]
    middle = case.edit.music.parts[0].duration
    assert edges == [0, round(middle * case.rate)]
    heard = [part.source_range.start_time.to_seconds() for part in parts]
    assert heard == pytest.approx([0.75, 2.0 + float(edges[1] / case.rate) - middle], abs=1e-4)
    assert isinstance(music[-1], otio.schema.Transition)
    assert music[-1].in_offset.value == round(case.rate / 2)


def list_events(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if re.match(r"\d{3} ", line)]


def test_edl(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    text = case.export("t.edl").read_text(encoding="utf-8")
    assert text.startswith(f"TITLE: {FLAT}\nFCM: {'DROP FRAME' if case.drop else 'NON-DROP FRAME'}\n\n001 ")
    for what in ("lettering", "fade", "levels", "M2"):
        assert what in caplog.text
    assert len([r for r in caplog.records if "does not carry" in r.getMessage()]) == 1
    events = list_events(text)
    video = [event for event in events if event[2] == "V"]
    codes = [[number_of(code, case.rate) for code in event[-4:]] for event in video]
    assert all(code[8] == (";" if case.drop else ":") for event in video for code in event[-2:])
    # the picture, with the line that a dissolve begins with: nothing of what went before
    cuts, edge = [codes[n] for n in (0, 2, 4, 5)], codes[1]
    assert [(c[2] - case.first, c[3] - case.first, c[0]) for c in cuts] == expect(case)
    assert [c[1] - c[0] for c in cuts] == [40, 30, 24, 25]
    assert edge == [case.film_first + 50, case.film_first + 50, case.first + 40, case.first + 40]
    assert video[2][3:5] == ["D", "009"]
    assert (video[3][1], codes[3][2] - case.first, codes[3][3] - case.first) == ("BL", CARD[0], sum(CARD))
    assert {event[1] for event in events} == {"AFILMMOR", "THESONGS", "BL"}
    marks = [line.split(maxsplit=4) for line in text.splitlines() if line.startswith("* LOC:")]
    assert [(number_of(m[2], case.rate) - case.first, m[4]) for m in marks] == expected_marks(case)
    assert "<script>" in text
    assert "🎬" in text
    # and as the adapter reads it
    timeline = otio.adapters.read_from_string(text, "cmx_3600", rate=float(case.rate))
    tracks = {track.name: track for track in timeline.tracks}
    assert set(tracks) == {"V", "A1", "A2", "A3"}
    clips = list(tracks["V"].find_clips())
    own = [clip for clip in clips if isinstance(clip.media_reference, otio.schema.ExternalReference)]
    assert [clip.source_range.start_time.value for clip in own] == [row[2] for row in expect(case)]
    assert [clip.source_range.duration.value for clip in own] == [frames for _, frames, _, _ in CUTS]
    assert [clip.name for clip in clips] == ["shot 041", "shot 041", FLAT, "shot 041", "shot 041"]
    assert all(Path(clip.media_reference.target_url) == case.edit.film.path for clip in own)
    (slow,) = [fx.time_scalar for clip in clips for fx in clip.effects]
    assert slow == pytest.approx(0.8, abs=0.003)  # M2 has a tenth of a frame a second, of 24 at 23.976
    (dissolve,) = [item for item in tracks["V"] if isinstance(item, otio.schema.Transition)]
    assert dissolve.out_offset.value == 9


def test_fcp7(case: Case) -> None:
    out = case.export("t.xml")
    timeline = otio.adapters.read_from_file(str(out), "fcp_xml")
    assert timeline.name == FLAT
    assert timeline.global_start_time.value == case.first
    picture, film, lines, music = timeline.tracks
    clips = [item for item in picture if isinstance(item, otio.schema.Clip)]
    assert [clip.name for clip in clips] == ["shot 041", "shot 041", FLAT, "shot 041", "shot 041"]
    (dissolve,) = [item for item in picture if isinstance(item, otio.schema.Transition)]
    assert (dissolve.in_offset.value, dissolve.out_offset.value) == (4, 5)
    rows = []
    for clip in clips:
        place, source = picture.range_of_child(clip), clip.source_range.start_time.value
        begin, end = place.start_time.value, place.end_time_exclusive().value
        if picture.index(clip) == 2:  # it begins within its dissolve there, as far in
            begin, source = begin - 4, source - 4
        if picture.index(clip) == 0:
            end -= 4
        rows.append((begin, end, source))
    assert rows[2][:2] == (CARD[0], sum(CARD))
    cuts = [rows[n] for n in (0, 1, 3, 4)]
    slow = next(clip for clip in clips if clip.effects)
    speed = next(p["value"] for p in slow.effects[0].metadata["fcp_xml"]["parameter"] if p["parameterid"] == "speed")
    assert float(speed) == 80
    shown = int((cuts[2][2] - case.film_first) * Fraction(4, 5))  # counted in the slowed-down film
    cuts[2] = (*cuts[2][:2], case.film_first + shown)
    assert cuts == expect(case)
    whole = clips[0].available_range()
    assert (whole.start_time.value, whole.duration.value) == (case.film_first, 200)
    assert [film.range_of_child(c).start_time.value for c in film.find_clips()] == [0, 40, 120]
    assert [lines.range_of_child(c).start_time.value for c in lines.find_clips()] == list(LINE_STARTS)
    assert len(list(music.find_clips())) == 2
    marks = [(mark.marked_range.start_time.value, mark.name) for mark in timeline.tracks.markers]
    assert marks == expected_marks(case)
    tree = ElementTree.parse(out).getroot()
    assert tree.findtext(".//generatoritem/effect/parameter[parameterid='str']/value") == f"{NASTY}\na note"
    assert {e.text for e in tree.iter("displayformat")} >= {"DF" if case.drop else "NDF"}
    stereo = [t for t in tree.findall("./sequence/media/audio/track") if t.get("totalExplodedTrackCount") == "2"]
    assert len(stereo) == 4  # the film's own sound, and the lines, which have both of the film's sides
    assert [e.text for e in stereo[1].findall("./clipitem/sourcetrack/trackindex")] == ["2", "2", "2"]
    ids = [e.get("id") for e in tree.iter("clipitem")]
    assert len(set(ids)) == len(ids)
    assert {e.text for e in tree.iter("linkclipref")} <= set(ids)


def seconds(text: str | None) -> Fraction:
    return Fraction((text or "0s").removesuffix("s"))


def test_fcpxml(case: Case) -> None:
    tree = ElementTree.parse(case.export("t.fcpxml")).getroot()
    rate = case.rate
    durations = [e.get("frameDuration") for e in tree.iter("format")]
    assert durations == [f"{rate.denominator}/{rate.numerator}s"]
    for element in tree.iter():
        for name in ("offset", "start", "duration", "tcStart"):
            if name in element.attrib:  # Final Cut takes nothing between two frames
                assert (seconds(element.get(name)) * rate).denominator == 1, (element.tag, element.attrib)
    sequence = tree.find(".//sequence")
    assert sequence is not None
    assert seconds(sequence.get("tcStart")) * rate == case.first
    assert sequence.get("tcFormat") == ("DF" if case.drop else "NDF")
    spine = sequence.find("spine")
    assert spine is not None
    assert [e.tag for e in spine] == ["asset-clip", "transition", "asset-clip", "title", "asset-clip", "asset-clip"]
    pieces = [e for e in spine if e.tag != "transition"]
    at = Fraction(0)
    for piece in pieces:
        assert seconds(piece.get("offset")) == at
        at += seconds(piece.get("duration"))
    assert at * rate == TOTAL
    rows = [tuple(seconds(e.get(name)) * rate for name in ("offset", "duration", "start")) for e in pieces]
    rows = [(begin, begin + frames, source) for begin, frames, source in rows]
    rows[0] = (rows[0][0], rows[0][1] - 4, rows[0][2])  # the cut lies in the middle of the dissolve of nine
    rows[1] = (rows[1][0] - 4, rows[1][1], rows[1][2] - 4)
    assert rows[2][:2] == (CARD[0], sum(CARD))
    points = [(seconds(p.get("time")), seconds(p.get("value"))) for p in pieces[3].iter("timept")]
    (time0, value0), (time1, value1) = points
    shown = value0 + (rows[3][2] / rate - time0) * (value1 - value0) / (time1 - time0)
    assert (value1 - value0) / (time1 - time0) == Fraction(4, 5)
    rows[3] = (*rows[3][:2], Fraction(int(shown * rate)))
    assert [rows[n] for n in (0, 1, 3, 4)] == expect(case)
    transition = spine.find("transition")
    assert transition is not None
    assert [seconds(transition.get(n)) * rate for n in ("offset", "duration")] == [40, 9]
    asset = tree.find("./resources/asset[@hasVideo='1']")
    assert asset is not None
    assert [seconds(asset.get(n)) * rate for n in ("start", "duration")] == [case.film_first, 200]
    # what hangs on a piece lies on its clock
    marks, sounds = [], []
    for piece, row in zip(pieces, [seconds(p.get("offset")) * rate for p in pieces], strict=True):
        local = seconds(piece.get("start")) * rate
        marks += [(row + seconds(m.get("start")) * rate - local, m.get("value")) for m in piece.findall("marker")]
        for sound in piece.findall("asset-clip"):
            source = seconds(sound.get("start")) * rate
            sounds.append((sound.get("lane"), row + seconds(sound.get("offset")) * rate - local, source))
    assert marks == expected_marks(case)
    assert [(begin, source - case.film_first) for lane, begin, source in sounds if lane == "-1"] == [
        (STARTS[n], CUTS[n][0]) for n in (0, 1, 3)
    ]
    assert [begin for lane, begin, _ in sounds if lane == "-2"] == list(LINE_STARTS)
    assert [style.text for style in pieces[2].findall("./text/text-style")] == [NASTY, "\na note"]
    if rate.denominator == 1:  # the adapter cuts other rates down to whole ones
        (theirs,) = otio.adapters.read_from_file(str(case.folder / "t.fcpxml"), "fcpx_xml")
        track = next(t for t in theirs.tracks if t.name == "0")
        read = [track.range_of_child(c) for c in track.find_clips()]
        assert [(r.start_time.value, r.end_time_exclusive().value) for r in read] == [
            (0, 44),
            (44, 70),
            (90, 120),
            (120, 145),
        ]


@settings(max_examples=20)  # four files each
@given(
    pieces=st.lists(
        st.tuples(
            st.integers(0, 150),  # the picture that it begins with
            st.integers(1, 24),  # frames
            st.sampled_from([0, 0, 1, 2, 3, 8, 24]),  # of dissolve, as far as it can be
            st.sampled_from([1.0, 1.0, 0.9167, 0.5]),
            st.sampled_from([False, False, False, True]),  # a card
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_trailer_says_the_same_in_every_format(
    cases: Callable[[int], Case], track: Path, pieces: list[tuple[int, int, int, float, bool]]
) -> None:
    """Where each piece begins, ends, and what picture of the film it begins with, whatever it is joined by."""
    case = cases(2)
    film = probe_film(case.edit.film.path)
    laid: list[Cut | Card] = []
    for source, frames, dissolve, speed, card in pieces:
        if card:
            laid.append(Card("c", 0, frames))
            continue
        joined = min(dissolve, frames) if laid and isinstance(laid[-1], Cut) else 0
        time = film.start + (source + 0.25) / 24
        laid.append(take(film, time, frames, dissolve=joined, speed=speed, sound=speed == 1))
    music = Music(track, fingerprint_file(track), 0.0, (0.0,))
    edit = plan_edit(film, laid, music=music)
    path = write_edit(edit, case.folder / "any.edit.json")
    planned = [
        (p.start_frame, p.start_frame + p.frames, pieces[n][0] if isinstance(p, Cut) else None)
        for n, p in enumerate(edit.pieces)
    ]
    for name in ("any.otio", "any.edl", "any.xml", "any.fcpxml"):
        export_edit(path, case.folder / name, start="00:00:00:00")
    timeline = otio.adapters.read_from_file(str(case.folder / "any.otio"))
    found = []
    for clip in timeline.tracks[0].find_clips():
        place, own = (
            timeline.tracks[0].range_of_child(clip),
            isinstance(clip.media_reference, otio.schema.ExternalReference),
        )
        source = int(clip.source_range.start_time.value) - case.film_first if own else None
        found.append((int(place.start_time.value), int(place.end_time_exclusive().value), source))
    assert found == planned
    events: dict[str, tuple[int, int, int | None]] = {}
    for event in list_events((case.folder / "any.edl").read_text(encoding="utf-8")):
        if event[2] == "V":  # of two lines of one number the second is what comes
            codes = [number_of(code, case.rate) for code in event[-4:]]
            events[event[0]] = (codes[2], codes[3], None if event[1] == "BL" else codes[0] - case.film_first)
    assert list(events.values()) == planned
    spine = ElementTree.parse(case.folder / "any.fcpxml").getroot().find(".//spine")
    assert spine is not None
    shifts = [p.dissolve // 2 if isinstance(p, Cut) else 0 for p in edit.pieces] + [0]
    found = []
    for number, element in enumerate(e for e in spine if e.tag != "transition"):
        begin, lasts, local = (seconds(element.get(n)) * 24 for n in ("offset", "duration", "start"))
        picture = None
        if element.tag == "asset-clip":
            speed = Fraction(pieces[number][3]).limit_denominator(10**4)
            picture = int((local - shifts[number] - case.film_first) * speed)
        found.append((int(begin) - shifts[number], int(begin + lasts) - shifts[number + 1], picture))
    assert found == planned
    timeline = otio.adapters.read_from_file(str(case.folder / "any.xml"), "fcp_xml")
    found = []
    for number, clip in enumerate(timeline.tracks[0].find_clips()):
        place, shift = timeline.tracks[0].range_of_child(clip), shifts[number]
        picture = None
        if isinstance(clip.media_reference, otio.schema.ExternalReference):
            speed = Fraction(pieces[number][3]).limit_denominator(10**4)
            picture = int((int(clip.source_range.start_time.value) - shift - case.film_first) * speed)
        ends = int(place.end_time_exclusive().value) - shifts[number + 1]
        found.append((int(place.start_time.value) - shift, ends, picture))
    assert found == planned


def test_srt(simple: Case) -> None:
    out = simple.export("t.srt")
    events = pysubs2.load(str(out), keep_html_tags=True)
    assert [event.plaintext for event in events] == [FLAT, "Twice. → so"]
    for event, start, lasts in zip(events, LINE_STARTS, (0.5, 0.375), strict=True):  # whole frames
        assert event.start == pytest.approx(1000 * start / 24, abs=1)
        assert event.end - event.start == pytest.approx(1000 * lasts, abs=1)


def test_lines_that_overlap_lie_on_two_tracks(simple: Case) -> None:
    lines = (*simple.edit.narration, replace(simple.edit.narration[0], line=8, start_frame=18))
    write_edit(replace(simple.edit, narration=lines), simple.folder / "t.edit.json")
    out = simple.folder / "t.otio"
    export_edit(simple.folder / "t.edit.json", out)
    timeline = otio.adapters.read_from_file(str(out))  # what is in it goes with it
    tracks = {track.name: track for track in timeline.tracks}
    starts = {
        name: [track.range_of_child(clip).start_time.value for clip in track.find_clips()]
        for name, track in tracks.items()
        if name.startswith("Dialogue")
    }
    assert starts == {"Dialogue": [12, 100], "Dialogue 2": [18]}


def test_a_track_that_ends_before_the_trailer_is_not_drawn_out(simple: Case) -> None:
    music = replace(simple.edit.music, parts=(), offset=10.0, fade_seconds=0.0)  # of 12 s
    write_edit(replace(simple.edit, music=music), simple.folder / "t.edit.json")
    export_edit(simple.folder / "t.edit.json", simple.folder / "t.otio")
    timeline = otio.adapters.read_from_file(str(simple.folder / "t.otio"))
    (clip,) = timeline.tracks[-1]
    assert (clip.source_range.start_time.to_seconds(), clip.duration().value) == (10.0, 48)


def test_a_silent_film_has_no_track_of_its_own_sound(track: Path, tmp_path: Path) -> None:
    barcode_film(tmp_path / "f.mp4", frame_rate=Fraction(25), shots=(60,), size=(64, 36), sound=False)
    film = probe_film(tmp_path / "f.mp4")
    edit = plan_edit(film, [take(film, 0.01, 50)], music=Music(track, fingerprint_file(track), 0.0, (0.0,)))
    for name in ("t.otio", "t.edl", "t.fcpxml", "t.xml"):
        export_edit(write_edit(edit, tmp_path / "t.edit.json"), tmp_path / name)
    timeline = otio.adapters.read_from_file(str(tmp_path / "t.otio"))
    assert [track.name for track in timeline.tracks] == ["Picture", "Music"]
    said = replace(edit, narration=(Placement(0, "Who?", Span(0.1, 0.5), 0, 0, 1.0),))
    write_edit(said, tmp_path / "t.edit.json")
    with pytest.raises(InputError, match="no sound"):
        export_edit(tmp_path / "t.edit.json", tmp_path / "t.otio")


def test_reels_are_eight_characters_and_one_a_file(track: Path, tmp_path: Path) -> None:
    names = ["a film & more a.mov", "BL.mov", "映画.mov"]
    reels = []
    for name in names:
        barcode_film(tmp_path / name, frame_rate=Fraction(25), shots=(60,), size=(64, 36))
        film = probe_film(tmp_path / name)
        song = tmp_path / f"{Path(name).stem}.wav"  # the film's own name
        song.write_bytes(track.read_bytes())
        edit = plan_edit(film, [take(film, 0.01, 50)], music=Music(song, fingerprint_file(song), 0.0, (0.0,)))
        export_edit(write_edit(edit, tmp_path / "t.edit.json"), tmp_path / "t.edl")
        reels.append([event[1] for event in list_events((tmp_path / "t.edl").read_text(encoding="utf-8"))])
    assert reels == [["AFILMMOR", "AFILMMOR", "AFILMMO2"], ["BL2", "BL2", "BL3"], ["REEL", "REEL", "REEL2"]]


# --- links ------------------------------------------------------------------------------------------------------------


def list_links(out: Path) -> Iterator[str]:
    if out.suffix == ".otio":
        for clip in otio.adapters.read_from_file(str(out)).find_clips():
            if isinstance(clip.media_reference, otio.schema.ExternalReference):
                yield clip.media_reference.target_url
    elif out.suffix == ".edl":
        yield from re.findall(r"^\* FROM FILE: (.*)$", out.read_text(encoding="utf-8"), re.M)
    else:
        root = ElementTree.parse(out).getroot()
        yield from (e.text or "" for e in root.iter("pathurl"))
        yield from (e.get("src", "") for e in root.iter("asset"))


@pytest.mark.parametrize("name", ["t.otio", "t.edl", "t.fcpxml", "t.xml"])
@pytest.mark.parametrize("relative", [False, True])
def test_links_lead_to_the_media(simple: Case, name: str, relative: bool) -> None:
    out = simple.export(name, relative=relative)
    links = set(list_links(out))
    found = set()
    for link in links:
        if relative:
            assert not link.startswith(("/", "file:"))
            found.add((out.parent / (link if out.suffix == ".edl" else unquote(link))).resolve())
        else:
            address = urlparse(link)
            assert out.suffix == ".edl" or (address.scheme == "file" and address.netloc in ("", "localhost"))
            found.add(Path(link if out.suffix == ".edl" else unquote(address.path)))
    assert found == {simple.edit.film.path, simple.edit.music.path}


def test_a_film_and_a_trailer_of_different_rates(cases: Callable[[int], Case], track: Path, tmp_path: Path) -> None:
    """A film of 59.94 in a trailer of 29.97: its frames stay counted in its own where the format can."""
    film = probe_film(cases(6).edit.film.path)
    edit = write_edit(plan(film, track, rate=NTSC), tmp_path / "t.edit.json")
    sources = [source for source, *_ in CUTS]
    export_edit(edit, tmp_path / "t.otio")
    timeline = otio.adapters.read_from_file(str(tmp_path / "t.otio"))
    picture = timeline.tracks[0]
    clips = [c for c in picture.find_clips() if isinstance(c.media_reference, otio.schema.ExternalReference)]
    assert [c.source_range.start_time.value for c in clips] == sources
    assert [c.source_range.start_time.rate for c in clips] == [pytest.approx(float(NTSC_TWICE))] * 4
    assert [picture.range_of_child(c).start_time.value for c in clips] == list(STARTS)
    export_edit(edit, tmp_path / "t.edl")
    video = [e for e in list_events((tmp_path / "t.edl").read_text()) if e[2] == "V" and e[1] != "BL"]
    assert [number_of(video[n][-4], NTSC) for n in (0, 2, 3, 4)] == [source // 2 for source in sources]
    export_edit(edit, tmp_path / "t.fcpxml")
    spine = ElementTree.parse(tmp_path / "t.fcpxml").getroot().find(".//spine")
    assert spine is not None
    first, last = spine[0], spine[-1]
    assert [seconds(e.get("start")) * NTSC_TWICE for e in (first, last)] == [sources[0], sources[3]]
    assert {e.get("srcFrameRate") for e in spine.iter("conform-rate")} == {"59.94"}
    export_edit(edit, tmp_path / "t.xml")
    track_ = ElementTree.parse(tmp_path / "t.xml").getroot().find(".//video/track")
    assert track_ is not None
    ins = [int(e.findtext("in", "")) for e in track_.findall("clipitem")]
    outs = [int(e.findtext("out", "")) for e in track_.findall("clipitem")]
    assert (ins[0], ins[3]) == (sources[0], sources[3])
    assert outs[3] - ins[3] == 2 * CUTS[3][1]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])  # one announces a rate of 24, the other one of 20.55
def test_a_film_of_variable_rate_is_counted_nominally_and_said_so(
    suffix: str, track: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"variable{suffix}"
    barcode_film(
        path, frame_rate=Fraction(24), shots=(200,), size=(64, 36), timestamps=vfr_timestamps(200), sound=False
    )
    film = probe_film(path)
    time = 5.0
    edit = plan_edit(
        film,
        [take(film, time, 48, rate=Fraction(24))],
        rate=Fraction(24),
        music=Music(track, fingerprint_file(track), 0.0, (0.0,)),
    )
    export_edit(write_edit(edit, tmp_path / "t.edit.json"), tmp_path / "t.otio")
    timeline = otio.adapters.read_from_file(str(tmp_path / "t.otio"))
    (clip,) = timeline.tracks[0].find_clips()
    assert clip.source_range.start_time.value == int((time - film.start) * 24)
    said = [r.getMessage() for r in caplog.records if "variable" in r.getMessage()]
    assert len(said) == 1
    assert "nominal rate of 24.000" in said[0]


# --- what cannot be used ----------------------------------------------------------------------------------------------

Command = Callable[..., Answer]


def test_the_command(trailer: Command, simple: Case) -> None:
    out = simple.folder / "made here" / "t.edl"
    answer = trailer("export", simple.path, "--out", out, "--start", "02:00:00:00", "--json")
    assert answer.code == 0
    told = json.loads(answer.out)
    assert (told["format"], told["start"], told["frames"], told["cuts"]) == ("edl", "02:00:00:00", TOTAL, 4)
    assert told["out"] == str(out)
    assert answer.err.count("warning: ") == 1
    assert trailer("export", simple.path, "--out", out).code == 0  # ours: written over
    assert " 01:00:00:00 " in out.read_text(encoding="utf-8")
    help_ = trailer("export", "--help")
    assert help_.code == 0
    assert help_.out.count("trailer export film") >= 4


def test_what_cannot_be_used_costs_one_line_and_writes_nothing(trailer: Command, simple: Case, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.edl"
    theirs.write_text("TITLE: mine\n")
    folder = tmp_path / "folder.otio"
    folder.mkdir()
    broken = tmp_path / "broken.edit.json"
    broken.write_text("{")
    silent = write_edit(replace(simple.edit, narration=()), tmp_path / "silent.edit.json")
    gone = replace(simple.edit, film=replace(simple.edit.film, path=tmp_path / "gone.mkv"))
    other = replace(simple.edit, music=replace(simple.edit.music, fingerprint="0" * 32))
    taken = tmp_path / "taken.srt"
    taken.write_text("1\n00:00:01,000 --> 00:00:02,000\nmine\n")
    bad = {
        "no JSON": (broken, tmp_path / "a.otio"),
        "cannot read": (tmp_path / "none.edit.json", tmp_path / "a.otio"),
        "none of otio, edl": (simple.path, tmp_path / "a.otio", "--to", "aaf"),
        "must end in .edl": (simple.path, tmp_path / "a.otio", "--to", "edl"),
        "does not say what to write": (simple.path, tmp_path / "a.mov"),
        "is a folder": (simple.path, folder),
        "not written by this program": (simple.path, theirs),
        "taken.srt exists": (simple.path, taken),
        "no lines": (silent, tmp_path / "a.srt"),
        "no time code": (simple.path, tmp_path / "a.otio", "--start", "one o'clock"),
        "29.97 and 59.94": (simple.path, tmp_path / "a.otio", "--start", "01:00:00;00"),
        "no such film": (write_edit(gone, tmp_path / "gone.edit.json"), tmp_path / "a.otio"),
        "is not the track": (write_edit(other, tmp_path / "other.edit.json"), tmp_path / "a.otio"),
        "cannot write": (simple.path, tmp_path / "theirs.edl" / "a.otio"),
    }
    before = sorted(tmp_path.iterdir())
    for words, (edit, out, *rest) in bad.items():
        answer = trailer("export", edit, "--out", out, *rest)
        assert answer.code == 2, words
        (line,) = [line for line in answer.err.splitlines() if line.startswith("error: ")]
        assert words in line
        assert sorted(tmp_path.iterdir()) == before, words
    assert theirs.read_text() == "TITLE: mine\n"


def test_without_opentimelineio_the_other_formats_are_there(
    trailer: Command, simple: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentimelineio", None)
    answer = trailer("export", simple.path, "--out", simple.folder / "t.otio")
    assert answer.code == 2
    assert "pip install 'trailer-pipeline[export]'" in answer.err
    for name in ("t.edl", "t.fcpxml", "t.xml", "t.srt"):
        assert trailer("export", simple.path, "--out", simple.folder / name).code == 0


def test_an_input_is_never_written_over(simple: Case, tmp_path: Path) -> None:
    edit = tmp_path / "t.otio"
    edit.write_bytes(simple.path.read_bytes())
    with pytest.raises(InputError, match="made from"):
        export_edit(edit, edit)
    assert edit.read_bytes() == simple.path.read_bytes()
