"""The section [notify] of a run's config: who hears of a retraining, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fraudlab.decision_config import Frozen


class NotifyConfig(Frozen):
    """Who hears of a retraining; a message file beside the run is written always. Secrets come by the environment."""

    on: Literal["always", "change", "failure"] = Field("always", description="change: another champion, or a failure")
    email_to: tuple[str, ...] = Field((), description="addresses; user and password: FRAUDLAB_SMTP_USER, ..._PASSWORD")
    email_from: str = Field("", description="the sender's address")
    smtp: str = Field("", pattern=r"^([\w.-]+:\d{1,5})?$", description="the mail server, host:port")
    tls: Literal["starttls", "tls", "none"] = Field("starttls", description="none: only for a server on this machine")
    webhook: str = Field("", description="https address that gets the message as JSON; token: FRAUDLAB_WEBHOOK_TOKEN")
    ca_file: str | None = Field(None, description="certificates to trust, where the servers' own are not well known")

    @model_validator(mode="after")
    def _mail_is_complete(self) -> NotifyConfig:
        given = [bool(self.email_to), bool(self.email_from), bool(self.smtp)]
        if any(given) and not all(given):
            raise ValueError("notify.email_to, email_from and smtp belong together; state all three or none")
        return self
