"""`watch`: what the official clients receive from a server on loopback, and what the kit counts of it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import Context, copy_context

import anthropic
import httpx
import openai
import pytest
import thorough
from guard import GUARD
from plain_exchange import PlainExchange, counted
from provider_bodies import GEMINI_KINDS, MESSAGE_KINDS, OPENAI_KINDS, RESPONSE_KINDS

from meterkit import ConfigurationError, Identity, Meter, llm

try:
    from google import genai
    from google.genai.types import HttpOptions
except ImportError:  # Python 3.10
    genai = None

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def close_clients():
    """Close what a test has made: the garbage collector may find a socket before the client that owns it."""
    yield
    while _made:
        client = _made.pop()
        if not isinstance(client, openai.AsyncOpenAI | anthropic.AsyncAnthropic):  # closed where their loop runs
            client.close()


_made = []


def made(client):
    _made.append(client)
    return client


def openai_client(provider, kind=openai.OpenAI, **options):
    return made(kind(base_url=f"{provider.url}/v1", api_key="sk", timeout=GUARD, **options))


def anthropic_client(provider, kind=anthropic.Anthropic, **options):
    return made(kind(base_url=provider.url, api_key="sk", timeout=GUARD, **options))


def gemini_client(provider):
    if genai is None:
        pytest.skip("google-genai needs Python 3.11")
    return made(genai.Client(api_key="k", http_options=HttpOptions(base_url=provider.url, timeout=GUARD * 1000)))


def within(kit, view):
    """Run *view* as a view of an exchange of *kit*."""

    def served():
        exchange = PlainExchange()
        exchange.publish(kit)
        try:
            return view()
        finally:
            exchange.status, exchange.route = 200, None
            kit.recorder.chunk(exchange, b"ok", last=True)

    return copy_context().run(served)


def problems(kit):
    """What health says, but for the key that no test here has."""
    return kit.health()["problems"].keys() - {"no_stripe_key"}


SYNC = {
    "chat": (openai_client, lambda c: c.chat.completions.create(model="m", messages=HELLO), OPENAI_KINDS),
    "chat, raw": (
        openai_client,
        lambda c: c.chat.completions.with_raw_response.create(model="m", messages=HELLO).parse(),
        OPENAI_KINDS,
    ),
    "chat, parsed": (openai_client, lambda c: c.chat.completions.parse(model="m", messages=HELLO), OPENAI_KINDS),
    "chat, streamed": (
        openai_client,
        lambda c: list(c.chat.completions.create(model="m", messages=HELLO, stream=True)),
        OPENAI_KINDS,
    ),
    "chat, of a copy": (
        openai_client,
        lambda c: list(c.with_options(timeout=5).chat.completions.create(model="m", messages=HELLO, stream=True)),
        OPENAI_KINDS,
    ),
    "response": (openai_client, lambda c: c.responses.create(model="m", input="hello"), RESPONSE_KINDS),
    "response, streamed": (
        openai_client,
        lambda c: list(c.responses.create(model="m", input="hello", stream=True)),
        RESPONSE_KINDS,
    ),
    "embeddings": (openai_client, lambda c: c.embeddings.create(model="m", input="hello"), {"input": 8}),
    "message": (
        anthropic_client,
        lambda c: c.messages.create(model="m", max_tokens=9, messages=HELLO),
        MESSAGE_KINDS,
    ),
    "message, streamed": (
        anthropic_client,
        lambda c: list(c.messages.create(model="m", max_tokens=9, messages=HELLO, stream=True)),
        MESSAGE_KINDS,
    ),
    "message, beta": (
        anthropic_client,
        lambda c: c.beta.messages.create(model="m", max_tokens=9, messages=HELLO),
        MESSAGE_KINDS,
    ),
    "gemini": (gemini_client, lambda c: c.models.generate_content(model="m", contents="hello"), GEMINI_KINDS),
    "gemini, streamed": (
        gemini_client,
        lambda c: list(c.models.generate_content_stream(model="m", contents="hello")),
        GEMINI_KINDS,
    ),
}


FEW = ["chat, streamed", "response", "message, streamed", "gemini, streamed"]


@pytest.mark.parametrize("name", thorough.first(FEW, among=SYNC))
@pytest.mark.parametrize("compresses", thorough.first([True], among=[False, True]))
def test_each_call_counts(provider, token_kit, told, name, compresses):
    """Once, for the exchange in which it is made; and the client returns what it returns without."""
    make, ask, expected = SYNC[name]
    provider.compresses = compresses
    client = llm.watch(make(provider))

    assert client is llm.watch(client)
    within(token_kit, lambda: ask(client))
    assert expected == told()
    assert set() == problems(token_kit)


async def _list(stream):
    return [each async for each in await stream]


ASYNC = {
    "chat": (
        lambda p: openai_client(p, openai.AsyncOpenAI),
        lambda c: c.chat.completions.create(model="m", messages=HELLO),
        OPENAI_KINDS,
    ),
    "chat, streamed": (
        lambda p: openai_client(p, openai.AsyncOpenAI),
        lambda c: _list(c.chat.completions.create(model="m", messages=HELLO, stream=True)),
        OPENAI_KINDS,
    ),
    "response, streamed": (
        lambda p: openai_client(p, openai.AsyncOpenAI),
        lambda c: _list(c.responses.create(model="m", input="hello", stream=True)),
        RESPONSE_KINDS,
    ),
    "message, streamed": (
        lambda p: anthropic_client(p, anthropic.AsyncAnthropic),
        lambda c: _list(c.messages.create(model="m", max_tokens=9, messages=HELLO, stream=True)),
        MESSAGE_KINDS,
    ),
    "gemini": (gemini_client, lambda c: c.aio.models.generate_content(model="m", contents="hello"), GEMINI_KINDS),
    "gemini, streamed": (
        gemini_client,
        lambda c: _list(c.aio.models.generate_content_stream(model="m", contents="hello")),
        GEMINI_KINDS,
    ),
}


@pytest.mark.parametrize("name", thorough.first(FEW[::3], among=ASYNC))
def test_each_async_call_counts(provider, token_kit, told, name):
    """The same of the async clients."""
    make, ask, expected = ASYNC[name]
    client = llm.watch(make(provider))

    async def asked():
        await ask(client)
        await (client.aio.aclose() if hasattr(client, "aio") else client.close())

    within(token_kit, lambda: asyncio.run(asked()))
    assert expected == told()
    assert set() == problems(token_kit)


# What OpenAI tells of streams


def test_the_chunk_with_the_usage_is_hidden(provider, token_kit):
    """Nobody has asked for it, and code that takes ``choices[0]`` of each chunk would raise."""
    client = llm.watch(openai_client(provider))
    chunks = within(token_kit, lambda: list(client.chat.completions.create(model="m", messages=HELLO, stream=True)))

    assert ["a ", "word"] == [each.choices[0].delta.content for each in chunks]
    [(_, headers, body)] = provider.requests
    assert {"include_usage": True} == body["stream_options"]
    assert not [name for name in headers if "meterkit" in name]


def test_who_asks_gets_it(provider, token_kit, told):
    """The chunk stays for who asks for it."""
    client = llm.watch(openai_client(provider))
    chunks = within(
        token_kit,
        lambda: list(
            client.chat.completions.create(
                model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
        ),
    )

    assert [1, 1, 0] == [len(each.choices) for each in chunks]
    assert 1300 == chunks[-1].usage.total_tokens
    assert OPENAI_KINDS == told()


@pytest.mark.parametrize("options", [{"stream_options": {"include_usage": False}}, {}])
def test_a_stream_without_usage_is_a_problem(provider, token_kit, told, options):
    """It is not counted, and health says why, if the call or `watch` does not want to ask for it."""
    client = llm.watch(openai_client(provider), include_usage=bool(options))
    within(token_kit, lambda: list(client.chat.completions.create(model="m", messages=HELLO, stream=True, **options)))

    assert {} == told()
    assert "include_usage" in token_kit.health()["problems"]["tokens_missing"]["message"]


# Streams that end early


def test_who_stops_reading_pays_what_was_told(provider, token_kit, told):
    """A stream that is closed counts then."""
    client = llm.watch(anthropic_client(provider))

    def view():
        with client.messages.create(model="m", max_tokens=9, messages=HELLO, stream=True) as stream:
            next(iter(stream))

    within(token_kit, view)
    assert {"input": 200, "cached_input": 640, "cache_write": 128, "output": 1} == told()


def test_a_stream_that_breaks_off(provider, token_kit, told):
    """The provider goes away: what it has told counts, and the client raises what it raises."""
    provider.breaks = b"event: content_block_stop"
    client = llm.watch(anthropic_client(provider))

    def view():
        with pytest.raises((httpx.HTTPError, anthropic.APIError, Exception)):
            list(client.messages.create(model="m", max_tokens=9, messages=HELLO, stream=True))

    within(token_kit, view)
    assert {"input": 200, "cached_input": 640, "cache_write": 128, "output": 1} == told()


def test_a_stream_that_ends_after_its_exchange(provider, token_kit, told):
    """It counts for the company of the exchange in which it began."""
    client = llm.watch(openai_client(provider))
    stream = within(token_kit, lambda: client.chat.completions.create(model="m", messages=HELLO, stream=True))

    assert {} == told()
    assert 2 == len(list(stream))
    assert OPENAI_KINDS == told()


# Once


def test_retries_count_once(provider, token_kit, told):
    """Of the client's own tries, the one that succeeds counts."""
    provider.failing = [500, 429]
    client = llm.watch(openai_client(provider, max_retries=2))
    client._calculate_retry_timeout = lambda *_: 0.0
    within(token_kit, lambda: client.chat.completions.create(model="m", messages=HELLO))

    assert 3 == len(provider.requests)
    assert OPENAI_KINDS == told()


def test_failures_are_free(provider, token_kit, told):
    """A response that is an error counts nothing, whatever it says."""
    provider.failing = [400]
    client = llm.watch(openai_client(provider))
    with suppress(openai.BadRequestError):
        within(token_kit, lambda: client.chat.completions.create(model="m", messages=HELLO))

    assert {} == told()
    assert set() == problems(token_kit)


def test_what_is_read_again_is_free(provider, token_kit, told):
    """Responses that were paid for can be retrieved, with their usage."""
    client = llm.watch(openai_client(provider))
    within(token_kit, lambda: (client.responses.retrieve("resp_1"), client.models.list()))

    assert {} == told()


# Names, jobs, and mistakes


def test_names(provider, make_kit):
    """Kinds are added up under the names that a kit has meters for."""
    kit = make_kit(Meter("in", value="prompt"), Meter("out", value="answer"), identify=lambda _: "acme")
    client = llm.watch(anthropic_client(provider), names={"prompt": llm.INPUT, "answer": llm.OUTPUT})
    within(kit, lambda: client.messages.create(model="m", max_tokens=9, messages=HELLO))

    assert {("in", "acme"): 968, ("out", "acme"): 300} == counted(kit)


def test_a_kind_without_a_meter_is_a_problem(provider, make_kit):
    """Nobody gives reasoning away without being told."""
    kit = make_kit(Meter("out", value="output_tokens"), identify=lambda _: "acme")
    client = llm.watch(anthropic_client(provider))
    within(kit, lambda: client.messages.create(model="m", max_tokens=9, messages=HELLO))

    assert {("out", "acme"): 120} == counted(kit)
    assert 4 == kit.health()["problems"]["usage_name_unknown"]["count"]


@pytest.mark.parametrize("company", ["acme", Identity("acme", "ann"), lambda: "acme", lambda: Identity("acme", "ann")])
def test_outside_of_exchanges(provider, make_kit, company):
    """A job's calls are recorded for its company."""
    kit = make_kit(Meter("tokens", http=False), Meter("out", value="answer"))
    names = {"tokens": llm.KINDS, "answer": llm.OUTPUT}
    client = llm.watch(anthropic_client(provider), names=names, kit=kit, company=company)
    client.messages.create(model="m", max_tokens=9, messages=HELLO)

    assert {"tokens": 1268, "out": 300} == {meter: n for (meter, _), n in counted(kit).items()}
    users = {row.user for row in kit.usage(company="acme")}
    who = company() if callable(company) else company
    assert users == {who.user if isinstance(who, Identity) else None} or users == {""}


def test_the_exchange_goes_first(provider, token_kit, told):
    """With a kit and a company, an exchange still pays for its own calls."""
    client = llm.watch(openai_client(provider), kit=token_kit, company="nightly")
    within(token_kit, lambda: client.chat.completions.create(model="m", messages=HELLO))

    assert OPENAI_KINDS == told()
    assert {} == told("nightly")


def test_outside_without_a_kit(provider, token_kit):
    """Nobody pays, and health says how many tokens that were."""
    client = llm.watch(openai_client(provider))
    Context().run(lambda: client.chat.completions.create(model="m", messages=HELLO))

    problem = token_kit.health()["problems"]["outside_exchange"]
    assert 1300 == problem["units"]
    assert "company=" in problem["message"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"company": lambda: None}, "no_company"),
        ({"company": "a\nb"}, "company_unprintable"),
        ({"company": "acme", "names": {"nothing": llm.KINDS}}, "usage_name_unknown"),
        ({"company": lambda: 1 / 0}, "internal_error"),
    ],
)
def test_a_mistake_never_reaches_the_call(provider, token_kit, told, options, reason):
    """The call returns what it returns, and health says what is wrong."""
    client = llm.watch(openai_client(provider), kit=token_kit, **options)

    assert "large-1" == client.chat.completions.create(model="m", messages=HELLO).model
    assert reason in token_kit.health()["problems"]


def test_another_thread(provider, token_kit):
    """A thread without the exchange's context is outside of it."""
    client = llm.watch(openai_client(provider))

    def view():
        thread = threading.Thread(target=lambda: client.chat.completions.create(model="m", messages=HELLO))
        thread.start()
        thread.join(GUARD)

    within(token_kit, view)
    assert "outside_exchange" in token_kit.health()["problems"]


@pytest.mark.parametrize("client", [None, 5, object(), "sk-1"])
def test_no_client(client):
    """The error says which clients there are."""
    with pytest.raises(ConfigurationError, match="openai, anthropic and google-genai"):
        llm.watch(client)


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"names": {}}, "must be a dict"),
        ({"names": ["tokens"]}, "must be a dict"),
        ({"names": {"tokens": []}}, "at least one kind"),
        ({"names": {"tokens": ["inputs"]}}, "did you mean 'input'?"),
        ({"company": "acme"}, "together"),
    ],
)
def test_wrong_arguments(provider, options, cure):
    """Each error says what is right."""
    with pytest.raises(ConfigurationError, match=cure):
        llm.watch(openai_client(provider), **options)
