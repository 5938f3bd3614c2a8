"""fraudlab: an open workbench for fraud analytics and fraud-model training.

The package is a house of five floors; an import goes down or stays on its floor (README, "Where do I add ...?").
Importing `fraudlab` itself loads nothing heavy.
"""

__version__ = "0.1.0"
