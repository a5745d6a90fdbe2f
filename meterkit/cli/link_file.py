"""Read a CSV file that says which Stripe customer pays for which company."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from meterkit.cli.kit_loader import CommandError

COLUMNS = ("company", "customer")
"""Columns of the file; others are ignored."""

SHOWN = 10
"""Number of wrong lines that the error lists."""


def links_in(path: Path) -> dict[str, str]:
    """
    Return the customer of each company in a CSV file with the columns ``company,customer``.

    Raises:
        CommandError: The file cannot be read, has no such columns, lacks a value, or links a company twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read as UTF-8: {error}") from None
    reader = csv.DictReader(io.StringIO(text), strict=True)
    found: dict[str, tuple[str, int]] = {}
    wrong: list[str] = []
    try:
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise CommandError(f"{path} must begin with a line that names its columns: company,customer")
        for row in reader:
            company, customer = ((row[name] or "").strip() for name in COLUMNS)
            if not company or not customer:
                wrong.append(f"line {reader.line_num} lacks a {'customer' if company else 'company'}")
            elif company in found:
                first = found[company][1]
                wrong.append(f"line {reader.line_num} links {company!r:.60} again, after line {first}")
            else:
                found[company] = customer, reader.line_num
    except csv.Error as error:
        raise CommandError(f"{path}, line {reader.line_num}: {error}") from None
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise CommandError(
            f"{path}: {'; '.join(wrong[:SHOWN])}{more}. Nothing was linked: keep one line for each company"
        )
    return {company: customer for company, (customer, _) in found.items()}
