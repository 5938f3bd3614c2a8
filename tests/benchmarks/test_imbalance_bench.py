"""The imbalance benchmark measures what the house measures, away from every test period; the page shows its figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fraudlab.config import load_config
from fraudlab.metrics import card_precision_at_k

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import imbalance as bench  # noqa: E402


@pytest.fixture(scope="module")
def scored(transactions) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, np.ndarray]:
    part = transactions.iloc[:2500]
    y = part["is_fraud"].to_numpy(dtype=bool)
    score = np.round(np.random.default_rng(0).random(len(part)) * 0.6 + 0.4 * y, 2)  # many ties
    return y, score, part, pd.factorize(part["customer_id"])[0]


def test_metrics_are_those_of_scikit_learn_and_of_the_house(scored):
    y, score, part, customer = scored
    average, auc, cards = bench.Ranked.of(y, score, part, customer).metrics(None, 5)
    assert average == pytest.approx(average_precision_score(y, score))
    assert auc == pytest.approx(roc_auc_score(y, score))
    assert cards == pytest.approx(card_precision_at_k(y, score, part["event_time"], part["customer_id"], 5)[0])


def test_a_customer_drawn_twice_counts_twice(scored):
    y, score, part, customer = scored
    copies = np.random.default_rng(1).integers(0, 3, customer.max() + 1).astype(float)
    average, auc, _ = bench.Ranked.of(y, score, part, customer).metrics(copies, 5)
    weight = copies[customer]
    assert average == pytest.approx(average_precision_score(y, score, sample_weight=weight))
    assert auc == pytest.approx(roc_auc_score(y, score, sample_weight=weight))


def test_no_row_of_a_test_period_is_used():
    book_test = pd.Timestamp("2018-08-08", tz="UTC")  # the first of the four published TEST weeks
    last = pd.Timestamp(bench.BOOK_WEEKS[-1], tz="UTC") + pd.Timedelta(days=21)
    assert last <= book_test
    config = load_config(ROOT / "configs" / "demo.toml")
    # Its test is the latest mature period: 21 days that end 28 days or so before the data do.
    end = pd.Timestamp(config.dataset.simulate.start, tz="UTC") + pd.Timedelta(days=config.dataset.simulate.days)
    assert pd.Timestamp(bench.DEMO_TESTS[-1], tz="UTC") + pd.Timedelta(days=7) < end - pd.Timedelta(days=21 + 28)


def test_the_page_shows_the_figures_as_written():
    written = json.loads(bench.RESULTS.read_text(encoding="utf-8"))
    assert list(written["tables"]) == list(bench.TITLES)
    page = (ROOT / "docs" / "imbalance.md").read_text(encoding="utf-8")
    missing = [line for line in bench.markdown(written).splitlines() if line not in page]
    assert not missing
