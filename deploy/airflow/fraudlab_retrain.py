"""Nightly retraining in Airflow (2.9 or later, 3.x): one task a config, the same command as everywhere.

Copy it into the DAGs folder. The worker needs the project at FRAUDLAB_HOME with its `.venv`; Airflow itself needs
nothing of fraudlab. Exit code 75 (another run holds the lock) marks the task as skipped, 2 (the input breaks a rule)
fails it without a retry, because trying again would not help.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum

try:  # Airflow 3
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator

HOME = os.environ.get("FRAUDLAB_HOME", "/opt/fraudlab")
CONFIGS = ("demo",)

# In bash: 75 skips (Airflow's own skip code is 99), 2 fails at once (it is no use to retry a refused input).
COMMAND = """
cd "{home}" && umask 077
nice .venv/bin/fraudlab retrain --config configs/{config}.toml --as-of "{{{{ data_interval_end.to_iso8601_string() }}}}"
code=$?
[ "$code" -eq 75 ] && exit 99
exit "$code"
"""

with DAG(
    dag_id="fraudlab_retrain",
    description="Retrain, judge and register the fraud models",
    schedule="15 3 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["fraudlab"],
) as dag:
    for config in CONFIGS:
        BashOperator(
            task_id=f"retrain_{config}",
            bash_command=COMMAND.format(home=HOME, config=config),
            append_env=True,
            skip_on_exit_code=99,
            retries=1,
            retry_delay=timedelta(minutes=30),
            execution_timeout=timedelta(hours=3),
        )
