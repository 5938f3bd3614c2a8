"""Backup and recovery: a consistent snapshot of the workspace, sealed in one file or kept in a restic repository.

`create` makes one, `verify` reads every byte of it, `restore` puts it into a new folder, and `drill.drill` proves that
the result loads and scores as here. Keys are never in it: `fraudlab keys backup` keeps them apart from what they open.
"""

from fraudlab.backup.recovery import backup_state, backups_table, create, newest, replay_rights, restore, verify
from fraudlab.backup.restic import Repository
from fraudlab.backup.sealed import DamagedBackupError

__all__ = [
    "DamagedBackupError",
    "Repository",
    "backup_state",
    "backups_table",
    "create",
    "newest",
    "replay_rights",
    "restore",
    "verify",
]
