"""
`watch`: count the tokens that a provider's Python client receives.

All of these clients send their requests with httpx, or with httpx2, which has the same interface. There, each response
is seen once: of sync and async calls, streamed, parsed or raw, after the client's own retries, and each of those that
the client makes by itself, as for functions that it calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from meterkit.errors import ConfigurationError
from meterkit.llm.token_usage import KINDS, Kind, checked_kinds
from meterkit.llm.usage_request import ask_for_usage
from meterkit.llm.usage_sink import Company, UsageSink
from meterkit.llm.watched_transport import watch_transport

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

Client = TypeVar("Client")

NAMES: Mapping[str, tuple[Kind, ...]] = {f"{kind}_tokens": (kind,) for kind in KINDS}
"""Names under which `watch` adds usage by default: ``input_tokens``, ``cached_input_tokens`` and so on."""


def watch(
    client: Client,
    *,
    names: Mapping[str, Iterable[Kind]] | None = None,
    kit: MeterKit | None = None,
    company: Company = None,
    include_usage: bool = True,
) -> Client:
    """
    Count the tokens that each call of *client* uses, for the exchange in which it is called; return *client*.

    Adds the tokens of each kind as ``meterkit.usage().add("output_tokens", n)`` does, once the response is complete; a
    stream counts when it ends, or when it is closed before that, what has been told by then. Nothing of prompts and
    answers is read or kept. Never raises into a call: a mistake is logged, and counted in ``kit.health()``.
    To watch a client again changes how it is watched; it still counts once.

    Args:
        client: Client of ``openai``, ``anthropic`` or ``google-genai``, sync or async.
        names: Name under which usage is added, the ``value=`` of a meter, and the kinds of token that it is the sum of,
            such as ``{"tokens": llm.KINDS}``. A kind that is missing is not counted. By default, each kind has a name
            of its own: ``input_tokens``, ``cached_input_tokens``, ``cache_write_tokens``, ``input_audio_tokens``,
            ``output_tokens``, ``reasoning_tokens``, ``output_audio_tokens``.
        kit: Kit that records what is used outside of exchanges, as in a job: for its meters with such a ``value=``, and
            for those with ``http=False`` and such a name.
        company: Who pays for that: a company, an `Identity`, or a function that returns one for the current call.
        include_usage: Whether to ask OpenAI's chat completions for the usage of a stream, where the call has no
            ``stream_options`` about it, and to hide the chunk without choices that tells it. False leaves such streams
            as they are, and uncounted; for servers that do not know the option.

    Raises:
        ConfigurationError: *client* is no such client, or an argument is wrong.
    """
    if (kit is None) != (company is None):
        raise ConfigurationError("watch() needs kit= and company= together: who pays for what no exchange pays for")
    sink = UsageSink(_checked_names(names), kit, company)
    transports = _transports(client)
    if not transports:
        raise ConfigurationError(
            f"watch() knows the clients of openai, anthropic and google-genai that use httpx, not {client!r:.200}. For "
            "another, pass its responses to meterkit.llm.usage_of(), and what that returns to meterkit.add_usage()"
        )
    for transport in transports:
        watch_transport(transport, sink)
    if _has_stream_options(client):
        ask_for_usage(client, wanted=include_usage)
    _watch_copies(client, names=names, kit=kit, company=company, include_usage=include_usage)
    return client


def _checked_names(names: Mapping[str, Iterable[Kind]] | None) -> Mapping[str, tuple[Kind, ...]]:
    if names is None:
        return NAMES
    if not isinstance(names, Mapping) or not names:
        raise ConfigurationError(f'watch(names=...) must be a dict such as {{"tokens": llm.KINDS}}, not {names!r:.200}')
    return {name: checked_kinds(kinds, f"watch(names=...), {name!r:.100}") for name, kinds in names.items()}


def _transports(client: Any) -> list[Any]:
    """Return the httpx clients that *client* sends its requests with."""
    held = getattr(client, "_api_client", None)  # google-genai
    if getattr(held, "_use_aiohttp", bool)():
        raise ConfigurationError(
            "this client of google-genai sends async calls with aiohttp, which watch() cannot see. Have it use httpx: "
            "genai.Client(http_options=HttpOptions(httpx_async_client=httpx.AsyncClient()))"
        )
    found = [
        getattr(client, "_client", None),
        getattr(held, "_httpx_client", None),
        getattr(held, "_async_httpx_client", None),
    ]
    return [each for each in found if callable(getattr(each, "send", None))]


def _has_stream_options(client: Any) -> bool:
    return any(each.__module__.partition(".")[0] == "openai" for each in type(client).__mro__)


def _watch_copies(client: Any, **options: Any) -> None:
    """Watch what ``client.with_options()`` returns, too: it shares the connections, but not what is set on *client*."""
    copy = getattr(type(client), "copy", None)
    if copy is None:
        return

    def watched(*args: Any, **changes: Any) -> Any:
        return watch(copy(client, *args, **changes), **options)

    client.copy = client.with_options = watched
