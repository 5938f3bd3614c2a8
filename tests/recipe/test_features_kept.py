"""Features shared by a retraining's notebooks: the computed bits or none, and nothing that outlives the launcher."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab.features import FeatureSet, count, mean, value
from fraudlab.features_kept import FILE, KEY, shared, shared_key

SET = FeatureSet(
    "some", [value("amount"), count(by="customer_id", window="7d"), mean("amount", by="card_id", window="30d")]
)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the frames that features were computed of."""
    asked: list[int] = []
    compute = FeatureSet.compute

    def counted(self: FeatureSet, transactions: pd.DataFrame) -> pd.DataFrame:
        asked.append(len(transactions))
        return compute(self, transactions)

    monkeypatch.setattr(FeatureSet, "compute", counted)
    return asked


def same_bits(found: pd.DataFrame, wanted: pd.DataFrame) -> bool:
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)
    return found.to_numpy().tobytes() == wanted.to_numpy().tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_they_are_computed_once_and_read_to_the_bit(
    transactions: pd.DataFrame, tmp_path: Path, computed: list[int], dtype: str
) -> None:
    some = FeatureSet("some", SET.specs, dtype=dtype)
    wanted = some.compute(transactions)
    assert np.isnan(wanted.to_numpy()).any()
    with shared_key(tmp_path):
        first, second = (shared(tmp_path, some, transactions) for _ in range(2))
        assert computed == [len(transactions)] * 2, "for what is wanted, and for the first one"
        assert same_bits(first, wanted)
        assert same_bits(second, wanted)
        second.iloc[0, 0] = -1.0  # who reads them may change them
        assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_without_a_launcher_nothing_is_kept(
    transactions: pd.DataFrame, tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    for _ in range(2):
        shared(tmp_path, SET, transactions)
    assert len(computed) == 2
    assert not list(tmp_path.iterdir())


def without_one_customer(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["customer_id"] != frame["customer_id"].iloc[0]].reset_index(drop=True)


def changed(column: str, to: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        other = frame.copy()
        other.loc[1234, column] = to
        return other

    return change


@pytest.mark.parametrize(
    "change",
    [
        without_one_customer,
        changed("amount", 1e6),
        changed("customer_id", "c999"),
        changed("country", "FR"),
        changed("label_time", pd.Timestamp("2027-01-01", tz="UTC")),
        changed("is_fraud", pd.NA),
        lambda frame: frame.rename(columns={"country": "land"}),
        lambda frame: frame.astype({"transaction_id": "int32"}),
    ],
    ids=["erased", "amount", "customer", "text", "time", "label", "name", "type"],
)
def test_of_other_transactions_they_are_computed_anew(
    transactions: pd.DataFrame, tmp_path: Path, computed: list[int], change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    other = change(transactions)
    wanted = SET.compute(other)
    with shared_key(tmp_path):
        shared(tmp_path, SET, transactions)
        computed.clear()
        assert same_bits(shared(tmp_path, SET, other), wanted)
        assert computed == [len(other)]


def test_of_another_set_they_are_computed_anew(transactions: pd.DataFrame, tmp_path: Path) -> None:
    # As many columns, so that only what they are tells the two apart.
    other = FeatureSet("some", [*SET.specs[:2], mean("amount", by="merchant_id", window="30d")])
    with shared_key(tmp_path):
        shared(tmp_path, SET, transactions)
        assert same_bits(shared(tmp_path, other, transactions), other.compute(transactions))


def test_a_damaged_file_is_no_file(transactions: pd.DataFrame, tmp_path: Path, computed: list[int]) -> None:
    wanted = SET.compute(transactions)
    with shared_key(tmp_path):
        shared(tmp_path, SET, transactions)
        path = tmp_path / FILE
        whole = path.read_bytes()
        damages = [b"", whole[:5], whole[:12], whole[:-1], whole + b"\0", whole[12:]]
        for at in (0, 11, 12, len(whole) // 2, len(whole) - 1):
            flipped = bytearray(whole)
            flipped[at] ^= 1
            damages.append(bytes(flipped))
        for damaged in damages:
            path.write_bytes(damaged)
            computed.clear()
            assert same_bits(shared(tmp_path, SET, transactions), wanted)
            assert len(computed) == 1


def test_the_key_and_the_file_go_with_the_launcher(
    transactions: pd.DataFrame, tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    kept: list[bytes] = []

    def fails() -> None:
        with shared_key(tmp_path):
            shared(tmp_path, SET, transactions)
            kept.append((tmp_path / FILE).read_bytes())
            raise RuntimeError("the launcher fails")

    with pytest.raises(RuntimeError, match="the launcher fails"):
        fails()
    left = kept[0]
    assert KEY not in os.environ
    assert not list(tmp_path.iterdir())
    # Encrypted: no column of the features can be found in it, and a later retraining cannot read it.
    column = SET.compute(transactions)["amount"].to_numpy()
    assert column[:3].tobytes() not in left
    assert SET.compute(transactions).to_numpy()[0].tobytes() not in left
    with shared_key(tmp_path):
        (tmp_path / FILE).write_bytes(left)
        computed.clear()
        shared(tmp_path, SET, transactions)
        assert len(computed) == 1


def test_what_a_killed_launcher_left_is_removed(tmp_path: Path) -> None:
    for name in (FILE, f".{FILE}-0123456789abcdef"):
        (tmp_path / name).write_bytes(b"unreadable")
    (tmp_path / "customers.npy").touch()
    with shared_key(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["customers.npy"]


def test_a_disk_that_refuses_costs_time_and_nothing_else(
    transactions: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fraudlab.features_kept.write_private", full)
    with shared_key(tmp_path):
        assert same_bits(shared(tmp_path, SET, transactions), SET.compute(transactions))
        assert not list(tmp_path.iterdir())
    (tmp_path / "a file").touch()
    with shared_key(tmp_path / "a file"):
        assert same_bits(shared(tmp_path / "a file", SET, transactions), SET.compute(transactions))


def test_no_transactions_have_no_features(transactions: pd.DataFrame, tmp_path: Path) -> None:
    with shared_key(tmp_path):
        for _ in range(2):
            assert shared(tmp_path, SET, transactions.iloc[:0]).shape == (0, 3)
