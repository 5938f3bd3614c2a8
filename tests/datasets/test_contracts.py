"""Contracts: the shipped ones hold, and every slip in a new one is named with what to do."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fraudlab.datasets.contracts import Contract, load_contract
from fraudlab.schema import BY_NAME, InputError

CONTRACTS = Path(__file__).resolve().parents[2] / "configs" / "contracts"


def column(source: str, name: str, kind: str, treatment: str = "keep", **more: Any) -> dict[str, Any]:
    said = {"source": source, "name": name, "type": kind, "treatment": treatment, "meaning": f"the {name}"}
    return said | {"purposes": ["training"]} | more


def contract(**changes: Any) -> dict[str, Any]:
    """A small right contract; a change named after a column's source replaces or adds keys of that column."""
    columns = {
        "id": column("id", "transaction_id", "id"),
        "at": column("at", "event_time", "time"),
        "who": column("who", "customer_id", "id", "pseudonymise", identity=True),
        "amount": column("amount", "amount", "number"),
        "lat": column("lat", "latitude", "number", "generalise", how="grid", step=0.1),
        "born": column("born", "age_band", "date", "generalise", how="age-band"),
        "zip": column("zip", "postcode_area", "text", "generalise", how="prefix", characters=2),
        "mail": column("mail", "email", "text", "drop", identity=True),
        "fraud": column("fraud", "is_fraud", "boolean"),
    }
    top = {
        "name": "small",
        "label_delay_days": 7,
        "extras": ["email"],
        "purposes": {"training": {"basis": "legitimate-interest", "meaning": "to train", "retention_days": 30}},
    }
    for key, value in changes.items():
        if key in columns and isinstance(value, dict):
            columns[key] = {k: v for k, v in (columns[key] | value).items() if v is not None}
        elif key in columns:
            del columns[key]
        else:
            top[key] = value
    return {k: v for k, v in top.items() if v is not None} | {"columns": list(columns.values())}


def refusal(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "small.toml"
    path.write_text(tomli_w.dumps(contract(**changes)))
    with pytest.raises(InputError) as refused:
        load_contract(path)
    return str(refused.value)


@pytest.mark.parametrize("name", ["demo", "handbook"])
def test_the_shipped_contracts_hold(name: str) -> None:
    shipped = load_contract(CONTRACTS / f"{name}.toml")
    assert shipped.name == name
    kept = [c.name for c in shipped.columns if c.treatment == "keep"]
    assert not {"customer_id", "card_id", "device_id", "ip"} & set(kept)
    # What tells the label may be loaded to review typologies only.
    scenario = next(c for c in shipped.columns if c.name == "fraud_scenario")
    assert scenario.purposes == ("typology-review",)
    training = {c.name for c in shipped.columns if "fraud-model-training" in c.purposes}
    assert {"is_fraud", "amount", "merchant_id"} <= training <= set(BY_NAME)


def test_the_demo_contract_gives_training_no_companion_and_no_free_text() -> None:
    shipped = load_contract(CONTRACTS / "demo.toml")
    companions = ["card_bin", "place_km", "place_kmh", "network", "memo", "email_domain"]
    assert [c.name for c in shipped.columns if c.purposes == ("case-investigation",) and c.in_features] == companions
    memo = next(c for c in shipped.columns if c.name == "memo")
    assert (memo.treatment, memo.identity) == ("mask", False)


def test_a_right_contract_loads_and_says_what_it_means(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(tomli_w.dumps(contract()))
    loaded = load_contract(path)
    assert loaded == Contract.model_validate(contract())
    assert [c.source for c in loaded.identities] == ["who", "mail"]
    assert [c.name for c in loaded.columns if not c.in_features] == ["email"]


def test_the_digest_is_of_the_meaning(tmp_path: Path) -> None:
    one = Contract.model_validate(contract())
    assert one.digest == Contract.model_validate(contract(label_delay_days=7.0)).digest
    assert one.digest != Contract.model_validate(contract(label_delay_days=8)).digest
    assert one.digest != Contract.model_validate(contract(lat={"step": 0.2})).digest


SLIPS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"delay": 3}, "contract small.toml: unknown key 'delay'; valid are: columns"),
    "unknown column key": ({"lat": {"stepp": 1}}, "column 'lat': unknown key 'stepp'; did you mean 'step'?"),
    "missing key": ({"lat": {"meaning": None}}, "column 'lat': key 'meaning' is missing; add it"),
    "wrong type": ({"lat": {"type": "numbr"}}, "column 'lat': key 'type': input should be 'id', 'time'"),
    "name typo": ({"lat": {"name": "lattitude"}}, "column 'lat': unknown name 'lattitude'; did you mean 'latitude'?"),
    "duplicate": ({"lat": {"name": "amount", "how": "grid"}}, "'amount' is the name of 2 columns; give each its own"),
    "required": ({"amount": None}, "no column becomes 'amount' (amount in major units"),
    "required only as identity": (
        {"who": {"treatment": "drop"}},
        "no column becomes 'customer_id' (who paid); declare it",
    ),
    "unknown purpose": (
        {"lat": {"purposes": ["trainin"]}},
        "column 'lat': unknown purpose 'trainin'; did you mean 'training'?",
    ),
    "no purpose": ({"lat": {"purposes": []}}, "column 'lat': key 'purposes'"),
    "purpose key": (
        {"purposes": {"training": {"basis": "consent", "meaning": "x", "retention_days": 1, "retention": 1}}},
        "purpose 'training': unknown key 'retention'; did you mean 'retention_days'?",
    ),
    "unknown basis": (
        {"purposes": {"training": {"basis": "curiosity", "meaning": "x", "retention_days": 1}}},
        "purpose 'training': key 'basis': input should be 'consent'",
    ),
    "person kept": ({"who": {"treatment": "keep", "identity": False}}, "'customer_id' points at a person; take treat"),
    "identity kept": ({"amount": {"identity": True}}, "a raw identity must not be kept among the features"),
    "dropped for nothing": ({"mail": {"identity": False}}, "a dropped column is not declared at all"),
    "pseudonym of a number": ({"who": {"type": "number"}}, "a pseudonym needs type 'id' or 'text'; found 'number'"),
    "unknown form": ({"who": {"how": "digit"}}, "unknown how 'digit' for treatment 'pseudonymise'; did you mean 'digi"),
    "unknown how": ({"lat": {"how": "gird"}}, "unknown how 'gird' for treatment 'generalise'; did you mean 'grid'?"),
    "how missing": ({"lat": {"how": None}}, "how is missing for treatment 'generalise'; valid are: age-band, bin"),
    "grid of text": ({"lat": {"type": "text"}}, "how 'grid' needs type 'number'; found 'text'"),
    "option missing": ({"zip": {"characters": None}}, "how 'prefix' needs 'characters'; add it"),
    "option too many": ({"zip": {"step": 2.0}}, "'step' does not belong to this treatment; remove it"),
    "free text kept": (
        {"zip": {"source": "payment_memo", "treatment": "keep", "how": None, "characters": None}},
        "'payment_memo': free text holds what nobody expects there, such as phone numbers; take treatment 'mask' or",
    ),
    "notes generalised": ({"zip": {"source": "Clerk Notes"}}, "take treatment 'mask' or 'drop'"),
    "description under a pseudonym": (
        {"mail": {"source": "description", "treatment": "pseudonymise"}},
        "take treatment 'mask' or 'drop'",
    ),
    "mask of a number": (
        {"lat": {"treatment": "mask", "how": None, "step": None}},
        "treatment 'mask' is for type 'text'; found 'number'",
    ),
    "mask with identity": ({"mail": {"treatment": "mask"}}, "raw free text is not kept; remove 'identity'"),
    "bin of seven": ({"zip": {"how": "bin", "characters": None, "digits": 7}}, "key 'digits': input should be 6 or 8"),
    "whole address": (
        {"zip": {"how": "network", "characters": None, "ipv4": 32}},
        "key 'ipv4': input should be less than or equal to 24",
    ),
    "option of another": ({"zip": {"how": "network", "step": 2.0}}, "'step' does not belong to this treatment"),
    "half a place": (
        {"lat": {"name": "km", "how": "distance", "step": None}, "extras": ["email", "km"]},
        "column 'lat': how 'distance' needs both coordinates; declare latitude and longitude",
    ),
    "how of keep": ({"amount": {"how": "grid"}}, "'how' does not belong to treatment 'keep'; remove it"),
    "date kept": ({"at": {"type": "date"}}, "type 'date' is for birth dates"),
    "wrong kind": (
        {"amount": {"type": "text"}},
        "'amount' holds values of type 'number'; this would become 'text'",
    ),
    "no label time": ({"label_delay_days": None}, "declare 'label_time', or state label_delay_days"),
    "two label times": (
        {"lat": {"name": "label_time", "type": "time", "treatment": "keep", "how": None, "step": None}},
        "'label_time' and label_delay_days exclude each other",
    ),
    "zone": ({"timezone": "Europe/Berln"}, "key 'timezone': no time zone 'Europe/Berln'; did you mean 'Europe/Berlin"),
    "extra": ({"extras": ["email", "amount"]}, "extras: 'amount' is a canonical name already; remove it"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_every_slip_is_named_in_one_sentence(tmp_path: Path, slip: str) -> None:
    changes, sentence = SLIPS[slip]
    said = refusal(tmp_path, **changes)
    assert sentence in said
    assert "\n" not in said
    assert "small.toml" in said


def test_every_purpose_sees_order_and_owner(tmp_path: Path) -> None:
    two = contract()["purposes"] | {"review": {"basis": "consent", "meaning": "to look", "retention_days": 1}}
    said = refusal(tmp_path, purposes=two).split("\n")
    assert [line.split("column ")[1][:4] for line in said] == ["'id'", "'at'", "'who"]
    assert all("is needed for every purpose; add review" in line for line in said)


def test_files_that_are_no_contract_are_refused(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text("columns = [")
    with pytest.raises(InputError, match=r"contract demo\.toml: not valid TOML"):
        load_contract(tmp_path / "demo.toml")
    with pytest.raises(InputError, match=r"no file at .*dmo\.toml; did you mean 'demo\.toml'"):
        load_contract(tmp_path / "dmo.toml")
    for text in ("", "columns = 3\npurposes = 4\nname = 'x'", "name = 'x'\n[[columns]]\n[purposes.a]"):
        (tmp_path / "demo.toml").write_text(text)
        with pytest.raises(InputError, match=r"^contract demo\.toml: "):
            load_contract(tmp_path / "demo.toml")


def test_the_shipped_files_are_toml_a_person_can_read() -> None:
    for path in CONTRACTS.glob("*.toml"):
        raw = tomllib.loads(path.read_text())
        assert all(len(column["meaning"].split()) >= 2 for column in raw["columns"])
