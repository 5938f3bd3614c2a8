"""Data sets: from a raw table through its contract into the vault, and out again for a purpose."""

from fraudlab.datasets.ingest import ingest, raw_identifiers
from fraudlab.datasets.load import daily_volume, dataset_facts, label_maturity, load_transactions

__all__ = ["daily_volume", "dataset_facts", "ingest", "label_maturity", "load_transactions", "raw_identifiers"]
