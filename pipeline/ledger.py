"""Know which films of a library need a trailer, and remember what came of each.

What came of a film is kept as one small JSON file in the work folder. It is a memory, not the truth: a trailer beside its
edit list speaks for itself, also where the work folder is new.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path

from pipeline.editfile import read_edit
from pipeline.errors import InputError, MissingDependencyError, NoSolutionError, TrailerError
from pipeline.library import Entry, LibrarySettings
from pipeline.media import fingerprint_file, probe_film
from pipeline.records import EditList
from pipeline.settings import TrailerConfig, parse_config
from pipeline.trailer import Outcome
from pipeline.workdir import deliver_text

LEDGER_VERSION = 1


class Fate(StrEnum):
    """What is, or is to be done, with a film."""

    new = "new"
    changed = "changed"
    made = "made"
    current = "up to date"
    busy = "being made"
    failed = "failed"
    skipped = "skipped"


PENDING = frozenset({Fate.new, Fate.changed})


@dataclass(frozen=True, slots=True)
class Standing:
    """A film of the library and how it stands. config: what its trailer is made with. why: one line, or ""."""

    entry: Entry
    fate: Fate
    why: str
    config: TrailerConfig


@dataclass(frozen=True, slots=True)
class Record:
    """What came of a film. size, changed: as in Entry. config: hash of the settings. seconds: how long the film lasts."""

    version: int
    film: str
    size: int
    changed: int
    config: str
    fate: str
    why: str
    seconds: float = 0.0


class Ledger:
    """What came of each film, by where its trailer goes. root: the work folder."""

    def __init__(self, root: Path) -> None:
        self.folder = root.absolute() / "library"

    def path(self, out: Path) -> Path:
        return self.folder / f"{hashlib.sha256(os.fsencode(out.absolute())).hexdigest()[:24]}.json"

    def read(self, out: Path) -> Record | None:
        """None where nothing is known, or what is there cannot be read: the film is looked at anew."""
        try:
            tree = json.loads(self.path(out).read_text(encoding="utf-8"))
            record = Record(**{field.name: tree[field.name] for field in fields(Record)})
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if record.version == LEDGER_VERSION else None

    def write(self, entry: Entry, config: TrailerConfig, fate: Fate, why: str = "", seconds: float = 0.0) -> None:
        """Raises InputError where the work folder cannot be written."""
        film = str(entry.path).encode("utf-8", "backslashreplace").decode()
        record = Record(LEDGER_VERSION, film, entry.size, entry.changed, hash_config(config), fate, why, seconds)
        deliver_text(json.dumps(asdict(record)), self.path(entry.out))


def hash_config(config: TrailerConfig) -> str:
    """A name for settings: another one wherever a value differs."""
    return hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:24]


def survey(
    entries: Sequence[Entry], settings: LibrarySettings, config: TrailerConfig, ledger: Ledger
) -> list[Standing]:
    """How each film stands: up to date, to be made, failed before, or left out. config: of all trailers; titles are added.

    Only films that nothing is known of are opened.
    """
    return [_judge(entry, settings, config.model_copy(update={"title": entry.title}), ledger) for entry in entries]


def _judge(entry: Entry, settings: LibrarySettings, config: TrailerConfig, ledger: Ledger) -> Standing:
    def stands(fate: Fate, why: str = "") -> Standing:
        return Standing(entry, fate, why, config)

    if entry.skipped:
        return stands(Fate.skipped, entry.skipped)
    edit = _read_ours(entry.out)
    if edit is None and entry.out.exists() and entry.out.stat().st_size > 0:
        return stands(
            Fate.skipped, f"{entry.out.name} is there and was not made by this program (no edit list beside it)"
        )
    known = ledger.read(entry.out)
    same = known is not None and (known.size, known.changed) == (entry.size, entry.changed)
    if known is not None and same:
        short = f"lasts {known.seconds / 60:.1f} min, less than {settings.min_minutes:g}"
        if known.seconds and known.seconds < 60 * settings.min_minutes:
            return stands(Fate.skipped, short)
        if known.config == hash_config(config):
            if known.fate == Fate.failed and not settings.retry_failed:
                return stands(Fate.failed, f"{known.why} (before; it has not changed since)")
            if known.fate == Fate.made and edit is not None and entry.out.exists():
                return stands(Fate.current)
    if known is None or not same:
        try:
            seconds = probe_film(entry.path).duration
        except InputError:  # the run says why, and is seen to fail
            seconds = 0.0
        if 0 < seconds < 60 * settings.min_minutes:
            ledger.write(entry, config, Fate.skipped, "", seconds)
            return stands(Fate.skipped, f"lasts {seconds / 60:.1f} min, less than {settings.min_minutes:g}")
        if known is None and edit is not None and entry.out.exists() and is_current(edit, entry.path, config):
            ledger.write(entry, config, Fate.made, "", seconds)
            return stands(Fate.current)
    if edit is None or not entry.out.exists():
        return stands(Fate.new)
    return stands(Fate.changed, "the settings have changed" if same else "the film has changed")


def _read_ours(out: Path) -> EditList | None:
    try:
        return read_edit(out.with_name(f"{out.stem}.edit.json"))
    except InputError:
        return None


def is_current(edit: EditList, film: Path, config: TrailerConfig) -> bool:
    """Whether a trailer was made of this very film with these settings."""
    try:
        return edit.film.fingerprint == fingerprint_file(film) and parse_config(edit.config) == config
    except (OSError, InputError):  # the film has gone; or settings of another version
        return False


def lasts(error: TrailerError) -> bool:
    """Whether the same film fails in the same way again: remembered. A missing program or a full disk is not the film's."""
    return isinstance(error, (InputError, NoSolutionError)) and not isinstance(error, MissingDependencyError)


@contextmanager
def claim(out: Path) -> Iterator[bool]:
    """Hold the making of a trailer, against other runs on any machine that sees the same folder; False: another one does.

    A lock on a hidden file beside it, which the system releases when its holder dies. Raises InputError where the folder
    cannot be written.
    """
    import fcntl  # not on every system

    path = out.with_name(f".{out.stem}.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                yield False
                return
            if _is_at(handle, path):
                break
            os.close(handle)  # its last holder has just removed it
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)  # while it is held: nobody can hold what is removed
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        there, held = path.stat(), os.fstat(handle)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of one film. outcome: of the trailer that was made, or that the gate refused."""

    fate: Fate
    why: str
    outcome: Outcome | None = None


def keep_current(
    film: Path, out: Path, config: TrailerConfig, ledger: Ledger, make: Callable[[], Outcome], *, again: bool = True
) -> Kept:
    """Make the trailer of a film unless it is there, of this film and with these settings, or another run makes it.

    again: also where it failed before. What came of it is remembered, unless it hangs on this machine. Raises what make
    raises, and InputError where the film has gone or its folder cannot be written.
    """
    settings = LibrarySettings(min_minutes=0, retry_failed=again)
    with claim(out) as mine:
        if not mine:
            return Kept(Fate.busy, "another run makes it")
        try:
            status = film.stat()
        except OSError as error:
            raise InputError(f"cannot read the film {film}: {error.strerror}") from error
        entry = Entry(film, status.st_size, status.st_mtime_ns, out, config.title)
        standing = _judge(entry, settings, config, ledger)
        if standing.fate not in PENDING:
            return Kept(standing.fate, standing.why)
        try:
            outcome = make()
        except TrailerError as error:
            if lasts(error):
                ledger.write(entry, config, Fate.failed, error.headline)
            raise
        if not outcome.passed:
            why = f"refused by the checks ({', '.join(outcome.failures)}); put aside as {outcome.trailer.name}"
            ledger.write(entry, config, Fate.failed, why)
            return Kept(Fate.failed, why, outcome)
        ledger.write(entry, config, Fate.made, "", probe_film(film).duration)
        return Kept(Fate.made, standing.why, outcome)
