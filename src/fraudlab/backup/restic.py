"""Snapshots in a restic repository, which encrypts and keeps equal pieces once; restic itself does the work.

Source: restic's manual (https://restic.readthedocs.io), chapters "Backing up" and "Scripting". `restic check` alone
passes a repository with damaged data; only `--read-data` reads it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraudlab.schema import FraudlabError, InputError

TAG = "fraudlab"


@dataclass(frozen=True)
class Repository:
    """A restic repository: where it is, and the file or the command that gives its password (one of both).

    Raises
    ------
    InputError : restic is not installed, or not exactly one of file and command is named.
    """

    address: str
    password_file: Path | None = None
    password_command: str | None = None

    def __post_init__(self) -> None:
        if (self.password_file is None) == (self.password_command is None):
            raise InputError(
                "repository: its password must come from one place; name either --password-file or --password-command"
            )
        if shutil.which("restic") is None:
            raise InputError(
                "repository: restic is not installed here; install it (package `restic`), or leave --repository out: "
                "fraudlab then writes an encrypted archive of its own"
            )

    @property
    def name(self) -> str:
        """What to call it: its address without user and password."""
        return f"restic {re.sub(r'//[^/@]*@', '//', self._address)}"

    @property
    def _address(self) -> str:
        # A folder's address must hold wherever restic is started.
        return self.address if ":" in self.address else str(Path(self.address).resolve())

    def backup(self, folder: Path, created: str) -> str:
        """Take a folder's content as a new snapshot and return its id.

        Raises
        ------
        FraudlabError : restic failed; nothing of it counts as a snapshot.
        """
        said = self._run("backup", "--json", "--tag", f"{TAG},{created}", ".", cwd=folder)
        done = [line for line in map(_json, said.splitlines()) if line.get("message_type") == "summary"]
        if not done:
            raise FraudlabError("restic: did not say that a snapshot was made; look at `restic snapshots`, try again")
        return str(done[-1]["snapshot_id"])

    def check(self) -> str | None:
        """Read all data of the repository; return what is wrong, or None."""
        try:
            self._run("check", "--read-data")
        except FraudlabError as error:
            return str(error)
        return None

    def restore(self, folder: Path, snapshot: str = "latest") -> None:
        """Write a snapshot, the newest of fraudlab's by default, into a folder."""
        self._run("restore", snapshot, "--tag", TAG, "--target", str(folder))

    def snapshots(self) -> list[dict[str, Any]]:
        """Return fraudlab's snapshots, oldest first: id and time of each."""
        listed = json.loads(self._run("snapshots", "--json", "--tag", TAG)) or []
        return [{"id": each["id"], "time": each["time"]} for each in listed]

    def _run(self, *words: str, cwd: Path | None = None) -> str:
        secret = (
            ["--password-file", str(self.password_file.resolve())]
            if self.password_file is not None
            else ["--password-command", str(self.password_command)]
        )
        done = subprocess.run(
            ["restic", "--repo", self._address, *secret, *words],
            cwd=cwd,
            env=os.environ | {"RESTIC_PROGRESS_FPS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise FraudlabError(
                f"restic {words[0]}: failed with exit code {done.returncode} ({said}); a new repository needs "
                "`restic init` first, else correct what it says"
            )
        return done.stdout


def _json(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
