"""
Where a thread flushes although a process could be started, as long as the kit does not ask for one.

A process imports the kit anew. These are the kits and places of which that may be wrong, or more than the machine has.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meterkit.governance.policy import Quota
    from meterkit.notices.rules import Notify
    from meterkit.runtime.settings import Settings

NEEDED_BYTES = 64 << 20
"""What a process that flushes takes, besides what the import of the kit's module does."""

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")
"""See cgroups(7)."""

_MEMORY = (
    ("memory.max", "memory.current", "inactive_file"),  # version 2
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),  # version 1
)
"""Names of files with the limit and what is used, and of a line of ``memory.stat`` beside them."""

SERVERLESS = ("AWS_LAMBDA_FUNCTION_NAME", "FUNCTIONS_WORKER_RUNTIME", "K_SERVICE", "VERCEL")
"""Environment variables of platforms that freeze a process between two requests."""

_DEBUGGERS = ("debugpy", "pydevd")

CHOOSE = "flusher='process' starts one nevertheless"


def reason_to_stay(settings: Settings, *, functions: Sequence[str]) -> str | None:
    """
    Return why a thread of this process is to flush, as the end of a sentence; None if a process of its own may.

    Args:
        settings: Settings of the kit.
        functions: Result of `functions_called`.
    """
    if functions:
        return (
            f"the kit calls functions of yours when it flushes ({', '.join(functions)}), which may need what only a "
            f"process that serves has set up. If they work after an import of the kit's module alone, {CHOOSE}"
        )
    if settings.clock is not time.time:
        return "the kit has a clock= of its own"
    platform = next((name for name in SERVERLESS if os.environ.get(name)), None)
    if platform is not None:
        return f"this platform freezes processes between requests ({platform} is set)"
    debugger = next((name for name in _DEBUGGERS if name in sys.modules), None)
    if debugger is not None:
        return f"this process is being debugged ({debugger} is loaded); {CHOOSE}"
    left, own = memory_left(), resident()
    if left is not None and left < own + NEEDED_BYTES:
        return (
            f"the container's memory limit leaves {left >> 20} MiB, and another process may need {NEEDED_BYTES >> 20} "
            f"MiB and the {own >> 20} MiB that this one has: raise the limit; {CHOOSE}"
        )
    return None


def functions_called(find_customer: object, *, quotas: Iterable[Quota], notify: Iterable[Notify]) -> tuple[str, ...]:
    """
    Return the arguments of a kit that are functions of the application's, and are called by what flushes.

    Args:
        find_customer: Argument of the kit, or None.
        quotas: Quotas of the kit and of its plans.
        notify: Rules of its notices.
    """
    found = {
        "find_customer=": find_customer is not None,
        "limit=": any(callable(quota.limit) for quota in quotas),
        "notify=": any(_calls_application(channel) for rule in notify for channel in rule.to),
    }
    return tuple(name for name, is_function in found.items() if is_function)


def memory_left() -> int | None:
    """Return how many bytes the control group of this process may still use; None where nothing limits it."""
    for group in _groups():
        for limit_name, used_name, idle_name in _MEMORY:
            with suppress(OSError, ValueError):
                limit = int((group / limit_name).read_text())  # "max" for none
                used = int((group / used_name).read_text())
                if limit < _UNLIMITED_BYTES:
                    return max(0, limit - used + _idle(group / Path(limit_name).parent / "memory.stat", idle_name))
    return None


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 where /proc does not say."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


_UNLIMITED_BYTES = 1 << 60
"""What version 1 names as the limit where there is none is larger."""


def _groups() -> Iterator[Path]:
    """Yield the directory of this process's group, and that of all groups, which is its own in most containers."""
    with suppress(OSError):
        for line in OWN_GROUP.read_text().splitlines():
            if line.startswith("0::/"):
                yield CGROUPS / line.removeprefix("0::/")
    yield CGROUPS


def _idle(path: Path, name: str) -> int:
    """Return how much of the used memory is a cache of files, which the kernel gives away first."""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _calls_application(channel: Any) -> bool:
    """Return whether delivery to *channel* runs code of the application: a function, or a channel of its own."""
    if not type(channel).__module__.startswith("meterkit.channels."):
        return True
    return any(callable(each) and not _is_ours(each) for each in _options(channel))


def _options(channel: Any) -> Iterator[object]:
    for each in vars(channel).values():
        yield each
        if type(each).__module__.startswith("meterkit.channels."):
            yield from vars(each).values()


def _is_ours(function: Callable[..., object]) -> bool:
    return str(getattr(function, "__module__", "")).startswith("meterkit.")
