"""The second factor: codes as published, once only, five tries, sealed on disk, two processes at the same moment."""

from __future__ import annotations

import base64
import hmac
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pyotp
import pytest

from fraudlab.config import Workspace
from fraudlab.privacy.auditlog import AuditLog
from fraudlab.privacy.keys import KeyDirectory, KeyUnavailableError
from fraudlab.privacy.scan import find_planted
from fraudlab.privacy.secondfactor import SecondFactor, SecondFactorError, app_address, new_secret, second_factor
from fraudlab.schema import FraudlabError, InputError

RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
RFC_VECTORS = {  # RFC 6238, appendix B, SHA-1
    59: "94287082",
    1111111109: "07081804",
    1111111111: "14050471",
    1234567890: "89005924",
    2000000000: "69279037",
    20000000000: "65353130",
}
START = 1_800_000_000.0  # the first second of a step


def code(step: int, secret: str = RFC_SECRET) -> str:
    """RFC 4226, section 5.3, written anew."""
    digest = hmac.digest(base64.b32decode(secret), step.to_bytes(8, "big"), "sha1")
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}"


def at(moment: float) -> str:
    return code(int(moment // 30))


def wrong(moment: float) -> str:
    near = {code(int(moment // 30) + off) for off in (-1, 0, 1)}
    return next(digits for digits in ("000000", "111111", "222222", "333333") if digits not in near)


@pytest.fixture
def factor(tmp_path: Path) -> SecondFactor:
    keys = KeyDirectory(tmp_path / "keys")
    return SecondFactor(tmp_path / "keys" / "second-factor-7.sealed", keys, AuditLog(tmp_path / "audit.db", keys))


@pytest.fixture
def enrolled(factor: SecondFactor) -> SecondFactor:
    factor.enrol(RFC_SECRET, at(START - 600), now=START - 600)
    return factor


def logged(factor: SecondFactor) -> list[tuple]:
    return [(facts["event"], facts["reason"]) for facts in factor.log.entries("keys")["facts"]]


def test_the_published_vectors_are_accepted_in_turn(factor: SecondFactor) -> None:
    first, *others = RFC_VECTORS.items()
    factor.enrol(RFC_SECRET, first[1][2:], now=first[0])
    for moment, digits in others:
        assert pyotp.TOTP(RFC_SECRET, digits=8).at(moment) == digits
        assert code(moment // 30) == digits[2:]
        factor.check(digits[2:], now=moment)


@pytest.mark.parametrize("off", [-3, -2, -1, 0, 1, 2, 3])
@pytest.mark.parametrize("second", [0, 29.9])
def test_clocks_may_differ_by_one_step(enrolled: SecondFactor, off: int, second: float) -> None:
    digits = code(int(START // 30) + off)
    if abs(off) <= 1:
        enrolled.check(digits, now=START + second)
    else:
        with pytest.raises(SecondFactorError, match="the code is wrong"):
            enrolled.check(digits, now=START + second)


def test_a_code_works_once_and_none_before_it_afterwards(enrolled: SecondFactor) -> None:
    enrolled.check(f" {at(START)[:3]} {at(START)[3:]} ", now=START)
    for moment, digits in ((START, at(START)), (START + 29, at(START)), (START + 5, at(START - 30))):
        with pytest.raises(SecondFactorError, match="was used already; wait for the next one"):
            enrolled.check(digits, now=moment)
    enrolled.check(at(START + 30), now=START + 30)
    with pytest.raises(SecondFactorError, match="was used already"):
        enrolled.check(at(START + 30), now=START + 31)


def test_the_code_of_the_enrolment_is_used_up(enrolled: SecondFactor) -> None:
    with pytest.raises(SecondFactorError, match="was used already"):
        enrolled.check(at(START - 600), now=START - 590)


def test_five_wrong_codes_lock_for_a_quarter_of_an_hour(enrolled: SecondFactor) -> None:
    for second in range(5):
        with pytest.raises(SecondFactorError, match="the code is wrong; 5 wrong ones within 15 minutes lock"):
            enrolled.check(wrong(START), now=START + second)
    again = SecondFactor(enrolled.path, enrolled.keys, enrolled.log)
    for moment, left in ((START + 5, "15 minutes"), (START + 843.9, "2 minutes"), (START + 903.9, "1 minute")):
        with pytest.raises(SecondFactorError, match=f"locked after 5 wrong codes; wait {left}$"):
            again.check(at(moment), now=moment)
    again.check(at(START + 904), now=START + 904)


def test_a_right_code_between_wrong_ones_forgives_none(enrolled: SecondFactor) -> None:
    for second in range(4):
        with pytest.raises(SecondFactorError, match="wrong"):
            enrolled.check(wrong(START), now=START + second)
    enrolled.check(at(START + 4), now=START + 4)
    with pytest.raises(SecondFactorError, match="wrong"):
        enrolled.check(wrong(START + 60), now=START + 60)
    with pytest.raises(SecondFactorError, match="locked"):
        enrolled.check(at(START + 90), now=START + 90)


def test_wrong_codes_far_apart_lock_nobody_out(enrolled: SecondFactor) -> None:
    for number in range(12):
        with pytest.raises(SecondFactorError, match="the code is wrong"):
            enrolled.check(wrong(START + 225 * number), now=START + 225 * number)
    enrolled.check(at(START + 2700), now=START + 2700)


@pytest.mark.parametrize("digits", ["", "12345", "1234567", "12a456", "１２３４５６", "-12345"])
def test_what_is_no_code_is_refused_and_counts_as_no_try(enrolled: SecondFactor, digits: str) -> None:
    for _ in range(6):
        with pytest.raises(InputError, match=f"must be six digits; found {len(digits)} characters"):
            enrolled.check(digits, now=START)
    enrolled.check(at(START), now=START)


def test_without_a_second_factor_nothing_is_accepted(factor: SecondFactor) -> None:
    assert not factor.enrolled
    with pytest.raises(SecondFactorError, match="none is enrolled; run: fraudlab privacy enrol"):
        factor.check("123456", now=START)


def test_of_processes_with_the_same_code_exactly_one_succeeds(enrolled: SecondFactor) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from fraudlab.privacy.secondfactor import *\n"
        "from fraudlab.privacy.keys import KeyDirectory\n"
        "factor = SecondFactor(Path(sys.argv[1]), KeyDirectory(Path(sys.argv[2])), None)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try: factor.check(sys.argv[3], now=float(sys.argv[4])); print('accepted')\n"
        "except SecondFactorError as error: print('used already' if 'used already' in str(error) else error)\n"
    )
    words = [sys.executable, "-c", script, enrolled.path, enrolled.keys.path]
    for moment in (START, START + 30):
        racers = [
            subprocess.Popen(
                [*words, at(moment), str(moment)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("\n")
            racer.stdin.flush()
        assert sorted(racer.communicate()[0].strip() for racer in racers) == ["accepted", *["used already"] * 2]


def test_the_secret_is_nowhere_on_disk_in_the_clear(enrolled: SecondFactor, tmp_path: Path) -> None:
    with pytest.raises(SecondFactorError):
        enrolled.check(wrong(START), now=START)
    enrolled.check(at(START), now=START)
    raw = base64.b32decode(RFC_SECRET)
    assert find_planted([tmp_path], [RFC_SECRET, raw.decode(), "last_step", "locked_until"]).empty
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and raw in path.read_bytes()]
    (tmp_path / "plain.json").write_text(json.dumps({"secret": RFC_SECRET}))
    assert find_planted([tmp_path], [RFC_SECRET])["count"].sum() == 1, "the search can find it"


def test_files_are_for_their_owner_only_and_nothing_is_left_over(enrolled: SecondFactor) -> None:
    enrolled.check(at(START), now=START)
    folder = enrolled.path.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert {path.name for path in folder.iterdir()} == {
        "second-factor-7.sealed", "second-factor-7.lock", "second-factor.key", "audit.key",
    }  # fmt: skip


@pytest.mark.parametrize("at_byte", [0, 10, 100, -1])
def test_a_changed_file_is_refused(enrolled: SecondFactor, at_byte: int) -> None:
    data = bytearray(enrolled.path.read_bytes())
    data[at_byte] ^= 1
    enrolled.path.write_bytes(data)
    with pytest.raises(KeyUnavailableError, match="key 'second-factor': does not open this file"):
        enrolled.check(at(START), now=START)


def test_another_key_opens_nothing_until_it_is_reset(enrolled: SecondFactor) -> None:
    (enrolled.keys.path / "second-factor.key").write_bytes(os.urandom(32))
    with pytest.raises(KeyUnavailableError, match="second-factor"):
        enrolled.check(at(START), now=START)
    enrolled.enrol(RFC_SECRET, at(START), reset_reason="the keys were replaced", now=START)
    enrolled.check(at(START + 30), now=START + 30)


def test_a_disk_that_refuses_accepts_no_code(enrolled: SecondFactor, monkeypatch: pytest.MonkeyPatch) -> None:
    before = enrolled.path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FraudlabError, match=r"could not be used \(No space left on device\); no code was accepted"):
            enrolled.check(at(START), now=START)
    assert enrolled.path.read_bytes() == before
    assert not list(enrolled.path.parent.glob(".second-factor*"))
    enrolled.check(at(START), now=START)


def test_enrolling_needs_a_code_of_the_new_secret(factor: SecondFactor) -> None:
    with pytest.raises(SecondFactorError, match="does not fit the secret shown; nothing was changed"):
        factor.enrol(RFC_SECRET, wrong(START), now=START)
    assert not factor.enrolled
    assert factor.log.entries().empty


def test_enrolling_again_needs_an_old_code_or_a_reason(enrolled: SecondFactor) -> None:
    other = new_secret()
    step = int(START // 30)
    with pytest.raises(InputError, match="one is enrolled already; give a code of it, or --reset with a --reason"):
        enrolled.enrol(other, code(step, other), now=START)
    with pytest.raises(InputError, match="reason: must have at least 10 characters; found 4"):
        enrolled.enrol(other, code(step, other), reset_reason=" lost ", now=START)
    enrolled.check(at(START), now=START)
    enrolled.enrol(other, code(step, other), old_code_checked=True, now=START)
    with pytest.raises(SecondFactorError, match="wrong"):
        enrolled.check(at(START + 60), now=START + 60)
    enrolled.enrol(RFC_SECRET, at(START + 60), reset_reason="phone lost on a train", now=START + 60)
    enrolled.check(at(START + 90), now=START + 90)
    assert logged(enrolled) == [("enrolled", None), ("replaced", None), ("reset", "phone lost on a train")]


def test_a_reset_does_not_end_a_lock(enrolled: SecondFactor) -> None:
    for _ in range(5):
        with pytest.raises(SecondFactorError):
            enrolled.check(wrong(START), now=START)
    other = new_secret()
    enrolled.enrol(other, code(int(START // 30), other), reset_reason="tried too often", now=START)
    with pytest.raises(SecondFactorError, match="locked"):
        enrolled.check(code(int(START // 30) + 2, other), now=START + 60)
    enrolled.check(code(int(START // 30) + 31, other), now=START + 930)


def test_what_cannot_be_logged_is_not_enrolled(factor: SecondFactor) -> None:
    factor.log.path.mkdir(parents=True)
    with pytest.raises(FraudlabError):
        factor.enrol(RFC_SECRET, at(START), now=START)
    assert not factor.enrolled


def test_an_app_reads_the_address() -> None:
    secret = new_secret()
    assert len(base64.b32decode(secret)) == 20
    read = pyotp.parse_uri(app_address(secret, "ann@bank"))
    assert isinstance(read, pyotp.TOTP)
    assert (read.secret, read.name, read.issuer, read.digits, read.interval, read.digest().name) == (
        secret, "ann@bank", "fraudlab", 6, 30, "sha1",
    )  # fmt: skip
    assert read.at(START) == code(int(START // 30), secret)


def test_each_account_of_a_workspace_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    assert second_factor(Workspace(tmp_path)).path == tmp_path / ".keys" / f"second-factor-{os.getuid()}.sealed"
    monkeypatch.setenv("FRAUDLAB_KEYS", f"unix:{tmp_path}/keys.sock")
    assert second_factor(Workspace(tmp_path)).path.parent == tmp_path / ".keys"
    monkeypatch.setenv("FRAUDLAB_KEYS", str(tmp_path / "elsewhere"))
    assert second_factor(Workspace(tmp_path)).path.parent == tmp_path / "elsewhere"
