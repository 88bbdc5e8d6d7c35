"""Find the films of a library: which files are films, where the trailer of each goes, and what it is called.

Names and folders are those that Jellyfin, Plex and Kodi know: a trailer is read as `<film>-trailer.mp4` beside its film, or
from a folder `trailers`; extras lie in folders of known names or end in a known suffix.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from pydantic import Field

from pipeline.errors import InputError
from pipeline.settings import Section
from pipeline.trailer import name_trailer, title_from_name

EXTENSIONS = (
    *("3gp", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf"),
    *("ogm", "ogv", "ts", "vob", "webm", "wmv"),
)
# folders of what belongs to a film and is none, as media servers name them; and folders of discs, trash and indexes
EXTRAS = frozenset(
    {
        *("backdrops", "behind the scenes", "clips", "deleted scenes", "extra", "extras", "featurettes", "interviews"),
        *("other", "sample", "samples", "scenes", "shorts", "theme-music", "trailer", "trailers"),
    }
)
CLOSED = frozenset(
    {"@eadir", "#recycle", "$recycle.bin", "bdmv", "lost+found", "system volume information", "video_ts"}
)
SUFFIXES = re.compile(  # `The.Big.Short` is a film, `Film-short` is none
    r"([-._ ](trailer|sample)|-(behindthescenes|deleted(scene)?|featurette|interview|scene|short|clip|extra|other))\d*$",
    re.I,
)
ALONE = frozenset({"sample", "trailer"})  # the whole name of a file that is no film
IGNORED = (".ignore", ".nomedia")  # a folder with such a file is left out, as media servers do
WITH_YEAR = re.compile(r"^(?P<title>.+?)[ ._]*[(\[](?P<year>(19|20)\d\d)[)\]]")
LARGEST_NFO = 1 << 20  # bytes


class Place(StrEnum):
    """Where the trailers of a library go."""

    beside = "beside"
    trailers = "trailers"
    tree = "tree"


class LibrarySettings(Section):
    """What a pass over a library does."""

    place: Place = Place.beside
    """`beside` the film, in a folder `trailers` there, or in a `tree` of its own (for a library that is only read)."""
    tree: str = Field("", max_length=1000)
    """Folder of the tree: folders in it are named as in the library."""
    min_minutes: float = Field(5.0, ge=0, le=600)
    """A film lasts at least so many minutes."""
    settle_seconds: float = Field(60.0, ge=0, le=86400)
    """A file that changed in the last so many seconds may still be being copied: it is left for the next pass."""
    extensions: tuple[str, ...] = EXTENSIONS
    """What a film's name ends in, without the dot."""
    together: int = Field(1, ge=1, le=1000)
    """Films that are made at the same time; more than one pays where several machines work."""
    retry_failed: bool = False
    """Try also those films again that failed before and have not changed since."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the library that may be a film. size: bytes; changed: when, in ns since 1970, by the file's own date.

    out: where its trailer goes. year: 0 where it is not known. skipped: why no trailer is made of it; "": one is.
    """

    path: Path
    size: int
    changed: int
    out: Path
    title: str
    year: int = 0
    skipped: str = ""

    @property
    def name(self) -> str:
        """As people call the film."""
        return f"{self.title} ({self.year})" if self.year else self.title


def check_library(folder: Path, settings: LibrarySettings) -> Path:
    """The absolute folder of the library. Raises InputError where it, or the place of the trailers, cannot be used."""
    if not folder.exists():
        raise InputError(f"no such library: {folder}")
    if not folder.is_dir():
        raise InputError(
            f"the library {folder} is a file; name the folder of the films (or `trailer make` for one film)"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"cannot read the library {folder}: Permission denied")
    folder = folder.absolute()
    if (settings.place is Place.tree) != bool(settings.tree):
        raise InputError("trailers go into a tree of their own with both --place tree and --tree DIR, or with neither")
    if settings.tree and Path(settings.tree).absolute().is_relative_to(folder):
        raise InputError(
            f"the tree {settings.tree} lies in the library {folder}: its trailers would be taken for films"
        )
    return folder


def find_films(folder: Path, settings: LibrarySettings, now: float | None = None) -> list[Entry]:
    """The files under a folder that look like films, by name, those that are left out with the reason.

    Extras, samples, trailers, hidden files and discs are not looked at. now: s since 1970. Raises InputError as
    check_library does.
    """
    folder = check_library(folder, settings)
    now = time.time() if now is None else now
    found = [entry for path in _walk(folder, settings) if (entry := _enter(path, folder, settings, now)) is not None]
    return _tell_apart(_name_by_folder(found, folder))


def _walk(folder: Path, settings: LibrarySettings) -> Iterator[Path]:
    endings = {f".{extension.lower().lstrip('.')}" for extension in settings.extensions}
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen or any(name in files for name in IGNORED):
            folders.clear()  # a link that leads back, or what its owner has closed
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not _is_closed(name))
        for name in sorted(files):
            path = Path(place, name)
            if path.suffix.lower() in endings and not name.startswith(".") and not _is_extra(path.stem):
                yield path


def _is_closed(name: str) -> bool:
    return name.startswith(".") or name.lower() in EXTRAS or name.lower() in CLOSED


def _is_extra(stem: str) -> bool:
    return SUFFIXES.search(stem) is not None or stem.lower() in ALONE


def _enter(path: Path, folder: Path, settings: LibrarySettings, now: float) -> Entry | None:
    """None: it has gone meanwhile, or is no file."""
    out = place_trailer(path, folder, settings)
    try:
        status = path.stat()
    except OSError as error:
        if not path.is_symlink():
            return None
        return Entry(path, 0, 0, out, title_from_name(path.stem), 0, f"a link that leads nowhere ({error.strerror})")
    if not path.is_file():
        return None
    if not _is_text(path):
        return Entry(path, status.st_size, status.st_mtime_ns, out, path.stem, 0, "its name is not valid UTF-8: rename it")
    title, year = _read_nfo(path) or (title_from_name(path.stem), _year_of(path.stem))
    entry = Entry(path, status.st_size, status.st_mtime_ns, out, title, year)
    # a date in the future says nothing; the time of the last change of the entry itself cannot be set
    ago = now - max(status.st_ctime, status.st_mtime if status.st_mtime <= now else 0.0)
    if status.st_size == 0:
        return replace(entry, skipped="empty (0 bytes)")
    if ago < settings.settle_seconds:
        return replace(entry, skipped=f"changed {max(0.0, ago):.0f} s ago: it may still be being copied")
    return entry


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def place_trailer(film: Path, folder: Path, settings: LibrarySettings) -> Path:
    """Where the trailer of a film of the library goes."""
    name = name_trailer(film).name
    if settings.place is Place.beside:
        return film.with_name(name)
    if settings.place is Place.trailers:
        return film.parent / "trailers" / name
    return Path(settings.tree).absolute() / film.parent.relative_to(folder) / name


def _year_of(stem: str) -> int:
    found = re.search(r"\b(19|20)\d\d\b", re.sub(r"^\W*\w+", "", stem))  # not a title that is a year
    return int(found[0]) if found else 0


def _read_nfo(film: Path) -> tuple[str, int] | None:
    """Title and year from Kodi's file beside the film; None where there is none that can be read."""
    for nfo in (film.with_suffix(".nfo"), film.with_name("movie.nfo")):
        try:
            with nfo.open("rb") as file:
                text = file.read(LARGEST_NFO)
        except OSError:
            continue
        end = text.find(b"</movie>")  # Kodi allows an address after it
        if end < 0 or b"<!" in text[:end].replace(b"<!--", b""):  # a document type can hold anything
            continue
        try:
            tree = ElementTree.fromstring(text[: end + len(b"</movie>")])  # noqa: S314  no document type: nothing to expand
        except ElementTree.ParseError:
            continue
        title = " ".join((tree.findtext("title") or "").split())[:200]
        year = (tree.findtext("year") or tree.findtext("premiered") or "").strip()[:4]
        if title:
            return title, int(year) if year.isascii() and year.isdigit() else 0
    return None


def _name_by_folder(entries: list[Entry], library: Path) -> list[Entry]:
    """`The Film (2019)/disc1.mkv` is called as its folder, where the folder is that of one film."""
    crowd = Counter(entry.path.parent for entry in entries)
    named = []
    for entry in entries:
        parent = entry.path.parent
        found = WITH_YEAR.match(parent.name) if parent != library and crowd[parent] == 1 else None
        if found and not entry.year:
            entry = replace(entry, title=title_from_name(found["title"]), year=int(found["year"]))
        named.append(entry)
    return named


def _tell_apart(entries: list[Entry]) -> list[Entry]:
    """Two films that differ in their ending alone would have one trailer: the first has it."""
    first: dict[Path, Path] = {}
    told = []
    for entry in entries:
        owner = first.setdefault(entry.out, entry.path)
        if owner != entry.path and not entry.skipped:
            entry = replace(entry, skipped=f"its trailer would be that of {owner.name}")
        told.append(entry)
    return told
