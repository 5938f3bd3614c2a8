"""Re-identification: the one customer behind a case, for a reason, with a code, logged first; else nothing is shown."""

from __future__ import annotations

import base64
import hmac
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import tomli_w

from fraudlab.config import DatasetConfig, RunConfig, SimulateConfig, Workspace
from fraudlab.datasets import ingest, load_transactions
from fraudlab.datasets import reidentify as reidentify_module
from fraudlab.datasets.reidentify import reidentify
from fraudlab.datasets.simulate import simulate
from fraudlab.privacy.auditlog import AuditLog, audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.identities import IdentityStore
from fraudlab.privacy.keys import KeyDirectory, KeyUnavailableError
from fraudlab.privacy.scan import find_planted
from fraudlab.privacy.secondfactor import SecondFactorError, second_factor
from fraudlab.privacy.vault import Vault
from fraudlab.schema import FraudlabError, InputError

CONTRACT = Path(__file__).resolve().parents[2] / "configs" / "contracts" / "demo.toml"
SMALL = SimulateConfig(customers=50, merchants=20, days=30)
SEED = 7
SECRET = base64.b32encode(b"12345678901234567890").decode()
START = 1_800_000_000.0
REASON = "call back on alert 17"
SHOWN = ["customer_ref", "card_number", "customer_name", "email", "phone", "street"]
RAW = simulate(SMALL, SEED)
CASE = str(RAW["payment_id"].iloc[len(RAW) // 2])
PERSON = RAW[RAW["customer_ref"] == RAW.loc[RAW["payment_id"] == CASE, "customer_ref"].iloc[0]]


def code(moment: float, secret: str = SECRET) -> str:
    """RFC 4226, section 5.3, written anew."""
    digest = hmac.digest(base64.b32decode(secret), int(moment // 30).to_bytes(8, "big"), "sha1")
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}"


def never() -> str:
    raise AssertionError("no code may be asked for")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        dataset = DatasetConfig(name="demo", source="simulate", contract=CONTRACT, simulate=SMALL)
        ingest(RunConfig(name="demo", seed=SEED, dataset=dataset), Workspace(root))
        second_factor(Workspace(root)).enrol(SECRET, code(START - 600), now=START - 600)
    return root


@pytest.fixture
def workspace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(made, tmp_path / "home")
    return Workspace(tmp_path / "home")


def look_up(workspace: Workspace, **changes: object) -> dict[str, list[str]]:
    wanted = {"reason": REASON, "code": lambda: code(START), "transaction": CASE, "now": START, **changes}
    return reidentify("demo", workspace=workspace, **wanted)


def entries(workspace: Workspace, action: str) -> list[dict]:
    return audit_log(workspace).entries(action)["facts"].tolist()


def pseudonym_of(workspace: Workspace, transaction: str) -> str:
    frame = load_transactions("demo", purpose="case-investigation", workspace=workspace)
    return frame.loc[frame["transaction_id"] == transaction, "customer_id"].iloc[0]


def test_the_one_customer_behind_a_transaction_is_the_sources(workspace: Workspace) -> None:
    identity = look_up(workspace)
    assert list(identity) == SHOWN, "birth date and postcode are not for this purpose"
    for column in SHOWN:
        assert sorted(identity[column]) == sorted(PERSON[column].astype("str").unique())
    assert len(identity["customer_ref"]) == 1


def test_the_customer_behind_a_pseudonym_is_the_same(workspace: Workspace) -> None:
    pseudonym = pseudonym_of(workspace, CASE)
    by_pseudonym = look_up(workspace, transaction=None, pseudonym=pseudonym)
    assert by_pseudonym == look_up(workspace, code=lambda: code(START + 30), now=START + 30)
    assert [facts["case"] for facts in entries(workspace, "reidentify")] == [pseudonym, CASE]


def test_who_looked_whom_up_and_why_is_written_before_it_is_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pseudonym, real, written = pseudonym_of(workspace, CASE), Vault.read, []

    def reading(self: Vault, dataset: str, kind: str = "features", **more: object) -> pd.DataFrame:
        if kind == "identity":
            written.extend(entries(workspace, "reidentify"))
        return real(self, dataset, kind, **more)

    monkeypatch.setattr(Vault, "read", reading)
    look_up(workspace)
    facts = {"dataset": "demo", "purpose": "case-investigation", "reason": REASON, "case": CASE}
    assert written == [{**facts, "customer": pseudonym, "columns": SHOWN}]
    log = audit_log(workspace)
    assert log.verify().ok
    assert log.entries("reidentify")["actor"].str.endswith(f"/{os.getuid()}").all()


def test_what_cannot_be_logged_is_not_read(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = AuditLog.append, []

    def refusing(self: AuditLog, action: str, **facts: object) -> int:
        if action == "reidentify":
            raise FraudlabError("audit: the disk is full")
        return real(self, action, **facts)

    def reading(self: Vault, dataset: str, kind: str = "features", **more: object) -> pd.DataFrame:
        asked.append(kind)
        return read(self, dataset, kind, **more)

    read = Vault.read
    monkeypatch.setattr(AuditLog, "append", refusing)
    monkeypatch.setattr(Vault, "read", reading)
    with pytest.raises(FraudlabError, match="the disk is full"):
        look_up(workspace)
    assert asked == ["features"]


WRONG = {
    "no case": ({"transaction": None}, InputError, "found both or none"),
    "two cases": ({"pseudonym": "0" * 32}, InputError, "found both or none"),
    "short reason": ({"reason": "  why not "}, InputError, "reason: must have at least 10 characters; found 7"),
    "card in the reason": ({"reason": "card 4111 1111 1111 1111 stolen"}, InputError, "reason: must hold no card"),
    "unknown transaction": ({"transaction": "P99999999"}, InputError, "holds no such transaction"),
    "unknown pseudonym": ({"transaction": None, "pseudonym": "0" * 32}, InputError, "holds no such pseudonym"),
    "raw reference": ({"transaction": None, "pseudonym": PERSON["email"].iloc[0]}, InputError, "no such pseudonym"),
    "a name": ({"transaction": PERSON["customer_name"].iloc[0]}, InputError, "holds no such transaction"),
    "a reference": ({"transaction": PERSON["customer_ref"].iloc[0]}, InputError, "holds no such transaction"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_request_out_of_order_is_refused_and_logged_before_a_code_is_asked_for(
    workspace: Workspace, name: str
) -> None:
    changes, kind, sentence = WRONG[name]
    with pytest.raises(kind, match=sentence) as refused:
        look_up(workspace, code=never, **changes)
    (facts,) = entries(workspace, "refuse")
    assert facts["asked"] == "reidentify"
    assert facts["why"] == str(refused.value)
    assert not entries(workspace, "reidentify")
    raw = {"4111 1111 1111 1111", *PERSON[SHOWN].astype("str").to_numpy().ravel()}
    assert find_planted([workspace.root], raw).empty
    assert not any(text in str(refused.value) for text in raw)


def test_codes_are_wrong_used_or_locked_and_each_refusal_is_logged(workspace: Workspace) -> None:
    near = {code(START + off) for off in (-30, 0, 30)}
    wrong = next(digits for digits in ("000000", "111111", "222222", "333333") if digits not in near)
    look_up(workspace)
    with pytest.raises(SecondFactorError, match="was used already"):
        look_up(workspace)
    for _ in range(5):
        with pytest.raises(SecondFactorError, match="the code is wrong"):
            look_up(workspace, code=lambda: wrong)
    with pytest.raises(SecondFactorError, match="locked after 5 wrong codes; wait 14 minutes"):
        look_up(workspace, code=lambda: code(START + 60), now=START + 60)
    why = [facts["why"].split(":")[1].split(";")[0] for facts in entries(workspace, "refuse")]
    assert why == [
        " this code, or a later one, was used already",
        *[" the code is wrong"] * 5,
        " locked after 5 wrong codes",
    ]
    assert len(entries(workspace, "reidentify")) == 1
    logged = audit_log(workspace).path.read_bytes()
    assert wrong.encode() not in logged
    assert code(START + 60).encode() not in logged


def test_an_account_without_a_second_factor_is_told_how_to_get_one(workspace: Workspace) -> None:
    second_factor(workspace).path.unlink()
    with pytest.raises(SecondFactorError, match="none is enrolled; run: fraudlab privacy enrol"):
        look_up(workspace)


def test_without_the_identity_key_nothing_is_shown_and_the_owner_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace.keys / "identity.key"
    path.write_bytes(os.urandom(32))
    with pytest.raises(
        KeyUnavailableError, match=r"needs the key 'identity' with id .*this account does not have; ask"
    ):
        look_up(workspace, code=never)
    monkeypatch.setattr("fraudlab.datasets.reidentify.os.getuid", lambda: 123_456)
    monkeypatch.setattr("fraudlab.datasets.reidentify.account_name", lambda uid: f"owner-{uid}")
    owner = f"owner-{path.stat().st_uid}"
    with pytest.raises(KeyUnavailableError, match=f"which belongs to {owner}; ask {owner} to do this step"):
        look_up(workspace, code=never)
    assert len(entries(workspace, "refuse")) == 2


def test_a_customer_who_restricted_the_use_is_not_found(workspace: Workspace) -> None:
    ledger = Ledger(workspace.ledger)
    ledger.record(pseudonym_of(workspace, CASE), "case-investigation", "restriction", source="letter")
    with pytest.raises(InputError, match="a customer who restricted or objected to this is not found either"):
        look_up(workspace, code=never)


def test_an_erased_identity_is_not_shown(workspace: Workspace) -> None:
    vault = Vault(workspace.vault, KeyDirectory(workspace.keys))
    assert IdentityStore.beside(vault).erase([pseudonym_of(workspace, CASE)]) == 1
    with pytest.raises(FraudlabError, match="is not held any more: it was erased; this look-up is logged"):
        look_up(workspace)
    assert len(entries(workspace, "reidentify")) == 1


def test_a_contract_without_the_purpose_shows_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    raw = tomllib.loads(CONTRACT.read_text())
    del raw["purposes"]["case-investigation"]
    for column in raw["columns"]:
        others = [name for name in column["purposes"] if name != "case-investigation"]
        column["purposes"] = others or ["typology-review"]
    (tmp_path / "other.toml").write_text(tomli_w.dumps(raw))
    dataset = DatasetConfig(name="demo", source="simulate", contract=tmp_path / "other.toml", simulate=SMALL)
    workspace = Workspace(tmp_path / "home")
    ingest(RunConfig(name="demo", seed=SEED, dataset=dataset), workspace)
    with pytest.raises(InputError, match="its contract has no purpose 'case-investigation', so nobody may be looked"):
        look_up(workspace, code=never)


def test_an_id_that_looks_like_a_card_number_is_logged_as_its_digest() -> None:
    digest = "9bbef19476623ca56c17da75fd57734dbf82530686043a6e491c6d71befe8f6e"  # printf 4111111111111111 | sha256sum
    assert reidentify_module._case_fact("4111111111111111") == {"case_digest": digest}
    assert reidentify_module._case_fact(CASE) == {"case": CASE}


# The commands, in processes of their own


def fraudlab(workspace: Workspace, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fraudlab.cli", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"FRAUDLAB_HOME": str(workspace.root)},
    )  # fmt: skip


def test_enrol_and_look_up_from_the_command_line(workspace: Workspace) -> None:
    second_factor(workspace).path.unlink()
    enrolling = fraudlab(workspace, "privacy", "enrol", "--name", "ann")
    shown = ""
    while "type its key in: " not in shown:
        line = enrolling.stdout.readline()
        assert line, enrolling.stderr.read()
        shown += line
    secret = shown.rpartition("type its key in: ")[2].replace(" ", "").strip()
    assert sum(shown.count(block) for block in "█▀▄") > 300, "the picture for the app"
    moment = time.time()
    out, errors = enrolling.communicate(code(moment, secret) + "\n")
    assert "is enrolled; this code is used up" in out
    assert errors == ""
    words = ["privacy", "reidentify", "demo", "--alert", CASE, "--reason", REASON]
    out, errors = fraudlab(workspace, *words).communicate(code(moment + 30, secret) + "\n")
    assert out.startswith(f"Identity of one customer, for case {CASE}; this look-up is logged\n"), errors
    for column in SHOWN:
        assert f"  {column:<16}  " in out
    assert PERSON["customer_name"].iloc[0] in out
    others = RAW[RAW["customer_ref"] != PERSON["customer_ref"].iloc[0]]
    assert not [name for name in others["email"].unique() if name in out]
    again = fraudlab(workspace, *words, "--json")
    out, errors = again.communicate(code(moment + 30, secret) + "\n")
    assert (out, again.returncode) == ("", 1)
    assert "was used already" in errors
    assert find_planted([workspace.root], [secret, *PERSON[SHOWN].astype("str").to_numpy().ravel()]).empty


def test_the_command_line_gives_json_and_shows_nothing_without_a_log(workspace: Workspace) -> None:
    factor = second_factor(workspace)
    words = ["privacy", "reidentify", "demo", "--transaction", CASE, "--reason", REASON, "--json"]
    now = time.time()
    factor.enrol(SECRET, code(now - 30), reset_reason="for this test only", now=now)
    out, errors = fraudlab(workspace, *words).communicate(code(now) + "\n")
    told = json.loads(out or errors)
    assert (told["case"], told["identity"]["customer_name"]) == (CASE, [PERSON["customer_name"].iloc[0]])
    audit_log(workspace).path.write_bytes(b"no database any more" * 500)
    refused = fraudlab(workspace, *words)
    out, errors = refused.communicate(code(now + 30) + "\n")
    assert (out, refused.returncode) == ("", 1)
    assert not [text for text in PERSON[SHOWN].astype("str").to_numpy().ravel() if text in errors]
    assert "Traceback" not in errors
