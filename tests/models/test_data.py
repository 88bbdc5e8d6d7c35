"""Features are read as they lie in the public data set, and a bad file is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.ssmp.data import (
    Facts,
    align_shots,
    choose_samples,
    load_samples,
    make_batch,
    mean_cosine,
    read_facts,
    read_lists,
    split_by_film,
)
from pipeline.errors import InputError

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "align.npz"


@pytest.fixture
def folder(tmp_path):
    """Two films, three trailers: 12 has two, "spider-man" one; a trailer's rows are film rows, scaled."""
    rng = np.random.default_rng(0)
    for film, n_shots, cuts in (("12", 9, ([4, 0, 8], [1, 2])), ("spider-man", 6, ([5, 3],))):
        rows = rng.normal(size=(n_shots, 8)).astype(np.float32)
        np.save(tmp_path / f"{film}.npy", rows)
        for number, cut in enumerate(cuts, 1):
            np.save(tmp_path / f"{film}-{number}.npy", rows[cut] * 3)
    return tmp_path


def test_labels_agree_with_the_reference():
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}")
    golden = np.load(GOLDEN)
    assert align_shots(golden["V"], golden["M"]).tolist() == golden["g"].tolist()


def test_ties_go_to_the_lowest_shot():
    rng = np.random.default_rng(1)
    for n_shots in (3, 17, 64, 301):  # a matrix product may round equal rows differently at its borders
        rows = np.repeat(rng.normal(size=(1, 33)), n_shots, axis=0)
        assert align_shots(rows[:1], rows).tolist() == [0]


def test_films_and_trailers_are_found_and_aligned(folder):
    samples = load_samples(folder)
    assert [(s.name, s.film, s.labels_J.tolist()) for s in samples] == [
        ("12-1", "12", [4, 0, 8]),
        ("12-2", "12", [1, 2]),
        ("spider-man-1", "spider-man", [5, 3]),
    ]
    assert samples[0].movie_ID is samples[1].movie_ID
    for sample in samples:
        assert sample.movie_ID.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(sample.movie_ID, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(sample.trailer_JD, sample.movie_ID[sample.labels_J], atol=1e-6)


def test_batches_are_padded_with_zeros(folder):
    batch = make_batch(load_samples(folder))
    assert batch.movie_BID.shape == (3, 9, 8)
    assert batch.trailer_BJD.shape == (3, 3, 8)
    assert batch.movie_lengths.tolist() == [9, 9, 6]
    assert batch.trailer_lengths.tolist() == [3, 2, 2]
    assert float(batch.movie_BID[2, 6:].abs().max()) == 0
    assert batch.labels_BJ[1].tolist() == [1, 2, 0]


def test_no_film_is_on_both_sides_of_the_split(folder):
    samples = load_samples(folder)
    learning, testing = split_by_film(samples, 0.1, np.random.default_rng(0))
    assert {s.film for s in learning} | {s.film for s in testing} == {"12", "spider-man"}
    assert not {s.film for s in learning} & {s.film for s in testing}


def test_mean_cosine_agrees_with_all_pairs(folder):
    samples = load_samples(folder)
    means = []
    for rows in (samples[0].movie_ID, samples[2].movie_ID):
        cosines = rows @ rows.T
        means.append(cosines[~np.eye(len(rows), dtype=bool)].mean())
    assert mean_cosine(samples) == pytest.approx(np.mean(means), abs=1e-6)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-9]), "not a whole .npy"),
        (lambda p: p.write_bytes(p.read_bytes()[:20]), "not a whole .npy"),
        (lambda p: p.write_bytes(b""), "not a whole .npy"),
        (lambda p: p.write_bytes(b"PK\x03\x04 nonsense"), "not a whole .npy"),
        (lambda p: np.save(p, np.full((2, 8), np.nan)), "first in row 0"),
        (lambda p: np.save(p, np.zeros(8)), "shape"),
        (lambda p: np.save(p, np.zeros((0, 8))), "shape"),
        (lambda p: np.save(p, np.zeros((2, 7))), "width 7, the others 8"),
        (lambda p: np.save(p, np.array([["a"]])), "shape"),
        (lambda p: np.save(p, np.array([[{}]], dtype=object), allow_pickle=True), "not a whole .npy"),
    ],
)
def test_a_bad_file_is_named(folder, spoil, words):
    path = folder / "12-2.npy"
    spoil(path)
    with pytest.raises(InputError, match=words) as caught:
        load_samples(folder)
    assert "12-2.npy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_bytes_in_a_header_are_refused_in_one_line(folder):
    path = folder / "12-2.npy"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(300):
        spoiled = bytearray(whole)
        for place in rng.integers(6, 80, size=rng.integers(1, 5)):
            spoiled[place] = rng.integers(256)
        path.write_bytes(bytes(spoiled))
        try:
            load_samples(folder)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 200
    assert all("12-2.npy" in message and "\n" not in message for message in messages)


def test_a_trailer_longer_than_its_film_is_named(folder):
    np.save(folder / "12-2.npy", np.ones((10, 8), np.float32))
    with pytest.raises(InputError, match=r"12-2\.npy has 10 shots, its film 12\.npy only 9"):
        load_samples(folder)


def test_files_of_some_system_and_huge_numbers(folder):
    (folder / "._12-1.npy").write_bytes(b"macOS leaves these")
    np.save(folder / "12-2.npy", np.load(folder / "12.npy")[[3]].astype(np.float64) * 1e300)
    assert [s.labels_J.tolist() for s in load_samples(folder)][1] == [3]


def test_missing_films_and_folders_are_named(folder):
    (folder / "12.npy").unlink()
    with pytest.raises(InputError, match=r"12\.npy"):
        load_samples(folder)
    with pytest.raises(InputError, match="no such folder"):
        load_samples(folder / "elsewhere")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no features in"):
        load_samples(folder / "empty")


def test_two_folders_of_the_public_set_are_read(folder, tmp_path):
    """MMSC keeps films and trailers apart; a trailer may have its film's own name."""
    public = tmp_path / "training_dataset"
    movies, trailers = public / "train_movie_shot_embs", public / "train_trailer_shot_embs"
    for path in (movies, trailers, public / "train_labels_embs"):
        path.mkdir(parents=True)
    for film in ("12", "spider-man"):
        (folder / f"{film}.npy").rename(movies / f"{film}.npy")
    for name, new in (("12-1", "12-1"), ("12-2", "12-2"), ("spider-man-1", "spider-man")):
        (folder / f"{name}.npy").rename(trailers / f"{new}.npy")
    samples = load_samples(public)
    assert [(s.name, s.film, s.labels_J.tolist()) for s in samples] == [
        ("12-1", "12", [4, 0, 8]),
        ("12-2", "12", [1, 2]),
        ("spider-man", "spider-man", [5, 3]),
    ]
    (public / "other_movie_shot_embs").mkdir()
    with pytest.raises(InputError, match=r"one folder \*movie_shot_embs"):
        load_samples(public)


def test_a_film_whose_name_ends_in_a_number_is_a_film_where_it_has_a_trailer(folder):
    rows = np.load(folder / "12.npy")
    np.save(folder / "blade-2049.npy", rows)
    np.save(folder / "blade-2049-1.npy", rows[:3])
    assert [s.film for s in load_samples(folder)] == ["12", "12", "blade-2049", "spider-man"]


def test_lists_choose_films_and_trailers(folder, tmp_path):
    listed = tmp_path / "test-8.txt"
    listed.write_text("# the public test films\n12-2\n\nspider-man   # a film: all its trailers\n")
    chosen = choose_samples(load_samples(folder), read_lists([listed]))
    assert [s.name for s in chosen] == ["12-2", "spider-man-1"]
    with pytest.raises(InputError, match="2 that the data does not have: 13, 14"):
        choose_samples(load_samples(folder), {"13", "14", "12"})
    listed.write_text("# nothing\n")
    with pytest.raises(InputError, match="no names in the list"):
        read_lists([listed])
    with pytest.raises(InputError, match="cannot read"):
        read_lists([tmp_path / "none.txt"])


def test_facts_are_read_from_a_table_and_from_the_public_index(tmp_path):
    table = tmp_path / "films.csv"
    table.write_text("genres,film,year\nCrime|Thriller,12,1995\n,13,\n")
    assert read_facts(table) == {"12": Facts(1995, ("crime", "thriller")), "13": Facts(None, ())}
    table.write_bytes(
        b"Flipped.2010,3\nJust Friends, the 2nd (2018),255\nHarry potter 1,78\nBlade 2049 2017,5\nM\xe9 1999,6\n"
    )
    years = {film: facts.year for film, facts in read_facts(table).items()}
    assert years == {"3": 2010, "255": 2018, "78": None, "5": 2017, "6": 1999}
    table.write_text("film,year\n12,soon\n")
    with pytest.raises(InputError, match=r"films\.csv, row 2"):
        read_facts(table)
    table.write_text("only a title\n")
    with pytest.raises(InputError, match="row 1"):
        read_facts(table)
