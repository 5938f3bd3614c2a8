"""Lineage: which customers each model was trained on, so that an erasure finds the models that still know them.

A file for each model version, `<folder>/<name>/<version>.npy`: the first 64 bits of each pseudonym, sorted. Among a
million customers the chance that a stranger shares them is one in ten million million.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fraudlab.privacy.keys import sync_folder
from fraudlab.schema import FraudlabError


def short_codes(codes: Iterable[str]) -> np.ndarray:
    """Return pseudonyms as sorted, different 64-bit numbers.

    >>> [hex(code) for code in short_codes(["ff" * 16, "00" * 15 + "01", "ff" * 16])]
    ['0x0', '0xffffffffffffffff']
    """
    return np.unique(np.array([int(str(code)[:16], 16) for code in set(codes)], dtype="uint64"))


def keep(path: Path, codes: Iterable[str] | np.ndarray) -> None:
    """Write a set of customers to a file for its owner only (0600), whole or not at all, replacing an older one."""
    short = codes if isinstance(codes, np.ndarray) else short_codes(codes)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            np.save(file, short, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        sync_folder(path.parent)
    except OSError as error:
        raise FraudlabError(
            f"lineage: {path.name} could not be written ({error.strerror or error}); make room or correct the rights"
        ) from None
    finally:
        fresh.unlink(missing_ok=True)


def read(path: Path) -> np.ndarray:
    """Return a set of customers without reading all of the file into memory."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "damaged"
        raise FraudlabError(
            f"lineage: {path.parent.name}/{path.name} cannot be read ({why}); restore it from a backup, or train the "
            "model again"
        ) from None


def path_of(folder: Path, name: str, version: str) -> Path:
    """Return where the customers of a model version are kept."""
    return folder / name / f"{version}.npy"


def trained_on(folder: Path, customers: Iterable[str]) -> dict[tuple[str, str], int]:
    """Return the model versions that were trained on any of some customers, and on how many of them.

    Returns
    -------
    {(name, version): customers}, by name and version.
    """
    wanted = short_codes(customers)
    found = {}
    for path in sorted(folder.glob("*/*.npy"), key=_by_version):
        known = read(path)
        at = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
        count = int((known[at] == wanted).sum()) if len(known) else 0
        if count:
            found[path.parent.name, path.stem] = count
    return found


def _by_version(path: Path) -> tuple[str, int, str]:
    digits = re.fullmatch(r"\d{1,18}", path.stem)
    return path.parent.name, int(path.stem) if digits else 0, path.stem
