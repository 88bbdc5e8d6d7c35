"""A library: which files are films, which need a trailer, and what is remembered of each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.cli import run
from flows.notify import notify
from flows.passes import LocalMaker, Row, look, make_all, tabulate
from pipeline.editfile import edit_to_json
from pipeline.errors import InputError, MissingDependencyError, TrailerError
from pipeline.ledger import Fate, Kept, Ledger, Standing, claim, keep_current
from pipeline.library import LibrarySettings, find_films
from pipeline.media import probe_film
from pipeline.settings import Site, TrailerConfig
from pipeline.trailer import Outcome
from tests.plans import plan_edit, take
from tests.synthetic import barcode_film

NOW = LibrarySettings(settle_seconds=0, min_minutes=0)


def put(path: Path, content: bytes = b"film") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found(folder: Path, settings: LibrarySettings = NOW) -> dict[str, str]:
    """The films by path in the library, and why they are left out."""
    return {str(e.path.relative_to(folder)): e.skipped for e in find_films(folder, settings)}


# --- which files are films -----------------------------------------------------------------------------------------------


def test_films_are_found_and_what_belongs_to_them_is_not(tmp_path: Path) -> None:
    films = ["A (1999)/A (1999).mkv", "The.Big.Short.2015.mp4", "deep/er/one.WEBM", "Trailer Park.avi", "clip.mov"]
    others = [
        *(
            "A (1999)/A-trailer.mkv",
            "A (1999)/A-sample.mkv",
            "A (1999)/A.trailer2.mp4",
            "A (1999)/A-behindthescenes.mkv",
        ),
        *("A (1999)/extras/making.mkv", "A (1999)/Behind The Scenes/x.mkv", "A (1999)/trailers/A.mp4", "sample.mkv"),
        *(
            ".hidden.mkv",
            ".hidden/film.mkv",
            "@eaDir/film.mkv",
            "disc/VIDEO_TS/VTS_01_1.VOB",
            "notes.txt",
            "film.mkv.part",
        ),
    ]
    for name in films + others:
        put(tmp_path / name)
    assert found(tmp_path) == dict.fromkeys(films, "")


def test_a_folder_that_its_owner_has_closed_is_left_alone(tmp_path: Path) -> None:
    put(tmp_path / "open" / "a.mkv")
    put(tmp_path / "closed" / "b.mkv")
    put(tmp_path / "closed" / "deep" / "c.mkv")
    (tmp_path / "closed" / ".ignore").touch()
    assert found(tmp_path) == {"open/a.mkv": ""}


def test_links_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "library" / "a.mkv")
    put(tmp_path / "elsewhere" / "b.mkv")
    (tmp_path / "library" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "library" / "round").symlink_to(tmp_path / "library")
    (tmp_path / "library" / "gone.mkv").symlink_to(tmp_path / "nowhere.mkv")
    told = found(tmp_path / "library")
    assert told.pop("gone.mkv").startswith("a link that leads nowhere")
    assert told == {"a.mkv": "", "more/b.mkv": ""}


def test_a_file_that_is_still_being_copied_is_left_for_the_next_pass(tmp_path: Path) -> None:
    film = put(tmp_path / "a.mkv")
    settings = LibrarySettings(settle_seconds=60)
    changed = film.stat().st_ctime
    assert [e.skipped for e in find_films(tmp_path, settings, now=changed + 30)] == [
        "changed 30 s ago: it may still be being copied"
    ]
    assert [e.skipped for e in find_films(tmp_path, settings, now=changed + 61)] == [""]
    os.utime(film, (changed - 1e6, changed - 1e6))  # copied with its old date: when it came is known all the same
    assert [e.skipped for e in find_films(tmp_path, settings, now=film.stat().st_ctime + 30)] != [""]
    os.utime(film, (changed + 1e6, changed + 1e6))  # a date that is still to come says nothing
    assert [e.skipped for e in find_films(tmp_path, settings, now=film.stat().st_ctime + 61)] == [""]


def test_empty_files_odd_names_and_doubles_say_why_they_are_left_out(tmp_path: Path) -> None:
    put(tmp_path / "empty.mkv", b"")
    put(tmp_path / "a.avi")
    put(tmp_path / "a.mkv")
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xe9.mkv")))
    told = {entry.path.name: entry.skipped for entry in find_films(tmp_path, NOW)}
    assert told == {
        "a.avi": "",
        "a.mkv": "its trailer would be that of a.avi",
        "empty.mkv": "empty (0 bytes)",
        "latin-\udce9.mkv": "its name is not valid UTF-8: rename it",
    }


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "films/A (1999)/a-trailer.mp4"),
        ({"place": "trailers"}, "films/A (1999)/trailers/a-trailer.mp4"),
        ({"place": "tree", "tree": "TREE"}, "TREE/A (1999)/a-trailer.mp4"),
    ],
)
def test_where_the_trailer_goes(settings: dict[str, str], expected: str, tmp_path: Path) -> None:
    put(tmp_path / "films" / "A (1999)" / "a.mkv")
    if "tree" in settings:
        settings = {**settings, "tree": str(tmp_path / "TREE")}
    (entry,) = find_films(tmp_path / "films", LibrarySettings.model_validate({**settings, "settle_seconds": 0}))
    assert entry.out == tmp_path / expected


@pytest.mark.parametrize(
    ("name", "nfo", "title", "year"),
    [
        ("Blade Runner (1982)/disc1.mkv", None, "Blade Runner", 1982),
        ("x/The.Third.Man.1949.1080p.mkv", None, "The Third Man", 1949),
        ("x/1984.mkv", None, "1984", 0),
        ("2001 A Space Odyssey (1968)/film.mkv", None, "2001 A Space Odyssey", 1968),
        ("x/a.mkv", "<movie><title> Amélie </title><year>2001</year></movie>", "Amélie", 2001),
        ("x/a.mkv", "<movie><title>A</title><year>no</year></movie>\nhttps://example.org/1", "A", 0),
        ("x/a.mkv", '<!DOCTYPE m [<!ENTITY e "boom">]><movie><title>&e;</title></movie>', "A", 0),
        ("x/a.mkv", "<movie><title>broken</movie>", "A", 0),
        ("x/a.mkv", "<movie></movie>", "A", 0),
    ],
)
def test_title_and_year(name: str, nfo: str | None, title: str, year: int, tmp_path: Path) -> None:
    film = put(tmp_path / name)
    if nfo is not None:
        film.with_suffix(".nfo").write_text(nfo, encoding="utf-8")
    (entry,) = find_films(tmp_path, NOW)
    assert (entry.title, entry.year) == (title, year)


def test_a_library_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    film = put(tmp_path / "a.mkv")
    for folder, settings, reason in [
        (tmp_path / "absent", {}, "no such library"),
        (film, {}, "is a file"),
        (tmp_path, {"place": "tree"}, "--tree DIR"),
        (tmp_path, {"tree": "/elsewhere"}, "--tree DIR"),
        (tmp_path, {"place": "tree", "tree": str(tmp_path / "trailers")}, "lies in the library"),
    ]:
        with pytest.raises(InputError, match=reason):
            find_films(folder, LibrarySettings.model_validate(settings))


# --- which of them need a trailer ----------------------------------------------------------------------------------------


def deliver(film: Path, config: TrailerConfig, out: Path) -> Outcome:
    """What make_trailer leaves behind, in a moment."""
    film_read = probe_film(film)
    plan = plan_edit(film_read, [take(film_read, film_read.start, 24)], config=config.model_dump(mode="json"))
    out.with_suffix(".edit.json").write_text(edit_to_json(plan))
    out.write_bytes(b"trailer")
    return Outcome(out, out, out, out, 60.0, 20, True, (), (), ())


class Faked:
    """Makes a film's trailer in a moment, as keep_current does it. made: which ones."""

    def __init__(self, site: Site, error: Exception | None = None) -> None:
        self.made: list[str] = []
        self.site, self.error = site, error

    def __call__(self, pending: list[Standing]) -> object:
        for standing in pending:
            yield standing, self._keep(standing), 1.0

    def _keep(self, standing: Standing) -> Kept:
        entry, config = standing.entry, standing.config

        def make() -> Outcome:
            if self.error is not None:
                raise self.error
            self.made.append(entry.path.name)
            return deliver(entry.path, config, entry.out)

        try:
            return keep_current(entry.path, entry.out, config, Ledger(self.site.work_dir), make)
        except TrailerError as error:
            return Kept(Fate.failed, error.headline)


def do_pass(
    folder: Path,
    site: Site,
    settings: LibrarySettings = NOW,
    config: TrailerConfig | None = None,
    error: Exception | None = None,
) -> tuple[list[str], dict[str, Fate]]:
    """One pass: what was made, and how every film stands then."""
    rows: list[Row] = []
    maker = Faked(site, error)
    standings = look(folder, settings, config or TrailerConfig(), site)
    report = make_all(folder, standings, maker, lambda row, done, of: rows.append(row))  # type: ignore[arg-type]
    assert len(rows) == sum(standing.fate in (Fate.new, Fate.changed) for standing in standings)
    return sorted(maker.made), {row.film.name: row.fate for row in report.rows}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of five seconds."""
    path = tmp_path_factory.mktemp("source") / "film.mp4"
    barcode_film(path, frame_rate=Fraction(24), shots=[60, 60], sound=False)
    return path


def add_film(source: Path, path: Path, mark: str = "") -> Path:
    """A copy that is another film to whoever looks at its bytes."""
    return put(path, source.read_bytes() + b"\0\0\0\x10free" + f"{mark}{path.name}".encode().ljust(8)[:8])


@pytest.fixture
def shelf(tmp_path: Path, source: Path) -> Path:
    """Three films."""
    for name in "abc":
        add_film(source, tmp_path / "films" / f"{name}.mp4")
    return tmp_path / "films"


ALL = ["a.mp4", "b.mp4", "c.mp4"]
CURRENT = dict.fromkeys(ALL, Fate.current)


def test_a_second_pass_makes_nothing_and_a_changed_film_is_made_again(shelf: Path, source: Path, site: Site) -> None:
    made, stands = do_pass(shelf, site)
    assert (made, stands) == (ALL, dict.fromkeys(ALL, Fate.made))
    assert do_pass(shelf, site) == ([], CURRENT)
    add_film(source, shelf / "b.mp4", "new")
    assert do_pass(shelf, site) == (["b.mp4"], {**CURRENT, "b.mp4": Fate.made})
    os.utime(shelf / "a.mp4", (1, 1))  # touched: looked at again, which costs little
    assert do_pass(shelf, site)[0] == ["a.mp4"]
    assert do_pass(shelf, site) == ([], CURRENT)
    add_film(source, shelf / "d.mp4")
    (shelf / "c.mp4").rename(shelf / "e.mp4")
    assert do_pass(shelf, site)[0] == ["d.mp4", "e.mp4"]
    assert (shelf / "c-trailer.mp4").exists()  # nothing is removed
    assert do_pass(shelf, site, config=TrailerConfig(length=30))[0] == ["a.mp4", "b.mp4", "d.mp4", "e.mp4"]
    assert do_pass(shelf, site, config=TrailerConfig(length=30))[0] == []
    (shelf / "a-trailer.mp4").unlink()
    assert do_pass(shelf, site, config=TrailerConfig(length=30))[0] == ["a.mp4"]


def test_a_trailer_speaks_for_itself_where_the_memory_is_gone(shelf: Path, source: Path, site: Site) -> None:
    do_pass(shelf, site)
    for record in Ledger(site.work_dir).folder.iterdir():
        record.unlink()
    assert do_pass(shelf, site) == ([], CURRENT)
    for record in Ledger(site.work_dir).folder.iterdir():
        record.write_text("{")
    add_film(source, shelf / "b.mp4", "new")
    assert do_pass(shelf, site)[0] == ["b.mp4"]


def test_a_trailer_that_is_not_ours_is_never_written_over(shelf: Path, site: Site) -> None:
    other = put(shelf / "a-trailer.mp4", b"somebody else's")
    made, stands = do_pass(shelf, site)
    assert made == ["b.mp4", "c.mp4"]
    assert stands["a.mp4"] is Fate.skipped
    assert other.read_bytes() == b"somebody else's"
    kept = keep_current(
        shelf / "a.mp4", other, TrailerConfig(title="A"), Ledger(site.work_dir), lambda: pytest.fail("made")
    )
    assert kept.fate is Fate.skipped


def test_a_film_that_cannot_be_used_is_remembered_and_a_fault_of_the_machine_is_not(shelf: Path, site: Site) -> None:
    def stands(error: Exception | None, **settings: bool) -> tuple[int, Fate]:
        made, stands = do_pass(shelf, site, LibrarySettings(settle_seconds=0, min_minutes=0, **settings), error=error)
        return len(made), stands["a.mp4"]

    unusable = InputError("too few shots")
    assert stands(MissingDependencyError("no ffmpeg")) == (0, Fate.failed)
    assert stands(unusable) == (0, Fate.failed)
    assert stands(None) == (0, Fate.failed)  # not tried again
    report = make_all(shelf, look(shelf, NOW, TrailerConfig(), site), Faked(site), lambda *_: None)  # type: ignore[arg-type]
    assert {row["why"] for row in tabulate(report)} == {"too few shots (before; it has not changed since)"}
    assert stands(None, retry_failed=True) == (3, Fate.made)


def test_short_films_are_left_out_and_not_opened_twice(
    shelf: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = LibrarySettings(settle_seconds=0, min_minutes=1)
    made, stands = do_pass(shelf, site, settings)
    assert (made, set(stands.values())) == ([], {Fate.skipped})
    monkeypatch.setattr("pipeline.ledger.probe_film", lambda path: pytest.fail("opened again"))
    standings = look(shelf, settings, TrailerConfig(), site)
    assert {standing.why for standing in standings} == {"lasts 0.1 min, less than 1"}


def test_what_the_gate_refuses_is_a_failure_that_is_remembered(shelf: Path, site: Site) -> None:
    film, out, config = shelf / "a.mp4", shelf / "a-trailer.mp4", TrailerConfig(title="A")
    refused = Outcome(out.with_name("a-trailer.rejected.mp4"), out, out, out, 60.0, 20, False, ("loudness",), (), ())
    kept = keep_current(film, out, config, Ledger(site.work_dir), lambda: refused)
    assert (kept.fate, kept.why) == (
        Fate.failed,
        "refused by the checks (loudness); put aside as a-trailer.rejected.mp4",
    )
    assert look(shelf, NOW, TrailerConfig(), site)[0].fate is Fate.failed


# --- several passes at once ----------------------------------------------------------------------------------------------


def test_one_run_makes_a_trailer_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "new" / "a-trailer.mp4"
    holder = "from pathlib import Path\nfrom pipeline.ledger import claim\nimport time\n"
    holder += f"with claim(Path({str(out)!r})) as mine:\n    print(mine, flush=True)\n    time.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    with claim(out) as mine:
        assert not mine
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with claim(out) as mine, claim(out) as also:
        assert (mine, also) == (True, False)
    assert list(out.parent.iterdir()) == []


def test_two_passes_at_once_make_each_film_once(shelf: Path, site: Site) -> None:
    made: list[str] = []

    class Slow(Faked):
        def _keep(self, standing: Standing) -> Kept:
            def make() -> Outcome:
                made.append(standing.entry.path.name)
                time.sleep(0.1)
                return deliver(standing.entry.path, standing.config, standing.entry.out)

            return keep_current(standing.entry.path, standing.entry.out, standing.config, Ledger(site.work_dir), make)

    def work(number: int) -> dict[str, Fate]:
        standings = look(shelf, NOW, TrailerConfig(), site)
        report = make_all(shelf, standings, Slow(site), lambda *_: None)  # type: ignore[arg-type]
        return {row.film.name: row.fate for row in report.rows}

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(work, range(4)))
    assert sorted(made) == ALL
    for name in ALL:
        assert sorted(stands[name] for stands in told).count(Fate.made) == 1
        assert {stands[name] for stands in told} <= {Fate.made, Fate.busy, Fate.current}


# --- films in processes of their own -------------------------------------------------------------------------------------


def test_a_film_that_fails_or_dies_never_stops_the_rest(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The process of one film is killed, that of another cannot use its film, the third says nonsense."""
    (tmp_path / "fake_job.py").write_text(
        "import json, os, signal, sys\n"
        "asked = json.load(sys.stdin)\n"
        "name = os.path.basename(bytes.fromhex(asked['film']).decode())\n"
        "print('analysis: 50 %', file=sys.stderr, flush=True)\n"
        "if name == 'a.mp4': os.kill(os.getpid(), signal.SIGKILL)\n"
        "if name == 'b.mp4': print(json.dumps({'fate': 'failed', 'why': 'no shots'}))\n"
        "if name == 'c.mp4': print('Segmentation fault')\n"
    )
    monkeypatch.setattr("flows.passes.JOB_MODULE", "fake_job")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lines: list[str] = []
    standings = look(shelf, NOW, TrailerConfig(), Site(work_dir=tmp_path / "work"))
    report = make_all(shelf, standings, LocalMaker(2, lines.append), lambda *_: None)
    assert {row.film.name: (row.fate, row.why) for row in report.rows} == {
        "a.mp4": (Fate.failed, "its process ended with -9: analysis: 50 %"),
        "b.mp4": (Fate.failed, "no shots"),
        "c.mp4": (Fate.failed, "its process ended with 0: analysis: 50 %"),
    }
    assert "A: analysis: 50 %" in lines


def test_the_command_accounts_for_every_film(
    shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With films that are too short to make a trailer of: each has its own line, and the exit code says so."""
    monkeypatch.setenv("TRAILER_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("PREFECT_API_URL", "")
    put(shelf / "broken.mkv", b"no film")
    for name in ("b.mp4", "c.mp4"):
        (shelf / name).unlink()
    before = {path.name: path.read_bytes() for path in shelf.iterdir()}
    arguments = ["library", str(shelf), "--min-minutes", "0", "--settle", "0"]
    assert run([*arguments, "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {film["state"] for film in told["films"]} == {"new"}
    assert run([*arguments, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["counts"]["failed"] == 2
    whys = {Path(film["file"]).name: film["why"] for film in told["films"]}
    assert "is not a media file" in whys["broken.mkv"]
    assert "trailer needs" in whys["a.mp4"]
    assert {path.name: path.read_bytes() for path in shelf.iterdir()} == before
    assert run([*arguments, "--status"]) == 0
    assert "2 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["library", "/nowhere"], "no such library: /nowhere"),
        (["library", "FOLDER"], "no films under"),
        (["library", "FOLDER", "--place", "moon"], "place: Input should be 'beside', 'trailers' or 'tree'"),
        (["library", "FOLDER", "--together", "0"], "together: Input should be greater than or equal to 1"),
        (["serve", "--cron", "0 2 * * *"], "need --library FOLDER"),
        (["serve", "--library", "/nowhere"], "no such library: /nowhere"),
    ],
)
def test_a_request_that_cannot_be_used_is_one_line(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([word.replace("FOLDER", str(tmp_path)) for word in arguments]) == 2
    told = capsys.readouterr()
    assert reason in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


# --- somebody is told ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web hook, and what it was told."""
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/secret", heard
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_hook_is_told_and_its_address_is_never_shown(
    hook: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url, heard = hook
    assert not notify("Trailers", "1 made", {}, failed=False)
    monkeypatch.setenv("TRAILER_NOTIFY_URL", url)
    assert notify("Trailers", "1 made", {"films": []}, failed=False)
    assert heard == [
        {
            "title": "Trailers",
            "text": "Trailers: 1 made",
            "content": "Trailers: 1 made",
            "message": "1 made",
            "failed": False,
            "films": [],
        }
    ]
    monkeypatch.setenv("TRAILER_NOTIFY_ON", "failure")
    assert not notify("Trailers", "1 made", {}, failed=False)
    assert notify("Trailers", "1 failed", {}, failed=True)
    monkeypatch.setenv("TRAILER_NOTIFY_URL", "http://127.0.0.1:9/secret")
    assert not notify("Trailers", "1 failed", {}, failed=True)
    assert "could not be sent" in caplog.text
    assert "secret" not in caplog.text + repr(Site())
