"""Faces: what the commands that mend and explain usage do. Each answers whether all is well."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from meterkit.cli.commands import print_json, tables_for
from meterkit.cli.loading import CommandError, load_kit


def backfill(arguments: argparse.Namespace) -> bool:
    """Count the usage in a file."""
    from meterkit.backfill import backfill

    tables = tables_for(arguments)
    path = Path(arguments.file)
    if not path.is_file():
        raise CommandError(f"there is no file {arguments.file}; give a CSV with meter,company,quantity,at")
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = asdict(
            backfill(
                kit.process(),
                kit.meters,
                path,
                now=kit.clock(),
                track=tables.track if tables is not None else lambda portions, _: portions,
            )
        )
    if tables is None:
        print_json(found)
    else:
        again = f" {found['known']:,} had been counted before." if found["known"] else ""
        print(f"{found['counted']:,} of {found['rows']:,} rows are counted now.{again}")
    return True
