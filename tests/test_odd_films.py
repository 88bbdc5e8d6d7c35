"""Damaged, unusual and hostile files by the command: a trailer that passes the gate, or one clear line and nothing written.

A quick part of what benchmarks/odd_media.py runs on all of them.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.conftest import Command

pytestmark = pytest.mark.film

BOUND = 120.0  # s for any of them, on a machine with other work; alone each takes less than 10

# Big Buck Bunny's 20 s of five shots, in whichever dress: their shots are enough for a trailer
GOOD = [
    "gen/audio_late_3.2s.mp4",
    "gen/cover_art_second_video.mp4",
    "gen/no_audio.mp4",
    "gen/rotate90.mp4",
    "gen/starts_at_1h.ts",
]
# nothing to make a trailer of, and what the line says of it
USELESS = {
    "gen/all_black_60s.mp4": "has 1 shot, 1 not shown (black",
    "gen/audio_only_named.mp4": "holds only sound",
    "gen/empty_0_bytes.mp4": "is empty",
    "gen/one_frame.mp4": "only 1 picture",
    "gen/random_bytes.mkv": "not a media file",
    "gen/text_named.mp4": "it is text",
    "gen/truncated_moov_missing.mp4": "was cut short",
    "real/sitkevij_bipbop_nonfragment_header.mp4": "holds none",
    "real/sitkevij_chunk_out_of_range.mp4": "not a media file",
    "real/sitkevij_short-cenc.mp4": "is encrypted",
}
# a film, but short, small, quick or broken: either will do
ODD = [
    "gen/fps120.mp4",
    "gen/short_0.4s.mp4",
    "gen/strobe_20s.mp4",
    "gen/tiny_2x2.mp4",
    "gen/zeroed_100k_hole.mp4",
    "real/lpms_missing-sei-and-pes.ts",
    "real/lpms_skip_1.ts",
    "real/lpms_vertical-sample.ts",
    "real/moviepy_-video-with-dash-.mp4",
    "real/popcorn_10x6px_64s.mp4",
]


@pytest.mark.parametrize("name", [*GOOD, *USELESS, *ODD])
def test_an_odd_file_gives_a_trailer_or_a_line(trailer: Command, films: Path, tmp_path: Path, name: str) -> None:
    path = films / "odd" / name
    out = tmp_path / "out" / "t.mp4"
    out.parent.mkdir()
    begun = time.monotonic()
    answer = trailer("make", path, "--out", out, "--json", "--set", "video.preset=veryfast")
    assert time.monotonic() - begun < BOUND
    written = {file.name for file in out.parent.iterdir()}
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    if answer.code == 0:
        assert name not in USELESS
        assert json.loads(answer.out)["passed"]
        assert (written, errors) == ({"t.mp4", "t.edit.json", "t.report.html", "t.qc.json"}, [])
    else:
        assert name not in GOOD
        assert answer.code == 2, answer.err
        assert answer.err.splitlines()[-1:] == errors
        assert USELESS.get(name, "") in errors[0]
        assert (answer.out, written) == ("", set())
    assert not list(tmp_path.rglob("*.partial*"))
