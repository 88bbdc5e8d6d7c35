"""Say in words what is wrong with a file that does not open as a film."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

ARCHIVES = (b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b")  # what a file begins with: ZIP, RAR, 7-Zip, gzip
HEAD = 4096  # bytes that are looked at
MOST_BOXES = 1000  # of an MP4; there are about five


def find_fault(path: Path) -> str:
    """What a file that does not open looks like, in words; empty where that is not known."""
    with path.open("rb") as file:
        head = file.read(HEAD)
        if not head.strip(b"\0"):
            return "it begins with zeros: copy or download it again"
        if head.startswith(ARCHIVES):
            return "it is an archive: unpack it first"
        if head[4:8] == b"ftyp" and b"moov" not in _box_kinds(file, path.stat().st_size):
            return "it was cut short, its index is missing: copy or download it again"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "it is text"
    return ""


def _box_kinds(file: IO[bytes], size: int) -> Iterator[bytes]:
    """The kinds of the outermost boxes of an MP4 (ISO/IEC 14496-12, 4.2)."""
    start = 0
    for _ in range(MOST_BOXES):
        if start + 8 > size:
            return
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        yield kind
        if length < 8:  # 0: to the end of the file
            return
        start += length
