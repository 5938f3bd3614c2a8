"""A sealed report shows any change of a single byte, where it was made, and whose seal it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import runpy
import shutil
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fraudlab.config import Workspace
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.keys import KeyDirectory
from fraudlab.report import build_report, data, governance, results, sections
from fraudlab.report.sealing import (
    SIGN_KEY,
    Signer,
    embed,
    embedded,
    examine,
    known_keys,
    open_signer,
    seal,
    seal_pdf,
)
from fraudlab.schema import InputError

write_evidence = runpy.run_path(str(Path(__file__).with_name("evidence_sample.py")))["write_evidence"]
OURS, THEIRS = Signer(b"\1" * 32), Signer(b"\2" * 32)
KNOWN = {OURS.public: "ours"}
PAGE = (
    '<!doctype html>\n<html lang="en"><head><title>A page</title></head>\n<body>\n<h1>A page</h1>\n<main>\n'
    '<section id="one"><h2><span>1</span> First &amp; foremost</h2><p>17 of 20</p></section>\n'
    '<section id="two"><h2>Second</h2><img src="data:image/png;base64,AAAA" alt="x"><p>data-digest-1</p></section>\n'
    "</main>\n<footer>\n<p>End</p>\n</footer>\n</body>\n</html>\n"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A report of some sections with pictures, made as any other."""
    run = write_evidence(tmp_path_factory.mktemp("runs") / "demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "DEVELOPMENT", (data.data,))
        patch.setattr(sections, "VALIDATION", (results.ranking,))
        patch.setattr(sections, "GOVERNANCE", (governance.sign_off,))
        return build_report(run, run / "sealed.html", signer=OURS).read_bytes()


@pytest.fixture(scope="module")
def page() -> bytes:
    return seal(embed(PAGE, {"digests": {"data": "data-digest-1"}}), OURS).encode()


# --- any byte --------------------------------------------------------------------------------------------------------


def test_a_report_as_it_was_made_is_intact(report: bytes) -> None:
    found = examine(report, KNOWN)
    assert (found.state, found.ok, found.signer, found.changed) == ("intact", True, OURS.public, [])
    assert found.sentence == f"Intact: signed by ours ({OURS.public[:16]}…)."


def test_any_flipped_byte_of_a_small_page_is_seen(page: bytes) -> None:
    draw = random.Random(7)
    missed = []
    for at in range(len(page)):
        changed = bytearray(page)
        # The bit that tells upper from lower case, and any other.
        for mask in (0x20, 1 << draw.randrange(8)):
            changed[at] = page[at] ^ mask
            if examine(bytes(changed), KNOWN).state == "intact":
                missed.append((at, mask))
    assert len(page) > 1500
    assert not missed


def test_500_bytes_flipped_anywhere_in_a_report_are_seen(report: bytes) -> None:
    draw = random.Random(7)
    seal_at = report.index(b'<template id="fraudlab-seal">')
    # Pictures fill most of a report: draw everywhere, and among text and seal apart.
    first_figure = report.index(b"data:image")
    places = [draw.randrange(len(report)) for _ in range(300)]
    places += [draw.randrange(first_figure) for _ in range(100)]
    places += [draw.randrange(seal_at, len(report)) for _ in range(100)]
    missed = []
    for at in places:
        changed = bytearray(report)
        changed[at] ^= draw.randrange(1, 256)
        if examine(bytes(changed), KNOWN).state == "intact":
            missed.append(at)
    assert len(places) == 500
    assert not missed


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\n",
        lambda data: b" " + data,
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.rstrip(b"\n"),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"<p>", b"<p >", 1),
        lambda data: data.replace(b"</body>", b"<p>more</p></body>"),
        lambda data: data + data,
        lambda data: data.replace(b'{"digests"', b'{ "digests"'),
        lambda data: data.replace(OURS.public.encode(), OURS.public.upper().encode()),
        lambda data: data.replace(b'"format":1', b'"format":1.0'),
        lambda data: re.sub(rb'"signature":"[0-9a-f]+"', b'"signature":""', data),
        lambda data: re.sub(rb'"signature":"([0-9a-f]+)"', lambda m: m[0].upper(), data),
        lambda data: data.replace(b"fraudlab-seal", b"fraudlab-saal"),
    ],
)
def test_what_is_put_before_after_or_between_is_seen(page: bytes, change) -> None:
    changed = change(page)
    assert changed != page
    assert examine(changed, KNOWN).state == "altered"


def test_moving_the_seal_is_seen(page: bytes) -> None:
    found = re.search(rb'<template id="fraudlab-seal">.*?</template>\n', page)
    moved = page.replace(found[0], b"").replace(b"</main>", found[0] + b"</main>")
    assert sorted(moved) == sorted(page)
    assert examine(moved, KNOWN).state == "altered"


def test_a_file_without_a_seal_is_unsigned() -> None:
    found = examine(PAGE.encode(), KNOWN)
    assert (found.state, found.ok) == ("unsigned", False)
    assert found.sentence == "Unsigned: the file carries no seal, or it was taken out; nothing can be said."
    assert examine(b"", KNOWN).state == "unsigned"


# --- where -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"17 of 20", b"19 of 20", ["the text of “First & foremost”"]),
        (b"base64,AAAA", b"base64,AAAB", ["figure 1"]),
        (b"<h1>A page", b"<h1>B page", ["the head, title and contents"]),
        (b"<p>End", b"<p>end", ["the footer"]),
        (
            b"<p>data-digest-1",
            b"<p>data-digest-2",
            ["the text of “Second”"],
        ),
        (
            b"data-digest-1",
            b"data-digest-2",
            ["the seal itself"],  # it stands in the seal too
        ),
        (b"<h2>Second", b"<h2>Third", ["the text of “Second” is missing", "the text of “Third” was added"]),
    ],
)
def test_it_says_which_part_was_changed(page: bytes, old: bytes, new: bytes, said: list[str]) -> None:
    found = examine(page.replace(old, new), KNOWN)
    assert found.changed == said
    assert found.sentence.startswith("Altered")
    assert said[0] in found.sentence


def test_a_digest_replaced_everywhere_outside_the_seal_is_named(page: bytes) -> None:
    at = page.index(b'<template id="fraudlab-seal">')
    found = examine(page[:at].replace(b"data-digest-1", b"data-digest-2") + page[at:], KNOWN)
    assert found.changed == [
        "the text of “Second”",
        "the facts for programs",
        "the digest of the data is not the one that was signed",
    ]


def test_a_removed_section_and_a_swapped_figure_of_a_report_are_named(report: bytes) -> None:
    figures = [found[1] for found in re.finditer(rb'src="(data:[^"]+)"', report)]
    assert len(figures) >= 3
    swapped = report.replace(figures[0], b"#").replace(figures[1], figures[0]).replace(b'"#"', b'"' + figures[1] + b'"')
    assert examine(swapped, KNOWN).changed == ["figure 1", "figure 2"]
    begins = [found.start() for found in re.finditer(b"<section", report)]
    without = report[: begins[1]] + report[begins[2] :]
    assert any("is missing" in said for said in examine(without, KNOWN).changed)


# --- who -------------------------------------------------------------------------------------------------------------


def test_another_key_is_told_from_ours_and_an_unknown_one(page: bytes) -> None:
    theirs = seal(PAGE, THEIRS).encode()
    found = examine(theirs, KNOWN)
    assert (found.state, found.ok) == ("intact", False)
    assert "none of this workspace's" in found.sentence
    nowhere = examine(theirs, {})
    assert not nowhere.ok
    assert nowhere.sentence == (
        f"Intact: signed by key {THEIRS.public[:16]}…, which this machine does not know; ask its makers for their "
        "public key and name it with --key."
    )
    grouped = " ".join(re.findall(".{8}", THEIRS.public))
    assert examine(theirs, {}, grouped).ok
    assert examine(theirs, {}, THEIRS.public[:32].upper()).ok
    # A named key is the only one that counts, even where ours fits.
    assert not examine(page, KNOWN, THEIRS.public).ok
    assert "another key" in examine(page, KNOWN, THEIRS.public).sentence


@pytest.mark.parametrize("key", ["f00d", "x" * 64, "0" * 65])
def test_a_key_that_is_none_is_refused(page: bytes, key: str) -> None:
    with pytest.raises(InputError, match=r"^key: must be a public key as a report's footer prints it, 64 hex digits"):
        examine(page, KNOWN, key)


def test_a_stranger_can_verify_with_the_recipe_alone(page: bytes) -> None:
    """What the module's docstring says is all that is needed: no code of ours, only Ed25519 and SHA-256."""
    start = page.index(b'<template id="fraudlab-seal">') + len(b'<template id="fraudlab-seal">')
    end = page.index(b"</template>", start)
    told = json.loads(page[start:end])
    signature = bytes.fromhex(told.pop("signature"))
    message = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(told["key"]))
    public.verify(signature, b"fraudlab report seal 1\0" + message)
    assert hashlib.sha256(page[:start] + page[end:]).hexdigest() == told["whole"]
    assert re.sub(r"\s", "", re.search(r'class="digest">([^<]+)', page.decode())[1]) == told["key"]


# --- sealing ---------------------------------------------------------------------------------------------------------


def test_the_same_page_and_key_give_the_same_bytes(report: bytes) -> None:
    plain = re.sub(rb'<template id="fraudlab-seal">.*?</template>\n|<p class="seal">.*?</p>\n', b"", report).decode()
    assert examine(plain.encode(), KNOWN).state == "unsigned"
    assert seal(plain, OURS).encode() == report
    assert seal(plain, THEIRS).encode() != report
    assert embedded(plain.encode()) == embedded(report)
    assert embedded(report)["about"]["run"] in plain


def test_facts_cannot_leave_their_element() -> None:
    nasty = {"title": '</template><script>alert("&")</script>', "name": "客户 é"}
    html = embed(PAGE, nasty)
    assert "<script" not in html
    assert embedded(html.encode()) == nasty
    assert embedded(PAGE.encode()) is None
    assert embedded(html.replace('{"', "{").encode()) is None


def test_a_page_is_sealed_once_and_needs_its_footer() -> None:
    with pytest.raises(InputError, match=r"^report: must hold no seal yet; found one"):
        seal(seal(PAGE, OURS), OURS)
    with pytest.raises(InputError, match=r"^report: must hold </footer>; found none"):
        seal("<html><body></body></html>", OURS)


def test_the_footer_speaks_the_page_s_language() -> None:
    assert "Public key" in seal(PAGE, OURS)
    assert "公钥" in seal(PAGE.replace('lang="en"', 'lang="zh-Hans"'), OURS)


# --- PDF -------------------------------------------------------------------------------------------------------------


def test_a_pdf_is_sealed_in_a_comment_that_readers_pass_over() -> None:
    plain = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\nxref\n0 1\ntrailer\n<< /Size 1 >>\nstartxref\n30\n%%EOF\n"
    sealed = seal_pdf(plain, OURS, {"data": "d"})
    assert examine(sealed, KNOWN).ok
    assert re.sub(rb"%fraudlab-seal [^\n]*\n", b"", sealed) == plain
    missed = []
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        if examine(changed, KNOWN).state == "intact":
            missed.append(at)
    assert not missed
    assert examine(sealed + b"\n", KNOWN).changed == ["its bytes (a PDF does not tell which)"]
    with pytest.raises(InputError, match=r"^pdf: must be a whole PDF file"):
        seal_pdf(b"%PDF-1.7\n", OURS)


# --- the workspace's key ---------------------------------------------------------------------------------------------


def test_the_workspace_signs_with_one_key_that_it_notes_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert known_keys(workspace) == {}
    assert not workspace.keys.exists()  # looking makes nothing
    signer = open_signer(workspace)
    assert open_signer(workspace).public == signer.public
    assert known_keys(workspace) == {signer.public: "this workspace's key"}
    noted = audit_log(workspace).entries(action="keys")["facts"].tolist()
    assert [fact["report_key"] for fact in noted] == [signer.public]
    assert signer.seed.hex() not in str(noted)
    assert str(signer) == "Signer()"


def test_reports_of_a_key_that_was_rotated_stay_known(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    before = open_signer(workspace)
    keys = KeyDirectory(workspace.keys)
    keys.begin_rotation(SIGN_KEY)
    assert known_keys(workspace)[before.public] == "an earlier key of this workspace"
    keys.end_rotation(SIGN_KEY)
    after = open_signer(workspace)
    assert after.public != before.public
    assert known_keys(workspace) == {
        before.public: "an earlier key of this workspace",
        after.public: "this workspace's key",
    }
    assert examine(seal(PAGE, before).encode(), known_keys(workspace)).ok
    # A key that somebody wrote into the log from outside is not believed, nor is any other that only stands there.
    with contextlib.closing(sqlite3.connect(workspace.audit)) as connection, connection:
        facts = json.dumps({"did": "begins to sign reports", "key": SIGN_KEY, "report_key": THEIRS.public})
        row = (connection.execute("SELECT max(number) FROM entries").fetchone()[0] + 1, 2**50, "keys", "me/0", facts)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", (*row, "0" * 64))
    assert known_keys(workspace) == {after.public: "this workspace's key"}
    # A workspace copied without its keys and log knows nobody.
    shutil.rmtree(workspace.keys)
    workspace.audit.unlink()
    assert known_keys(workspace) == {}
