"""The command line: what it answers, with which exit code, on which stream. No server, no Prefect."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from flows import server
from flows.config_text import config_to_toml
from flows.display import Display
from flows.looking import draw_table, finite, tell_music
from flows.making import gather_settings
from pipeline.records import Segments, Span, Track
from pipeline.settings import TrailerConfig, load_config
from tests.conftest import Command
from tests.synthetic import barcode_film

ROOT = Path(__file__).resolve().parents[1]
# small and quick: what is tested here is the door, not the trailer
FAST = ["--length", "6", "--set", "video.preset=ultrafast", "--set", "edit.card_seconds=1"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "A small film.mp4"
    barcode_film(path, frame_rate=Fraction(25), shots=[50] * 14, size=(160, 90))
    return path


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


# help and usage


@pytest.mark.parametrize("arguments", [["--help"], ["make", "--help"], ["--version"], ["nonsense"]])
def test_answers_without_importing_anything_heavy(arguments: list[str]) -> None:
    """It is to answer in under a second; seconds depend on the machine, what is imported does not."""
    code = (
        "import sys; from flows.cli import run; run(sys.argv[1:]); "
        "heavy = {'torch', 'av', 'prefect', 'pipeline.settings', 'librosa', 'httpx', 'cv2', 'numpy'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_help_names_every_command_and_shows_examples(trailer: Command) -> None:
    answer = trailer("--help")
    assert answer.code == 0
    commands = (
        "make",
        "shots",
        "music",
        "render",
        "report",
        "check",
        "align",
        "train",
        "simulate",
        "config",
        "doctor",
        "demo",
        "library",
        "serve",
        "weights",
    )
    for word in (*commands, "Examples:", "130"):
        assert word in answer.out
    assert "trailer make film.mkv --music song.flac" in trailer("make", "--help").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense"),
        (["make"], "FILM"),
        (["make", "f.mp4", "--nonsense"], "--nonsense"),
        (["make", "f.mp4", "--length", "long"], "'--length'"),
        (["make", "-film.mp4"], "./"),
        (["render", "x.edit.json"], "--out"),
        (["train", "data", "--out", "c.safetensors", "--steps", "0"], "'--steps'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(trailer: Command, arguments: list[str], message: str) -> None:
    answer = trailer(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert message in answer.err
    assert "--help" in answer.err


# what cannot be used


def write_odd(folder: Path) -> dict[str, Path]:
    random = np.random.default_rng(0)
    odd = {name: folder / name for name in ("empty.mp4", "random.mp4", "text.mkv", "tone.wav")}
    odd["empty.mp4"].touch()
    odd["random.mp4"].write_bytes(random.bytes(20000))
    odd["text.mkv"].write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    import wave

    with wave.open(str(odd["tone.wav"]), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes((8000 * np.sin(np.arange(48000) / 3)).astype("<i2").tobytes())
    return odd


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.mp4", "no such film"),
        (".", "is a folder"),
        ("empty.mp4", "is empty"),
        ("random.mp4", "not a media file"),
        ("text.mkv", "text.mkv"),
        ("tone.wav", "only sound"),
    ],
)
@pytest.mark.parametrize("command", ["make", "shots"])
def test_an_unusable_film_is_one_line_and_2(
    trailer: Command, tmp_path: Path, command: str, name: str, message: str
) -> None:
    write_odd(tmp_path)
    answer = trailer(command, tmp_path / name)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert message in answer.err
    assert not list(tmp_path.glob("*-trailer*"))


def test_an_unusable_request_is_one_line_and_2(trailer: Command, film: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("shots = [")
    (tmp_path / "unknown.toml").write_text("[shots]\nnonsense = 1\n")
    (tmp_path / "broken.edit.json").write_text('{"schema": 1}')
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(film.read_bytes())
    requests: dict[str, list[str | Path]] = {
        "must end in .mp4": ["make", film, "--out", "x.avi"],
        "is the film itself": ["make", copy, "--out", copy],
        "was not made by this program": ["make", film, "--out", copy],
        "nonsense": ["make", film, "--set", "nonsense=1"],
        "name=value": ["make", film, "--set", "seed"],
        "seed": ["make", film, "--seed", "-1"],
        "length": ["make", film, "--length", "1"],
        "is not TOML": ["make", film, "--config", tmp_path / "bad.toml"],
        "shots.nonsense": ["make", film, "--config", tmp_path / "unknown.toml"],
        "missing.toml": ["make", film, "--config", tmp_path / "missing.toml"],
        "no such track": ["make", film, "--music", "missing.ogg"],
        "missing.ogg": ["music", tmp_path / "missing.ogg"],
        "film is missing": ["render", tmp_path / "broken.edit.json", "--out", "x.mp4"],
        "missing.edit.json": ["report", tmp_path / "missing.edit.json", "--out", "x.html"],
        "x.mp4": ["check", "x.mp4"],
        "must end in .safetensors": ["train", tmp_path, "--out", "c.ckpt"],
        "copy.mp4 is the film itself": ["align", film, copy],
        "no such film": ["align", film, tmp_path / "missing.mp4"],
        "say which with --data": ["align", film, "x.mp4", "--name", "x"],
        "no features in": ["train", tmp_path, "--out", "c.safetensors"],
        "no such folder": ["train", tmp_path / "missing", "--out", "c.safetensors"],
    }
    for message, arguments in requests.items():
        answer = trailer(*arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert answer.err.startswith("error: ")
        assert answer.err.count("\n") == 1, answer.err
        assert message in answer.err
    assert copy.read_bytes() == film.read_bytes()


def test_a_full_disk_is_told_and_a_bug_keeps_its_traceback(trailer: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.looking

    def fail(error: Exception) -> Callable[..., Any]:
        def raise_it(*_: Any) -> None:
            raise error

        return raise_it

    monkeypatch.setattr(flows.looking, "look_at_shots", fail(OSError(28, "No space left on device", "/work/x.npz")))
    answer = trailer("shots", "film.mp4")
    assert answer.code == 2
    assert answer.err.startswith("error: No space left on device: /work/x.npz")
    monkeypatch.setattr(flows.looking, "look_at_shots", fail(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        trailer("shots", "film.mp4")


# the work


@dataclass(frozen=True)
class MadeHere:
    """What a make in a process of its own left behind and said."""

    trailer: Path
    work: Path
    told: dict[str, Any]
    lines: list[str]


@pytest.fixture(scope="module")
def made(film: Path, tmp_path_factory: pytest.TempPathFactory) -> MadeHere:
    folder = tmp_path_factory.mktemp("made")
    out, work = folder / "new folder" / "t.mp4", folder / "work"
    code = (
        "import atexit, sys; from flows import cli; sys.argv[0] = 'trailer'; "
        "atexit.register(lambda: 'prefect' in sys.modules and print('prefect was imported')); cli.main()"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "make",
        str(film),
        "--out",
        str(out),
        "--json",
        "--title",
        '5 = "five"',
        *FAST,
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "TRAILER_"))}
    clean |= {"TRAILER_WORK_DIR": str(work), "PREFECT_HOME": str(folder), "PREFECT_SERVER_EPHEMERAL_ENABLED": "false"}
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return MadeHere(out, work, json.loads(done.stdout), done.stderr.splitlines())


def test_make_prints_one_json_object_and_never_imports_prefect(made: MadeHere) -> None:
    told = made.told
    assert list(told) == [
        "trailer",
        "edit",
        "report",
        "qc",
        "duration",
        "slots",
        "steps",
        "passed",
        "failures",
        "warnings",
    ]
    assert told["trailer"] == str(made.trailer)
    assert told["passed"] is True
    assert told["failures"] == []
    assert told["duration"] == pytest.approx(6, abs=0.05)
    names = ["analysis", "shots", "features", "music", "selection", "lines", "edit", "render", "quality"]
    assert [step["name"] for step in told["steps"]] == names
    assert all(set(step) == {"name", "seconds", "reused"} and not step["reused"] for step in told["steps"])
    for kind in ("trailer", "edit", "report", "qc"):
        assert Path(told[kind]).stat().st_size > 0
    assert json.loads(Path(told["edit"]).read_text())["title"] == '5 = "five"'
    for name in names:
        assert any(line.startswith(f"{name}: ") for line in made.lines)
    for warning in told["warnings"]:
        assert f"warning: {warning}" in made.lines


def test_every_command_that_looks(
    trailer: Command, film: Path, made: MadeHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = made.trailer
    edit = done.with_name("t.edit.json")
    monkeypatch.setenv("TRAILER_WORK_DIR", str(made.work))

    again = trailer("make", film, "--out", done, "--title", '5 = "five"', *FAST)
    assert again.code == 0
    assert again.err.count("reused, made") == 9
    assert again.out.splitlines()[0] == str(done)
    assert "QC passed" in again.out

    told = json.loads(trailer("shots", film, "--json").out)
    assert [shot["number"] for shot in told["shots"]] == list(range(14))
    assert told["shots"][3]["start"] == pytest.approx(6.0, abs=0.001)
    assert set(told["shots"][0]) == {"number", "start", "end", "flags", "motion", "luma"}
    table = trailer("shots", film)
    assert table.code == 0
    assert len(table.out.splitlines()) == 15
    assert "analysis: reused" in table.err

    told = json.loads(trailer("music", json.loads(edit.read_text())["music"]["path"], "--length", "6", "--json").out)
    assert told["segments"][-1]["end"] == pytest.approx(6)
    assert set(told["segments"][0]) == {"number", "start", "end", "energy"}

    told = json.loads(trailer("check", done, "--edit", edit, "--json").out)
    assert told["passed"] is True
    assert {"check", "measured", "limit", "passed"} == set(told["checks"][0])
    assert trailer("check", done).code == 0
    film_checked = trailer("check", film)  # not at a delivery loudness
    assert film_checked.code == 1
    assert film_checked.out.endswith("FAILED\n")

    copy = tmp_path / "copy.mp4"
    rendered = trailer("render", edit, "--out", copy, "--json")
    assert rendered.code == 0
    assert json.loads(rendered.out)["passed"] is True
    assert copy.with_name("copy.edit.json").read_bytes() == edit.read_bytes()

    told = json.loads(trailer("align", film, done, "--data", tmp_path / "data", "--json").out)
    assert list(told) == ["film", "trailers", "data"]
    assert told["data"] == [str(tmp_path / "data" / name) for name in ("A_small_film.npy", "A_small_film-1.npy")]
    table = trailer("align", film, done)
    assert table.code == 0
    assert table.out.startswith(f"{done}\nshot  start-end  ")
    assert f"analysis of {done.name}: reused" in table.err

    page = done.with_name("again.html")
    assert trailer("report", edit, "--out", page).code == 0
    made = done.with_name("t.report.html").read_text()
    known = '<div><dt>Re-masked</dt>.*?</div>|<details class="others">.*?</details>'  # to `make` alone: in no edit list
    assert len(re.findall(known, made)) > 2
    data = '<script type="application/json"[^>]*>.*?</script>'  # the runners-up's pictures are there
    again = page.read_text()
    assert re.sub(f"{known}|{data}", "", made, flags=re.S) == re.sub(data, "", again, flags=re.S)
    elsewhere = tmp_path / "page.html"
    assert trailer("report", edit, "--out", elsewhere).code == 0
    assert f'src="{quote(os.path.relpath(done, tmp_path))}"' in elsewhere.read_text()
    wrong = trailer("report", edit, "--out", page, "--trailer", film.with_name("other.mp4"))
    assert wrong.code == 2


def test_the_tempo_is_the_usual_step_from_beat_to_beat() -> None:
    track = Track(Path("t.flac"), "f", 10.0, 48000)
    spans, energy = (Span(0, 4), Span(4, 10)), np.array([0, 1], np.float32)
    beats = np.array([0.0, 0.5, 1.0, 1.5, 3.0, 3.5])
    told = tell_music(Segments(track, spans, energy, beats))
    assert (told["beats"], told["tempo"], told["duration"]) == (6, 120.0, 10.0)
    assert tell_music(Segments(track, spans, energy, beats[:1]))["tempo"] is None


def test_what_the_gate_refuses_ends_with_1(
    trailer: Command, film: Path, made: MadeHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAILER_WORK_DIR", str(made.work))
    monkeypatch.setattr("pipeline.quality.LOUDNESS_WITHIN", -1.0)
    answer = trailer("make", film, "--out", tmp_path / "t.mp4", "--title", "REFUSED", "--json", *FAST)
    told = json.loads(answer.out)
    assert answer.code == 1
    assert (told["passed"], told["failures"]) == (False, ["loudness_lufs"])
    assert told["trailer"] == str(tmp_path / "t.rejected.mp4")
    assert not (tmp_path / "t.mp4").exists()
    assert (
        "QC FAILED: loudness_lufs"
        in trailer("make", film, "--out", tmp_path / "t.mp4", "--title", "REFUSED", *FAST).out
    )


def test_an_interrupt_ends_with_130_and_one_line(environment: None, film: Path, tmp_path: Path) -> None:
    # a shell that runs the tests in the background hands down an ignored SIGINT
    hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = start("make", str(film), "--out", str(tmp_path / "t.mp4"), *FAST, preexec_fn=hears)
    assert process.stderr is not None
    first = process.stderr.readline()  # in the midst of the work
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert out == ""
    assert (first + err).splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in err


def test_the_reader_of_the_output_may_leave(environment: None) -> None:
    process = start("config")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.wait(timeout=30)
    process.stderr.close()


# settings


def test_the_printed_config_loads_back_to_the_defaults(trailer: Command, tmp_path: Path) -> None:
    answer = trailer("config")
    assert answer.code == 0
    path = tmp_path / "printed.toml"
    path.write_text(answer.out)
    assert load_config(path) == TrailerConfig()


def test_any_config_survives_being_printed(tmp_path: Path) -> None:
    settings = ['title="a \\"b\\" \\\\ ü"', "length=33.5", "guards.credits=false", "selection.decoder=greedy", "seed=7"]
    config = load_config(None, settings)
    path = tmp_path / "printed.toml"
    path.write_text(config_to_toml(config))
    assert load_config(path) == config


def test_every_setting_is_explained() -> None:
    text = config_to_toml(TrailerConfig())
    for section in TrailerConfig.model_fields.values():
        for name, field in getattr(section.annotation, "model_fields", {}).items():
            assert field.description, name
            assert field.description in text


def test_named_options_win_over_set() -> None:
    config = load_config(None, gather_settings(["seed=1", "title=x"], title='"5"', length=20.0, seed=3))
    assert (config.title, config.length, config.seed) == ('"5"', 20.0, 3)


def test_doctor_finds_everything_here_and_says_what_is_missing(
    trailer: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = json.loads(trailer("doctor", "--json").out)
    assert found["problems"] == []
    assert found["prefect"] == {"configured": None, "answers": False}
    assert found["work_dir"]["writable"] is True
    assert found["analysis"]["workers"] >= 1
    assert found["analysis"]["detector"] == "adaptive"  # the device is the CPU
    assert found["analysis"]["dask"]["address"] is None
    assert found["ffmpeg"]["version"]
    assert "all is there" in trailer("doctor").out
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRAILER_FFMPEG", str(tmp_path / "none"))
    monkeypatch.setenv("TRAILER_WORK_DIR", str(tmp_path / "file" / "work"))
    lacking = trailer("doctor")
    assert lacking.code == 1
    assert lacking.out.count("problem: ") == 2


def test_tables_and_json_take_any_value() -> None:
    rows = [
        {"check": "loudness", "measured": float("-inf"), "passed": False},
        {"check": "x", "measured": 1.0, "passed": True},
    ]
    assert json.loads(json.dumps(finite(rows), allow_nan=False))[0]["measured"] == "-inf"
    assert draw_table(rows).splitlines()[1].split() == ["loudness", "-inf", "no"]
    assert draw_table([]) == "nothing"


# with or without a server


def test_a_server_is_found_in_the_environment_or_the_active_profile(tmp_path: Path) -> None:
    home = {"PREFECT_HOME": str(tmp_path)}
    assert server.find_server(home) is None
    (tmp_path / "profiles.toml").write_text(
        'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://a/api"\n'
        '[profiles.other]\n[profiles.third]\nPREFECT_API_URL = "http://c/api"\n'
    )
    assert server.find_server(home) == "http://a/api"
    assert server.find_server({**home, "PREFECT_PROFILE": "other"}) is None
    assert server.find_server({**home, "PREFECT_PROFILE": "third"}) == "http://c/api"
    assert server.find_server({**home, "PREFECT_API_URL": "http://b/api"}) == "http://b/api"
    (tmp_path / "profiles.toml").write_text("active = ")
    assert server.find_server(home) is None


def test_a_configured_server_that_is_down_costs_a_warning_and_with_prefect_an_error(
    trailer: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # the discard port: nobody answers
    merely = trailer("make", tmp_path / "missing.mp4")
    assert merely.code == 2
    assert merely.err.splitlines()[0].startswith(
        "warning: the Prefect server at http://127.0.0.1:9/api does not answer"
    )
    assert merely.err.splitlines()[1].startswith("error: no such film")
    forced = trailer("make", tmp_path / "missing.mp4", "--prefect")
    assert forced.code == 2
    assert forced.err.startswith("error: no Prefect server answers at http://127.0.0.1:9/api")
    assert forced.err.count("\n") == 1
    assert "no Prefect server answers" in trailer("serve").err


def test_progress_is_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Display() as display:
        for second in range(65):  # about a minute, evenly
            now = float(second)
            display.bar("analysis", second / 64)
        for second in range(65, 105):  # slow: 1 % in 40 s
            now = float(second)
            display.bar("render", (second - 65) / 4000)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("analysis")] == [
        f"analysis: {100 * s / 64:.0f} %" for s in range(7, 64, 7)
    ]
    assert len([line for line in lines if line.startswith("render")]) == 3
