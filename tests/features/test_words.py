"""Words of features: every statistic and option is told in plain sentences that nobody can mix up."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fraudlab.features import (
    FeatureSet,
    count,
    decayed_count,
    decayed_total,
    distinct,
    entropy,
    frauds,
    hour,
    hour_shift,
    hour_spread,
    is_new,
    labelled,
    linked,
    linked_frauds,
    maximum,
    mean,
    mean_gap,
    median,
    minimum,
    mode_share,
    month_day,
    night,
    percentile,
    quantile,
    ratio,
    repeats,
    risk,
    round_amount,
    share,
    since_first,
    since_fraud,
    since_last,
    speed,
    std,
    std_gap,
    total,
    usual_distance,
    usual_hour,
    value,
    weekday,
    weekend,
    zscore,
)
from fraudlab.features.sets import CARD_V1, NAMED_SETS
from fraudlab.features.specs import CurrentSpec, LinkSpec, PastSpec, WindowSpec
from fraudlab.features.words import Words, describe_category, format_value, noun, one_or_none
from fraudlab.reasons import reasons
from fraudlab.schema import InputError

KINDS = {"count", "amount", "ratio", "days", "speed", "share", "part", "flag", "weekday", "number"}
FAILED = ("auth_result", "=", "failed")


def window_specs(by):
    """Give every window statistic plain and with each option it takes, then with all of them."""
    for statistic, takes in WindowSpec.STATISTICS.items():
        fixed = {"value": "amount"} if takes.value == "number" else {"value": "device_id"} if takes.value else {}
        options = {"where": FAILED} if takes.where else {}
        options |= {"last": 5} if takes.last else {}
        options |= {"zone": "America/New_York"} if takes.zone else {}
        options |= {"prior": (0.01, 20)} if statistic == "risk" else {}
        each = [{}, {"delay": "14d"}, *({name: given} for name, given in options.items()), options | {"delay": "14d"}]
        for chosen in {str(chosen): chosen for chosen in each}.values():
            for q in (0.5, 0.9) if statistic == "quantile" else (None,):
                yield WindowSpec(statistic, by, ["1d", "7d"], **fixed, **chosen, q=q)


def every_spec():
    for by in ("customer_id", ("merchant_id", "customer_id"), "terminal_id"):
        yield from window_specs(by)
        for statistic in PastSpec.STATISTICS:
            fixed = {"value": "channel"} if statistic == "is_new" else {}
            fixed |= {"slack_km": 25, "floor": "1min"} if statistic == "speed" else {}
            fixed |= {"half_life": "1h"} if statistic.startswith("decayed") else {}
            fixed |= {"value": "amount"} if statistic == "decayed_total" else {}
            yield PastSpec(statistic, by, **fixed)
            if statistic.startswith("decayed"):
                yield PastSpec(statistic, by, **(fixed | {"half_life": "6h"}), where=FAILED)
    for statistic in LinkSpec.STATISTICS:
        yield LinkSpec(statistic, "customer_id", "device_id")
        yield LinkSpec(statistic, "customer_id", ["device_id", "card_id", "ip"])
    for statistic in CurrentSpec.STATISTICS:
        for zone in (None, "America/New_York") if statistic in CurrentSpec.CALENDAR else (None,):
            for step in (10, 50) if statistic == "round" else (None,):
                named = None if statistic in CurrentSpec.CALENDAR else "amount"
                yield CurrentSpec(statistic, named, step, zone)


EVERY = FeatureSet("every", every_spec()).describe()


def alone(templates: pd.Series) -> pd.Series:
    """Templates without what siblings add to them and without the brackets that say "only if there are some"."""
    return templates.str.replace(r"\[[^\[\]{}]*\{(?!value\})[^{}]+\}[^\[\]{}]*\]", "", regex=True).str.strip("[]")


@pytest.mark.parametrize("part", ["label", "meaning", "template"])
def test_no_two_columns_say_the_same(part):
    assert EVERY.loc[EVERY[part].duplicated(keep=False), ["column", part]].empty


def test_every_statistic_and_option_speaks_plainly():
    assert len(EVERY) > 500
    assert set(EVERY["kind"]) <= KINDS
    assert EVERY["meaning"].str.fullmatch(r"[A-Z0-9].*\.").all()
    filled = alone(EVERY["template"]).str.replace("{value}", "7")
    for said in (EVERY["label"], EVERY["meaning"], EVERY["group"], filled):
        assert not said.str.contains(r"[_{}\[\]]|  |None|\bof of\b|^ | $|,,").any()
    flag = EVERY["kind"] == "flag"
    assert (EVERY["template"].str.count(re.escape("{value}")) == (~flag)).all()


@pytest.mark.parametrize("features", NAMED_SETS.values(), ids=lambda features: features.name)
def test_a_named_set_has_few_groups_and_no_two_alike(features):
    table = features.describe()
    assert not any(table[part].duplicated().any() for part in ("label", "meaning", "template"))
    assert table["group"].nunique() <= 12
    assert set(table["kind"]) <= KINDS


def by_customer(make, *given, **options):
    return make(*given, by="customer_id", window="30d", **options)


MEANINGS = {
    by_customer(minimum, "amount"): "Smallest amount of the payments by the same customer in the last 30 days.",
    by_customer(maximum, "amount"): "Largest amount of the payments by the same customer in the last 30 days.",
    by_customer(median, "amount"): "Median amount of the payments by the same customer in the last 30 days.",
    by_customer(quantile, "amount", 0.95): (
        "95 % quantile of the amount over the payments by the same customer in the last 30 days."
    ),
    by_customer(percentile, "amount"): (
        "Share of the payments by the same customer in the last 30 days that have a smaller amount, equal ones "
        "counting half."
    ),
    by_customer(mode_share, "ip"): (
        "Share of the most frequent network address among the payments by the same customer in the last 30 days."
    ),
    by_customer(entropy, "country"): (
        "Entropy of the countries in the payments by the same customer in the last 30 days, in bits."
    ),
    by_customer(repeats, "amount"): (
        "Number of the payments by the same customer in the last 30 days that have the present one's amount."
    ),
    by_customer(share, "merchant_id"): (
        "Share of the payments by the same customer in the last 30 days that have the present one's merchant."
    ),
    by_customer(mean_gap): (
        "Mean days from one payment to the next over the payments by the same customer in the last 30 days."
    ),
    by_customer(std_gap, include_current=True): (
        "Standard deviation of the days from one payment to the next over the payments by the same customer in the "
        "last 30 days, the present one included."
    ),
    by_customer(usual_hour): (
        "Mean hour of the day, taken round the clock, of the payments by the same customer in the last 30 days, UTC."
    ),
    by_customer(hour_spread, zone="Europe/Berlin"): (
        "Standard deviation of the hour of the day, taken round the clock, over the payments by the same customer in "
        "the last 30 days, in hours, in Europe/Berlin time."
    ),
    by_customer(hour_shift, zone="Europe/Berlin", last=20): (
        "Hours between the time of day and the mean hour, taken round the clock, of the latest 20 payments by the same "
        "customer in the last 30 days, in Europe/Berlin time."
    ),
    by_customer(usual_distance): (
        "Kilometres from the middle of the places of the payments by the same customer in the last 30 days."
    ),
    by_customer(frauds, last=20): (
        "Number of frauds among the latest 20 payments by the same customer in the last 30 days whose outcome is known."
    ),
    by_customer(labelled, delay="7d"): (
        "Number of payments by the same customer in the 30 days that ended 7 days ago whose outcome is known."
    ),
    by_customer(risk, last=20, prior=(0.01, 20)): (
        "Share of fraud among the latest 20 payments by the same customer in the last 30 days whose outcome is known, "
        "drawn towards 1 % as by 20 more labels."
    ),
    by_customer(risk, prior=(0.005, 1), empty=0): (
        "Share of fraud among the payments by the same customer in the last 30 days whose outcome is known, drawn "
        "towards 0.5 % as by 1 more label, 0 where none is known."
    ),
    by_customer(since_fraud): (
        "Days since the latest payment by the same customer in the last 30 days already known to be fraud."
    ),
    by_customer(since_fraud, first=True): (
        "Days since the first payment by the same customer in the last 30 days already known to be fraud."
    ),
    by_customer(mean, "amount", last=5, include_current=True): (
        "Mean amount of the latest 5 payments by the same customer in the last 30 days, the present one included."
    ),
    by_customer(maximum, "amount", last=1): (
        "Largest amount of the latest payment by the same customer in the last 30 days."
    ),
    by_customer(total, "amount", last=5, where=FAILED, delay="1d"): (
        "Sum of amount over the latest 5 payments with failed authentication by the same customer in the 30 days that "
        "ended 1 day ago."
    ),
    by_customer(ratio, "amount", where=("channel", "=", "online")): (
        "Amount divided by the mean amount of the payments with online channel by the same customer in the last 30 "
        "days."
    ),
    by_customer(zscore, "amount", last=10): (
        "Distance of the amount from the mean amount of the latest 10 payments by the same customer in the last 30 "
        "days, in standard deviations."
    ),
    decayed_count("card_id", "1h"): (
        "Number of earlier payments with the same card, each worth half as much after every hour."
    ),
    decayed_total("amount", "card_id", "6h", where=("amount", "<", 3)): (
        "Sum of amount over the earlier payments with amount below 3 with the same card, each worth half as much after "
        "every 6 hours."
    ),
    linked("customer_id", ["device_id", "card_id", "ip"]): (
        "Number of customers that hang together with the payment through shared devices, cards and network addresses, "
        "its own included."
    ),
    linked_frauds("customer_id", "device_id"): (
        "Number of payments already known to be fraud of the customers that hang together with the payment through "
        "shared devices."
    ),
    hour("Europe/Berlin"): "Hour of the day, in Europe/Berlin time, 0 to 23.",
    night("America/New_York"): "1 between 00:00 and 06:59 in America/New York time, else 0.",
    weekday(): "Day of the week, UTC, 0 (Monday) to 6.",
    month_day(): "Day of the month, UTC, 1 to 31.",
    weekend("Asia/Tokyo"): "1 on Saturday and Sunday, in Asia/Tokyo time, else 0.",
    round_amount(step=50): "1 if the amount is a multiple of 50, else 0.",
}


def words_of(spec) -> Words:
    (found,) = spec.describe()
    return found


@pytest.mark.parametrize("spec", MEANINGS, ids=lambda spec: spec.columns[0])
def test_a_meaning_says_precisely_what_the_column_is(spec):
    assert words_of(spec).meaning == MEANINGS[spec]


# Reasons as an investigator reads them, with a value filled in.
REASONS = {
    by_customer(distinct, "merchant_id"): (3, "3 different merchants by this customer within 30 days"),
    by_customer(distinct, "merchant_id", last=5): (
        1,
        "1 merchant by this customer over the latest 5 payments within 30 days",
    ),
    by_customer(distinct, "terminal_id"): (1, "1 terminal by this customer within 30 days"),
    by_customer(distinct, "card_status"): (1, "1 value of card status by this customer within 30 days"),
    by_customer(distinct, "fuel_type", where=FAILED): (
        1,
        "1 fuel type with failed authentication by this customer within 30 days",
    ),
    by_customer(percentile, "amount"): (0.98, "Amount larger than 98 % of this customer's payments over 30 days"),
    by_customer(percentile, "amount", last=10): (
        0.95,
        "Amount larger than 95 % of this customer's latest 10 payments over 30 days",
    ),
    by_customer(share, "merchant_id"): (0.02, "This merchant makes up 2 % of this customer's payments over 30 days"),
    by_customer(mode_share, "merchant_id"): (
        0.5,
        "The most frequent merchant makes up 50 % of this customer's payments over 30 days",
    ),
    by_customer(entropy, "merchant_id"): (
        1.585,
        "1.58 bits of variety in the merchants of this customer's payments over 30 days",
    ),
    by_customer(repeats, "amount"): (1, "1 earlier payment of this amount by this customer within 30 days"),
    by_customer(repeats, "merchant_id"): (2, "2 earlier payments at this merchant by this customer within 30 days"),
    by_customer(median, "amount"): (12.5, "Median amount of 12.50 by this customer within 30 days"),
    by_customer(maximum, "amount", where=FAILED, last=3): (
        12.5,
        "Largest amount of 12.50 with failed authentication by this customer over the latest 3 such payments within "
        "30 days",
    ),
    quantile("amount", 0.9, by="merchant_id", window="30d"): (
        120,
        "90 % quantile of the amount at this merchant within 30 days: 120.00",
    ),
    by_customer(std, "amount", delay="7d"): (
        3,
        "Amount varying by 3.00 by this customer over 30 days that ended 7 days ago",
    ),
    by_customer(mean_gap): (0.5, "12 hours from one payment by this customer to the next, on average over 30 days"),
    by_customer(std_gap): (
        0.0,
        "Time between payments by this customer varying by less than 2 minutes over 30 days",
    ),
    by_customer(usual_hour): (9.5, "This customer's usual hour of the day over 30 days: 9.5"),
    by_customer(hour_spread): (2.25, "This customer's usual hour varying by 2.25 h over 30 days"),
    by_customer(hour_shift, zone="Europe/Berlin"): (
        7.25,
        "7.25 h from this customer's usual hour over 30 days, Europe/Berlin time",
    ),
    by_customer(usual_distance): (420.4, "420 km from this customer's usual place over 30 days"),
    usual_distance(by=("customer_id", "card_id"), window="1w"): (
        5.8e-9,
        "0 km from this customer's and this card's usual place over 1 week",
    ),
    frauds("merchant_id", "28d", last=20): (
        1,
        "1 known fraud among the latest 20 known payments at this merchant within 28 days",
    ),
    risk("merchant_id", "28d", last=20, prior=(0.01, 20)): (
        0.25,
        "25 % fraud among the latest 20 known payments at this merchant within 28 days, drawn towards 1 %",
    ),
    labelled("merchant_id", "28d"): (1, "1 payment with known outcome at this merchant within 28 days"),
    since_fraud("merchant_id", "90d"): (2, "2 days since the last known fraud at this merchant within 90 days"),
    decayed_count("card_id", "1h"): (2.4143, "Recent payments with this card, halved every hour: 2.41"),
    decayed_total("amount", "card_id", "6h"): (80, "80.00 paid lately with this card, halved every 6 hours"),
    linked("customer_id", ["device_id", "card_id"]): (
        7,
        "7 customers linked through shared devices and cards, this one included",
    ),
    linked("account_id", "phone"): (1, "1 account linked through shared phones, this one included"),
    linked_frauds("customer_id", "device_id"): (1, "1 known fraud of customers linked through shared devices"),
    hour("Europe/Berlin"): (3, "Hour of the day, Europe/Berlin time: 3"),
    night("Europe/Berlin"): (1, "At night, Europe/Berlin time"),
    weekday(): (6, "On a Sunday"),
    round_amount(): (1, "Round amount"),
    round_amount(step=50): (1, "Round amount, a multiple of 50"),
}


def reason_of(spec, number: float) -> list[str]:
    column = spec.columns[0]
    moved = pd.DataFrame({column: [1.0], "base": [-3.0]})
    describe = FeatureSet("one", [spec]).describe()
    return reasons(moved, pd.DataFrame({column: [float(number)]}), describe)[0]


@pytest.mark.parametrize("spec", REASONS, ids=lambda spec: spec.columns[0])
def test_a_reason_reads_well(spec):
    number, sentence = REASONS[spec]
    assert reason_of(spec, number) == [sentence]


def test_none_is_said_where_it_is_a_reason():
    assert reason_of(by_customer(share, "device_id"), 0) == [
        "This device makes up 0 % of this customer's payments over 30 days"
    ]
    assert reason_of(by_customer(distinct, "terminal_id"), 0) == ["No terminals by this customer within 30 days"]
    assert reason_of(by_customer(repeats, "amount"), 0) == []
    assert reason_of(linked_frauds("customer_id", "device_id"), 0) == []


@pytest.mark.parametrize("make", [count, mean, distinct, entropy, mean_gap, usual_hour])
def test_the_meaning_alone_says_that_the_present_payment_is_included(make):
    given = {"mean": ["amount"], "distinct": ["ip"], "entropy": ["ip"]}.get(make.__name__, [])
    without, included = (words_of(by_customer(make, *given, include_current=here)) for here in (False, True))
    assert (included.label, included.template) == (without.label, without.template)
    assert included.meaning.replace(", the present one included", "") == without.meaning


def test_conditions_of_every_kind():
    def said(*where):
        return words_of(count("ip", "1h", where=where)).meaning.split(" from ")[0]

    assert said("channel", "=", "online") == "Number of payments with online channel"
    assert said("channel", "!=", "online") == "Number of payments with channel other than online"
    assert said("amount", "=", 9.99) == "Number of payments with amount of 9.99"
    assert said("amount", ">=", 500) == "Number of payments with amount of at least 500"
    assert said("card_present", "=", False) == "Number of payments with card present of false"


def test_a_group_is_one_thought():
    groups = {
        by_customer(percentile, "amount"): "amount",
        by_customer(mean_gap): "pace",
        decayed_count("customer_id", "1h"): "pace",
        decayed_count("customer_id", "1h", where=FAILED): "authentication",
        by_customer(share, "auth_method"): "authentication",
        by_customer(count, where=("amount", "<", 3)): "trial payments",
        by_customer(count, where=("amount", ">", 500)): "pace",
        by_customer(repeats, "amount"): "trial payments",
        by_customer(share, "merchant_category"): "merchant",
        by_customer(entropy, "country"): "place",
        by_customer(usual_distance): "place",
        by_customer(hour_shift): "time of day",
        weekday(): "time of day",
        by_customer(labelled): "known fraud",
        by_customer(since_fraud): "known fraud",
        linked_frauds("customer_id", "device_id"): "known fraud",
        linked("customer_id", ["card_id", "device_id"]): "device and network",
        linked("customer_id", "phone"): "links",
        since_first(("customer_id", "device_id")): "device and network",
        since_first("customer_id"): "account age",
        value("fuel_litres"): "fuel litres",
    }
    assert {spec: words_of(spec).group for spec in groups} == groups


def test_one_or_none_of_whatever_is_counted():
    for column in ("customer_id", "merchant_category", "ip", "country", "terminal_id", "card_status", "browser_family"):
        singular, plural, _ = noun(column)
        one = one_or_none(f"{{value}} different {plural} with this card within 1 day", 1)
        shown = f"value of {singular}" if plural.startswith("values of") else singular
        assert one == f"{{value}} {shown} with this card within 1 day"
    assert one_or_none("{value} payments", 1) == "{value} payment"
    assert one_or_none("{value} such payments within 7 days", 1) == "{value} such payment within 7 days"
    assert one_or_none("{value} other customers used it", 1) == "{value} other customer used it"
    assert one_or_none("recent payments: {value}", 1) == "recent payments: {value}"


def test_almost_all_are_not_all():
    assert [format_value(part, "share") for part in (0.994, 0.996, 0.99999, 1)] == ["99 %", "99.6 %", "99.9 %", "100 %"]


def test_values_of_the_kinds_read_well():
    assert [format_value(part, "part") for part in (0, 0.004, 0.25, 1)] == ["0 %", "0.4 %", "25 %", "100 %"]
    assert [format_value(km, "number") for km in (5.8e-9, 0.0123, 12.345, 1234.5)] == ["0", "0.0123", "12.3", "1,234"]


def test_the_page_tells_which_statistic_takes_what():
    page = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
    table = page.split("## Which statistic takes what")[1].split("\n\n")[1].splitlines()
    titles, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    told = {name: dict(zip(titles[1:], row[1:])) for row in rows for name in row[0].split(", ")}
    for statistic, takes in WindowSpec.STATISTICS.items():
        if statistic != "since_first_fraud":  # people write since_fraud(..., first=True)
            row = told[statistic]
            for option in ("include_current", "where", "last", "zone"):
                assert (row[option] == "yes") == getattr(takes, option), (statistic, option)
            assert row["reads"].startswith({"number": "a number", "any": "any column"}.get(takes.value, "")), statistic
    assert {name for name, row in told.items() if row["zone"]} >= set(CurrentSpec.CALENDAR)
    for statistic in [*WindowSpec.STATISTICS, *PastSpec.STATISTICS, *LinkSpec.STATISTICS, *CurrentSpec.STATISTICS]:
        name = {"since_first_fraud": "since_fraud", "round": "round_amount"}.get(statistic, statistic)
        assert f"**{name}**" in page, f"the page has no entry for {name}"


# -- Chinese ---------------------------------------------------------------------------------------------------------

# What stays in Latin letters: time zones, and columns that the table of nouns does not know.
LATIN = ("UTC", "America/New_York", "Europe/Berlin")
TEMPLATES = ("template", "template_zh")
CHINESE = ["label_zh", "group_zh", "meaning_zh", "template_zh"]
SETS = {"every": EVERY} | {name: features.describe() for name, features in NAMED_SETS.items()}


@pytest.mark.parametrize("name", SETS)
def test_every_column_has_chinese_words_without_latin_letters_or_spaces(name):
    table = SETS[name].assign(template_zh=alone(SETS[name]["template_zh"]).str.replace("{value}", "", regex=False))
    assert table[CHINESE].map(bool).all(axis=None) or (table["kind"] == "flag").any()
    for part in CHINESE:
        said = table[part]
        for kept in (*LATIN, "00:00", "06:59"):
            said = said.str.replace(kept, "", regex=False)
        wrong = said[said.str.contains(r"[A-Za-z_{}\[\]]|[ ,:;()?!\"']")]
        assert wrong.empty, wrong.tolist()[:5]
        assert said.str.contains(r"[\u4e00-\u9fff]").all()
    assert table["meaning_zh"].str.fullmatch(r"[^。]+。").all()


@pytest.mark.parametrize("name", SETS)
def test_the_chinese_words_tell_as_much_as_the_english_ones(name):
    table = SETS[name]
    for part in ("label", "meaning", "template"):
        assert not table[f"{part}_zh"].duplicated().any()
    for part in ("template", "template_zh"):
        assert (table[part].str.count(re.escape("{value}")) == (table["kind"] != "flag")).all()
    # Both languages name the same facts of the same columns, and hold back in the same cases.
    facts = [table[part].map(lambda text: re.findall(r"\{([^{}]+)\}", text)).map(sorted) for part in TEMPLATES]
    assert (facts[0] == facts[1]).all()
    assert (table["template"].str.startswith("[") == table["template_zh"].str.startswith("[")).all()
    assert table.groupby("reason")["group_zh"].nunique().eq(1).all()


def test_numbers_and_windows_are_the_same_in_both_languages():
    def numbers(text: str) -> list[str]:
        return sorted(re.findall(r"\d+(?:\.\d+)?", text))

    told = zip(EVERY["column"], EVERY["kind"], *(alone(EVERY[part]).map(numbers) for part in TEMPLATES))
    for column, kind, english, chinese in told:
        if kind != "flag" and "hour" not in column:  # "halved every hour" has no number in English either
            # English leaves the one out of "within the latest payment".
            assert english in (chinese, chinese[1:]), column


REASONS_ZH = {
    ratio("amount", by="customer_id", window="90d"): (4.8, "金额是该客户过去90天平均水平的4.8倍"),
    by_customer(ratio, "amount", last=5): (4.8, "金额是该客户过去30天内最近5笔交易平均水平的4.8倍"),
    by_customer(ratio, "amount", where=("channel", "=", "online")): (
        2.0,
        "金额是该客户过去30天内渠道为线上的交易平均水平的2.0倍",
    ),
    by_customer(zscore, "amount"): (5.2, "金额偏离该客户过去30天平均水平5.2个标准差"),
    by_customer(percentile, "amount"): (0.98, "金额高于该客户过去30天内交易的98%"),
    by_customer(distinct, "merchant_id"): (3, "该客户过去30天内交易涉及3家不同的商户"),
    distinct("customer_id", by="device_id", window="1d"): (4, "该设备过去1天内交易涉及4位不同的客户"),
    distinct("customer_id", by="ip", window="1d"): (1, "该网络地址过去1天内交易涉及1位客户"),
    by_customer(count, where=FAILED): (2, "该客户过去30天内有2笔认证结果为失败的交易"),
    count("card_id", "1h", where=("amount", "<", 3)): (4, "该卡过去1小时内有4笔金额低于3的交易"),
    count("merchant_id", "7d", delay="14d"): (12, "该商户截至14天前的7天内有12笔交易"),
    by_customer(repeats, "amount"): (2, "该客户过去30天内交易中有2笔与本笔金额相同"),
    by_customer(share, "merchant_category"): (0, "该商户类别占该客户过去30天内交易的0%"),
    by_customer(hour_shift): (7.25, "与该客户过去30天的惯常交易时刻相差7.25小时"),
    by_customer(usual_distance): (844, "距该客户过去30天的惯常地点844公里"),
    risk("merchant_id", "28d", last=20, prior=(0.01, 20)): (
        0.25,
        "该商户过去28天内最近20笔结果已知的交易中25%为欺诈（向1%收缩）",
    ),
    since_fraud("merchant_id", "90d"): (2, "距该商户过去90天内最近一笔已知欺诈2天"),
    since_last("customer_id"): (0.0005, "距该客户上一笔交易不到2分钟"),
    since_first(("customer_id", "device_id")): (2, "距该客户和该设备首笔交易2天"),
    is_new("device_id", by="customer_id"): (1, "该客户首次使用该设备"),
    is_new("merchant_id", by="customer_id"): (1, "该客户首次在该商户交易"),
    is_new("ip", by="customer_id"): (1, "该客户首次通过该网络地址交易"),
    speed(by="customer_id"): (912.4, "自该客户上一交易地点到此需912公里/小时"),
    decayed_count("card_id", "6h"): (2.4143, "该卡近期交易笔数（每6小时减半）：2.41"),
    linked("customer_id", ["device_id", "card_id", "ip"]): (7, "经共用的设备、卡和网络地址关联到7位客户（含本笔）"),
    hour("Europe/Berlin"): (3, "交易时刻为3时（Europe/Berlin时间）"),
    weekday(): (6, "星期日交易"),
    value("fuel_litres"): (40, "fuel_litres为40"),
}


@pytest.mark.parametrize("spec", REASONS_ZH, ids=lambda spec: spec.columns[0])
def test_a_reason_reads_well_in_chinese(spec):
    number, sentence = REASONS_ZH[spec]
    column = spec.columns[0]
    describe = FeatureSet("one", [spec]).describe()
    moved, values = pd.DataFrame({column: [1.0], "base": [-3.0]}), pd.DataFrame({column: [float(number)]})
    assert reasons(moved, values, describe, lang="zh") == [[sentence]]


def test_describe_speaks_one_language_at_a_time_and_keeps_the_chinese():
    english, chinese = CARD_V1.describe(), CARD_V1.describe("zh")
    assert list(english.columns) == list(chinese.columns) == [*Words._fields, *CHINESE]
    for part in ("label", "group", "meaning", "template"):
        assert chinese[part].equals(english[f"{part}_zh"].rename(part))
    assert chinese[["column", "reason", "kind", *CHINESE]].equals(english[["column", "reason", "kind", *CHINESE]])
    with pytest.raises(InputError, match=r"^lang: must be one of en, zh; found 'fr'; valid are: en, zh$"):
        CARD_V1.describe("fr")


def test_what_was_computed_first_is_told_as_what_it_is():
    words = NAMED_SETS["handbook-v2"].describe().set_index("column")
    assert words.loc["amount_ratio", "template"] == "{value} times this customer's usual amount over 60 days"
    column = "customer_id__count__7d__where_amount_ratio_gt_3"
    assert words.loc[column, "meaning"] == (
        "Number of payments with amount above 3 times the usual by the same customer in the last 7 days."
    )
    assert words.loc[column, "template_zh"] == "该客户过去7天内有{value}笔金额高于平时3倍的交易"


def test_an_identifier_is_named_never_quoted():
    for column in ("merchant_id", "ip", "card_number", "email", "holder_name", "account_iban", "session_token"):
        for words in (describe_category(column), describe_category(column, "zh"), words_of(value(column))):
            assert words.kind == "identifier"
            assert "{value}" not in words.template
    assert describe_category("ip", "zh").template == "该网络地址"
    assert describe_category("email_domain").template == "Email domain: {value}"


# Names and values as careless people choose them: brackets, braces, quotes, spaces, other scripts.
NAMES = st.text("ab_9[]{}(){ %é中'\"", min_size=1, max_size=8)
LIMITS = st.one_of(st.integers(-5, 5), st.booleans(), NAMES)


@given(
    statistic=st.sampled_from(["count", "mean", "distinct", "share", "ratio", "entropy", "repeats", "percentile"]),
    by=st.lists(st.one_of(NAMES, st.sampled_from(["customer_id", "device_id"])), min_size=1, max_size=2, unique=True),
    named=NAMES,
    window=st.sampled_from(["1h", "15min", "7d", "1w", "30s"]),
    last=st.one_of(st.none(), st.integers(1, 30)),
    delay=st.one_of(st.none(), st.sampled_from(["1d", "2w"])),
    where=st.one_of(st.none(), st.tuples(NAMES, st.just("="), LIMITS)),
)
@settings(max_examples=40, deadline=None)
def test_any_spec_has_whole_sentences_in_both_languages(statistic, by, named, window, last, delay, where):
    takes = WindowSpec.STATISTICS[statistic]
    fixed = {"value": named} if takes.value else {}
    try:
        spec = WindowSpec(statistic, by, window, **fixed, last=last if takes.last else None, delay=delay, where=where)
        new = PastSpec("is_new", by[:1], value=named)
        features = FeatureSet("any", [spec, new])
    except InputError:
        assume(False)
    table = features.describe()
    moved = pd.DataFrame([[1.0, 0.5, -3.0]], columns=[*table["column"], "base"])
    values = pd.DataFrame([[2.0, 1.0]], columns=table["column"])
    assert table[["label", "group", "label_zh", "group_zh"]].map(bool).all(axis=None)
    assert table["meaning"].str.endswith(".").all()
    assert table["meaning_zh"].str.endswith("。").all()
    for lang, template in zip(("en", "zh"), TEMPLATES):
        assert (table[template].str.count(re.escape("{value}")) == (table["kind"] != "flag")).all()
        [said] = reasons(moved, values, table, lang=lang)
        assert said
        assert not any(set("[]{}") & set(sentence) for sentence in said)
