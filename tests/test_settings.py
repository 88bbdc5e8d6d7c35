"""Settings: bounds, sources and their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.settings import Section, Site, TrailerConfig, load_config


def test_defaults_then_file_then_assignments(tmp_path: Path) -> None:
    path = tmp_path / "trailer.toml"
    path.write_text('seed = 5\ntitle = "File"\n[edit]\nmargin_frames = 3\n')
    config = load_config(path, ["title=Set", "edit.card_seconds=0"])
    assert (config.seed, config.title, config.edit.margin_frames, config.edit.card_seconds) == (5, "Set", 3, 0)
    assert config.shots == TrailerConfig().shots


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["sed=1"], "sed"),
        (["seed=-1"], "seed"),
        (["edit.margin_frames=many"], "margin_frames"),
        (["edit=1"], "edit"),
        (["seed"], "name=value"),
        (["seed=1", "seed.x=2"], "not a section"),
        (["length=2"], "length"),
    ],
)
def test_what_cannot_be_used_is_named(assignments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config(None, assignments)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("seed = ")
    with pytest.raises(InputError, match=r"bad\.toml is not TOML"):
        load_config(tmp_path / "bad.toml")
    with pytest.raises(InputError, match="cannot read"):
        load_config(tmp_path / "absent.toml")


def test_every_setting_says_what_it_is() -> None:
    def walk(section: type[Section], name: str) -> None:
        for field, info in section.model_fields.items():
            kind = info.annotation
            if isinstance(kind, type) and issubclass(kind, Section):
                walk(kind, f"{name}.{field}")
            else:
                assert info.description, f"{name}.{field}"

    walk(TrailerConfig, "config")


def test_the_site_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRAILER_WORK_DIR", str(tmp_path))
    monkeypatch.setenv("TRAILER_DEVICE", "cpu")
    site = Site()
    assert (site.work_dir, site.device) == (tmp_path, "cpu")
