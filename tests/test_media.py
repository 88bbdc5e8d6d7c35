"""Opening, probing, reading and running: films written here, read back with their own clock."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.decode import decode_film, find_key_frames, read_pictures
from pipeline.errors import InputError, MediaError, MissingDependencyError
from pipeline.media import find_ffmpeg, fingerprint_file, probe_film, probe_track, run_ffmpeg
from pipeline.packets import Damage
from pipeline.records import AudioStream, Span
from pipeline.sound import Sound, choose_sound, decode_sound, read_sound, read_track
from pipeline.writing import join_clips, write_film

RATE = 48000


def numbered(count: int, size: tuple[int, int] = (64, 48)) -> list[NDArray[np.uint8]]:
    """Pictures that carry their number: tens as the grey level of the left half, ones as that of the right."""
    pictures = []
    for n in range(count):
        picture = np.empty((size[1], size[0], 3), np.uint8)
        picture[:, : size[0] // 2], picture[:, size[0] // 2 :] = 30 + 20 * (n // 10), 30 + 20 * (n % 10)
        pictures.append(picture)
    return pictures


def number_of(frame: av.VideoFrame) -> int:
    picture = frame.to_ndarray(format="rgb24")
    tens, ones = picture[:, 4:28].mean(), picture[:, 36:60].mean()
    return 10 * round((tens - 30) / 20) + round((ones - 30) / 20)


def ramp(seconds: float) -> NDArray[np.float32]:
    """A sound whose level tells the time: 1 kHz, from silence to 0.5."""
    n = np.arange(round(seconds * RATE))
    return (0.5 * n / len(n) * np.sin(2 * np.pi * 1000 * n / RATE))[:, None].repeat(2, axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "numbered.mp4"
    options = {"g": "12", "bf": "3"}
    write_film(path, numbered(100), frame_rate=Fraction(24), sound=ramp(100 / 24), crf=1, options=options)
    return path


def test_a_film_is_described_as_it_was_written(film: Path) -> None:
    probed = probe_film(film)
    assert (probed.width, probed.height, probed.frame_rate, probed.start) == (64, 48, 24, 0.0)
    assert probed.duration == pytest.approx(100 / 24, abs=0.001)
    assert [(a.codec, a.channels, a.sample_rate) for a in probed.audio] == [("aac", 2, RATE)]
    assert not probed.variable_rate
    assert probed.display_size == (64, 48)


def test_the_pass_gives_every_picture_once_with_its_time_and_all_the_sound(film: Path) -> None:
    damage = Damage()
    items = list(decode_film(probe_film(film), sample_rate=16000, damage=damage))
    pictures = [item for item in items if isinstance(item, av.VideoFrame)]
    sounds = [item for item in items if isinstance(item, Sound)]
    assert [p.time for p in pictures] == [pytest.approx(n / 24) for n in range(100)]
    assert [number_of(p) for p in pictures] == list(range(100))
    assert sum(len(s.samples) for s in sounds) == pytest.approx(16000 * 100 / 24, abs=1200)
    assert (damage.packets, damage.pictures) == (0, 0)


def test_a_stretch_begins_at_its_key_frame_and_shows_what_follows_it(film: Path) -> None:
    """Key frames every 12 pictures: the stretches between them are the whole, and each ends with the next one's first."""
    probed = probe_film(film)
    keys = find_key_frames(probed, [0.1, 1.1, 1.2, 3.9])
    assert len(keys) == 2  # the film's first is none to part it at, and 1.2 s lies behind the same one as 1.1 s
    first, second = (round(24 * key.time) for key in keys)
    assert 26 - 12 < first <= 26
    assert 93 - 12 < second <= 93
    seen = []
    for start, end in ((None, keys[0].time), (keys[0], keys[1].time), (keys[1], None)):
        items = decode_film(probed, damage=Damage(), start=start, end=end)
        seen.append([number_of(item) for item in items if isinstance(item, av.VideoFrame)])
    assert seen == [list(range(first + 1)), list(range(first, second + 1)), list(range(second, 100))]


def test_sound_alone_is_the_sound_of_the_pass(film: Path) -> None:
    probed = probe_film(film)
    alone = list(decode_sound(probed, sample_rate=16000, damage=Damage()))
    beside = [i for i in decode_film(probed, sample_rate=16000, damage=Damage()) if isinstance(i, Sound)]
    assert [s.time for s in alone] == [s.time for s in beside]
    assert np.array_equal(np.concatenate([s.samples for s in alone]), np.concatenate([s.samples for s in beside]))


@pytest.mark.parametrize("start", [0, 5, 11, 12, 13, 47, 98])
def test_the_picture_on_screen_is_found_from_any_place(film: Path, start: int) -> None:
    """Key frames every 12 pictures, B-frames between: the right one before, on and after each."""
    probed = probe_film(film)
    times = [(start + 0.25) / 24, (start + 0.99) / 24, (start + 1.01) / 24]
    assert [number_of(frame) for frame in read_pictures(probed, times)] == [start, start, min(99, start + 1)]


def test_a_picture_stands_until_the_next_and_the_last_to_the_end(film: Path) -> None:
    probed = probe_film(film)
    shown = [number_of(frame) for frame in read_pictures(probed, [-1.0, 0.0, 1.0, 1.0, 99.5 / 24, 50.0])]
    assert shown == [0, 0, 24, 24, 99, 99]
    assert list(read_pictures(probed, [])) == []


def test_held_pictures_of_a_variable_rate_are_shown_while_they_are_held(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(1, 24), Fraction(2), Fraction(49, 24), Fraction(3)]
    write_film(tmp_path / "vfr.mp4", numbered(5), frame_rate=Fraction(24), timestamps=times, crf=1)
    shown = [number_of(f) for f in read_pictures(probe_film(tmp_path / "vfr.mp4"), [0.01, 0.1, 1.99, 2.01, 2.5, 3.1])]
    assert shown == [0, 1, 1, 2, 3, 4]


def test_sound_is_cut_to_the_sample_and_silent_outside(film: Path) -> None:
    spans = [Span(1.0, 1.5), Span(3.0, 3.25), Span(0.2, 0.3), Span(-0.5, 0.1), Span(4.0, 6.0)]
    pieces = list(read_sound(film, spans, sample_rate=RATE, channels=2))
    assert [len(piece) for piece in pieces] == [round(s.duration * RATE) for s in spans]
    for span, piece in list(zip(spans, pieces, strict=True))[:3]:
        level = np.sqrt(2 * np.mean(piece[:, 0] ** 2))
        assert level == pytest.approx(0.5 * (span.start + span.end) / 2 / (100 / 24), rel=0.05)
    assert not pieces[3][: round(0.4 * RATE)].any()
    assert not pieces[4][round(0.5 * RATE) :].any()
    whole = read_track(film, sample_rate=RATE, channels=2)
    assert np.abs(whole[RATE : RATE + 100, 0] - pieces[0][:100, 0]).max() < 0.01


def test_the_track_that_is_heard_is_no_commentary() -> None:
    def track(index: int, title: str) -> AudioStream:
        return AudioStream(index, "aac", "eng", 2, RATE, title)

    chosen = choose_sound([track(1, "Director's Commentary"), track(2, "Stereo")])
    assert chosen is not None
    assert chosen.index == 2
    assert choose_sound([track(1, "commentary")]) == track(1, "commentary")
    assert choose_sound([]) is None


def test_a_fingerprint_knows_content_and_not_names(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 20 << 20, dtype=np.uint8)
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(data.tobytes())
    b.write_bytes(data.tobytes())
    assert fingerprint_file(a) == fingerprint_file(b)
    for place in (0, -1):
        data[place] ^= 1
        b.write_bytes(data.tobytes())
        assert fingerprint_file(a) != fingerprint_file(b)
        data[place] ^= 1
    b.write_bytes(data.tobytes()[:-1])
    assert fingerprint_file(a) != fingerprint_file(b)


def test_a_playlist_is_no_film(tmp_path: Path, film: Path) -> None:
    (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile {film}\n")
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
    )
    for name in ("list.ffconcat", "list.m3u8"):
        with pytest.raises(InputError):
            probe_film(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["-film.mp4", "a b.mp4", "q'u\"o.mp4", "$(x);`y`.mp4", "фильм-電影.mp4", "new\nline.mp4", "c:on.mp4"]
)
def test_any_file_name_will_do(tmp_path: Path, film: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(film.read_bytes())
    probed = probe_film(path)
    assert probed.path == path
    assert [number_of(f) for f in read_pictures(probed, [1.01])] == [24]


def test_a_track_is_described_and_a_film_without_sound_is_none(tmp_path: Path, film: Path) -> None:
    assert probe_track(film).duration == pytest.approx(100 / 24, abs=0.05)
    write_film(tmp_path / "mute.mp4", numbered(3), frame_rate=Fraction(24))
    with pytest.raises(InputError, match="holds no sound"):
        probe_track(tmp_path / "mute.mp4")


def test_ffmpeg_says_what_it_was_asked_and_why_it_failed(tmp_path: Path) -> None:
    program = find_ffmpeg()
    with pytest.raises(MediaError, match=r"no-such-file") as caught:
        run_ffmpeg(program, ["-i", str(tmp_path / "no-such-file"), "-f", "null", "-"], timeout=30)
    assert caught.value.command[0] == str(program)
    assert "No such file" in caught.value.log
    with pytest.raises(MediaError, match="longer than 1 s"):
        run_ffmpeg(program, ["-f", "lavfi", "-re", "-i", "anullsrc", "-f", "null", "-"], timeout=1)
    with pytest.raises(MissingDependencyError, match="TRAILER_FFMPEG"):
        find_ffmpeg(tmp_path / "nothing")


def test_a_child_that_stops_reading_is_reported_and_not_waited_for(tmp_path: Path) -> None:
    endless = (bytes(1 << 16) for _ in iter(int, 1))
    arguments = ["-f", "rawvideo", "-video_size", "0x0", "-i", "pipe:0", "-f", "null", "-"]
    with pytest.raises(MediaError):
        run_ffmpeg(find_ffmpeg(), arguments, chunks=endless, timeout=30)


def test_the_packaged_ffmpeg_is_found_when_there_is_none_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent / "nowhere"))
    assert find_ffmpeg().is_file()


def test_clips_are_joined_frame_by_frame_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    rate = Fraction(24000, 1001)
    counts = [1, 7, 30, 2]
    start = 0
    clips = []
    for number, count in enumerate(counts):
        clips.append(tmp_path / f"{number}.mp4")
        write_film(clips[-1], numbered(100)[start : start + count], frame_rate=rate, crf=1)
        start += count
    join_clips(clips, counts, rate, tmp_path / "joined.mp4")
    with av.open(str(tmp_path / "joined.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [number_of(frame) for frame in frames] == list(range(40))
    assert [frame.pts * frame.time_base * rate for frame in frames] == list(range(40))  # type: ignore[operator]
    with pytest.raises(MediaError, match="holds 7 frames and not 8"):
        join_clips(clips, [1, 8, 30, 2], rate, tmp_path / "joined.mp4")
