"""Bodies in the shapes of OpenAI, Anthropic and Gemini, made by us: no provider has sent them."""

from __future__ import annotations

import json


def sse(*events, end="\n\n"):
    """Server-sent events with *events*: dicts, or a name and a dict, or a text."""
    parts = []
    for event in events:
        name, data = event if isinstance(event, tuple) else (None, event)
        text = data if isinstance(data, str) else json.dumps(data)
        line = end[: len(end) // 2]
        parts.append((f"event: {name}{line}" if name else "") + f"data: {text}{end}")
    return "".join(parts).encode()


OPENAI_USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 300,
    "total_tokens": 1300,
    "prompt_tokens_details": {"cached_tokens": 640, "cache_write_tokens": 128, "audio_tokens": 32},
    "completion_tokens_details": {"reasoning_tokens": 200, "audio_tokens": 10, "rejected_prediction_tokens": 5},
}
OPENAI_KINDS = {
    "input": 200,
    "cached_input": 640,
    "cache_write": 128,
    "input_audio": 32,
    "output": 90,
    "reasoning": 200,
    "output_audio": 10,
}

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "large-1",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": 'a word, {"usage": {"prompt_tokens": 9}} and ü'},
            "finish_reason": "stop",
        }
    ],
    "usage": OPENAI_USAGE,
}


def chunk(content, *, usage=None, choices=None):
    """One chunk of a chat completion, as it is with include_usage."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    found = [choice] if choices is None else choices
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "large-1",
        "choices": found,
        "usage": usage,
    }


CHAT_STREAM = sse(chunk("a "), chunk("word"), chunk("", choices=[], usage=OPENAI_USAGE), "[DONE]")
CHAT_STREAM_WITHOUT_USAGE = sse(chunk("a "), chunk("word"), "[DONE]")

RESPONSE_USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 640, "cache_write_tokens": 60},
    "output_tokens": 300,
    "output_tokens_details": {"reasoning_tokens": 200},
    "total_tokens": 1300,
}
RESPONSE_KINDS = {"input": 300, "cached_input": 640, "cache_write": 60, "output": 100, "reasoning": 200}

RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "large-1",
    "status": "completed",
    "output": [
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "a word", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": RESPONSE_USAGE,
}
RESPONSE_STREAM = sse(
    (
        "response.created",
        {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "output": [], "usage": None}},
    ),
    (
        "response.output_text.delta",
        {
            "type": "response.output_text.delta",
            "sequence_number": 1,
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "delta": "a word",
            "logprobs": [],
        },
    ),
    ("response.completed", {"type": "response.completed", "sequence_number": 2, "response": RESPONSE}),
)

EMBEDDINGS = {
    "object": "list",
    "model": "embed-1",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}

MESSAGE_USAGE = {
    "input_tokens": 200,
    "cache_creation_input_tokens": 128,
    "cache_read_input_tokens": 640,
    "output_tokens": 300,
    "output_tokens_details": {"thinking_tokens": 180},
}
MESSAGE_KINDS = {"input": 200, "cached_input": 640, "cache_write": 128, "output": 120, "reasoning": 180}

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "wise-1",
    "content": [{"type": "text", "text": "a word"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": MESSAGE_USAGE,
}
MESSAGE_START = {
    "type": "message_start",
    "message": {
        **MESSAGE,
        "content": [],
        "stop_reason": None,
        "usage": {**MESSAGE_USAGE, "output_tokens": 1, "output_tokens_details": None},
    },
}
BLOCK_START = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
BLOCK_DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a word"}}
BLOCK_STOP = {"type": "content_block_stop", "index": 0}


def message_delta(output_tokens, **more):
    """The last event but one of a message."""
    return {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": output_tokens, **more},
    }


MESSAGE_STREAM = sse(
    ("message_start", MESSAGE_START),
    ("ping", {"type": "ping"}),
    ("content_block_start", BLOCK_START),
    ("content_block_delta", BLOCK_DELTA),
    ("content_block_stop", BLOCK_STOP),
    ("message_delta", message_delta(300, output_tokens_details={"thinking_tokens": 180})),
    ("message_stop", {"type": "message_stop"}),
)

GEMINI_USAGE = {
    "promptTokenCount": 1000,
    "cachedContentTokenCount": 640,
    "candidatesTokenCount": 100,
    "thoughtsTokenCount": 200,
    "toolUsePromptTokenCount": 50,
    "totalTokenCount": 1350,
    "promptTokensDetails": [
        {"modality": "TEXT", "tokenCount": 900},
        {"modality": "AUDIO", "tokenCount": 100},
    ],
    "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 40}, {"modality": "TEXT", "tokenCount": 600}],
    "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 100}],
}
GEMINI_KINDS = {"input": 350, "cached_input": 640, "input_audio": 60, "output": 100, "reasoning": 200}


def candidate(text, usage):
    """One response of generateContent, or one piece of a streamed one."""
    part = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    return {"candidates": [part], "usageMetadata": usage, "modelVersion": "bright-1"}


GEMINI = candidate("a word", GEMINI_USAGE)
GEMINI_PIECES = [
    candidate("a ", {"promptTokenCount": 1000, "cachedContentTokenCount": 640, "totalTokenCount": 1000}),
    candidate("", {"trafficType": "ON_DEMAND"}),
    GEMINI,
]
GEMINI_STREAM = sse(*GEMINI_PIECES, end="\r\n\r\n")


def kinds(usage):
    """The kinds of a TokenUsage that are not zero."""
    from meterkit import llm

    return {kind: getattr(usage, kind) for kind in llm.KINDS if getattr(usage, kind)}
