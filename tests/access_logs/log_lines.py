"""What the tests of access logs have in common: a format, its lines, and what they counted."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

from warm import Warm

FORMAT = '$remote_addr - - [$time_local] "$request" $status $body_bytes_sent "$http_x_company"'


def line(company="acme", *, at, path="/v1/search", status=200, size=10, method="GET"):
    """A line of the format above, as nginx writes it."""
    when = datetime.fromtimestamp(at, tz=timezone.utc).strftime("%d/%b/%Y:%H:%M:%S +0000")
    return f'10.0.0.7 - - [{when}] "{method} {path} HTTP/1.1" {status} {size} "{company}"\n'


def drained(tail):
    """Let *tail* read until there is nothing new; return the number of lines."""
    total = 0
    while lines := tail.poll():
        total += lines
    return total


def used(kit, meter="searches"):
    """Quantity by company."""
    found = {}
    for row in kit.usage(meter=meter):
        found[row.company] = found.get(row.company, 0) + row.quantity
    return found


def meterkit(*words):
    """Run a command; return its exit code, stdout and stderr."""
    command = Warm(["-m", "meterkit", *map(str, words)], env=dict(os.environ), cwd=Path.cwd())
    command.stdin.close()
    with command.stdout as stdout, command.stderr as stderr, ThreadPoolExecutor(1) as reader:
        err = reader.submit(stderr.read)
        out = stdout.read()
        return command.wait(), out.decode(), err.result().decode()
