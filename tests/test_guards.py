"""What may not be shown never is, whatever the seed: the ending, its lines, twins, and what each flag stands for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline import steps
from pipeline.editfile import read_edit
from pipeline.errors import NoSolutionError
from pipeline.guards import REASONS, count_reasons, exclude_shots, find_blurred, find_bounds
from pipeline.media import probe_film
from pipeline.records import EditList, Film, Shots, Span
from pipeline.runner import LocalRunner
from pipeline.settings import GuardSettings, Site, load_config
from pipeline.trailer import make_trailer
from pipeline.workdir import WorkDir
from tests.synthetic import SyntheticFilm, barcode_film, click_track, read_barcode

FILM = Film(Path("f"), "f", 0.0, 40.0, Fraction(24), 640, 360, 0)
RATE = Fraction(25)
SHOTS, FRAMES = 16, 40  # 25.6 s; the last tenth begins at 23.04 s, in the last shot but one
SECRET = SHOTS - 2  # the first shot of the ending
TOLD = "The general will burn this village tomorrow."
ENDING = "The murderer is the gardener."
SEEDS = (0, 1, 2)


def make_shots(flags: dict[int, set[str]] | None = None, twins: dict[int, int] | None = None, count: int = 10) -> Shots:
    spans = tuple(Span(4.0 * i, 4.0 * i + 4) for i in range(count))
    named = tuple(frozenset((flags or {}).get(i, set())) for i in range(count))
    first = np.array([(twins or {}).get(i, i) for i in range(count)], np.int64)
    return Shots(
        FILM, spans, named, np.linspace(0, 1, count, dtype=np.float32), np.zeros(count, np.float32), twins=first
    )


def test_flags_become_reasons_and_the_guard_can_be_lifted() -> None:
    flagged = make_shots({0: {"opening"}, 1: {"black", "text"}, 9: {"credits"}, 8: {"ending"}})
    assert exclude_shots(flagged, GuardSettings()) == {
        0: "opening titles or before them",
        1: "black, lettering",
        8: "the ending is kept secret",
        9: "end credits or after them",
    }
    assert set(exclude_shots(flagged, GuardSettings(credits=False))) == {1, 8}


def test_of_twins_the_one_that_moves_most_stays_and_the_others_name_it() -> None:
    shots = make_shots({7: {"ending"}}, {4: 1, 6: 1, 7: 1, 3: 2})
    assert exclude_shots(shots, GuardSettings()) == {
        1: "nearly the same picture as shot 6",
        2: "nearly the same picture as shot 3",
        4: "nearly the same picture as shot 6",
        7: "the ending is kept secret",  # and no reason to leave out another
    }
    assert set(exclude_shots(shots, GuardSettings(twins=False))) == {7}


def test_where_shots_are_few_twins_and_blurred_ones_are_let_in_and_nothing_else() -> None:
    shots = make_shots({n: {flag} for n, flag in enumerate(REASONS)}, {9: 8}, count=10)
    strict, waived = exclude_shots(shots, GuardSettings()), exclude_shots(shots, GuardSettings(), strict=False)
    assert len(strict) == len(REASONS) + 1
    assert {shot: reason for shot, reason in strict.items() if shot not in waived} == {
        list(REASONS).index("blurred"): "blurred throughout",
        8: "nearly the same picture as shot 9",
    }


def test_blur_is_measured_against_the_film_itself() -> None:
    sharp = np.tile([6.0, 0.3, 20.0], (20, 1))
    sharp[3] = 0.9, 0.08, 8.0  # defocused
    sharp[4] = 0.1, 0.05, 0.5  # an empty sky: there is nothing that could be sharp
    sharp[5] = np.nan  # nothing was seen of it
    assert np.flatnonzero(find_blurred(sharp)).tolist() == [3]
    assert not find_blurred(sharp * [0.2, 0.3, 1.0])[6:].any()  # an old, soft film
    assert not find_blurred(np.full((3, 3), np.nan)).any()
    assert find_blurred(np.zeros((0, 3))).shape == (0,)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> SyntheticFilm:
    """A film with a line in its story, a better one in its ending, and music long enough for most of its shots."""
    folder = tmp_path_factory.mktemp("guards")
    made = barcode_film(folder / "film.mp4", frame_rate=RATE, shots=[FRAMES] * SHOTS, size=(160, 90))
    click_track(folder / "music.wav", bpm=120, seconds=12.0)
    stamp = "00:00:{:06.3f}".format
    lines = [(TOLD, 8.0, 9.4), (ENDING, 23.2, 24.9)]
    text = "\n".join(
        f"{n}\n{stamp(start)} --> {stamp(end)}\n{said}\n".replace(".", ",", 2)
        for n, (said, start, end) in enumerate(lines, 1)
    )
    (folder / "film.srt").write_text(text)
    return made


def make(film: SyntheticFilm, seed: int, *settings: str) -> tuple[EditList, list[int]]:
    """The plan, and the film's frames that the rendered trailer shows."""
    folder = film.path.parent
    outcome = make_trailer(
        film.path,
        load_config(
            None, ["video.preset=ultrafast", "edit.card_seconds=1", "narration.words=14", f"seed={seed}", *settings]
        ),
        Site(work_dir=folder / "work", device="cpu"),
        LocalRunner(lambda line: None),
        music=folder / "music.wav",
        out=folder / f"{seed}-{len(settings)}.mp4",
    )
    assert outcome.passed, outcome.failures
    with av.open(str(outcome.trailer)) as container:
        shown = [read_barcode(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return read_edit(outcome.edit), [number for number in shown if number is not None]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ending_is_neither_shown_nor_told(film: SyntheticFilm, seed: int) -> None:
    edit, shown = make(film, seed)
    assert len(shown) > 150
    assert max(shown) < SECRET * FRAMES  # every decoded frame's own number
    secret = 0.9 * float(film.end)
    assert max(cut.source.end for cut in edit.cuts) <= secret
    assert [placed.text for placed in edit.narration] == [TOLD]
    assert max(placed.span.end for placed in edit.narration) <= secret


def test_with_the_guard_off_the_ending_is_shown_and_told(film: SyntheticFilm) -> None:
    """So that the guard, and nothing else, is what keeps it."""
    made = [make(film, seed, "guards.ending=0") for seed in SEEDS]
    assert any(max(shown) >= SECRET * FRAMES for _, shown in made)
    assert all(ENDING in [placed.text for placed in edit.narration] for edit, _ in made)


def find(film: SyntheticFilm, work: Path, *settings: str) -> Shots:
    site, config = Site(work_dir=work, device="cpu"), load_config(None, list(settings))
    probed = probe_film(film.path)
    folder = WorkDir(work, probed.fingerprint)
    seen = steps.analyse(folder, probed, config, site, None, progress=lambda done: None)
    return steps.find_shots(folder, seen.artifact, config, progress=lambda done: None).artifact.load()


def test_a_shot_that_goes_on_into_the_ending_is_shown_until_then(tmp_path: Path) -> None:
    film = barcode_film(
        tmp_path / "film.mp4", frame_rate=RATE, shots=[125, 125, 125, 75, 150]
    )  # the last from 18 to 24 s
    shots = find(film, tmp_path / "work")
    assert len(shots) == 5
    assert shots.secret == pytest.approx(21.6, abs=0.05)
    assert shots.shown[4] == Span(shots.spans[4].start, shots.secret)
    assert [shot for shot, flags in enumerate(shots.flags) if "ending" in flags] == []
    assert find_bounds(shots, GuardSettings())[1] == shots.secret
    longer = find(film, tmp_path / "work", "guards.ending=0.22")  # from 18.7 s: 0.7 s of the last shot are left
    assert [shot for shot, flags in enumerate(longer.flags) if "ending" in flags] == [4]
    assert longer.shown[4].end == longer.secret
    assert longer.clear[4].end == longer.spans[4].end
    assert find(film, tmp_path / "work", "guards.ending=0").secret is None


def test_a_clip_has_no_ending_to_keep(tmp_path: Path) -> None:
    shots = find(barcode_film(tmp_path / "film.mp4", frame_rate=RATE, shots=[100, 100, 100, 100]), tmp_path / "work")
    assert shots.secret is None
    assert all("ending" not in flags for flags in shots.flags)
    assert shots.shown[-1] == shots.spans[-1]


def test_too_few_shots_are_refused_before_the_long_steps(tmp_path: Path) -> None:
    film = barcode_film(tmp_path / "film.mp4", frame_rate=RATE, shots=[100, 100, 100], static=[1])
    site, said = Site(work_dir=tmp_path / "work", device="cpu"), []
    with pytest.raises(
        NoSolutionError, match=r"has 3 shots, 1 not shown \(a still picture\): 2 can be used, for 3\.\d s"
    ):
        make_trailer(film.path, load_config(None, []), site, LocalRunner(said.append), out=tmp_path / "t.mp4")
    assert not any("features" in line or "music" in line for line in said)
    assert any("shots" in line for line in said)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".mp4"] == ["film.mp4"]


def test_reasons_are_counted_by_the_first_of_each_shot() -> None:
    why = {
        0: "black, a still picture",
        2: "nearly the same picture as shot 1",
        3: "black",
        5: "lettering",
    }
    assert count_reasons(why) == (
        ", 2 not shown (black), 1 not shown (nearly the same picture as another), 1 not shown (lettering)"
    )
    assert count_reasons({}) == ""
