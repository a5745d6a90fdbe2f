"""
Lines of access logs per second, read, counted and committed by `meterkit tail`, beside a loop that only splits them.

    python -m benchmarks.logs [--lines 200000]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from meterkit import Meter, MeterKit
from meterkit.access_logs.counter import LineCounter, by_field
from meterkit.access_logs.formats.named import format_named
from meterkit.access_logs.tail import Tail
from meterkit.metering.identification import IdentityResolver

COMPANIES = 1_000
ROUNDS = 5

FORMATS = {
    "combined": lambda now, company: (
        f"10.0.0.7 - {company} [{time.strftime('%d/%b/%Y:%H:%M:%S +0000', time.gmtime(now))}] "
        f'"GET /v1/search?q=some+words HTTP/1.1" 200 1234 "-" "Mozilla/5.0 (X11; Linux x86_64) curl/8.5.0"\n'
    ),
    "json": lambda now, company: (
        f'{{"time": {now}, "request": "GET /v1/search?q=some+words HTTP/1.1", "status": 200, "body_bytes_sent": 1234, '
        f'"remote_user": "{company}", "http_user_agent": "Mozilla/5.0 (X11; Linux x86_64) curl/8.5.0"}}\n'
    ),
}


def main() -> None:
    """Measure each format."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.logs", description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000, help="lines of the log")
    lines = parser.parse_args().lines
    print("| format | lines/s | times as long as splitting |")
    print("|---|--:|--:|")
    for name, line in FORMATS.items():
        with tempfile.TemporaryDirectory(prefix="meterkit-benchmark-") as directory:
            log = Path(directory) / "access.log"
            now = int(time.time()) - lines // 1000
            with log.open("w") as file:
                file.writelines(line(now + each // 1000, f"company-{each % COMPANIES}") for each in range(lines))
            times = [(took(split, log), took(count, log, name, directory)) for _ in range(ROUNDS)]
        ratio = statistics.median(counting / splitting for splitting, counting in times)
        speed = lines / statistics.median(counting for _, counting in times)
        print(f"| {name} | {speed:,.0f} | {ratio:.0f} |", flush=True)


def took(work: Callable[..., object], *arguments: object) -> float:
    begun = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begun


def split(log: Path) -> None:
    with log.open("rb") as file:
        for line in file:
            line.split()


def count(log: Path, name: str, directory: str) -> None:
    kit = MeterKit(
        meters=[Meter("searches", path="/v1/search"), Meter("egress", path="/v1/*", value="response_bytes")],
        data_dir=tempfile.mkdtemp(dir=directory),
    )
    problems = kit.recorder.problems
    identity = IdentityResolver(by_field("remote_user"), problems)
    tail = Tail(
        kit.process().database(),
        [str(log)],
        counter=LineCounter(kit.meters.values(), identity=identity, problems=problems),
        formats=[format_named(name)],
        source="",
        since=0,
        follows=False,
        problems=problems,
        clock=time.time,
        stops=lambda: False,
        says=print,
    )
    while tail.poll():
        pass
    tail.close()
    assert not problems.as_dict().keys() - {"no_stripe_key"}, problems.as_dict()
    kit.close()


if __name__ == "__main__":
    main()
