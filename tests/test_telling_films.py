"""A spoken film's trailer, measured by ear: each line where the plan says, whole, over the music, at the asked loudness."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import correlate

from pipeline.editfile import read_edit
from pipeline.loudness import measure_loudness
from pipeline.media import find_ffmpeg
from pipeline.records import EditList, Music, Span
from pipeline.runner import LocalRunner
from pipeline.settings import Site, load_config
from pipeline.sound import read_sound, read_track
from pipeline.trailer import Outcome, make_trailer

pytestmark = pytest.mark.film

FOX, BATTLE = "kevin_macleod_outfoxing_the_fox.mp3", "tos_score_03_The_battle.ogg"
RATE = 48000
FAST = ["video.preset=ultrafast", "seed=1"]
REACH = 0.25  # s around a line's place in which it is looked for
PART = RATE // 10  # samples that are fitted at once
SPOKEN = 0.2  # of a line's loudest tenth of a second; parts louder than this must be there


@dataclass(frozen=True)
class Spoken:
    outcome: Outcome
    edit: EditList
    site: Site
    film: Path
    music: Path


@pytest.fixture(scope="module", params=[FOX, BATTLE])
def spoken(request: pytest.FixtureRequest, films: Path, tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    folder = tmp_path_factory.mktemp("spoken")
    site = Site(work_dir=folder / "work", device="cpu")
    film, music = films / "synthetic_film.mp4", films / "music" / request.param
    return make(film, music, site, folder / "t.mp4")


def make(film: Path, music: Path, site: Site, out: Path, *settings: str) -> Spoken:
    runner = LocalRunner(lambda line: None)
    outcome = make_trailer(film, load_config(None, [*FAST, *settings]), site, runner, music=music, out=out)
    return Spoken(outcome, read_edit(outcome.edit), site, film, music)


def read_mono(path: Path, span: Span) -> NDArray[np.float64]:
    (sound,) = read_sound(path, [span], sample_rate=RATE, channels=1)
    return np.asarray(sound[:, 0], np.float64)


def test_lines_are_whole_sentences_heard_where_the_plan_says(spoken: Spoken, films: Path) -> None:
    assert spoken.outcome.passed
    truth = {line["text"]: line for line in json.loads((films / "synthetic_film.json").read_text())["dialogue"]}
    placed = spoken.edit.narration
    assert len(placed) >= 5
    played = play_parts(read_track(spoken.music, sample_rate=RATE)[:, 0].astype(np.float64), spoken.edit.music)
    for line in placed:
        said = truth[line.text]  # a KeyError: not one of the film's sentences
        assert said["start"] - 0.3 <= line.span.start <= said["start"] + 0.3
        assert said["end"] - 0.3 <= line.span.end <= said["end"] + 0.3
        start = float(line.start_frame / spoken.edit.output.frame_rate)
        own = read_mono(spoken.film, line.span)
        heard = read_mono(spoken.outcome.trailer, Span(start - REACH, start + line.span.duration + REACH))
        offset = int(np.argmax(correlate(heard, own, mode="valid"))) / RATE - REACH
        assert abs(offset) <= 0.020
        under = played[round(start * RATE) :][: len(own)]
        measure(own, heard[round(REACH * RATE) :][: len(own)], under)


def play_parts(track: NDArray[np.float64], music: Music) -> NDArray[np.float64]:
    """The track as the edit list plays it, apart from the few milliseconds in which a join is blended."""
    if not music.parts:
        return track[round(music.offset * RATE) :]
    return np.concatenate([track[round(part.start * RATE) : round(part.end * RATE)] for part in music.parts])


def measure(own: NDArray[np.float64], heard: NDArray[np.float64], music: NDArray[np.float64]) -> None:
    """The trailer's sound is fitted by the line and the music, a tenth of a second at a time."""
    line_power, music_power = 0.0, 0.0
    loudest = max(float(np.mean(own[i : i + PART] ** 2)) for i in range(0, len(own) - PART, PART))
    for first in range(0, len(own) - PART, PART):
        part = slice(first, first + PART)
        both = np.stack([own[part], music[part]], axis=1)
        gains = np.linalg.lstsq(both, heard[part], rcond=None)[0]
        line_power += float(np.sum((gains[0] * own[part]) ** 2))
        music_power += float(np.sum((gains[1] * music[part]) ** 2))
        if np.mean(own[part] ** 2) > SPOKEN**2 * loudest:  # complete: every loud part of it is there
            rest = heard[part] - gains[1] * music[part]
            assert np.corrcoef(rest, own[part])[0, 1] > 0.7
    assert 10 * np.log10(line_power / music_power) >= 9.0


@pytest.mark.parametrize(("spoken", "target"), [(FOX, -14.0), (FOX, -24.0), (BATTLE, -23.0)], indirect=["spoken"])
def test_loudness_and_peak_at_each_delivery(spoken: Spoken, target: float, tmp_path: Path) -> None:
    peak = -2.0 if target == -24 else -1.0
    settings = [f"sound.loudness_lufs={target}", f"sound.true_peak_dbtp={peak}"]
    made = make(spoken.film, spoken.music, spoken.site, tmp_path / "t.mp4", *settings)
    assert made.outcome.passed
    assert len(made.edit.narration) >= 5
    loudness, highest = measure_loudness(find_ffmpeg(), ["-i", str(made.outcome.trailer)], 120.0)
    assert abs(loudness - target) <= 0.5
    assert highest <= peak


def test_a_film_without_words_is_made_as_before(films: Path, tmp_path: Path) -> None:
    film = films / "tears_of_steel_battle_clip_800x332.webm"
    music = films / "music" / FOX
    made = make(film, music, Site(work_dir=tmp_path / "work", device="cpu"), tmp_path / "t.mp4", "length=20")
    assert made.outcome.passed
    assert made.edit.narration == ()
    assert made.edit.models["lines"] == "none found"
