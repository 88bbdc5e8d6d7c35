"""What is absent or does not fit is said before the film is looked at, and nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.choices import BUNDLED_CHECKPOINT, check_request, name_models, warn_of_licences
from pipeline.errors import InputError, MissingDependencyError
from pipeline.settings import Site, TrailerConfig, load_config
from tests.conftest import Command
from tests.synthetic import barcode_film

ROOT = Path(__file__).resolve().parent.parent
SIGLIP2 = "siglip2-base-224@1"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A film and another."""
    folder = tmp_path_factory.mktemp("films")
    paths = (folder / "film.mp4", folder / "trailer.mp4")
    for path, shots in zip(paths, ([25, 30, 28], [20, 22]), strict=True):
        barcode_film(path, frame_rate=Fraction(25), shots=shots, size=(160, 90))
    return paths


def write_checkpoint(folder: Path, **changes: object) -> Path:
    """The description of the bundled checkpoint with changes, and a file where its weights should be."""
    path = folder / "mine.safetensors"
    about = json.loads(BUNDLED_CHECKPOINT.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(about | changes))
    path.write_bytes(b"weights")
    return path


def test_make_and_align_refuse_at_once_and_write_nothing(
    films: tuple[Path, Path], trailer: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAILER_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setattr("pipeline.steps.analyse", lambda *_, **__: pytest.fail("the film was looked at"))
    film, other = films
    fitting = write_checkpoint(tmp_path, encoder=SIGLIP2)
    seeing, choosing = ["--set", "features.encoder=siglip2"], ["--set", f"selection.checkpoint={fitting}"]
    requests: dict[str, list[str | Path]] = {
        f"reads descriptor@1 features, not {SIGLIP2}: choose one trained on {SIGLIP2}": ["make", film, *seeing],
        "`trailer weights fetch siglip2`": ["make", film, *seeing, *choosing],
        f"reads {SIGLIP2} features, not descriptor@1": ["make", film, *choosing],
        "checkpoint description no.json": ["make", film, "--set", "selection.checkpoint=no.safetensors"],
        "name ends in .safetensors": ["make", film, "--set", "selection.checkpoint=no.pt"],
        "siglip2 are not in": ["align", film, other, "--data", "data", *seeing],
    }  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    for message, arguments in requests.items():
        answer = trailer(*arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert answer.err.count("\n") == 1, answer.err
        assert message in answer.err
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_not_needed_is_not_asked_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(None, ["features.encoder=siglip2"])
    with pytest.raises(InputError, match="choose one trained on"):
        check_request(config, site)
    with pytest.raises(MissingDependencyError, match="weights fetch"):
        check_request(config, site, selection=False)
    check_request(config, site, encoder=False, selection=False)
    check_request(TrailerConfig(), site)
    with pytest.raises(InputError, match="TRAILER_DEVICE is 'abacus'"):
        check_request(TrailerConfig(), site.model_copy(update={"device": "abacus"}))
    monkeypatch.setattr("models.transnet.is_installed", lambda: False)
    check_request(TrailerConfig(), site)  # auto takes what there is
    with pytest.raises(MissingDependencyError, match=r"trailer-pipeline\[transnet\]"):
        check_request(load_config(None, ["shots.detector=transnet"]), site)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "ranker"}, "is a baseline (ranker), not an SSMP"),
        ({"schema": 9}, "has schema 9, this version reads 1"),
        ({"encoder": "other@2"}, "reads other@2 features, not descriptor@1"),
        ({"encoder": None}, "reads None features"),
    ],
)
def test_a_checkpoint_is_judged_by_its_description(
    changes: dict[str, object], message: str, site: Site, tmp_path: Path
) -> None:
    path = write_checkpoint(tmp_path, **changes)
    config = load_config(None, [f"selection.checkpoint={path}"])
    with pytest.raises(InputError) as caught:
        check_request(config, site)
    assert message in str(caught.value)
    write_checkpoint(tmp_path).unlink()
    with pytest.raises(InputError, match=r"cannot read checkpoint .*mine\.safetensors"):
        check_request(config, site)


def test_the_first_useful_work_does_not_wait_for_torch(films: tuple[Path, Path], tmp_path: Path) -> None:
    """Seconds depend on the machine, what is imported does not."""
    code = (
        "import os, sys; from flows import cli; from pipeline import steps; sys.argv[0] = 'trailer'; "
        "heavy = {'torch', 'transformers', 'prefect', 'distributed'}; "
        "steps.analyse = lambda *_, **__: os._exit(3 if heavy & set(sys.modules) else 0); cli.main()"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "TRAILER_"))}
    clean |= {"TRAILER_WORK_DIR": str(tmp_path / "work"), "PREFECT_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, "make", str(films[0]), "--out", str(tmp_path / "t.mp4")]
    assert subprocess.run(command, cwd=ROOT, env=clean, check=False).returncode == 0


def test_models_are_named_with_what_restricts_their_use(site: Site) -> None:
    assert name_models(TrailerConfig(), site) == {"encoder": "descriptor@1", "detector": "adaptive"}
    assert warn_of_licences({"encoder": "descriptor@1"}) == []
    assert warn_of_licences({"encoder": "dinov3-b16-224@1", "encoder_licence": "DINOv3 License"}) == []
    (warning,) = warn_of_licences({"encoder": "imagebind@1", "encoder_licence": "CC-BY-NC-SA 4.0 (non-commercial)"})
    assert "imagebind@1, whose weights are licensed CC-BY-NC-SA 4.0 (non-commercial)" in warning
