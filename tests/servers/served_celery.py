"""A Celery app on a broker of files: its tasks count, and tell the test when they are done."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from celery import Celery

from meterkit import Meter, MeterKit

BROKER = Path(os.environ["SERVED_BROKER"])

kit = MeterKit(meters=[Meter("calls")], customer_ids=True, flush_interval=0.2)

if "SERVED_AT_IMPORT" in os.environ:
    kit.record("calls", os.environ["SERVED_AT_IMPORT"])

app = Celery("served_celery", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(BROKER),
        "data_folder_out": str(BROKER),
        "control_folder": str(BROKER / "control"),
        "polling_interval": 0.05,
    },
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


@app.task(name="served_celery.work")
def work(company: str, port: int) -> None:
    """Count, say so, and end when the test hangs up."""
    kit.record("calls", company)
    with socket.create_connection(("127.0.0.1", port)) as gate:
        gate.recv(1)
