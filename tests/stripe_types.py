"""
What Stripe's OpenAPI description says of requests, as far as it comes to this machine: by stripe-python's types.

stripe-python is generated from the description: a class for the parameters of each operation, with what is required,
which values there are, and which forms. A request of an operation that is not listed here was thought of by nobody.
"""

from __future__ import annotations

import importlib
import re
import types
import typing
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from stripe import RequestOptions
from typing_extensions import NotRequired, Required, get_type_hints, is_typeddict

from meterkit.sandbox import Sandbox

OPERATIONS = {
    "POST /v1/accounts": "AccountCreateParams",
    "POST /v1/billing/meter_event_adjustments": "billing.MeterEventAdjustmentCreateParams",
    "POST /v1/billing/meter_events": "billing.MeterEventCreateParams",
    "GET /v1/account": "AccountRetrieveCurrentParams",
    "GET /v1/billing/meters": "billing.MeterListParams",
    "POST /v1/billing/meters": "billing.MeterCreateParams",
    "GET /v1/billing/meters/*": "billing.MeterRetrieveParams",
    "POST /v1/billing/meters/*": "billing.MeterUpdateParams",
    "POST /v1/billing/meters/*/deactivate": "billing.MeterDeactivateParams",
    "POST /v1/billing/meters/*/reactivate": "billing.MeterReactivateParams",
    "GET /v1/billing/meters/*/event_summaries": "billing.MeterListEventSummariesParams",
    "POST /v1/billing_portal/sessions": "billing_portal.SessionCreateParams",
    "GET /v1/checkout/sessions": "checkout.SessionListParams",
    "POST /v1/checkout/sessions": "checkout.SessionCreateParams",
    "GET /v1/checkout/sessions/*": "checkout.SessionRetrieveParams",
    "GET /v1/checkout/sessions/*/line_items": "checkout.SessionListLineItemsParams",
    "POST /v1/coupons": "CouponCreateParams",
    "GET /v1/customers": "CustomerListParams",
    "POST /v1/customers": "CustomerCreateParams",
    "GET /v1/customers/search": "CustomerSearchParams",
    "GET /v1/customers/*": "CustomerRetrieveParams",
    "POST /v1/customers/*": "CustomerUpdateParams",
    "DELETE /v1/customers/*": "CustomerDeleteParams",
    "GET /v1/disputes": "DisputeListParams",
    "GET /v1/disputes/*": "DisputeRetrieveParams",
    "POST /v1/disputes/*": "DisputeUpdateParams",
    "POST /v1/disputes/*/close": "DisputeCloseParams",
    "GET /v1/events": "EventListParams",
    "GET /v1/events/*": "EventRetrieveParams",
    "DELETE /v1/invoices/*": "InvoiceDeleteParams",
    "POST /v1/invoices": "InvoiceCreateParams",
    "POST /v1/invoices/*/finalize": "InvoiceFinalizeInvoiceParams",
    "GET /v1/payment_intents": "PaymentIntentListParams",
    "GET /v1/payment_intents/*": "PaymentIntentRetrieveParams",
    "GET /v1/payment_methods": "PaymentMethodListParams",
    "GET /v1/payment_methods/*": "PaymentMethodRetrieveParams",
    "POST /v1/payment_methods/*/attach": "PaymentMethodAttachParams",
    "GET /v1/invoice_payments": "InvoicePaymentListParams",
    "GET /v1/invoiceitems": "InvoiceItemListParams",
    "POST /v1/invoiceitems": "InvoiceItemCreateParams",
    "GET /v1/invoices": "InvoiceListParams",
    "GET /v1/invoices/*": "InvoiceRetrieveParams",
    "GET /v1/invoices/*/lines": "InvoiceLineItemListParams",
    "POST /v1/invoices/*/pay": "InvoicePayParams",
    "POST /v1/invoices/*/void": "InvoiceVoidInvoiceParams",
    "POST /v1/invoices/create_preview": "InvoiceCreatePreviewParams",
    "POST /v1/invoices/*": "InvoiceUpdateParams",
    "GET /v1/prices": "PriceListParams",
    "POST /v1/prices": "PriceCreateParams",
    "GET /v1/prices/*": "PriceRetrieveParams",
    "POST /v1/prices/*": "PriceUpdateParams",
    "GET /v1/products": "ProductListParams",
    "POST /v1/products": "ProductCreateParams",
    "GET /v1/products/*": "ProductRetrieveParams",
    "POST /v1/products/*": "ProductUpdateParams",
    "GET /v1/refunds": "RefundListParams",
    "POST /v1/refunds": "RefundCreateParams",
    "GET /v1/refunds/*": "RefundRetrieveParams",
    "GET /v1/subscription_items/*": "SubscriptionItemRetrieveParams",
    "POST /v1/subscription_items/*": "SubscriptionItemUpdateParams",
    "GET /v1/subscriptions": "SubscriptionListParams",
    "POST /v1/subscriptions": "SubscriptionCreateParams",
    "GET /v1/subscriptions/*": "SubscriptionRetrieveParams",
    "POST /v1/subscriptions/*": "SubscriptionUpdateParams",
    "DELETE /v1/subscriptions/*": "SubscriptionCancelParams",
    "POST /v1/test_helpers/test_clocks": "test_helpers.TestClockCreateParams",
    "GET /v1/webhook_endpoints": "WebhookEndpointListParams",
    "POST /v1/webhook_endpoints": "WebhookEndpointCreateParams",
    "GET /v1/webhook_endpoints/*": "WebhookEndpointRetrieveParams",
    "POST /v1/webhook_endpoints/*": "WebhookEndpointUpdateParams",
    "POST /v2/billing/meter_event_session": "",
    "POST /v2/billing/meter_event_stream": "v2.billing.MeterEventStreamCreateParams",
    "POST /v2/billing/meter_events": "v2.billing.MeterEventCreateParams",
    "GET /v2/core/events/*": "",
}
"""By method and path, the name of the parameters' class below ``stripe.params``; "" where there are none."""

# What stripe-python imports for type checkers only, and what no parameter that goes over the wire is.
_NAMES = {"StripeContext": object, "Mapping": dict, "UntypedStripeObject": list}


def wrong_requests(sandbox: Sandbox) -> list[str]:
    """
    What of all that *sandbox* was asked is not as Stripe describes it.

    What a wrong key asked was not read, and what broke off may not be whole.
    """
    read = [each for each in sandbox.requests if each.status not in (401, None)]
    return [complaint for each in read for complaint in complaints(each.method, each.path, each.params)]


def complaints(method: str, path: str, params: dict[str, Any]) -> list[str]:
    """What of a request is not as Stripe describes it."""
    for operation, name in OPERATIONS.items():
        verb, _, pattern = operation.partition(" ")
        if verb == method and re.fullmatch(pattern.replace("*", "[^/]+"), path):
            if not name:
                return [f"{operation} has no parameters, but {each}" for each in params]
            return [f"{operation}: {each}" for each in _of_dict(params, _class(name), "")]
    return [f"{method} {path} is not among the known operations"]


@cache
def _class(name: str) -> type:
    module, _, its_name = name.rpartition(".")
    found: type = getattr(importlib.import_module(f"stripe.params.{module}".rstrip(".")), its_name)
    return found


@cache
def _fields(of: type) -> dict[str, Any]:
    hints = get_type_hints(of, localns=_NAMES, include_extras=True)
    return {name: hint for name, hint in hints.items() if name not in RequestOptions.__annotations__}


def _of_dict(params: Any, of: type, where: str) -> list[str]:
    if not isinstance(params, dict):
        return [f"{where or 'the body'} is not an object"]
    fields = _fields(of)
    found = [f"{where}{name} is unknown" for name in params if name not in fields]
    found += [f"{where}{name} is missing" for name in of.__required_keys__ if name in fields and name not in params]
    for name, value in params.items():
        if name in fields:
            found += _of(value, fields[name], f"{where}{name}")
    return found


def _of(value: Any, hint: Any, where: str) -> list[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (NotRequired, Required):
        return _of(value, arguments[0], where)
    if origin in (typing.Union, types.UnionType):
        tried = [_of(value, each, where) for each in arguments if each is not str or not _is_open(arguments)]
        return [] if [] in tried else min(tried, key=len)
    if origin is typing.Literal:
        return [] if value in arguments else [f"{where} is {value!r}, none of {arguments}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{where} is not a list"]
        return [complaint for n, each in enumerate(value) for complaint in _of(each, arguments[0], f"{where}[{n}]")]
    if origin is dict:
        if not isinstance(value, dict):
            return [f"{where} is not an object"]
        return [complaint for name, each in value.items() for complaint in _of(each, arguments[1], f"{where}.{name}")]
    if is_typeddict(hint):
        return _of_dict(value, hint, f"{where}.")
    return [] if _is_plain(value, hint) else [f"{where} is {value!r}, no {getattr(hint, '__name__', hint)}"]


def _is_open(alternatives: tuple[Any, ...]) -> bool:
    """Stripe may add values to those that it describes; which we send, it does describe."""
    values = [typing.get_args(each) for each in alternatives if typing.get_origin(each) is typing.Literal]
    return any(each != ("",) for each in values)


def _is_plain(value: Any, hint: Any) -> bool:
    """Forms have text for everything: ``"true"``, ``"12"``."""
    if hint is str:
        return isinstance(value, str)
    if hint is bool:
        return value in ("true", "false")
    if hint is int:
        return isinstance(value, str) and re.fullmatch(r"-?\d+", value) is not None
    if hint in (float, Decimal):
        try:
            return Decimal(str(value)).is_finite()
        except InvalidOperation:
            return False
    return hint is type(None) and value is None
