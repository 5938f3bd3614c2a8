"""The checks of features and files: each fires, stays silent and says "not applicable", in one sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.checks import CHECKS, Check, Finding, overview, tables
from fraudlab.features import FeatureSet, mean, value
from fraudlab.schema import FraudlabError

PLAIN = FeatureSet("plain", [value("amount"), mean("amount", by="customer_id", window="7d")])
TIMES = pd.Series(pd.date_range("2026-01-01", periods=4000, freq="20min", tz="UTC", unit="us"))
FRAUD = np.arange(4000) % 20 == 0


@pytest.fixture(scope="module")
def payments(transactions: pd.DataFrame) -> pd.DataFrame:
    return transactions.head(800)


def test_numbers_titles_and_severities_stay():
    # Reports and people refer to a check by its number: it keeps its meaning, or a new number is given.
    assert {code: (check.title, check.severity) for code, check in CHECKS.items()} == {
        "FL001": ("Features see only the past", "stops the run"),
        "FL002": ("Each feature alone still tells frauds later", "informs"),
        "FL003": ("The values of the features stay as they were", "informs"),
        "FL004": ("What the run wrote holds no raw identifier", "stops the run"),
        "FL005": ("No feature tells frauds almost alone", "stops the run"),
        "FL006": ("The labels had time to become known", "blocks promotion"),
        "FL007": ("There are enough frauds to learn from and to judge by", "blocks promotion"),
        "FL008": ("What was learnt holds outside the training", "informs"),
        "FL009": ("A stated risk means what it says", "informs"),
        "FL010": ("The test holds the values that were learnt from", "informs"),
        "FL011": ("Groups of customers are bothered alike", "informs"),
        "FL012": ("Reasons stay under small noise", "informs"),
        "FL013": ("The test holds nothing the training has seen", "blocks promotion"),
        "FL014": ("The model does not remember single frauds", "blocks promotion"),
        "FL015": ("The evidence shows no small group", "blocks promotion"),
        "FL016": ("The model reads the columns it was made for", "blocks promotion"),
        "FL017": ("The test days were not looked at with other configs", "informs"),
        "FL018": ("What was learnt is recent enough", "blocks promotion"),
        "FL019": ("At the budget it is not below the champion", "blocks promotion"),
        "FL020": ("No planted noise ranks among the first features", "informs"),
        "FL021": ("No day is missing", "informs"),
        "FL022": ("No payments came twice", "blocks promotion"),
        "FL023": ("The share of fraud can be believed", "blocks promotion"),
    }
    assert all(code == check.code for code, check in CHECKS.items())


# --- FL001 ----------------------------------------------------------------------------------------------------------


def test_fl001_passes_when_nothing_moves(payments):
    finding = CHECKS["FL001"](PLAIN, payments, cuts=2)
    assert (finding.code, finding.result, finding.stops) == ("FL001", "passed", False)
    rows = finding.table["rows"].max()
    assert (
        finding.sentence
        == f"No value of 2 features moved over {rows} payments, with the future rewritten after 2 moments."
    )


def test_fl001_fails_and_stops_when_a_feature_sees_the_future(payments):
    ranks = {f"rank {k}": lambda rows: rows["amount"].rank() for k in range(5)}
    finding = CHECKS["FL001"](PLAIN, payments, custom=ranks, cuts=1)
    assert (finding.result, finding.stops) == ("failed", True)
    assert finding.sentence == "5 of 7 features see the future: rank 0, rank 1, rank 2 and 2 more."


def test_fl001_is_not_applicable_when_a_feature_cannot_be_judged(payments):
    frame = payments.assign(basket=np.arange(800) % 7)
    finding = CHECKS["FL001"](PLAIN, frame, custom={"basket": lambda rows: rows["basket"]}, cuts=1)
    assert (finding.result, finding.stops) == ("not applicable", False)
    assert finding.sentence == "1 of 3 features could not be judged: basket."


# --- FL002 ----------------------------------------------------------------------------------------------------------


def told(late: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=4000)
    return noise + np.where(np.arange(4000) < 2000, 2.0, late) * FRAUD


def test_fl002_passes_when_features_last():
    finding = CHECKS["FL002"](pd.DataFrame({"a": told(2.0), "flat": 1.0}), FRAUD, TIMES)
    assert finding.result == "passed"
    assert finding.sentence == "All 1 features that tell frauds alone still do so later; 1 not applicable."


def test_fl002_fails_but_does_not_stop_when_one_turns_round_or_fades():
    features = pd.DataFrame({"a": told(2.0), "b": told(-2.0), "c": told(0.0)})
    finding = CHECKS["FL002"](features, FRAUD, TIMES)
    assert (finding.result, finding.stops) == ("failed", False)
    assert finding.sentence == "Of 3 features that tell frauds alone, 1 turned round: b; 1 faded: c."


def test_fl002_is_not_applicable_with_few_frauds():
    finding = CHECKS["FL002"](pd.DataFrame({"a": told(2.0)}), np.arange(4000) % 2000 == 0, TIMES)
    assert finding.result == "not applicable"
    assert finding.sentence == (
        "No feature could be judged; not applicable: fewer than 20 frauds or genuine rows in one of the periods."
    )
    assert CHECKS["FL002"](pd.DataFrame(index=TIMES.index), FRAUD, TIMES).result == "not applicable"


# --- FL003 ----------------------------------------------------------------------------------------------------------


def test_fl003_passes_fails_and_is_not_applicable():
    noise = np.random.default_rng(2).normal(size=4000)
    finding = CHECKS["FL003"](pd.DataFrame({"a": noise, "b": -noise}), TIMES, period=4)
    assert finding.result == "passed"
    assert finding.sentence.startswith("The values of 2 features stayed; the largest index is 0.0")
    finding = CHECKS["FL003"](pd.DataFrame({"a": noise, "b": np.arange(4000.0)}), TIMES, period=4)
    assert (finding.result, finding.stops) == ("failed", False)
    assert finding.sentence == "The values of 1 of 2 features changed: b."
    finding = CHECKS["FL003"](pd.DataFrame({"a": noise}), TIMES, period="1d")
    assert finding.result == "not applicable"
    assert finding.sentence == "No feature could be judged; not applicable: fewer than 500 rows in the reference."


# --- FL004 ----------------------------------------------------------------------------------------------------------


def test_fl004_passes_fails_and_is_not_applicable(tmp_path):
    needles = ["zoe@mail.example.com", "4242424242424242"]
    for name in ("notebooks/01_ingest.ipynb", "evidence/data.json", "headlines/01_ingest"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("3 payments")
    finding = CHECKS["FL004"]([tmp_path], needles, root=tmp_path)
    assert (finding.result, finding.stops) == ("passed", False)
    assert finding.sentence == "None of 2 raw identifiers of the source is in what the run wrote."
    (tmp_path / "notebooks" / "01_ingest.ipynb").write_text("<td>ZOE@mail.example.com</td>")
    (tmp_path / "evidence" / "data.json").write_text("em9lQG1haWwuZXhhbXBsZS5jb20= 4242424242424242")
    finding = CHECKS["FL004"]([tmp_path], needles, root=tmp_path)
    assert (finding.result, finding.stops) == ("failed", True)
    assert finding.sentence == (
        "2 files hold raw identifiers of the source: evidence/data.json, notebooks/01_ingest.ipynb."
    )
    assert finding.table["kind"].tolist() == ["base64", "raw", "case-folded"]
    assert not [needle for needle in needles if needle in finding.table.to_csv()]
    # Customer numbers that fill their range would be found in any table.
    finding = CHECKS["FL004"]([tmp_path], [str(n) for n in range(100_000, 101_000)], root=tmp_path)
    assert (finding.result, finding.stops) == ("not applicable", False)
    assert finding.sentence == "The source holds no identifiers that can be told from other numbers."


# --- together -------------------------------------------------------------------------------------------------------


def test_findings_are_laid_out_as_a_table():
    table = pd.DataFrame({"x": [1]})
    check = Check("FL999", "A question", "informs", lambda given: ("passed", f"It is {given}.", table))
    found = {"answer": check("so")}
    assert found["answer"] == Finding("FL999", "A question", "informs", "passed", "It is so.", table)
    assert overview(found).to_dict("records") == [
        {
            "code": "FL999",
            "title": "A question",
            "severity": "informs",
            "result": "passed",
            "sentence": "It is so.",
            "waived": "",
        }
    ]
    assert tables(found) == {"answer": table}
    assert overview({}).columns.tolist() == ["code", "title", "severity", "result", "sentence", "waived"]


def test_what_is_refused_stays_a_refusal(payments):
    with pytest.raises(FraudlabError, match="audit: cuts must be 1 to 50"):
        CHECKS["FL001"](PLAIN, payments, cuts=0)


# --- FL005 ----------------------------------------------------------------------------------------------------------


def test_fl005_asks_for_a_confirmation_of_what_tells_almost_alone():
    alone = pd.DataFrame({"feature": ["paid_back", "blocked", "amount"], "auc_roc": [0.9999, 0.991, 0.99]})
    finding = CHECKS["FL005"](alone)
    assert (finding.result, finding.stops) == ("failed", True)
    assert finding.sentence == "2 of 3 features tell frauds almost alone (AUC above 0.99): paid_back, blocked."
    finding = CHECKS["FL005"](alone, ["blocked"])
    assert finding.sentence == "1 of 3 features tells frauds almost alone (AUC above 0.99): paid_back."
    finding = CHECKS["FL005"](alone, ["blocked", "paid_back"])
    assert (finding.result, finding.stops) == ("passed", False)
    assert finding.sentence == "The best of 3 features alone reaches an AUC of 1.000; 2 above 0.99 confirmed."
    assert CHECKS["FL005"](alone.iloc[2:]).sentence == "The best of 1 features alone reaches an AUC of 0.990."


def test_fl005_is_not_applicable_without_features():
    finding = CHECKS["FL005"](pd.DataFrame({"feature": [], "auc_roc": []}))
    assert (finding.result, finding.sentence) == ("not applicable", "There are no features.")
