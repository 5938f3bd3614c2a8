"""Two parties: what one sends reveals nobody, what the other takes in counts from then on, and all else is refused."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import tomli_w
from typer.testing import CliRunner

from fraudlab import backup, ruling, sharing
from fraudlab.backup.snapshot import stage
from fraudlab.cli import app
from fraudlab.config import RunConfig, Workspace, load_config
from fraudlab.datasets import ingest, load_transactions
from fraudlab.datasets.erasure import remove
from fraudlab.datasets.indicators import Flags, base_of
from fraudlab.privacy import indicators
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.keys import KeyUnavailableError, open_keys
from fraudlab.privacy.sharing import Sharing
from fraudlab.privacy.vault import DamagedError, Vault
from fraudlab.rulebook import fired, misfits, read_rules
from fraudlab.schema import InputError
from fraudlab.scoring.door import Door

LICENCE = "To stop payments; not to be passed on."
COLUMNS = list(indicators.COLUMNS)
ISSUED = pd.Timestamp("2026-03-01T08:00Z")
TAKEN_IN = pd.Timestamp("2026-03-02T09:00Z")
LATER = pd.Timestamp("2026-07-01T00:00Z")
RULES = """
name = "two"
version = 1
""" + "".join(
    f"""
[[rule]]
id = "{name}"
title = {{ en = "An example", zh = "例子" }}
expression = '{expression}'
status = "active"
since = 2026-01-01
owner = "card fraud team"
why = "an example that is long enough"
"""
    for name, expression in (
        ("large", "amount > 700"),
        ("shop", 'merchant_id = "shop-bad"'),
        ("told", "indicator_merchant = 1 and amount > 5"),
    )
)
USES = ["fraud-model-training", "fraud-detection", "indicator-sharing"]
CATEGORY = {"shop-bad": "electronics", "shop-large": "food", "shop-nine": "books", "shop-ten": "travel"}


def contract(path: Path) -> Path:
    """Write a contract as small as sharing needs."""

    def column(source: str, name: str, kind: str, treatment: str = "keep", **more: object) -> dict[str, object]:
        return {
            "source": source, "name": name, "type": kind, "treatment": treatment, "purposes": USES,
            "meaning": f"the payment's {name}", **more,
        }  # fmt: skip

    purpose = {"basis": "legitimate-interest", "meaning": "find fraud", "retention_days": 730}
    columns = [
        column("payment", "transaction_id", "id"),
        column("paid_at", "event_time", "time"),
        column("customer", "customer_id", "id", "pseudonymise"),
        column("amount", "amount", "number"),
        column("shop", "merchant_id", "id"),
        column("category", "merchant_category", "text"),
        column("device", "device_id", "id", "pseudonymise", how="exact"),
        column("ip", "ip", "id", "pseudonymise"),
        column("fraud", "is_fraud", "boolean"),
        column("known_at", "label_time", "time"),
    ]
    told = {"name": "two-banks", "purposes": dict.fromkeys(USES, purpose), "columns": columns}
    path.write_text(tomli_w.dumps(told))
    return path


def visits(bank: str) -> list[tuple[str, str, str | None, str | None, bool]]:
    """Return (customer, shop, device, ip, fraud) of each payment: what is known of a place can be counted by hand."""
    rows: list[tuple[str, str, str | None, str | None, bool]] = []

    def at(shop: str, frauds: int, genuine: int, start: int = 0) -> None:
        for i in range(frauds + genuine):
            rows.append((f"{bank}-customer-{start + i:03d}", shop, None, None, i < frauds))

    at("shop-bad", 12, 8)  # 12 of 20 customers are victims: exported
    at("shop-large", 12, 80)  # 12 of 92: a large shop has victims too
    at("shop-nine", 9, 0)  # one too few
    at("shop-ten", 10, 2)  # exported, unless one of them objects
    for i in range(3):
        rows.append((f"{bank}-customer-{50 + i:03d}", "shop-web", "dev-gang", "198.51.100.7", True))
        rows.append((f"{bank}-customer-{60 + i:03d}", "shop-web", "dev-home", "203.0.113.5", True))
    rows.append((f"{bank}-customer-069", "shop-web", "dev-home", "203.0.113.5", False))  # somebody honest uses it
    for i in range(2):
        rows.append((f"{bank}-customer-{70 + i:03d}", "shop-web", "dev-pair", "192.0.2.9", True))
    for i in range(10):  # ten addresses of one network, a victim each
        rows.append((f"{bank}-customer-{80 + i:03d}", "shop-web", f"dev-{i}", f"100.64.7.{i + 1}", True))
    return [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]


def payments(bank: str, start: str, days: int) -> pd.DataFrame:
    """Return a bank's raw payments, spread evenly over some days; a fraud is known two days later."""
    rows = pd.DataFrame(visits(bank), columns=["customer", "shop", "device", "ip", "fraud"])
    paid = pd.Timestamp(start, tz="UTC") + pd.to_timedelta(
        [i * days * 86_400 // len(rows) for i in range(len(rows))], unit="s"
    )
    rows.insert(0, "payment", [f"{bank}-{start}-{i:04d}" for i in range(len(rows))])
    rows.insert(1, "paid_at", paid)
    return rows.assign(
        amount=10.0,
        category=rows["shop"].map(CATEGORY).fillna("web"),
        known_at=rows["paid_at"] + pd.Timedelta(days=2),
    )


@dataclass(frozen=True)
class Bank:
    """A bank's project and config."""

    workspace: Workspace
    config: RunConfig

    def bring_in(self, raw: pd.DataFrame, now: pd.Timestamp) -> None:
        raw.to_csv(self.config.dataset.path, index=False)
        ingest(self.config, self.workspace, now=now)


def bank(root: Path, name: str) -> Bank:
    (root / "data").mkdir(parents=True, exist_ok=True)
    (root / "configs").mkdir(exist_ok=True)
    (root / "configs" / "rules.toml").write_text(RULES)
    dataset = {"name": name, "path": str(root / "data" / "payments.csv")}
    dataset["contract"] = str(contract(root / "configs" / "contract.toml"))
    told = {"name": name, "dataset": dataset, "rules": {"book": str(root / "configs" / "rules.toml")}}
    (root / "configs" / "bank.toml").write_text(tomli_w.dumps(told))
    return Bank(Workspace(root), load_config(root / "configs" / "bank.toml"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both banks with their payments, an agreement, and a set that bank-a has made; bank-a before that, `alone`."""
    root = tmp_path_factory.mktemp("banks")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        a, b = bank(root / "a", "bank-a"), bank(root / "b", "bank-b")
        a.bring_in(payments("a", "2026-01-20", 35), ISSUED)
        b.bring_in(payments("b", "2026-02-01", 28), TAKEN_IN)
        shutil.copytree(root / "a", root / "alone")
        sharing.agree(a.workspace, "cards-2026", "bank-a", "bank-b", root / "letter.json")
        sharing.join(b.workspace, root / "letter.json")
        sharing.write_export(a.workspace, exported(a), root / "set.json")
    return root


@pytest.fixture
def alone(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """A copy of bank-a of its own, before any agreement."""
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(made / "alone", tmp_path / "alone")
    return bank(tmp_path / "alone", "bank-a")


@pytest.fixture
def sender(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """A copy of bank-a of its own."""
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(made / "a", tmp_path / "a")
    return bank(tmp_path / "a", "bank-a")


@pytest.fixture
def receiver(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """A copy of bank-b of its own."""
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(made / "b", tmp_path / "b")
    return bank(tmp_path / "b", "bank-b")


@pytest.fixture
def came(made: Path, tmp_path: Path) -> Path:
    """The set that bank-a made, as it came to bank-b."""
    return Path(shutil.copy(made / "set.json", tmp_path / "set.json"))


@pytest.fixture(scope="session")
def package(made: Path) -> dict[str, object]:
    """What that set says, for tests that change it and sign it anew."""
    told = json.loads((made / "set.json").read_text())
    return {name: value for name, value in told.items() if name not in ("format", "public_key", "signature")}


def exported(sender: Bank, **settings: object) -> sharing.Exported:
    return sharing.export_set(
        sender.config, sender.workspace, "cards-2026", licence=LICENCE, **{"now": ISSUED, **settings}
    )


def signed(sender: Bank, path: Path, package: dict[str, object]) -> Path:
    path.write_bytes(indicators.sign(package, sharing.sharing_of(sender.workspace).signer()))
    return path


def codes_of(bank: Bank, kind: str, values: list[str]) -> list[str]:
    kept = sharing.sharing_of(bank.workspace)
    code = kept.coder(kept.agreement("cards-2026"), kind)
    return sorted(code(value) for value in values)


def test_what_leaves_is_what_the_rules_allow(sender, receiver):
    found = exported(sender).package["indicators"]
    assert found == {
        "merchant": codes_of(receiver, "merchant", ["shop-bad", "shop-ten", "shop-web"]),
        "device": codes_of(receiver, "device", ["dev-gang"]),
        "ip": codes_of(receiver, "ip", ["198.51.100.7"]),
        "network": codes_of(receiver, "network", ["100.64.7.200"]),
    }
    assert exported(sender).data == exported(sender).data


def test_counts_are_those_of_a_query(sender, receiver):
    rows = load_transactions(
        "bank-a", purpose="indicator-sharing", as_of=ISSUED, workspace=sender.workspace,
        columns=["customer_id", "merchant_id", "device_id", "is_fraud"],
    )  # fmt: skip
    for column, thing in (("merchant_id", False), ("device_id", True)):
        ours = indicators.compromised(rows, column, thing=thing)
        rule = "v >= 3 and c = v" if thing else "v >= 10 and v >= .2 * c"
        oracle = duckdb.sql(
            f"""select value, c, v, {rule} from (select {column} as value, count(distinct customer_id) c,
            count(distinct customer_id) filter (is_fraud) v from rows where {column} is not null group by 1)
            order by v desc, value"""
        ).fetchall()
        assert ours[["value", "customers", "victims", "exported"]].values.tolist() == [list(row) for row in oracle]
        assert (ours["why"] == "").equals(ours["exported"])


def test_a_customer_who_objects_does_not_count(sender, receiver):
    customer = load_transactions(
        "bank-a", purpose="fraud-detection", columns=["customer_id", "merchant_id"], workspace=sender.workspace
    ).query("merchant_id == 'shop-ten'")["customer_id"].iloc[0]  # fmt: skip
    Ledger(sender.workspace.ledger).record(
        customer, "indicator-sharing", "objection", basis="legitimate-interest", source="letter"
    )
    left = exported(sender).package["indicators"]["merchant"]
    assert left == codes_of(receiver, "merchant", ["shop-bad", "shop-web"])
    assert len(exported(sender, k=9).package["indicators"]["merchant"]) == 3


def test_nothing_that_leaves_names_anybody_or_counts_few(sender, receiver):
    made = exported(sender)
    text = made.data.decode()
    raw = payments("a", "2026-01-20", 35)
    held = load_transactions("bank-a", purpose="fraud-detection", workspace=sender.workspace)
    names = {*raw["customer"], *raw["shop"], *raw["device"].dropna(), *raw["ip"].dropna(), *raw["payment"]}
    names |= {*held["customer_id"], *held["device_id"].dropna(), *held["ip"].dropna()}
    assert len(names) > 300
    assert [name for name in names if name in text] == []
    body = {name: value for name, value in made.package.items() if name != "indicators"}
    counts = [row[name] for row in body["aggregates"] for name in ("customers", "victims")]
    assert counts
    assert min(counts) >= 10
    assert all(count % 10 == 0 for count in counts)
    shared = open_keys(sender.workspace).read_file("share-cards-2026.key")
    assert shared.hex() not in text
    assert made.package["key_id"] != open_keys(sender.workspace).key_ids()["pseudonym"]


def test_aggregates_are_those_of_a_query(sender, receiver):
    rows = load_transactions(
        "bank-a", purpose="indicator-sharing", workspace=sender.workspace, as_of=ISSUED,
        columns=["customer_id", "merchant_category", "is_fraud"],
    )  # fmt: skip
    assert len(rows) > 150
    oracle = duckdb.sql(
        """select merchant_category, c // 10 * 10, v // 10 * 10, s from (select merchant_category,
        count(distinct customer_id) c, count(distinct customer_id) filter (is_fraud) v, avg(is_fraud::int) s from rows
        where is_fraud is not null group by 1) where v >= 10 and c - v >= 10 order by 1"""
    ).fetchall()
    ours = exported(sender).package["aggregates"]
    assert [row["merchant_category"] for row in ours] == [row[0] for row in oracle] == ["food"]
    for row, (_, customers, victims, share) in zip(ours, oracle):
        assert (row["customers"], row["victims"]) == (customers, victims)
        assert row["fraud_share"] == pytest.approx(share, rel=0.5)
        assert len(f"{row['fraud_share']:g}".lstrip("0.")) == 1


def test_the_other_bank_flags_from_then_on_and_not_before(receiver, came):
    done = sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)
    effect = done.effect.set_index("kind")
    assert effect.loc["merchant", ["received", "matched", "payments", "customers"]].tolist() == [3, 3, "51", "39"]
    assert effect.loc["device", ["received", "matched", "payments"]].tolist() == [1, 1, "fewer than 10"]
    receiver.bring_in(
        pd.concat([payments("b", "2026-02-01", 28), payments("b", "2026-03-01", 120)]), LATER
    )  # new payments, some of them on devices that were never seen here
    for purpose in ("fraud-detection", "fraud-model-training"):
        frame = load_transactions("bank-b", purpose=purpose, workspace=receiver.workspace)
        raw = pd.read_csv(receiver.config.dataset.path).set_index("payment").loc[frame["transaction_id"]]
        valid = (frame["event_time"] >= TAKEN_IN) & (frame["event_time"] < ISSUED + pd.Timedelta(days=90))
        expected = {
            "indicator_merchant": raw["shop"].isin(["shop-bad", "shop-ten", "shop-web"]),
            "indicator_device": raw["device"] == "dev-gang",
            "indicator_ip": raw["ip"] == "198.51.100.7",
            "indicator_network": raw["ip"].astype("str").str.startswith("100.64.7."),
        }
        for name, there in expected.items():
            wanted = (there.to_numpy() & valid.to_numpy()).astype(float)
            assert there.sum() > wanted.sum() > 0, name
            np.testing.assert_array_equal(frame[name], wanted, err_msg=name)
    other = load_transactions("bank-b", purpose="indicator-sharing", workspace=receiver.workspace)
    assert other[COLUMNS].to_numpy().sum() == 0  # the sender allowed two purposes, and this is none of them


def test_the_door_flags_as_the_vault_does(receiver, came):
    sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)
    vault = Vault(receiver.workspace.vault, open_keys(receiver.workspace))
    new = payments("b", "2026-03-01", 120)
    flags = Flags(COLUMNS, vault, "fraud-detection")
    needed = ["merchant_id", *COLUMNS]
    door = Door(vault.manifest("bank-b"), vault.keys, needed, purpose="fraud-detection", ahead=None, flags=flags)
    plain = new.drop(columns=["fraud", "known_at"])
    plain["paid_at"] = plain["paid_at"].map(lambda moment: moment.isoformat())
    plain.loc[3, "shop"] = "  "  # blank: no merchant
    many = door.table(plain)
    lines = [
        {name: None if pd.isna(value) else value for name, value in row.items()} for row in plain.to_dict("records")
    ]
    ones = pd.DataFrame([door.one(line) for line in lines])[list(many)]
    np.testing.assert_array_equal(many[COLUMNS], ones[COLUMNS])
    receiver.bring_in(pd.concat([payments("b", "2026-02-01", 28), new.assign(shop=plain["shop"])]), LATER)
    held = load_transactions("bank-b", purpose="fraud-detection", workspace=receiver.workspace)
    held = held.set_index("transaction_id").loc[many["transaction_id"], COLUMNS]
    np.testing.assert_array_equal(many[COLUMNS], held)
    assert (held.sum() > 0).all()
    without = Door(vault.manifest("bank-b"), vault.keys, needed, purpose="fraud-detection", ahead=None)
    assert without.table(plain)[COLUMNS].to_numpy().sum() == 0


def test_a_trial_changes_nothing_and_an_import_twice_keeps_its_moment(receiver, came):
    tried = sharing.import_set(receiver.config, receiver.workspace, came, dry_run=True, now=TAKEN_IN)
    assert sharing.listed(receiver.workspace)["sets"] == []
    first = sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)
    pd.testing.assert_frame_equal(tried.effect, first.effect)
    again = sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN + pd.Timedelta(days=5))
    assert again.held == first.held
    assert [each["state"] for each in sharing.listed(receiver.workspace, TAKEN_IN)["sets"]] == ["in use"]
    assert [each["state"] for each in sharing.listed(receiver.workspace, LATER)["sets"]] == ["expired"]


def refused(receiver: Bank, path: Path, now: pd.Timestamp = TAKEN_IN) -> str:
    with pytest.raises(InputError) as error:
        sharing.import_set(receiver.config, receiver.workspace, path, now=now)
    assert sharing.listed(receiver.workspace)["sets"] == []
    said = str(error.value)
    assert "\n" not in said
    told = audit_log(receiver.workspace).entries("refuse")["facts"].iloc[-1]
    assert told == {"asked": "share import", "why": said}
    return said


def test_an_altered_file_is_refused(receiver, came):
    told = json.loads(came.read_text())
    told["indicators"]["merchant"].append("0" * 32)
    came.write_text(json.dumps(told))
    assert refused(receiver, came).startswith("set.json: must be signed by bank-a")


def test_any_changed_bit_is_refused(receiver, came):
    data = came.read_bytes()
    good = json.loads(data)
    rng = np.random.default_rng(3)
    tried = 0
    for place in rng.integers(0, len(data), 40):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(0, 7))
        came.write_bytes(changed)
        with contextlib.suppress(ValueError):
            if json.loads(changed) == good:  # a blank between two words
                continue
        tried += 1
        with pytest.raises(InputError):
            sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)
    assert tried > 20


def test_another_shared_key_is_refused(sender, receiver, package, came):
    said = refused(receiver, signed(sender, came, package | {"key_id": "0" * 16}))
    assert said.startswith(f"set.json: was made with another shared key (id {'0' * 16}) than the agreement's")
    assert package["key_id"] in said


def test_a_set_for_another_receiver_is_refused(sender, receiver, package, came):
    said = refused(receiver, signed(sender, came, package | {"receiver": "bank-c"}))
    assert said.startswith("set.json: must go from bank-a to bank-b; found a set for another receiver")


def test_an_expired_set_is_refused(receiver, package, came):
    assert refused(receiver, came, pd.Timestamp(package["expires"])).startswith("set.json: expired 2026-05-30")


def test_a_set_that_is_dated_oddly_or_for_no_purpose_is_refused(sender, receiver, package, came):
    early = ISSUED - pd.Timedelta(days=28)
    assert "was issued 2026-03-01, after now (2026-02-01)" in refused(receiver, came, early)
    said = refused(receiver, signed(sender, came, package | {"expires": "2028-01-01T00:00+00:00"}))
    assert said.startswith("set.json: must expire within 366 days of its issue; found 2028-01-01")
    said = refused(receiver, signed(sender, came, package | {"purposes": ["marketing"]}))
    assert said.startswith("set.json: may be used for marketing only")


def test_nobody_takes_in_what_an_unknown_partner_signed(sender, receiver, tmp_path):
    back = sharing.export_set(
        receiver.config, receiver.workspace, "cards-2026", licence=LICENCE, now=TAKEN_IN + pd.Timedelta(days=30)
    )
    path = tmp_path / "back.json"
    path.write_bytes(back.data)
    moment = TAKEN_IN + pd.Timedelta(days=31)
    with pytest.raises(InputError, match="public key of bank-b is not known yet"):
        sharing.import_set(sender.config, sender.workspace, path, now=moment)
    with pytest.raises(InputError, match="must be an Ed25519 public key"):
        sharing.trust(sender.workspace, "cards-2026", "abc")
    sharing.trust(sender.workspace, "cards-2026", sharing.sharing_of(receiver.workspace).public_key())
    assert sharing.import_set(sender.config, sender.workspace, path, now=moment).held.purposes
    with pytest.raises(InputError, match="already holds another public key of bank-b"):
        sharing.trust(sender.workspace, "cards-2026", sharing.sharing_of(sender.workspace).public_key())


def test_revoking_removes_codes_and_flags(receiver, came):
    name = sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN).held.id
    receiver.bring_in(payments("b", "2026-03-01", 120), LATER)

    def flagged() -> float:
        return load_transactions("bank-b", purpose="fraud-detection", workspace=receiver.workspace)[COLUMNS].sum().sum()

    assert flagged() > 0
    with pytest.raises(InputError, match="reason"):
        sharing.revoke(receiver.workspace, name, "why")
    sharing.revoke(receiver.workspace, name, "the sender withdrew it")
    assert flagged() == 0
    assert [each["state"] for each in sharing.listed(receiver.workspace)["sets"]] == ["revoked"]
    with pytest.raises(InputError, match=f"set {name} was revoked here"):
        sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)
    with pytest.raises(InputError, match=f"no set '{name}' is held here"):
        sharing.revoke(receiver.workspace, name, "the sender withdrew it")


def test_erased_customers_leave_no_match(receiver, came):
    sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)
    vault = Vault(receiver.workspace.vault, open_keys(receiver.workspace))
    frame = vault.read("bank-b")
    kept = sharing.sharing_of(receiver.workspace)
    device = kept.sets()[0].matches["bank-b"]["device"]
    gang = frame.loc[frame["device_id"].isin(device), "customer_id"].tolist()
    assert len(gang) == 3
    remove(vault, gang[:2])
    assert kept.sets()[0].matches["bank-b"]["device"] == device
    remove(vault, gang[2:])
    left = kept.sets()[0].matches["bank-b"]
    assert left["device"] == left["ip"] == []
    assert len(left["merchant"]) == 3


def test_the_code_in_the_docs_is_right():
    text = (Path(__file__).resolve().parents[2] / "docs" / "sharing.md").read_text()
    assert indicators.coder(bytes(32), "merchant")("M0431") in text


def test_every_step_is_in_the_audit_log(sender, receiver, came):
    name = sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN).held.id
    sharing.revoke(receiver.workspace, name, "the sender withdrew it")
    out = audit_log(sender.workspace).entries("export")["facts"].iloc[-1]
    assert (out["receiver"], out["set_digest"], out["of_merchant"], out["k"]) == ("bank-b", name, 3, 10)
    told = audit_log(receiver.workspace).entries("share")["facts"].tolist()
    assert [facts["did"] for facts in told] == ["joined", "took in", "revoked"]
    assert told[1]["sender"] == "bank-a"
    for each in (sender, receiver):
        assert audit_log(each.workspace).verify().ok


def test_what_is_kept_is_sealed(receiver, came):
    sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)
    folder = receiver.workspace.root / "data" / "sharing"
    files = [each for each in folder.iterdir() if each.name != ".lock"]
    assert sorted(each.suffix for each in files) == [".agreement", ".set"]
    for each in files:
        data = each.read_bytes()
        assert b"bank" not in data
        assert each.stat().st_mode & 0o077 == 0
        each.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(DamagedError, match="is damaged"):
            sharing.listed(receiver.workspace)
        each.write_bytes(data)
    one, other = files
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    with pytest.raises(DamagedError):
        sharing.listed(receiver.workspace)
    one.write_bytes(held)
    (receiver.workspace.keys / "share-cards-2026.key").unlink()
    with pytest.raises(KeyUnavailableError, match="needs the key 'share-cards-2026'"):
        sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)


def test_a_backup_holds_what_was_shared(receiver, came, tmp_path):
    sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)
    stage(receiver.workspace, tmp_path / "staged")
    shutil.rmtree(receiver.workspace.root / "data")
    shutil.copytree(tmp_path / "staged" / "data", receiver.workspace.root / "data")
    told = sharing.listed(receiver.workspace, TAKEN_IN)
    assert [each["state"] for each in told["sets"]] == ["in use"]
    assert [each["name"] for each in told["agreements"]] == ["cards-2026"]


def test_a_set_that_was_revoked_since_a_backup_does_not_come_back_with_it(receiver, came, tmp_path):
    name = sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN).held.id
    path = Path(backup.create(receiver.workspace)["backup"])
    sharing.revoke(receiver.workspace, name, "the sender withdrew it")
    done = backup.restore(path, tmp_path / "restored", receiver.workspace)
    assert (done["replayed"]["revoked"], done["replayed"]["left"]) == ([name], "")
    folder = tmp_path / "restored" / "data" / "sharing"
    assert sorted(each.suffix for each in folder.glob(f"{name}.*")) == [".revoked"]
    sets = Sharing(folder, open_keys(receiver.workspace))
    assert [each["reason"] for each in sets.revoked()] == ["the sender withdrew it"]
    assert sets.revoke_as(sets.revoked()) == [], "done once"


def test_loads_are_as_before_until_sharing_begins(alone):
    before = load_transactions("bank-a", purpose="fraud-detection", workspace=alone.workspace)
    assert not set(COLUMNS) & set(before)
    asked = load_transactions(
        "bank-a", purpose="fraud-detection", columns=["amount", "indicator_ip"], workspace=alone.workspace
    )
    assert list(asked) == ["amount", "indicator_ip"]
    assert asked["indicator_ip"].sum() == 0
    assert base_of("indicator_device") == "device_id"


def test_real_payments_are_not_dated_back(alone):
    with pytest.raises(InputError, match="--at: is for simulated payments"):
        sharing.replayed(alone.workspace, alone.config, "2026-01-01T00:00Z")
    assert sharing.replayed(alone.workspace, alone.config, "") is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kinds": ["merchnt"]}, "kinds: unknown 'merchnt'; did you mean 'merchant'?"),
        ({"valid_days": 400}, "days: a set may be valid for 1 to 366 days; found 400"),
        ({"k": 1}, "k and things must be at least 2"),
        ({"licence": "yes"}, "licence: must say in 10 characters or more"),
        ({"licence": "Stop payments at shop-bad."}, "must name no merchant, device, address or customer; found 1"),
        ({"k": 500, "kinds": ["merchant"], "rules": False}, "nothing rests on at least 500 customers"),
    ],
)
def test_what_cannot_leave_is_refused(sender, receiver, settings, said):
    wanted = {"licence": LICENCE, "now": ISSUED} | settings
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        sharing.export_set(sender.config, sender.workspace, "cards-2026", **wanted)


def test_no_agreement_no_set(alone, tmp_path):
    with pytest.raises(InputError, match="no agreement 'cards-2026' here; there is none yet"):
        exported(alone)
    with pytest.raises(InputError, match="two names; found 'bank-a' twice"):
        sharing.agree(alone.workspace, "x", "bank-a", "bank-a", tmp_path / "x.json")
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(InputError, match=r"no\.json: must be a file that `fraudlab share key` wrote"):
        sharing.join(alone.workspace, tmp_path / "no.json")
    with pytest.raises(InputError, match=r"no\.json: must be a file that `fraudlab share export` wrote"):
        sharing.import_set(alone.config, alone.workspace, tmp_path / "no.json")


def test_rules_that_name_nobody_go_along_and_come_in_as_shadows(sender, receiver, package, came):
    made = exported(sender)
    assert [rule["id"] for rule in made.package["rules"]] == ["large"]
    assert made.skipped == {
        "shop": "names a merchant in clear; share it as an indicator",
        "told": "rests on what others shared, which is not passed on",
    }
    done = sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)
    assert done.unfit == {}
    text = 'name = "new"\nversion = 1\n' + sharing.rules_of(receiver.workspace, done.held.id, TAKEN_IN)
    rule = read_rules(text).rules[0]
    assert (rule.status, rule.owner, rule.expression) == ("shadow", "bank-a", "amount > 700")
    signed(sender, came, package | {"rules": [package["rules"][0] | {"expression": "amount >"}]})
    with pytest.raises(InputError, match="the set's rules do not follow the language"):
        sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)


def test_own_rules_may_ask_for_indicators(receiver, came):
    """Before anything is loaded, and on payments of which some are flagged."""
    book = ruling.book_of(receiver.config)
    assert misfits(book, ruling.columns_of_config(receiver.config)) == {}
    sharing.import_set(receiver.config, receiver.workspace, came, now=TAKEN_IN)
    receiver.bring_in(payments("b", "2026-03-01", 120), LATER)
    frame = load_transactions("bank-b", purpose="fraud-detection", workspace=receiver.workspace)
    found = fired(book, frame)["told"]
    assert found.sum() > 0
    assert found.tolist() == (frame["indicator_merchant"] == 1).tolist()


def test_the_commands(sender, receiver, tmp_path, monkeypatch):
    def run(bank: Bank, *words: str, code: int = 0) -> str:
        monkeypatch.setenv("FRAUDLAB_HOME", str(bank.workspace.root))
        done = CliRunner().invoke(app, ["share", *words])
        assert getattr(done.exception, "exit_code", done.exit_code) == code, done.output
        return done.output or str(done.exception)

    ours, theirs = (str(bank.workspace.root / "configs" / "bank.toml") for bank in (sender, receiver))
    letter, file = str(tmp_path / "new.json"), str(tmp_path / "set.json")
    run(sender, "key", "more", "--me", "bank-a", "--partner", "bank-b", "--out", letter)
    shown = run(receiver, "join", letter)
    public = sharing.sharing_of(receiver.workspace).public_key()
    assert public in shown
    assert "bank-b" in run(sender, "trust", "more", "--public-key", public)
    wanted = ["export", "more", "--licence", LICENCE, "--config", ours, "--lookback", "2000"]
    assert "Nothing was written" in run(sender, *wanted)
    told = json.loads(run(sender, *wanted, "--out", file, "--json"))
    assert [row["exported"] for row in told["table"]] == [3, 1, 1, 1]
    assert "is there already" in run(sender, *wanted, "--out", file, code=2)
    assert "It was a trial" in run(receiver, "import", file, "--config", theirs, "--dry-run")
    assert "Payments from now on are flagged" in run(receiver, "import", file, "--config", theirs)
    dated = run(receiver, "import", file, "--config", theirs, "--at", "2026-01-01T00:00Z", code=2)
    assert "--at: is for simulated" in dated
    assert told["id"] in run(receiver, "list")
    assert json.loads(run(receiver, "list", "--json"))["sets"][0]["state"] == "in use"
    assert "amount > 700" in run(receiver, "rules", told["id"])
    assert "is revoked" in run(receiver, "revoke", told["id"], "--reason", "the sender withdrew it")
