"""Search files for what should not be there: known identifiers in every byte, likely identifiers in texts."""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import html
import json
import mmap
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fraudlab.privacy.masking import count_identifiers
from fraudlab.schema import InputError, did_you_mean

SHORTEST = 6
"""Needles below this many characters are found everywhere by chance."""

CASELESS_FROM = 8
"""Shorter needles must match in their own case."""

_DAMAGED = (OSError, EOFError, RuntimeError, ValueError, zlib.error, zipfile.BadZipFile, pa.ArrowException)
_STEP = 4 << 20
_MASK = np.uint64((1 << 8 * SHORTEST) - 1)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(40)


def find_planted(paths: Iterable[str | Path], needles: Iterable[str]) -> pd.DataFrame:
    """Search files, byte by byte, for known identifiers in every disguise a program gives them by accident.

    Parameters
    ----------
    paths : files, or folders with everything below them (links are not followed).
    needles : the identifiers, at least 6 characters each; their number hardly matters for the time.

    Returns
    -------
    DataFrame: file, kind, count; a row per file and kind with at least one hit, never the identifier itself. Kinds:
    "raw" (UTF-8 as given), "case-folded" (needles of 8 characters and more), "escaped" (as JSON or HTML write it),
    "utf-16", "base64" (at all three alignments). Inside gzip, zip and Parquet files the unpacked content is searched
    too and named "archive!member".

    Raises
    ------
    InputError : a path does not exist; no needle, or needles that are too short.

    Notes
    -----
    A needle of digits counts only where the digits around it end, otherwise the decimals of numbers would be phone
    numbers. Not seen: encrypted content (which is the point of encryption), pictures, other compression, numbers stored
    in binary, base64 broken over lines, and identifiers cut apart. Hits are overlapping occurrences.
    """
    wanted = tuple(sorted(set(needles)))
    short = sum(len(needle) < SHORTEST for needle in wanted)
    if short or not wanted:
        found = f"{short:,} shorter ones of {len(wanted):,}" if wanted else "none"
        raise InputError(
            f"needles: must hold texts of at least {SHORTEST} characters; found {found}; leave short ones out, "
            "they are found everywhere by chance"
        )
    plain, exact = _patterns(wanted)
    rows = []
    for path in _files(paths):
        for label, data in _contents(path):
            counts: dict[str, int] = {}
            plain.search(data, counts, lower=True)
            exact.search(data, counts, lower=False)
            rows += [(label, kind, count) for kind, count in sorted(counts.items())]
    return _table(rows)


def find_likely(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Search texts, line by line, for what looks like a card number, an IBAN, an e-mail address or a phone number.

    Parameters
    ----------
    paths : as in `find_planted`; files that are no UTF-8 text are passed over.

    Returns
    -------
    DataFrame: file, kind, count; a row per file and kind with at least one, never the identifier itself.

    Notes
    -----
    A pattern is no proof: some numbers only look like a card's (one in ten passes its checksum), and names look like
    nothing.
    """
    rows = []
    for path in _files(paths):
        data = path.read_bytes()
        with contextlib.suppress(UnicodeDecodeError):
            # A file with a zero byte is no text, whatever its other bytes would mean.
            text = "" if b"\0" in data else data.decode("utf-8")
            counts = count_identifiers(pa.array(text.splitlines(), type=pa.large_string()))
            rows += [(str(path), kind, count) for kind, count in sorted(counts.items())]
    return _table(rows)


def _table(rows: list[tuple[str, str, int]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["file", "kind", "count"])
    return table.astype({"file": "str", "kind": "str", "count": "int64"})


def telling(needles: Iterable[str]) -> list[str]:
    """Return the needles worth searching for in a run's figures: not numbers where one in 10,000 numbers is one.

    Short customer numbers fill their range, so that any count of a table would be found as one of them.

    >>> telling(["123456", "4111111111111111", "K-77-EX"]), len(telling(str(n) for n in range(100_000, 200_000)))
    (['123456', '4111111111111111', 'K-77-EX'], 0)
    """
    wanted = list(needles)
    numbers = Counter(len(needle) for needle in wanted if needle.isdigit())
    crowded = {length for length, count in numbers.items() if count > 10 ** (length - 4)}
    return [needle for needle in wanted if not (needle.isdigit() and len(needle) in crowded)]


@dataclass
class _Patterns:
    """Byte patterns by their first six bytes; a 16-million-bit filter over these says where a look is worth while.

    Every offset of a file is one multiplication and one table look-up; only the few that pass are looked up exactly.
    """

    table: dict[int, dict[int, dict[bytes, str]]] = field(default_factory=dict)
    as_given: set[bytes] = field(default_factory=set)
    longest: int = SHORTEST

    def add(self, pattern: bytes, kind: str) -> None:
        if len(pattern) >= SHORTEST:
            first = int.from_bytes(pattern[:SHORTEST], "little")
            self.table.setdefault(first, {}).setdefault(len(pattern), {}).setdefault(pattern, kind)
            self.longest = max(self.longest, len(pattern))

    def ready(self) -> None:
        """Freeze what was added into the arrays a search needs."""
        self._firsts = np.sort(np.fromiter(self.table, dtype=np.uint64, count=len(self.table)))
        self._filter = np.zeros(1 << 24, dtype=bool)
        self._filter[(self._firsts * _MULTIPLIER) >> _SHIFT] = True

    def search(self, data: bytes | mmap.mmap, counts: dict[str, int], *, lower: bool) -> None:
        """Add the hits in `data` to `counts` by kind; `lower` says that the patterns are in lower case."""
        if not self.table:
            return
        size = len(data)
        for start in range(0, size, _STEP):
            # One byte before, to see whether a number begins here; enough after, to see a pattern to its end.
            before = min(start, 1)
            given = data[start - before : start + _STEP + self.longest]
            window = given.lower() if lower else given
            for position in self._candidates(window, before, min(before + _STEP, len(window))):
                self._look(window, given, position, counts)

    def _candidates(self, window: bytes, begin: int, end: int) -> list[int]:
        padded = np.frombuffer(window + bytes(16), dtype=np.uint8)
        found = []
        for offset in range(8):
            words = padded[offset : offset + (len(padded) - offset) // 8 * 8].view(np.uint64) & _MASK
            passed = np.flatnonzero(self._filter[(words * _MULTIPLIER) >> _SHIFT])
            place = np.searchsorted(self._firsts, words[passed]).clip(max=len(self._firsts) - 1)
            found.append(passed[self._firsts[place] == words[passed]] * 8 + offset)
        positions = np.concatenate(found)
        return positions[(positions >= begin) & (positions < end)].tolist()

    def _look(self, window: bytes, given: bytes, position: int, counts: dict[str, int]) -> None:
        first = int.from_bytes(window[position : position + SHORTEST], "little")
        for length, patterns in self.table[first].items():
            end = position + length
            kind = patterns.get(window[position:end])
            if kind is None:
                continue
            if window[position:end].isdigit() and (
                window[max(position - 1, 0) : position].isdigit() or window[end : end + 1].isdigit()
            ):
                continue
            if kind == "raw" and given[position:end] not in self.as_given:
                kind = "case-folded"
            counts[kind] = counts.get(kind, 0) + 1


@functools.lru_cache(maxsize=1)  # the same needles are sought in a run's files, then in its report
def _patterns(needles: tuple[str, ...]) -> tuple[_Patterns, _Patterns]:
    """Return the patterns to be sought in lower-cased bytes, and those in the bytes as they are."""
    plain, exact = _Patterns(), _Patterns()
    for needle in needles:
        caseless = len(needle) >= CASELESS_FROM
        here = plain if caseless else exact
        written = needle.encode()
        here.as_given.add(written)
        disguises = {written: "raw"}
        for escaped in (json.dumps(needle)[1:-1], html.escape(needle), html.escape(needle).replace("&#x27;", "&#39;")):
            disguises.setdefault(escaped.encode(), "escaped")
        for encoding in ("utf-16-le", "utf-16-be"):
            disguises.setdefault(needle.encode(encoding), "utf-16")
        for pattern, kind in disguises.items():
            here.add(pattern.lower() if caseless else pattern, kind)
        for pattern in _base64(written):
            exact.add(pattern, "base64")
    for patterns in (plain, exact):
        patterns.ready()
    return plain, exact


def _base64(written: bytes) -> set[bytes]:
    """Return what base64 makes of a text wherever it begins in the encoded bytes, both alphabets, without the edges."""
    found = set()
    for shift in range(3):
        bits = 8 * shift, 8 * (shift + len(written))
        # Characters that hold bits of the text only.
        begin, end = -(-bits[0] // 6), bits[1] // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(bytes(shift) + written + bytes(2))[begin:end])
    return found


def _files(paths: Iterable[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
        elif path.is_file():
            yield path
        else:
            there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            hint = did_you_mean(path.name, there) if there else "correct the path"
            raise InputError(f"paths: nothing at {path}; {hint}")


def _contents(path: Path) -> Iterator[tuple[str, bytes | mmap.mmap]]:
    """Give a file's bytes, then what is packed inside it."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield str(path), data
        magic = data[:4]
    # What cannot be unpacked was searched as it is; nothing more can be said of it.
    with contextlib.suppress(*_DAMAGED):
        if magic[:2] == b"\x1f\x8b":
            yield f"{path}!", gzip.decompress(path.read_bytes())
        elif magic == b"PK\x03\x04":
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    with contextlib.suppress(*_DAMAGED):
                        yield f"{path}!{member}", archive.read(member)
        elif magic == b"PAR1":
            table = pq.ParquetFile(path).read()
            for name in table.column_names:
                yield f"{path}!{name}", _column_bytes(table[name])


def _column_bytes(column: pa.ChunkedArray) -> bytes:
    """Return a column's different values as text, a line each; nested ones as pandas writes them."""
    return "\n".join(column.to_pandas().dropna().astype("str").unique()).encode()
