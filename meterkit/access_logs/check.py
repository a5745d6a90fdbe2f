"""What lines of a log would count: `meterkit tail --check`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from meterkit.access_logs.counter import LineCounter
from meterkit.access_logs.files import BrokenFileError, Content, Found, clean, find
from meterkit.access_logs.formats.line import UnreadableError
from meterkit.access_logs.formats.named import Format, read_by_any, recognized
from meterkit.access_logs.tail import BATCH, outdated
from meterkit.errors import ConfigurationError

SHOWN = 10
"""Number of lines that do not count, and are shown."""


@dataclass(slots=True)
class Checked:
    """
    What the lines of a file would count.

    Attributes:
        path: Path of the file.
        format: Name of its format; None if none is known.
        lines: Number of its lines.
        uncounted: Number of those that cannot be counted.
        errors: Why, with the numbers of the first of them.
        usage: Quantity by meter and company; the company is empty if none was identified. For a meter with ``unique()``
            or ``maximum()``, the number of requests that it looked at.
    """

    path: str
    format: str | None
    lines: int = 0
    uncounted: int = 0
    errors: list[str] = field(default_factory=list)
    usage: dict[tuple[str, str], int] = field(default_factory=dict)

    def refuse(self, why: str) -> None:
        """Note that the present line does not count."""
        self.uncounted += 1
        if len(self.errors) < SHOWN:
            self.errors.append(f"line {self.lines:,}: {why}")


def check(
    patterns: Iterable[str],
    *,
    counter: LineCounter,
    formats: Sequence[Format] | None,
    since: int,
    clock: Callable[[], float],
) -> list[Checked]:
    """
    Return what the lines of files would count, from their beginning, whatever has been counted of them.

    Args:
        patterns: Paths of log files, or patterns for them; what is beside a path is not read.
        counter: Counts lines.
        formats: Formats that the lines have; None to find out.
        since: Unix second before which no line counts.
        clock: Function that returns Unix seconds.

    Raises:
        ConfigurationError: There is no such file, or it cannot be read.
    """
    found: list[Checked] = []
    for pattern in patterns:
        files = [each for each in find(pattern) if each.is_asked]
        if not files:
            raise ConfigurationError(f"there is no file {pattern}")
        try:
            found += [_check(each, counter, formats, since, clock) for each in files]
        except (OSError, BrokenFileError) as error:
            raise ConfigurationError(f"{pattern} cannot be read: {error}") from None
    return found


def _check(
    found: Found, counter: LineCounter, formats: Sequence[Format] | None, since: int, clock: Callable[[], float]
) -> Checked:
    content = Content(found)
    checked = Checked(str(found.path), formats[0].name if formats else None)
    position = 0
    try:
        while (piece := content.lines(position, most=BATCH)) is not None:
            position += piece.size
            cleaned = [clean(line) for line in piece.lines]
            if formats is None:
                best = recognized([line for line in cleaned if line])
                if best is not None:
                    formats, checked.format = [best], best.name
            for _ in range(piece.overlong):
                checked.lines += 1
                checked.refuse("it is longer than any line of a log")
            for text in cleaned:
                checked.lines += 1
                if text:
                    _count(text, checked, counter, formats or (), since=since, now=clock())
            for (meter, _, company, _, _), quantity, _ in counter.take():
                checked.usage[meter, company] = checked.usage.get((meter, company), 0) + quantity
    finally:
        content.close()
    return checked


def _count(
    text: bytes, checked: Checked, counter: LineCounter, formats: Sequence[Format], *, since: int, now: float
) -> None:
    try:
        line = read_by_any(formats, text)
    except UnreadableError as error:
        checked.refuse(str(error))
        return
    if line.at >= since:
        why = outdated(line.at, now)
        if why is None:
            counter.add(line, min(int(line.at), int(now)))
        else:
            checked.refuse(why)
