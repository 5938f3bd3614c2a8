"""The vault: encrypted tables by data set and month, replaced as a whole or not at all.

    <root>/<dataset>/manifest.json            what is held, sealed with the key `manifest`
    <root>/<dataset>/<version>/2026-01/features.parquet    under the key `features`
    <root>/<dataset>/<version>/2026-01/identity.parquet    under the key `identity`

The manifest names the version's files with their digests, and replacing it is the one step that commits: a process
killed at any moment leaves the old data set or the new one. It holds column names, counts and digests, never a value.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fraudlab.privacy.keys import Keys, KeyUnavailableError, ParquetCipher, sync_folder, write_private
from fraudlab.schema import FraudlabError, InputError, did_you_mean

Kind = Literal["features", "identity"]
SEAL_KEY = "manifest"


class DamagedError(FraudlabError):
    """Something in the vault is not what was written there; nothing of it was returned."""


@dataclass(frozen=True)
class Vault:
    """Encrypted data sets below `root`, opened with `keys`."""

    root: Path
    keys: Keys

    def datasets(self) -> list[str]:
        """Return the names of the data sets held."""
        return sorted(path.parent.name for path in self.root.glob("*/manifest.json"))

    def manifest(self, dataset: str) -> dict[str, Any]:
        """Return a data set's manifest, its seal checked.

        Raises
        ------
        InputError : no such data set.
        KeyUnavailableError : it was made with keys that are not here.
        DamagedError : the manifest is not what was written.
        """
        held = self.datasets()
        if dataset not in held:
            hint = did_you_mean(dataset, held) if held else "the vault is empty; run `fraudlab ingest` first"
            raise InputError(f"vault: no data set '{dataset}'; {hint}")
        try:
            data = (self.root / dataset / "manifest.json").read_bytes()
        except OSError as error:
            raise FraudlabError(
                f"data set {dataset}: its manifest cannot be read ({error.strerror or error}); correct the rights there"
            ) from None
        damaged = DamagedError(f"data set {dataset}: its manifest is damaged; ingest it again or restore a backup")
        try:
            manifest = json.loads(data)
            needed, seal = manifest["keys"][SEAL_KEY], manifest["seal"]
        except (ValueError, KeyError, TypeError):
            raise damaged from None
        if self.keys.key_ids().get(SEAL_KEY) != needed:
            raise KeyUnavailableError(
                f"data set {dataset}: was made with another key '{SEAL_KEY}' (id {needed}) than the key directory "
                "holds; restore the keys from their backup"
            )
        if _text(manifest) != data or not hmac.compare_digest(str(seal).encode(), self._seal(manifest).encode()):
            raise damaged
        return manifest

    def write(
        self, dataset: str, parts: Iterable[tuple[str, Mapping[Kind, pd.DataFrame]]], facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write a data set, replacing an older one in a single step, and return its manifest.

        Parameters
        ----------
        parts : (month, tables) with tables "features" and, where there is any, "identity"; months as "2026-01".
        facts : what else the manifest says; no value of a row. Ids of further keys go into `facts["keys"]`.

        Raises
        ------
        FraudlabError : the disk refused; the older data set, if any, is untouched.
        """
        folder = self.root / dataset
        version = secrets.token_hex(8)
        with self._writing(dataset):
            try:
                (folder / version).mkdir(mode=0o700)
                written = [self._write_part(folder / version, month, tables) for month, tables in parts]
                sync_folder(folder / version)
                manifest = self._commit(
                    dataset,
                    {
                        **facts,
                        "version": version,
                        "keys": {**facts.get("keys", {}), **self._ids_of(written)},
                        "parts": written,
                    },
                )
            except BaseException:
                if not _names(folder / "manifest.json", version):
                    shutil.rmtree(folder / version, ignore_errors=True)
                raise
            _clean(folder, keep=version)
        return manifest

    def confirm(self, dataset: str, version: str, known_at: pd.Timestamp) -> dict[str, Any]:
        """Note that a version still says all there is at a later moment, its tables untouched; return its manifest.

        A moment before the one already noted changes nothing; nor does it when another version has come meanwhile.
        """
        with self._writing(dataset):
            manifest = self.manifest(dataset)
            noted = manifest.get("known_at")
            if manifest["version"] != version or (noted is not None and pd.Timestamp(noted) >= known_at):
                return manifest
            return self._commit(dataset, {**manifest, "known_at": known_at.isoformat()})

    def read(
        self,
        dataset: str,
        kind: Kind = "features",
        *,
        columns: list[str] | None = None,
        before: pd.Timestamp | None = None,
    ) -> pd.DataFrame:
        """Return a data set's table, every file checked against its digest before it is opened.

        Parameters
        ----------
        columns : those to read; None reads all.
        before : leaves out months that begin at or after this moment.

        Raises
        ------
        InputError : no such data set, or it has no table of this kind.
        KeyUnavailableError : the key of this kind is not here.
        DamagedError : a file is missing, cut or changed.
        """
        manifest = self.manifest(dataset)
        try:
            return self._read(dataset, manifest, kind, columns, before)
        except FileNotFoundError:
            # Replaced while we read: the new version is complete.
            renewed = self.manifest(dataset)
            if renewed["version"] == manifest["version"]:
                raise DamagedError(
                    f"data set {dataset}: a file of its table '{kind}' is missing; ingest it again or restore a backup"
                ) from None
            return self._read(dataset, renewed, kind, columns, before)

    def damaged(self, dataset: str) -> list[str]:
        """Return the files of a data set that are missing or not as they were written; needs no key but the seal's.

        Raises
        ------
        InputError, KeyUnavailableError, DamagedError : as for `manifest`.
        """
        manifest = self.manifest(dataset)
        wrong = []
        for part in manifest["parts"]:
            for entry in part["files"].values():
                path = self.root / dataset / entry["path"]
                try:
                    whole = _sha256(path.read_bytes()) == entry["sha256"]
                except OSError:
                    whole = False
                if not whole:
                    wrong.append(entry["path"].partition("/")[2])
        if wrong and self.manifest(dataset)["version"] != manifest["version"]:
            # Replaced while we looked: the new version is the one to judge.
            return self.damaged(dataset)
        return wrong

    @contextlib.contextmanager
    def _writing(self, dataset: str) -> Iterator[None]:
        """Hold a data set's write lock; say in a sentence what the disk refuses."""
        folder = self.root / dataset
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True, mode=0o700)
            with _locked(folder):
                yield
        except OSError as error:
            raise FraudlabError(
                f"data set {dataset}: {folder} could not be written ({error.strerror or error}); nothing was changed; "
                "make room or correct the folder's rights"
            ) from None

    def _commit(self, dataset: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Seal a manifest and put it in place of the older one in a single step; only called under the lock."""
        manifest = {**manifest, "seal": self._seal(manifest)}
        folder = self.root / dataset
        fresh = folder / f".manifest-{secrets.token_hex(8)}"
        try:
            write_private(fresh, _text(manifest))
            os.replace(fresh, folder / "manifest.json")
        finally:
            fresh.unlink(missing_ok=True)
        try:
            sync_folder(folder)
        except OSError as error:
            raise FraudlabError(
                f"data set {dataset}: is written, but the disk did not confirm it ({error.strerror or error}); "
                "check the disk and ingest it again"
            ) from None
        return manifest

    def _read(
        self,
        dataset: str,
        manifest: dict[str, Any],
        kind: Kind,
        columns: list[str] | None,
        before: pd.Timestamp | None,
    ) -> pd.DataFrame:
        held = [part for part in manifest["parts"] if kind in part["files"]]
        if not held:
            raise InputError(f"data set {dataset}: has no table '{kind}'; its contract keeps no identity")
        if self.keys.key_ids().get(kind) != manifest["keys"][kind]:
            raise KeyUnavailableError(
                f"data set {dataset}: its table '{kind}' needs the key '{kind}' with id {manifest['keys'][kind]}, "
                "which this account does not have; restore the keys from their backup or ask the key's owner"
            )
        wanted = [p for p in held if before is None or pd.Timestamp(p["month"], tz="UTC") < before]
        cipher = ParquetCipher(self.keys)
        tables = [self._open(dataset, part["files"][kind], cipher, columns) for part in wanted or held[:1]]
        table = pa.concat_tables(tables if wanted else [tables[0].slice(0, 0)])
        return table.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get, ignore_metadata=True)

    def _open(
        self, dataset: str, entry: Mapping[str, Any], cipher: ParquetCipher, columns: list[str] | None
    ) -> pa.Table:
        try:
            data = (self.root / dataset / entry["path"]).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise FraudlabError(
                f"data set {dataset}: {entry['path']} cannot be read ({error.strerror or error}); "
                "correct the rights there"
            ) from None
        damaged = DamagedError(
            f"data set {dataset}: the file {entry['path']} is damaged; ingest it again or restore a backup"
        )
        if _sha256(data) != entry["sha256"]:
            raise damaged
        try:
            file = pq.ParquetFile(pa.BufferReader(data), decryption_properties=cipher.decryption())
            return file.read(columns=columns)
        except (pa.ArrowException, OSError, ValueError):
            raise damaged from None

    def _write_part(self, version: Path, month: str, tables: Mapping[Kind, pd.DataFrame]) -> dict[str, Any]:
        folder = version / month
        folder.mkdir(mode=0o700)
        cipher = ParquetCipher(self.keys)
        files = {}
        for kind, frame in tables.items():
            table = pa.table({name: _arrow(frame[name]) for name in frame.columns})
            sink = pa.BufferOutputStream()
            with pq.ParquetWriter(
                sink, table.schema, compression="zstd", encryption_properties=cipher.encryption(kind)
            ) as writer:
                writer.write_table(table)
            data = sink.getvalue().to_pybytes()
            path = folder / f"{kind}.parquet"
            write_private(path, data)
            files[kind] = {
                "path": str(path.relative_to(version.parent)),
                "sha256": _sha256(data),
                "rows": len(frame),
                "schema": {field.name: str(field.type) for field in table.schema},
            }
        sync_folder(folder)
        return {"month": month, "files": files}

    def _ids_of(self, written: list[dict[str, Any]]) -> dict[str, str]:
        self.keys.key(SEAL_KEY)
        ids = self.keys.key_ids()
        return {name: ids[name] for name in (SEAL_KEY, *{kind: 1 for part in written for kind in part["files"]})}

    def _seal(self, manifest: Mapping[str, Any]) -> str:
        body = {key: value for key, value in manifest.items() if key != "seal"}
        return hmac.digest(self.keys.key(SEAL_KEY), _text(body), "sha256").hex()


def _arrow(values: pd.Series) -> pa.Array | pa.ChunkedArray:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        moments = values.dt.tz_convert(None).to_numpy()
        return pa.array(moments, type=pa.timestamp("us", tz="UTC"), from_pandas=True)
    return pa.array(values, from_pandas=True)


def _text(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a data set's write lock; a second writer waits. The system releases it when a process dies."""
    with os.fdopen(os.open(folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _names(manifest: Path, version: str) -> bool:
    """Return whether a manifest in place names a version: its tables are then not ours to remove."""
    try:
        return version.encode() in manifest.read_bytes()
    except OSError:
        return False


def _clean(folder: Path, keep: str) -> None:
    """Remove older versions and what a killed writer left; only called under the lock."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != keep:
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(".manifest-"):
            path.unlink(missing_ok=True)
