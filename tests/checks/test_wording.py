"""What people see of the checks: waivers, symbols, the guide, and a Chinese wording for every sentence."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from fraudlab import checks
from fraudlab.checks import CHECKS, Finding, merged, overview, waive
from fraudlab.checks.guide import LANGUAGES, entry, page
from fraudlab.checks.wording import PAPER, SYMBOLS, TONES, marked, show_checks, told, tone
from fraudlab.schema import FraudlabError

GUIDE = Path(checks.__file__).with_name("guide.toml")
DOCS = Path(__file__).resolve().parents[2] / "docs"


# --- waivers and looks ----------------------------------------------------------------------------------------------


def failed(code: str) -> Finding:
    return Finding(code, CHECKS[code].title, CHECKS[code].severity, "failed", "It did.", pd.DataFrame())


def test_a_waiver_lets_a_failed_check_pass_the_gate_and_says_why():
    findings = {"FL013": failed("FL013"), "FL014": failed("FL014"), "FL009": failed("FL009")}
    waived = waive(findings, ("FL013", "FL007"), "M. Muster, 2026-03-01: a book example")
    assert [waived[code].blocks for code in findings] == [False, True, False]
    assert waived["FL013"].waived == "M. Muster, 2026-03-01: a book example"
    assert not waived["FL014"].waived
    record = overview(waived).to_dict("records")[1]
    assert (record["code"], record["waived"]) == ("FL013", "M. Muster, 2026-03-01: a book example")
    assert (marked(record), told(record)) == (
        "◇ failed, waived",
        "It did. Waived: M. Muster, 2026-03-01: a book example",
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("FL099", "unknown check 'FL099'; did you mean"),
        ("FL001", "only a check that blocks promotion can be waived; found FL001, which stops the run"),
        ("FL009", "found FL009, which informs"),
    ],
)
def test_what_cannot_be_waived_is_refused(code: str, said: str):
    with pytest.raises(FraudlabError, match=r"gate\.waive: ") as refusal:
        waive({}, (code,), "because")
    assert said in str(refusal.value)


def test_stopping_checks_block_too_and_no_waiver_helps():
    stopped = dataclasses.replace(failed("FL001"), waived="never")
    assert stopped.blocks


def test_merged_findings_replace_those_before_them_and_stay_in_order():
    first = merged([], {"a": failed("FL009"), "b": failed("FL003")})
    assert [record["code"] for record in first] == ["FL003", "FL009"]
    passed = dataclasses.replace(failed("FL009"), result="passed")
    again = merged(first, {"x": passed, "y": failed("FL006")})
    assert [(record["code"], record["result"]) for record in again] == [
        ("FL003", "failed"),
        ("FL006", "failed"),
        ("FL009", "passed"),
    ]


def test_symbol_word_and_colour_say_the_same():
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)
    records = pd.DataFrame(
        {
            "code": ["FL001", "FL002", "FL003", "FL004"],
            "title": "Title",
            "severity": ["stops the run", "informs", "informs", "stops the run"],
            "result": ["failed", "failed", "not applicable", "passed"],
            "sentence": "So it is.",
        }
    )
    html = show_checks(records).to_html()
    assert [html.count(symbol) for symbol in ("✗ failed", "○ not applicable", "✓ passed")] == [2, 1, 1]
    assert [tone(record) for record in records.to_dict("records")] == ["bad", "hold", "none", "good"]
    assert len({PAPER[each] for each in TONES.values()}) == 4


# --- the guide ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_check_has_a_guide_entry(lang: str):
    known = tomllib.loads(GUIDE.read_text(encoding="utf-8"))
    assert set(known) - {"page"} == set(CHECKS)
    for code, check in CHECKS.items():
        said = entry(code, lang)
        assert all(len(text) > 15 for text in (said.detects, said.why, said.do)), code
        assert (said.title == check.title) == (lang == "en")
        assert bool(re.search("[\u4e00-\u9fff]", said.title + said.why)) == (lang == "zh")
        assert (said.severity == check.severity) == (lang == "en")


@pytest.mark.parametrize(("lang", "name"), [("en", "checks.md"), ("zh", "checks.zh.md")])
def test_the_page_in_docs_is_the_guide(lang: str, name: str):
    assert (DOCS / name).read_text(encoding="utf-8") == page(lang), f"fraudlab checks guide --lang {lang} > docs/{name}"


def test_an_unknown_check_or_language_is_refused():
    with pytest.raises(FraudlabError, match="check: must be one of the numbered checks; unknown 'FL091'; did you mean"):
        entry("FL091")
    with pytest.raises(FraudlabError, match="lang: must be one of en, zh; found 'de'"):
        entry("FL001", "de")


def test_every_check_has_a_test_that_fires_one_that_does_not_and_one_that_does_not_apply():
    files = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("test_*.py"))]
    names = [name for text in files for name in re.findall(r"^def (test_fl\w+)", text, re.MULTILINE)]
    for code in CHECKS:
        mine = [name for name in names if name.startswith(f"test_{code.lower()}_")]
        kinds = {
            "fires": r"fires|fails|asks_for",
            "does not": r"does_not_fire|passes|asks_for",
            "not applicable": r"not_applicable",
        }
        for kind, pattern in kinds.items():
            assert [name for name in mine if re.search(pattern, name)], f"{code}: no test that it {kind}"
