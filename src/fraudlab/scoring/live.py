"""Payments that come in one by one: each scored once, none lost, also when the process is killed at any moment.

Events come in groups. A group is written to the journal, then applied, then answered; what is applied depends on the
group and the state alone, so that a journal that is read again leaves the same state and gives the same answers.

- repeated: the id is remembered as long as its label may come in; a payment that comes again changes nothing.
- late: a payment that lies before the newest one is scored and remembered as if it happened a microsecond after that
  one, so that it counts from now on and nothing that was answered changes. Beyond `MAX_LATE` it is not scored.
- labels: an event `{"label": {"transaction_id", "is_fraud", "label_time"}}` counts from its label_time on.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab.config import Workspace
from fraudlab.features.online import EPOCH, OnlineState
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.journal import Journal
from fraudlab.privacy.keys import open_keys
from fraudlab.schema import InputError
from fraudlab.scoring import rights as noticing
from fraudlab.scoring.door import Door
from fraudlab.scoring.scorer import Deployed, Scored, Scorer, learn, load_history, open_door

MAX_LATE = dt.timedelta(days=1)
SNAPSHOT_EVERY = 50_000
"""Payments between two snapshots: reading so many again takes about half a minute."""
SNAPSHOT_AFTER = 86_400.0
"""Seconds after which the next payment brings a snapshot, however few there were: an erasure waits no longer."""
KINDS = ("scored", "repeated", "late", "too_late", "refused", "labels", "labels_unknown")
_STEP = dt.timedelta(microseconds=1)


@dataclass(frozen=True)
class Answer:
    """What became of one event: its number (of all ever seen), a word of `KINDS` and, where scored, the result."""

    number: int
    kind: str
    scored: Scored | None = None
    said: str = ""


class Live:
    """A scorer for events, with the journal that it goes on from.

    Parameters
    ----------
    model : what is at work.
    scorer, door : of this model and its data set.
    journal : open; None keeps nothing beyond the process.
    facts : of the snapshot that the scorer's state comes from: counts, position, ledger.
    rights : asked before each snapshot who may no longer be remembered.
    """

    def __init__(
        self,
        model: Deployed,
        scorer: Scorer,
        door: Door,
        journal: Journal | None = None,
        facts: Mapping[str, Any] | None = None,
        rights: Rights | None = None,
    ) -> None:
        facts = facts or {}
        self.model = model
        self.scorer = scorer
        self.door = door
        self.journal = journal
        self.rights = rights
        self.counts: Counter[str] = Counter(facts.get("counts", {}))
        self.number = int(facts.get("number", 0))
        self.position: Any = facts.get("position")
        self._since_snapshot = 0
        self._last_snapshot = time.monotonic()

    def take(
        self,
        events: Iterable[Mapping[str, Any]],
        *,
        position: Any = None,
        now: dt.datetime | None = None,
        sync: bool = True,
    ) -> list[Answer]:
        """Journal, apply and answer a group of raw events, in their order.

        Parameters
        ----------
        events : transactions as the source gives them, or labels.
        position : where the source is to go on after this group.
        now : the clock, against which event times are held.
        sync : the group is on the disk before it is applied; false leaves that to the system.

        Returns
        -------
        An answer for each event. What breaks the contract is refused with a sentence and changes nothing.
        """
        return self.commit([self.treat(event, now) for event in events], position=position, sync=sync)

    def commit(self, treated: list[dict[str, Any]], *, position: Any = None, sync: bool = True) -> list[Answer]:
        """As `take`, for events that `treat` has returned."""
        group = {"events": treated, "position": position}
        if self.journal is not None:
            self.journal.append(json.dumps(group, default=_plain, ensure_ascii=False).encode(), sync=sync)
        answers = self.apply(group)
        if self._since_snapshot >= SNAPSHOT_EVERY or time.monotonic() - self._last_snapshot >= SNAPSHOT_AFTER:
            self.snapshot(beside=True)
        return answers

    def apply(self, group: Mapping[str, Any]) -> list[Answer]:
        """Apply a group that is in the journal."""
        answers = [self._applied(event) for event in group["events"]]
        if group["position"] is not None:
            self.position = group["position"]
        return answers

    def snapshot(self, *, beside: bool = False) -> None:
        """Keep the state and begin a new journal; who may no longer be remembered is let go of first.

        Parameters
        ----------
        beside : payments go on while another thread writes; not where somebody was let go of.
        """
        if self.journal is None or (beside and self.journal.keeping):
            return
        state = self.scorer.state
        if self.rights is not None:
            self.scorer.state = self.rights.heeded(state)
        facts = {
            "ledger": 0 if self.rights is None else self.rights.seen,
            "model": self.model.name,
            "version": self.model.version,
            "dataset": self.model.dataset,
            "features": self.model.package.feature_set.digest,
            "counts": dict(self.counts),
            "number": self.number,
            "position": self.position,
        }
        if beside and self.scorer.state is state:
            self.journal.snapshot_beside(facts, state.frozen())
        else:
            self.journal.snapshot(facts, self.scorer.state.to_bytes())
        self._since_snapshot = 0
        self._last_snapshot = time.monotonic()

    def treat(self, event: Mapping[str, Any], now: dt.datetime | None = None) -> dict[str, Any]:
        """Return an event as the journal keeps it: {"payment": ...}, {"label": ...} or {"refused": sentence}."""
        try:
            if not isinstance(event, Mapping):
                raise InputError(
                    f"{self.door.where}: an event must be an object with names; found another kind of value"
                )
            if set(event) == {"label"}:
                return {"label": self._label(event["label"])}
            return {"payment": self.door.one(event, now=now)}
        except InputError as refused:
            return {"refused": str(refused)}

    def _label(self, given: Any) -> list[Any]:
        where = f"{self.door.where}: a label"
        names = {"transaction_id", "is_fraud", "label_time"}
        if not isinstance(given, Mapping) or set(given) != names:
            raise InputError(f"{where} must have {', '.join(sorted(names))} and nothing else; correct it")
        if not isinstance(given["is_fraud"], bool):
            raise InputError(f"{where}'s is_fraud must be true or false; correct it")
        try:
            moment = pd.Timestamp(given["label_time"])
        except (ValueError, TypeError):
            moment = pd.NaT
        if moment is pd.NaT or moment.tzinfo is None:
            raise InputError(f"{where}'s label_time must be a moment with a time zone; correct it")
        return [given["transaction_id"], given["is_fraud"], moment.tz_convert("UTC").isoformat()]

    def _applied(self, event: Mapping[str, Any]) -> Answer:
        self.number += 1
        self._since_snapshot += 1
        answer = self._answer(event)
        self.counts[answer.kind] += 1
        if answer.scored is not None:
            self.counts["alerts"] += answer.scored.alert
            self.counts[f"tier {answer.scored.tier}"] += 1
            if answer.kind == "late":
                self.counts["scored"] += 1
        return answer

    def _answer(self, event: Mapping[str, Any]) -> Answer:
        state = self.scorer.state
        if "refused" in event:
            return Answer(self.number, "refused", said=event["refused"])
        if "label" in event:
            name, is_fraud, moment = event["label"]
            known = state.label(name, is_fraud, pd.Timestamp(moment))
            return Answer(self.number, "labels" if known else "labels_unknown")
        payment = dict(event["payment"])
        moment = payment["event_time"]
        if isinstance(moment, str):
            moment = payment["event_time"] = dt.datetime.fromisoformat(moment)
        name = payment["transaction_id"]
        if name in state.recent:
            return Answer(self.number, "repeated")
        moved = None
        if state.last is not None and ((moment - EPOCH) // _STEP, name) <= state.last:
            newest = EPOCH + dt.timedelta(microseconds=state.last[0])
            if newest - moment > MAX_LATE:
                return Answer(self.number, "too_late")
            moved = payment | {"event_time": newest + _STEP}
        try:
            scored = self.scorer.one(payment, late=moved is not None, moved=moved)
        except InputError as refused:
            return Answer(self.number, "refused", said=str(refused))
        return Answer(self.number, "scored" if moved is None else "late", scored)


def _plain(value: Any) -> str:
    return value.isoformat()


def state_folder(workspace: Workspace, name: str) -> Path:
    """Return where the state of a model's live scoring is kept, sealed."""
    return workspace.root / "data" / "scoring" / name


def open_live(
    workspace: Workspace,
    model: Deployed,
    *,
    fresh: bool = False,
    ahead: dt.timedelta | None = dt.timedelta(minutes=10),
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Live, list[Answer]]:
    """Open a model's live scoring where it ended, or begin it from the vault's history.

    Parameters
    ----------
    fresh : forget what is kept and learn from the vault; needed after its key or its files are lost.
    ahead : as for `Door`.
    say : is told what is done.

    Returns
    -------
    (live, answers): answers to the events since the last snapshot, given again by reading the journal; whoever got
    them already knows by their numbers. The journal begins anew with a snapshot; the caller closes it.

    Raises
    ------
    InUseError : another process scores with the state.
    KeyUnavailableError, DamagedError : what is kept cannot be read; and as `Door`, `load_history`.
    """
    journal = Journal(state_folder(workspace, model.name), open_keys(workspace))
    try:
        door = open_door(workspace, model, ahead=ahead)
        rights = Rights(workspace, model, say)
        if fresh:
            journal.clear()
        kept = journal.recover()
        if kept is not None and (kept[0]["features"], kept[0]["dataset"]) != (
            model.package.feature_set.digest,
            model.dataset,
        ):
            say("the model has other features than the state: learning anew from the vault")
            kept = (kept[0], b"", [])
        if kept is not None and kept[1]:
            facts, data, groups = kept
            rights.seen = int(facts["ledger"])
            try:
                state = OnlineState.from_bytes(data)
            except InputError as error:  # an older version of fraudlab wrote it
                raise InputError(f"{error}: start with --fresh") from None
            state.remembers = True
            _log(workspace, model, state)
        else:
            facts, groups = ({} if kept is None else kept[0]), []
            rights.seen = rights.newest()
            state = learn(model.package, load_history(workspace, model), say=say)
        live = Live(model, Scorer(model.package, state), door, journal, facts, rights)
        answers = [answer for group in groups for answer in live.apply(json.loads(group))]
        if answers:
            say(f"{len(answers):,} events since the last snapshot were read again")
        live.snapshot()
    except BaseException:
        journal.close()
        raise
    return live, answers


def _log(workspace: Workspace, model: Deployed, state: OnlineState) -> None:
    """Enter the opening of a kept state into the audit log, where there is one: it holds customers' payments."""
    log = audit_log(workspace)
    if log.path.exists():
        log.append("load", dataset=model.dataset, purpose="live scoring", rows=state.count, columns=len(state.columns))


class Rights:
    """Notices customers of a state about whom the ledger has heard something since it was learnt."""

    def __init__(self, workspace: Workspace, model: Deployed, say: Callable[[str], None]) -> None:
        self.workspace, self.model, self.say = workspace, model, say
        self.seen = 0

    def newest(self) -> int:
        """Return the number of the ledger's newest event."""
        return noticing.heard_of(Ledger(self.workspace.ledger), 0)[0]

    def heeded(self, state: OnlineState) -> OnlineState:
        """Return the state; learnt anew from what the vault may show where a customer in it was heard of since."""
        self.seen, customers = noticing.heard_of(Ledger(self.workspace.ledger), self.seen)
        if not noticing.concerns(state, customers):
            return state
        self.say("a customer's rights changed: learning anew from the vault")
        return learn(self.model.package, load_history(self.workspace, self.model), say=self.say)
