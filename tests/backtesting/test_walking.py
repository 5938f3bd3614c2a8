"""The walk against one written by hand on data cut off physically at each date."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab import comparing, metrics, recipe
from fraudlab.backtesting import World, policies_of, policy_of, step_days, walk
from fraudlab.backtesting import walking as walking_module
from fraudlab.backtesting.outcomes import judged_rows, score_walk
from fraudlab.backtesting.walking import Walk, fit_at, gate_at
from fraudlab.calibration import calibration_errors
from fraudlab.checks import CHECKS
from fraudlab.config import RunConfig
from fraudlab.features.sets import named_set
from fraudlab.gate import Incumbent, promotion_gate
from fraudlab.recipe import Prepared
from fraudlab.schema import InputError
from fraudlab.splits import temporal_fold

WEEK = pd.Timedelta(days=7)
START = pd.Timestamp("2026-03-05", tz="UTC")


def cut(payments: pd.DataFrame, moment: pd.Timestamp) -> pd.DataFrame:
    """Leave only what was there at a moment, in another way than the code under test does."""
    there = payments[[when < moment for when in payments["event_time"]]].copy().reset_index(drop=True)
    for row, told in enumerate(there["label_time"]):
        if told > moment:
            there.loc[row, "is_fraud"] = pd.NA
            there.loc[row, "label_time"] = pd.NaT
    return there


def by_hand(payments: pd.DataFrame, config: RunConfig, moment: pd.Timestamp) -> tuple[Prepared, recipe.Fitted]:
    there = cut(payments, moment)
    features = named_set("handbook")
    prepared = Prepared(there, features.compute(there), features, temporal_fold(there, config.split))
    return prepared, recipe.fit(config, prepared, threads=1)


@pytest.fixture(scope="module")
def hands(payments: pd.DataFrame, config: RunConfig) -> dict[pd.Timestamp, tuple[Prepared, recipe.Fitted]]:
    return {START + n * WEEK: by_hand(payments, config, START + n * WEEK) for n in (0, 1, 2)}


def test_scores_and_alerts_are_those_of_a_walk_by_hand(world, walked, payments, hands) -> None:
    judged = score_walk(world, walked)
    ungated = walked.champions("weekly-ungated")
    for number in (0, 1, 2):
        begin, end, champion = ungated[number]
        assert champion == begin == START + number * WEEK
        _, fitted = hands[begin]
        live = cut(payments, end)  # the last payment of the week sees what was known then, and no more
        features = named_set("handbook").compute(live)
        where = judged.period == f"{begin:%Y-%m-%d}"
        rows = judged.rows[where]
        score = fitted.candidate.score(features.iloc[rows].reset_index(drop=True))
        assert np.array_equal(score, judged.score.loc[where, "weekly-ungated"].to_numpy())
        alert = score >= fitted.thresholds.review
        assert np.array_equal(alert, judged.alert.loc[where, "weekly-ungated"].to_numpy())
        assert 0 < alert.sum() < len(alert)


def test_never_is_one_model_on_everything(world, walked, hands) -> None:
    judged = score_walk(world, walked)
    score = hands[START][1].candidate.score(world.features.iloc[judged.rows].reset_index(drop=True))
    assert np.array_equal(score, judged.score["never"].to_numpy())
    assert {champion for _, _, champion in walked.champions("never")} == {START}


def test_the_gate_answers_as_when_called_by_hand(world, walked, config, hands) -> None:
    date = START + WEEK
    prepared, fitted = hands[date]
    scores = recipe.score_part(fitted.models, prepared, "test")
    beside = recipe.score_part({"champion": hands[START][1].candidate}, prepared, "test")
    incumbent = Incumbent("first", hands[START][0].fold.refit_end, beside)
    comparison = comparing.with_champion(prepared, scores, incumbent, config)
    tables = recipe.performance(fitted.models, prepared, scores, config, n_boot=0)
    part = prepared.rows("test")
    stages = {"before": scores["xgboost"].to_numpy(), "after": scores["xgboost_risk"].to_numpy()}
    errors = calibration_errors(
        part["y"], stages, entity=part["transactions"]["customer_id"], model="xgboost", n_boot=200, seed=config.seed
    )
    findings = {"FL009": CHECKS["FL009"](errors, "xgboost"), "FL011": CHECKS["FL011"](comparison, "xgboost")}
    expected = promotion_gate(
        tables["metrics"], "xgboost", incumbent, config.gate, fold=prepared.fold, comparison=comparison,
        findings=findings,
    )  # fmt: skip
    numbered = "numbered checks that block promotion"
    found = gate_at(world, date, START, walked.folder)  # as it was kept when it was asked
    assert [row for row in found if row["check"] != numbered] == [row for row in expected if row["check"] != numbered]
    row = walked.history[(walked.history["policy"] == "weekly") & (walked.history["date"] == date)].iloc[0]
    assert row["decision"] == ("promoted" if all(each["passed"] for each in found) else "kept")


def test_nothing_that_comes_later_changes_what_is_decided(
    payments: pd.DataFrame, remade: Callable[[pd.DataFrame], World], walked: Walk, empty: Path
) -> None:
    moment = START + WEEK
    later = (payments["event_time"] >= moment).to_numpy()
    unknown = (payments["label_time"] > moment).to_numpy()
    other = payments.copy()
    other.loc[later, "amount"] = other.loc[later, "amount"].to_numpy()[::-1] * 3
    other.loc[later, "customer_id"] = other.loc[later, "customer_id"].to_numpy()[::-1]
    other.loc[unknown, "is_fraud"] = ~other.loc[unknown, "is_fraud"]
    world = remade(other.iloc[: len(other) - 500])
    empty.mkdir()
    for date in (START, moment):
        fit_at(world, date, empty)
        name = f"{date:%Y-%m-%d}"
        made = [path for path in sorted((empty / name).rglob("*")) if path.is_file()]
        assert len(made) >= 6
        for path in made:
            assert path.read_bytes() == (walked.folder / path.relative_to(empty)).read_bytes(), path
    assert gate_at(world, moment, START, empty) == gate_at(world, moment, START, walked.folder)


def test_labels_that_were_revised_later_count_as_they_stood(
    payments: pd.DataFrame, remade: Callable[[pd.DataFrame], World], walked: Walk, empty: Path
) -> None:
    """A review after the date turned labels round; the walk is told what stood then and is not to see the review."""
    moment = START
    known = payments["label_time"] <= moment
    revised = payments.copy()
    turned = known & (np.arange(len(payments)) % 3 == 0)
    revised.loc[turned, "is_fraud"] = ~revised.loc[turned, "is_fraud"]
    revised.loc[turned, "label_time"] = moment + WEEK
    stood = cut(payments, moment)[["is_fraud", "label_time"]]
    world = walking_module.replace(remade(revised), told={moment: stood})
    seen = world.known_at(moment)
    assert seen["is_fraud"].equals(stood["is_fraud"])
    assert seen["label_time"].equals(stood["label_time"])
    unaware = remade(revised).known_at(moment)
    assert not unaware["is_fraud"].equals(stood["is_fraud"])


def test_who_is_judged_is_who_a_fold_would_test(world: World, config: RunConfig) -> None:
    for number in range(4):
        begin = START + number * WEEK
        split = config.split.model_copy(update={"test_days": 7})
        fold = temporal_fold(world.transactions, split, test_start=begin)
        assert fold.excluded_transactions > 0
        assert np.array_equal(judged_rows(world, begin, begin + WEEK), fold.test)


def test_everybody_is_judged_where_victims_are_not_left_out(world: World, config: RunConfig) -> None:
    split = config.split.model_copy(update={"exclude_known_compromised": False})
    open_world = walking_module.replace(world, config=config.model_copy(update={"split": split}))
    when = world.transactions["event_time"]
    rows = judged_rows(open_world, START, START + WEEK)
    assert len(rows) == ((when >= START) & (when < START + WEEK)).sum()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(world: World, walked: Walk, empty: Path) -> None:
    names = ["weekly", "never"]
    end = START + 2 * WEEK
    there = walk(world, policies_of(names, 7), START, end, step=7, folder=empty, jobs=2)
    here = walked.history[(walked.history["date"] < end) & walked.history["policy"].isin(names)]
    pd.testing.assert_frame_equal(
        there.history.sort_values(["policy", "date"], ignore_index=True),
        here.sort_values(["policy", "date"], ignore_index=True),
    )
    for path in sorted(empty.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (walked.folder / path.relative_to(empty)).read_bytes(), path


class Counted:
    """A function that counts its calls."""

    def __init__(self, function: Callable) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *given, **settings):
        self.calls += 1
        return self.function(*given, **settings)


def test_a_walk_goes_on_with_what_is_there(world: World, walked: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    fit = recipe.fit

    def counted(config: RunConfig, prepared: Prepared, **settings):
        made.append(prepared.fold.test_start)
        return fit(config, prepared, **settings)

    monkeypatch.setattr(recipe, "fit", counted)
    left = walked.folder / ".2026-03-12.999"
    left.mkdir()
    gone = walked.folder / "2026-03-12"
    facts = json.loads((gone / "facts.json").read_text())
    for path in sorted(gone.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    gone.rmdir()
    monkeypatch.setattr(comparing, "with_champion", counted_gates := Counted(comparing.with_champion))
    again = walk(world, walked.policies, walked.start, walked.end, step=7, folder=walked.folder)
    assert len(made) == 1
    assert counted_gates.calls == 1  # the answers about other dates are kept too
    assert not left.exists()
    assert json.loads((gone / "facts.json").read_text()) == facts
    pd.testing.assert_frame_equal(again.history, walked.history)


def test_the_history_is_told_for_every_date(walked: Walk) -> None:
    history = walked.history
    counts = history.groupby("policy").size().to_dict()
    assert counts == {"never": 1, "14d": 2, "weekly": 4, "weekly-ungated": 4}
    for name, mine in history.groupby("policy"):
        assert mine["decision"].iloc[0] == "first"
        assert mine["champion"].is_monotonic_increasing
        for row, before in zip(mine.iloc[1:].itertuples(), mine["champion"]):
            assert row.champion == (row.date if row.decision == "promoted" else before)
            assert row.why
        periods = walked.champions(name)
        assert [begin for begin, _, _ in periods] == [START + n * WEEK for n in range(4)]
        assert all(champion <= begin for begin, _, champion in periods)
    assert (history.loc[history["policy"] == "weekly-ungated", "decision"].iloc[1:] == "promoted").all()


def test_a_date_without_a_model_keeps_the_champion(world: World, walked: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = walking_module.fit_at

    def fails(world: World, date: pd.Timestamp, folder: Path):
        return {"problem": "too few frauds"} if date == START + WEEK else fit(world, date, folder)

    monkeypatch.setattr(walking_module, "fit_at", fails)
    again = walk(world, policies_of(["never", "weekly"], 7), START, START + 2 * WEEK, step=7, folder=walked.folder)
    row = again.history.iloc[-1]
    assert (row["decision"], row["champion"], row["why"]) == ("no model", START, "too few frauds")


def test_what_is_refused_is_refused_in_a_sentence(world: World, empty: Path) -> None:
    both = policies_of(["never", "weekly"], 7)
    with pytest.raises(InputError, match=r"^--from: must lie before --to; found 2026-03-05 and 2026-03-05; correct"):
        walk(world, both, START, START, step=7, folder=empty)
    early = pd.Timestamp("2026-01-20", tz="UTC")
    with pytest.raises(
        InputError, match=r"^backtest: no model can be made at 2026-01-20, where the walk starts: split"
    ):
        walk(world, both, early, START, step=7, folder=empty)
    with pytest.raises(InputError, match=r"^--jobs: must be 1 or more; found 0"):
        walk(world, both, START, START + WEEK, step=7, folder=empty, jobs=0)
    with pytest.raises(InputError, match=r"^policy: unknown 'weakly'; did you mean 'weekly'\?"):
        policy_of("weakly")
    with pytest.raises(InputError, match=r"^policy: 'weekly' retrains every 7 days, which must be a multiple"):
        policies_of(["never", "weekly"], 2)
    with pytest.raises(InputError, match=r"^policy: 'never' is given twice"):
        policies_of(["never", "never"], 7)
    with pytest.raises(InputError, match=r"^policy: a comparison needs two policies or more; found 1"):
        policies_of(["never"], 7)
    with pytest.raises(InputError, match=r"^--every: must be a number of days such as 7d; found 'week'"):
        step_days("week")


def test_the_first_and_last_dates_are_the_first_and_last_that_work(world: World) -> None:
    first = walking_module.first_date(world)
    world.prepared_at(first)
    with pytest.raises(InputError):
        world.prepared_at(first - pd.Timedelta(days=1))
    last = walking_module.last_date(world)
    known = world.transactions["label_time"].max()
    assert last <= known.floor("D")
    assert last > first


def test_top_cases_are_the_best_of_each_day(world: World, walked: Walk) -> None:
    judged = score_walk(world, walked)
    rows = world.transactions.iloc[judged.rows].reset_index(drop=True)
    score = judged.score["never"].to_numpy() + np.linspace(0, 1e-9, len(rows))  # no ties
    found = metrics.top_cases(score, event_time=rows["event_time"], entity=rows["customer_id"], k=8)
    frame = rows.assign(score=score, day=rows["event_time"].dt.floor("D"), found=found)
    for _, day in frame.groupby("day"):
        best = day.groupby("customer_id")["score"].max().nlargest(8).index
        assert (day["found"] == day["customer_id"].isin(best)).all()
