"""The shipped contracts of well-known public sets, each on invented rows with exactly the set's published columns.

No real row is here. What is tested: the file enters, identifiers and what tells the label do not, features compute, the
split is the published one and a small model trains.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fraudlab import checking, recipe
from fraudlab.checks import check_features
from fraudlab.config import RunConfig, Workspace, load_config
from fraudlab.datasets import ingest, load_transactions

ROOT = Path(__file__).resolve().parents[2]
PURPOSE = "fraud-model-training"
ROWS = 1500


def drawn(seed: int, rows: int = ROWS) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """Return a generator, an invented label and something that tells four fifths of it."""
    rng = np.random.default_rng(seed)
    fraud = (rng.random(rows) < 0.12).astype(int)
    return rng, fraud, np.where(rng.random(rows) < 0.8, fraud, 0) + rng.normal(0, 0.2, rows)


def ulb(folder: Path) -> dict[str, Path]:
    rng, fraud, sign = drawn(1)
    table = {"Time": np.sort(rng.integers(0, 172_792, ROWS)).astype(float)}
    table |= {f"V{i}": rng.normal(0, 1, ROWS).round(6) for i in range(1, 29)}
    table |= {"V14": -sign, "Amount": rng.gamma(1, 90, ROWS).round(2), "Class": fraud}
    return written(folder, path=("creditcard.csv", table))


def ieee_cis(folder: Path) -> dict[str, Path]:
    rng, fraud, sign = drawn(2)
    ids = 2_987_000 + np.arange(ROWS)
    card = rng.integers(0, 90, ROWS)

    def holed(values: np.ndarray) -> pd.Series:
        return pd.Series(values).where(rng.random(len(values)) < 0.8)

    table = {
        "TransactionID": ids,
        "isFraud": fraud,
        "TransactionDT": 86_400 + np.sort(rng.integers(0, 182 * 86_400, ROWS)),
        "TransactionAmt": rng.gamma(1, 130, ROWS).round(3),
        "ProductCD": rng.choice(list("WCHRS"), ROWS),
        "card1": 1000 + card,
        "card2": pd.Series(100.0 + card % 7).where(card % 9 > 0),
        "card3": 150.0,
        "card4": rng.choice(["visa", "mastercard"], ROWS),
        "card5": 226.0,
        "card6": rng.choice(["debit", "credit"], ROWS),
        "addr1": holed(rng.integers(100, 500, ROWS).astype(float)),
        "addr2": holed(np.full(ROWS, 87.0)),
        "dist1": holed(rng.integers(0, 900, ROWS).astype(float)),
        "dist2": holed(rng.integers(0, 900, ROWS).astype(float)),
        "P_emaildomain": holed(rng.choice(["gmail.com", "anonymous.com"], ROWS)),
        "R_emaildomain": holed(rng.choice(["gmail.com", "hotmail.com"], ROWS)),
    }
    table |= {f"C{i}": rng.integers(0, 5, ROWS).astype(float) for i in range(1, 15)} | {"C1": sign}
    table |= {f"D{i}": holed(rng.integers(0, 600, ROWS).astype(float)) for i in range(1, 16)}
    table |= {f"M{i}": holed(rng.choice(["M0", "M1", "M2"] if i == 4 else ["T", "F"], ROWS)) for i in range(1, 10)}
    table |= {f"V{i}": holed(rng.integers(0, 3, ROWS).astype(float)) for i in range(1, 340)}
    known = np.sort(rng.choice(ROWS, ROWS // 4, replace=False))
    texts = {12: "NotFound", 15: "Found", 16: "Found", 23: "IP_PROXY:HIDDEN", 27: "Found", 28: "New", 29: "Found"}
    texts |= {30: "Android 7.0", 31: "chrome 62.0", 33: "2220x1080", 34: "match_status:2", 35: "T", 36: "F"}
    texts |= {37: "T", 38: "F"}
    beside = {"TransactionID": ids[known]}
    beside |= {
        f"id_{i:02d}": texts.get(i, 1.0 * i) if i in texts else rng.integers(-100, 500, len(known)).astype(float)
        for i in range(1, 39)
    }
    beside |= {"DeviceType": "mobile", "DeviceInfo": "SAMSUNG SM-G892A Build/NRD90M"}
    return written(folder, path=("train_transaction.csv", table), attach=("train_identity.csv", beside))


def baf(folder: Path) -> dict[str, Path]:
    rng, fraud, sign = drawn(3)
    counts = ("prev_address_months_count", "current_address_months_count", "zip_count_4w", "bank_branch_count_8w")
    counts += ("date_of_birth_distinct_emails_4w", "bank_months_count", "device_distinct_emails_8w")
    flags = ("email_is_free", "phone_home_valid", "phone_mobile_valid", "has_other_cards", "foreign_request")
    reals = ("name_email_similarity", "days_since_request", "intended_balcon_amount", "velocity_6h", "velocity_24h")
    reals += ("velocity_4w", "session_length_in_minutes")
    table = {"fraud_bool": fraud, "income": rng.choice([0.1, 0.5, 0.9], ROWS)}
    table |= {name: rng.integers(-1, 300, ROWS) for name in counts}
    table |= {name: rng.integers(0, 2, ROWS) for name in (*flags, "keep_alive_session")}
    table |= {name: rng.normal(5, 9, ROWS) for name in reals}
    table |= {"customer_age": rng.integers(1, 9, ROWS) * 10, "credit_risk_score": (sign * 100).astype(int)}
    table |= {"proposed_credit_limit": rng.choice([200.0, 500.0, 1500.0], ROWS), "device_fraud_count": 0}
    table |= {"payment_type": rng.choice(["AA", "AB", "AC"], ROWS), "employment_status": rng.choice(["CA", "CB"], ROWS)}
    table |= {"housing_status": rng.choice(["BA", "BC"], ROWS), "source": rng.choice(["INTERNET", "TELEAPP"], ROWS)}
    table |= {"device_os": rng.choice(["linux", "windows", "other"], ROWS)}
    # As published: the months hold unlike numbers of applications, months 0 to 5 a little less than four fifths.
    table |= {"month": rng.permutation(np.repeat(np.arange(8), [198, 192, 206, 226, 192, 178, 162, 146]))}
    assert len(table) == 32
    return written(folder, path=("Base.csv", table))


def sparkov(folder: Path) -> dict[str, Path]:
    rng, fraud, sign = drawn(4)
    moment = pd.Timestamp("2019-01-01") + pd.to_timedelta(np.sort(rng.integers(0, 730 * 86_400, ROWS)), unit="s")
    who = rng.integers(0, 40, ROWS)
    table = pd.DataFrame(
        {
            "": np.arange(ROWS),
            "trans_date_trans_time": moment.strftime("%Y-%m-%d %H:%M:%S"),
            "cc_num": 4_000_000_000_000_000 + who * 7919,
            "merchant": [f'"fraud_Anyone, Sons and {i}"' for i in rng.integers(0, 30, ROWS)],
            "category": rng.choice(["grocery_pos", "misc_net"], ROWS),
            "amt": np.exp(3 + sign).round(2),
            "first": [f"Given{i:03d}" for i in who],
            "last": [f"Family{i:03d}" for i in who],
            "gender": np.where(who % 2, "F", "M"),
            "street": [f"{i} Nowhere Road Apt. {i}" for i in who],
            "city": [f"Hamlet {i:03d}" for i in who],
            "state": "XY",
            "zip": [f"{i:05d}" for i in who],
            "lat": 40 + who / 100,
            "long": -80 - who / 100,
            "city_pop": 100 * (1 + who),
            "job": "Engineer, invented",
            "dob": [f"19{30 + i}-03-09" for i in who],
            "trans_num": [f"{i:032x}" for i in range(ROWS)],
            "unix_time": 1_325_376_018 + np.arange(ROWS),
            "merch_lat": 40 + who / 100 + rng.normal(0, 0.5, ROWS),
            "merch_long": -80 - who / 100 + rng.normal(0, 0.5, ROWS),
            "is_fraud": fraud,
        }
    )
    cut = round(0.7 * ROWS)
    return written(folder, path=("fraudTrain.csv", table[:cut]), append=("fraudTest.csv", table[cut:]))


def paysim(folder: Path) -> dict[str, Path]:
    rng, fraud, sign = drawn(5)
    table = {
        "step": np.sort(rng.integers(1, 744, ROWS)),
        "type": np.where(fraud == 1, "TRANSFER", rng.choice(["PAYMENT", "CASH_OUT", "CASH_IN", "DEBIT"], ROWS)),
        "amount": np.exp(6 + sign).round(2),
        "nameOrig": [f"C{i}" for i in rng.integers(100_000_000, 200_000_000, ROWS)],
        "oldbalanceOrg": 1000.0,
        "newbalanceOrig": np.where(fraud == 1, 0.0, 900.0),
        "nameDest": [f"{'CM'[i % 2]}{500_000_000 + i}" for i in rng.integers(0, 50, ROWS)],
        "oldbalanceDest": 0.0,
        "newbalanceDest": np.where(fraud == 1, 0.0, 100.0),
        "isFraud": fraud,
        "isFlaggedFraud": fraud * (rng.random(ROWS) < 0.01),
    }
    return written(folder, path=("paysim.csv", table))


def tabformer(folder: Path) -> dict[str, Path]:
    rng, fraud, sign = drawn(6)
    moment = pd.Timestamp("2014-01-01") + pd.to_timedelta(rng.integers(0, 2190 * 1440, ROWS), unit="min")
    who = np.sort(rng.integers(0, 30, ROWS))  # the published file goes customer by customer
    refund = rng.random(ROWS) < 0.05
    table = {
        "User": who,
        "Card": rng.integers(0, 3, ROWS),
        "Year": moment.year,
        "Month": moment.month,
        "Day": moment.day,
        "Time": moment.strftime("%H:%M"),
        "Amount": [f"${'-' if back else ''}{amount:.2f}" for back, amount in zip(refund, np.exp(3 + sign))],
        "Use Chip": rng.choice(["Swipe Transaction", "Chip Transaction", "Online Transaction"], ROWS),
        "Merchant Name": rng.choice([3527213246127876953, -727612092139916043, 4055257078481058705], ROWS),
        "Merchant City": rng.choice(["Hamlet", "ONLINE"], ROWS),
        "Merchant State": pd.Series(rng.choice(["XY", "Utopia"], ROWS)).where(rng.random(ROWS) < 0.9),
        "Zip": pd.Series(np.full(ROWS, 12345.0)).where(rng.random(ROWS) < 0.9),
        "MCC": rng.choice([5300, 5411, 7538], ROWS),
        "Errors?": pd.Series(np.full(ROWS, "Insufficient Balance")).where(rng.random(ROWS) < 0.05),
        "Is Fraud?": np.where(fraud == 1, "Yes", "No"),
    }
    return written(folder, path=("card_transaction.v1.csv", table))


def written(folder: Path, **files: tuple[str, dict | pd.DataFrame]) -> dict[str, Path]:
    """Write the tables as CSV; return the keys of [dataset] that name them."""
    named = {}
    for key, (name, table) in files.items():
        pd.DataFrame(table).to_csv(folder / name, index=False)
        named[key] = folder / name
    return named


SETS: dict[str, Callable[[Path], dict[str, Path]]] = {
    "ulb": ulb,
    "ieee-cis": ieee_cis,
    "baf": baf,
    "sparkov": sparkov,
    "paysim": paysim,
    "tabformer": tabformer,
}
PUBLISHED_COLUMNS = {"ulb": 31, "ieee-cis": 434, "baf": 32, "sparkov": 23, "paysim": 11, "tabformer": 15}


class Entered:
    """One set that went through ingest and preparation."""

    def __init__(self, name: str, folder: Path) -> None:
        files = {
            f"dataset__{key}": [str(path)] if key == "append" else str(path) for key, path in SETS[name](folder).items()
        }
        small = {"model__n_estimators": 12, "model__max_depth": 3, "split__min_positives": 5}
        self.config: RunConfig = load_config(ROOT / "configs" / f"{name}.toml", **files, **small)
        self.workspace = Workspace(folder)
        self.manifest = ingest(self.config, self.workspace)
        self.prepared = recipe.prepare(self.config, self.workspace)


@pytest.fixture(scope="module")
def entered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Entered]:
    made: dict[str, Entered] = {}

    def enter(name: str) -> Entered:
        if name not in made:
            made[name] = Entered(name, tmp_path_factory.mktemp(name))
        return made[name]

    return enter


@pytest.mark.parametrize("name", SETS)
def test_the_invented_rows_have_the_published_columns(name: str, tmp_path: Path) -> None:
    files = [path for key, path in SETS[name](tmp_path).items() if key != "append"]
    columns = [column for path in files for column in pd.read_csv(path, nrows=1).columns]
    assert len(set(columns)) == PUBLISHED_COLUMNS[name]


@pytest.mark.parametrize("name", SETS)
def test_a_public_set_enters_and_a_small_model_learns_from_it(name: str, entered) -> None:
    it = entered(name)
    fold = it.prepared.fold
    assert it.manifest["rows"] == ROWS
    assert min(len(fold.train), len(fold.valid), len(fold.test)) > 0
    models = recipe.fit(it.config, it.prepared, threads=1).models
    scores = recipe.score_part(models, it.prepared, "test")
    y = it.prepared.rows("test")["y"]
    ours = scores["xgboost"].to_numpy()
    # Four fifths of the frauds are marked in every set: a random ranking gives 0.5, a perfect reading of the mark 0.9.
    assert roc_auc_score(y, ours) > 0.75


@pytest.mark.parametrize(
    ("name", "columns"),
    {
        "ulb": ("v1", "v28"),
        "ieee-cis": ("c14", "d15", "v339", "id_02", "card1", "addr1", "dist2"),
        "baf": ("income", "velocity_4w", "keep_alive_session"),
        "sparkov": ("city_pop", "customer_id__amount__mean__30d", "merchant_id__count__1d", "customer_id__distance"),
        "paysim": ("customer_id__count__1d", "merchant_id__count__1d"),
        "tabformer": ("signed_amount", "card_id__count__1h__with_current__where_amount_lt_3"),
    }.items(),
)
def test_own_columns_and_histories_are_features(name: str, columns: tuple[str, ...], entered) -> None:
    found = entered(name).prepared.features
    assert {"amount", *columns} <= set(found.columns)
    # No feature counts known frauds: the published protocols know all labels at once, and it would tell the label.
    assert not [column for column in found.columns if "fraud" in column or "risk__" in column]
    assert set(entered(name).config.features.categories) <= set(found.columns)


UNSEEN = {
    "sparkov": ("first", "last", "street", "city", "zip", "job", "lat", "long", "unix_time"),
    "paysim": ("oldbalanceOrg", "newbalanceOrig", "oldbalanceDest", "newbalanceDest", "isFlaggedFraud"),
    "baf": ("device_fraud_count",),
    "tabformer": ("Merchant City", "Zip"),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_identifiers_and_what_tells_the_label_do_not_enter(name: str, entered) -> None:
    it = entered(name)
    assert set(UNSEEN[name]) <= {dropped["column"] for dropped in it.manifest["dropped"]}
    assert not {column.casefold() for column in UNSEEN[name]} & set(it.prepared.transactions.columns)


def test_card_numbers_and_accounts_are_pseudonyms(entered) -> None:
    for name, column in (("sparkov", "customer_id"), ("paysim", "customer_id"), ("paysim", "merchant_id")):
        assert entered(name).prepared.transactions[column].str.fullmatch("[0-9a-f]{32}").all()
    cards = entered("tabformer").prepared.transactions
    assert cards["card_id"].nunique() == len(cards[["customer_id", "card_id"]].drop_duplicates())


def test_a_model_sees_neither_age_nor_gender_of_sparkov_and_a_comparison_of_groups_does(entered) -> None:
    it = entered("sparkov")
    assert not {"age_band", "gender"} & set(it.prepared.transactions.columns)
    groups = load_transactions("sparkov", purpose="group-comparison", workspace=it.workspace)
    assert set(groups["gender"]) == {"F", "M"}
    assert set(groups["age_band"]) == {"50-59", "60-69", "70-79", "80+"}  # born 1930 to 1969, on the last day of 2020


def test_times_are_read_in_each_sets_own_way(entered) -> None:
    first = {name: entered(name).prepared.transactions["event_time"] for name in SETS}
    start = {name: moments.min() for name, moments in first.items()}
    # ULB counts seconds, IEEE-CIS from the second day on, PaySim hours from 1, BAF months of 30 days.
    assert start["ulb"].floor("h") == pd.Timestamp("2013-09-01T00:00Z")
    assert start["ieee-cis"].floor("D") == pd.Timestamp("2017-12-01T00:00Z")
    assert start["paysim"] == pd.Timestamp("2017-01-01T01:00Z")
    assert sorted(first["baf"].unique()) == list(pd.date_range("2021-01-01", periods=8, freq="30D", tz="UTC"))
    assert (first["tabformer"].dt.second == 0).all()
    assert first["tabformer"].dt.year.between(2014, 2019).all()


def test_each_split_is_the_published_one(entered) -> None:
    for name, share in (("ulb", 0.2), ("ieee-cis", 0.05), ("sparkov", 0.3), ("paysim", 0.2)):
        prepared = entered(name).prepared
        moment = prepared.transactions["event_time"].to_numpy()
        fold = prepared.fold
        assert abs(len(fold.test) - share * ROWS) <= np.unique(moment, return_counts=True)[1].max()
        # Everything before the test is learnt from in the end, nothing of it is judged.
        assert len(fold.refit) + len(fold.test) == ROWS
        assert moment[fold.refit].max() < moment[fold.test].min()
        assert moment[fold.train].max() < moment[fold.valid].min()
    # BAF: months 0 to 5, of which 5 for validation, then 6 and 7.
    prepared = entered("baf").prepared
    month = ((prepared.transactions["event_time"] - pd.Timestamp("2021-01-01T00:00Z")).dt.days // 30).to_numpy()
    parts = {part: sorted(set(month[getattr(prepared.fold, part)])) for part in ("train", "valid", "refit", "test")}
    assert parts == {"train": [0, 1, 2, 3, 4], "valid": [5], "refit": [0, 1, 2, 3, 4, 5], "test": [6, 7]}


def test_the_attached_file_is_found_by_its_key(entered, tmp_path: Path) -> None:
    files = ieee_cis(tmp_path)
    beside = pd.read_csv(files["attach"]).set_index("TransactionID")
    rows = entered("ieee-cis").prepared.transactions.set_index("transaction_id")
    expected = beside["id_02"].reindex(rows.index.astype("int64"))
    np.testing.assert_array_equal(rows["id_02"].to_numpy(), expected.to_numpy())
    assert rows["devicetype"].notna().sum() == len(beside)


def test_amounts_lose_sign_and_dollar_and_the_refund_is_still_told(entered) -> None:
    rows = entered("tabformer").prepared.transactions
    assert (rows["amount"] == rows["signed_amount"].abs()).all()
    assert 0.02 < (rows["signed_amount"] < 0).mean() < 0.1
    assert rows["is_fraud"].sum() == drawn(6)[1].sum()


@pytest.mark.parametrize("name", ["ulb", "baf"])
def test_the_checks_of_a_run_answer_for_two_days_and_for_moments_a_month_apart(name: str, entered) -> None:
    it = entered(name)
    findings = checking.audit_features(it.prepared, it.config, rows=500)
    assert {finding.result for finding in findings.values()} <= {"passed", "failed", "not applicable"}
    check_features(findings)
