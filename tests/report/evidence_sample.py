"""A small, made-up but coherent evidence folder: three models, three test weeks, written by numpy and pandas alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MODELS = {"xgboost": "XGBoost", "logistic": "Logistic regression", "rules": "Rules"}
BUDGET = 10
FEATURES = {
    "customer_id__amount__zscore__90d": ("amount", "Amount against this customer's own amounts over 90 days"),
    "merchant_id__risk__7d": ("merchant", "Share of known frauds at this merchant over 7 days, as known then"),
    "customer_id__count__1d": ("speed", "Payments of this customer within one day"),
    "device_id__customers__30d": ("device", "Different customers on this device within 30 days"),
    "amount": ("amount", "Amount of the payment"),
    "customer_id__since_last": ("speed", "Hours since this customer's previous payment"),
    "auth_failed__1d": ("authentication", "Failed authentications of this customer within one day"),
    "customer_id__speed": ("place", "Speed from the previous payment's place, km/h"),
    "is_night": ("time", "Paid between midnight and six"),
    "merchant_id__count__30d": ("merchant", "Payments at this merchant over 30 days"),
}
FACTS: dict[str, dict[str, Any]] = {
    "xgboost": {
        "features": 10,
        "trees": 143,
        "best_iteration": None,
        "params": {"max_depth": 4, "learning_rate": 0.1, "eval_metric": ["logloss", "aucpr"]},
        "refit": True,
        "train_rows": 35_120,
        "calibration": {"method": "isotonic", "rows": 12_870, "frauds": 140, "learned": "on validation rows"},
    },
    "logistic": {"features": 10, "params": {"C": 1.0}, "refit": False},
    "rules": {
        "features": 3,
        "params": {
            "rules": [
                "merchant_id__risk__7d > 0.166667 (+4.57)",
                "is_night >= 1 (+0.86)",
                "customer_id__since_last >= 0.02 (+1.10)",
                "a rule of another making",
            ]
        },
    },
}
KINDS = {"customer_id__since_last": "days", "is_night": "flag", "amount": "amount", "merchant_id__risk__7d": "share"}
CONFIG = """\
name = "demo"
title = "Card and account fraud, demo data"
owner = "not provided"
purpose = "fraud-model-training"
seed = 7

[dataset]
name = "demo"
source = "simulate"
contract = "configs/contracts/demo.toml"

[split]
train_days = 60
delay_days = 14
valid_days = 21
test_days = 21
entity = "customer_id"

[decision]
alerts_per_day = 10
step_up_per_day = 30
review_cost = 15.0
recovery_rate = 0.8
"""


def _scored(seed: int) -> pd.DataFrame:
    """Test payments with labels, amounts and a score per model."""
    rng = np.random.default_rng(seed)
    rows = 12_000
    fraud = rng.random(rows) < 0.011
    amount = np.round(np.where(fraud, rng.lognormal(5.0, 0.9, rows), rng.lognormal(3.3, 0.9, rows)), 2)
    hidden = rng.random(rows) < 0.25
    frame = pd.DataFrame({"fraud": fraud, "amount": amount, "customer": rng.integers(0, 900, rows)})
    frame["day"] = pd.Timestamp("2026-06-10") + pd.to_timedelta(np.sort(rng.integers(0, 21, rows)), unit="D")
    for model, strength in {"xgboost": 5.2, "logistic": 3.9, "rules": 2.4}.items():
        signal = rng.normal(0, 1, rows) + strength * (fraud & ~hidden)
        frame[model] = 1 / (1 + np.exp(-(1.5 * signal - 7)))
    return frame


def _daily(frame: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for model in MODELS:
        for day, of_day in frame.groupby("day"):
            cases = of_day.groupby("customer").agg(score=(model, "max"), fraud=("fraud", "max"))
            best = cases.sort_values("score", ascending=False).head(BUDGET)
            hits, bad = int(best["fraud"].sum()), int(cases["fraud"].sum())
            rows.append((model, f"{day:%Y-%m-%d}", BUDGET, hits, bad, hits / BUDGET, min(bad, BUDGET) / BUDGET))
    return pd.DataFrame(
        rows, columns=["model", "day", "cases", "hits", "compromised", "precision", "perfect_precision"]
    )


def _curves(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    roc, pr = [], []
    for model in MODELS:
        ranked = frame.sort_values(model, ascending=False)
        caught, total = ranked["fraud"].cumsum().to_numpy(), int(ranked["fraud"].sum())
        false = np.arange(1, len(ranked) + 1) - caught
        keep = np.unique(np.geomspace(1, len(ranked), 300).astype(int)) - 1
        threshold = ranked[model].to_numpy()[keep]
        roc.append(
            pd.DataFrame(
                {
                    "model": model,
                    "fpr": np.r_[0, false[keep] / (len(ranked) - total)],
                    "tpr": np.r_[0, caught[keep] / total],
                    "threshold": np.r_[np.inf, threshold],
                }
            )
        )
        pr.append(
            pd.DataFrame(
                {
                    "model": model,
                    "recall": caught[keep] / total,
                    "precision": caught[keep] / (keep + 1),
                    "threshold": threshold,
                }
            )
        )
    return pd.concat(roc), pd.concat(pr)


def _calibration(frame: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for stage, power in (("before", 0.8), ("after", 1.02)):
        risk = np.clip(frame["xgboost"] ** power, 1e-6, 1)
        truth = np.random.default_rng(3).random(len(frame)) < np.clip(frame["xgboost"], 0, 1)
        for number, where in enumerate(np.array_split(np.argsort(risk.to_numpy()), 10)):
            n, seen = len(where), float(truth[where].mean())
            half = 1.96 * np.sqrt(max(seen * (1 - seen), 1 / n) / n)
            rows.append(
                (
                    "xgboost",
                    stage,
                    number,
                    n,
                    float(risk.iloc[where].mean()),
                    seen,
                    max(0, seen - half),
                    min(1, seen + half),
                )
            )
    return pd.DataFrame(rows, columns=["model", "stage", "bin", "n", "mean_predicted", "observed", "low", "high"])


def _metrics(frame: pd.DataFrame, daily: pd.DataFrame, roc: pd.DataFrame, pr: pd.DataFrame) -> pd.DataFrame:
    rows = []
    total = int(frame["fraud"].sum())
    money = frame.loc[frame["fraud"], "amount"].sum()
    for model in MODELS:
        mine, curve, ranks = daily[daily["model"] == model], roc[roc["model"] == model], pr[pr["model"] == model]
        caught = mine["hits"].sum() / total
        values = {
            "auc_roc": np.trapezoid(curve["tpr"], curve["fpr"]),
            "average_precision": float(np.sum(np.diff(np.r_[0, ranks["recall"]]) * ranks["precision"])),
            "card_precision_at_k": mine["precision"].mean(),
            "card_recall_at_k": mine["hits"].sum() / mine["compromised"].sum(),
            "precision_at_budget": mine["precision"].mean() * 0.93,
            "recall_at_budget": caught,
            "recall_at_fpr_1": curve.loc[curve["fpr"] <= 0.01, "tpr"].max(),
            "recall_at_fpr_5": curve.loc[curve["fpr"] <= 0.05, "tpr"].max(),
            "money_caught": money * caught * 1.1,
            "money_caught_share": min(1, caught * 1.1),
            "money_blocked": 9000 * (1 - caught),
        }
        if model == "xgboost":
            values |= {"brier": 0.00712, "calibration_error": 0.213}
        for metric, value in values.items():
            half = abs(value) * 0.06
            rows.append((model, metric, "all", np.nan, value, value - half, value + half, len(frame), ""))
    rows.append(
        (
            "rules",
            "brier",
            "all",
            np.nan,
            np.nan,
            np.nan,
            np.nan,
            len(frame),
            "not applicable: the model states no risk",
        )
    )
    return pd.DataFrame(rows, columns=["model", "metric", "group", "threshold", "value", "low", "high", "n", "note"])


def _simulation(frame: pd.DataFrame) -> pd.DataFrame:
    """What each number of reviews a day catches and saves, and what the candidate's thresholds brought."""
    days, rows = frame["day"].nunique(), []
    for model in MODELS:
        ordered = frame.sort_values(model, ascending=False)
        ways = [("budget", k, np.nan, ordered.groupby("day").head(k)) for k in (1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 80)]
        if model == "xgboost":
            cuts = [(k, float(ordered[model].iloc[k * days])) for k in (5, 10, 30)]
            ways += [("threshold", k, cut, ordered[ordered[model] > cut]) for k, cut in cuts]
        found = [(way, _brought(way[3], frame, days)) for way in ways]
        in_use = next(values for way, values in found if way[:2] == ("budget", BUDGET))["net_saved_per_day"]
        for (by, k, cut, picked), values in found:
            few = 0 < picked["fraud"].sum() < 10
            for metric, value in (values | {"net_saved_gain": values["net_saved_per_day"] - in_use}).items():
                gone = few and metric not in ("cases", "alerts_per_day")
                note = "not shown: it rests on 1 to 9 frauds" if gone else "95 % interval over 812 entities"
                told = (np.nan,) * 3 if gone else (value, value - 0.1 * abs(value), value + 0.1 * abs(value))
                rows.append((model, by, k, cut, k == BUDGET, metric, *told, len(frame), note))
    columns = ["model", "by", "budget", "threshold", "chosen", "metric", "value", "low", "high", "n", "note"]
    return pd.DataFrame(rows, columns=columns)


def _brought(picked: pd.DataFrame, frame: pd.DataFrame, days: int) -> dict[str, float]:
    bad = picked[picked["fraud"]]
    money = bad["amount"].sum()
    return {
        "cases": len(picked),
        "alerts_per_day": len(picked) / days,
        "bothered_per_day": (len(picked) - len(bad)) / days,
        "precision": len(bad) / len(picked),
        "frauds_caught": len(bad),
        "recall": len(bad) / frame["fraud"].sum(),
        "money_caught_per_day": money / days,
        "money_caught_share": money / frame.loc[frame["fraud"], "amount"].sum(),
        "net_saved_per_day": (0.8 * money - 15.0 * len(picked)) / days,
    }


def _decided() -> dict[str, pd.DataFrame]:
    """What the policy did, why, what it cost beside the tiers; how customers were rated and what followed."""
    acted = {
        "reviews_per_day": (9.8, 9.1, 10.6),
        "step_ups_per_day": (20.4, 19.0, 21.9),
        "bothered_per_day": (24.6, 23.0, 26.1),
        "fraud_lost_per_day": (410.0, 330.0, 498.0),
        "handling_per_day": (162.0, 150.0, 175.0),
        "cost_per_day": (572.0, 489.0, 661.0),
        "saved_per_day": (640.0, 505.0, 790.0),
    }

    def ways(names: tuple[str, ...]) -> pd.DataFrame:
        rows = []
        for place, way in enumerate(names):
            for against in ("", names[0]) if place else ("",):
                for metric, values in acted.items():
                    told = [each * (1 + 0.07 * place) for each in values]
                    if against:
                        told = [0.07 * place * values[0] + shift for shift in (0.0, -3.0, 4.0)]
                    rows.append((way, against, metric, *told, 12_870, "95 % interval over 812 entities"))
        return pd.DataFrame(rows, columns=["way", "against", "metric", "value", "low", "high", "n", "note"])

    why = {
        "cheapest": "No action is expected to cost less at this risk and amount.",
        "budget": "A severer action would pay here, but the day's reviews and second factors go where they save more.",
        "person": "A severer action is expected to cost least; a person decides, as what is adverse is not left to a "
        "machine alone (GDPR Art. 22).",
    }
    weeks = pd.date_range("2026-05-20", periods=6, freq="7D", tz="UTC").strftime("%Y-%m-%d 00:00:00+00:00")
    counts = {
        "low": [700, 690, 684, 690, 695, 701],
        "medium": [60, 64, 70, 62, 58, 54],
        "high": [52, 58, 58, 60, 59, 57],
    }
    weekly = pd.DataFrame([(week, name, counts[name][at]) for at, week in enumerate(weeks) for name in counts])
    moves = {"low": (3_300, 80, 60), "medium": (95, 170, 25), "high": (12, 40, 220)}
    return {
        "policy": pd.DataFrame(
            {
                "action": ["approve", "step_up_authentication", "manual_review"],
                "decided_by": ["nobody", "the customer confirms", "a person"],
                "transactions": [12_230, 430, 210],
                "frauds": [22, 41, 77],
                "fraud_rate": [22 / 12_230, 41 / 430, 77 / 210],
                "amount": [640_100.0, 51_200.0, 30_940.0],
                "fraud_amount": [1_010.0, 5_120.0, 11_090.0],
                "cases_per_day": [590.1, 20.4, 9.8],
            }
        ),
        "policy_reasons": pd.DataFrame(
            [
                ("approve", "approve", why["cheapest"], 12_000),
                ("step_up_authentication", "step_up_authentication", why["cheapest"], 430),
                ("approve", "step_up_authentication", why["budget"], 230),
                ("manual_review", "decline", why["person"], 170),
                ("manual_review", "manual_review", why["cheapest"], 40),
            ],
            columns=["action", "proposed", "why", "transactions"],
        ),
        "policy_costs": pd.DataFrame(
            [
                ("approve", 0.0, 0.0, 0.0, 0.0),
                ("step_up_authentication", 0.5, 0.0, 0.6, 1.2),
                ("limit", 2.0, 0.0, 0.7, 0.0),
                ("manual_review", 15.0, 0.0, 0.8, 37.66),
                ("decline", 0.0, 25.0, 1.0, 0.0),
            ],
            columns=["action", "cost", "friction", "stops", "price"],
        ),
        "policy_outcomes": ways(("tiers", "costs", "rules", "policy")),
        "customer_rating": weekly.set_axis(["week", "rating", "customers"], axis=1).assign(
            share=lambda table: table["customers"] / table.groupby("week")["customers"].transform("sum")
        ),
        "rating_after": pd.DataFrame(
            {
                "rating": ["low", "medium", "high"],
                "customers": [4_160, 368, 344],
                "transactions": [21_400, 2_050, 1_990],
                "frauds": [118, 16, 37],
                "fraud_rate": [118 / 21_400, 16 / 2_050, 37 / 1_990],
                "low": [0.0046, 0.0048, 0.0135],
                "high": [0.0066, 0.0126, 0.0255],
            }
        ),
        "rating_moves": pd.DataFrame(
            [
                (before, after, row[place], row[place] / sum(row))
                for before, row in moves.items()
                for place, after in enumerate(moves)
            ],
            columns=["before", "after", "customers", "share"],
        ),
        "rating_effect": ways(("costs", "rating_step_up", "rating_review")),
    }


def _tiers(frame: pd.DataFrame) -> pd.DataFrame:
    cuts = np.quantile(frame["xgboost"], [0, 0.94, 0.98, 0.995, 1])
    names = [
        ("low", "approve"),
        ("elevated", "step_up_authentication"),
        ("high", "manual_review"),
        ("severe", "limit_and_review"),
    ]
    rows = []
    for (tier, action), low, high in zip(names, cuts[:-1], cuts[1:]):
        part = frame[(frame["xgboost"] >= low) & (frame["xgboost"] < high + (tier == "severe"))]
        bad = part[part["fraud"]]
        rate = len(bad) / max(len(part), 1)
        rows.append((tier, action, len(part), len(bad), rate, part["amount"].sum(), bad["amount"].sum()))
    return pd.DataFrame(
        rows, columns=["tier", "action", "transactions", "frauds", "fraud_rate", "amount", "fraud_amount"]
    )


def short_name(feature: str) -> str:
    return feature.replace("_id__", ", ").replace("__", ", ").replace("_", " ")


def _explanations(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    mean_abs = np.sort(rng.gamma(1.2, 0.3, len(FEATURES)))[::-1]
    importance = pd.DataFrame(
        {
            "feature": list(FEATURES),
            "mean_abs": mean_abs,
            "low": 0.6 * mean_abs,
            "high": 1.3 * mean_abs,
            "share": mean_abs / mean_abs.sum(),
            "n": 3000,
            "meaning": [meaning for _, meaning in FEATURES.values()],
            "group": [group for group, _ in FEATURES.values()],
            "note": "range over this model and 3 refits on earlier periods",
        }
    )
    shapes: list[tuple[np.ndarray, Any]] = [
        (rng.normal(0, 2, 1500), lambda v: 1.2 * np.tanh(v - 1)),
        (np.clip(rng.exponential(0.03, 1500), 0, 1), lambda v: 2.5 * v - 0.2),
        (rng.poisson(1.8, 1500).astype(float), lambda v: 0.2 * v - 0.4),
        (
            np.where(rng.random(1500) < 0.3, np.nan, 1 + rng.poisson(0.4, 1500)),
            lambda v: 0.9 * (np.nan_to_num(v, nan=1) - 1),
        ),
    ]
    dependence = [
        pd.DataFrame({"feature": name, "value": value, "contribution": effect(value) + rng.normal(0, 0.15, 1500)})
        for name, (value, effect) in zip(FEATURES, shapes)
    ]
    described = pd.DataFrame(
        [
            (
                name,
                short_name(name),
                group,
                f"{meaning}.",
                "{value}",
                KINDS.get(name, "number"),
            )
            for name, (group, meaning) in FEATURES.items()
        ],
        columns=["column", "label", "group", "meaning", "template", "kind"],
    )
    return importance, pd.concat(dependence), described


def _explained_further(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Pairs of features, the strongest one followed, how steady reasons are, what failed inputs cost."""
    names = list(FEATURES)
    pairs = pd.DataFrame(
        {
            "first": [names[0], names[0], names[2]],
            "second": [names[3], names[8], names[5]],
            "mean_abs": [0.081, 0.043, 0.012],
            "share": [0.021, 0.011, 0.003],
            "n": 200,
            "meaning": "",
            "note": "",
        }
    )
    value = rng.normal(0, 2, 600)
    level = np.where(np.arange(600) % 2, "up to 2", "above 2")
    moved = np.where(level == "up to 2", 0.2, 0.9) * np.tanh(value) + rng.normal(0, 0.1, 600)
    followed = pd.DataFrame({"feature": names[0], "partner": names[3], "level": level, "value": value})
    steady = [
        ("top_reason_kept", "all", 0.921, 0.895, 0.947, 240, "95 % interval over payments"),
        ("top_reason_kept", "place", 0.64, 0.51, 0.77, 31, "95 % interval over payments"),
        ("top_reason_kept", "time", np.nan, np.nan, np.nan, np.nan, "not shown: fewer than 10 payments"),
        ("top_reasons_overlap", "all", 0.958, 0.947, 0.969, 240, "95 % interval over payments"),
        ("rank_correlation", "all", 0.974, 0.971, 0.977, 240, "95 % interval over payments"),
        ("feature_kept", names[0], 0.9, 0.85, 0.95, 60, "95 % interval over payments"),
    ]
    normal = {"card_precision_at_k": 0.412, "average_precision": 0.693, "auc_roc": 0.951}
    robust = []
    for scenario, hit, lost in (
        ("as it is", 0, None),
        ("without place", 2, 0.113),
        ("without amount", 2, 0.214),
        ("small noise in all numbers", 8, -0.004),
    ):
        for place, (metric, worth) in enumerate(normal.items()):
            row = {"scenario": scenario, "features": hit, "metric": metric, "value": worth, "low": worth - 0.05}
            row |= {"high": worth + 0.05, "n": 12_000, "note": "95 % interval over 900 entities"}
            if lost is not None:
                change = -lost / (place + 1)
                row |= {
                    "value": worth + change,
                    "change": change,
                    "change_low": change - 0.04,
                    "change_high": change + 0.04,
                }
            robust.append(row)
    robust += [
        {"scenario": "amounts ten times as large", "features": 0, "metric": metric, "n": 12_000}
        | {"note": "not applicable: no feature reads it"}
        for metric in normal
    ]
    columns = [
        "scenario",
        "features",
        "metric",
        "value",
        "low",
        "high",
        "change",
        "change_low",
        "change_high",
        "n",
        "note",
    ]
    head = ["metric", "group", "value", "low", "high", "n", "note"]
    return {
        "interactions": pairs,
        "pair_dependence": followed.assign(contribution=moved),
        "reason_stability": pd.DataFrame(steady, columns=head).assign(threshold=0.05),
        "robustness": pd.DataFrame(robust, columns=columns),
    }


WOULD_CHANGE: list[tuple[list[str], list[dict[str, Any]]]] = [
    (
        ["An amount of 72 instead of 274", "A device this customer used before and 3 hours later"],
        [
            {"inputs": [{"input": "amount", "before": "274", "after": "72"}], "score": 0.1554, "distance": 0.16},
            {
                "inputs": [
                    {"input": "device", "before": "", "after": ""},
                    {"input": "time", "before": "", "after": "3 hours"},
                ],
                "score": 0.08674,
                "distance": 0.5,
            },
        ],
    ),
    (
        ["No plausible change of up to 3 inputs of this payment alone would have kept it below the threshold"],
        [],
    ),
    (
        ["1 hour later"],
        [{"inputs": [{"input": "time", "before": "", "after": "1 hour"}], "score": 0.0211, "distance": 0.04}],
    ),
    (["The score is below the threshold as it is"], []),
    (
        [
            "An authentication by totp that passed and a network address this customer used before and the place this "
            "customer mostly pays from",
            "A merchant this customer paid before",
        ],
        [
            {
                "inputs": [
                    {"input": "authentication", "before": "", "after": "totp"},
                    {"input": "network", "before": "", "after": ""},
                    {"input": "place", "before": "", "after": ""},
                ],
                "score": 0.2,
                "distance": 0.9,
            },
            {"inputs": [{"input": "merchant", "before": "", "after": ""}], "score": 0.1, "distance": 1.2},
        ],
    ),
]


def _alerts(rng: np.random.Generator) -> list[dict[str, Any]]:
    alerts = []
    for case in range(1, 6):
        effects = np.sort(rng.normal(0.7, 0.9, 8))[::-1]
        base = -4.6
        margin = float(base + effects.sum() + 0.21)
        contributions = [
            {
                "feature": name,
                "meaning": FEATURES[name][1],
                "value": round(float(value), 3),
                "contribution": float(effect),
            }
            for name, value, effect in zip(FEATURES, rng.gamma(2, 3, 8), effects)
        ]
        contributions[3]["value"] = None
        alerts.append(
            {
                "case": case,
                "day": f"2026-06-{10 + 3 * case}",
                "hour": int(rng.integers(0, 24)),
                "amount": round(float(rng.lognormal(5.4, 0.5)), 2),
                "score": 1 / (1 + np.exp(-margin)),
                "risk": 0.9 / (1 + np.exp(-margin)),
                "tier": "severe" if case < 3 else "high",
                "action": "limit_and_review" if case < 3 else "manual_review",
                "outcome": ["fraud", "fraud", "genuine", "fraud", "unknown"][case - 1],
                "reasons": [
                    "The amount is 4.8 times this customer's usual amount over 90 days",
                    "First time on this device; 3 other customers used it within 30 days",
                    "620 km from the previous purchase 18 minutes earlier",
                ],
                "base": base,
                "margin": margin,
                "contributions": contributions,
                "would_change": WOULD_CHANGE[case - 1][0],
                "changes": WOULD_CHANGE[case - 1][1],
            }
        )
    return alerts


def _audited(rng: np.random.Generator) -> tuple[dict[str, pd.DataFrame], list[dict[str, str]]]:
    """The checks of the features: all clean, one that fades, one whose values changed."""
    first, last = rng.uniform(0.6, 0.8, len(FEATURES)), rng.uniform(0.55, 0.75, len(FEATURES))
    alone = pd.DataFrame(
        {
            "feature": list(FEATURES),
            "verdict": ["lasts", "lasts", "fades", *["lasts"] * 6, "not applicable"],
            "auc_first": first,
            "low_first": first - 0.05,
            "high_first": first + 0.05,
            "auc_last": last,
            "low_last": last - 0.05,
            "high_last": last + 0.05,
            "n_first": 18_000,
            "frauds_first": 190,
            "n_last": 18_400,
            "frauds_last": 202,
            "note": ["", *[""] * 8, "not applicable: alone it does not tell fraud in either period"],
        }
    )
    alone.loc[9, list(alone.columns[2:8])] = np.nan
    weeks = pd.MultiIndex.from_product([list(FEATURES), range(1, 9)], names=["feature", "period"]).to_frame(index=False)
    psi = rng.uniform(0, 0.05, len(weeks)) + 0.05 * weeks["period"] * (weeks["feature"] == "customer_id__since_last")
    drift = weeks.assign(n=4_500, psi=psi, reading=np.where(psi > 0.25, "changed", "stable"), note="")
    clean = pd.DataFrame(
        {
            "column": list(FEATURES),
            "verdict": "clean",
            "cuts": 5,
            "rows": 18_825,
            "moved": 0,
            "rewriting": "",
            "meaning": "No value moved: it sees only the past.",
        }
    )
    checks = [
        {"code": code, "title": title, "severity": severity, "result": result, "sentence": sentence}
        for code, title, severity, result, sentence in (
            ("FL001", "Features see only the past", "stops the run", "passed", "No value of 10 features moved."),
            ("FL002", "Each feature alone still tells frauds later", "informs", "passed", "All 9 features still do."),
            ("FL003", "The values of the features stay as they were", "informs", "not applicable", "Too few rows."),
        )
    ]
    return {"leakage": clean, "time_consistency": alone, "stability": drift}, checks


def _rules_measured() -> pd.DataFrame:
    """What four rules for the review threshold promised and brought; the rule in use is the budget."""
    measured = {
        "alerts_per_day": (10, 9.2, 0.5),
        "bothered_per_day": (6.1, 5.4, 0.4),
        "precision": (0.39, 0.41, 0.05),
        "recall": (0.62, 0.64, 0.06),
        "false_positive_rate": (0.008, 0.007, 0.001),
        "money_caught_per_day": (815, 790, 120),
        "money_caught_share": (0.66, 0.68, 0.07),
        "net_saved_per_day": (502, 494, 90),
    }
    rows = []
    for place, rule in enumerate(("budget", "cost", "false_positive_rate", "by_amount")):
        for period, at in (("validation", 0), ("test", 1)):
            for metric, values in measured.items():
                value, half = values[at] * (1 + 0.1 * place * (values[at] > 1)), values[2]
                threshold = np.nan if rule == "by_amount" else 0.31 - 0.05 * place
                note = "95 % interval over 812 entities"
                rows.append(
                    (rule, rule == "budget", threshold, period, metric, value, value - half, value + half, 12_000, note)
                )
    columns = ["rule", "used", "threshold", "period", "metric", "value", "low", "high", "n", "note"]
    return pd.DataFrame(rows, columns=columns)


def _written_rules() -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """A book of two active rules, a shadow one and a retired one; what they brought and share."""
    written = {
        "far-apart": ("At two counters too far apart", "两地刷卡间隔不合常理", "active", "limit_and_review"),
        "tiny-run": ("Run of tiny online payments", "短时间内多笔小额网上付款", "active", "manual_review"),
        "spree": ("Several times the usual", "连续多笔数倍于平时的消费", "shadow", "step_up_authentication"),
        "abroad": ("Abroad at night", "夜间境外付款", "retired", "step_up_authentication"),
    }
    told = {"since": "2026-01-01", "owner": "card fraud team", "why": "a copied card must be stopped at once"}
    rules = [
        {"id": name, "title": {"en": en, "zh": zh}, "expression": "amount > 220", "action": action, "status": status}
        | told
        for name, (en, zh, status, action) in written.items()
    ]
    figures = {
        "alone": {
            "payments_per_day": 4.2,
            "alerts_per_day": 3.1,
            "bothered_per_day": 1.1,
            "customers_bothered": 21.0,
            "precision": 0.62,
            "recall": 0.24,
            "money_caught_per_day": 210.0,
            "money_caught_share": 0.19,
            "net_saved_per_day": 121.0,
        },
        "beside": {
            "alerts_per_day": 1.4,
            "bothered_per_day": 0.9,
            "customers_bothered": 17.0,
            "precision": 0.31,
            "recall": 0.043,
            "money_caught_per_day": 31.0,
            "money_caught_share": 0.028,
            "net_saved_per_day": 3.6,
        },
        "within": {
            "displaced_per_day": 1.3,
            "bothered_per_day": -0.2,
            "customers_bothered": -11.0,
            "precision": 0.012,
            "recall": 0.021,
            "money_caught_per_day": 14.0,
            "money_caught_share": 0.012,
            "net_saved_per_day": 11.0,
        },
    }
    status = {name: (each[2], each[3]) for name, each in written.items() if each[2] != "retired"}
    status |= {"together": ("active", "none"), "model": ("model", "none")}
    rows = []
    for place, (name, (state, action)) in enumerate(status.items()):
        for view in ("alone",) if name == "model" else figures:
            for metric, value in figures[view].items():
                value *= 1 + 0.15 * place
                ends = (value - abs(value) / 4, value + abs(value) / 4)
                rows.append(
                    (name, state, action, view, metric, value, *ends, 12_870, "95 % interval over 812 entities")
                )
    rows.append(("far-apart", "active", "limit_and_review", "alone", "unknown_share", 0.002, None, None, 12_870, ""))
    late = "their label delay of 14 days had not passed by 2026-07-02"
    rows.append(("payments", "payments", "none", "alone", "left_out_immature", 310.0, None, None, 12_870, late))
    rows.append(("payments", "payments", "none", "alone", "left_out_unlabelled", 0.0, None, None, 12_870, late))
    columns = ["rule", "status", "action", "view", "metric", "value", "low", "high", "n", "note"]
    backtest = pd.DataFrame(rows, columns=columns)
    few = (
        (backtest["rule"] == "spree")
        & (backtest["view"] == "beside")
        & backtest["metric"].isin(["recall", "precision"])
    )
    backtest.loc[few, ["value", "low", "high", "note"]] = [
        np.nan,
        0.007,
        0.063,
        "not shown: it rests on 1 to 9 frauds; low and high are what 1 and 9 would give",
    ]
    cases = {"model": 210, "far-apart": 65, "tiny-run": 75, "spree": 85}
    pairs = [(a, b, n, n if a == b else 20) for a, n in cases.items() for b in cases]
    overlap = pd.DataFrame(pairs, columns=["first", "second", "cases", "both"])
    overlap["share"] = overlap["both"] / overlap["cases"]
    book = {"name": "demo", "version": 4, "digest": "5e" * 32, "told": "", "rules": rules}
    return book, {"rules_backtest": backtest, "rules_overlap": overlap}


def _compared(metrics: pd.DataFrame) -> pd.DataFrame:
    """The candidate beside each baseline."""
    return pd.concat([_beside(metrics, champion) for champion in ("logistic", "rules")])


def _beside(metrics: pd.DataFrame, champion: str) -> pd.DataFrame:
    """Overall, three weeks, flips, four age bands (one too small), calibration."""
    rows: list[dict[str, Any]] = []

    def three(view: str, by: str, group: str, metric: str, mine: float, theirs: float, half: float, n: int) -> None:
        key = {"view": view, "by": by, "group": group, "metric": metric, "n": n}
        for model, each in (("xgboost", mine), (champion, theirs), ("difference", mine - theirs)):
            ends = {"low": each - half, "high": each + half, "note": "95 % interval over 812 entities"}
            rows.append(key | {"model": model, "value": each} | ends)
        rows[-1]["share_worse"] = 0.012

    value = metrics.set_index(["model", "metric"])["value"]
    for metric in ("card_precision_at_k", "recall_at_budget", "money_caught_share", "average_precision", "auc_roc"):
        three("overall", "", "all", metric, value["xgboost", metric], value[champion, metric], 0.03, 12_000)
    for week, gain in (("2026-06-10", 0.05), ("2026-06-17", 0.02), ("2026-06-24", -0.01)):
        three("period", "period", week, "card_precision_at_k", 0.4 + gain, 0.4, 0.04, 4_000)
    for metric, held in (
        ("fraud_cases", (61, None, None, 37)),
        ("fraud_amount", (9_120.5, None, None, 4_105.0)),
        ("genuine_cases", (52, 79, 93, 9_120)),
    ):
        for group, each in zip(("both", "challenger only", "champion only", "neither"), held):
            key = {"view": "flips", "by": "case", "group": group, "metric": metric, "model": "", "n": 9_464}
            note = "not shown: a count below 10 could be read from it" if each is None else "counted; no interval"
            rows.append(key | {"value": np.nan if each is None else each, "note": note})
    for group, rate, recall, n in (
        ("20-29", 0.031, 0.7, 2_130),
        ("30-39", 0.024, 0.65, 4_011),
        ("40+", 0.026, 0.6, 620),
    ):
        three("group", "age_band", group, "false_positive_rate", rate, rate + 0.004, 0.006, n)
        three("group", "age_band", group, "false_positive_ratio", rate / 0.026, 1.04, 0.2, n)
        three("group", "age_band", group, "case_recall", recall, recall - 0.08, 0.12, 38)
    for metric in ("false_positive_rate", "false_positive_ratio", "case_recall"):
        for model in ("xgboost", champion, "difference"):
            key = {"view": "group", "by": "age_band", "group": "0-19", "metric": metric, "model": model, "n": 164}
            rows.append(key | {"note": "not shown: a count below 10 could be read from it"})
    for model in ("xgboost", champion):
        for number, stated in enumerate((0.001, 0.02, 0.2, 0.7), start=1):
            key = {"view": "calibration", "by": "bin", "group": str(number), "model": model, "n": 12_000 // number**3}
            rows.append(key | {"metric": "stated_risk", "value": stated, "note": "mean of the bin"})
            seen = {"value": 0.9 * stated, "low": 0.7 * stated, "high": 1.1 * stated}
            rows.append(key | {"metric": "observed_rate", "note": "95 % Wilson interval"} | seen)
    columns = ["view", "by", "group", "metric", "model", "value", "low", "high", "share_worse", "n", "note"]
    return pd.DataFrame(rows)[columns].assign(challenger="xgboost", champion=champion)


def _segments(frame: pd.DataFrame) -> pd.DataFrame:
    """The candidate on two channels and three bands of amounts, one of them too small to show."""
    rows = []
    for by, group, n, frauds, recall in (
        ("amount", "up to 12.50", 3_010, None, None),
        ("amount", "12.50 to 61.00", 5_920, 44, 0.545),
        ("amount", "above 61.00", 3_070, None, None),
        ("channel", "online", 4_800, 71, 0.62),
        ("channel", "pos", 7_200, 61, 0.58),
    ):
        for metric, value in (
            ("recall_at_budget", recall),
            ("precision_at_budget", None if recall is None else recall * 0.8),
            ("auc_roc", None if recall is None else 0.9 + recall / 20),
        ):
            few = value is None
            note = "not shown: a count below 10 could be read from it" if few else "95 % interval over 812 entities"
            ends = (None, None) if few else (value - 0.07, value + 0.06)
            rows.append((by, group, metric, value, *ends, n, frauds, note))
    return pd.DataFrame(rows, columns=["by", "group", "metric", "value", "low", "high", "n", "frauds", "note"])


def _shadow() -> pd.DataFrame:
    """A week beside the champion; nine frauds that only the champion alerted are hidden, and what tells them."""
    held = ("both", "champion only", "challenger only", "neither")
    counted = {
        "cases": (52, 18, 18, 3_611),
        "amount": (9_410.5, 2_204.0, 3_380.25, 241_002.0),
        "frauds": (21, np.nan, np.nan, 12),
        "fraud_amount": (6_120.0, np.nan, np.nan, 840.0),
    }
    rows = [
        (metric, group, value, np.nan, np.nan, 3_699, "counted")
        for metric, values in counted.items()
        for group, value in zip(held, values)
    ]
    rows += [
        ("flipped_share", "all", 36 / 88, 0.312, 0.514, 88, "95 % Wilson interval, as if cases were independent"),
        ("agreement", "all", 3_663 / 3_699, 0.987, 0.993, 3_699, "95 % Wilson interval, as if cases were independent"),
        ("rank_correlation", "all", 0.913, np.nan, np.nan, 4_020, "of the payments' scores"),
        ("labels_known", "all", np.nan, np.nan, np.nan, 4_020, "not applicable: no payments"),
        ("days", "all", 7.0, np.nan, np.nan, 7, "with payments"),
    ]
    return pd.DataFrame(rows, columns=["metric", "group", "value", "low", "high", "n", "note"])


def _label_sources() -> pd.DataFrame:
    counts = {"source: fraud": 1_098, "source: genuine": 131_421, "review": 640, "random": 84, "chargeback": 0}
    counts["not known"] = 8_057
    rows = [("label_share", name, n / 141_300, n) for name, n in counts.items()]
    rows += [("looked_at", "listed", 640 / 655, 655), ("looked_at", "not listed", 84 / 140_645, 140_645)]
    frame = pd.DataFrame(rows, columns=["metric", "group", "value", "n"])
    return frame.assign(threshold=np.nan, low=np.nan, high=np.nan, note="")


def _blind_side() -> pd.DataFrame:
    over = "60 days from 2026-05-02 to 2026-06-30"
    rows = [
        ("random_checks", "drawn", 1.0, np.nan, np.nan, 60, over),
        ("frauds_found", "drawn", 0.0, np.nan, np.nan, 60, over),
        ("frauds_per_10000", "not listed", 0.0, 0.0, 612.0, 60, over),
        ("hidden_frauds", "not listed", 0.0, 0.0, 2_938.0, 60, over),
        ("queue_recall", "all", 1.0, 0.055, 1.0, 300, over),
        ("queue_precision", "listed", 0.57, 0.513, 0.625, 300, over),
    ]
    frame = pd.DataFrame(rows, columns=["metric", "group", "value", "low", "high", "n", "note"])
    return frame.assign(threshold=np.nan)


def _data_quality() -> pd.DataFrame:
    """Six loaded columns and the line about repeats."""
    rows = [
        ("transaction_id", 0.0, 98_310, None, None, None, ""),
        ("customer_id", 0.0, 870, None, None, None, ""),
        ("device_id", 0.4127, 1_204, None, None, None, ""),
        ("amount", 0.0, 21_377, 1.25, 27.5, 412.75, ""),
        ("latitude", None, 48, -38.5, 48.75, 59.5, "not shown: fewer than 10 payments lack it, or have it"),
        ("currency", 0.0, 1, None, None, None, "one value only: it tells nothing"),
    ]
    said = "37 payments repeat an earlier one in customer, moment, amount and merchant"
    rows.append(("(payments)", None, None, None, None, None, said))
    table = pd.DataFrame(rows, columns=["column", "missing", "distinct", "low", "median", "high", "note"])
    return table.astype({"distinct": "Int64"})


CHANGES: dict[str, Any] = {
    "version": "2",
    "run_id": "demo-0f9e8d7c6b",
    "note": "",
    "facts": [
        {"what": "data_digest", "before": "a9" * 32, "after": "b2" * 32},
        {"what": "as_of", "before": "2026-06-01T00:00:00+00:00", "after": "2026-07-01T00:00:00+00:00"},
    ],
    "config": [
        {"what": "model.max_depth", "before": "5", "after": "4"},
        {"what": "model.calibration", "before": '"platt"', "after": '"isotonic"'},
        {"what": "decision.groups", "before": None, "after": '["age_band"]'},
    ],
    "features_added": ["is_night"],
    "features_removed": ["amount__log"],
    "metrics": [
        {"metric": "card_precision_at_k", "before": 0.3871, "after": 0.4133},
        {"metric": "auc_roc", "before": None, "after": 0.8911},
    ],
}
"""What differs from version 2, the champion before."""


def _monitored() -> dict[str, Any]:
    """What the newest monitoring found of the champion: an alarm on one day, precision as expected, learnt long ago."""
    quiet = {"what": "", "day": ""}
    lights = [
        {"topic": "volume", "light": "green", "days": 58, **quiet},
        {
            "topic": "feed",
            "light": "red",
            "what": "'device_id' missing",
            "day": "2026-06-28",
            "kind": "one day",
            "bin": "missing (31 % instead of 2 %)",
        },
        {"topic": "labels", "light": "grey", **quiet},
        {"topic": "performance", "light": "green", "value": 0.31, "low": 0.13, "high": 0.64, "weeks": 6, **quiet},
        {"topic": "age", "light": "amber", "days": 150, "most": 180, **quiet},
    ]
    signals = [
        {"day": f"2026-06-{number:02d}T00:00:00.000Z", "group": group, "signal": "payments", "z": z, "sum": 0.5}
        for number, feed in ((27, 0.4), (28, 9.1), (29, 1.2))
        for group, z in (("volume", 0.3), ("feed", feed))
    ]
    alarm = {"day": "2026-06-28T00:00:00.000Z", "group": "feed", "signal": "missing device_id", "kind": "one day"}
    return {
        "facts": {"model": "demo", "version": "2", "until": "2026-06-30T00:00:00+00:00", "payments": 102023},
        "lights": lights,
        "tables": {"monitor_signals": signals, "monitor_alarms": [alarm | {"z": 9.1, "what": ""}]},
    }


def write_evidence(run: Path, seed: int = 0) -> Path:
    """Write `run`/evidence and return `run`."""
    folder = run / "evidence"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    frame = _scored(seed)
    daily = _daily(frame)
    roc, pr = _curves(frame)
    importance, dependence, described = _explanations(rng)
    audited, checks = _audited(np.random.default_rng(seed + 1))
    days = pd.date_range("2026-01-01", periods=181, freq="D")
    transactions = (
        520 + 90 * np.sin(np.arange(181) / 7 * 2 * np.pi) + np.arange(181) * 0.6 + rng.normal(0, 25, 181)
    ).astype(int)
    known = np.where(np.arange(181) < 167, 1.0, np.linspace(0.8, 0, 181))
    labelled = (transactions * known).astype(int)
    volume = pd.DataFrame(
        {
            "day": days.strftime("%Y-%m-%d"),
            "transactions": transactions,
            "frauds": rng.binomial(labelled, 0.011),
            "amount": np.round(transactions * 43.5, 2),
            "labelled": labelled,
        }
    )
    delay = np.arange(31)
    parts = [
        ("train", "2026-02-10", "2026-04-11", 35_120, 371, 846),
        ("valid", "2026-04-25", "2026-05-16", 12_870, 140, 851),
        ("refit", "2026-03-17", "2026-05-16", 36_400, 392, 862),
        ("test", "2026-06-10", "2026-07-01", len(frame), int(frame["fraud"].sum()), 803),
    ]
    tables = {
        "daily_volume": volume,
        "label_maturity": pd.DataFrame(
            {
                "days_since_event": delay,
                "share_known": np.where(delay < 14, 0.011 * delay / 14, 1 - 0.002),
                "share_frauds_known": 1 - np.exp(-delay / 4),
            }
        ),
        "shadow": _shadow(),
        "label_sources": _label_sources(),
        "blind_side": _blind_side(),
        "features": described,
        "metrics": _metrics(frame, daily, roc, pr),
        "daily": daily,
        "roc": roc,
        "pr": pr,
        "calibration": _calibration(frame),
        "calibration_error": pd.DataFrame(
            {
                "metric": "calibration_error",
                "model": "xgboost",
                "stage": ["before", "after"],
                "value": [0.84, 0.21],
                "low": [0.71, 0.18],
                "high": [0.98, 0.35],
                "n": 12_870,
                "note": "a perfect risk shows about 0.21 by chance alone, with 140 frauds",
            }
        ),
        "membership": pd.DataFrame(
            {
                "group": ["all", "fraud", "genuine"],
                "members": [60_000, 700, 59_300],
                "others": [12_870, 140, 12_730],
                "auc": [0.511, 0.812, 0.507],
                "note": "",
            }
        ),
        "simulation": _simulation(frame),
        **_decided(),
        "tiers": _tiers(frame),
        "importance": importance,
        "dependence": dependence,
        **_explained_further(np.random.default_rng(seed + 2)),
        "threshold_outcomes": _rules_measured(),
        "segments": _segments(frame),
        "data_quality": _data_quality(),
        "anonymity": pd.DataFrame(
            {
                "unit": ["customers", "payments"],
                "columns": "latitude age_band",
                "units": [870, 98_310],
                "k_anonymity": [1, 12],
                "share_alone": [0.0414, 0.0],
                "share_below": [0.2276, 0.0],
                "distinct_l": [1, 2],
                "t_closeness": [0.914, 0.227],
            }
        ),
        **audited,
    }
    tables["comparison"] = _compared(tables["metrics"])
    documents: dict[str, Any] = {
        "run": {
            "name": "demo",
            "title": "Card and account fraud, demo data",
            "owner": "not provided",
            "purpose": "fraud-model-training",
            "run_id": "demo-1a2b3c4d5e",
            "created": "2026-07-02T08:30:00+00:00",
            "as_of": "2026-07-01T00:00:00+00:00",
            "seed": 7,
            "config_digest": "a1" * 32,
            "data_digest": "b2" * 32,
            "code_digest": "c3" * 32,
            "git_commit": "d4" * 20,
            "lock_digest": "e5" * 32,
            "versions": {"python": "3.11.9", "pandas": "3.1.1", "xgboost": "3.2.0", "mlflow": "3.17.2"},
            "command": "fraudlab retrain --config configs/demo.toml",
            "mlflow_run_id": "f6" * 16,
            "model_name": "demo",
            "model_version": 3,
        },
        "data": {
            "dataset": "demo",
            "source": "simulate",
            "rows": int(transactions.sum()),
            "customers": 870,
            "merchants": 310,
            "first": "2026-01-01T00:02:11+00:00",
            "last": "2026-06-30T23:58:02+00:00",
            "frauds": int(volume["frauds"].sum()),
            "labelled": int(labelled.sum()),
            "unlabelled": int((transactions - labelled).sum()),
            "fraud_rate": float(volume["frauds"].sum() / labelled.sum()),
            "digest": "b2" * 32,
            "contract_digest": "77" * 32,
            "columns": [
                {
                    "name": name,
                    "type": kind,
                    "treatment": treatment,
                    "purposes": ["fraud-model-training"],
                    "meaning": meaning,
                }
                for name, kind, treatment, meaning in (
                    ("transaction_id", "id", "keep", "identifies the row; unique"),
                    ("event_time", "time", "keep", "when the transaction happened, UTC"),
                    ("customer_id", "id", "pseudonymise", "who paid"),
                    ("card_id", "id", "pseudonymise", "the card or account used"),
                    ("device_id", "id", "pseudonymise", "the device used"),
                    ("amount", "number", "keep", "amount in major units of the currency"),
                    ("latitude", "number", "generalise", "place of the transaction, degrees"),
                    ("age_band", "text", "generalise", "the customer's age in ten-year bands"),
                    ("customer_name", "text", "identity", "the customer's name, in the identity file only"),
                    ("email", "text", "identity", "the customer's e-mail, in the identity file only"),
                )
            ],
            "dropped": [{"column": "memo", "non_null": 81_204}, {"column": "loyalty_tier", "non_null": 7}],
            "purpose": "fraud-model-training",
            "purpose_meaning": "Train and judge models",
            "basis": "legitimate-interest",
            "retention_days": 1_095,
            "purpose_columns": [
                "transaction_id",
                "event_time",
                "customer_id",
                "card_id",
                "device_id",
                "amount",
                "latitude",
            ],
            "label_delay_days": {"median": 14.0, "p90": 14.0, "max": 27.3},
        },
        "fold": {
            "explain": "Learns from 60 days, waits 14 days for labels, and is judged on the 21 days from 2026-06-10.",
            "parts": [
                {"part": p, "start": s, "end": e, "transactions": t, "frauds": f, "fraud_rate": f / t, "customers": c}
                for p, s, e, t, f, c in parts
            ],
            "excluded_customers": 96,
            "excluded_transactions": 1_804,
        },
        "models": [
            {
                "name": name,
                "label": label,
                "role": "candidate" if name == "xgboost" else "baseline",
                "facts": {"rows": 36_400, "frauds": 392, "seconds": 1.93, "seed": 7} | FACTS[name],
            }
            for name, label in MODELS.items()
        ],
        "alerts": _alerts(rng),
        "checks": checks,
        "changes": CHANGES,
        "monitoring": _monitored(),
        "decision": {
            "decision": "promoted",
            "reasons": ["AUC ROC on the test part: 0.891 (>= 0.600)", "frauds in the training window: 392 (>= 20)"],
            "gate": [
                {"check": "AUC ROC on the test part", "required": 0.6, "found": 0.8911, "passed": True},
                {"check": "frauds in the training window", "required": 20, "found": 392, "passed": True},
            ],
            "champion_before": "2",
            "champion_after": "demo version 3",
            "challenger_version": 3,
            "thresholds": {"review": 0.31, "step_up": 0.08, "limit": None},
            "alerts_per_day": BUDGET,
            "by": "the gate",
            "at": "2026-07-09T02:31:07+00:00",
            "would_change": ["not promoted, if one of the 2 rows of the gate had failed"],
            "shadow": {"champion": "2", "first_day": "2026-07-02", "last_day": "2026-07-08", "days": 7},
            "amends": "5b" * 32,
            "digest": "9f" * 32,
        },
    }
    documents["rulebook"], written = _written_rules()
    for name, table in (tables | written).items():
        table.to_csv(folder / f"{name}.csv", index=False)
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    return run
