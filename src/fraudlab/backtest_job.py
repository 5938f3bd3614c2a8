"""A backtest from a config to its page: the dates, the walk, the evidence, and what is left behind.

Nothing is registered and no alias moves. The models of a walk serve it alone and are removed at its end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab import backtesting as bt
from fraudlab import looks
from fraudlab.backtesting.policies import DAY
from fraudlab.config import RunConfig, Workspace, config_digest, digest_of
from fraudlab.datasets.reviewed import data_digest
from fraudlab.made_from import code_digest
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.disclosure import protected
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.report.backtest import backtest_page
from fraudlab.report.making import signer_of
from fraudlab.report.sealing import seal
from fraudlab.runs import BusyError, write_whole
from fraudlab.schema import InputError, utc


@dataclass(frozen=True, eq=False)
class Done:
    """A finished backtest: its facts, its evidence as it may leave, and its page."""

    facts: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    page: Path


def moment(text: str, option: str) -> pd.Timestamp | None:
    """Read a day such as 2026-06-01 as its midnight, UTC; empty is none.

    >>> moment("2026-06-01", "--from"), moment("", "--from")
    (Timestamp('2026-06-01 00:00:00+0000', tz='UTC'), None)
    """
    if not text:
        return None
    try:
        found = pd.Timestamp(text)
    except ValueError:
        found = pd.NaT
    if found is pd.NaT or found.tzinfo is not None or found != found.floor("D"):
        raise InputError(f"{option}: must be a day such as 2026-06-01 (its midnight, UTC); found '{text}'; correct it")
    return utc(found.tz_localize("UTC"), option)


def backtest(
    config: RunConfig,
    workspace: Workspace,
    *,
    project: Path,
    policies: Sequence[str] = bt.DEFAULT,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
    step: int = 7,
    jobs: int = 1,
    n_boot: int = 500,
    keep: bool = False,
    out: Path | None = None,
    marks: Sequence[tuple[pd.Timestamp, str]] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Done:
    """Walk through what the vault holds as if it were live, and write what each policy would have brought.

    Parameters
    ----------
    project : whose code makes the models; a walk goes on only with models of the same code, config and data.
    policies : names for `backtesting.policies_of`.
    start, end : midnight, UTC; default: the first day at which a model can be made, the last whose labels are mature.
    step, jobs : as in `backtesting.walk`.
    keep : leave the models in the folder, so that other policies over the same days begin with them.
    out : where the page goes; default: reports/backtests/NAME.html.
    marks : moments named in the picture.
    tell : is told how far it is.

    Returns
    -------
    The evidence lies in runs/NAME/evidence, whole or not at all; the page is written last.

    Raises
    ------
    InputError : dates, policies or data break a rule.
    BusyError : the same backtest is going on.
    """
    began = time.perf_counter()
    chosen = bt.policies_of(policies, step)
    digests = {
        "config": config_digest(config),
        "data": data_digest(Vault(workspace.vault, open_keys(workspace)), config.dataset.name),
        "code": code_digest(project),
        "ledger": Ledger(workspace.ledger).digest(config.purpose),
    }
    name = f"{config.name}-backtest-{digest_of(digests)[:10]}"
    folder = workspace.runs / name
    with _alone(folder):
        for other in workspace.runs.glob(f"{config.name}-backtest-*/models"):
            if other.parent != folder:  # of another config, code or data, left by a walk that was cut off
                shutil.rmtree(other, ignore_errors=True)
        tell("loading the payments and computing their features")
        world = bt.load_world(config, workspace)
        start, end = start or bt.first_date(world), end or bt.last_date(world)
        dates = sorted({date for policy in chosen for date in policy.dates(start, end)})
        world = bt.with_revised(world, workspace, dates)
        loaded = time.perf_counter()
        walked = bt.walk(world, chosen, start, end, step=step, folder=folder / "models", jobs=jobs, tell=tell)
        made = time.perf_counter()
        tell("judging what the champions would have found")
        scored = bt.score_walk(world, walked)
        tables = bt.judge(world, walked, scored, n_boot=n_boot)
        tables["backtest_estimates"] = bt.measured(world, walked, scored)
        judged = time.perf_counter()
        payments = world.transactions["event_time"]
        facts = {
            "name": name,
            "config": config.name,
            "dataset": config.dataset.name,
            "from": f"{start:%Y-%m-%d}",
            "to": f"{end:%Y-%m-%d}",
            "every_days": step,
            "policies": {policy.name: policy.said() for policy in chosen},
            "alerts_per_day": config.decision.alerts_per_day,
            "models": len(dates),
            "payments": len(payments),
            "payments_judged": int(((payments >= start) & (payments < end)).sum()),
            "digests": digests,
            "jobs": jobs,
            "said": bt.decided(tables),
            "seconds": {
                "load": round(loaded - began, 1),
                "walk": round(made - loaded, 1),
                "judge": round(judged - made, 1),
            },
        }
        tables = {key: protected(key, table) for key, table in tables.items()}
        _write_evidence(folder, tables, facts)
        _note(workspace, config, facts, tables, start, end)
        html = backtest_page(tables, facts, end=end, marks=marks)
        signer, _ = signer_of(workspace)
        page = out or workspace.reports / "backtests" / f"{name}.html"
        write_whole(page, html if signer is None else seal(html, signer))
        if not keep:
            shutil.rmtree(folder / "models", ignore_errors=True)
    return Done(facts, tables, page)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a backtest's folder; a second one of the same name gets `BusyError` at once."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError("this backtest is running already; wait for it") from None
        yield


def _write_evidence(folder: Path, tables: dict[str, pd.DataFrame], facts: dict[str, Any]) -> None:
    """Write tables and facts under another name and put them in place of what an earlier walk left."""
    import json

    target, made, old = folder / "evidence", folder / ".evidence", folder / ".before"
    for left in (made, old):
        shutil.rmtree(left, ignore_errors=True)
    for name, table in tables.items():
        write_whole(made / f"{name}.csv", table.to_csv(index=False))
    write_whole(made / "backtest.json", json.dumps(facts, indent=2) + "\n")
    if target.is_dir():
        os.rename(target, old)
    os.rename(made, target)
    shutil.rmtree(old, ignore_errors=True)


def _note(
    workspace: Workspace,
    config: RunConfig,
    facts: dict[str, Any],
    tables: dict[str, pd.DataFrame],
    start: pd.Timestamp,
    end: pd.Timestamp,
) -> None:
    """Note that these days were looked at, as any look at a test, and enter the walk into the audit log."""
    over_all = tables["backtest_precision"]
    over_all = over_all[(over_all["period"] == "all") & (over_all["against"] == "")].iloc[0]
    looks.record(
        workspace.runs / "test_looks.jsonl",
        run=facts["name"],
        dataset=facts["dataset"],
        data_digest=facts["digests"]["data"],
        config_digest=facts["digests"]["config"],
        test_start=start,
        test_end=end,
        model=f"{config.model.kind}, backtest",
        result={"card_precision_at_k": over_all["value"]},
    )
    log = audit_log(workspace)
    if log.path.exists():
        log.append(
            "train",
            what="backtest",
            run=facts["name"],
            dataset=facts["dataset"],
            purpose=config.purpose,
            models=facts["models"],
            days=int((end - start) / DAY),
            policies=list(facts["policies"]),
        )
