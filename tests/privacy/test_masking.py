"""Masking: published numbers and another library's are found to their ends, other numbers are left alone."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from faker import Faker

from fraudlab.jupyter_hook import mask_outputs
from fraudlab.privacy.masking import SUSPECT, find_identifiers, mask, mask_text

# Test numbers published by the card schemes and their processors; "_" stands for a blank.
CARDS = [
    "4111111111111111", "4012888888881881", "4222222222222", "5555555555554444", "5105105105105100",
    "2223003122003222", "378282246310005", "371449635398431", "6011111111111117", "30569309025904",
    "3530111333300000", "6304000000000000", "4111-1111-1111-1111", "3782-822463-10005", "4111_1111_1111_1111",
]  # fmt: skip
# Examples of the IBAN registry (ISO 13616), by country.
IBANS = [
    "AD1200012030200359100100", "AE070331234567890123456", "AL47212110090000000235698741", "AT611904300234573201",
    "BE68539007547034", "BG80BNBG96611020345678", "CH9300762011623852957", "CY17002001280000001200527600",
    "CZ6508000000192000145399", "DE89370400440532013000", "DK5000400440116243", "EE382200221020145685",
    "ES9121000418450200051332", "FI2112345600000785", "FR1420041010050500013M02606", "GB29NWBK60161331926819",
    "GR1601101250000000012300695", "HR1210010051863000160", "HU42117730161111101800000000",
    "IE29AIBK93115212345678", "IT60X0542811101000000123456", "LU280019400644750000",
    "MT84MALT011000012345MTLCAST001S", "NL91ABNA0417164300", "NO9386011117947", "PL61109010140000071219812874",
    "PT50000201231234567890154", "SE4550000000058398257466", "SI56263300012039086", "SK3112000000198742637541",
    "TR330006100519786457841326", "LC55HEMM000100010012001200023015", "SC18SSCB11010000000000001497USD",
    "VG96VPVG0000012345678901",
]  # fmt: skip


def found_in(text: str) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in find_identifiers(text)]


@pytest.mark.parametrize("card", CARDS)
def test_published_card_numbers_are_found_and_one_digit_changed_is_not(card: str) -> None:
    card = card.replace("_", " ")
    for around in ("card {}, thanks", "{} 12/27", "x,1,{},7", "<td>{}</td>", "\x1b[34m{}\x1b[0m"):
        text = around.format(card)
        assert found_in(text) == [("card", card)], text
    changed = card[:-1] + str((int(card[-1]) + 1) % 10)
    assert not [one for one in found_in(f"card {changed}, thanks") if one[0] == "card"]


@pytest.mark.parametrize("iban", IBANS)
def test_published_ibans_are_found_in_every_spelling_and_one_sign_changed_is_not(iban: str) -> None:
    grouped = " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))
    for said in (iban, iban.lower(), grouped, grouped.replace(" ", "\u00a0")):
        assert found_in(f"to {said} please") == [("iban", said)]
        assert found_in(f"to {said} 12 or {said}.") == [("iban", said)] * 2
    changed = iban[:-1] + chr(ord(iban[-1]) + (-1 if iban[-1] in "9Z" else 1))
    assert not [one for one in found_in(f"to {changed} please") if one[0] == "iban"]


@pytest.mark.parametrize("locale", ["de_DE", "en_GB", "en_US", "es_ES", "fr_FR", "it_IT", "nl_NL", "pl_PL", "sv_SE"])
def test_what_another_library_invents_is_masked(locale: str) -> None:
    fake = Faker(locale)
    fake.seed_instance(5)
    for _ in range(60):
        assert mask_text(f"please call {fake.phone_number()} now")[0] == "please call [phone] now"
        assert mask_text(f"invoice to {fake.email()}.")[0] == "invoice to [email]."
        for kind in ("visa13", "visa16", "visa19", "mastercard", "amex", "discover", "diners", "jcb16"):
            assert mask_text(f"with {fake.credit_card_number(kind)} please")[0] == "with [card] please"
        assert mask_text(f"to {fake.iban()} 5")[0] == "to [iban] 5"


LIKELY = {
    "ann.b+c@mail.example.com": "email",
    "DE89 3704 0044 0532 0130 00": "iban",
    "GB82WEST12345698765432": "iban",
    "4111-1111-1111-1111": "card",
    "378282246310005": "card",
    "+34846 604 499": "phone",
    "(351) 919044937": "phone",
    "0176606276": "phone",
    "+44 (0)20 7946 0958": "phone",
}
UNLIKELY = [
    "01.02.2026",
    "2026-01-31 12.00.00",
    "(2026-01-31 12:00)",
    "T22:55:09.990625+00:00",
    "09.00-17.00",
    "1767225600000",
    "3@2.50",
    "0.4111111111111111",
    "4111111111111111.50",
    "00012345678",
    "[2 1 0 1 0 1 1 1 0 1 0 0 1]",
    "\u212aK12 aaaaaaaaaaaaaaaaaa",
    "4111111111111111aa00aa00aa00aa00",
    "4111-1111-1111-1112",
    "GB82WEST12345698765433",
    "0000000000000000",
    "amount 0.0176606276",
    "2026-01-31T12:00:00Z",
    "thank you @ 5",
    "order 12345678",
    "3f0176606276ab",
]


@pytest.mark.parametrize("said", LIKELY)
def test_likely_identifiers_are_found_to_their_ends(said: str) -> None:
    found = find_identifiers(f"please use {said}, thanks")
    assert [(one.kind, one.start, one.end) for one in found] == [(LIKELY[said], 11, 11 + len(said))]


@pytest.mark.parametrize("said", UNLIKELY)
def test_other_numbers_are_left_alone(said: str) -> None:
    assert find_identifiers(f"see {said} there") == []


def test_2500_identifiers_in_100_000_memos_are_all_found_and_nothing_else() -> None:
    dice = np.random.default_rng(0)
    fake = Faker("de_DE")
    fake.seed_instance(0)
    kinds = {"card": "4242 4242 4242 4242", "iban": "DE89 3704 0044 0532 0130 00"}
    usual = ("thank you", "order {0}", "rent 01/2026", "invoice 2026-{0}", "am 31.01.2026 um 12.30", "50 % of 1.234,50")
    memos = [usual[i % len(usual)].format(10_000 + i) for i in range(100_000)]
    planted: dict[str, int] = dict.fromkeys(("card", "iban", "email", "phone"), 0)
    expected = list(memos)
    for number, row in enumerate(dice.choice(len(memos), 2500, replace=False)):
        kind = list(planted)[number % 4]
        made = kinds.get(kind) or (fake.email() if kind == "email" else f"+49 30 {number:07d}")
        memos[row], expected[row] = f"{memos[row]}, {made} please", f"{expected[row]}, [{kind}] please"
        planted[kind] += 1
    masked, counts = mask(pd.Series(memos, dtype="str"))
    assert counts == planted
    assert masked.tolist() == expected


def test_repeated_missing_and_empty_memos_keep_their_rows() -> None:
    call = "call +49 30 1234567"
    values = pd.Series([call, None, "", call, "hi"], index=[9, 7, 5, 3, 1], dtype="str")
    masked, counts = mask(values.rename("memo"))
    assert masked.fillna("-").to_dict() == {9: "call [phone]", 7: "-", 5: "", 3: "call [phone]", 1: "hi"}
    assert (counts["phone"], masked.name, str(masked.dtype)) == (2, "memo", "str")
    assert mask(pd.Series([], dtype="str"))[1] == dict.fromkeys(("card", "iban", "email", "phone"), 0)
    assert mask(pd.Series([None, None], dtype="str"))[0].isna().all()


def test_the_quick_look_passes_over_nothing_that_the_close_look_finds() -> None:
    dice = random.Random(3)
    pieces = [*"01249+() -./xaZ@_é４", "\u00a0", "call ", "tel.", "me ", "at ", "number is ", "\x1b[31m"]
    pieces += ["1111", "555-0147", " 01", IBANS[9], "4111111111111111"]
    texts = ["".join(dice.choices(pieces, k=dice.randint(1, 14))) for _ in range(20_000)]
    passed = pc.match_substring_regex(pa.array(texts, pa.large_string()), SUSPECT).to_pylist()
    holds = [bool(find_identifiers(text)) for text in texts]
    assert sum(holds) > 2000
    assert not [text for text, found, look in zip(texts, holds, passed) if found and not look]


def test_a_million_memos_take_about_a_second_of_cpu() -> None:
    words = np.array(["thank", "you", "for", "the", "order", "see", "receipt", "family", "rent", "dinner", "expenses"])
    dice = np.random.default_rng(1)
    memos = [f"{' '.join(row)} {i}" for i, row in enumerate(words[dice.integers(0, len(words), (200_000, 4))])]
    memos[77] = "ann@example.com"
    values = pd.Series(memos, dtype="str")
    began = time.process_time()
    assert mask(values)[1]["email"] == 1
    assert 5 * (time.process_time() - began) < 1.5


def test_long_texts_without_a_break_take_no_longer_than_their_length() -> None:
    began = time.process_time()
    for sign in ("a", "1", "1 ", "0-", "a.", "(1)", "A1"):
        find_identifiers(sign * 50_000 + "@")
    assert time.process_time() - began < 5


# Notebooks


SECRET = {"email": "zoe@mail.example.com", "card": "4242 4242 4242 4242", "phone": "+49 30 1234567", "iban": IBANS[9]}


def notebook() -> dict[str, Any]:
    import nbformat.v4 as v4

    said = " and ".join(SECRET.values())
    outputs = [
        v4.new_output("stream", name="stdout", text=f"first\n{said}\n"),
        v4.new_output(
            "execute_result",
            {
                "text/plain": f"'{SECRET['email']}'",
                "text/html": f"<td>{SECRET['card']}</td>",
                "application/json": {"who": [SECRET["email"], {"card": 4242424242424242}], "share": 0.25, "ok": True},
                "image/png": "aGVsbG8+MDQ5MzA=",
            },
            execution_count=1,
        ),
        v4.new_output("error", ename="E", evalue=SECRET["iban"], traceback=[f"\x1b[31m{SECRET['phone']}\x1b[0m"]),
    ]
    cells = [v4.new_code_cell(f"find('{SECRET['email']}')", outputs=outputs), v4.new_markdown_cell("All is well.")]
    made = v4.new_notebook(cells=cells)
    made["metadata"]["widgets"] = {"state": {"a": {"value": SECRET["email"]}}}
    return made


def manager(root: Path) -> Any:
    from jupyter_server.services.contents.filemanager import FileContentsManager
    from traitlets.config import Config

    hook = "fraudlab.jupyter_hook.mask_outputs"
    return FileContentsManager(root_dir=str(root), config=Config({"ContentsManager": {"pre_save_hook": hook}}))


def test_a_notebook_saved_by_jupyter_holds_no_identifier_in_its_outputs(tmp_path: Path) -> None:
    import nbformat

    jupyter = manager(tmp_path)
    jupyter.save({"type": "notebook", "format": "json", "content": notebook()}, "a.ipynb")
    written = (tmp_path / "a.ipynb").read_text()
    saved = nbformat.read(tmp_path / "a.ipynb", as_version=4)
    nbformat.validate(saved)
    code, text = saved.cells
    assert code.source == f"find('{SECRET['email']}')", "a source is the person's own"
    assert code.metadata["fraudlab"] == {"warning": "the source of this cell holds what looks like email (1)"}
    assert "fraudlab" not in text.metadata
    assert saved.metadata["fraudlab"]["masked"] == {"card": 3, "email": 4, "iban": 2, "phone": 2}
    stream, result, error = code.outputs
    assert stream.text == "first\n[email] and [card] and [phone] and [iban]\n"
    assert result.data["text/plain"] == "'[email]'"
    assert result.data["text/html"] == "<td>[card]</td>"
    assert result.data["application/json"] == {"who": ["[email]", {"card": "[card]"}], "share": 0.25, "ok": True}
    assert result.data["image/png"].strip() == "aGVsbG8+MDQ5MzA="
    assert (error.evalue, error.traceback) == ("[iban]", ["\x1b[31m[phone]\x1b[0m"])
    assert written.count(SECRET["email"]) == 1
    assert not [secret for secret in SECRET.values() if secret != SECRET["email"] and secret in written]
    # Once the source is mended and saved again, nothing is noted any more.
    saved.cells[0].source = "find(name)"
    jupyter.save({"type": "notebook", "format": "json", "content": saved}, "a.ipynb")
    again = nbformat.read(tmp_path / "a.ipynb", as_version=4)
    assert "fraudlab" not in again.cells[0].metadata
    assert "fraudlab" not in again.metadata


def test_a_notebook_that_cannot_be_masked_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tornado.web import HTTPError

    import fraudlab.jupyter_hook as hook

    def fails(text: str) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(hook, "mask_text", fails)
    with pytest.raises(HTTPError, match="could not be masked") as refused:
        manager(tmp_path).save({"type": "notebook", "format": "json", "content": notebook()}, "a.ipynb")
    assert SECRET["email"] not in str(refused.value)
    assert not list(tmp_path.rglob("*.ipynb"))


def test_other_files_are_saved_as_they_are(tmp_path: Path) -> None:
    manager(tmp_path).save({"type": "file", "format": "text", "content": SECRET["email"]}, "a.txt")
    assert (tmp_path / "a.txt").read_text() == SECRET["email"]
    model = {"type": "directory", "content": None}
    mask_outputs(model, path="x", contents_manager=None)
    assert json.dumps(model) == '{"type": "directory", "content": null}'
