"""System checks: what ``manage.py check`` says of a project's metering. Each message names its cure."""

from __future__ import annotations

import inspect
import logging
import os
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Warn
from django.core.exceptions import ImproperlyConfigured
from django.urls import get_resolver
from django.utils.module_loading import import_string

from meterkit.adapters.django_routes import routes_in
from meterkit.django.configuration import CURE, KeyWithoutEffectError, kit_of_settings
from meterkit.errors import LedgerError
from meterkit.kit import MeterKit
from meterkit.metering.meter import ResponseJson
from meterkit.metering.unmatched import unknown_routes
from meterkit.runtime.settings import UNFILTERED, is_live, unfiltered_of

TAG = "meterkit"

OURS = "meterkit.django.MeterMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
GZIP = "django.middleware.gzip.GZipMiddleware"

READS_USER = {"user", "auser", "session"}
"""Names that AuthenticationMiddleware and the session give a request: a function with one of them reads it."""


@register(TAG)
def check_project(**_: Any) -> list[CheckMessage]:
    """Check the kit, the middleware and the URLconf."""
    if getattr(settings, "METERKIT", None) is None:
        return [Error("METERKIT is missing from the settings.", hint=_sentence(CURE), id="meterkit.E001")]
    try:
        kit = kit_of_settings()
    except KeyWithoutEffectError as error:
        return [Error(_sentence(str(error)), id="meterkit.E003")]
    except Exception as error:
        return [_broken(error)]
    return [
        *_of_middleware(kit),
        *_of_routes(kit),
        *_of_own_paths(kit),
        *_of_directory(kit),
        *_of_kit(kit),
    ]


@register(TAG, deploy=True)
def check_deployment(**_: Any) -> list[CheckMessage]:
    """Check what only production needs: a live key, Stripe itself, and its webhooks."""
    kit = _kit()
    return [] if kit is None else list(_of_stripe(kit))


@register(Tags.database)  # and not TAG, by which alone Django 6 would run it for all databases
def check_ledger(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Check that the ledger can be reached, and has its tables. Makes none."""
    kit = _kit() if databases else None
    if kit is None:
        return []
    try:
        missing = kit.process().database().lacks_tables()
    except LedgerError as error:
        return [Warn(_sentence(str(error)), id="meterkit.W009")]
    if not missing:
        return []
    return [
        Warn(
            f"The ledger {kit.process().database()} lacks tables, and its role may not make them.",
            hint="Run manage.py meterkit tables as a role that may, or give its SQL to one: meterkit tables --sql.",
            id="meterkit.W010",
        )
    ]


def _kit() -> MeterKit | None:
    try:
        return kit_of_settings()
    except Exception:  # which check_project reports
        return None


def _broken(error: Exception) -> CheckMessage:
    if isinstance(error, ImproperlyConfigured):
        return Error(_sentence(str(error)), id="meterkit.E002")
    *_rest, last = traceback.extract_tb(error.__traceback__)
    return Error(
        f"The kit cannot be imported: {type(error).__name__}: {error} ({last.filename}, line {last.lineno}).",
        hint="Correct the module that METERKIT names, or what it imports.",
        id="meterkit.E002",
    )


def _of_middleware(kit: MeterKit) -> Iterator[CheckMessage]:
    places = [place for place, path in enumerate(settings.MIDDLEWARE) if _is(path, OURS)]
    if not places:
        if any(meter.http and meter.tool is None for meter in kit.meters.values()):
            yield Warn(
                "MeterMiddleware is not in MIDDLEWARE, so no request is counted or blocked.",
                hint='Add "meterkit.django.MeterMiddleware", last; or make the meters http=False, if only '
                "kit.record() counts.",
                id="meterkit.W001",
            )
        return
    if len(places) > 1:
        yield Error(
            "MeterMiddleware is in MIDDLEWARE twice, so a quota is asked twice about each request.",
            hint="Remove one of them.",
            id="meterkit.E004",
        )
    before = settings.MIDDLEWARE[: places[0]]
    if kit.page is not None and not _stands_in(AUTHENTICATION, before) and _reads_user(kit):
        yield Warn(
            "MeterMiddleware serves the kit's pages, whose identify= or team= reads request.user, and "
            "AuthenticationMiddleware does not stand above it: there is no user yet, so nobody sees them.",
            hint=f"Move MeterMiddleware below {AUTHENTICATION}.",
            id="meterkit.W002",
        )
    reads = [str(meter) for meter in kit.meters.values() if isinstance(meter.value, ResponseJson)]
    if reads and _stands_in(GZIP, settings.MIDDLEWARE) and not _stands_in(GZIP, before):
        yield Warn(
            f"{' and '.join(reads)} reads the body, which GZipMiddleware below MeterMiddleware has compressed by then.",
            hint=f"Move MeterMiddleware below {GZIP}.",
            id="meterkit.W003",
        )


def _stands_in(kind: str, paths: Iterable[str]) -> bool:
    return any(_is(path, kind) for path in paths)


def _is(path: str, kind: str) -> bool:
    """Return whether the middleware at *path* is the one at *kind*, or derives from it."""
    if path == kind:
        return True
    try:
        return issubclass(import_string(path), import_string(kind))
    except Exception:  # a function; or what Django raises itself when it loads the middleware
        return False


def _reads_user(kit: MeterKit) -> bool:
    """Return whether a function that decides who sees a page reads the request's user, as far as its code shows."""
    from meterkit.pages.served import ServedPages  # the kit has a page, so this is imported
    from meterkit.pages.site import Site

    identify: Any = kit.recorder.identity._identify  # noqa: SLF001
    functions = [inspect.unwrap(getattr(identify, "_function", identify))]  # of an async one
    pages = kit.page._pages if isinstance(kit.page, ServedPages) else (kit.page,)  # noqa: SLF001
    functions += [page._pages.team for page in pages if isinstance(page, Site) and page._pages.team]  # noqa: SLF001
    codes = [getattr(function, "__code__", None) for function in functions]
    return any(code is None or READS_USER & {*code.co_names, *code.co_consts} for code in codes)


def _known_routes() -> list[str]:
    """Return the templates of the URLconf; none if they depend on the language, or cannot be told."""
    try:
        return routes_in(get_resolver(), "") or []
    except Exception:  # Django's own checks of the URLs report it
        return []


def _of_routes(kit: MeterKit) -> Iterator[CheckMessage]:
    known = _known_routes()
    for sentence in unknown_routes(kit.meters.values(), known) if known else ():
        yield Error(
            _sentence(sentence),
            hint="Write route= as the patterns of the URLconf are written, with the prefix of each include().",
            id="meterkit.E005",
        )


def _of_own_paths(kit: MeterKit) -> Iterator[CheckMessage]:
    webhook = None if kit.webhook is None else kit.webhook.path
    for route in _known_routes():
        path = "/" + route.lstrip("/^").removesuffix("$")
        at: Any = SimpleNamespace(path=path, target=path)
        if path == webhook or (kit.page is not None and kit.page.serves(at)):
            yield Warn(
                f"The middleware answers at {path}, so the view of the URLconf there is never called.",
                hint="Remove that view, or change the path in webhook=, customer_page= or Pages().",
                id="meterkit.W004",
            )


def _of_directory(kit: MeterKit) -> Iterator[CheckMessage]:
    mine = kit._settings  # noqa: SLF001 - what it was built with
    directory = mine.data_dir
    if mine.is_relative:
        yield Warn(
            f"data_dir is relative, here {directory}: each directory in which a process starts has usage of its own.",
            hint='Name it in the settings: METERKIT = {"KIT": ..., "DATA_DIR": BASE_DIR / "var"}.',
            id="meterkit.W005",
        )
    there = next(each for each in (directory, *directory.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Warn(
            f"data_dir is {directory}, and this user may not write to {there}, so nothing can be counted.",
            hint="Choose another directory, or make it writable for the user of the server.",
            id="meterkit.W014",
        )
    served = {
        "STATIC_ROOT": [getattr(settings, "STATIC_ROOT", None)],
        "MEDIA_ROOT": [getattr(settings, "MEDIA_ROOT", None)],
        "STATICFILES_DIRS": [
            each[1] if isinstance(each, list | tuple) else each for each in getattr(settings, "STATICFILES_DIRS", [])
        ],
    }
    real = directory.resolve()
    for name, roots in served.items():
        if any(root and real.is_relative_to(Path(root).resolve()) for root in roots):
            yield Error(
                f"data_dir is {directory}, which is inside of {name}: the web server gives the usage to anybody.",
                hint="Choose a directory that is not served.",
                id="meterkit.E006",
            )


def _of_kit(kit: MeterKit) -> Iterator[CheckMessage]:
    if settings.DEBUG and is_live(kit._settings.stripe_key):  # noqa: SLF001
        yield Warn(
            "The Stripe key is a live one, and DEBUG is on: requests of a developer are billed.",
            hint="Use a test key (sk_test_...) where DEBUG is on.",
            id="meterkit.W006",
        )
    for meter in unfiltered_of(kit.meters.values()):
        yield Warn(f"{meter} counts every request: {UNFILTERED}.", id="meterkit.W007")
    if logging.getLogger("meterkit").disabled:
        yield Warn(
            "The logger meterkit is disabled, so nothing that goes wrong is logged: it existed before LOGGING was "
            "applied, because the settings module imports the kit.",
            hint='Set "disable_existing_loggers": False in LOGGING, or do not import the kit in the settings module.',
            id="meterkit.W008",
        )


def _of_stripe(kit: MeterKit) -> Iterator[CheckMessage]:
    mine = kit._settings  # noqa: SLF001
    if mine.stripe_key is None:
        yield Warn(
            "There is no Stripe key: usage is counted and kept, but not reported.",
            hint="Set STRIPE_SECRET_KEY.",
            id="meterkit.W011",
        )
        return
    if is_live(mine.stripe_key) is False or mine.stripe_base is not None:
        where = "is one of test mode" if mine.stripe_base is None else f"is used at {mine.stripe_base}, not at Stripe"
        yield Warn(
            f"The Stripe key {where}: nobody pays for what is reported.",
            hint="Set STRIPE_SECRET_KEY to a live key, and METERKIT_STRIPE_BASE to nothing.",
            id="meterkit.W012",
        )
    if kit.webhook is None:
        yield Warn(
            "The kit has no webhook=: what becomes of customers, subscriptions and invoices is known only from "
            "meterkit sync.",
            hint="Add webhook=Webhook('/stripe/webhook') to the kit.",
            id="meterkit.W013",
        )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."
