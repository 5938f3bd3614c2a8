"""A second factor: six digits from an authenticator app, asked for before a customer's identity is shown.

Secret, last code used, wrong tries and lock lie in one file per account beside the keys (0600), sealed as a whole with
AES-256-GCM under the key `second-factor`: without that key they can be neither read nor changed.

Codes are those of RFC 6238 with SHA-1, six digits and steps of 30 seconds, which every authenticator app can show.

This protects against a session left open and a stolen password. Who holds the keys and writes a program of their own
needs no code: only a key server run by another account can refuse them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyotp

from fraudlab.config import Workspace
from fraudlab.privacy.auditlog import AuditLog, audit_log
from fraudlab.privacy.keys import (
    KeyDirectory,
    Keys,
    KeyUnavailableError,
    account_name,
    open_keys,
    sync_folder,
    write_private,
)
from fraudlab.schema import FraudlabError, InputError

KEY = "second-factor"
ISSUER = "fraudlab"
STEP_SECONDS = 30
WINDOW = 1
"""How many steps the clocks of app and machine may differ."""

TRIES = 5
PERIOD_SECONDS = 15 * 60
"""So many wrong codes within this time lock the account for as long again."""

SHORTEST_REASON = 10


class SecondFactorError(FraudlabError):
    """The second factor is missing, wrong, used already or locked; nothing was shown."""


@dataclass(frozen=True)
class _State:
    secret: str
    last_step: int
    wrong: tuple[float, ...] = ()
    locked_until: float = 0.0


@dataclass(frozen=True)
class SecondFactor:
    """The second factor of one account, in the sealed file `path`; any number of processes may use it at once."""

    path: Path
    keys: Keys
    log: AuditLog

    @property
    def enrolled(self) -> bool:
        """Whether there is one."""
        return self.path.exists()

    def check(self, code: str, *, now: float | None = None) -> None:
        """Accept a code, once; when this returns, it is on the disk that the code is used up.

        Parameters
        ----------
        code : six digits; blanks between them do not count.
        now : seconds since 1970 (UTC); None: the clock's.

        Raises
        ------
        InputError : not six digits; does not count as a try.
        SecondFactorError : not enrolled; a wrong code; one used before, or older than one used before; locked, after 5
            wrong codes within 15 minutes, for 15 minutes.
        KeyUnavailableError : the key `second-factor` is not here.
        FraudlabError : the disk refused.
        """
        digits, moment = _digits(code), time.time() if now is None else now
        with self._alone():
            held = self._read()
            if held is None:
                raise SecondFactorError("second factor: none is enrolled; run: fraudlab privacy enrol")
            if moment < held.locked_until:
                raise SecondFactorError(
                    f"second factor: locked after {TRIES} wrong codes; wait {_minutes(held.locked_until - moment)}"
                )
            fitting = _fitting_steps(held.secret, digits, moment)
            if fitting and max(fitting) > held.last_step:
                self._write(replace(held, last_step=max(fitting)))
                return
            if fitting:
                raise SecondFactorError(
                    "second factor: this code, or a later one, was used already; wait for the next one"
                )
            self._write(_with_wrong_try(held, moment))
        raise SecondFactorError(
            f"second factor: the code is wrong; {TRIES} wrong ones within {_minutes(PERIOD_SECONDS)} lock this for "
            f"{_minutes(PERIOD_SECONDS)}; check the app's entry and both clocks"
        )

    def enrol(
        self,
        secret: str,
        code: str,
        *,
        old_code_checked: bool = False,
        reset_reason: str | None = None,
        now: float | None = None,
    ) -> None:
        """Keep a secret, once a code shows that an app holds it; the code is then used up.

        Parameters
        ----------
        secret : from `new_secret`.
        code : what the app shows for it.
        old_code_checked : `check` has just accepted a code of the secret that is replaced.
        reset_reason : why it is replaced without such a code, for the audit log. Wrong tries and a lock stay.

        Raises
        ------
        InputError : one is enrolled, and neither an old code nor a reason of 10 characters was given; not six digits.
        SecondFactorError : the code does not fit the secret.
        KeyUnavailableError, FraudlabError : as for `check`; or the audit log cannot be written. Nothing changed.
        """
        digits, moment = _digits(code), time.time() if now is None else now
        if reset_reason is not None:
            check_reason(reset_reason)
        with self._alone():
            held = self._held_before(reset_reason)
            if held is not None and reset_reason is None and not old_code_checked:
                raise InputError(
                    "second factor: one is enrolled already; give a code of it, or --reset with a --reason if the "
                    "device is lost"
                )
            fitting = _fitting_steps(secret, digits, moment)
            if not fitting:
                raise SecondFactorError(
                    "second factor: the code does not fit the secret shown; nothing was changed; check the clocks of "
                    "this machine and of the app, and enrol again"
                )
            event = "enrolled" if held is None else "replaced"
            if reset_reason is not None:
                event = "reset"
            self.log.append("keys", key=KEY, event=event, reason=reset_reason)
            self._write(replace(held or _State(secret, 0), secret=secret, last_step=max(fitting)))

    def _held_before(self, reset_reason: str | None) -> _State | None:
        """Return the state that a new secret replaces; a reset also replaces one that can no longer be opened."""
        try:
            return self._read()
        except KeyUnavailableError:
            if reset_reason is None:
                raise
            return None

    def _read(self) -> _State | None:
        try:
            sealed = self.path.read_bytes()
        except FileNotFoundError:
            return None
        state = json.loads(self.keys.unwrap(KEY, sealed))
        return _State(**{**state, "wrong": tuple(state["wrong"])})

    def _write(self, state: _State) -> None:
        sealed = self.keys.wrap(KEY, json.dumps(asdict(state)).encode())
        fresh = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            write_private(fresh, sealed.encode("ascii"))
            os.replace(fresh, self.path)
        finally:
            fresh.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the account's lock; say in a sentence what the disk refuses."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(self.path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600), "w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise FraudlabError(
                f"second factor: {self.path} could not be used ({error.strerror or error}); no code was accepted; "
                "make room or correct the folder's rights"
            ) from None


def second_factor(workspace: Workspace) -> SecondFactor:
    """Return the second factor of the account this process runs as."""
    path = beside_keys(workspace) / f"second-factor-{os.getuid()}.sealed"
    return SecondFactor(path, open_keys(workspace), audit_log(workspace))


def beside_keys(workspace: Workspace) -> Path:
    """Return the folder for what is kept as closely as keys: theirs, or `.keys` where a server keeps them."""
    keys = open_keys(workspace)
    return keys.path if isinstance(keys, KeyDirectory) else workspace.root / ".keys"


def new_secret() -> str:
    """Return 160 random bits as an authenticator app takes them: 32 characters of base32 (RFC 4226, section 4)."""
    return pyotp.random_base32()


def app_address(secret: str, name: str = "") -> str:
    """Return the address an authenticator app reads from a QR code; it holds the secret.

    >>> app_address("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "ann")
    'otpauth://totp/fraudlab:ann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=fraudlab'
    """
    return pyotp.TOTP(secret).provisioning_uri(name=name or account_name(os.getuid()), issuer_name=ISSUER)


def check_reason(reason: str) -> None:
    """Refuse a reason too short to tell anything."""
    if len(reason.strip()) < SHORTEST_REASON:
        raise InputError(
            f"reason: must have at least {SHORTEST_REASON} characters; found {len(reason.strip())}; say why, for "
            "whoever reads the audit log"
        )


def _digits(code: str) -> str:
    digits = "".join(code.split())
    if not re.fullmatch(r"[0-9]{6}", digits):
        raise InputError(f"code: must be six digits; found {len(digits)} characters; type what the app shows")
    return digits


def _fitting_steps(secret: str, digits: str, moment: float) -> list[int]:
    """Return the steps near a moment whose code this is; each is compared in constant time."""
    otp = pyotp.TOTP(secret, interval=STEP_SECONDS)
    around = int(moment // STEP_SECONDS)
    steps = range(max(around - WINDOW, 0), around + WINDOW + 1)
    return [step for step in steps if pyotp.utils.strings_equal(digits, otp.generate_otp(step))]


def _with_wrong_try(state: _State, moment: float) -> _State:
    wrong = (*(at for at in state.wrong if moment - at < PERIOD_SECONDS), moment)
    return replace(state, wrong=wrong, locked_until=moment + PERIOD_SECONDS if len(wrong) >= TRIES else 0.0)


def _minutes(seconds: float) -> str:
    """Return a wait in whole minutes, never too short.

    >>> _minutes(900), _minutes(1)
    ('15 minutes', '1 minute')
    """
    minutes = int(-(-seconds // 60))
    return f"{minutes} minute{'' if minutes == 1 else 's'}"
