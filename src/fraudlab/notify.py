"""The morning message about a retraining: a file always, an e-mail and a webhook where the config names them.

It holds what `evidence/` may show (figures, decision, failed checks), never a payment, a person or a path. A message
that cannot be sent never fails the retraining; what went wrong is said.
"""

from __future__ import annotations

import ipaddress
import json
import os
import smtplib
import ssl
import urllib.error
import urllib.request
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fraudlab.config import NotifyConfig
from fraudlab.privacy.masking import mask_text
from fraudlab.runs import Run, write_whole
from fraudlab.schema import InputError

SECONDS = 15
"""A server that does not answer within these is given up."""

USER, PASSWORD, TOKEN = "FRAUDLAB_SMTP_USER", "FRAUDLAB_SMTP_PASSWORD", "FRAUDLAB_WEBHOOK_TOKEN"
TOLD = ("run", "status", "error", "shadow", "as_of", "report")
FIGURES = {
    "card_precision_at_k": "precision of the daily cases",
    "money_caught_share": "share of the fraud money in them",
    "average_precision": "average precision",
    "auc_roc": "AUC ROC",
}


def summary(run: Run, seconds: float) -> dict[str, Any]:
    """Return what a finished run's message says, ready for JSON.

    Returns
    -------
    run, model, version, status (one of `decision_record.DECISIONS`), headline, figures (metric, value, low, high),
    reasons of the decision, failed (code, sentence of checks), shadow (of an earlier version, where one was looked at),
    as_of, seconds, report, next.
    """
    facts, decision, metrics = run.load_json("run"), run.load_json("decision"), run.load_table("metrics")
    ours = metrics[(metrics["model"] == facts["candidate"]) & (metrics["group"] == "all")].set_index("metric")
    figures = [
        {"metric": name} | {key: _number(ours.at[name, key]) for key in ("value", "low", "high")}
        for name in FIGURES
        if name in ours.index
    ]
    failed = [
        {"code": check["code"], "sentence": check["sentence"]}
        for check in run.load_json("checks")
        if check["result"] == "failed"
    ]
    said = decision["decision"]
    following = {
        "promoted": "read the report, then sign it off",
        "in shadow": "nothing has to be done until its days are in; read the report",
    }.get(said, "read why in the report, then decide")
    return {
        "run": run.folder.name,
        "model": run.config.name,
        "version": decision["challenger_version"],
        "status": said,
        "headline": decision["headline"],
        "figures": figures,
        "reasons": decision["reasons"],
        "failed": failed,
        "shadow": facts.get("shadow", ""),
        "as_of": facts.get("as_of"),
        "seconds": round(seconds, 1),
        "report": f"reports/{run.report.name}",
        "next": f"{following}: fraudlab report --run {run.folder.name}",
    }


def failure(model: str, step: str, error: BaseException, exit_code: int) -> dict[str, Any]:
    """Return what the message of a failed run says; what looks like an identifier in its error is masked."""
    sentence = mask_text(str(error).splitlines()[0] if str(error) else type(error).__name__)[0]
    return {
        "model": model,
        "status": "failed",
        "headline": f"The retraining of {model} failed at {step}; the champion is as it was",
        "step": step,
        "error": sentence,
        "exit_code": exit_code,
        "next": "mend what the error names, then run the same command again",
    }


def markdown(message: dict[str, Any]) -> str:
    """Return a message as Markdown, for people.

    >>> print(markdown({"headline": "demo failed", "status": "failed", "run": "demo-1", "error": "no data",
    ...                 "next": "bring the data"}))
    # demo failed
    <BLANKLINE>
    - run: demo-1
    - status: failed
    - error: no data
    <BLANKLINE>
    Next: bring the data
    <BLANKLINE>
    """
    facts = [f"- {key}: {message[key]}" for key in TOLD if message.get(key)]
    parts = [f"# {message['headline']}", "\n".join(facts)]
    if figures := message.get("figures"):
        rows = [
            f"| {FIGURES[row['metric']]} | {_said(row['value'])} | {_said(row['low'])} to {_said(row['high'])} |"
            for row in figures
        ]
        parts.append("\n".join(["| figure on the test | value | 95 % interval |", "|---|---:|---:|", *rows]))
    for title, lines in (
        ("Why", message.get("reasons", [])),
        ("Failed checks", [f"{row['code']}: {row['sentence']}" for row in message.get("failed", [])]),
    ):
        if lines:
            parts.append("\n".join([f"## {title}", "", *(f"- {line}" for line in lines)]))
    parts.append(f"Next: {message['next']}")
    return "\n\n".join(parts) + "\n"


def deliver(settings: NotifyConfig, message: dict[str, Any], folder: Path) -> list[str]:
    """Write a message as MODEL.message.json and .md, send it where `[notify]` says and return what failed.

    Parameters
    ----------
    settings : the config's section [notify].
    message : from `summary` or `failure`; the last one of each model is kept.
    folder : where the files go: the workspace's reports.
    """
    name, problems = message["model"], []
    write_whole(folder / f"{name}.message.json", json.dumps(message, indent=2) + "\n")
    write_whole(folder / f"{name}.message.md", markdown(message))
    quiet = {"always": (), "change": ("kept champion", "rejected", "in shadow", "reused")}.get(settings.on)
    if message["status"] != "failed" and (quiet is None or message["status"] in quiet):
        return problems
    for wanted, send in ((settings.email_to, send_mail), (settings.webhook, send_webhook)):
        if wanted:
            try:
                send(settings, message)
            except (OSError, smtplib.SMTPException, InputError) as error:
                problems.append(f"{send.__name__.removeprefix('send_')}: not sent: {_why(error)}")
    return problems


def send_mail(settings: NotifyConfig, message: dict[str, Any]) -> None:
    """Send a message as plain text, over TLS but for a server on this machine.

    Raises
    ------
    InputError : the server is elsewhere and `tls` is "none".
    OSError, smtplib.SMTPException : the server is not there, or refuses.
    """
    host, _, port = settings.smtp.rpartition(":")
    if settings.tls == "none" and not _is_here(host):
        raise InputError(f"notify.tls: must be starttls or tls for a server elsewhere; found none for {host}; set it")
    mail = EmailMessage()
    mail["Subject"] = f"[fraudlab] {message['headline']}"
    mail["From"], mail["To"] = settings.email_from, ", ".join(settings.email_to)
    mail.set_content(markdown(message))
    context = ssl.create_default_context(cafile=settings.ca_file)
    kind: Any = smtplib.SMTP_SSL if settings.tls == "tls" else smtplib.SMTP
    given = {"context": context} if settings.tls == "tls" else {}
    with kind(host, int(port), timeout=SECONDS, **given) as server:
        if settings.tls == "starttls":
            server.starttls(context=context)
        if user := os.environ.get(USER):
            server.login(user, os.environ.get(PASSWORD, ""))
        server.send_message(mail)


def send_webhook(settings: NotifyConfig, message: dict[str, Any]) -> None:
    """Post a message as JSON, over https but to this machine; `FRAUDLAB_WEBHOOK_TOKEN` goes along as bearer token.

    Raises
    ------
    InputError : an address elsewhere without https.
    OSError : the server is not there, or answers with an error.
    """
    address = urlsplit(settings.webhook)
    if address.scheme != "https" and not (address.scheme == "http" and _is_here(address.hostname or "")):
        raise InputError("notify.webhook: must be https unless it is on this machine; found another; correct it")
    body = json.dumps({"text": markdown(message), "message": message}).encode()
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get(TOKEN):
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(settings.webhook, data=body, headers=headers, method="POST")
    context = ssl.create_default_context(cafile=settings.ca_file) if address.scheme == "https" else None
    # A redirect would carry the token elsewhere.
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))
    with opener.open(request, timeout=SECONDS):
        pass


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _why(error: Exception) -> str:
    """Say what went wrong without what a server said: it may repeat what it was sent."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server answered {error.smtp_code}"
    return type(error).__name__ + (f" ({os.strerror(error.errno)})" if getattr(error, "errno", None) else "")


def _number(value: Any) -> float | None:
    return None if value != value else float(value)


def _said(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
