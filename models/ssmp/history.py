"""Write down every step of a training: a line each, the curve of the mask rate, TensorBoard scalars if asked for."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from models.ssmp.checkpoint import write_whole
from pipeline.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from models.ssmp.train import Step

WIDTH, HEIGHT, MARGIN = 640, 320, 48  # px of the curve
MOST_POINTS = 400  # of a curve: more cannot be seen


class History:
    """history.jsonl of the folder `out`. Lines after `step` are dropped at birth: those steps are about to be made again."""

    def __init__(self, out: Path, step: int, *, tensorboard: bool = False) -> None:
        self.out, self.path = out, out / "history.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        self._writer = _open_tensorboard(out / "tensorboard", step) if tensorboard else None
        kept = read_history(self.path, step) if step and self.path.exists() else []
        write_whole(self.path, "".join(_line(entry) for entry in kept).encode())
        self._rates = [(entry["step"], entry["rate"], entry["accuracy"]) for entry in kept]
        self._file = self.path.open("a", encoding="utf-8")

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.keep()
        self._file.close()
        if self._writer is not None:
            self._writer.close()

    def add(self, step: Step) -> None:
        """One step that was made."""
        entry = {name: value for name, value in asdict(step).items() if name != "steps" and value is not None}
        self._file.write(_line(entry))
        self._rates.append((step.step, step.rate, step.accuracy))
        if self._writer is not None:
            for name in ("loss", "accuracy", "rate", "learning_rate", "held_out"):
                if name in entry:
                    self._writer.add_scalar(f"train/{name}", entry[name], step.step)

    def keep(self) -> None:
        """Bring what was added to the disk, and draw the curve anew."""
        self._file.flush()
        os.fsync(self._file.fileno())
        write_whole(self.out / "mask-rate.svg", draw_curve(self._rates).encode())
        if self._writer is not None:
            self._writer.flush()


def read_history(path: Path, last: int | None = None) -> list[dict[str, float]]:
    """The steps of a training, in order, up to `last`. A half-written last line of a killed training is left out."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InputError(f"cannot read the history {path}: {error.strerror or error}") from error
    try:
        entries = [json.loads(line) for line in lines[:-1]]
        missing = [entry for entry in entries if not {"step", "rate", "accuracy"} <= entry.keys()]
    except (ValueError, AttributeError) as error:
        raise InputError(f"not the history of a training: {path}: {error}") from error
    if missing:
        raise InputError(f"not the history of a training: {path}: {missing[0]}")
    return [entry for entry in entries if last is None or entry["step"] <= last]


def draw_curve(points: list[tuple[float, float, float]]) -> str:
    """(step, mask rate, accuracy) as an SVG: the rate a line, the accuracy a lighter one (supplement, Figure 5)."""
    shown = points[:: max(1, len(points) // MOST_POINTS)] + points[-1:]
    most = max((step for step, _, _ in shown), default=1)
    across, up = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN

    def path(column: int) -> str:
        return " ".join(f"{MARGIN + across * p[0] / most:.1f},{HEIGHT - MARGIN - up * p[column]:.1f}" for p in shown)

    ticks = "".join(
        f'<text x="{MARGIN - 6}" y="{HEIGHT - MARGIN - up * share + 4:.0f}" text-anchor="end">{share:g}</text>'
        f'<path d="M{MARGIN} {HEIGHT - MARGIN - up * share:.0f}h{across}" stroke="#ddd"/>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{ticks}'
        f'<polyline points="{path(2)}" fill="none" stroke="#9ac"/>'
        f'<polyline points="{path(1)}" fill="none" stroke="#c33" stroke-width="2"/>'
        f'<text x="{MARGIN}" y="20" fill="#c33">mask rate</text><text x="{MARGIN + 90}" y="20" fill="#58a">accuracy</text>'
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 16}" text-anchor="end">step {most:g}</text></svg>\n'
    )


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _open_tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(
            "TensorBoard is not installed: pip install 'trailer-pipeline[train]', or leave --tensorboard out"
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
