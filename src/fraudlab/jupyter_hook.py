"""What JupyterLab calls before it writes a notebook: likely identifiers in outputs are masked, in sources told.

    jupyter lab --ContentsManager.pre_save_hook=fraudlab.jupyter_hook.mask_outputs

The notebook open in the browser keeps its outputs; only what reaches the disk is masked.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from fraudlab.privacy.masking import find_identifiers, mask_text

NOTE = "fraudlab"
"""The key of the metadata that tells what was found."""

_BINARY = ("image/", "audio/", "video/", "application/pdf", "application/octet-stream")
_TEXTUAL = "image/svg+xml"


def mask_outputs(model: dict[str, Any], **kwargs: Any) -> None:
    """Mask likely identifiers in the outputs of a notebook that is about to be written; change it in place.

    Parameters
    ----------
    model : a contents model of Jupyter Server. Anything but a notebook (nbformat 4) is left alone.
    kwargs : `path` and `contents_manager`, whose log is told.

    Raises
    ------
    HTTPError : 500 where masking failed; the notebook is not written, rather than written unmasked.

    Notes
    -----
    Masked are streams, tracebacks, every text of an output (plain, HTML, JSON, SVG ...), its metadata, and the saved
    state of widgets; pictures are not. The metadata `fraudlab.masked` of the notebook counts what was masked by kind. A
    source is not changed: where it holds a likely identifier, `fraudlab.warning` in the cell's metadata says so.
    """
    if model.get("type") != "notebook" or not isinstance(model.get("content"), dict):
        return
    try:
        counts, warned = _mask_notebook(model["content"])
    except Exception as error:
        from tornado.web import HTTPError

        # Jupyter Server swallows any other error and writes the notebook as it is. The error may hold a value.
        reason = f"Not saved: the outputs could not be masked ({type(error).__name__}). Clear them and save again."
        raise HTTPError(500, reason, reason="Not saved: the outputs could not be masked") from None
    manager = kwargs.get("contents_manager")
    if manager is not None and (counts or warned):
        said = f"masked in outputs: {_said(counts)}; " if counts else ""
        held = f"cells whose source holds likely identifiers: {', '.join(map(str, warned))}" if warned else ""
        manager.log.warning("fraudlab: %s%s", said, held)


def _mask_notebook(notebook: dict[str, Any]) -> tuple[Counter[str], list[int]]:
    """Mask a notebook in place; return what was masked, by kind, and which cells' sources hold something."""
    counts: Counter[str] = Counter()
    warned = []
    for number, cell in enumerate(notebook.get("cells", []), start=1):
        for output in cell.get("outputs", []):
            _mask_output(output, counts)
        held = Counter(found.kind for found in find_identifiers(_joined(cell.get("source", ""))))
        _note(cell, "warning", f"the source of this cell holds what looks like {_said(held)}" if held else None)
        if held:
            warned.append(number)
    widgets = notebook.get("metadata", {}).get("widgets")
    if widgets:
        notebook["metadata"]["widgets"] = _masked(widgets, counts)
    _note(notebook, "masked", dict(sorted(counts.items())) or None)
    return counts, warned


def _mask_output(output: dict[str, Any], counts: Counter[str]) -> None:
    for field in ("text", "ename", "evalue", "traceback", "metadata"):
        if field in output:
            output[field] = _masked(output[field], counts)
    for kind, content in output.get("data", {}).items():
        if kind == _TEXTUAL or not kind.startswith(_BINARY):
            output["data"][kind] = _masked(content, counts)


def _masked(value: Any, counts: Counter[str]) -> Any:
    """Return a JSON value with every text in it masked; a number that is a card's becomes a text."""
    if isinstance(value, dict):
        return {_masked(str(key), counts): _masked(item, counts) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, counts) for item in value]
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        text, found = mask_text(str(value))
        counts.update(found)
        return text if found else value
    return value


def _joined(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def _note(owner: dict[str, Any], name: str, value: Any) -> None:
    """Write, or take away, one entry under `fraudlab` in the metadata of a cell or a notebook."""
    notes = {key: kept for key, kept in owner.get("metadata", {}).get(NOTE, {}).items() if key != name}
    if value is not None:
        notes[name] = value
    if notes:
        owner.setdefault("metadata", {})[NOTE] = notes
    else:
        owner.get("metadata", {}).pop(NOTE, None)


def _said(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} ({number})" for kind, number in sorted(counts.items()))
