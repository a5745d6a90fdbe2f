"""
A connection to JetStream for code without an event loop.

nats-py is asyncio's, and its connection answers pings and reconnects between the calls: so it lives in an event loop
with a thread of its own, and each call waits there for its result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from meterkit.core.threads import in_network_loop
from meterkit.errors import LedgerError
from meterkit.jetstream import stream
from meterkit.jetstream.config import JetStream

T = TypeVar("T")

CONNECT_SECONDS = 3.0
"""Seconds to wait for a connection."""

ANSWER_SECONDS = 5.0
"""Seconds to wait for an answer: a broker that has just lost its leader takes longer, and gets the message again."""

CHECK_SECONDS = 60.0
"""Interval at which it is checked that the stream can lose nothing."""

GATHER_SECONDS = 0.1
"""Seconds to wait for more messages once there is one."""

_TOO_LARGE = 10054
_FULL = {10023, 10047, 10070, 10077, 10122}
"""Codes of JetStream's errors: without room in the stream, the account or the server."""


class TooLargeError(LedgerError):
    """The message is larger than the servers or the stream take."""


@dataclass(frozen=True, slots=True)
class State:
    """
    What JetStream says of the stream.

    Attributes:
        first: Sequence number of the oldest message; of the next one, if there is none.
        last: Sequence number of the newest message, also if it is gone.
        waiting: Messages that no collector has acknowledged.
        refused: Messages that no collector could fold; None where that stream is not made yet.
    """

    first: int
    last: int
    waiting: int
    refused: int | None


class Client:
    """
    A connection to JetStream, made when it is first used.

    Not thread-safe: one call at a time.

    Args:
        config: Where JetStream is.
    """

    def __init__(self, config: JetStream) -> None:
        self._config = config
        self._connection: Connection | None = None
        self._context: JetStreamContext | None = None
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._next_check = 0.0
        self._trouble = ""
        self._lost = asyncio.Event()  # set once this connection has broken

    def publish(self, message: bytes, *, generation: str) -> None:
        """
        Publish *message*, and wait until JetStream has acknowledged it.

        Args:
            message: The message.
            generation: Id of the generation in it, by which JetStream recognises a repetition.

        Raises:
            TooLargeError: It is too large, and will always be.
            LedgerError: It is not certain that JetStream has it; publish it again.
        """

        async def publish() -> None:
            context = await self._connected()
            await self._check(context)
            await context.publish(
                self._config.subject,
                message,
                timeout=ANSWER_SECONDS,
                stream=self._config.stream,
                headers={"Nats-Msg-Id": generation},
            )

        self._run(publish)

    def make_streams(self) -> None:
        """
        Make what is missing: streams and consumer.

        Raises:
            LedgerError: JetStream failed, or a stream that exists could lose usage.
        """

        async def make() -> None:
            await stream.make(await self._connected(), self._config)

        self._run(make)

    def state(self) -> State:
        """
        Return what JetStream says of the stream.

        Raises:
            LedgerError: JetStream failed, or the stream could lose usage.
        """

        async def state() -> State:
            context = await self._connected()
            found = (await stream.check(context, self._config)).state
            refused: int | None = None
            with suppress(NotFoundError):
                refused = (await context.stream_info(self._config.refused_stream)).state.messages
            return State(max(found.first_seq, 1), found.last_seq, found.messages, refused)

        return self._run(state)

    def fetch(self, most: int, *, wait: float) -> list[Msg]:
        """
        Return messages, each of which must be passed to `settle` once it is in the ledger.

        Args:
            most: Number of messages at most.
            wait: Seconds to wait for the first one.

        Raises:
            LedgerError: JetStream failed.
        """

        async def fetch() -> list[Msg]:
            context = await self._connected()
            if self._subscription is None:
                await self._check(context)
                self._subscription = await context.pull_subscribe_bind(
                    durable=self._config.consumer, stream=self._config.stream
                )
            found = await self._next(most, wait)
            if 0 < len(found) < most:
                await asyncio.sleep(GATHER_SECONDS)
                found += await self._next(most - len(found), 0.05)
            return found

        return self._run(fetch)

    async def _next(self, most: int, wait: float) -> list[Msg]:
        assert self._subscription is not None
        try:
            return list(await self._subscription.fetch(most, timeout=wait))
        except asyncio.TimeoutError:  # also NATS' own
            return []

    def settle(self, messages: Sequence[Msg]) -> None:
        """
        Acknowledge *messages*, which are in the ledger. What JetStream does not learn, it delivers again.

        Raises:
            LedgerError: JetStream failed.
        """
        self._each(messages, lambda each: each.ack())

    def put_back(self, messages: Sequence[Msg], *, delay: float) -> None:
        """
        Have *messages* delivered again.

        Args:
            messages: Messages that are not in the ledger.
            delay: Seconds until then.

        Raises:
            LedgerError: JetStream failed; it delivers them again later.
        """
        self._each(messages, lambda each: each.nak(delay=delay))

    def _each(self, messages: Sequence[Msg], call: Callable[[Msg], Awaitable[None]]) -> None:
        async def each() -> None:
            connection = self._connection
            for message in messages:
                if not message.is_acked:
                    await call(message)
            if connection is not None and messages:
                await connection.flush(timeout=int(ANSWER_SECONDS))

        self._run(each)

    def refuse(self, message: Msg, why: str) -> None:
        """
        Move *message* to the stream of those that cannot be folded.

        Args:
            message: The message.
            why: Reason, which is kept with it.

        Raises:
            LedgerError: JetStream failed; the message is delivered again.
        """

        async def refuse() -> None:
            context = await self._connected()
            headers = {**(message.headers or {}), "Meterkit-Refused": " ".join(why.split())[:500]}
            headers = {name: value for name, value in headers.items() if not name.startswith("Nats-Expected")}
            await context.publish(
                self._config.refused_subject,
                message.data,
                timeout=ANSWER_SECONDS,
                stream=self._config.refused_stream,
                headers=headers,
            )
            await message.ack()

        self._run(refuse)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._context, self._subscription = self._connection, None, None, None
        if connection is not None:

            async def close() -> None:
                with suppress(Exception):
                    await asyncio.wait_for(connection.close(), 1.0)

            with suppress(RuntimeError):  # at interpreter shutdown
                in_network_loop(close)

    async def _check(self, context: JetStreamContext) -> None:
        """Check now and then that the stream can lose nothing."""
        if time.monotonic() >= self._next_check:
            await stream.check(context, self._config)
            self._next_check = time.monotonic() + CHECK_SECONDS

    async def _connected(self) -> JetStreamContext:
        if self._connection is not None and not self._connection.is_closed:
            if not self._connection.is_connected:
                # What is published now would be sent after reconnecting, long after this call has given up.
                raise LedgerError(f"there is no connection to {self._config}{self._because}")
            assert self._context is not None
            return self._context
        self._subscription, self._next_check = None, 0.0
        self._lost = asyncio.Event()
        connection = Connection()
        options: dict[str, Any] = {"tls": self._config.tls, "user_credentials": self._config.credentials}
        try:
            await asyncio.wait_for(
                connection.connect(
                    servers=list(self._config.urls),
                    name="meterkit",
                    connect_timeout=int(CONNECT_SECONDS),
                    reconnect_time_wait=0.1,  # type: ignore[arg-type]
                    max_reconnect_attempts=1,
                    error_cb=self._note,
                    disconnected_cb=self._note_lost,
                    **{name: value for name, value in options.items() if value is not None},
                ),
                CONNECT_SECONDS,
            )
        except BaseException:
            with suppress(Exception):
                await asyncio.wait_for(connection.close(), 1.0)
            raise
        # A server that is not there is said at once; a connection that was there is made again for ever.
        connection.options.update(reconnect_time_wait=1, max_reconnect_attempts=-1)
        self._connection, self._context, self._trouble = connection, connection.jetstream(timeout=ANSWER_SECONDS), ""
        return self._context

    async def _note_lost(self) -> None:
        lost, self._lost = self._lost, asyncio.Event()
        lost.set()

    async def _note(self, error: Exception) -> None:
        self._trouble = str(error) or type(error).__name__

    @property
    def _because(self) -> str:
        return f" ({self._trouble})" if self._trouble else ""

    def _run(self, call: Callable[[], Awaitable[T]]) -> T:
        with self._errors():
            return in_network_loop(lambda: self._until_lost(call))

    async def _until_lost(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what *call* returns, but do not wait for an answer once the connection has broken: none will come."""
        await self._connected()
        work, lost = asyncio.ensure_future(call()), asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise LedgerError(f"the connection to {self._config} broke before the answer came{self._because}")
        finally:
            work.cancel()
            lost.cancel()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except LedgerError:
            raise
        except (MaxPayloadError, APIError) as error:
            code = getattr(error, "err_code", None)
            if isinstance(error, MaxPayloadError) or code == _TOO_LARGE:
                raise TooLargeError(f"the message is too large for {self._config}") from error
            raise LedgerError(f"{self._config} refused it: {_said(error)}{_cure(code, self._config)}") from error
        except NoStreamResponseError as error:
            raise LedgerError(
                f"{self._config} does not take {self._config.subject} now: its leader is missing, for some seconds or "
                "until a majority of the servers is up; or JetStream is, or the stream that meterkit collect makes"
            ) from error
        except (NatsError, OSError, asyncio.TimeoutError, RuntimeError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise LedgerError(f"{self._config} does not answer: {said}{self._because}") from error


def _said(error: Exception) -> str:
    return str(getattr(error, "description", None) or error)


def _cure(code: int | None, config: JetStream) -> str:
    if code in _FULL:
        return (
            ". It is full: let collectors catch up, with meterkit collect, or give the stream and its servers more room"
        )
    if code == 10074:
        return ". A single server has one replica: set JetStream(replicas=1), or run three servers"
    if code == 10005:
        return f". Fewer than {config.replicas} servers are up: start them, or lower JetStream(replicas=...)"
    return ""
