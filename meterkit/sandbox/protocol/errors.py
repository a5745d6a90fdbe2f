"""The error envelope, with Stripe's own texts where they are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_CODES_V2 = {"resource_missing": "not_found"}  # codes that v2 names differently


@dataclass
class ApiError(Exception):
    """
    One error response of the API.

    Attributes:
        status: HTTP status code.
        type: `invalid_request_error`, `idempotency_error`, `api_error`, ...
        message: Text for developers.
        code: Machine-readable code; None for many of Stripe's errors.
        param: The parameter at fault, in bracket form: `tiers[0][up_to]`.
        headers: Additional response headers, for example `Stripe-Should-Retry`.
        stored: Whether an idempotency key of v1 remembers this response: only if the request had begun to *execute*.

    """

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    stored: bool = True

    def body(self, request_id: str) -> dict[str, Any]:
        """Return the JSON envelope; absent fields are omitted, as in Stripe's."""
        error: dict[str, Any] = {}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = f"https://docs.stripe.com/error-codes#{self.code.replace('_', '-')}"
        error["message"] = self.message
        if self.param is not None:
            error["param"] = self.param
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        error["type"] = self.type
        return {"error": error}

    def body_v2(self) -> dict[str, Any]:
        """
        Return the envelope of v2: a code and a message, and a type if the code has one of its own.

        In Stripe's description of v2, the errors of an endpoint have no type. Errors raised before the endpoint (keys,
        limits, paths) are the same in both versions.
        """
        code = _CODES_V2.get(self.code or self.type, self.code or self.type)
        error = {"code": code, "message": self.message}
        kind = "rate_limit" if code == "rate_limit" else self.type
        if kind not in ("invalid_request_error", "api_error"):
            error["doc_url"] = f"https://docs.stripe.com/error-codes#{code.replace('_', '-')}"
        if kind != "invalid_request_error" or self.code is None or self.status == 429:
            error["type"] = kind
        return {"error": error}


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """Return a 400 for a request that was parsed and refused; its idempotency key remembers it."""
    return ApiError(400, message, code=code, param=param)


def malformed(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """Return a 400 for a parameter that cannot be parsed; *not* remembered, because nothing began to execute."""
    return ApiError(400, message, code=code, param=param, stored=False)


def unknown_parameters(names: list[str]) -> ApiError:
    """Return the error for parameters that the endpoint does not accept."""
    plural = "s" if len(names) > 1 else ""
    return malformed(
        f"Received unknown parameter{plural}: {', '.join(names)}", param=names[0], code="parameter_unknown"
    )


def missing_parameter(name: str) -> ApiError:
    """Return the error for a required parameter that was not sent."""
    return malformed(f"Missing required param: {name}.", param=name, code="parameter_missing")


def empty_parameter(name: str) -> ApiError:
    """Return the error for an empty string in a parameter that cannot be unset."""
    return malformed(
        f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a parameter; "
        f"however '{name}' cannot be unset. You should remove '{name}' from your request or supply a non-empty value.",
        param=name,
        code="parameter_invalid_empty",
    )


def no_such(noun: str, identity: str, *, param: str = "id") -> ApiError:
    """Return the error for an unknown id: 404 if it is in the path, 400 if it is in a parameter."""
    status = 404 if param == "id" else 400
    return ApiError(status, f"No such {noun}: '{identity}'", code="resource_missing", param=param)


def unrecognized_url(method: str, path: str) -> ApiError:
    """Return the error for a path without an endpoint."""
    return ApiError(
        404,
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
        stored=False,
    )


def unauthorized(message: str) -> ApiError:
    """Return the error for a missing or unknown key."""
    return ApiError(401, message, headers={"WWW-Authenticate": 'Bearer realm="Stripe"'}, stored=False)


def rate_limited(reason: str) -> ApiError:
    """Return a rate limiter's 429; only such a 429 has the header that *reason* goes into."""
    return ApiError(
        429,
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        headers={"Stripe-Rate-Limited-Reason": reason},
        stored=False,
    )


def lock_timeout() -> ApiError:
    """Return the 429 for an object locked for too long; it does not come from a rate limiter, and may be retried."""
    return ApiError(
        429,
        "This object cannot be accessed right now because another API request or Stripe process is currently "
        "accessing it. If you see this error intermittently, retry the request. If you see this error frequently "
        "and are making multiple concurrent requests to a single object, make your requests serially or at a lower "
        "rate. For more details, see https://stripe.com/docs/rate-limits#object-lock-timeouts.",
        code="lock_timeout",
        headers={"Stripe-Should-Retry": "true"},
        stored=False,
    )


def too_many_concurrent_requests() -> ApiError:
    """Return v2's error while another event for the same customer and meter is being processed."""
    return ApiError(
        409,
        "Cannot create multiple usage events for the same customer, meter concurrently.",
        code="too_many_concurrent_requests",
        stored=False,
    )


def key_in_use(key: str) -> ApiError:
    """Return the error for an idempotency key whose first request is still in progress."""
    return ApiError(
        409,
        "There is currently another in-progress request using this Stripe-Idempotency-Key "
        f"(that probably means you submitted twice, and the other request is still going through): {key}.",
        type="idempotency_error",
        code="idempotency_key_in_use",
        headers={"Stripe-Should-Retry": "true"},
        stored=False,
    )


def server_error() -> ApiError:
    """Return a 500. An idempotency key of v1 remembers it, too."""
    return ApiError(
        500,
        "Sorry, there was an error. We've already been notified of the problem, but if you need any additional "
        "help, you can reach us at https://support.stripe.com/.",
        type="api_error",
    )
