"""The plain archive: one sealed file (`sealed`) with a tar in Zstandard, its manifest first."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from fraudlab.backup.sealed import DamagedBackupError, Opener, Sealer
from fraudlab.backup.snapshot import FORMAT, MANIFEST, make_folder, private_file
from fraudlab.privacy.keys import Keys
from fraudlab.schema import InputError

_STEP = 1 << 20


def pack(folder: Path, manifest: Mapping[str, Any], path: Path, keys: Keys) -> None:
    """Write a staged snapshot and its manifest into a new sealed file (0600), down to the disk."""
    with private_file(path) as file:
        sealer = Sealer(file, keys)
        with (
            pa.CompressedOutputStream(pa.PythonFile(sealer, mode="w"), "zstd") as packed,
            tarfile.open(fileobj=packed, mode="w|", bufsize=_STEP) as tar,
        ):
            text = json.dumps(manifest, indent=1).encode()
            tar.addfile(_entry(MANIFEST, len(text)), io.BytesIO(text))
            for name, facts in manifest["files"].items():
                with (folder / name).open("rb") as content:
                    tar.addfile(_entry(name, facts["bytes"]), content)
        sealer.finish()
        file.flush()
        os.fsync(file.fileno())


def unpack(path: Path, keys: Keys, folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Any]:
    """Read a sealed file to its end, every digest checked, and write what is wanted into a folder; return its manifest.

    Parameters
    ----------
    folder : made as needed; what is written there before something turns out wrong is the caller's to remove.
    wanted : of which names the content is written (0600); the others are read and checked only.

    Raises
    ------
    InputError : there is no such file, or another version of fraudlab made it.
    KeyUnavailableError, DamagedBackupError : as for `Opener`; the file inside that is not as written is named.
    """
    with _opened(path, keys) as (opener, tar):
        manifest = _manifest_of(tar, path.name)
        at = MANIFEST
        try:
            for at, facts in manifest["files"].items():
                _take(tar, at, facts, folder / at if wanted(at) else None)
            if tar.next() is not None:
                raise DamagedBackupError(f"backup {path.name}: holds more than its manifest says")
            # To the last chunk, which says that nothing was cut off.
            while opener.read(_STEP):
                pass
        except tarfile.TarError:
            raise DamagedBackupError(f"backup {path.name}: {at} cannot be read; take another backup") from None
        except DamagedBackupError as error:
            raise DamagedBackupError(f"{error} (found while reading {at})") from None
    return manifest


def manifest_in(path: Path, keys: Keys) -> dict[str, Any]:
    """Return the manifest of a sealed file from its first chunks; whether the rest is whole is for `unpack` to say."""
    with _opened(path, keys) as (_, tar):
        return _manifest_of(tar, path.name)


@contextmanager
def _opened(path: Path, keys: Keys) -> Iterator[tuple[Opener, tarfile.TarFile]]:
    if not path.is_file():
        raise InputError(f"backup: no file at {path}; see `fraudlab backup list`")
    with path.open("rb") as file:
        opener = Opener(file, keys, path.name)
        stream = pa.CompressedInputStream(pa.PythonFile(opener, mode="r"), "zstd")
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_STEP) as tar:
            yield opener, tar


def _manifest_of(tar: tarfile.TarFile, name: str) -> dict[str, Any]:
    entry = tar.next()
    if entry is None or entry.name != MANIFEST:
        raise DamagedBackupError(f"backup {name}: begins without its manifest; take another backup")
    manifest = json.loads(tar.extractfile(entry).read())
    if manifest["format"] != FORMAT:
        raise InputError(
            f"backup {name}: has form {manifest['format']}, this version reads {FORMAT}; use the fraudlab that made it"
        )
    return manifest


def _take(tar: tarfile.TarFile, name: str, facts: Mapping[str, Any], target: Path | None) -> None:
    """Read the next file of the archive, which must be the named one, and write it unless `target` is None."""
    entry = tar.next()
    inside = PurePosixPath(name)
    if entry is None or entry.name != name or not entry.isfile() or inside.is_absolute() or ".." in inside.parts:
        raise DamagedBackupError(f"the archive holds something else than {name}")
    digest, content = hashlib.sha256(), tar.extractfile(entry)
    if target is None:
        for piece in iter(lambda: content.read(_STEP), b""):
            digest.update(piece)
    else:
        make_folder(target.parent)
        with private_file(target) as file:
            for piece in iter(lambda: content.read(_STEP), b""):
                digest.update(piece)
                file.write(piece)
    if digest.hexdigest() != facts["sha256"]:
        raise DamagedBackupError(f"{name} is not what its digest says")


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry
