"""`fraudlab report`: make a report, verify one, compare two, list all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from fraudlab.commands.shared import JsonOption, print_json, print_table, workspace_of


class _Words(TyperGroup):
    """The word `make` may be left out: `fraudlab report RUN` makes a report."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Words,
    no_args_is_help=True,
    help="Make a report for reviewers, verify one, compare two, list all.\n\n"
    "The word make may be left out:  [bold]fraudlab report RUN[/bold]  or  "
    "[bold]fraudlab report --model demo@champion --format pdf --lang zh[/bold]",
)
RunOption = Annotated[str, typer.Option("--run", help="A run: `fraudlab runs`.")]
ModelOption = Annotated[str, typer.Option("--model", help="A registered model: NAME@ALIAS or NAME/VERSION.")]


@app.command("make")
def make(
    name: Annotated[str, typer.Argument(metavar="[RUN]", help="A run: `fraudlab runs`. The same as --run.")] = "",
    run: RunOption = "",
    model: ModelOption = "",
    kind: Annotated[
        Literal["html", "pdf"] | None, typer.Option("--format", help="Default: what the run's config says.")
    ] = None,
    lang: Annotated[Literal["en", "zh"] | None, typer.Option(help="Default: what the run's config says.")] = None,
    out: Annotated[Path | None, typer.Option(help="HTML or PDF file; default: reports/<run>.html.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's report for reviewers again, from its evidence, and its notebooks and the index beside it.

    Example: fraudlab report --model demo@champion --format pdf --out /tmp/review.pdf
    """
    from fraudlab.schema import InputError

    named = [word for word in (name, run, model) if word]
    if len(named) != 1:
        raise InputError(
            f"report: name one run (RUN or --run) or one model (--model); found {len(named)} of them; see fraudlab runs"
        )
    suffix = "" if out is None else out.suffix.lower()
    if out is not None and suffix not in (".html", ".pdf"):
        raise InputError(f"out: must end in .html or .pdf; found '{out.name}'; rename it")
    if kind is not None and suffix and suffix != f".{kind}":
        raise InputError(f"out: must end in .{kind} as --format says; found '{out.name}'; change one of both")
    workspace = workspace_of()
    folder, title, source = _source(workspace, name or run, model)
    written, remarks = _write(workspace, folder, title, source, lang, kind, out)
    if as_json:
        print_json({"written": [_near(path, workspace) for path in written], "remarks": remarks})
        return
    for path in written:
        typer.echo(_near(path, workspace))
    for remark in remarks:
        typer.echo(remark, err=True)


def _source(workspace: Any, run: str, model: str) -> tuple[Path, str, Any]:
    """Return the folder with the evidence, the name of its reports, and the run where its folder is still there."""
    from fraudlab.config import load_config
    from fraudlab.runs import Run
    from fraudlab.schema import InputError, did_you_mean

    if model:
        folder, title, version = _version(workspace, model)
        mine = workspace.runs / title
        if not _is_of(mine, version):  # made anew since: what was logged with the version speaks for it
            return folder, f"{version.name}-v{version.version}", None
        run = title
    folder = workspace.runs / run
    if not folder.is_dir():
        there = [path.parent.name for path in workspace.runs.glob("*/state.json")]
        raise InputError(f"run: no run '{run}'; {did_you_mean(run, there)}")
    used = folder / "config.toml"
    return folder, run, Run(folder, load_config(used), workspace) if used.is_file() else None


def _version(workspace: Any, model: str) -> tuple[Path, str, Any]:
    from fraudlab import tracking
    from fraudlab.schema import InputError
    from fraudlab.tracking_registry import find_version

    version = find_version(tracking.open_store(workspace), model)
    if version.folder is None and not _is_of(workspace.runs / version.run, version):
        raise InputError(
            f"model: {version.name} version {version.version} comes from run '{version.run}', whose evidence is not in "
            "runs/ or MLflow any more; train it anew or restore a backup"
        )
    return version.folder or workspace.runs / version.run, version.run, version


def _is_of(folder: Path, version: Any) -> bool:
    """Say whether a run's folder still holds what a version was registered with."""
    import json

    try:
        facts = json.loads((folder / "evidence" / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (facts.get("model_name"), str(facts.get("model_version"))) == (version.name, version.version)


def _write(
    workspace: Any, folder: Path, title: str, run: Any, lang: str | None, kind: str | None, out: Path | None
) -> tuple[list[Path], list[str]]:
    import tempfile

    from fraudlab.privacy.auditlog import audit_log
    from fraudlab.report import build_report, to_pdf
    from fraudlab.report.index import write_index
    from fraudlab.report.making import make_reports, signer_of

    signer, remarks = signer_of(workspace)
    if out is None and run is not None:
        made = make_reports(run, languages=[lang] if lang else None, formats=[kind] if kind else None)
        return [*made.reports, *made.notebooks[:1], made.index], made.remarks
    suffix = kind or (out.suffix[1:].lower() if out is not None else "html")
    spoken = lang or (run.config.report.languages[0] if run is not None else "en")
    written = out or workspace.reports / f"{title}{'' if spoken == 'en' else f'.{spoken}'}.{suffix}"
    if suffix == "html":
        build_report(folder, written, lang=spoken, signer=signer)
    else:
        with tempfile.TemporaryDirectory() as passing:
            html = build_report(folder, Path(passing) / "report.html", lang=spoken, signer=signer)
            remarks += to_pdf(html, written, signer)
    if out is None:
        return [written, write_index(workspace, signer)], remarks
    audit_log(workspace).append("export", what="report", run=title, to=out.suffix)
    return [written], remarks


@app.command("verify")
def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Reports, HTML or PDF.")],
    key: Annotated[str, typer.Option(help="The public key its makers told you, as a report's footer prints it.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Say whether a report is as it was signed, and by which key; works anywhere, from the file alone.

    Exit code 0: intact, and signed by this workspace's key or the one named. 1: altered, or signed by a key that is not
    known here. 2: unsigned, or no file.

    Example: fraudlab report verify reports/demo-1a2b3c4d5e.html
    """
    from fraudlab.report.sealing import examine
    from fraudlab.schema import InputError

    known = _known_here()
    found = {}
    for path in files:
        if not path.is_file():
            raise InputError(f"file: no report at {path.name}; check its name")
        found[path] = examine(path.read_bytes(), known, key)
    if as_json:
        print_json(
            [
                {
                    "file": path.name,
                    "state": each.state,
                    "ok": each.ok,
                    "key": each.signer,
                    "known": each.known,
                    "changed": each.changed,
                    "sentence": each.sentence,
                }
                for path, each in found.items()
            ]
        )
    else:
        for path, each in found.items():
            typer.echo(f"{path.name}: {each.sentence}" if len(found) > 1 else each.sentence)
    if any(each.state == "altered" or (each.state == "intact" and not each.ok) for each in found.values()):
        raise typer.Exit(1)
    if any(each.state == "unsigned" for each in found.values()):
        raise typer.Exit(2)


def _known_here() -> dict[str, str]:
    """Return the keys of the workspace one stands in; none where there is no workspace, or its keys are not ours."""
    import contextlib

    from fraudlab.report.sealing import known_keys
    from fraudlab.schema import FraudlabError

    with contextlib.suppress(FraudlabError):
        return known_keys(workspace_of())
    return {}


@app.command("diff")
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A report's file, a run, NAME@ALIAS or NAME/VERSION.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The one to hold against it.")],
    out: Annotated[Path | None, typer.Option(help="Write the differences to an .html or .json file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also from reports that are altered or unsigned.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what changed between two reports: decision, figures, config, features, checks, data and code.

    Example: fraudlab report diff demo/1 demo@champion --out reports/changes.html
    """
    from fraudlab.report.differences import TITLES, compare, differences_page, headline
    from fraudlab.runs import write_whole
    from fraudlab.schema import InputError

    if out is not None and out.suffix not in (".html", ".json"):
        raise InputError(f"out: must end in .html or .json; found '{out.name}'; rename it")
    sides = [_facts(word, force) for word in (before, after)]
    tables = compare(*sides)
    told = {name: table.to_dict("records") for name, table in tables.items()}
    said = headline(tables, *sides)
    if out is not None:
        import json

        page = (
            differences_page(tables, *sides)
            if out.suffix == ".html"
            else json.dumps({"summary": said} | told, indent=1)
        )
        write_whole(out, page + ("" if page.endswith("\n") else "\n"))
    if as_json:
        print_json({"summary": said} | told)
        return
    typer.echo(said)
    for name, table in tables.items():
        if len(table):
            typer.echo(f"\n{TITLES[name]}")
            print_table(table)


def _facts(word: str, force: bool) -> dict[str, Any]:
    """Return the facts in a report's file, or of a run's or a version's evidence."""
    from fraudlab.report import read_evidence
    from fraudlab.report.differences import facts
    from fraudlab.report.sealing import embedded, examine
    from fraudlab.schema import InputError

    path = Path(word)
    if not path.is_file():
        if path.suffix in (".html", ".pdf"):
            raise InputError(f"report: no file at {path.name}; check its name")
        workspace = workspace_of()
        model = word if "@" in word or "/" in word else ""
        folder, _, _ = _source(workspace, "" if model else word, model)
        return facts(read_evidence(folder / "evidence"))
    data = path.read_bytes()
    found = examine(data, _known_here())
    if found.state != "intact" and not force:
        raise InputError(
            f"report {path.name}: must be as it was signed. {found.sentence} --force compares it all the same"
        )
    told = embedded(data)
    if told is None:
        why = "a PDF holds none" if path.suffix == ".pdf" else "it was made by an earlier fraudlab"
        raise InputError(f"report {path.name}: must hold facts for programs; found none ({why}); name its run or HTML")
    return told


@app.command("index")
def index() -> None:
    """Write the page that lists all models and reports anew: reports/index.html.

    Example: fraudlab report index
    """
    from fraudlab.report.index import write_index
    from fraudlab.report.making import signer_of

    workspace = workspace_of()
    signer, remarks = signer_of(workspace)
    typer.echo(_near(write_index(workspace, signer), workspace))
    for remark in remarks:
        typer.echo(remark, err=True)


def _near(path: Path, workspace: Any) -> str:
    return str(path.relative_to(workspace.root)) if path.is_relative_to(workspace.root) else str(path)
