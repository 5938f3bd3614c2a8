"""A decision's record: complete, sealed, and telling what it turned on."""

from __future__ import annotations

import itertools
import json

import pytest

from fraudlab import decision_record
from fraudlab.decision_record import DECISIONS, is_whole, markdown, record, same, sealed, short_reason, verdict

GOOD = {"check": "ranks", "required": ">= 0.600", "found": "0.900", "passed": True}
BAD = {"check": "finds more victims", "required": "> 0.100", "found": "0.050", "passed": False}
CHECKS = [
    {"code": "FL009", "result": "failed", "sentence": "It is off.", "waived": "", "title": "x", "severity": "informs"},
    {"code": "FL013", "result": "failed", "sentence": "Copies.", "waived": "looked into by M.", "title": "x"},
    {"code": "FL001", "result": "passed", "sentence": "None moved.", "waived": "", "title": "x"},
]
RUN = {"run_id": "demo-1", "config_digest": "c" * 64, "data_digest": "d" * 64, "command": "fraudlab retrain", "seed": 7}


def made(decision: str = "promoted", **changes: object) -> dict:
    told = {
        "model": "demo",
        "version": "3",
        "champion": "2",
        "decision": decision,
        "gate": [GOOD],
        "by": "the gate",
        "at": "2026-06-30T00:00:00+00:00",
        "made_from": RUN,
        "checks": CHECKS,
    }
    return record(**(told | changes))


def test_the_gate_and_the_shadow_lead_to_one_of_four_decisions() -> None:
    for passed, champion, days in itertools.product((True, False), (None, "2"), (0, 7)):
        said = verdict([GOOD, {"passed": passed}], champion, shadow_days=days)
        wanted = (
            ("in shadow" if champion and days else "promoted")
            if passed
            else "kept champion"
            if champion
            else "rejected"
        )
        assert said == wanted
    assert set(DECISIONS) == {"promoted", "kept champion", "rejected", "in shadow"}


def test_a_record_holds_what_a_reviewer_asks_for_and_nothing_else_of_the_run() -> None:
    told = made()
    assert told["made_from"] == {key: RUN[key] for key in ("run_id", "config_digest", "data_digest", "seed")}
    assert told["findings"] == [
        {"code": "FL009", "result": "failed", "sentence": "It is off.", "waived": ""},
        {"code": "FL013", "result": "failed", "sentence": "Copies.", "waived": "looked into by M."},
        {"code": "FL001", "result": "passed"},
    ]
    assert told["summary"] == {"decision": "promoted", "champion_before": "2", "champion_after": "3"}
    assert made("kept champion", gate=[GOOD, BAD])["champion_after"] == "2"
    assert made("rejected", champion=None, gate=[BAD])["champion_after"] is None


@pytest.mark.parametrize("decision", DECISIONS)
def test_any_change_of_a_record_is_found_also_after_a_way_through_json(decision: str) -> None:
    shadow = {"champion": "2", "first_day": "2026-06-30", "last_day": "2026-07-06", "days": 7}
    told = json.loads(json.dumps(made(decision, shadow=shadow, thresholds={"review": 0.1 + 0.2, "limit": None})))
    assert is_whole(told)
    for key in told:
        assert not is_whole(told | {key: "other"}), key
        assert not is_whole({name: value for name, value in told.items() if name != key}), key
    assert is_whole(sealed(told | {"reason": "other"}))
    assert not same(told, sealed(told | {"reason": "other"}))
    assert same(told, sealed(told | {"at": "2027-01-01T00:00:00+00:00"}))


@pytest.mark.parametrize(
    ("decision", "gate", "changes", "said"),
    [
        ("promoted", [GOOD, GOOD], {}, ["not promoted, if one of the 2 rows of the gate had failed"]),
        ("kept champion", [GOOD, BAD], {}, ["promoted, if this had passed: finds more victims"]),
        (
            "kept champion",
            [BAD, BAD],
            {},
            ["promoted, if all of these had passed: finds more victims; finds more victims"],
        ),
        (
            "in shadow",
            [GOOD],
            {},
            ["promoted at once, if gate.shadow_days were 0; not promoted, if one of the 1 rows of the gate had failed"],
        ),
        (
            "kept champion",
            [GOOD],
            {"reason": "the clock went back"},
            ["judged after its days in shadow, if this had not happened: the clock went back"],
        ),
        (
            "promoted",
            [BAD],
            {"by": "hand", "reason": "it cannot wait"},
            ["a person decided; the rows of the gate are for the record"],
        ),
    ],
)
def test_what_would_have_changed_it(decision, gate, changes, said) -> None:
    assert made(decision, gate=gate, **changes)["would_change"] == said


def test_the_reason_in_a_line_is_short_whatever_the_gate_says() -> None:
    long = BAD | {"found": "x" * 1000}
    told = short_reason(made("kept champion", gate=[GOOD, long, BAD]))
    assert len(told) <= 500
    assert "finds more victims: 0.050 (> 0.100)" in told
    assert short_reason(made(gate=[GOOD] * 3)) == "all 3 rows of the gate passed"
    assert short_reason(made(reason="y" * 900)) == "y" * 500


def test_markdown_names_every_row_failed_check_and_waiver() -> None:
    text = markdown(made("kept champion", gate=[GOOD, BAD], amends="e" * 64))
    assert "| finds more victims | > 0.100 | 0.050 | FAILED |" in text
    assert "- FL013: Copies. Waived: looked into by M." in text
    assert "FL001" not in text
    assert f"- amends: {'e' * 64}" in text
    assert text.rstrip().endswith(made("kept champion", gate=[GOOD, BAD], amends="e" * 64)["digest"])
    assert decision_record.FORMAT == 1
