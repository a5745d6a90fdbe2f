"""Idempotency keys: the first response is kept for 24 hours and replayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meterkit.sandbox.protocol.errors import ApiError, key_in_use, malformed

if TYPE_CHECKING:
    from meterkit.sandbox.protocol.frame import Reply
    from meterkit.sandbox.state.clock import Clock

LIFETIME = 24 * 3600
LONGEST = 255


@dataclass
class _Entry:
    path: str
    params: str
    began_at: int
    request_id: str
    reply: Reply | None = None  # None while the request is in flight


class Keys:
    """The idempotency keys that were used, each with its response once there is one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def begin(self, key: str, path: str, params: str, request_id: str) -> tuple[Reply, str] | None:
        """
        Claim a key.

        Returns:
            None for the first use; afterwards, the stored response and the id of the request that received it.

        Raises:
            ApiError: 400 if the parameters or the path differ from the first use; 409 while that is in flight.

        """
        if len(key) > LONGEST:
            raise malformed(f"Invalid Idempotency-Key: must be at most {LONGEST} characters.")
        now = self._clock.now
        entry = self._entries.get(key)
        if entry is None or (entry.reply is not None and now >= entry.began_at + LIFETIME):
            self._entries[key] = _Entry(path, params, now, request_id)
            return None
        if entry.path != path:
            raise _misused(
                "Keys for idempotent requests can only be used for the same endpoint they were first used for "
                f"('{entry.path}' vs '{path}').",
                key,
            )
        if entry.params != params:
            raise _misused(
                "Keys for idempotent requests can only be used with the same parameters they were first used with.",
                key,
            )
        if entry.reply is None:
            raise key_in_use(key)
        return entry.reply, entry.request_id

    def finish(self, key: str, reply: Reply) -> None:
        """Store the response for replays."""
        self._entries[key].reply = reply

    def abandon(self, key: str) -> None:
        """Release a key whose request has no response to store."""
        del self._entries[key]


def _misused(sentence: str, key: str) -> ApiError:
    return ApiError(
        400,
        f"{sentence} Try using a key other than '{key}' if you meant to execute a different request.",
        type="idempotency_error",
        stored=False,
    )
