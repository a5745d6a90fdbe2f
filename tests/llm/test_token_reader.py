"""The usage in bodies of each provider: whole, in chunks, compressed, huge, broken off, and wrong."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
import zlib

import pytest
import thorough
from hypothesis import given, settings
from hypothesis import strategies as st
from provider_bodies import (
    CHAT,
    CHAT_STREAM,
    CHAT_STREAM_WITHOUT_USAGE,
    EMBEDDINGS,
    GEMINI,
    GEMINI_KINDS,
    GEMINI_PIECES,
    GEMINI_STREAM,
    GEMINI_USAGE,
    MESSAGE,
    MESSAGE_KINDS,
    MESSAGE_START,
    MESSAGE_STREAM,
    MESSAGE_USAGE,
    OPENAI_KINDS,
    OPENAI_USAGE,
    RESPONSE,
    RESPONSE_KINDS,
    RESPONSE_STREAM,
    RESPONSE_USAGE,
    chunk,
    kinds,
    message_delta,
    sse,
)

from meterkit import UsageError, llm
from meterkit.llm import TokenReader, usage_of

BODIES = {
    "chat": (json.dumps(CHAT).encode(), "openai", "large-1", OPENAI_KINDS),
    "chat, indented": (json.dumps(CHAT, indent=2).encode(), "openai", "large-1", OPENAI_KINDS),
    "chat, not ASCII": (json.dumps(CHAT, ensure_ascii=False).encode(), "openai", "large-1", OPENAI_KINDS),
    "chat, byte order mark": (b"\xef\xbb\xbf" + json.dumps(CHAT).encode(), "openai", "large-1", OPENAI_KINDS),
    "chat, streamed": (CHAT_STREAM, "openai", "large-1", OPENAI_KINDS),
    "chat, streamed with CRLF": (CHAT_STREAM.replace(b"\n", b"\r\n"), "openai", "large-1", OPENAI_KINDS),
    "chat, streamed with CR": (CHAT_STREAM.replace(b"\n", b"\r"), "openai", "large-1", OPENAI_KINDS),
    "chat, with comments": (b": hello\n\n" + CHAT_STREAM + b": bye\n\n", "openai", "large-1", OPENAI_KINDS),
    "chat, no spaces": (CHAT_STREAM.replace(b"data: ", b"data:"), "openai", "large-1", OPENAI_KINDS),
    "response": (json.dumps(RESPONSE).encode(), "openai", "large-1", RESPONSE_KINDS),
    "response, streamed": (RESPONSE_STREAM, "openai", "large-1", RESPONSE_KINDS),
    "embeddings": (json.dumps(EMBEDDINGS).encode(), "openai", "embed-1", {"input": 8}),
    "message": (json.dumps(MESSAGE).encode(), "anthropic", "wise-1", MESSAGE_KINDS),
    "message, streamed": (MESSAGE_STREAM, "anthropic", "wise-1", MESSAGE_KINDS),
    "gemini": (json.dumps(GEMINI).encode(), "gemini", "bright-1", GEMINI_KINDS),
    "gemini, events": (GEMINI_STREAM, "gemini", "bright-1", GEMINI_KINDS),
    "gemini, a list": (json.dumps(GEMINI_PIECES, indent=1).encode(), "gemini", "bright-1", GEMINI_KINDS),
    "lines of JSON": (
        b"\n".join(json.dumps(each).encode() for each in GEMINI_PIECES),
        "gemini",
        "bright-1",
        GEMINI_KINDS,
    ),
}


def read(body, size=None, encoding=""):
    """A reader that has read *body* in pieces of *size*."""
    reader = TokenReader(encoding)
    for at in range(0, len(body), size or len(body) or 1):
        reader.feed(body[at : at + (size or len(body))])
    return reader


@pytest.mark.parametrize(("body", "provider", "model", "expected"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("size", thorough.first([None, 7], among=[None, 1, 7, 100]))
def test_each_shape(body, provider, model, expected, size):
    """In one piece or byte by byte, the kinds are what the provider's documentation says."""
    usage = read(body, size).usage

    assert (provider, model, expected) == (usage.provider, usage.model, kinds(usage))


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("encoding", thorough.first(["gzip"], among=["gzip", "deflate", "raw", "two members"]))
@pytest.mark.parametrize("size", thorough.first([5], among=[None, 5]))
def test_compressed(name, encoding, size):
    """gzip, and deflate with and without its header."""
    body, *_, expected = BODIES[name]
    raw = zlib.compressobj(wbits=-15)
    middle = len(body) // 2
    encoded = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw": raw.compress(body) + raw.flush(),
        "two members": gzip.compress(body[:middle]) + gzip.compress(body[middle:]),
    }[encoding]
    header = {"raw": "deflate", "two members": "x-gzip"}.get(encoding, encoding)

    assert expected == kinds(read(encoded, size, header).usage)


@pytest.mark.parametrize(
    ("block", "total"),
    [
        (OPENAI_USAGE, OPENAI_USAGE["total_tokens"]),
        (RESPONSE_USAGE, RESPONSE_USAGE["total_tokens"]),
        (MESSAGE_USAGE, 200 + 128 + 640 + 300),
    ],
)
def test_the_kinds_add_up(block, total):
    """To what the provider charges for."""
    usage = usage_of({"usage": block})

    assert total == usage.total == usage.count(*llm.INPUT) + usage.count(*llm.OUTPUT)
    assert set(llm.KINDS) == {*llm.INPUT, *llm.OUTPUT}


def test_the_kinds_of_gemini_add_up():
    """To the total that it tells."""
    assert GEMINI_USAGE["totalTokenCount"] == usage_of(GEMINI).total


def test_reasoning_on_top():
    """Of xAI, which does not count reasoning as part of the completion, which its total shows."""
    block = {
        "prompt_tokens": 32,
        "completion_tokens": 9,
        "total_tokens": 135,
        "completion_tokens_details": {"reasoning_tokens": 94},
    }

    assert {"input": 32, "output": 9, "reasoning": 94} == kinds(usage_of({"usage": block}))


def test_compaction_is_on_top():
    """Anthropic tells what the summary of a long conversation has used beside the answer's usage."""
    iterations = [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1000},
    ]
    block = {"input_tokens": 23_000, "output_tokens": 1000, "iterations": iterations}

    assert {"input": 203_000, "output": 4500} == kinds(usage_of({"usage": block}))


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"cached_tokens": 500}, {"cached_input": 100}),
        ({"cached_tokens": 70, "cache_write_tokens": 50, "audio_tokens": 9}, {"cached_input": 70, "cache_write": 30}),
        ({"audio_tokens": 101}, {"input_audio": 100}),
    ],
)
def test_a_part_is_not_more_than_the_whole(details, expected):
    """What providers contradict themselves about never makes more tokens than they have told."""
    block = {"prompt_tokens": 100, "completion_tokens": 0, "prompt_tokens_details": details}

    assert expected == kinds(usage_of({"usage": block}))


def test_of_a_dict_and_of_a_text():
    """`usage_of` takes what the JSON is, too, also in the names of Google's Python client."""
    snake = {
        "usage_metadata": {
            "prompt_token_count": 10,
            "candidates_token_count": 2,
            "thoughts_token_count": None,
            "prompt_tokens_details": [{"modality": "AUDIO", "token_count": 4}],
        },
        "model_version": "bright-1",
    }

    assert MESSAGE_KINDS == kinds(usage_of(MESSAGE))
    assert MESSAGE_KINDS == kinds(usage_of(json.dumps(MESSAGE)))
    assert {"input": 6, "input_audio": 4, "output": 2} == kinds(usage_of(snake))
    assert "bright-1" == usage_of(snake).model


# Broken off


def cut(body, before):
    """*body* up to where *before* begins."""
    return body[: body.index(before)]


def test_openai_tells_only_at_the_end():
    """Nothing of a broken stream: nothing is estimated."""
    reader = read(cut(CHAT_STREAM, b'"choices": []'))

    assert reader.usage is None
    with pytest.raises(UsageError, match="include_usage") as caught:
        reader.required()
    assert "tokens_missing" == caught.value.reason


def test_anthropic_tells_the_input_at_the_beginning():
    """And the one token of output that it has by then."""
    usage = read(cut(MESSAGE_STREAM, b"event: message_delta")).usage

    assert {**MESSAGE_KINDS, "output": 1, "reasoning": 0} == {**kinds(usage), "reasoning": usage.reasoning}


def test_gemini_tells_with_each_piece():
    """What the last one has told counts."""
    assert {"input": 360, "cached_input": 640} == kinds(read(cut(GEMINI_STREAM, b'"thoughtsTokenCount"')).usage)


@pytest.mark.parametrize("name", thorough.first(["chat, streamed", "message, streamed", "gemini"], among=BODIES))
def test_cut_anywhere(name):
    """Nothing raises, and what is told never exceeds what the complete body tells."""
    body, *_, expected = BODIES[name]
    most = sum(expected.values())
    for end in range(len(body)):
        usage = read(body[:end]).usage
        assert usage is None or usage.total <= most


@pytest.mark.parametrize("name", ["chat", "message, streamed"])
def test_gzip_cut_anywhere(name):
    """The same, compressed."""
    encoded = gzip.compress(BODIES[name][0])
    for end in range(len(encoded)):
        read(encoded[:end], encoding="gzip")


def test_a_message_delta_replaces():
    """Its numbers are cumulative: they are not added to those before, and a null changes nothing."""
    body = sse(
        ("message_start", MESSAGE_START),
        ("message_delta", message_delta(100, input_tokens=None)),
        ("message_delta", message_delta(300, input_tokens=250, cache_read_input_tokens=700)),
    )

    expected = {"input": 250, "cached_input": 700, "cache_write": 128, "output": 300}
    assert expected == kinds(read(body).usage)


def test_the_last_block_holds():
    """Of several blocks of usage in a stream, as of servers that count along."""
    counting = [
        chunk("a", usage={"prompt_tokens": 10, "completion_tokens": n, "total_tokens": 10 + n}) for n in (1, 2, 3)
    ]

    assert {"input": 10, "output": 3} == kinds(read(sse(*counting, "[DONE]")).usage)


def test_an_error_in_mid_stream():
    """What was told before it counts."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    body = sse(("message_start", MESSAGE_START), ("error", error))

    assert 640 == read(body).usage.cached_input


# Huge


@pytest.mark.parametrize("kind", thorough.first(["event"], among=["event", "body", "list", "line without end"]))
def test_huge(kind):
    """Megabytes in one event, or in one body: the usage behind them is found, and memory stays small."""
    text = b'"' + b'x\\"{[\xc3\xbc' * 300_000 + b'"'
    usage = json.dumps(RESPONSE_USAGE).encode()
    pieces = {
        "event": (b'data: {"response": {"output": [', text, b'], "usage": ' + usage + b"}}\n\n"),
        "body": (b'{"output": ', text, b', "usage": ' + usage + b"}"),
        "list": (b'{"output": [', b"[0.1, 2]," * 80_000 + b"0", b'], "usage": ' + usage + b"}"),
        "line without end": (b"id: ", text, b"\n" + sse({"response": {"usage": RESPONSE_USAGE}})),
    }[kind]
    body = b"".join(pieces)
    reader = TokenReader()
    tracemalloc.start()
    for at in range(0, len(body), 65_536):
        reader.feed(body[at : at + 65_536])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert RESPONSE_KINDS == kinds(reader.usage)
    assert peak < 1_000_000


@pytest.mark.long
def test_a_bomb():
    """20 MB of zeros in 20 kB of gzip are read in small pieces."""
    inflate = zlib.compressobj(wbits=31)
    bomb = b"".join(inflate.compress(bytes(1_000_000)) for _ in range(20)) + inflate.flush()
    reader = TokenReader("gzip")
    tracemalloc.start()
    reader.feed(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert reader.usage is None
    assert peak < 2_000_000


def test_deep():
    """Many brackets do not overflow anything."""
    assert read(b"[" * 300_000 + b"{" * 300_000).usage is None


# Wrong


WRONG = thorough.first(["12", -1, True], among=["12", -1, 1.5, 12.0, True, [], {}, 10**16, float("nan"), float("inf")])


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("usage", "prompt_tokens"),
        ("usage", "completion_tokens"),
        ("usage", "input_tokens"),
        ("usage", "output_tokens"),
        ("usageMetadata", "promptTokenCount"),
        ("usageMetadata", "thoughtsTokenCount"),
    ],
)
def test_not_a_number_of_tokens(value, place, name):
    """Nothing is counted of such a block, and the error says which field it is."""
    block = {"promptTokenCount": 1, name: value} if place == "usageMetadata" else {name: value}
    for body in (json.dumps({place: block}), {place: block}):
        with pytest.raises(UsageError, match=f"as {name}: quantity must") as caught:
            usage_of(body)
        assert "tokens_not_countable" == caught.value.reason


def test_a_wrong_block_leaves_the_one_before():
    """What was told well still counts, and the error is kept."""
    reader = read(sse({"usage": {"prompt_tokens": 5}}, {"usage": {"prompt_tokens": -5}}))

    assert 5 == reader.usage.input
    assert "tokens_not_countable" == reader.error.reason


@pytest.mark.parametrize("value", ["many", 5, [1], True])
def test_not_a_block(value):
    """Usage that is no object."""
    for body in (json.dumps({"usage": value}), {"usage": value}):
        with pytest.raises(UsageError, match="not an object"):
            usage_of(body)


@pytest.mark.parametrize(
    ("body", "cure"),
    [
        (b"", "empty"),
        (b" \n ", "empty"),
        (b"<html></html>", "no usage"),
        (b"\x00\xff" * 100, "no usage"),
        (b"{}", "no usage in the shape"),
        (b"[]", "no usage in the shape"),
        (b"null", "no usage"),
        (b'{"usage": null}', "no usage in the shape"),
        (b'{"usage": {}}', "no usage in the shape"),
        (b'{"usage": {"type": "duration", "seconds": 3}}', "no usage in the shape"),
        (b'{"usage": {"prompt_tokens": null}}', "no usage in the shape"),
        (b'{"deep": {"usage": {"prompt_tokens": 1}}}', "no usage in the shape"),
        (b'[[{"usage": {"prompt_tokens": 1}}]]', "no usage in the shape"),
        (b'{"usage": {"prompt_tokens": 1', "no usage in the shape"),
        (CHAT_STREAM_WITHOUT_USAGE, "stream_options"),
        ({}, "no usage in the shape"),
        ({"usage": {"prompt_tokens": None}}, "no usage in the shape"),
        ({"response": 5, "message": None}, "no usage in the shape"),
        (5, "needs a response's body"),
        (None, "needs a response's body"),
    ],
)
def test_no_usage(body, cure):
    """The error says why, and what to do."""
    with pytest.raises(UsageError, match=cure) as caught:
        usage_of(body)
    assert "tokens_missing" == caught.value.reason


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
def test_other_encodings(encoding):
    """Cannot be read, and the error says which can."""
    with pytest.raises(UsageError, match="only gzip and deflate") as caught:
        usage_of(b"\x0b\x02\x80", encoding=encoding)
    assert "body_encoded" == caught.value.reason


def test_not_gzip():
    """What says that it is compressed, and breaks."""
    body = gzip.compress(json.dumps(CHAT).encode())
    with pytest.raises(UsageError, match="is not gzip"):
        usage_of(body[:20] + b"\xff" * 50)


def test_encoded_twice_in_name_only():
    """A body that a server has not compressed, whatever it says."""
    assert OPENAI_KINDS == kinds(usage_of(json.dumps(CHAT), encoding="gzip"))


# Against json


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["usage", "response", "message", "x", 'q"u', "a\\", "ü{"]), inner, max_size=4)
    ),
    max_leaves=25,
)


@given(JSON, st.integers(1, 9), st.booleans(), st.sampled_from([None, 1]))
@settings(max_examples=int(os.environ.get("METERKIT_TEST_EXAMPLES", "40")))
def test_the_scanner_finds_what_json_finds(document, size, escaped, indent):
    """Of any JSON, in chunks of any size."""
    from meterkit.llm.json_scanner import JsonScanner

    text = json.dumps(document, ensure_ascii=escaped, indent=indent).encode()
    found = []
    paths = [("usage",), ("response", "usage"), ("message", "usage")]
    scanner = JsonScanner(paths, lambda path, value: found.append((path, json.loads(value))))
    for at in range(0, len(text), size):
        scanner.feed(text[at : at + size])

    documents = document if isinstance(document, list) else [document]
    expected = []
    for each in documents:
        if isinstance(each, dict):
            for path in paths:
                inner = each if len(path) == 1 else each.get(path[0])
                if isinstance(inner, dict) and path[-1] in inner:
                    expected.append((path, inner[path[-1]]))
    assert sorted(map(repr, expected)) == sorted(map(repr, found))


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
@pytest.mark.parametrize("size", thorough.first([3], among=[None, 1, 3, 50]))
def test_data_on_several_lines(end, size):
    """An event whose JSON is spread over lines, of which only some say usage."""
    line = end[: len(end) // 2]
    text = json.dumps({"choices": [], "usage": OPENAI_USAGE}, indent=1).splitlines()
    body = f"data: {{}}{end}{line.join('data: ' + each for each in text)}{end}data: {{}}{end}".encode()

    assert OPENAI_KINDS == kinds(read(body, size).usage)


@pytest.mark.parametrize("document", [{"x": 'a"}{[', "usage": {"y": '\\"}'}}, {'k"}': ['\\"]'], "usage": "\\", "z": 1}])
def test_an_escape_at_a_border(document):
    """Wherever the body is cut in two."""
    from meterkit.llm.json_scanner import JsonScanner

    text = json.dumps(document).encode()
    for at in range(len(text)):
        found = []
        scanner = JsonScanner([("usage",)], lambda _, value, found=found: found.append(json.loads(value)))
        scanner.feed(text[:at])
        scanner.feed(text[at:])
        assert [document["usage"]] == found
