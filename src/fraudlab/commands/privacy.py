"""`fraudlab privacy`: consent, rights, re-identification, risk and search, a module each, under one word."""

from __future__ import annotations

import typer

app = typer.Typer(help="Protect the customers: consent, rights, risk, search.", no_args_is_help=True)
