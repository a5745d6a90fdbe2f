"""``POST /v1/events`` in the OpenAPI description."""

from __future__ import annotations

from typing import Any

from meterkit.service.events.http_binding import BATCH, JSON, SINGLE

_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["id", "type", "subject"],
    "properties": {
        "specversion": {"const": "1.0", "description": "Required in application/cloudevents+json."},
        "id": {"type": "string", "description": "Unique in its source, and the same when the event is sent again."},
        "source": {"type": "string", "description": "Who sends it; in application/json by default the key's name."},
        "type": {"type": "string", "description": "What happened: event_type= of the meters that count it."},
        "subject": {"type": "string", "maxLength": 255, "description": "Company that pays."},
        "user": {"type": "string", "maxLength": 255, "description": "User within the company."},
        "time": {
            "type": "string",
            "format": "date-time",
            "description": "When it happened, up to 35 days ago; now if it is left out.",
        },
        "data": {"description": "Values that meters count, such as value='$.tokens'."},
    },
}

_PROBLEM: dict[str, Any] = {
    "description": "A problem document (RFC 9457) that says what to do.",
    "content": {"application/problem+json": {}},
}

OPERATIONS: dict[str, Any] = {
    "post": {
        "operationId": "sendEvents",
        "summary": "Count usage events",
        "description": "CloudEvents 1.0: one, a list, or one in binary mode. A list is taken whole or not at all. The "
        "same source and id count once, for 35 days.",
        "requestBody": {
            "required": True,
            "content": {
                SINGLE: {"schema": _EVENT},
                BATCH: {"schema": {"type": "array", "items": _EVENT}},
                JSON: {"schema": {"oneOf": [_EVENT, {"type": "array", "items": _EVENT}]}},
            },
        },
        "responses": {
            "202": {
                "description": "Counted: a kill of the service cannot take it any more.",
                "content": {
                    JSON: {
                        "schema": {
                            "type": "object",
                            "required": ["accepted", "repeated", "unmatched"],
                            "properties": {
                                "accepted": {"type": "integer", "description": "Events, without repeated ones."},
                                "repeated": {"type": "integer", "description": "Events twice in this request."},
                                "unmatched": {"type": "integer", "description": "Events that no meter counts."},
                                "unmatched_types": {"type": "array", "items": {"type": "string"}},
                            },
                        }
                    }
                },
            },
            "400": _PROBLEM,
            "401": _PROBLEM,
            "403": _PROBLEM,
            "413": _PROBLEM,
            "415": _PROBLEM,
            "422": _PROBLEM,
            "429": _PROBLEM,
            "503": _PROBLEM,
        },
    }
}
