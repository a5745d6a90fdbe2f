"""What is Django's alone: files, streams of the other kind, translated URLs, and what is no exception to it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from adapter_django import METER, django_handler
from adapter_drivers import Answer, call_asgi, call_wsgi
from adapter_stacks import async_chunks, chunks
from adapter_usage import DJANGO_LEAVES_ITS_FILE, usage_of
from django.conf.urls.i18n import i18n_patterns
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from guard import GUARD

import meterkit
from meterkit import Governance, Meter, MeterKit, Quota

Counted = Callable[[], dict[str, int]]


class Project:
    """A URLconf with one view, or with patterns."""

    def __init__(self, view: Any) -> None:
        self.urlpatterns = view if isinstance(view, list) else [path("", view)]


def both(kit: MeterKit, view: Any, *, is_async: bool, **options: Any) -> Answer:
    """Serve bare and metered; the metered answer, which is the same."""
    call = call_asgi if is_async else call_wsgi
    bare = call(django_handler(None, is_async=is_async, ROOT_URLCONF=Project(view)), **options)
    metered = call(django_handler(kit, is_async=is_async, ROOT_URLCONF=Project(view)), **options)
    assert bare.log == metered.log
    assert bare.error is metered.error
    return metered


def test_a_file_stays_the_servers_own(kit: MeterKit, counted: Counted) -> None:
    """
    Under WSGI a FileResponse comes back as what ``wsgi.file_wrapper`` made, and its file is closed once.
    """
    closed: list[BytesIO] = []

    class File(BytesIO):
        def close(self) -> None:
            closed.append(self)
            super().close()

    answer = both(
        kit, lambda request: FileResponse(File(b"content")), is_async=False, environ={"wsgi.file_wrapper": FileWrapper}
    )

    assert isinstance(answer.returned, FileWrapper)
    assert b"content" == answer.body
    assert 2 == len(set(closed))  # the bare one's, and the metered one's
    assert {"succeeded": 1, "bytes": 7} == counted()


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("is_async", [False, True])
def test_a_file_without_sendfile(kit: MeterKit, counted: Counted, tmp_path: Path, is_async: bool) -> None:
    """
    Where the server has no file wrapper, it is read in Django's own blocks.
    """
    file = tmp_path / "file"
    file.write_bytes(b"content" * 1000)
    answer = both(kit, lambda request: FileResponse(file.open("rb")), is_async=is_async)

    assert b"content" * 1000 == answer.body
    assert {"succeeded": 1, "bytes": 7000} == counted()


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("of_the_other_kind", [False, True])
def test_a_stream_of_either_kind(kit: MeterKit, counted: Counted, is_async: bool, of_the_other_kind: bool) -> None:
    """
    Django serves a sync iterator under ASGI, and an async one under WSGI; so it does metered.
    """
    kind = async_chunks if is_async != of_the_other_kind else chunks
    answer = both(kit, lambda request: StreamingHttpResponse(kind([])), is_async=is_async)

    assert b"one,two,three" == answer.body
    assert {"succeeded": 1, "bytes": 13} == counted()


@pytest.mark.parametrize("is_async", [False, True])
def test_the_stream_of_a_head_request_is_not_read(kit: MeterKit, counted: Counted, is_async: bool) -> None:
    """
    It is counted with its status, and left to the server as it is.
    """
    streams: list[Any] = []

    def view(request: HttpRequest) -> StreamingHttpResponse:
        streams.append(StreamingHttpResponse(async_chunks([]) if is_async else chunks([])))
        return streams[-1]

    both(kit, view, is_async=is_async, method="HEAD")

    assert {"succeeded": 1} == counted()
    assert "meterkit" not in type(streams[-1]._iterator).__module__


class Stop(BaseException):
    """No Exception, so that Django makes no response of it."""


@DJANGO_LEAVES_ITS_FILE
@pytest.mark.parametrize("is_async", [False, True])
def test_what_is_no_exception_to_django(make_kit: Callable[..., MeterKit], is_async: bool) -> None:
    """
    It reaches the server as the same object, and is a 500 with its route.
    """
    stop = Stop()

    async def async_view(request: HttpRequest) -> HttpResponseBase:
        raise stop

    def view(request: HttpRequest) -> HttpResponseBase:
        raise stop

    kit = make_kit(Meter("broke", route="/", status=500))
    answer = both(kit, async_view if is_async else view, is_async=is_async)

    assert stop is answer.error
    answer.error = stop.__traceback__ = None
    gc.collect()
    assert {"broke": 1} == usage_of(kit)


def answering_nothing(get_response: Any) -> Any:
    """A middleware that forgets to return."""
    return lambda request: None


def naming_globex(get_response: Any) -> Any:
    """A middleware that authenticates."""

    def middleware(request: Any) -> Any:
        meterkit.identify("globex")
        return get_response(request)

    return middleware


def test_a_middleware_that_says_who_it_is(make_kit: Callable[..., MeterKit]) -> None:
    """
    Is in time for a quota, because Django asks governance just before the view.
    """
    calls = Meter("calls", path="*", status="*")
    kit = make_kit(calls, identify=lambda exchange: None, governance=Governance(quotas=[Quota(calls, 2)]))
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    metered = django_handler(kit, MIDDLEWARE=[METER, f"{__name__}.naming_globex"])

    assert [201, 201, 429] == [call_wsgi(metered, path="/whole").status for _ in range(3)]
    assert "identified_late" not in kit.health()["problems"]


def test_a_middleware_that_answers_nothing(kit: MeterKit, counted: Counted) -> None:
    """
    Django's complaint is Django's; metering adds none.
    """
    forgetting = f"{__name__}.answering_nothing"
    bare = call_wsgi(django_handler(None, MIDDLEWARE=[forgetting]))
    metered = call_wsgi(django_handler(kit, MIDDLEWARE=[METER, forgetting]))

    assert (type(bare.error), str(bare.error)) == (type(metered.error), str(metered.error))
    assert {"broke": 1} == counted()


def test_the_middleware_is_of_both_kinds(make_kit: Callable[..., MeterKit]) -> None:
    """
    So that Django puts no thread around it, nor between it and an async view.
    """
    threads: list[threading.Thread] = []

    def identify(exchange: Any) -> str:
        threads.append(threading.current_thread())
        return "acme"

    async def view(request: HttpRequest) -> HttpResponseBase:
        threads.append(threading.current_thread())
        return HttpResponse(b"done")

    kit = make_kit(Meter("calls", path="*"), identify=identify)
    both(kit, view, is_async=True)

    assert [threading.current_thread()] * 3 == threads  # the bare view, the metered view, and who pays


def test_translated_urls_are_not_guessed_at(make_kit: Callable[..., MeterKit]) -> None:
    """
    Their templates depend on the language, so that a missing one is no proof of a mistake.
    """
    kit = make_kit(Meter("calls", route="/en/here/"), Meter("typo", route="/de/here/"))
    patterns = i18n_patterns(path("here/", lambda request: FileResponse(BytesIO(b"a"))))
    call_wsgi(django_handler(kit, ROOT_URLCONF=Project(patterns), USE_I18N=True, LANGUAGE_CODE="en"), path="/en/here/")

    assert "route_unknown" not in kit.health()["problems"]
    assert {"calls": 1} == usage_of(kit)
