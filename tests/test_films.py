"""The whole job on real films. Times of titles and credits were read off the films by eye."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flows.aligning import align_film
from models.ssmp.data import load_samples
from pipeline.decode import watch_trailer
from pipeline.editfile import read_edit
from pipeline.quality import check_trailer
from pipeline.records import EditList
from pipeline.runner import LocalRunner
from pipeline.settings import Site, load_config
from pipeline.trailer import Outcome, make_trailer
from tests.test_align import right_shots

pytestmark = pytest.mark.film

BUNNY = "big_buck_bunny_640x360.mp4"
BUNNY_TITLE_ENDS = 25.1  # s; "The Peach open movie project presents" stands from 15.8, the title until 25
BUNNY_CREDITS = 489.9  # s; the iris closes at 489, credits roll from 490.5 to 580, a last scene follows
BUNNY_STORY_SECRET = BUNNY_CREDITS - 0.1 * (BUNNY_CREDITS - BUNNY_TITLE_ENDS) + 2.0  # s; 2 s for where a shot begins

Make = Callable[..., tuple[Outcome, EditList]]


@pytest.fixture(scope="module")
def make(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("films")

    def run(film: str, track: str, *settings: str) -> tuple[Outcome, EditList]:
        outcome = make_trailer(
            films / film,
            load_config(None, ["video.preset=veryfast", *settings]),
            Site(work_dir=folder / "work", device="cpu"),
            LocalRunner(lambda line: None),
            music=films / "music" / track,
            out=folder / f"{Path(film).stem}.mp4",
        )
        return outcome, read_edit(outcome.edit)

    return run


def test_big_buck_bunny_shows_story_and_nothing_else(make: Make) -> None:
    outcome, edit = make(BUNNY, "tos_score_03_The_battle.ogg", "seed=1")
    assert outcome.passed, outcome.failures
    assert outcome.duration == pytest.approx(123.0, abs=1 / 24)  # the track's 123.0 s
    starts = [cut.source.start for cut in edit.cuts]
    ends = [cut.source.end for cut in edit.cuts]
    assert min(starts) > 23.08  # the shot of the logo and the title has ended
    assert max(ends) < BUNNY_STORY_SECRET
    assert len({cut.shot for cut in edit.cuts}) == len(edit.cuts) > 40
    title = [cut for cut in edit.cuts if cut.source.start < BUNNY_TITLE_ENDS]
    assert not title
    _, pictures = watch_trailer(outcome.trailer, 160)
    luma = np.array([picture.bgr.mean() for picture in pictures])
    card = edit.cards[0].start_frame
    assert len(luma) == edit.output.frames
    assert luma[edit.output.fade_in : card].min() > 20
    assert 20 <= 60 * len(edit.cuts) / (card / 24) <= 60  # cuts a minute


def test_the_coverage_is_spread_over_the_story(make: Make) -> None:
    """Not all from one place: every third of the usable story is seen."""
    _, edit = make(BUNNY, "tos_score_03_The_battle.ogg", "seed=1")
    places = np.array(
        [(c.source.start - BUNNY_TITLE_ENDS) / (BUNNY_STORY_SECRET - BUNNY_TITLE_ENDS) for c in edit.cuts]
    )
    shares = np.histogram(places, bins=3, range=(0, 1))[0] / len(places)
    assert shares.min() > 0.12


@pytest.mark.parametrize(
    ("film", "track"),
    [
        ("liveaction_reel_4min.mp4", "kevin_macleod_outfoxing_the_fox.mp3"),
        ("synthetic_film.mp4", "tos_score_04_End_credits.ogg"),
        ("tears_of_steel_battle_clip_800x332.webm", "kevin_macleod_outfoxing_the_fox.mp3"),
    ],
)
def test_other_films_make_trailers_that_pass_the_gate(make: Make, film: str, track: str) -> None:
    outcome, edit = make(film, track, "length=40")
    assert outcome.passed, outcome.failures
    assert len({cut.shot for cut in edit.cuts}) == len(edit.cuts) >= 8
    if not any("usable shots" in warning or "too few shots" in warning for warning in outcome.warnings):
        assert outcome.duration == pytest.approx(40, abs=1 / 24)


def test_the_gate_reads_a_finished_file_from_its_edit_list(make: Make, site: Site) -> None:
    outcome, edit = make("tears_of_steel_battle_clip_800x332.webm", "kevin_macleod_outfoxing_the_fox.mp3", "length=40")
    assert check_trailer(outcome.trailer, edit, site).report.passed


def test_the_shots_of_a_trailer_are_found_in_the_film(make: Make, tmp_path: Path) -> None:
    """As its edit list says. One in twenty may be a look-alike: the film returns to the same views (to one trailer shot,
    shots 32 and 34 have similarity 0.978 and 0.976), and 60 of the 61 are right. The feature vectors give 45."""
    outcome, edit = make(BUNNY, "tos_score_03_The_battle.ogg", "seed=1")
    site = Site(work_dir=outcome.trailer.parent / "work", device="cpu")
    runner = LocalRunner(lambda line: None)
    film = edit.film.path
    aligned = align_film(film, [outcome.trailer], load_config(None), site, runner, data=tmp_path)
    one = aligned.trailers[0]
    answers = right_shots(edit, one.shots)
    cuts = [number for number, answer in enumerate(answers) if answer != {None}]
    right = sum(int(one.alignment.film_shots[number]) in answers[number] for number in cuts)
    found = int(one.alignment.found[cuts].sum())
    print(f"{right} of {len(cuts)} shots right, {found} found")  # noqa: T201
    assert len(cuts) == len(edit.cuts) >= 50
    assert right >= 0.95 * len(cuts)
    assert found >= 0.95 * len(cuts)
    assert not one.alignment.found[answers.index({None})]  # the title card
    (sample,) = load_samples(tmp_path)
    assert sample.labels_J.tolist() == one.alignment.film_shots[one.alignment.found].tolist()
