"""The live page and the figures for Prometheus: right, about nobody, shut to strangers, and new without a reload."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fraudlab import monitoring
from fraudlab.dashboard import AtWork, pages_of, served
from fraudlab.dashboard.lights import live_lights
from fraudlab.dashboard.page import live_page
from fraudlab.privacy.auditlog import audit_log
from fraudlab.reasons import Reason
from fraudlab.report.language import speaking
from fraudlab.schema import InputError
from fraudlab.scoring.figures import Figures
from fraudlab.scoring.live import Answer
from fraudlab.scoring.scorer import Scored
from fraudlab.scoring.stream import Piped

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
NOW = 1_800_000_000.0
TOKEN = "a-token-of-some-length-123"
CODE, NAME, EXACT = "9f8e7d6c5b4a39281706f5e4d3c2b1a0", "pay-000042-raw", 1234.56
USUAL = {"breaks": [0.2, 0.4, 0.6, 0.8], "counts": [1000] * 5, "alerted": 0.2}
REPORT = {
    "facts": {"until": "2027-01-14T00:00:00+00:00", "scored_lately": USUAL},
    "lights": [
        {"topic": "volume", "light": "green", "days": 40},
        {"topic": "age", "light": "red", "days": 200, "most": 180},
    ],
}


def answer(number, score=0.1, *, alert=False):
    payment = {"transaction_id": NAME, "customer_id": CODE, "amount": EXACT}
    tier, action = ("high", "manual_review") if alert else ("low", "approve")
    when = pd.Timestamp("2027-01-15T07:59:58Z").to_pydatetime()
    return Answer(number, "scored", Scored(NAME, when, score, 0.2, tier, action, (), np.zeros(2), payment))


def told(number):
    return {number: [Reason("R02", "pace", f"3 payments of {EXACT}", "x", 1.0), Reason("R90", "v14", "", "y", 0.5)]}


def at_work(figures, *, report=REPORT, missing=None, rows=1_000):
    words = pd.DataFrame({"group": ["pace", "v14"], "group_zh": ["交易频率", "v14"]})
    package = SimpleNamespace(
        describe=words,
        thresholds=SimpleNamespace(review=0.8),
        facts={"learnt_until": "2027-01-01T00:00:00+00:00"},
    )
    model = SimpleNamespace(name="demo", version="3", dataset="demo", package=package)
    door = SimpleNamespace(counts=SimpleNamespace(missing=missing or {}, rows=rows))
    journal = SimpleNamespace(kept_at=NOW - 600)
    return AtWork(SimpleNamespace(model=model, door=door, journal=journal), figures, lambda: report)


@pytest.fixture
def figures():
    """An hour of payments: as usual in their scores, forty alerts among two thousand."""
    figures = Figures(NOW - 3_600)
    for number in range(2_000):
        alert = number % 50 == 0
        score = (number % 100) / 100
        figures.note([answer(number, score, alert=alert)], 0.0004, now=NOW - 3_500 + number, reasons=told(number))
    return figures


def ask(address, path="/", *, method="GET", body=None, headers=None):
    host = re.sub(r"^http://|/$", "", address)
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request(method, path, body, headers or {})
    found = connection.getresponse()
    text = found.read().decode()
    connection.close()
    return found.status, text, dict(found.getheaders())


@contextmanager
def page(work, **settings):
    with served(pages_of(work, clock=lambda: NOW), **settings) as address:
        yield address


def test_the_page_says_what_was_counted_in_either_language(figures):
    with page(at_work(figures)) as address:
        status, english, headers = ask(address)
        _, chinese, _ = ask(address, "/?lang=zh")
        _, other, _ = ask(address, "/?lang=tlh")
        assert status == 200
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self'")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert ask(address, "/live.css")[0] == ask(address, "/live.js")[0] == 200
        assert ask(address, "/live.html.j2")[0] == ask(address, "/../live.js")[0] == 404
        assert ask(address, "/score", method="POST", body=b"{}")[0] == 404
    with page(at_work(figures, report={"facts": {}, "lights": [{"light": "red"}]})) as address:
        assert ask(address)[:2] == (500, '{"error": "the page could not be written; the scorer goes on"}')
        assert ask(address, "/metrics")[0] == 200
    assert "2,000 within the hour" in english
    assert "40 within the hour, one payment in 50" in english
    assert "Stability index 0.00 over the newest 2,000 scores." in english
    assert "20.0 % of the newest 2,000 payments; lately 20.0 %." in english
    assert "200 days; 180 are allowed." in english
    assert "red: act" in english.split("</header>")[0], "the worst light stands above"
    assert "<li>Pace</li><li>V14</li>" in english
    assert "交易频率" in chinese
    assert 'lang="zh-Hans"' in chinese
    assert other == english
    inline = re.findall(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=\"live\.js\"></script>)", english)
    assert not inline, "the policy would refuse it"


def test_every_state_of_the_page_has_its_words():
    for report in (REPORT, None, {"facts": {"until": REPORT["facts"]["until"]}, "lights": []}):
        for missing in ({}, {"place": 900}):
            for count in (0, 10, 500):
                figures = Figures(NOW)
                for number in range(count):
                    figures.note([answer(number, 0.99, alert=True)], 0.001, now=NOW)
                figures.refuse(count // 5, now=NOW)
                work = at_work(figures, report=report, missing=missing)
                for lang in ("en", "zh"):
                    with speaking(lang) as untold:
                        text = live_page(*work.told(NOW), words=work.live.model.package.describe, lang=lang)
                    assert not untold
                    assert ("place" in text) == bool(missing and count)


def test_nobody_is_on_the_page_or_in_the_metrics(figures):
    with page(at_work(figures)) as address:
        texts = [ask(address, path)[1] for path in ("/", "/?lang=zh", "/metrics")]
    for secret in (CODE, CODE[:8], NAME, "1234.56", "1,234.56", "3 payments"):
        assert not any(secret in text for text in texts), secret
    assert "1,000 to 5,000" in texts[0], "the band stands for the amount"
    assert "07:59:58" not in texts[0]
    labels = set(re.findall(r"(\w+)=\"", texts[2]))
    assert labels == {"name", "version", "dataset", "kind", "tier", "action", "le", "topic", "fraudlab_light"}


def test_prometheus_reads_the_figures_by_its_own_parser(figures):
    with page(at_work(figures, missing={"place": 7})) as address:
        status, text, headers = ask(address, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=1.0.0; charset=utf-8")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    value = {(s.name, *sorted(s.labels.values())): s.value for family in families.values() for s in family.samples}
    assert value["fraudlab_events_total", "scored"] == value["fraudlab_payments_total", "low"] + 40 == 2_000
    assert value["fraudlab_events_total", "refused"] == 0, "what did not happen is 0, not absent"
    assert value["fraudlab_alerts_total", "manual_review"] == 40
    assert value["fraudlab_missing_columns_total", "place"] == 7
    assert value["fraudlab_light", "green", "scores"] == 1
    assert value["fraudlab_light", "red", "scores"] == 0
    assert value["fraudlab_last_payment_timestamp_seconds",] == NOW - 1_501
    assert value["fraudlab_snapshot_timestamp_seconds",] == NOW - 600
    buckets = [s.value for s in families["fraudlab_scoring_duration_seconds"].samples if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert value["fraudlab_scoring_duration_seconds_bucket", "0.0002"] == 0
    assert value["fraudlab_scoring_duration_seconds_bucket", "0.0005"] == buckets[-1] == 2_000
    assert value["fraudlab_scoring_duration_seconds_sum",] == pytest.approx(0.8)
    rules = yaml.safe_load((DEPLOY / "fraudlab.rules.yml").read_text(encoding="utf-8"))
    named = set(re.findall(r"fraudlab_[a-z_]+", " ".join(rule["expr"] for rule in rules["groups"][0]["rules"])))
    assert named - {"fraudlab_light"} <= {name for name, *_ in value}
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
    assert scraped["rule_files"] == ["fraudlab.rules.yml"]
    for name, family in families.items():
        assert re.fullmatch("[a-z][a-z_]*", name)
        assert family.documentation.endswith(".") or name.startswith("process")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)


def test_lights_change_at_their_limits():
    def lights(scores, *, refused=0, missing=None, usual=USUAL):
        figures = Figures(NOW)
        for number, score in enumerate(scores):
            figures.note([answer(number, score)], 0.001, now=NOW)
        figures.refuse(refused, now=NOW)
        found = live_lights(figures.read(NOW), usual=usual, review=0.8, rows=len(scores), missing=missing or {})
        return [light["light"] for light in found]

    calm = [(number % 100 + 0.5) / 100 for number in range(1_000)]
    assert lights(calm) == ["green", "green", "green"]
    assert lights(calm[:199]) == ["grey", "grey", "green"]
    assert lights(calm, usual={}) == ["grey", "grey", "green"]
    assert lights(calm, usual=USUAL | {"alerted": None}) == ["green", "grey", "green"]
    assert lights([]) == ["grey", "grey", "grey"]
    # By hand: of five classes of .2 two become .067 and .333, an index of .133 (ln 3 + ln 1.667) = .214.
    moved = [0.3] * 133 + [0.1] * 67 + [0.3] * 200 + [0.5] * 200 + [0.7] * 200 + [0.9] * 200
    assert lights(moved)[0] == "amber"
    assert lights([0.9] * 1_000)[:2] == ["red", "red"]
    few = [0.1] * 770 + [0.9] * 230  # 23 % against 20 %: 2.1 standard deviations
    assert lights(few)[1] == "green"
    assert lights([0.1] * 745 + [0.9] * 255)[1] == "amber"  # 3.8
    assert lights([0.1] * 700 + [0.9] * 300)[1] == "red"  # 6.7
    assert lights(calm, refused=10)[2] == "green"  # 0.99 %
    assert lights(calm, refused=11)[2] == "amber"
    assert lights(calm, refused=112)[2] == "red"
    assert lights(calm, missing={"place": 499})[2] == "green"
    assert lights(calm, missing={"place": 500})[2] == "amber"


def test_strangers_do_not_see_the_page(figures):
    with page(at_work(figures)) as address:
        port = address.rsplit(":", 1)[1].strip("/")
        for host, status in ((f"localhost:{port}", 200), (f"[::1]:{port}", 200), ("evil.example", 421), ("", 421)):
            assert ask(address, headers={"Host": host})[0] == status, host
    word = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    with page(at_work(figures), token=TOKEN) as address:
        status, _, headers = ask(address)
        assert (status, headers["WWW-Authenticate"].split()[0]) == (401, "Basic")
        for given in (f"Basic {word}", f"Bearer {TOKEN}"):
            assert ask(address, "/metrics", headers={"Authorization": given})[0] == 200
        for given in ("Basic %%%", "Basic " + base64.b64encode(b"no").decode(), f"Basic {TOKEN}"):
            assert ask(address, headers={"Authorization": given})[0] == 401
        assert ask(address, "/score", method="POST", body=b"{}", headers={"Authorization": f"Basic {word}"})[0] == 401
    for settings in ({"host": "0.0.0.0"}, {"host": "0.0.0.0", "token": TOKEN}):
        with pytest.raises(InputError, match="host: beyond this machine the service needs"), page(None, **settings):
            pass
    with (
        page(at_work(figures)) as address,
        pytest.raises(InputError, match=r"^port: \d+ cannot be listened on \(.+\); name another, or 0 for a free one$"),
        page(at_work(figures), port=int(address.rsplit(":", 1)[1].strip("/"))),
    ):
        pass


def test_the_newest_report_of_this_version_alone_is_read(tmp_path):
    workspace = SimpleNamespace(reports=tmp_path)
    path = tmp_path / "demo.monitoring.json"
    assert monitoring.newest(workspace, "demo", "3") is None
    path.write_text(json.dumps({"facts": {"version": "3"}, "lights": [], "tables": {"big": [1]}}))
    assert monitoring.newest(workspace, "demo", "3") == {"facts": {"version": "3"}, "lights": []}
    assert monitoring.newest(workspace, "demo", "4") is None
    path.write_text("{ torn")
    assert monitoring.newest(workspace, "demo", "3") is None


def test_a_pipe_gives_whole_lines_however_they_come_in():
    out, into = os.pipe()
    with open(out, "rb") as pipe, open(into, "wb", buffering=0) as source:
        groups = Piped(pipe).groups(threading.Event())
        source.write(b'{"a": 1}\n{"b"')
        assert next(groups)[0] == [b'{"a": 1}\n']
        source.write(b': 2}\n\n{"c": 3}')
        source.close()
        assert [line for lines, _ in groups for line in lines] == [b'{"b": 2}\n', b"\n", b'{"c": 3}']


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture
def chromium():
    pytest.importorskip("playwright", reason="needs playwright and axe-playwright-python")
    pytest.importorskip("axe_playwright_python", reason="needs playwright and axe-playwright-python")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.slow
def test_a_browser_shows_a_new_alert_without_a_reload_and_says_when_the_scorer_is_gone(figures, chromium):
    from importlib.resources import files

    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    clock = SimpleNamespace(now=NOW)
    errors, asked, number = [], set(), 5_000
    with served(pages_of(at_work(figures), clock=lambda: clock.now)) as address:
        for scheme in ("light", "dark"):
            for width in (1280, 400):
                for lang in ("en", "zh"):
                    view = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
                    context = chromium.new_context(**view, reduced_motion="reduce", bypass_csp=False)
                    tab = context.new_page()
                    tab.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
                    tab.on("pageerror", lambda error: errors.append(str(error)))
                    tab.on("request", lambda request: asked.add(request.url.split("?")[0].removeprefix(address)))
                    tab.goto(f"{address}?lang={lang}")
                    tab.evaluate("window.mark = 1")
                    number, clock.now = number + 1, clock.now + 5
                    figures.note([answer(number, 0.9, alert=True)], 0.001, now=clock.now, reasons=told(number))
                    began = time.monotonic()
                    tab.get_by_role("rowheader", name=f"{number:,}").wait_for(timeout=5_000)
                    assert time.monotonic() - began < 2
                    assert tab.evaluate("window.mark") == 1, "it was loaded again"
                    over = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                    assert over <= 0
                    tab.evaluate(axe)
                    levels = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
                    run = "tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})"
                    violations = tab.evaluate(run, levels)["violations"]
                    assert [(each["id"], each["nodes"][0]["target"]) for each in violations] == []
                    context.close()
        assert asked <= {"", "live.css", "live.js"}
        # Who holds the page still, it stays; who runs no script, loads it again.
        tab = chromium.new_page()
        tab.goto(address)
        tab.get_by_role("button", name="Pause").click()
        time.sleep(1.2)  # one that was under way
        number, clock.now = number + 1, clock.now + 5
        figures.note([answer(number, 0.9, alert=True)], 0.001, now=clock.now)
        time.sleep(2)
        assert tab.get_by_role("rowheader", name=f"{number:,}").count() == 0
        tab.get_by_role("button", name="Go on").click()
        tab.get_by_role("rowheader", name=f"{number:,}").wait_for(timeout=5_000)
        plain = chromium.new_context(java_script_enabled=False).new_page()
        plain.goto(address)
        assert plain.locator("noscript p").is_visible()
        assert plain.get_by_role("button").count() == 0
        assert errors == []
        tab.context.set_offline(True)
        tab.get_by_text("No answer from the scorer. The figures are old.").wait_for(timeout=15_000)
        tab.context.set_offline(False)
        tab.get_by_text("No answer from the scorer. The figures are old.").wait_for(state="hidden", timeout=15_000)


@pytest.mark.slow
def test_the_monitor_serves_its_page_until_it_is_told_to_stop(workspace, lines, tmp_path):
    command = [sys.executable, "-m", "fraudlab.cli", "monitor", "--replay", "--dashboard", "--dashboard-port", "0"]
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "alerts.jsonl")], stdin=subprocess.PIPE, stdout=log, stderr=log
    )
    try:
        until = time.monotonic() + 240
        while not (found := re.search(r"Live page: (http://\S+)", (tmp_path / "log").read_text())):
            assert time.monotonic() < until
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        process.stdin.flush()
        while f"{len(lines):,} within the hour" not in (text := ask(found[1])[1]):
            assert time.monotonic() < until
            time.sleep(0.2)
        alerts = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
        assert alerts
        assert f">{alerts[-1]['number']:,}</th>" in text
        raw = [json.loads(line) for line in lines]
        metrics = ask(found[1], "/metrics")[1]
        for name in ("payment_id", "customer_ref", "card_number"):
            assert not any(str(row[name]) in text + metrics for row in raw)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, "a pipe that is still open is no reason to fail"
    finally:
        process.kill()
    assert "live page" in str(audit_log(workspace).entries().tail(3).to_dict())
