"""Features that the notebooks of one retraining compute once and share, unreadable as soon as it has ended.

Each notebook is a process of its own and needs the same features. The first one keeps them in a file of the run's
private folder, encrypted under a key that the launcher makes for this one retraining, hands on in the environment and
writes nowhere. When the launcher ends, however it ends, the key is gone and what is left of the file says nothing: no
customer who is erased later lives on in it. Without such a key (JupyterLab, another run's file) features are computed.

What was kept counts only for the same feature set over the same transactions, every value of them: whoever was erased,
objected or was corrected meanwhile changes these, and the features are computed anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraudlab.features import FeatureSet
from fraudlab.privacy.keys import write_private

KEY = "FRAUDLAB_RETRAINING_KEY"
"""The environment variable that the launcher's key is handed on in."""

FILE = "features.kept"
LARGEST = 2**31 - 1
"""Bytes that AES-GCM encrypts at once; more than that is computed each time."""

_NONCE = 12


@contextlib.contextmanager
def shared_key(folder: Path) -> Iterator[None]:
    """Let the processes started in here share features through a file of `folder`; it is gone afterwards, and the key.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, shared_key(Path(folder)):
    ...     len(bytes.fromhex(os.environ[KEY]))
    32
    """
    forget(folder)
    before = os.environ.get(KEY)
    os.environ[KEY] = secrets.token_hex(32)
    try:
        yield
    finally:
        forget(folder)
        if before is None:
            os.environ.pop(KEY, None)
        else:
            os.environ[KEY] = before


def shared(folder: Path, feature_set: FeatureSet, transactions: pd.DataFrame) -> pd.DataFrame:
    """Return what `feature_set.compute(transactions)` returns, bit for bit, read from `folder` where it was kept there.

    Parameters
    ----------
    folder : the private folder of a run; the file in it is for its owner only (0600).
    feature_set, transactions : as for `FeatureSet.compute`.

    Returns
    -------
    The features: index and order of the transactions. A file that is damaged, cut, of other data or of another
    retraining counts as none; one that cannot be written is done without.
    """
    if KEY not in os.environ:
        return feature_set.compute(transactions)
    cipher, path = AESGCM(bytes.fromhex(os.environ[KEY])), folder / FILE
    about = _digest(feature_set, transactions)
    shape, dtype = (len(transactions), len(feature_set.columns)), np.dtype(feature_set.dtype)
    with contextlib.suppress(OSError, InvalidTag, ValueError):
        held = path.read_bytes()
        values = np.frombuffer(cipher.decrypt(held[:_NONCE], held[_NONCE:], about), dtype=dtype)
        values = values.reshape(shape).copy()  # what was decrypted cannot be written to
        return pd.DataFrame(values, index=transactions.index, columns=list(feature_set.columns), copy=False)
    features = feature_set.compute(transactions)
    if 0 < shape[0] * shape[1] * dtype.itemsize < LARGEST:
        _keep(path, cipher, features.to_numpy(dtype=dtype).tobytes(), about)
    return features


def _keep(path: Path, cipher: AESGCM, values: bytes, about: bytes) -> None:
    nonce = secrets.token_bytes(_NONCE)
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    with contextlib.suppress(OSError):  # a full disk costs time, not the retraining
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            write_private(fresh, nonce + cipher.encrypt(nonce, values, about))
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Remove what is kept in a folder, and what a killed process left of it."""
    with contextlib.suppress(OSError):
        for path in (*folder.glob(FILE), *folder.glob(f".{FILE}-*")):
            path.unlink(missing_ok=True)


def _digest(feature_set: FeatureSet, transactions: pd.DataFrame) -> bytes:
    """Return the sha-256 over a feature set and over every value, name and type of the transactions, in their order."""
    types = {name: str(kind) for name, kind in transactions.dtypes.items()}
    digest = hashlib.sha256(json.dumps([feature_set.to_dict(), types], sort_keys=True).encode())
    table = pa.table({name: _arrow(transactions[name]) for name in transactions.columns})
    with pa.ipc.new_stream(pa.PythonFile(_Hashing(digest), mode="w"), table.schema) as stream:
        stream.write_table(table)
    return digest.digest()


def _arrow(values: pd.Series) -> pa.Array | pa.ChunkedArray:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert(None).to_numpy()
    return pa.array(values, from_pandas=True)


class _Hashing(io.RawIOBase):
    """A file that only sums up what is written to it."""

    def __init__(self, digest: hashlib._Hash) -> None:
        super().__init__()
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._digest.update(data)
        return memoryview(data).nbytes
