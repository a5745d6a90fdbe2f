"""
The stream: made with what usage needs, and checked whether it has that.

Whatever a stream may drop before a collector has folded it is usage that is lost: so it is on disks, refuses new
messages when it is full, and keeps each message until it is acknowledged.
"""

from __future__ import annotations

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import NotFoundError

from meterkit.errors import LedgerError
from meterkit.jetstream.config import JetStream

DUPLICATE_SECONDS = 600
"""Seconds within which JetStream drops a message that it has already. The ledger recognises what comes later."""

REDELIVERY_SECONDS = 90
"""Seconds after which a message that no collector acknowledged is delivered again: longer than a transaction takes."""

MOST_UNACKNOWLEDGED = 10_000
"""Messages that may be under way to collectors at a time."""

SHORTEST_AGE_SECONDS = 35 * 24 * 3600
"""Shortest ``max_age`` of a stream: Stripe accepts usage for so long, so older usage has no use."""


async def make(context: JetStreamContext, config: JetStream) -> None:
    """
    Make the streams and the consumer, as far as they are missing.

    Raises:
        LedgerError: A stream that exists could lose usage.
        nats.errors.Error: JetStream failed.
    """
    try:
        await context.stream_info(config.stream)
    except NotFoundError:
        await context.add_stream(_config_of(config, config.stream, config.subject, RetentionPolicy.WORK_QUEUE))
    await check(context, config)
    try:
        await context.stream_info(config.refused_stream)
    except NotFoundError:
        refused = _config_of(config, config.refused_stream, config.refused_subject, RetentionPolicy.LIMITS)
        await context.add_stream(refused)
    await context.add_consumer(
        config.stream,
        ConsumerConfig(
            durable_name=config.consumer,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=REDELIVERY_SECONDS,
            max_deliver=-1,
            max_ack_pending=MOST_UNACKNOWLEDGED,
            filter_subject=config.subject,
        ),
    )


async def check(context: JetStreamContext, config: JetStream) -> StreamInfo:
    """
    Return what JetStream says of the stream.

    Raises:
        LedgerError: There is no stream, or it could lose usage; the message says how to change it.
        nats.errors.Error: JetStream failed.
    """
    try:
        info = await context.stream_info(config.stream)
    except NotFoundError:
        raise LedgerError(
            f"{config} has no stream {config.stream}: run meterkit collect, which makes it, or correct "
            "JetStream(stream=...)"
        ) from None
    found = trouble_of(info.config, config)
    if found is not None:
        what, cure = found
        raise LedgerError(
            f"the stream {config.stream} of {config} {what}: {cure}; usage stays in the journal meanwhile"
        )
    return info


def trouble_of(stream: StreamConfig, wanted: JetStream) -> tuple[str, str] | None:
    """Return why *stream* must not get usage, and the cure; None if it may."""
    edit = f"nats stream edit {wanted.stream}"
    anew = f"remove it once it is empty, with nats stream rm {wanted.stream}, and let meterkit collect make it"
    if stream.storage != StorageType.FILE:
        return "is in memory, so a restart would lose usage", anew
    if stream.retention != RetentionPolicy.WORK_QUEUE:
        return f"has retention {stream.retention}, and must be a work queue", anew
    if stream.discard != DiscardPolicy.NEW:
        return "drops its oldest messages when it is full", f"{edit} --discard new"
    if stream.max_age and stream.max_age < SHORTEST_AGE_SECONDS:
        return (
            f"drops messages after {stream.max_age:,.0f} seconds, whether they are in the ledger or not",
            f"{edit} --max-age 0",
        )
    if (stream.max_msgs_per_subject or -1) > 0:
        return "drops messages beyond max_msgs_per_subject", f"{edit} --max-msgs-per-subject=-1"
    if stream.no_ack:
        return "acknowledges nothing", anew
    if wanted.subject not in (stream.subjects or []):
        return f"does not have the subject {wanted.subject}", f"{edit} --subjects {wanted.subject}"
    if (stream.num_replicas or 1) < wanted.replicas:
        return (
            f"has {stream.num_replicas or 1} of the {wanted.replicas} replicas of JetStream(replicas=...)",
            f"{edit} --replicas {wanted.replicas}, or set replicas={stream.num_replicas or 1}",
        )
    return None


def _config_of(config: JetStream, name: str, subject: str, retention: RetentionPolicy) -> StreamConfig:
    return StreamConfig(
        name=name,
        description="Usage counted by meterkit",
        subjects=[subject],
        retention=retention,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_age=0,
        num_replicas=config.replicas,
        duplicate_window=DUPLICATE_SECONDS,
    )
