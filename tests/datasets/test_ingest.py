"""Ingest and load, on a raw table made by hand: what enters, what is refused, who sees what, as it was known when."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w

from fraudlab.config import DatasetConfig, RunConfig, SimulateConfig, Workspace
from fraudlab.datasets import (
    daily_volume,
    dataset_facts,
    ingest,
    label_maturity,
    load_transactions,
    raw_identifiers,
)
from fraudlab.datasets.rights import rectify
from fraudlab.privacy import lineage
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.identities import identities
from fraudlab.privacy.keys import KeyDirectory, KeyUnavailableError
from fraudlab.privacy.scan import find_planted
from fraudlab.privacy.vault import Vault
from fraudlab.schema import FraudlabError, InputError

CONTRACT = Path(__file__).resolve().parents[2] / "configs" / "contracts" / "demo.toml"
HANDBOOK = Path(__file__).resolve().parents[2] / "configs" / "contracts" / "handbook.toml"
NOW = pd.Timestamp("2026-11-01", tz="UTC")
TRAINING = "fraud-model-training"
ROWS = 600


def luhn(payload: str) -> str:
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(payload)))
    return payload + str(-total % 10)


def raw_table() -> pd.DataFrame:
    """Payments as a bank might export them, with every field that goes wrong in a CSV file."""
    rng = np.random.default_rng(11)
    n = ROWS
    who = rng.integers(0, 25, n)
    paid = pd.Timestamp("2026-01-20", tz="UTC") + pd.to_timedelta(rng.integers(0, 30 * 86_400, n), unit="s")
    online = rng.random(n) < 0.5
    fraud = rng.random(n) < 0.1

    def text(values: Any) -> pd.Series:
        return pd.Series(list(values), dtype="str")

    return pd.DataFrame(
        {
            "payment_id": text(f"P{i:05d}" for i in range(n)),
            "paid_at": pd.Series(paid).dt.as_unit("us"),
            "customer_ref": text(f"00{i:04d}" for i in who),
            "customer_name": text(f"Zoë Quux-{i}" for i in who),
            "email": text(f"zoe.quux{i}@mail.example.com" for i in who),
            "phone": text(f"+49 30 99{i:05d}" for i in who),
            "street": text(f'Lange "Gasse" {i}, Hof' for i in who),
            "postcode": text(f"01{i:03d}" for i in who),
            "birth_date": text(f"{1950 + 2 * i}-06-15" for i in who),
            "card_number": text(luhn(f"424242{i:09d}") for i in who),
            "merchant_ref": text(f"M{i:04d}" for i in rng.integers(0, 30, n)),
            "merchant_category": text(rng.choice(["food", "travel"], n)),
            "channel": text(np.where(online, "online", "pos")),
            "country": text(rng.choice(["NA", "DE"], n)),
            "currency": text(["EUR"] * n),
            "latitude": np.round(50 + rng.normal(0, 1, n), 4),
            "longitude": np.round(8 + rng.normal(0, 1, n), 4),
            "device_fingerprint": text(np.where(online, [f"dev{i:013x}" for i in who], None)),
            "ip_address": text(np.where(online, [f"10.20.30.{i + 100}" for i in who], None)),
            "auth_method": text(rng.choice(["none", "totp"], n)),
            "auth_result": text(rng.choice(["none", "passed"], n)),
            "amount": np.round(rng.lognormal(3, 1, n), 2),
            "memo": text(np.where(who == 3, [f"call +49 30 99{i:05d}\nplease" for i in who], "")),
            "loyalty_tier": text(np.where(who < 20, "gold", None)),
            "fraud_scenario": text(np.where(fraud, "takeover", "")),
            "reported_fraud": fraud.astype("int64"),
            "reported_at": pd.Series(paid + pd.to_timedelta(np.where(fraud, 3, 14), unit="D")).dt.as_unit("us"),
        }
    )


RAW = raw_table()
IDENTIFIERS = ("customer_ref", "customer_name", "email", "phone", "street", "card_number", "device_fingerprint")


class Place:
    """A workspace and one source file in it, ready to be ingested."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workspace = Workspace(root / "home")

    def config(self, raw: pd.DataFrame, suffix: str = "parquet", contract: Path = CONTRACT) -> RunConfig:
        path = self.root / f"raw.{suffix}"
        if suffix == "csv":
            raw.to_csv(path, index=False)
        else:
            raw.to_parquet(path, index=False)
        return self.of(path, contract)

    def of(self, path: Path, contract: Path = CONTRACT) -> RunConfig:
        return RunConfig(name="demo", dataset=DatasetConfig(name="demo", path=path, contract=contract))

    def files(self) -> list[Path]:
        return [path for path in self.workspace.root.rglob("*") if path.is_file()]

    def vault(self) -> Vault:
        return Vault(self.workspace.vault, KeyDirectory(self.workspace.keys))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="session")
def held(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The table in a vault, shared by the tests that only read."""
    place = Place(tmp_path_factory.mktemp("held"))
    ingest(place.config(RAW), place.workspace, now=NOW)
    return place


def load(place: Place, purpose: str = TRAINING, **more: Any) -> pd.DataFrame:
    return load_transactions("demo", purpose=purpose, workspace=place.workspace, **more)


# What enters


def test_what_is_loaded_is_the_treated_table_in_the_total_order(held: Place) -> None:
    frame = load(held)
    raw = RAW.sort_values(["paid_at", "payment_id"], ignore_index=True)
    assert frame["transaction_id"].tolist() == raw["payment_id"].tolist()
    assert frame["event_time"].tolist() == raw["paid_at"].tolist()
    assert frame.index.tolist() == list(range(ROWS))
    assert frame["amount"].tolist() == raw["amount"].tolist()
    assert frame["country"].tolist() == raw["country"].tolist()
    assert frame["is_fraud"].tolist() == raw["reported_fraud"].astype(bool).tolist()
    assert frame["postcode_area"].unique().tolist() == ["01"]
    np.testing.assert_allclose(frame["latitude"], raw["latitude"].round(1), atol=0.1)
    assert (frame["latitude"] * 10 % 1).round(6).isin([0.0, 1.0]).all()
    oldest = frame["age_band"][raw["birth_date"] == "1950-06-15"]
    assert oldest.unique().tolist() == ["70-79"], "75 on the last day of the data, 2026-02-18"
    dtypes = frame.dtypes.astype(str)
    assert set(dtypes) == {"str", "float64", "boolean", "datetime64[us, UTC]"}


def test_pseudonyms_keep_who_is_who_and_nothing_else(held: Place) -> None:
    frame = load(held)
    raw = RAW.sort_values(["paid_at", "payment_id"], ignore_index=True)
    pairs = {
        "customer_id": "customer_ref",
        "card_id": "card_number",
        "device_id": "device_fingerprint",
        "ip": "ip_address",
    }
    for name, source in pairs.items():
        assert pd.factorize(frame[name])[0].tolist() == pd.factorize(raw[source])[0].tolist()
        assert frame[name].dropna().str.fullmatch("[0-9a-f]{32}").all()
    assert frame[list(pairs)].melt()["value"].nunique() == sum(RAW[source].nunique() for source in pairs.values())


def test_identities_are_kept_apart_once_a_month(held: Place) -> None:
    identity = identities(held.vault(), "demo")
    sources = ["customer_ref", "card_number", "birth_date", "postcode", "customer_name", "email", "phone", "street"]
    assert identity.columns.tolist() == ["customer_id", *(f"raw_{source}" for source in sources)]
    months = RAW.assign(month=RAW["paid_at"].dt.month).groupby("month")["customer_ref"].nunique()
    assert len(identity) == months.sum()
    assert set(identity["raw_postcode"]) == set(RAW["postcode"]), "01234 stays 01234"
    pairs = identity[["customer_id", "raw_card_number"]].drop_duplicates()
    assert len(pairs) == 25


def test_undeclared_columns_are_dropped_and_counted(held: Place) -> None:
    manifest = held.vault().manifest("demo")
    gold = int(RAW["loyalty_tier"].notna().sum())
    assert manifest["dropped"] == [{"column": "loyalty_tier", "non_null": gold}]
    assert 0 < gold < ROWS


def test_free_text_is_held_masked_and_the_manifest_counts_what_was(held: Place) -> None:
    frame = load(held, "case-investigation")
    raw = RAW.sort_values(["paid_at", "payment_id"], ignore_index=True)
    spoken = raw["memo"] != ""
    assert 0 < spoken.sum() < ROWS
    assert frame["memo"][spoken].unique().tolist() == ["call [phone]\nplease"]
    assert frame["memo"][~spoken].isna().all()
    masked = {"column": "memo", "card": 0, "iban": 0, "email": 0, "phone": int(spoken.sum())}
    assert held.vault().manifest("demo")["masked"] == [masked]


def test_companions_are_made_from_the_same_raw_values(held: Place) -> None:
    frame = load(held, "case-investigation")
    raw = RAW.sort_values(["paid_at", "payment_id"], ignore_index=True)
    assert frame["card_bin"].tolist() == raw["card_number"].str[:6].tolist()
    assert frame["email_domain"].unique().tolist() == ["mail.example.com"]
    assert frame["network"].dropna().unique().tolist() == ["10.20.30.0/24"]
    assert (frame["network"].isna() == raw["ip_address"].isna()).all()
    # A step of whole days and degrees along a meridian: the raw coordinates count, not the grid's.
    one = raw[raw["customer_ref"] == raw["customer_ref"][0]].head(2)
    (north, south), (east, west) = np.radians(one["latitude"]), np.radians(one["longitude"])
    cosine = np.sin(north) * np.sin(south) + np.cos(north) * np.cos(south) * np.cos(east - west)
    assert np.isnan(frame["place_km"][one.index[0]])
    assert frame["place_km"][one.index[1]] == round(6371.0088 * np.arccos(cosine))
    kinds = {c["name"]: c["type"] for c in held.vault().manifest("demo")["columns"]}
    assert [kinds[name] for name in ("card_bin", "network", "place_km", "memo")] == ["text", "text", "number", "text"]


def test_companions_of_malformed_values_are_missing_and_say_nothing(place: Place) -> None:
    raw = RAW.assign(card_number="12", ip_address="999.1.1.1", email="zoe", latitude=95.0)
    ingest(place.config(raw), place.workspace, now=NOW)
    frame = load(place, "case-investigation")
    assert frame[["card_bin", "network", "email_domain", "place_km", "place_kmh"]].isna().all(axis=None)


def test_text_that_is_kept_and_holds_identifiers_is_refused(place: Place) -> None:
    raw = RAW.assign(channel=RAW["channel"].mask(RAW.index < 3, "ask zoe@mail.example.com, +49 30 1234567"))
    said = refusal(place, place.config(raw))
    assert said == (
        "demo: column 'channel' must hold no identifiers to be kept as it is; found what looks like 3 email, 3 phone; "
        "take treatment 'mask' in the contract"
    )


def test_no_raw_identifier_is_in_any_byte(held: Place) -> None:
    needles = {value for column in IDENTIFIERS for value in RAW[column].dropna()}
    assert len(needles) == 7 * 25
    assert find_planted([held.workspace.root], needles).empty
    every = b"".join(path.read_bytes() for path in held.files())
    assert not any(needle.encode() in every for needle in needles)
    assert len(find_planted([held.root / "raw.parquet"], needles)) > 0, "the search can find"


def test_files_are_for_their_owner_only(held: Place) -> None:
    assert not [path for path in held.files() if stat.S_IMODE(path.stat().st_mode) != 0o600]


def test_raw_identifiers_are_those_worth_searching_for(place: Place) -> None:
    found = set(raw_identifiers(place.config(RAW)))
    assert found == {v for column in (*IDENTIFIERS, "ip_address") for v in RAW[column].dropna()}


# The same data, the same result


def test_csv_and_parquet_mean_the_same(place: Place, tmp_path: Path) -> None:
    from_parquet = ingest(place.config(RAW), place.workspace, now=NOW)
    first = load(place)
    from_csv = ingest(place.config(RAW, "csv"), place.workspace, now=NOW)
    assert not from_csv["reused"]
    assert from_csv["digest"] == from_parquet["digest"]
    assert from_csv["source_digest"] != from_parquet["source_digest"]
    pd.testing.assert_frame_equal(load(place), first)
    assert from_csv["dropped"] == from_parquet["dropped"]


def test_other_keys_give_other_pseudonyms_and_the_same_digest(tmp_path: Path) -> None:
    places = [Place(tmp_path / name) for name in "ab"]
    for one in places:
        one.root.mkdir()
    digests = {ingest(one.config(RAW), one.workspace, now=NOW)["digest"] for one in places}
    assert len(digests) == 1
    assert not set(load(places[0])["customer_id"]) & set(load(places[1])["customer_id"])


def test_the_digest_follows_the_data(place: Place) -> None:
    first = ingest(place.config(RAW), place.workspace, now=NOW)["digest"]
    shuffled = ingest(place.config(RAW.sample(frac=1, random_state=0)), place.workspace, now=NOW)
    assert not shuffled["reused"]
    assert shuffled["digest"] == first, "the order of the export says nothing"
    for column, value in {"amount": 1.23, "reported_fraud": 1, "customer_ref": "000001", "channel": "atm"}.items():
        changed = RAW.copy()
        row = int((changed[column] != value).to_numpy().argmax())
        changed.loc[row, column] = value
        assert ingest(place.config(changed), place.workspace, now=NOW)["digest"] != first, column


def test_unchanged_data_are_reused_and_changes_are_not(place: Place) -> None:
    config = place.config(RAW)
    first = ingest(config, place.workspace, now=NOW)

    def written() -> dict[Path, int]:
        """When each file was; SQLite notes readers in its -shm, and an empty -wal beside it."""
        files = [path for path in place.files() if not path.name.endswith("-shm")]
        return {path: path.stat().st_mtime_ns for path in files if path.stat().st_size or path.suffix != ".db-wal"}

    before = written()
    again = ingest(config, place.workspace, now=NOW)
    assert again == first | {"reused": True, "repaired": False}
    assert written() == before
    assert not ingest(config, place.workspace, now=NOW, force=True)["reused"]
    other = place.root / "other.toml"
    other.write_text(CONTRACT.read_text().replace("step = 0.1", "step = 0.5"))
    changed = ingest(place.config(RAW, contract=other), place.workspace, now=NOW)
    assert not changed["reused"]
    assert changed["digest"] != first["digest"]


def test_a_damaged_data_set_is_made_again(place: Place) -> None:
    config = place.config(RAW)
    ingest(config, place.workspace, now=NOW)
    victim = next(place.workspace.vault.rglob("features.parquet"))
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(FraudlabError, match="is damaged; ingest it again"):
        load(place)
    made = ingest(config, place.workspace, now=NOW)
    month = victim.parent.name
    assert (made["reused"], made["repaired"], made["repaired_files"]) == (False, True, [f"{month}/features.parquet"])
    assert len(load(place)) == ROWS
    again = ingest(config, place.workspace, now=NOW)
    assert (again["reused"], again["repaired"]) == (True, False)
    assert again["repaired_files"] == made["repaired_files"], "the manifest keeps what was wrong before"
    (place.workspace.vault / "demo" / "manifest.json").write_text("{}")
    made = ingest(config, place.workspace, now=NOW)
    assert (made["reused"], made["repaired"], made["repaired_files"]) == (False, True, ["manifest.json"])


@pytest.mark.parametrize("why", ["forced", "a changed source"])
def test_damage_is_said_whatever_else_is_the_reason_to_write(place: Place, why: str) -> None:
    first = ingest(place.config(RAW), place.workspace, now=NOW)
    assert (first["repaired"], first["repaired_files"]) == (False, [])
    victim = next(place.workspace.vault.rglob("identity.parquet"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    config = place.config(RAW if why == "forced" else RAW.head(500))
    made = ingest(config, place.workspace, now=NOW, force=why == "forced")
    assert (made["repaired"], made["repaired_files"]) == (True, [f"{victim.parent.name}/identity.parquet"])


ASK_FOR_KEYS = r"under keys that are not here \('{}'\); restore them from their backup, or ask .*; only if they"


@pytest.mark.parametrize("name", ["manifest", "pseudonym", "features", "identity"])
def test_lost_keys_are_not_replaced_in_silence(place: Place, name: str) -> None:
    ingest(place.config(RAW), place.workspace, now=NOW)
    changed = place.config(RAW.head(500))
    (place.workspace.keys / f"{name}.key").unlink()
    before = {path: path.read_bytes() for path in place.files()}
    with pytest.raises(KeyUnavailableError, match=ASK_FOR_KEYS.format(name)) as refused:
        ingest(changed, place.workspace, now=NOW)
    assert "remov" not in str(refused.value)
    assert {path: path.read_bytes() for path in place.files()} == before
    assert not ingest(changed, place.workspace, now=NOW, force=True)["reused"]
    assert len(load(place)) == 500


ELSEWHERE = "0" * 31 + "1"


def rests_on_the_ledger(place: Place) -> None:
    code = load(place)["customer_id"].iloc[0]
    Ledger(place.workspace.ledger).record(code, "*", "restriction", source="letter of 2026-03-01")
    Ledger(place.workspace.ledger).record(code, "*", "erasure", source="letter of 2026-03-02")


def rests_on_a_model(place: Place) -> None:
    lineage.keep(lineage.path_of(place.workspace.lineage, "demo", "1"), [ELSEWHERE])


def rests_on_a_correction(place: Place) -> None:
    rectify("demo", load(place)["customer_id"].iloc[0], "amount", "1", source="a letter", workspace=place.workspace)


def rests_on_other_data(place: Place) -> None:
    other = DatasetConfig(name="other", path=place.root / "raw.parquet", contract=CONTRACT)
    ingest(RunConfig(name="other", dataset=other), place.workspace, now=NOW)


@pytest.mark.parametrize(
    ("rests", "how", "said"),
    [
        (rests_on_the_ledger, "lost", "2 events of the ledger would match nobody"),
        (rests_on_the_ledger, "another", "2 events of the ledger would match nobody"),
        (rests_on_the_ledger, "another, vault gone", "2 events of the ledger would match nobody"),
        (rests_on_a_model, "lost", "1 models' lists of customers would match nobody"),
        (rests_on_a_correction, "lost", "1 corrections would match nobody"),
        (rests_on_other_data, "another", "1 other data sets would match nobody"),
    ],
)
def test_another_key_of_pseudonyms_is_refused_where_something_rests_on_them(
    place: Place, rests: Callable[[Place], None], how: str, said: str
) -> None:
    config = place.config(RAW)
    made_with = ingest(config, place.workspace, now=NOW)["keys"]["pseudonym"]
    rests(place)
    key = place.workspace.keys / "pseudonym.key"
    key.unlink()
    if how != "lost":
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
    if how == "another, vault gone":
        shutil.rmtree(place.workspace.vault)
    before = {path: path.read_bytes() for path in place.workspace.vault.rglob("*.parquet")}
    with pytest.raises(KeyUnavailableError, match=said) as refused:
        ingest(config, place.workspace, now=NOW, force=True)
    assert "restore the key from its backup (fraudlab keys restore FILE)" in str(refused.value)
    assert {path: path.read_bytes() for path in place.workspace.vault.rglob("*.parquet")} == before
    assert key.exists() == (how != "lost"), "none is made"
    assert ingest(config, place.workspace, now=NOW, new_pseudonyms=True)["keys"]["pseudonym"] != made_with
    facts = audit_log(place.workspace).entries("ingest")["facts"].iloc[-1]
    assert [n for name, n in facts.items() if name.startswith("unmatched_")] == [int(said.split()[0])]


def test_a_restored_key_of_pseudonyms_is_the_right_one(place: Place) -> None:
    config = place.config(RAW)
    first = ingest(config, place.workspace, now=NOW)
    rests_on_a_model(place)
    key = place.workspace.keys / "pseudonym.key"
    away = key.rename(place.root / "away")
    with pytest.raises(KeyUnavailableError):
        ingest(config, place.workspace, now=NOW, force=True)
    away.rename(key)
    assert ingest(config, place.workspace, now=NOW, force=True)["keys"] == first["keys"]


def test_unchanged_data_need_only_the_keys_for_loading(place: Place) -> None:
    config = place.config(RAW)
    ingest(config, place.workspace, now=NOW)
    for name in ("identity", "pseudonym"):
        (place.workspace.keys / f"{name}.key").unlink()
    assert ingest(config, place.workspace, now=NOW + pd.Timedelta(days=1))["reused"]
    assert len(load(place)) == ROWS
    assert sorted(path.stem for path in place.workspace.keys.iterdir()) == ["audit", "features", "manifest"]
    (place.workspace.keys / "features.key").unlink()
    with pytest.raises(KeyUnavailableError, match=ASK_FOR_KEYS.format("features")):
        ingest(config, place.workspace, now=NOW)


@pytest.mark.parametrize("victim", ["features.parquet", "manifest.json"])
def test_a_repair_without_the_keys_is_refused(place: Place, victim: str) -> None:
    config = place.config(RAW)
    ingest(config, place.workspace, now=NOW)
    next(place.workspace.vault.rglob(victim)).write_text("{}")
    (place.workspace.keys / "pseudonym.key").unlink()
    with pytest.raises(KeyUnavailableError, match=ASK_FOR_KEYS.format("pseudonym")):
        ingest(config, place.workspace, now=NOW)
    assert not (place.workspace.keys / "pseudonym.key").exists()


# What is refused


def at(column: str, value: Any, rows: int = 2) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def spoil(raw: pd.DataFrame) -> pd.DataFrame:
        values = raw[column].astype(object)
        values.iloc[:rows] = value
        return raw.assign(**{column: pd.Series(values.tolist(), index=raw.index)})

    return spoil


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "missing column": (
        lambda raw: raw.rename(columns={"amount": "ammount"}),
        "demo: declared columns are missing: 'amount' (did you mean 'ammount'?); found 2 other columns; correct the",
    ),
    "missing mapped column": (
        lambda raw: raw.drop(columns="paid_at"),
        "demo: declared columns are missing: 'paid_at'; found 1 other column; correct the source or the contract",
    ),
    "columns in another spelling": (
        lambda raw: raw.rename(columns=lambda name: name.replace("_", " ").title()),
        "'paid_at' (did you mean 'Paid At'?), 'customer_ref' (did you mean 'Customer Ref'?)",
    ),
    "nested": (
        lambda raw: raw.assign(amount=[[1.0]] * len(raw), channel=[{"pos": 1}] * len(raw)),
        "raw.parquet: column 'amount' must hold text, numbers, times or yes and no; found list; write it again",
    ),
    "wrong type": (
        lambda raw: raw.assign(amount=raw["amount"].map("EUR {}".format).astype("str")),
        "demo: column 'amount' must hold numbers (12.50); found 600 other values of 600; correct the source",
    ),
    "numbers as dates": (
        lambda raw: raw.assign(amount=raw["paid_at"]),
        "demo: column 'amount' must hold numbers; found type datetime64[us, UTC]",
    ),
    "duplicate id": (
        lambda raw: pd.concat([raw, raw.head(3)]),
        "column 'payment_id' (for 'transaction_id') must be unique; found 3 duplicates of 603 rows",
    ),
    "empty id": (
        at("customer_ref", "  "),
        "column 'customer_ref' (for 'customer_id') must not be empty; found 2 empty of 600 rows",
    ),
    "float ids": (
        lambda raw: raw.assign(card_number=raw["card_number"].astype("float64")),
        "column 'card_number' (for 'card_id') must hold text or whole numbers; found floating point",
    ),
    "naive times": (
        lambda raw: raw.assign(paid_at=raw["paid_at"].dt.tz_localize(None)),
        "column 'paid_at' (for 'event_time') holds times without a time zone; found 600 naive rows; state the zone",
    ),
    "mixed times": (
        lambda raw: raw.assign(
            paid_at=raw["paid_at"].dt.strftime("%Y-%m-%dT%H:%M:%S") + pd.Series(["Z"] * 599 + [""], dtype="str")
        ),
        "column 'paid_at' (for 'event_time') must hold times all with or all without a time zone; found 599 with",
    ),
    "no times": (
        lambda raw: raw.assign(paid_at="yesterday"),
        "column 'paid_at' (for 'event_time') must hold times such as 2026-01-31T12:00:00Z; found 600 other values",
    ),
    "future": (
        at("paid_at", pd.Timestamp("2027-01-01", tz="UTC")),
        "column 'reported_at' (for 'label_time') must not lie before event_time",
    ),
    "all in the future": (
        lambda raw: raw.assign(
            paid_at=raw["paid_at"] + pd.Timedelta(days=400), reported_at=raw["reported_at"] + pd.Timedelta(days=400)
        ),
        "column 'paid_at' (for 'event_time') must not lie in the future; found 600 of 600 rows",
    ),
    "negative": (at("amount", -5.0), "column 'amount' must be finite and >= 0; found 2 negative of 600 rows"),
    "not a number": (at("amount", np.nan), "column 'amount' must be finite and >= 0; found 2 NaN of 600 rows"),
    "infinite": (at("amount", np.inf), "column 'amount' must be finite and >= 0; found 2 infinite of 600 rows"),
    "label 2": (
        at("reported_fraud", 2),
        "column 'reported_fraud' (for 'is_fraud') must be 0, 1 or missing; found 2 other values",
    ),
    "undated label": (
        at("reported_at", pd.NaT),
        "column 'reported_at' (for 'label_time') must say when each label became known; found 2 labels",
    ),
    "no date": (
        at("birth_date", "15.06.1950"),
        "column 'birth_date' (for 'age_band') must hold dates as YYYY-MM-DD; found 2 other values of 600",
    ),
    "no rows": (lambda raw: raw.head(0), "demo: the table has no rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused_in_a_sentence_and_nothing_is_written(place: Place, case: str) -> None:
    spoil, sentence = BAD[case]
    with pytest.raises(InputError) as refused:
        ingest(place.config(spoil(RAW)), place.workspace, now=NOW)
    lines = str(refused.value).split("\n")
    assert any(sentence in line for line in lines), lines
    if case not in ("future", "nested", "float ids"):  # these break two rules, or one twice
        assert len(lines) == 1
    assert not place.workspace.root.exists()
    assert not any(value in str(refused.value) for value in (RAW["email"][0], RAW["card_number"][0], "yesterday"))


CSV_ONLY = {
    "wrong type": ("amount", "12,50", "column 'amount' must hold numbers (12.50); found 2 other values of 600"),
    "not a number": ("amount", "NaN", "column 'amount' must be finite and >= 0; found 2 NaN of 600 rows"),
    "infinite": ("amount", "inf", "column 'amount' must be finite and >= 0; found 2 infinite of 600 rows"),
    "empty amount": ("amount", "", "column 'amount' must be finite and >= 0; found 2 NaN of 600 rows"),
    "label": ("reported_fraud", "yes", "(for 'is_fraud') must be 0, 1 or missing; found 2 other values"),
    "empty id": ("payment_id", "", "(for 'transaction_id') must not be empty; found 1 empty of 600 rows"),
}


@pytest.mark.parametrize("case", CSV_ONLY)
def test_bad_csv_values_are_refused_with_their_count(place: Place, case: str) -> None:
    column, value, sentence = CSV_ONLY[case]
    with pytest.raises(InputError) as refused:
        ingest(
            place.config(at(column, value, rows=1 if column == "payment_id" else 2)(RAW), "csv"),
            place.workspace,
            now=NOW,
        )
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not place.workspace.root.exists()


def test_bad_files_are_refused_in_a_sentence(place: Place) -> None:
    good = RAW.to_csv(index=False)
    written = {
        "empty.csv": (b"", "demo: empty.csv is empty; check the export"),
        "empty.parquet": (b"", "demo: empty.parquet is empty"),
        "header.csv": (good.split("\n", 1)[0].encode() + b"\n", "header.csv: has a header and no rows"),
        "latin.csv": (good.encode("latin-1"), "latin.csv: is not UTF-8 text; export it as UTF-8"),
        "wide.csv": (good.encode("utf-16"), "wide.csv: is not UTF-8 text"),
        "ragged.csv": (
            (good + "a,b\nc,d,e\n").encode(),
            "each row must have the header's 27 fields; found 2 rows",
        ),
        "twice.csv": (
            good.replace("customer_name", "amount").encode(),
            "declared columns are missing: 'customer_name'; found 1 other column;",
        ),
        "again.csv": (
            good.replace("loyalty_tier", "amount").encode(),
            "demo: column names must differ; found 'amount' repeated; rename them at the source",
        ),
        "endless.csv": (b'"' + b"x\n" * 100_000, "endless.csv: cannot be read or unpacked"),
        "text.parquet": (b"PAR1 no parquet", "text.parquet: is not a readable Parquet file"),
        "table.xlsx": (b"PK", "table.xlsx must be CSV or Parquet; known endings are: .csv"),
    }
    for name, (data, sentence) in written.items():
        (place.root / name).write_bytes(data)
        with pytest.raises(InputError) as refused:
            ingest(place.of(place.root / name), place.workspace, now=NOW)
        assert sentence in str(refused.value)
        assert "\n" not in str(refused.value)
        assert "example.com" not in str(refused.value)
    with pytest.raises(InputError, match=r"demo: no data file at .*rgged\.csv; did you mean 'ragged\.csv'"):
        ingest(place.of(place.root / "rgged.csv"), place.workspace, now=NOW)
    with pytest.raises(InputError, match=r"no data file at .*; correct dataset\.path"):
        ingest(place.of(place.root / "nowhere" / "x.csv"), place.workspace, now=NOW)
    assert not place.workspace.root.exists()


def refusal(place: Place, config: RunConfig) -> str:
    with pytest.raises(InputError) as refused:
        ingest(config, place.workspace, now=NOW)
    assert "\n" not in str(refused.value)
    assert not place.workspace.root.exists()
    return str(refused.value)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_without_a_header_row_the_first_customer_is_not_in_the_message(place: Place, suffix: str) -> None:
    first, rest = RAW.astype("str").iloc[0], RAW.astype("str").iloc[1:]
    assert RAW["customer_name"][0].startswith("Zoë")
    for change in ({}, {"customer_name": "Zoe Quux", "street": "customer name", "channel": "chanel", "memo": "phone"}):
        values = pd.Series({**first, **change})
        values = values.mask(values.isna() | values.duplicated(), values.index.to_series() + "-x")
        said = refusal(place, place.config(rest.set_axis(values.tolist(), axis=1), suffix))
        assert said.startswith("demo: declared columns are missing: 'payment_id'")
        assert f"found {25 + 2 - bool(change)} other columns; is there a header row" in said
        declared = set(RAW.columns) | {"customer name"}
        assert not [v for v in values if v not in declared and (f"'{v}'" in said or (len(v) > 3 and v in said))]


def test_a_present_column_is_offered_only_where_it_is_a_misspelt_name(place: Place) -> None:
    for name, told in {
        "customer_nam": " (did you mean 'customer_nam'?)",
        "Customer-Name": "",
        "customer_name@mail.example.com": "",
        "customer_name_49309900003": "",
        "Zoe Quux": "",
    }.items():
        said = refusal(place, place.config(RAW.rename(columns={"customer_name": name}), "csv"))
        assert said == (
            f"demo: declared columns are missing: 'customer_name'{told}; found 2 other columns; "
            "correct the source or the contract"
        )


def test_repeated_names_are_counted_and_only_declared_ones_said(place: Place) -> None:
    table = pq.read_table(place.config(RAW).dataset.path)
    for extra in ("Zoe Quux", "amount"):
        twice = table.append_column(extra, table["memo"]).append_column(extra, table["memo"])
        pq.write_table(twice, place.root / "twice.parquet")
        said = refusal(place, place.of(place.root / "twice.parquet"))
        found = "'amount'" if extra == "amount" else "1 undeclared"
        assert said == f"demo: column names must differ; found {found} repeated; rename them at the source"


def strange(kind: str) -> pa.Array:
    return {
        "list": pa.array([["a"], []]),
        "large_list": pa.array([["a"], []], type=pa.large_list(pa.string())),
        "struct": pa.array([{"secret_name": 1}, None]),
        "map": pa.array([[("a", 1)], []], type=pa.map_(pa.string(), pa.int64())),
        "time32": pa.array([1, 2], type=pa.time32("s")),
        "time64": pa.array([1, 2], type=pa.time64("us")),
        "duration": pa.array([1, 2], type=pa.duration("s")),
    }[kind]


@pytest.mark.parametrize("kind", ["list", "large_list", "struct", "map", "time32", "time64", "duration"])
@pytest.mark.parametrize("column", ["id", "at", "who", "amount", "extra"])
def test_parquet_columns_that_are_no_plain_values_are_refused(place: Place, column: str, kind: str) -> None:
    said = {"source": "extra", "name": "is_fraud", "type": "boolean", "treatment": "keep", "meaning": "x"}
    contract = small_contract(place, label_delay_days=3, more=[said | {"purposes": [TRAINING]}])
    times = pa.array(pd.to_datetime(["2026-01-10", "2026-01-12"], utc=True).to_pydatetime())
    table = pa.table({"id": [1, 2], "at": times, "who": ["a", "b"], "amount": [1.0, 2.0], "extra": [0, 1]})
    place_of = table.column_names.index(column)
    pq.write_table(table.set_column(place_of, column, strange(kind)), place.root / "strange.parquet")
    assert refusal(place, place.of(place.root / "strange.parquet", contract)) == (
        f"strange.parquet: column '{column}' must hold text, numbers, times or yes and no; found {kind}; "
        "write it again at the source"
    )


def test_undeclared_parquet_columns_of_any_kind_are_dropped_and_counted(place: Place) -> None:
    times = pd.to_datetime(["2026-01-10", "2026-01-12"], utc=True)
    plain = pa.table({"id": [1, 2], "at": pa.array(times.to_pydatetime()), "who": ["a", "b"], "amount": [1.0, 2.0]})
    kinds = {"list": 2, "struct": 1, "map": 2, "time32": 2, "duration": 2}
    for kind in kinds:
        plain = plain.append_column(kind, strange(kind))
    plain = plain.append_column("text", pa.array(["", "x"])).append_column("number", pa.array([float("nan"), 1.0]))
    plain = plain.append_column("view", pa.array(["", "x"], type=pa.string_view()))
    pq.write_table(plain, place.root / "more.parquet")
    manifest = ingest(place.of(place.root / "more.parquet", small_contract(place)), place.workspace, now=NOW)
    counted = {row["column"]: row["non_null"] for row in manifest["dropped"]}
    assert counted == kinds | {"text": 1, "number": 1, "view": 1}


def test_extra_columns_take_their_declared_type_or_are_refused(place: Place) -> None:
    kinds = {"n": "number", "b": "boolean", "t": "time"}
    more = [
        {"source": s, "name": s, "type": kind, "treatment": "keep", "meaning": "x", "purposes": [TRAINING]}
        for s, kind in kinds.items()
    ]
    contract = small_contract(place, extras=list(kinds), more=more)
    times = pd.to_datetime(["2026-01-10", "2026-01-12"], utc=True)
    raw = pd.DataFrame({"id": [1, 2], "at": times, "who": ["a", "b"], "amount": [1.0, 2.0]})
    gaps = raw.assign(n=pd.array([3, None], "Int64"), b=pd.array([1, None], "Int64"), t=pd.to_datetime([None] * 2))
    ingest(place.config(gaps.assign(t=pd.Series([None, None])), contract=contract), place.workspace, now=NOW)
    frame = load(place)
    assert frame["n"].tolist()[0] == 3.0
    assert frame["b"].tolist() == [True, pd.NA]
    assert str(frame["t"].dtype) == "datetime64[us, UTC]"
    for column, value, sentence in (
        ("n", times, "column 'n' must hold numbers; found type datetime64"),
        ("b", [1, 2], "column 'b' must be 0, 1 or missing; found 1 other values"),
        ("b", times, "column 'b' must hold 0, 1 or missing; found type datetime64"),
        ("t", [1, 2], "column 't' must hold times; found type Int64"),
    ):
        with pytest.raises(InputError) as refused:
            ingest(place.config(gaps.assign(**{column: value}), contract=contract), place.workspace, now=NOW)
        assert sentence in str(refused.value)


def test_a_file_that_cannot_be_read_is_said_in_a_sentence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    config = place.config(RAW, "csv")
    opened = Path.open

    def refusing(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == "raw.csv":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", refusing)
    assert refusal(place, config).startswith("demo: raw.csv cannot be read (Permission denied); correct its rights")


def test_a_purpose_the_contract_does_not_state_is_refused_before_anything_is_read(place: Place) -> None:
    config = place.of(place.root / "not-there.csv").model_copy(update={"purpose": "fraud-model-trainin"})
    assert refusal(place, config) == (
        "purpose: contract demo does not state 'fraud-model-trainin'; did you mean 'fraud-model-training'?"
    )


@pytest.mark.parametrize("blocked", ["data", ".keys"])
def test_a_vault_or_key_folder_that_cannot_be_written_is_said_in_a_sentence(place: Place, blocked: str) -> None:
    place.workspace.root.mkdir()
    (place.workspace.root / blocked).write_text("a file where a folder should be")
    with pytest.raises(FraudlabError, match=r"could not be (written|used) \((Not a directory|File exists)\)"):
        ingest(place.config(RAW), place.workspace, now=NOW)


def test_a_refused_table_leaves_the_held_one(place: Place) -> None:
    ingest(place.config(RAW), place.workspace, now=NOW)
    before = {path: path.read_bytes() for path in place.files()}
    with pytest.raises(InputError):
        ingest(place.config(RAW.assign(amount=-1.0)), place.workspace, now=NOW)
    assert {path: path.read_bytes() for path in place.files()} == before


# The ways files differ


def test_other_delimiters_packing_and_marks_are_read(place: Place) -> None:
    expected = ingest(place.config(RAW), place.workspace, now=NOW)["digest"]
    said = RAW.assign(
        reported_fraud=RAW["reported_fraud"].map({0: "False", 1: "true"}),
        paid_at=RAW["paid_at"].dt.tz_convert("Europe/Berlin").astype("str"),
    )
    (place.root / "a.csv").write_text(said.to_csv(index=False, sep=";"), encoding="utf-8-sig")
    (place.root / "b.csv.gz").write_bytes(gzip.compress(said.to_csv(index=False).encode()))
    (place.root / "c.tsv").write_text(said.to_csv(index=False, sep="\t", lineterminator="\r\n"), newline="")
    letters = said.assign(loyalty_tier="Dear bank,\n" * 500)  # some megabytes: a reader's blocks end inside quotes
    (place.root / "d.csv").write_text(letters.to_csv(index=False))
    for name in ("a.csv", "b.csv.gz", "c.tsv", "d.csv"):
        assert ingest(place.of(place.root / name), place.workspace, now=NOW)["digest"] == expected, name


def test_parquet_types_that_lose_digits_elsewhere_are_read_whole(place: Place) -> None:
    cards = RAW["card_number"].astype("int64").astype("Int64")
    gaps = cards.mask(cards.index % 7 == 0)
    table = pq.read_table(place.config(RAW).dataset.path)

    def put(name: str, values: pa.Array) -> None:
        nonlocal table
        table = table.set_column(table.column_names.index(name), name, values)

    put("card_number", pa.array(gaps))
    put("customer_ref", pa.array(RAW["customer_ref"].str.encode("utf-8"), type=pa.binary()))
    put("amount", pa.array(RAW["amount"].to_numpy()).cast(pa.decimal128(12, 2)))
    put("channel", pa.array(RAW["channel"]).dictionary_encode())
    put("birth_date", pa.array(pd.to_datetime(RAW["birth_date"]).to_numpy()).cast(pa.date32()))
    pq.write_table(table, place.root / "typed.parquet")
    ingest(place.of(place.root / "typed.parquet"), place.workspace, now=NOW)
    typed = load(place)
    identity = identities(place.vault(), "demo")
    ingest(place.config(RAW), place.workspace, now=NOW)
    plain = load(place)
    there = typed["card_id"].notna()
    assert 0 < (~there).sum() < ROWS
    assert typed["card_id"][there].tolist() == plain["card_id"][there].tolist()
    pd.testing.assert_frame_equal(typed.drop(columns="card_id"), plain.drop(columns="card_id"))
    assert set(identity["raw_card_number"].dropna()) <= set(RAW["card_number"])
    assert set(identity["raw_birth_date"]) == set(RAW["birth_date"])


def small_contract(place: Place, *, row_id: str = "keep", more: list[dict[str, Any]] | None = None, **top: Any) -> Path:
    def column(source: str, name: str, kind: str, treatment: str = "keep", **more: Any) -> dict[str, Any]:
        said = {"source": source, "name": name, "type": kind, "treatment": treatment, "meaning": "x"}
        return said | {"purposes": list(purposes)} | more

    purposes = top.pop(
        "purposes", {TRAINING: {"basis": "legitimate-interest", "meaning": "to train", "retention_days": 3650}}
    )
    path = place.root / "small.toml"
    path.write_text(
        tomli_w.dumps(
            {
                "name": "small",
                "purposes": purposes,
                **top,
                "columns": [
                    column("id", "transaction_id", "id", row_id),
                    column("at", "event_time", "time"),
                    column("who", "customer_id", "id", "pseudonymise"),
                    column("amount", "amount", "number"),
                    *(more or []),
                ],
            }
        )
    )
    return path


def test_naive_times_get_the_contracts_zone_and_clock_changes_are_refused(place: Place) -> None:
    contract = small_contract(place, timezone="Europe/Berlin")
    raw = pd.DataFrame({"id": [1, 2], "who": ["a", "b"], "amount": [1, 2]})
    times = ["2026-01-10 12:00:00", "2026-07-10 12:00:00"]
    for suffix in ("csv", "parquet"):
        at_times = raw.assign(at=times if suffix == "csv" else pd.to_datetime(times))
        ingest(place.config(at_times, suffix, contract), place.workspace, now=NOW)
        hours = load(place)["event_time"].dt.hour.tolist()
        assert hours == [11, 10], "winter and summer time"
    for moment in ("2026-03-29 02:30:00", "2026-10-25 02:30:00"):
        bad = raw.assign(at=pd.to_datetime([times[0], moment]))
        with pytest.raises(InputError, match=r"holds 1 times that do not exist or exist twice in Europe/Berlin"):
            ingest(place.config(bad, contract=contract), place.workspace, now=NOW)


def test_a_table_without_labels_merchants_or_identity_is_held_and_described(place: Place) -> None:
    times = pd.to_datetime(["2026-01-10", "2026-01-12"], utc=True)
    raw = pd.DataFrame({"id": [7, 5], "at": times, "who": ["a", "a"], "amount": [1.5, 2.0]})
    ingest(place.config(raw, contract=small_contract(place)), place.workspace, now=NOW)
    frame = load(place)
    assert frame["transaction_id"].tolist() == [7, 5]
    assert str(frame["transaction_id"].dtype) == "int64"
    facts = dataset_facts("demo", TRAINING, workspace=place.workspace)
    assert (facts["labelled"], facts["unlabelled"], facts["merchants"]) == (0, 2, None)
    assert facts["label_delay_days"] == {"median": None, "p90": None, "max": None}
    assert daily_volume(frame)["labelled"].tolist() == [0, 0, 0]
    assert not list(place.workspace.vault.rglob("identity.parquet"))


def test_a_fixed_delay_dates_the_labels_that_are_there(place: Place) -> None:
    label = {"source": "fraud", "name": "is_fraud", "type": "boolean", "treatment": "keep", "meaning": "x"}
    contract = small_contract(place, label_delay_days=7, more=[label | {"purposes": [TRAINING]}])
    times = pd.to_datetime(["2026-01-10", "2026-01-12", "2026-01-13"], utc=True)
    raw = pd.DataFrame({"id": [1, 2, 3], "at": times, "who": ["a"] * 3, "amount": 1.0, "fraud": [1, None, 0]})
    ingest(place.config(raw, contract=contract), place.workspace, now=NOW)
    known = load(place)["label_time"].dt.strftime("%Y-%m-%d").fillna("-")
    assert known.tolist() == ["2026-01-17", "-", "2026-01-20"]
    then = load(place, as_of=pd.Timestamp("2026-01-17", tz="UTC"))
    assert then["is_fraud"].tolist() == [True, pd.NA, pd.NA]
    columns = {c["name"]: c for c in dataset_facts("demo", TRAINING, workspace=place.workspace)["columns"]}
    assert columns["label_time"]["meaning"] == "when the label became known: a fixed 7 days after the transaction"


DAY = pd.Timedelta(days=1)


def test_labels_of_the_future_wait_until_the_file_is_ingested_again(place: Place) -> None:
    label = {"source": "fraud", "name": "is_fraud", "type": "boolean", "treatment": "keep", "meaning": "x"}
    contract = small_contract(place, label_delay_days=14, more=[label | {"purposes": [TRAINING]}])
    times = pd.to_datetime(["2026-01-10", "2026-01-12", "2026-01-13"], utc=True)
    raw = pd.DataFrame({"id": [1, 2, 3], "at": times, "who": ["a"] * 3, "amount": 1.0, "fraud": [1, 0, 1]})
    config, moment = place.config(raw, contract=contract), pd.Timestamp("2026-01-14T12:00:00.123456Z")
    first = ingest(config, place.workspace, now=moment)
    assert pd.Timestamp(first["known_at"]) == moment
    assert load(place)["is_fraud"].tolist() == [pd.NA] * 3, "nothing is 14 days old"
    assert load(place)["label_time"].isna().all()
    assert load(place, columns=["amount"])["amount"].tolist() == [1.0] * 3
    tables = {path: path.stat().st_mtime_ns for path in place.workspace.vault.rglob("*.parquet")}
    for days, known in ((9, 0), (10, 1), (12, 2), (20, 3), (5, 3)):
        again = ingest(config, place.workspace, now=moment + days * DAY)
        assert again["reused"]
        assert again["digest"] == first["digest"]
        assert load(place)["is_fraud"].fillna(False).tolist() == [known > 0, False, known > 2]
        assert load(place)["is_fraud"].notna().sum() == known
    assert pd.Timestamp(again["known_at"]) == moment + 20 * DAY, "an earlier clock takes nothing back"
    assert {path: path.stat().st_mtime_ns for path in place.workspace.vault.rglob("*.parquet")} == tables
    facts = dataset_facts("demo", TRAINING, workspace=place.workspace)
    assert facts["labelled"] == 3
    assert facts["as_of"] == facts["known_at"] == (moment + 20 * DAY).isoformat()
    early = dataset_facts("demo", TRAINING, moment + 11 * DAY, place.workspace)
    assert (early["labelled"], early["as_of"]) == (1, (moment + 11 * DAY).isoformat())


def test_what_was_known_after_the_ingest_is_not_held(held: Place) -> None:
    later = NOW + DAY
    sentence = (
        r"as_of: must not lie after the last ingest of data set demo; found 2026-11-02T00:00Z, ingested "
        r"2026-11-01T00:00Z; ingest a newer export or take an earlier as_of"
    )
    with pytest.raises(InputError, match=sentence):
        load(held, as_of=later)
    with pytest.raises(InputError, match=sentence):
        dataset_facts("demo", TRAINING, later, held.workspace)
    pd.testing.assert_frame_equal(load(held, as_of=NOW), load(held))


def test_the_digest_does_not_know_when_the_file_was_ingested(tmp_path: Path) -> None:
    made = []
    for name, moment in (("a", NOW), ("b", NOW + 300 * DAY)):
        (tmp_path / name).mkdir()
        place = Place(tmp_path / name)
        made.append((ingest(place.config(RAW), place.workspace, now=moment), load(place)))
    (first, early), (second, late) = made
    assert first["digest"] == second["digest"]
    assert first["known_at"] != second["known_at"]
    secret = ["customer_id", "card_id", "device_id", "ip"]
    pd.testing.assert_frame_equal(early.drop(columns=secret), late.drop(columns=secret))


def test_a_purpose_may_see_when_labels_came_and_not_the_labels(place: Place) -> None:
    said = {"treatment": "keep", "meaning": "x"}
    label = said | {"source": "fraud", "name": "is_fraud", "type": "boolean", "purposes": ["review"]}
    known = said | {"source": "known", "name": "label_time", "type": "time", "purposes": [TRAINING, "review"]}
    stated = {"basis": "legitimate-interest", "meaning": "x", "retention_days": 3650}
    purposes = dict.fromkeys((TRAINING, "review"), stated)
    contract = small_contract(place, purposes=purposes, more=[label, known])
    times = pd.to_datetime(["2026-01-10", "2026-01-12"], utc=True)
    raw = pd.DataFrame({"id": [1, 2], "at": times, "who": "a", "amount": 1.0, "fraud": [1, 0]})
    raw["known"] = times + 3 * DAY
    ingest(place.config(raw, contract=contract), place.workspace, now=pd.Timestamp("2026-01-14", tz="UTC"))
    frame = load(place)
    assert "is_fraud" not in frame
    assert frame["label_time"].notna().tolist() == [True, False]
    assert load(place, "review")["is_fraud"].tolist() == [True, pd.NA]


def test_pseudonymous_row_ids_make_the_order_a_loader_sees(place: Place) -> None:
    moment = pd.Timestamp("2026-01-10", tz="UTC")
    raw = pd.DataFrame({"id": [f"t{i}" for i in range(50)], "at": moment, "who": "a", "amount": np.arange(50.0)})
    ingest(place.config(raw, contract=small_contract(place, row_id="pseudonymise")), place.workspace, now=NOW)
    frame = load(place)
    assert frame["transaction_id"].is_monotonic_increasing
    assert not frame["amount"].is_monotonic_increasing
    assert sorted(frame["amount"]) == list(range(50))


# Who sees what


def test_a_purpose_decides_the_columns(held: Place) -> None:
    training, review = load(held), load(held, "typology-review")
    assert "fraud_scenario" not in training
    assert set(review) - set(training) == {"fraud_scenario"}
    assert (review["fraud_scenario"] == "takeover").sum() == (RAW["fraud_scenario"] == "takeover").sum() > 0
    assert not {"age_band", "postcode_area", "latitude"} & set(load(held, "case-investigation"))


def test_asking_for_more_is_refused_with_the_purpose_that_allows_it(held: Place) -> None:
    with pytest.raises(InputError, match=f"is not allowed for purpose '{TRAINING}'; it is for: typology-review"):
        load(held, columns=["amount", "fraud_scenario"])
    with pytest.raises(InputError, match="'email' is kept in the identity file only; no purpose loads it from here"):
        load(held, "case-investigation", columns=["email"])
    with pytest.raises(InputError, match="no column 'ammount'; did you mean 'amount'"):
        load(held, columns=["ammount"])
    with pytest.raises(InputError, match="purpose: unknown 'fraud-model-trainin'; did you mean 'fraud-model-training'"):
        load(held, "fraud-model-trainin")
    with pytest.raises(InputError, match="no data set 'dem'; did you mean 'demo'"):
        load_transactions("dem", purpose=TRAINING, workspace=held.workspace)


def test_fewer_columns_are_given_as_asked(held: Place) -> None:
    some = load(held, columns=["amount", "customer_id"])
    pd.testing.assert_frame_equal(some, load(held)[["customer_id", "amount"]])
    moment = pd.Timestamp("2026-02-05", tz="UTC")
    then = load(held, columns=["is_fraud"], as_of=moment)
    pd.testing.assert_frame_equal(then, load(held, as_of=moment)[["is_fraud"]])


@pytest.mark.parametrize("as_of", ["2026-01-19", "2026-01-25T12:00", "2026-02-01", "2026-02-10", "2026-03-10"])
def test_as_of_shows_what_was_known_then(held: Place, as_of: str) -> None:
    moment = pd.Timestamp(as_of, tz="UTC")
    frame = load(held, as_of=moment)
    expected = [
        (row.payment_id, bool(row.reported_fraud) if row.reported_at <= moment else None)
        for row in RAW.sort_values(["paid_at", "payment_id"]).itertuples()
        if row.paid_at < moment
    ]
    known = [None if label is pd.NA else bool(label) for label in frame["is_fraud"]]
    assert list(zip(frame["transaction_id"], known)) == expected
    assert (frame["label_time"].isna() == frame["is_fraud"].isna()).all()
    assert not (frame["label_time"] > moment).any()
    if as_of == "2026-02-10":
        assert frame["is_fraud"].isna().any()
        assert frame["is_fraud"].notna().any()


def test_as_of_without_a_zone_is_refused(held: Place) -> None:
    with pytest.raises(InputError, match="as_of: must carry a time zone"):
        load(held, as_of=pd.Timestamp("2026-02-01"))


# Tables about the data


def test_facts_are_the_datas_own(held: Place) -> None:
    moment = pd.Timestamp("2026-02-10", tz="UTC")
    facts = dataset_facts("demo", TRAINING, moment, held.workspace)
    json.dumps(facts, allow_nan=False)
    seen = RAW[RAW["paid_at"] < moment]
    known = seen[seen["reported_at"] <= moment]
    delays = np.where(known["reported_fraud"] == 1, 3.0, 14.0)
    expected = {
        "rows": len(seen),
        "customers": seen["customer_ref"].nunique(),
        "merchants": seen["merchant_ref"].nunique(),
        "first": seen["paid_at"].min().isoformat(),
        "last": seen["paid_at"].max().isoformat(),
        "frauds": int(known["reported_fraud"].sum()),
        "labelled": len(known),
        "unlabelled": len(seen) - len(known),
        "fraud_rate": known["reported_fraud"].sum() / len(known),
        "label_delay_days": {"median": np.median(delays), "p90": np.quantile(delays, 0.9), "max": 14.0},
    }
    assert {key: facts[key] for key in expected} == expected
    assert facts["purpose_columns"] == load(held).columns.tolist()
    treatments = {column["name"]: column["treatment"] for column in facts["columns"]}
    assert treatments["email"] == "identity"
    assert treatments["customer_id"] == "pseudonymise"
    assert set(facts["columns"][0]) == {"name", "type", "treatment", "purposes", "meaning"}
    manifest = held.vault().manifest("demo")
    assert (facts["digest"], facts["contract_digest"]) == (manifest["digest"], manifest["contract_digest"])


def test_daily_volume_agrees_with_sql_and_shows_the_gap(held: Place) -> None:
    frame = load(held, as_of=pd.Timestamp("2026-02-10", tz="UTC"))
    gap = pd.Timestamp("2026-01-27", tz="UTC")
    frame = frame[frame["event_time"].dt.floor("D") != gap]
    found = daily_volume(frame)
    plain = frame.assign(moment=frame["event_time"].dt.tz_convert(None))[["moment", "amount", "is_fraud"]]
    connection = duckdb.connect()
    connection.register("plain", plain)
    sql = duckdb.query(
        "select strftime(moment, '%Y-%m-%d') as day, count(*) as transactions,"
        " coalesce(sum(is_fraud::int), 0) as frauds, sum(amount) as amount, count(is_fraud) as labelled"
        " from plain group by 1 order by 1",
        connection=connection,
    ).df()
    there = found[found["transactions"] > 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(there, sql.astype(there.dtypes.to_dict()))
    assert found[found["transactions"] == 0].to_numpy().tolist() == [["2026-01-27", 0, 0, 0.0, 0]]
    assert len(found) == (pd.Timestamp(found["day"].iloc[-1]) - pd.Timestamp(found["day"].iloc[0])).days + 1


def test_label_maturity_agrees_with_counting(held: Place) -> None:
    moment = pd.Timestamp("2026-02-12", tz="UTC")
    frame = load(held, as_of=moment)
    found = label_maturity(frame)
    latest = max(frame["event_time"].max(), frame["label_time"].max())
    day = pd.Timedelta(days=1)
    for d, share in zip(found["days_since_event"], found["share_known"]):
        old = frame[latest - frame["event_time"] >= d * day]
        assert share == pytest.approx(((old["label_time"] - old["event_time"]) <= d * day).mean())
    assert found["days_since_event"].tolist() == list(range(15))
    assert found["share_known"].iloc[-1] == 1.0
    assert 0 < found["share_known"].iloc[3] < 0.3


# End to end


def test_simulated_payments_go_through_without_a_trace(place: Place) -> None:
    dataset = DatasetConfig(
        name="demo",
        source="simulate",
        contract=CONTRACT,
        simulate=SimulateConfig(customers=60, merchants=20, days=30),
    )
    config = RunConfig(name="demo", dataset=dataset, seed=3)
    manifest = ingest(config, place.workspace)
    assert not manifest["reused"]
    assert manifest["known_at"] is None, "invented payments have a clock of their own"
    assert ingest(config, place.workspace)["reused"]
    assert not ingest(config.model_copy(update={"seed": 4}), place.workspace)["reused"]
    assert {row["column"] for row in manifest["dropped"]} == {"loyalty_tier"}
    assert manifest["masked"][0]["email"] > 0
    told = load(place, "case-investigation")["memo"].dropna()
    assert not told.str.contains(r"[0-9@]").any()
    needles = raw_identifiers(config)
    assert len(needles) > 300
    assert find_planted([place.root], needles).empty
    frame = load(place)
    assert frame["customer_id"].nunique() <= 60
    assert frame["is_fraud"].sum() > 0


@pytest.mark.filterwarnings("error")
def test_simulated_columns_of_any_type_may_stay_undeclared(place: Place) -> None:
    text = CONTRACT.read_text()
    head, *columns = text.split("[[columns]]")
    left_out = ('"latitude"', '"reported_fraud"', '"reported_at"', '"device_fingerprint"', '"memo"')
    fewer = [c for c in columns if not any(f"source = {name}" in c for name in left_out)]
    assert len(columns) - len(fewer) == len(left_out) + 2, "latitude has two companions"
    contract = place.root / "fewer.toml"
    contract.write_text("[[columns]]".join([head, *fewer]))
    simulate = SimulateConfig(customers=60, merchants=20, days=30)
    dataset = DatasetConfig(name="demo", source="simulate", contract=contract, simulate=simulate)
    manifest = ingest(RunConfig(name="demo", dataset=dataset, seed=3), place.workspace)
    dropped = {row["column"]: row["non_null"] for row in manifest["dropped"]}
    assert set(dropped) == {"memo", "loyalty_tier", "latitude", "reported_fraud", "reported_at", "device_fingerprint"}
    assert dropped["reported_fraud"] == manifest["rows"]
    assert 0 < dropped["device_fingerprint"] < manifest["rows"]
    assert 0 < dropped["memo"] < manifest["rows"], "an empty text is no value"


def test_the_published_columns_fit_the_handbook_contract(place: Place) -> None:
    rows = 500
    rng = np.random.default_rng(0)
    seconds = np.sort(rng.integers(0, 86_400 * 20, rows))
    raw = pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(rows),
            "TX_DATETIME": (pd.Timestamp("2018-04-01") + pd.to_timedelta(seconds, unit="s")).astype("datetime64[ns]"),
            "CUSTOMER_ID": rng.integers(0, 50, rows),
            "TERMINAL_ID": rng.integers(0, 90, rows),
            "TX_AMOUNT": np.round(rng.random(rows) * 100, 2),
            "TX_TIME_SECONDS": seconds,
            "TX_TIME_DAYS": seconds // 86_400,
            "TX_FRAUD": (rng.random(rows) < 0.1).astype(int),
            "TX_FRAUD_SCENARIO": rng.integers(0, 4, rows),
        }
    )
    manifest = ingest(place.config(raw, contract=HANDBOOK), place.workspace)
    assert manifest["dropped"] == [{"column": c, "non_null": rows} for c in ("TX_TIME_SECONDS", "TX_TIME_DAYS")]
    frame = load(place)
    assert frame["transaction_id"].tolist() == raw["TRANSACTION_ID"].tolist()
    assert frame["merchant_id"].tolist() == raw["TERMINAL_ID"].tolist()
    assert frame["event_time"].dt.tz_convert(None).tolist() == raw["TX_DATETIME"].tolist()
    assert pd.factorize(frame["customer_id"])[0].tolist() == pd.factorize(raw["CUSTOMER_ID"])[0].tolist()
    assert ((frame["label_time"] - frame["event_time"]) == pd.Timedelta(days=7)).all()
    assert frame.columns.tolist() == [
        "transaction_id",
        "event_time",
        "customer_id",
        "amount",
        "merchant_id",
        "is_fraud",
        "label_time",
    ]
