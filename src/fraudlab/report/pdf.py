"""A report as a tagged PDF (PDF/UA-1) through WeasyPrint, which is an extra: contents with page numbers, bookmarks."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from fraudlab.report.sealing import Signer, embedded, seal_pdf
from fraudlab.schema import FraudlabError, InputError

_GLYPH = re.compile(r"\(U\+([0-9A-F]{4,6})\)")
# Writing systems a reader would miss: the name of the one a character belongs to, and what Debian calls its font.
_CJK = range(0x2E80, 0xFFF0)


def to_pdf(html_path: Path, pdf_path: Path, signer: Signer | None = None) -> list[str]:
    """Turn a report into a tagged PDF with contents, page numbers and bookmarks.

    Parameters
    ----------
    html_path : a report written by `build_report`.
    pdf_path : the file to write; it appears whole or not at all, readable by its owner.
    signer : seals it; None leaves it unsigned.

    Returns
    -------
    A sentence for each thing that could not be drawn as meant, such as characters no font here has; usually none.

    Raises
    ------
    FraudlabError : WeasyPrint, or the Pango library it draws with, is not installed.
    InputError : there is no report at `html_path`.
    """
    html_path, pdf_path = Path(html_path), Path(pdf_path)
    if not html_path.is_file():
        raise InputError(f"html_path: no report at {html_path}; build it first")
    try:
        from weasyprint import CSS, HTML
        from weasyprint.urls import URLFetcher
    except ImportError:
        raise FraudlabError("PDF needs WeasyPrint, which is not installed; add it with: make extras") from None
    except OSError:
        raise FraudlabError("PDF needs the Pango library of the system; install it (Debian: libpango-1.0-0)") from None
    source = html_path.read_bytes()
    paper = CSS(string=files(__package__).joinpath("paper.css").read_text(encoding="utf-8"))
    with _missing_characters() as missing, _no_clock():
        # A report holds everything it shows: no other address is opened.
        page = HTML(string=source.decode("utf-8"), url_fetcher=URLFetcher(allowed_protocols={"data"}))
        # With hints, so that the numbers of the contents go on from part to part.
        data = page.write_pdf(stylesheets=[paper], pdf_variant="pdf/ua-1", presentational_hints=True)
    if signer is not None:
        data = seal_pdf(data, signer, (embedded(source) or {}).get("digests"))
    pdf_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=pdf_path.parent, prefix=f".{pdf_path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, pdf_path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return _missing_sentences(missing)


@contextlib.contextmanager
def _no_clock() -> Iterator[None]:
    """Keep the present moment out of the fonts that are cut to the characters used: the same report, the same bytes."""
    name = "SOURCE_DATE_EPOCH"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _missing_characters() -> Iterator[set[str]]:
    """Collect the characters that WeasyPrint says no font has, and keep its other remarks from the screen."""
    found: set[str] = set()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.update(chr(int(code, 16)) for code in _GLYPH.findall(record.getMessage()))

    logger, collector = logging.getLogger("weasyprint"), Collector()
    before, held = logger.propagate, list(logger.handlers)
    logger.handlers, logger.propagate = [collector], False
    try:
        yield found
    finally:
        logger.handlers, logger.propagate = held, before


def _missing_sentences(missing: set[str]) -> list[str]:
    """Say which characters stand as empty boxes.

    >>> _missing_sentences(set()), _missing_sentences({"险"})
    ([], ['PDF: no font here has 1 of its characters (Chinese), drawn as boxes; install one (Debian: fonts-noto-cjk).'])
    """
    if not missing:
        return []
    chinese = any(ord(each) in _CJK for each in missing)
    kind, package = ("Chinese", "fonts-noto-cjk") if chinese else (" ".join(sorted(missing)[:5]), "fonts-dejavu-core")
    return [
        f"PDF: no font here has {len(missing)} of its characters ({kind}), drawn as boxes; install one "
        f"(Debian: {package})."
    ]
