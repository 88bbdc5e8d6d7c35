"""Which film shot each trailer shot came from: on planted pictures, and on a trailer whose edit list tells the truth."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from flows.aligning import AlignedFilm, align_film, describe_alignment, tell_alignment
from models import encoders
from models.encoders import Identity, ShotContent
from models.encoders.descriptor import Descriptor
from models.ssmp.data import load_samples
from pipeline import pairs
from pipeline.align import (
    DOUBTFUL_BELOW,
    Pictures,
    align_trailer,
    compare_pictures,
    compare_shots,
    look_at_pictures,
)
from pipeline.editfile import read_edit
from pipeline.errors import InputError, MissingDependencyError
from pipeline.media import probe_film
from pipeline.pairs import add_pair, name_film
from pipeline.records import EditList, Shots, Span
from pipeline.runner import LocalRunner
from pipeline.settings import Site, load_config
from pipeline.trailer import make_trailer
from pipeline.writing import write_film
from tests.synthetic import analyse, barcode_film, click_track

QUICK = ["video.preset=ultrafast", "edit.card_seconds=1.5", "seed=1"]
SHOWN_ENOUGH = 1 / 3  # of a trailer shot; where the cut between two like shots is not detected, either is right


def right_shots(edit: EditList, shots: Shots) -> list[set[int | None]]:
    """For each trailer shot the film shots that the edit list has there for a third of it or more; None: a card."""
    rate = float(edit.output.frame_rate)
    answers: list[set[int | None]] = []
    for span in shots.spans:
        shown: set[int | None] = set()
        for piece in edit.pieces:
            start, end = piece.start_frame / rate, (piece.start_frame + piece.frames) / rate
            if min(end, span.end) - max(start, span.start) >= SHOWN_ENOUGH * span.duration:
                shown.add(getattr(piece, "shot", None))
        answers.append(shown)
    return answers


# arrays


def pictures(shots: list[list[int]], size: int = 6) -> Pictures:
    """A file whose shots show these pictures, one a second; a shot without any lasts a second too."""
    edges, times, kinds = [0.0], [], []
    for shown in shots:
        times += [edges[-1] + 0.5 + k for k in range(len(shown))]
        kinds += shown
        edges.append(edges[-1] + max(1, len(shown)))
    spans = tuple(Span(a, b) for a, b in pairwise(edges))
    return Pictures(spans, np.array(times), np.eye(size, dtype=np.float32)[kinds])


def test_a_trailer_shot_is_the_film_shot_that_holds_its_pictures() -> None:
    film = pictures([[0, 1], [2, 3, 4], [1, 3]])
    trailer = pictures([[3, 4], [4], [0, 1], [1, 3], [2], [5], [3, 5]])
    found = align_trailer(trailer, film, [frozenset()] * 7)
    assert found.film_shots.tolist() == [1, 1, 0, 2, 1, 0, 1]  # a shot may come twice; a tie goes to the earliest
    assert found.similarity.tolist() == [1, 1, 1, 1, 1, 0, 0.5]
    assert found.margin.tolist() == [0.5, 1, 0.5, 0.5, 1, 0, 0]
    assert found.doubtful.tolist() == [False] * 5 + [True] * 2
    # the pictures of a film shot that the trailer does not show count for nothing
    assert compare_shots(pictures([[4]]), film)[0, 1] == 1


def test_a_picture_is_found_under_another_grade_and_crop_and_told_from_the_same_zoom_elsewhere() -> None:
    """Noise of large grains: 20 pictures of a film, and a tenth cut off each side of every one, made dull and brown."""
    rng = np.random.default_rng(2)
    film, trailer = [], []
    for _ in range(20):
        whole = cv2.resize(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8), (320, 180), interpolation=cv2.INTER_CUBIC)
        film.append(cv2.resize(whole, (80, 45), interpolation=cv2.INTER_AREA))
        part = whole[18:-18, 32:-32] * np.array([0.4, 0.55, 0.7]) + 30
        trailer.append(cv2.resize(part.astype(np.uint8), (80, 45), interpolation=cv2.INTER_AREA))
    numbers = [[k] for k in range(20)]
    blind = np.ones((20, 1), np.float32)  # an encoder that sees nothing
    seen = [replace(pictures(numbers, 20), looks=blind, copies=np.array(copies)) for copies in (trailer, film)]
    alike = compare_pictures(*seen)
    assert alike.argmax(axis=1).tolist() == list(range(20))
    assert alike.diagonal().min() > DOUBTFUL_BELOW > np.where(np.eye(20, dtype=bool), 0, alike).max()
    plain = replace(seen[0], copies=np.full((20, 45, 80, 3), 90, np.uint8))
    assert (compare_pictures(plain, seen[1]) == 1).all()  # says nothing: the encoder alone counts


def test_black_shots_and_shots_that_nobody_saw_are_not_found() -> None:
    film = pictures([[0], [1], []])  # the last is never matched
    found = align_trailer(pictures([[0], [], [1]]), film, [frozenset(), frozenset(), frozenset({"black", "static"})])
    assert found.doubtful.tolist() == [False, True, False]
    assert found.black.tolist() == [False, False, True]
    assert found.found.tolist() == [True, False, False]
    assert found.film_shots.max() < 2
    assert align_trailer(pictures([[0]]), pictures([[0]]), [frozenset()]).margin.tolist() == [1]


# a whole film


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, EditList, Site]:
    """A film of 24 shots with a black one, and its trailer."""
    folder = tmp_path_factory.mktemp("align")
    film = folder / "Blade Runner-2049.mp4"
    frames = [40, 64, 52, 71, 45, 58, 90, 47, 66, 53, 49, 77, 60, 44, 85, 51, 63, 48, 70, 55, 62, 57, 43, 59]
    barcode_film(film, frame_rate=Fraction(24), shots=frames, black=[9])
    site = Site(work_dir=folder / "work", device="cpu")
    runner = LocalRunner(lambda line: None)
    click_track(folder / "clicks.wav", bpm=100, seconds=24)
    settings, music = load_config(None, QUICK), folder / "clicks.wav"
    outcome = make_trailer(film, settings, site, runner, music=music, out=folder / "t.mp4")
    return film, outcome.trailer, read_edit(outcome.edit), site


@pytest.fixture(scope="module")
def aligned(made: tuple[Path, Path, EditList, Site]) -> AlignedFilm:
    film, trailer, _, site = made
    runner = LocalRunner(lambda line: None)
    found = align_film(film, [trailer], load_config(None), site, runner, data=film.parent / "data")
    assert [step.name for step in runner.times if step.reused] == ["analysis", "shots", "features"]  # those of `make`
    return found


def test_the_shots_of_our_own_trailer_are_found_where_its_edit_list_says(
    made: tuple[Path, Path, EditList, Site], aligned: AlignedFilm
) -> None:
    """Nine in ten. This film makes it hard: its disc moves on between two sampled pictures, so that a shot can be
    doubtful, and the hues of shots 8 apart (8 golden ratios: 0.056 of the circle) are nearly one, so that they can be
    exchanged. No others may be."""
    edit, one = made[2], aligned.trailers[0]
    answers = right_shots(edit, one.shots)
    assert aligned.shots.spans == edit.shots
    assert len(answers) > len(edit.cuts) >= 8  # the cuts are seen, and the card
    right = []
    for number, answer in enumerate(answers):
        shot = int(one.alignment.film_shots[number])
        if answer == {None}:
            assert one.alignment.doubtful[number]
            continue
        right.append(shot in answer)
        assert shot in answer or {shot - 8, shot + 8} & answer, (number, shot, answer)
    assert np.mean(right) >= 0.9
    assert one.alignment.found.sum() >= 0.9 * len(right)


def test_what_is_written_trains_on_the_shots_that_were_found(aligned: AlignedFilm) -> None:
    assert [path.name for path in aligned.data] == ["Blade_Runner_2049.npy", "Blade_Runner_2049-1.npy"]
    (sample,) = load_samples(aligned.data[0].parent)
    found = aligned.trailers[0].alignment
    assert sample.labels_J.tolist() == found.film_shots[found.found].tolist()
    assert sample.movie_ID.shape == (len(aligned.shots), 128)
    assert len(sample.labels_J) < len(found.found)  # without the card


def test_what_is_told(aligned: AlignedFilm) -> None:
    told = json.loads(json.dumps(tell_alignment(aligned), allow_nan=False))
    (one,) = told["trailers"]
    assert told["film"].endswith("2049.mp4")
    assert told["data"] == [str(path) for path in aligned.data]
    assert one["left_out"] == sum(shot["doubtful"] or shot["black"] for shot in one["shots"]) > 0
    keys = "number start end film_shot film_start film_end similarity margin doubtful black"
    assert list(one["shots"][0]) == keys.split()
    span = aligned.shots.spans[one["shots"][0]["film_shot"]]
    assert (one["shots"][0]["film_start"], one["shots"][0]["film_end"]) == pytest.approx((span.start, span.end))
    lines = describe_alignment(aligned).splitlines()
    assert lines[1].split()[:3] == ["shot", "start-end", "film"]
    assert f"left out: {one['left_out']} doubtful, 0 black" in describe_alignment(aligned)
    assert len([line for line in lines if line.endswith((" yes", " no"))]) == len(one["shots"])


def test_a_trailer_of_another_film_is_not_found(
    made: tuple[Path, Path, EditList, Site], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film, _, _, site = made
    other = tmp_path / "other.mp4"
    # no tint, no bars, no disc: nothing that the film could hold
    rng = np.random.default_rng(5)
    blocks = (rng.integers(0, 2, (60, 9, 16)) * 255).astype(np.uint8)
    noise = (np.repeat(np.kron(block, np.ones((20, 20), np.uint8))[..., None], 3, axis=2) for block in blocks)
    write_film(other, noise, frame_rate=Fraction(24))
    runner = LocalRunner(lambda line: None)
    found = align_film(film, [other], load_config(None), site, runner).trailers[0].alignment
    assert found.similarity.max() < DOUBTFUL_BELOW
    assert "is it a trailer of this film?" in caplog.text
    with pytest.raises(InputError, match="Nothing was added"):
        align_film(film, [other], load_config(None), site, runner, data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_request_that_cannot_be_used_is_refused_before_any_work(
    made: tuple[Path, Path, EditList, Site], tmp_path: Path
) -> None:
    film, trailer, _, site = made
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(trailer.read_bytes())
    np.save(tmp_path / "x.npy", np.ones((2, 7), np.float32))

    def ask(*trailers: Path, data: Path | None = None, name: str | None = None) -> str:
        runner = LocalRunner(lambda line: None)
        with pytest.raises(InputError) as caught:
            align_film(film, trailers, load_config(None), site, runner, data=data, name=name)
        assert not runner.times
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "is the film itself" in ask(film)
    assert f"is the same as {trailer}" in ask(trailer, copy)
    assert "no such film" in ask(tmp_path / "missing.mp4")
    assert "say which with --data" in ask(trailer, name="x")
    assert "width 7 (x.npy), these have 128" in ask(trailer, data=tmp_path)
    assert "is a file" in ask(trailer, data=copy)
    assert "would be read as a trailer" in ask(trailer, data=tmp_path / "d", name="film-2")
    for name in ("", ".x", "a/b", "a\nb", "x" * 61):
        assert "is no name for a file" in ask(trailer, data=tmp_path / "d", name=name)


class Brightness:
    """An encoder that sees how bright a picture is, in eight steps, and nothing else."""

    identity = Identity("brightness@1", 8)
    weights = ""
    batch = 3
    shortest = 64

    def __init__(self) -> None:
        self.seen = 0

    def moments(self, seconds: float) -> list[float]:
        return [seconds / 2]

    def prepare(self, shot: ShotContent) -> int:
        (picture,) = shot.pictures
        return int(picture.max(axis=2).mean()) // 32

    def encode(self, prepared: Sequence[int]) -> np.ndarray:
        self.seen += len(prepared)
        return np.eye(8, dtype=np.float32)[list(prepared)]


def test_the_encoder_that_is_asked_for_is_the_one_that_compares(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain pictures, of which only the encoder can say something. The trailer has the film's colours at another
    brightness: by brightness its shots are others than by colour."""
    red, green, blue = (1.0, 0.1, 0.1), (0.1, 1.0, 0.1), (0.1, 0.1, 1.0)
    shown = {
        "film": [(red, 240), (green, 176), (blue, 112)],
        "trailer": [(green, 240), (blue, 176), (red, 112)],
    }
    for name, shots in shown.items():
        plain = [np.full((90, 160, 3), level * np.array(colour), np.uint8) for colour, level in shots]
        write_film(tmp_path / f"{name}.mp4", [p for p in plain for _ in range(36)], frame_rate=Fraction(24))

    def ask(encoder: str) -> list[int]:
        config = load_config(None, [f"features.encoder={encoder}"])
        film, trailers = tmp_path / "film.mp4", [tmp_path / "trailer.mp4"]
        found = align_film(film, trailers, config, site, LocalRunner(lambda line: None))
        assert len(found.shots) == len(found.trailers[0].shots) == 3
        return found.trailers[0].alignment.film_shots.tolist()

    assert ask("descriptor") == [1, 2, 0]
    brightness, load = Brightness(), encoders.load_encoder
    monkeypatch.setattr(
        encoders, "load_encoder", lambda c, s: brightness if str(c.encoder) == "siglip2" else load(c, s)
    )
    assert ask("siglip2") == [0, 1, 2]
    assert brightness.seen >= 6


def test_absent_weights_are_told_before_any_work(made: tuple[Path, Path, EditList, Site], tmp_path: Path) -> None:
    film, trailer, _, site = made
    runner = LocalRunner(lambda line: None)
    with pytest.raises(MissingDependencyError, match="trailer weights fetch siglip2"):
        align_film(
            film,
            [trailer],
            load_config(None, ["features.encoder=siglip2"]),
            site.model_copy(update={"weights_dir": tmp_path}),
            runner,
        )
    assert not runner.times


def test_a_shot_of_which_no_picture_was_sampled_is_looked_at(tmp_path: Path) -> None:
    """A tenth of a second after a cut, which is before the first sample: three pictures are read from the file."""
    path = tmp_path / "soft.mp4"
    barcode_film(path, frame_rate=Fraction(24), shots=[96, 20, 96])
    film = probe_film(path)
    seen = analyse(film)
    spans = tuple(Span(a, b) for a, b in pairwise([film.start, 96 / 24, 96 / 24 + 0.1, film.end]))
    blank = np.zeros(3, np.float32)
    shots = Shots(film, spans, (frozenset(),) * 3, energy=blank, luma=blank)  # the second ends before its first sample
    assert not ((seen.sample_times >= spans[1].start) & (seen.sample_times < spans[1].end)).any()
    pictures = look_at_pictures(seen, shots, Brightness())
    inside = (pictures.times >= spans[1].start) & (pictures.times < spans[1].end)
    assert inside.sum() == 3
    assert (np.diff(pictures.times) > 0).all()
    assert len(pictures.copies) == len(pictures.looks) == len(pictures.times) == len(seen.sample_times) + 3
    same = look_at_pictures(seen, shots, Descriptor())
    nearest = np.abs(pictures.times - (spans[1].end + 0.1)).argmin()
    assert compare_pictures(same, same)[np.flatnonzero(inside)[0], nearest] > DOUBTFUL_BELOW  # one shot's pictures


# the folder


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("film", "film"),
        ("Blade Runner-2049", "Blade_Runner_2049"),
        ("film-1-2", "film-1_2"),
        ("-film", "film"),
        ("..", "film"),
        ("$x; rm", "x_rm"),
        ("Фильм.2020", "Фильм.2020"),
        ("x" * 57 + "-12.tail", "x" * 57 + "_12"),
    ],
)
def test_a_films_name_is_a_safe_file_name_and_no_trailers(stem: str, name: str) -> None:
    assert name_film(stem) == name


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)


def test_a_pair_is_added_once_and_more_trailers_join_it(tmp_path: Path, rows: np.ndarray) -> None:
    folder = tmp_path / "new" / "data"
    first = add_pair(folder, "a", rows, [rows[[3, 1]], rows[[2, 2, 8]]])
    assert [path.name for path in first] == ["a.npy", "a-1.npy", "a-2.npy"]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    again = add_pair(folder, "a", rows, [rows[[2, 2, 8]], rows[[0]], rows[[0]]])
    assert [path.name for path in again] == ["a.npy", "a-2.npy", "a-3.npy", "a-3.npy"]
    assert sorted(path.name for path in folder.iterdir()) == ["a-1.npy", "a-2.npy", "a-3.npy", "a.npy"]
    assert all(path.read_bytes() == content for path, content in before.items())
    add_pair(folder, "b", rows[:4], [rows[:2]])
    assert [s.labels_J.tolist() for s in load_samples(folder)] == [[3, 1], [2, 2, 8], [0], [0, 1]]


def test_nothing_is_written_over_and_nothing_half(
    tmp_path: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_pair(tmp_path, "a", rows, [rows[[3, 1]]])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def refused(name: str, film: np.ndarray, words: str) -> None:
        with pytest.raises(InputError, match=words):
            add_pair(tmp_path, name, film, [film[:2]])
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    refused("a", rows[:5], "is another film")
    refused("a", rows[::-1].copy(), "is another film")
    refused("b", rows[:, :5], "holds features of width 8")

    calls = 0

    def save(file: object, array: np.ndarray, **options: bool) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pairs.np, "save", save)
        refused("b", rows, "No space left")
    (tmp_path / "c-1.npy").write_bytes((tmp_path / "a-1.npy").read_bytes())
    before[tmp_path / "c-1.npy"] = (tmp_path / "a-1.npy").read_bytes()
    refused("c", rows, r"holds trailers of c, but no c\.npy")
    for content in (b"", b"nonsense", b"PK\x03\x04"):
        (tmp_path / "d.npy").write_bytes(content)
        before[tmp_path / "d.npy"] = content
        refused("b", rows, r"d\.npy")
