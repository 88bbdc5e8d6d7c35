"""Changing a trailer by hand: what stays, what is open, and what the file then shows."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from flows.cli import run
from pipeline.editfile import edit_to_json, read_edit
from pipeline.errors import InputError
from pipeline.media import probe_film
from pipeline.records import EditList, Span
from pipeline.refine import Request, describe_change, name_next, parse_request, read_request, resolve
from tests.plans import plan_edit, take
from tests.synthetic import barcode_film, read_barcode

SHOTS = 8


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> EditList:
    """Five slots with shots 0, 2, 4, 6, 1 of eight that last two seconds each; slot 3 was pinned before."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    barcode_film(path, frame_rate=Fraction(24), shots=[48] * SHOTS, size=(160, 90), sound=False)
    film = probe_film(path)
    spans = tuple(Span(2.0 * k + film.start, 2.0 * k + 2.0 + film.start) for k in range(SHOTS))
    cuts = [
        replace(take(film, spans[shot].start + 0.25, 24), slot=slot, shot=shot, pinned=slot == 3)
        for slot, shot in enumerate((0, 2, 4, 6, 1))
    ]
    edit = plan_edit(film, [replace(cut, shot=0) for cut in cuts])
    return replace(
        edit, shots=spans, cuts=tuple(replace(c, shot=cut.shot) for c, cut in zip(edit.cuts, cuts, strict=True))
    )


def ask(plan: EditList, *words: str) -> Request:
    """A request as it is typed: `pin 3=41`, `ban 4`, ..."""
    given: dict[str, list[str]] = {"pin": [], "keep": [], "ban": [], "swap": [], "reseed": []}
    for word in words:
        name, _, value = word.partition(" ")
        given[name].append(value)
    return parse_request(
        plan,
        pins=given["pin"],
        keep=given["keep"],
        bans=given["ban"],
        swaps=[int(slot) for slot in given["swap"]],
        reseed=int(given["reseed"][0]) if given["reseed"] else None,
    )


@pytest.mark.parametrize(
    ("words", "kept", "pins", "pinned"),
    [
        (["pin 1=5"], {0, 2, 3, 4}, {0: 0, 1: 5, 2: 4, 3: 6, 4: 1}, {1, 3}),
        (["pin 1=2"], {0, 1, 2, 3, 4}, {0: 0, 1: 2, 2: 4, 3: 6, 4: 1}, {1, 3}),  # it stands there already
        (["pin 1=4"], {0, 3, 4}, {0: 0, 1: 4, 3: 6, 4: 1}, {1, 3}),  # slot 2 gives up its shot
        (["ban 4"], {0, 1, 3, 4}, {0: 0, 1: 2, 3: 6, 4: 1}, {3}),
        (["ban 4-6"], {0, 1, 4}, {0: 0, 1: 2, 4: 1}, set()),
        (["ban 0:03.5-0:04.5"], {0, 2, 3}, {0: 0, 2: 4, 3: 6}, {3}),  # film time: shots 1 and 2
        (["swap 0"], {1, 2, 3, 4}, {1: 2, 2: 4, 3: 6, 4: 1}, {3}),
        (["keep 0-1,4"], {0, 1, 4}, {0: 0, 1: 2, 4: 1}, set()),
        (["reseed 7"], {3}, {3: 6}, {3}),
        (["reseed 7", "keep 0", "pin 2=4"], {0, 2}, {0: 0, 2: 4}, {2}),
    ],
)
def test_what_is_not_touched_stays(
    words: list[str], kept: set[int], pins: dict[int, int], pinned: set[int], plan: EditList
) -> None:
    found = resolve(plan, ask(plan, *words))
    assert set(found.cuts) == kept
    assert all(found.cuts[slot] is plan.cuts[slot] for slot in kept)
    assert found.pins == pins
    assert found.pinned == pinned


def test_a_swap_bars_the_shot_there_alone_and_a_ban_everywhere_and_for_good(plan: EditList) -> None:
    found = resolve(plan, ask(plan, "swap 0", "ban 2"))
    assert (found.barred, found.banned) == ({0: 0}, (2,))
    later = replace(plan, banned=(2, 7))
    assert resolve(later, ask(later, "swap 0")).banned == (2, 7)
    assert resolve(later, ask(later, "pin 0=7")).banned == (2,)  # a pin takes a ban back


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "nothing is to be changed"),
        (["pin 3"], "SLOT=SHOT"),
        (["pin 9=1"], "there is no slot 9: the trailer has 5"),
        (["pin 1=8"], "there is no shot 8: the film has 8"),
        (["pin 1=5", "pin 1=7"], "slot 1 cannot be pinned to shot 5 and to shot 7"),
        (["pin 1=5", "pin 2=5"], "shot 5 cannot stand in slot 1 and in slot 2"),
        (["pin 1=5", "ban 5"], "shot 5 cannot be pinned and banned"),
        (["pin 1=5", "swap 1"], "slot 1 cannot be pinned and swapped"),
        (["keep 1", "swap 1"], "slot 1 cannot be kept and swapped"),
        (["keep 1", "ban 2"], "slot 1 cannot be kept: its shot 2 is banned"),
        (["keep 1", "pin 1=5"], "slot 1 cannot keep shot 2 and be pinned to shot 5"),
        (["keep 1", "pin 0=2"], "slot 1 cannot keep shot 2: it is pinned to slot 0"),
        (["keep 3-1"], "1 comes before 3"),
        (["keep 0-5"], "there are 5"),
        (["ban x"], "takes numbers"),
        (["ban 1:00-0:30"], "ends before it begins"),
        (["ban 9:00:00"], "no shot there"),
        (["ban 1:2:3:4"], "film time as in"),
        (["swap 9"], "there is no slot 9"),
    ],
)
def test_a_request_that_contradicts_itself_is_one_line(words: list[str], reason: str, plan: EditList) -> None:
    with pytest.raises(InputError, match=reason):
        resolve(plan, ask(plan, *words))


def test_the_storyboards_download_is_read(plan: EditList, tmp_path: Path) -> None:
    path = tmp_path / "edits.json"
    tree: dict[str, Any] = {"schema": 1, "pins": {"1": 5}, "keep": None, "bans": [7], "swaps": [0], "reseed": None}
    path.write_text(json.dumps(tree))
    assert resolve(plan, read_request(path)) == resolve(plan, ask(plan, "pin 1=5", "ban 7", "swap 0"))
    for wrong in ({**tree, "schema": 2}, {**tree, "more": 1}, {**tree, "pins": {"a": 1}}, [], "x"):
        path.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match="cannot be used"):
            read_request(path)
    path.write_text("{")
    with pytest.raises(InputError, match="no JSON"):
        read_request(path)


def test_names_and_words_for_what_changed(plan: EditList) -> None:
    assert name_next(Path("a/X.edit.json"), []) == "X-2.mp4"
    assert name_next(Path("a/X-2.edit.json"), ["X-2.mp4", "X-2.edit.json", "X-3.mp4"]) == "X-4.mp4"
    assert name_next(Path("Film-2019-trailer.edit.json"), []) == "Film-2019-trailer-2.mp4"
    other = replace(plan.cuts[1], shot=5, source=Span(10.25, 11.25), pinned=True)
    new = replace(plan, cuts=(plan.cuts[0], other, *plan.cuts[2:]))
    assert describe_change(plan, new) == ["slot 1: shot 2 (0:00:04.2) -> shot 5 (0:00:10.2) (pinned)"]
    assert describe_change(plan, plan) == ["nothing changed: the model chose the same shots"]


def test_bans_are_part_of_the_edit_list(plan: EditList, tmp_path: Path) -> None:
    path = tmp_path / "x.edit.json"
    path.write_text(edit_to_json(replace(plan, banned=(2, 7))))
    assert read_edit(path).banned == (2, 7)


# --- from end to end -----------------------------------------------------------------------------------------------------


def decode(path: Path) -> list[Any]:
    """The trailer's pictures, gray."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trailer of a film of 24 shots; its work folder beside it."""
    folder = tmp_path_factory.mktemp("first")
    film = folder / "film.mp4"
    barcode_film(film, frame_rate=Fraction(25), shots=[60] * 24, size=(320, 180))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAILER_WORK_DIR", str(folder / "work"))
        patch.setenv("PREFECT_API_URL", "")
        settings = ["--length", "14", "--set", "edit.card_seconds=1", "--set", "video.preset=ultrafast"]
        assert run(["make", str(film), "--out", str(folder / "t.mp4"), *settings]) == 0
    return folder / "t.edit.json"


@pytest.fixture
def refine(first: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `trailer refine` and read what it made: the edit list, the answer."""
    monkeypatch.setenv("TRAILER_WORK_DIR", str(first.parent / "work"))

    def go(*arguments: str, code: int = 0, edit: Path = first) -> tuple[EditList, dict[str, Any]]:
        capsys.readouterr()
        assert run(["refine", str(edit), *arguments, "--json"]) == code
        told = json.loads(capsys.readouterr().out)
        return read_edit(Path(told["edit"])), told

    return go


def test_a_pin_stands_and_every_other_frame_is_the_same(first: Path, refine: Any) -> None:
    old = read_edit(first)
    free = next(shot for shot in range(2, 20) if shot not in {cut.shot for cut in old.cuts})
    clips = set((first.parent / "work").rglob("clips/*.mp4"))
    new, told = refine("--pin", f"1={free}")
    assert [cut.shot for cut in new.cuts] == [free if cut.slot == 1 else cut.shot for cut in old.cuts]
    assert new.cuts[1].pinned
    assert len(told["changes"]) == 1
    assert told["trailer"].endswith("t-2.mp4")
    made = set((first.parent / "work").rglob("clips/*.mp4")) - clips
    changed = {1} | {cut.slot for cut in new.cuts if cut.slot == 2 and cut.dissolve}
    assert len(made) == len(changed)  # nothing else was encoded
    before, after = decode(first.with_name("t.mp4")), decode(Path(told["trailer"]))
    assert len(before) == len(after)
    for cut in new.cuts:
        frames = range(cut.start_frame, cut.start_frame + cut.frames)
        same = all(np.array_equal(before[k], after[k]) for k in frames)
        assert same == (cut.slot not in changed), cut.slot
    pinned = new.cuts[1]
    number = read_barcode(after[pinned.start_frame + pinned.frames // 2])
    assert number is not None
    assert number // 60 == free


def test_a_banned_shot_is_gone_and_stays_gone(first: Path, refine: Any) -> None:
    old = read_edit(first)
    shot = old.cuts[2].shot
    new, told = refine("--ban", str(shot), "--out", str(first.with_name("ban.mp4")))
    assert shot not in {cut.shot for cut in new.cuts}
    assert new.banned == (shot,)
    assert [a.shot == b.shot for a, b in zip(old.cuts, new.cuts, strict=True)].count(False) == 1
    later, _ = refine("--reseed", "5", "--out", str(first.with_name("later.mp4")), edit=Path(told["edit"]))
    assert shot not in {cut.shot for cut in later.cuts}
    assert later.seed == 5


def test_a_reseed_changes_what_is_not_kept(first: Path, refine: Any) -> None:
    old = read_edit(first)
    found = []
    for seed in range(1, 5):
        new, _ = refine("--reseed", str(seed), "--keep", "0-1", "--out", str(first.with_name(f"seed{seed}.mp4")))
        assert new.cuts[:2] == old.cuts[:2]
        found.append([cut.shot for cut in new.cuts])
    assert any(shots != [cut.shot for cut in old.cuts] for shots in found)


def test_a_swap_takes_the_best_candidate(first: Path, refine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["refine", str(first), "--candidates", "3", "--best", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    old = read_edit(first)
    assert told["shot"] == old.cuts[3].shot
    assert len(told["candidates"]) == 2
    assert not {row["shot"] for row in told["candidates"]} & {cut.shot for cut in old.cuts}
    new, _ = refine("--swap", "3", "--out", str(first.with_name("swap.mp4")))
    assert new.cuts[3].shot != old.cuts[3].shot
    assert [a.shot for a in new.cuts if a.slot != 3] == [a.shot for a in old.cuts if a.slot != 3]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--pin", "1=23"], "cannot stand in slot 1"),  # the ending
        (["--pin", "1=5", "--ban", "5"], "cannot be pinned and banned"),
        ([], "nothing is to be changed"),
        (["--swap", "1", "--out", "EDIT"], "would write over"),
        (["--candidates", "99"], "there is no slot 99"),
        (["--edits", "/nowhere.json"], "cannot read the edits"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(
    arguments: list[str], reason: str, first: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRAILER_WORK_DIR", str(first.parent / "work"))
    before = {path: path.stat().st_mtime_ns for path in first.parent.iterdir() if path.is_file()}
    given = [str(first.with_name("t.mp4")) if word == "EDIT" else word for word in arguments]
    assert run(["refine", str(first), *given]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(told) == 1
    assert reason in told[0]
    assert {path: path.stat().st_mtime_ns for path in first.parent.iterdir() if path.is_file()} == before
