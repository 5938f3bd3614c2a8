"""`fraudlab awareness`: pages that teach staff and customers to notice fraud."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudlab.commands.shared import workspace_of


def awareness(
    run: Annotated[str, typer.Option(help="A finished run: `fraudlab runs`; default: the newest.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the pages.")] = Path("docs/awareness"),
) -> None:
    """Write pages on each kind of fraud, in English and Chinese: how it looks, what to do, what the model finds.

    Texts are the workbench's, pictures show invented people, figures come from the run's test.

    Example: fraudlab awareness --out docs/awareness
    """
    from fraudlab import awareness as pages
    from fraudlab.privacy.auditlog import audit_log
    from fraudlab.runs import finished_run

    workspace = workspace_of()
    chosen = finished_run(workspace, run)
    written = pages.write(chosen, out, command="fraudlab awareness")
    audit_log(workspace).append("export", what="awareness", run=chosen.folder.name, to="md")
    typer.echo(f"{len(written)} pages in {out}, from run {chosen.folder.name}. Next: open {out / 'README.md'}")
