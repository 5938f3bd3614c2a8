"""The seal of a report: a signature in the file itself that shows whether a single byte has changed, and where.

    whole     = SHA-256 of the file with nothing inside its seal
    parts     = SHA-256 of each section's text and of each figure, in the order of the file
    signature = Ed25519(key, "fraudlab report seal 1" 0x00 canonical JSON of the seal without the signature)

`whole` decides; `parts` only say what was changed. The signature covers both, so they can be believed once it fits.
The key is made from the workspace's key `report-sign`; its public half stands in the seal and is printed in the footer.
Whoever verifies needs the file alone, and a word from its makers which key is theirs.

In HTML the seal lies in a `template` element, which no browser shows or runs; in a PDF in a comment before `startxref`.

Sources: RFC 8032 (Ed25519; the same file and key give the same signature), RFC 8785 in spirit (sorted keys, no blanks).
"""

from __future__ import annotations

import contextlib
import hashlib
import html as entities
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fraudlab.config import Workspace
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.keys import Keys, KeyUnavailableError, open_keys
from fraudlab.report.language import say, speaking
from fraudlab.schema import InputError

SIGN_KEY = "report-sign"
_USE = b"fraudlab report signature"
_DOMAIN = b"fraudlab report seal 1\0"
SHORT = 16
"""How many characters of a public key name it in a sentence."""
_ENOUGH = 32
_HTML = (b'<template id="fraudlab-seal">', b"</template>")
_PDF = (b"%fraudlab-seal ", b"\n")
_FACTS = (b'<template id="fraudlab-facts">', b"</template>")
_BOUNDARY = re.compile(rb'<(?:section|article|footer)\b|<template id="fraudlab-facts">')
_HEADING = re.compile(rb"<h[1-6][^>]*>(.*?)</h[1-6]>", re.DOTALL)
_PICTURE = re.compile(rb'\bsrc="(data:[^"]*)"')
_TAG = re.compile(r"<[^>]*>")
_canonical = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False, ensure_ascii=True).encode


@dataclass(frozen=True)
class Signer:
    """Who seals: an Ed25519 key.

    >>> Signer(bytes(32)).public[:16]
    '3b6a27bcceb6a42d'
    """

    seed: bytes = field(repr=False)

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def public(self) -> str:
        """The public key, in hex."""
        return self._private.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> str:
        """Return the signature of a message, in hex."""
        return self._private.sign(_DOMAIN + message).hex()


@dataclass(frozen=True)
class Examination:
    """What looking at a file's seal has shown.

    state : intact, altered or unsigned.
    sentence : the same for people.
    signer : the public key that signed it, in hex; empty where nothing can be believed.
    known : whose key that is, as far as this machine knows; empty where it does not.
    changed : what differs from the signed file, one entry a part.
    """

    state: Literal["intact", "altered", "unsigned"]
    sentence: str
    signer: str = ""
    known: str = ""
    changed: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the file is as it was signed, and by a key that is known."""
        return self.state == "intact" and bool(self.known)


def open_signer(workspace: Workspace) -> Signer:
    """Return the workspace's signer, made on first use; its public key is noted in the audit log once.

    Raises
    ------
    KeyUnavailableError : the key belongs to another account.
    FraudlabError : the audit log cannot be written.
    """
    keys = open_keys(workspace)
    keys.make(SIGN_KEY)
    signer = Signer(keys.hmac(SIGN_KEY, _USE))
    if signer.public not in _noted(workspace):
        audit_log(workspace).append("keys", did="begins to sign reports", key=SIGN_KEY, report_key=signer.public)
    return signer


def known_keys(workspace: Workspace) -> dict[str, str]:
    """Return the public keys this workspace signs or has signed with, and what to call each; make none.

    Earlier keys stand in the audit log; one that was tampered with, or cannot be checked here, is not believed.
    """
    keys: Keys = open_keys(workspace)
    found = {}
    for number, identity in enumerate(keys.ids(SIGN_KEY)):
        said = "an earlier key of this workspace" if number else "this workspace's key"
        found[Signer(keys.hmac(SIGN_KEY, _USE, key=identity)).public] = said
    earlier = [public for public in _noted(workspace) if public not in found]
    with contextlib.suppress(KeyUnavailableError):
        if earlier and audit_log(workspace).verify().ok:
            found |= dict.fromkeys(earlier, "an earlier key of this workspace")
    return found


def _noted(workspace: Workspace) -> list[str]:
    if not workspace.audit.is_file():
        return []
    facts = audit_log(workspace).entries(action="keys")["facts"]
    return [told["report_key"] for told in facts if "report_key" in told]


def embed(html: str, facts: Mapping[str, Any]) -> str:
    """Put facts for programs into a report, where no reader sees them and nothing runs them.

    Parameters
    ----------
    html : a report.
    facts : JSON-like.

    >>> embed("<body>x</body>", {"a": "<b>"})
    '<body>x<template id="fraudlab-facts">{"a":"\\\\u003cb\\\\u003e"}</template>\\n</body>'
    """
    text = _inert(_canonical(facts))
    return _before(html, "</body>", f"{_FACTS[0].decode()}{text}{_FACTS[1].decode()}\n")


def embedded(data: bytes) -> dict[str, Any] | None:
    """Return the facts that `embed` put into a report, or None where there are none that can be read."""
    inside = _between(data, _FACTS)
    with contextlib.suppress(ValueError, TypeError, UnicodeDecodeError):
        return None if inside is None else dict(json.loads(data[slice(*inside)]))
    return None


def seal(html: str, signer: Signer) -> str:
    """Sign a report or another page of ours; the footer says with which key.

    Parameters
    ----------
    html : a page with a footer and `</body>`; the language of its `html` element is used.
    signer : from `open_signer`.

    Returns
    -------
    The page with its seal: the same bytes for the same page and key.

    >>> page = '<html lang="en"><body><section><h2>One</h2>1</section><footer></footer></body></html>'
    >>> sealed = seal(page, Signer(bytes(32))).encode()
    >>> examine(sealed, {Signer(bytes(32)).public: "ours"}).state
    'intact'
    >>> examine(sealed.replace(b"</h2>1", b"</h2>2"), {}).changed
    ['the text of “One”']
    """
    found = re.search(r'<html lang="([a-z]+)', html)
    with speaking("zh" if found and found[1] == "zh" else "en"):
        grouped = " ".join(re.findall(".{8}", signer.public))
        said = say("Signed. Public key (Ed25519):")
        how = say("Check it with: fraudlab report verify FILE")
    line = f'<p class="seal">{said} <span class="digest">{grouped}</span>. {entities.escape(how)}.</p>\n'
    page = _before(html, "</footer>", line)
    facts = embedded(page.encode()) or {}
    about = {"parts": [list(part) for part in _parts(page.encode())], "digests": facts.get("digests", {})}
    empty = _before(page, "</body>", f"{_HTML[0].decode()}{_HTML[1].decode()}\n").encode()
    return _signed(empty, _HTML, about, signer).decode()


def seal_pdf(data: bytes, signer: Signer, digests: Mapping[str, str] | None = None) -> bytes:
    """Sign a PDF with a comment before its last `startxref`, which readers pass over.

    Parameters
    ----------
    data : a whole PDF file.
    signer : from `open_signer`.
    digests : what the report was made from.

    Raises
    ------
    InputError : this is no PDF.
    """
    at = data.rfind(b"startxref")
    if not data.startswith(b"%PDF-") or at < 0:
        raise InputError("pdf: must be a whole PDF file; found something else; make it again")
    empty = data[:at] + _PDF[0] + _PDF[1] + data[at:]
    return _signed(empty, _PDF, {"parts": [], "digests": dict(digests or {})}, signer)


def _signed(empty: bytes, marks: tuple[bytes, bytes], about: dict[str, Any], signer: Signer) -> bytes:
    found = _between(empty, marks)
    if found is None:
        raise InputError("report: must hold no seal yet; found one; make the report again and seal it once")
    told = about | {"format": 1, "key": signer.public, "whole": hashlib.sha256(empty).hexdigest()}
    told["signature"] = signer.sign(_canonical(told).encode())
    return empty[: found[0]] + _inert(_canonical(told)).encode() + empty[found[1] :]


def examine(data: bytes, known: Mapping[str, str], key: str = "") -> Examination:
    """Say whether a report is as it was signed, and by whom.

    Parameters
    ----------
    data : the bytes of a report, HTML or PDF.
    known : public keys and whose they are, from `known_keys`; empty on a machine that knows none.
    key : the public key that its makers named, or at least its first 32 characters; blanks do not count.

    Raises
    ------
    InputError : `key` is none.
    """
    wanted = re.sub(r"\s", "", key).lower()
    if wanted and not re.fullmatch(rf"[0-9a-f]{{{_ENOUGH},64}}", wanted):
        raise InputError(
            f"key: must be a public key as a report's footer prints it, 64 hex digits or the first {_ENOUGH} and more; "
            f"found {len(wanted)} characters; copy it from a report you trust"
        )
    marks = _PDF if data.startswith(b"%PDF-") else _HTML
    where = _between(data, marks)
    if where is None:
        if b'"signature":"' in data or b'class="seal"' in data or b"fraudlab-seal" in data:
            return _altered("", ["the seal itself"])
        return Examination("unsigned", "Unsigned: the file carries no seal, or it was taken out; nothing can be said.")
    told = _told(data[slice(*where)])
    if told is None:
        return _altered("", ["the seal itself"])
    empty = data[: where[0]] + data[where[1] :]
    if hashlib.sha256(empty).hexdigest() != told["whole"]:
        return _altered(told["key"], _changed(empty, told))
    whose = known.get(told["key"], "")
    if wanted:
        whose = "the key that was named" if told["key"].startswith(wanted) else ""
    short = told["key"][:SHORT]
    if whose:
        return Examination("intact", f"Intact: signed by {whose} ({short}…).", told["key"], whose)
    if wanted:
        said = f"Intact, but signed by another key ({short}…) than the one that was named; ask where the file is from."
    elif known:
        said = f"Intact, but signed by a key ({short}…) that is none of this workspace's; ask where the file is from."
    else:
        said = (
            f"Intact: signed by key {short}…, which this machine does not know; ask its makers for their public key "
            "and name it with --key."
        )
    return Examination("intact", said, told["key"])


def _altered(signer: str, changed: list[str]) -> Examination:
    by = f" since key {signer[:SHORT]}… signed it" if signer else ""
    return Examination("altered", f"Altered{by}: {', '.join(changed)}.", signer, "", changed)


def _told(inside: bytes) -> dict[str, Any] | None:
    """Return what a seal says when its signature fits and it is written exactly as we write one, else None."""
    try:
        told = json.loads(inside)
        if _inert(_canonical(told)).encode() != inside or told["format"] != 1:
            return None
        if not re.fullmatch("[0-9a-f]{128}", told["signature"]) or not re.fullmatch("[0-9a-f]{64}", told["key"]):
            return None
        signed = {name: value for name, value in told.items() if name != "signature"}
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(told["key"]))
        public.verify(bytes.fromhex(told["signature"]), _DOMAIN + _canonical(signed).encode())
    except (InvalidSignature, ValueError, TypeError, KeyError, UnicodeDecodeError, RecursionError):
        return None
    return told


def _changed(empty: bytes, told: Mapping[str, Any]) -> list[str]:
    """Say which parts of a file are not those that were signed."""
    before = dict(told["parts"])
    now = dict(_parts(empty.replace(b"".join(_HTML) + b"\n", b"", 1)))
    changed = [name for name, digest in before.items() if now.get(name, digest) != digest]
    changed += [f"{name} is missing" for name in before if name not in now]
    if before:
        changed += [f"{name} was added" for name in now if name not in before]
    changed += [
        f"the digest of the {name} is not the one that was signed"
        for name, digest in told["digests"].items()
        if before and digest and str(digest).encode() not in empty
    ]
    return changed or ["bytes outside the sections" if before else "its bytes (a PDF does not tell which)"]


def _parts(data: bytes) -> list[tuple[str, str]]:
    """Return name and SHA-256 of each section's text and of each figure, names once each."""
    cuts = [0, *(found.start() for found in _BOUNDARY.finditer(data)), len(data)]
    texts, pictures = [], []
    for start, end in itertools.pairwise(cuts):
        piece = data[start:end]
        pictures += _PICTURE.findall(piece)
        texts.append((_name(piece), _PICTURE.sub(b"", piece)))
    named = [*texts, *((f"figure {number}", picture) for number, picture in enumerate(pictures, start=1))]
    found: dict[str, str] = {}
    for name, piece in named:
        once, number = name, 2
        while once in found:
            once, number = f"{name} ({number})", number + 1
        found[once] = hashlib.sha256(piece).hexdigest()
    return list(found.items())


def _name(piece: bytes) -> str:
    if piece.startswith(_FACTS[0]):
        return "the facts for programs"
    if piece.startswith(b"<footer"):
        return "the footer"
    if not piece.startswith((b"<section", b"<article")):
        return "the head, title and contents"
    if found := re.match(rb'<article aria-label="([^"]*)"', piece):
        return found[1].decode(errors="replace").lower()
    heading = _HEADING.search(piece)
    words = "" if heading is None else _TAG.sub(" ", heading[1].decode(errors="replace"))
    title = re.sub(r"^\s*[0-9.]+\s", " ", entities.unescape(words))
    return f"the text of “{' '.join(title.split()) or 'a section'}”"


def _between(data: bytes, marks: tuple[bytes, bytes]) -> tuple[int, int] | None:
    """Return where the inside of the one marked place begins and ends; None where there is none, or more."""
    if data.count(marks[0]) != 1:
        return None
    start = data.index(marks[0]) + len(marks[0])
    end = data.find(marks[1], start)
    return None if end < 0 else (start, end)


def _before(html: str, tag: str, inserted: str) -> str:
    at = html.rfind(tag)
    if at < 0:
        raise InputError(f"report: must hold {tag}; found none; make the report with build_report")
    return html[:at] + inserted + html[at:]


def _inert(text: str) -> str:
    """Write JSON so that no character of it can begin or end an element."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
