"""`fraudlab privacy`: consent, rights, re-identification, risk and search, a module each, under one word."""

from __future__ import annotations

import typer

from fraudlab.commands import consent, papers, reidentify, rights, risk, scan

app = typer.Typer(help="Protect the customers: consent, rights, risk, search.", no_args_is_help=True)
app.add_typer(consent.app, name="consent")
app.command()(risk.risk)
app.command()(papers.papers)
app.command()(scan.scan)
app.command()(reidentify.enrol)
app.command()(reidentify.reidentify)
app.command()(rights.access)
app.command()(rights.rectify)
app.command()(rights.erase)
app.command()(rights.retention)
