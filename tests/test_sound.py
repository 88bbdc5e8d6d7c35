"""Which sound of a film is heard, and how its channels are mixed: a tone in every channel, told apart by spectrum."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream as AvAudioStream
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.languages import normalise_language, same_language
from pipeline.media import find_ffmpeg, probe_film, run_ffmpeg
from pipeline.records import AudioStream, Placement, Span
from pipeline.sound import LOUDEST, choose_sound, read_lines, read_sound
from pipeline.writing import write_film

RATE = 48000
TONES = (400.0, 500.0, 630.0, 800.0, 1000.0, 1250.0, 1600.0, 2000.0)  # Hz, one a channel in the layout's order
LEVEL = 0.1  # amplitude of each
SECONDS = 2.0


def planted(channels: int) -> NDArray[np.float32]:
    """(n, channels), a tone in each."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    return np.stack([LEVEL * np.sin(2 * np.pi * f * time) for f in TONES[:channels]], axis=1).astype(np.float32)


def levels_db(samples: NDArray[np.float32], channels: int) -> list[list[float]]:
    """Per side, the level of each channel's tone against its own in dB, in a second from 0.5 s on."""
    part = samples[RATE // 2 : RATE // 2 * 3]
    turns = np.exp(-2j * np.pi * np.arange(len(part))[:, None] / RATE * np.array(TONES[:channels]))
    amplitudes = 2 * np.abs(part.T @ turns) / len(part)
    return [[float(20 * np.log10(max(a, 1e-9) / LEVEL)) for a in side] for side in amplitudes]


def write_sound(path: Path, layout: str, samples: NDArray[Any], codec: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout=layout)
        assert isinstance(stream, AvAudioStream)
        kind = {"pcm_s16le": "s16", "flac": "s16", "pcm_f32le": "flt"}[codec]
        for at in range(0, len(samples), 4608):
            block = samples[at : at + 4608].reshape(1, -1)
            if kind == "s16":
                block = (block * 32767).astype(np.int16)
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), format=kind, layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def check_speech(path: Path, channels: int, centre: int) -> None:
    """The centre as it is on both sides, front left and right 12 dB under, each on its side, all else out."""
    heard = next(read_sound(path, [Span(0.0, SECONDS)], sample_rate=RATE, channels=2, speech=True))
    for side, levels in enumerate(levels_db(heard, channels)):
        assert levels[centre] == pytest.approx(0.0, abs=0.3)
        assert levels[side] == pytest.approx(-12.0, abs=0.3)
        assert all(level < -50 for channel, level in enumerate(levels) if channel not in (centre, side))


def test_what_is_said_stays_clear_in_five_point_one_and_ambience_does_not_change(tmp_path: Path) -> None:
    path = tmp_path / "surround.mp4"
    pictures = (np.zeros((36, 64, 3), np.uint8) for _ in range(round(SECONDS * 25)))
    write_film(path, pictures, frame_rate=Fraction(25), sound=planted(6))
    assert probe_film(path).audio[0].channels == 6
    check_speech(path, 6, centre=2)
    standard = next(read_sound(path, [Span(0.0, SECONDS)], sample_rate=RATE, channels=2))
    left = levels_db(standard, 6)[0]
    assert left[0] - left[2] == pytest.approx(3.0, abs=0.3)  # front over centre
    assert left[4] - left[0] == pytest.approx(-3.0, abs=0.3)  # the surrounds are there


@pytest.mark.parametrize(
    ("layout", "channels", "name", "codec"),
    [("3.0", 3, "a.flac", "flac"), ("5.0", 5, "b.wav", "pcm_s16le"), ("7.1", 8, "c.wav", "pcm_s16le")],
)
def test_every_layout_with_a_centre_keeps_it_clear(
    tmp_path: Path, layout: str, channels: int, name: str, codec: str
) -> None:
    check_speech(write_sound(tmp_path / name, layout, planted(channels), codec), channels, centre=2)


@pytest.mark.parametrize("channels", [6, 8])
def test_channels_without_names_count_as_surround(tmp_path: Path, channels: int) -> None:
    with wave.open(str(tmp_path / "plain.wav"), "wb") as file:  # a plain header has no channel mask
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((planted(channels) * 32767).astype("<i2").tobytes())
    check_speech(tmp_path / "plain.wav", channels, centre=2)


@pytest.mark.parametrize("layout", ["mono", "stereo", "quad"])
def test_without_a_centre_nothing_changes(tmp_path: Path, layout: str) -> None:
    channels = {"mono": 1, "stereo": 2, "quad": 4}[layout]
    path = write_sound(tmp_path / "a.wav", layout, planted(channels), "pcm_s16le")
    as_speech = next(read_sound(path, [Span(0.1, 1.0)], sample_rate=RATE, channels=2, speech=True))
    assert np.array_equal(as_speech, next(read_sound(path, [Span(0.1, 1.0)], sample_rate=RATE, channels=2)))


def track(index: int, language: str, title: str = "", rate: int = RATE) -> AudioStream:
    return AudioStream(index, "aac", language, 2, rate, title)


def test_the_language_asked_for_is_heard_where_there_is_one() -> None:
    tracks = [track(1, "ger"), track(2, "en", "Commentary"), track(3, "eng"), track(4, "en")]
    assert choose_sound(tracks) == tracks[0]
    for code in ("en", "eng", "en-US", "EN_gb"):
        assert choose_sound(tracks, code) == tracks[2]
    assert choose_sound(tracks, "de") == tracks[0]
    assert choose_sound(tracks, "fr") == tracks[0]
    assert choose_sound(tracks[:2], "en") == tracks[0]  # no commentary where there is anything else
    assert choose_sound(tracks[1:2], "de") == tracks[1]
    assert choose_sound([track(1, "eng", rate=0), track(2, "und")], "en") == track(2, "und")
    assert choose_sound([], "en") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("en", "eng"), ("en-US", "eng"), ("de", "ger"), ("deu", "ger"), ("fr-CA", "fre"), ("zh-Hans", "chi"), ("iw", "heb"),
     ("pt_BR", "por"), ("nb", "nor"), ("xx", "xx"), ("CES", "cze")],
)  # fmt: skip
def test_codes_of_one_language_are_the_same(one: str, other: str) -> None:
    assert same_language(one, other)
    assert same_language(other, one)


def test_other_and_unknown_languages_are_not_the_same() -> None:
    assert not same_language("en", "de")
    assert not same_language("", "")
    assert not same_language("und", "und")
    assert not same_language("slv", "slk")
    assert normalise_language("ger") == "de"
    assert normalise_language("mul") == "und"


def test_a_voice_file_is_read_on_its_own_clock_and_missed_by_name(tmp_path: Path) -> None:
    pictures = (np.zeros((36, 64, 3), np.uint8) for _ in range(10))
    write_film(tmp_path / "mute.mp4", pictures, frame_rate=Fraction(25))
    film = probe_film(tmp_path / "mute.mp4")
    voice = write_sound(tmp_path / "voice.wav", "stereo", planted(2), "pcm_s16le")
    line = Placement(0, "Hear me.", Span(0.5, 1.25), 0, 0, 0.0, voice)
    (heard,) = read_lines([line], film, "", sample_rate=RATE, channels=2)
    assert np.abs(heard - planted(2)[RATE // 2 : RATE * 5 // 4]).max() < 0.001
    gone = Placement(0, "Hear me.", Span(0.5, 1.25), 0, 0, 0.0, tmp_path / "gone.wav")
    with pytest.raises(InputError, match=r"no such sound file: .*gone\.wav"):
        list(read_lines([gone], film, "", sample_rate=RATE, channels=2))
    with pytest.raises(InputError, match=r"no sound to take the line 'Hear me\.' from"):
        list(read_lines([Placement(0, "Hear me.", Span(0, 1), 0, 0, 0.0)], film, "", sample_rate=RATE, channels=2))


def test_samples_that_are_no_numbers_are_silence(tmp_path: Path) -> None:
    samples = planted(2)
    samples[1000:1010], samples[2000] = np.nan, np.inf
    path = write_sound(tmp_path / "odd.wav", "stereo", samples, "pcm_f32le")
    (heard,) = read_sound(path, [Span(0.0, 1.0)], sample_rate=RATE, channels=2)
    assert np.isfinite(heard).all()
    assert not heard[1000:1010].any()
    assert np.abs(heard[1010:1990] - samples[1010:1990]).max() < 1e-6


def test_a_burst_of_damaged_sound_is_held_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    samples = planted(2)
    samples[1000:1010] = 880.0
    path = write_sound(tmp_path / "burst.wav", "stereo", samples, "pcm_f32le")
    (heard,) = read_sound(path, [Span(0.0, 1.0)], sample_rate=RATE, channels=2)
    assert heard[1000:1010].max() == LOUDEST
    assert np.abs(heard[1010:RATE] - samples[1010:RATE]).max() < 1e-6


def test_the_track_that_the_container_plays_is_heard_and_a_flagged_commentary_is_not(tmp_path: Path) -> None:
    """Four tracks without a title; how each is flagged is all that is said of them."""
    pictures = (np.zeros((36, 64, 3), np.uint8) for _ in range(10))
    write_film(tmp_path / "film.mp4", pictures, frame_rate=Fraction(25), sound=planted(2))
    flags = ["comment", "0", "default", "visual_impaired+default"]
    options = [option for n, flag in enumerate(flags) for option in (f"-disposition:a:{n}", flag)]
    tracks = ["-map", "0:v", *(["-map", "0:a"] * 4), "-c", "copy", *options]
    run_ffmpeg(find_ffmpeg(), ["-i", str(tmp_path / "film.mp4"), *tracks, str(tmp_path / "four.mkv")], timeout=30)
    film = probe_film(tmp_path / "four.mkv")
    assert [track.index for track in film.audio] == [3, 4, 1, 2]  # defaults first, each in the order of the file
    assert [track.title for track in film.audio] == ["", "(audio description)", "(commentary)", ""]
    chosen = choose_sound(film.audio)
    assert chosen is not None
    assert chosen.index == 3
