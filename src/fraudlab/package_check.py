"""Whether a package's files are those that were saved, told from its own list of digests, without loading a model.

A rollback must take seconds: checking bytes does, importing what a model needs does not.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fraudlab.config import digest_of
from fraudlab.schema import InputError

FORMAT = 1
ABOUT = "package.json"


def checked_package(folder: str | Path, *, digest: str | None = None) -> tuple[dict[str, Any], str]:
    """Check every byte of a package and return what its `package.json` says, with the sha-256 of that.

    Parameters
    ----------
    folder : what `serving.save_package` wrote.
    digest : what `save_package` returned, kept elsewhere (the registry does): given, an exchanged package is refused.

    Returns
    -------
    format, facts and files (name -> sha-256) of the package; its digest.

    Raises
    ------
    InputError : a file is missing, damaged, exchanged or unexpected; the format is another.
    """
    folder = Path(folder)
    try:
        about_bytes = (folder / ABOUT).read_bytes()
    except OSError:
        raise damaged(folder, f"{ABOUT} is missing or unreadable") from None
    found = hashlib.sha256(about_bytes).hexdigest()
    if digest is not None and found != digest:
        raise damaged(folder, f"{ABOUT} is not the one recorded")
    try:
        about = json.loads(about_bytes)
        stated = about.pop("digest")
        whole = stated == digest_of(about) and as_json(about | {"digest": stated}) == about_bytes
    except (ValueError, KeyError, AttributeError, TypeError):
        whole = False
    if not whole:
        raise damaged(folder, f"{ABOUT} is damaged")
    if about["format"] != FORMAT:
        raise damaged(folder, f"its format is {about['format']}, this version reads {FORMAT}")
    present = digests_of(folder)
    for said, names in (
        ("missing", about["files"].keys() - present.keys()),
        ("unexpected", present.keys() - about["files"].keys()),
        ("damaged", {name for name, value in about["files"].items() if present.get(name, value) != value}),
    ):
        if names:
            raise damaged(folder, f"{said}: {', '.join(sorted(names))}")
    return about, found


def damaged(folder: Path, finding: str) -> InputError:
    """Return the refusal of a package that is not what was saved."""
    return InputError(
        f"package '{folder.name}': must be exactly what was saved; {finding}; register the model again or restore it"
    )


def digests_of(folder: Path) -> dict[str, str]:
    """Return the sha-256 of each file of a package but its `package.json`."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / ABOUT
    }


def as_json(value: Any) -> bytes:
    """Return the bytes that a value is written as in a package."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False).encode()
