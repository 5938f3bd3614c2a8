"""The vault: encrypted tables by data set and month, replaced as a whole or not at all.

    <root>/<dataset>/manifest.json            what is held, sealed with the key `manifest`
    <root>/<dataset>/<version>/2026-01/features.parquet    under the key `features`
    <root>/<dataset>/<version>/2026-01/identity.parquet    under the key `identity`

The manifest names the version's files with their digests, and replacing it is the one step that commits: a process
killed at any moment leaves the old data set or the new one. It holds column names, counts and digests, never a value.

It also names the id of each key the files were made with. While a rotation goes on, a data set is under the retired
key or under the new one as a whole, its manifest says which, and both open.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
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
        data = self._manifest_bytes(dataset)
        try:
            return self._unsealed(dataset, data)
        except KeyUnavailableError:
            renewed = self._manifest_bytes(dataset)
            if renewed == data:
                raise
            # Its key was rotated while we looked: the new manifest is under the new key.
            return self._unsealed(dataset, renewed)

    def _manifest_bytes(self, dataset: str) -> bytes:
        try:
            return (self.root / dataset / "manifest.json").read_bytes()
        except OSError as error:
            raise FraudlabError(
                f"data set {dataset}: its manifest cannot be read ({error.strerror or error}); correct the rights there"
            ) from None

    def _unsealed(self, dataset: str, data: bytes) -> dict[str, Any]:
        """Return what a sealed manifest says, or refuse it."""
        damaged = DamagedError(f"data set {dataset}: its manifest is damaged; ingest it again or restore a backup")
        try:
            manifest = json.loads(data)
            needed, seal = manifest["keys"][SEAL_KEY], manifest["seal"]
        except (ValueError, KeyError, TypeError):
            raise damaged from None
        if needed not in self.keys.ids(SEAL_KEY):
            raise KeyUnavailableError(
                f"data set {dataset}: was made with another key '{SEAL_KEY}' (id {needed}) than is held here; restore "
                "the keys from their backup"
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
        parts : (month, tables) with tables "features" and, where there is any, "identity"; months as "2026-01". Drawn
            while nobody else writes this data set, so that they may be made from what is held.
        facts : what else the manifest says, read after the last part; no value of a row. Ids of further keys go into
            `facts["keys"]`.

        Raises
        ------
        FraudlabError : the disk refused; the older data set, if any, is untouched.
        """
        cipher = ParquetCipher(self.keys)

        def write_all(version: Path) -> dict[str, Any]:
            written = [self._write_part(version, month, tables, cipher) for month, tables in parts]
            kinds = dict.fromkeys(kind for part in written for kind in part["files"])
            ids = {kind: self.keys.make(kind) for kind in kinds}
            return {**facts, "keys": {**facts.get("keys", {}), SEAL_KEY: None, **ids}, "parts": written}

        with self._writing(dataset):
            return self._replace(dataset, write_all)

    def rekey(self, dataset: str, name: str, *, progress: Callable[[int], None] = lambda rows: None) -> dict[str, Any]:
        """Write what a data set holds under one key anew under that key's successor; return its manifest.

        The files of other keys are copied as they are, so those keys are not needed. A data set that does not use the
        key, or is under the current one already, is left alone.

        Parameters
        ----------
        name : "features", "identity" or "manifest".
        progress : is told the rows of each file that has been written.

        Raises
        ------
        KeyUnavailableError : the key the data set was made with is not here.
        DamagedError : a file is not what was written; the data set is untouched.
        """
        with self._writing(dataset):
            manifest = self.manifest(dataset)
            made_with, ids = manifest["keys"].get(name), self.keys.ids(name)
            if made_with is None or made_with in ids[:1]:
                _clean(self.root / dataset, keep=manifest["version"])  # a killed rotation may have left its old version
                return manifest
            if name == SEAL_KEY:
                return self._commit(dataset, manifest)
            if made_with not in ids:
                raise self._no_key(dataset, name, made_with)
            old, new = ParquetCipher(self.keys, files=len(manifest["parts"])), ParquetCipher(self.keys)

            def write_all(version: Path) -> dict[str, Any]:
                written = [
                    self._rekey_part(dataset, version, part, name, old, new, progress) for part in manifest["parts"]
                ]
                return {**manifest, "keys": {**manifest["keys"], name: ids[0]}, "parts": written}

            return self._replace(dataset, write_all)

    def rewrite(
        self,
        dataset: str,
        change: Callable[[Mapping[Kind, pd.DataFrame]], Mapping[Kind, pd.DataFrame]],
        facts: Callable[[Mapping[str, Any], pd.DataFrame], Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Change what a data set holds, in a single step, and return its manifest; the older version's files go.

        Parameters
        ----------
        change : gets a month's tables and returns what to keep of them. The same object says that nothing changed in
            a table: its file is copied as it is. A month without any row left goes, unless it is the last one.
        facts : gets the older manifest and all features kept; returns what the manifest says otherwise now.

        Raises
        ------
        KeyUnavailableError : a key that a file was made with is not here; the data set is untouched.
        DamagedError : a file is not what was written; the data set is untouched.
        """
        with self._writing(dataset):
            manifest = self.manifest(dataset)
            ids = {kind: self.keys.ids(kind) for part in manifest["parts"] for kind in part["files"]}
            for kind, held in ids.items():
                if manifest["keys"][kind] not in held:
                    raise self._no_key(dataset, kind, manifest["keys"][kind])
            old, new = ParquetCipher(self.keys, files=len(manifest["parts"])), ParquetCipher(self.keys)

            def write_all(version: Path) -> dict[str, Any]:
                written, kept = [], []
                for part in manifest["parts"]:
                    before = {kind: _frame(self._open(dataset, entry, old)) for kind, entry in part["files"].items()}
                    after = change(before)
                    last = part is manifest["parts"][-1] and not written
                    if not (len(after["features"]) or last):
                        continue
                    # Under one key as a whole: while it is being rotated, nothing is copied.
                    same = {k for k in after if after[k] is before[k] and manifest["keys"][k] == ids[k][0]}
                    written.append(self._rewrite_part(dataset, version, part, after, same, new))
                    kept.append(after["features"])
                keys = {**manifest["keys"], **{kind: held[0] for kind, held in ids.items()}}
                told = facts(manifest, pd.concat(kept, ignore_index=True))
                return {**manifest, **told, "keys": keys, "parts": written}

            return self._replace(dataset, write_all)

    def tidy(self, dataset: str) -> None:
        """Remove what a killed writer left of other versions of a data set."""
        with self._writing(dataset):
            _clean(self.root / dataset, keep=self.manifest(dataset)["version"])

    @contextlib.contextmanager
    def nobody_writing(self) -> Iterator[None]:
        """Hold every writer of this vault off for a moment, after those at work have ended."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(self.root / ".lock"):
            yield

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
        except (FileNotFoundError, KeyUnavailableError) as error:
            # Replaced or rotated while we read: the new version is complete.
            renewed = self.manifest(dataset)
            if renewed["version"] != manifest["version"]:
                return self._read(dataset, renewed, kind, columns, before)
            if isinstance(error, KeyUnavailableError):
                raise
            raise DamagedError(
                f"data set {dataset}: a file of its table '{kind}' is missing; ingest it again or restore a backup"
            ) from None

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
        """Hold a data set's write lock, and a share of the vault's; say in a sentence what the disk refuses.

        Keys change only when nobody writes: all files of a version are under the keys its manifest names.
        """
        folder = self.root / dataset
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True, mode=0o700)
            with _locked(self.root / ".lock", shared=True), _locked(folder / ".lock"):
                yield
        except OSError as error:
            raise FraudlabError(
                f"data set {dataset}: {folder} could not be written ({error.strerror or error}); nothing was changed; "
                "make room or correct the folder's rights"
            ) from None

    def _replace(self, dataset: str, write_all: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Let `write_all` fill a new version's folder, and commit the manifest it returns; only under the lock."""
        folder = self.root / dataset
        version = secrets.token_hex(8)
        try:
            (folder / version).mkdir(mode=0o700)
            manifest = write_all(folder / version)
            sync_folder(folder / version)
            manifest = self._commit(dataset, {**manifest, "version": version})
        except BaseException:
            if not _names(folder / "manifest.json", version):
                shutil.rmtree(folder / version, ignore_errors=True)
            raise
        _clean(folder, keep=version)
        return manifest

    def _commit(self, dataset: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Seal a manifest and put it in place of the older one in a single step; only called under the lock."""
        manifest = {**manifest, "keys": {**manifest["keys"], SEAL_KEY: self.keys.make(SEAL_KEY)}}
        manifest["seal"] = self._seal(manifest)
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
        if manifest["keys"][kind] not in self.keys.ids(kind):
            raise self._no_key(dataset, kind, manifest["keys"][kind])
        wanted = [p for p in held if before is None or pd.Timestamp(p["month"], tz="UTC") < before]
        cipher = ParquetCipher(self.keys, files=max(len(wanted), 1))
        tables = [self._open(dataset, part["files"][kind], cipher, columns) for part in wanted or held[:1]]
        return _frame(pa.concat_tables(tables if wanted else [tables[0].slice(0, 0)]))

    def _open(
        self, dataset: str, entry: Mapping[str, Any], cipher: ParquetCipher, columns: list[str] | None = None
    ) -> pa.Table:
        data = self._bytes(dataset, entry)
        try:
            file = pq.ParquetFile(pa.BufferReader(data), decryption_properties=cipher.decryption())
            return file.read(columns=columns)
        except (pa.ArrowException, OSError, ValueError):
            raise _damaged(dataset, entry) from None

    def _bytes(self, dataset: str, entry: Mapping[str, Any]) -> bytes:
        """Return a file as it was written, or refuse it."""
        try:
            data = (self.root / dataset / entry["path"]).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise FraudlabError(
                f"data set {dataset}: {entry['path']} cannot be read ({error.strerror or error}); "
                "correct the rights there"
            ) from None
        if _sha256(data) != entry["sha256"]:
            raise _damaged(dataset, entry)
        return data

    def _write_part(
        self, version: Path, month: str, tables: Mapping[Kind, pd.DataFrame], cipher: ParquetCipher
    ) -> dict[str, Any]:
        folder = version / month
        folder.mkdir(mode=0o700)
        files = {kind: _write_table(folder / f"{kind}.parquet", frame, kind, cipher) for kind, frame in tables.items()}
        sync_folder(folder)
        return {"month": month, "files": files}

    def _rewrite_part(
        self,
        dataset: str,
        version: Path,
        part: Mapping[str, Any],
        tables: Mapping[Kind, pd.DataFrame],
        same: set[Kind],
        cipher: ParquetCipher,
    ) -> dict[str, Any]:
        folder = version / part["month"]
        folder.mkdir(mode=0o700)
        files = {}
        for kind, frame in tables.items():
            path, entry = folder / f"{kind}.parquet", part["files"][kind]
            if kind in same:
                files[kind] = {**entry, **_write_file(path, self._bytes(dataset, entry))}
            else:
                files[kind] = _write_table(path, frame, kind, cipher)
        sync_folder(folder)
        return {**part, "files": files}

    def _rekey_part(
        self,
        dataset: str,
        version: Path,
        part: Mapping[str, Any],
        name: str,
        old: ParquetCipher,
        new: ParquetCipher,
        progress: Callable[[int], None],
    ) -> dict[str, Any]:
        folder = version / part["month"]
        folder.mkdir(mode=0o700)
        files = {}
        for kind, entry in part["files"].items():
            if kind == name:
                data = _encrypted(self._open(dataset, entry, old), kind, new)
            else:
                data = self._bytes(dataset, entry)
            files[kind] = {**entry, **_write_file(folder / f"{kind}.parquet", data)}
            progress(entry["rows"] if kind == name else 0)
        sync_folder(folder)
        return {**part, "files": files}

    def _no_key(self, dataset: str, name: str, needed: str) -> KeyUnavailableError:
        return KeyUnavailableError(
            f"data set {dataset}: its table '{name}' needs the key '{name}' with id {needed}, which this account does "
            "not have; restore the keys from their backup or ask the key's owner"
        )

    def _seal(self, manifest: Mapping[str, Any]) -> str:
        body = {key: value for key, value in manifest.items() if key != "seal"}
        return self.keys.hmac(SEAL_KEY, _text(body), key=manifest["keys"][SEAL_KEY]).hex()


def _encrypted(table: pa.Table, kind: str, cipher: ParquetCipher) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", encryption_properties=cipher.encryption(kind)
    ) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _write_table(path: Path, frame: pd.DataFrame, kind: str, cipher: ParquetCipher) -> dict[str, Any]:
    """Write a table as a file of a version; return what the manifest says of it."""
    table = pa.table({name: _arrow(frame[name]) for name in frame.columns})
    return _write_file(path, _encrypted(table, kind, cipher)) | {
        "rows": len(frame),
        "schema": {field.name: str(field.type) for field in table.schema},
    }


def _frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get, ignore_metadata=True)


def _write_file(path: Path, data: bytes) -> dict[str, str]:
    """Write a file of a version; return what the manifest says of its bytes."""
    write_private(path, data)
    return {"path": str(path.relative_to(path.parents[2])), "sha256": _sha256(data)}


def _damaged(dataset: str, entry: Mapping[str, Any]) -> DamagedError:
    return DamagedError(f"data set {dataset}: the file {entry['path']} is damaged; ingest it again or restore a backup")


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
def _locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock, alone or shared; who comes second waits. The system releases it when a process dies."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
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
