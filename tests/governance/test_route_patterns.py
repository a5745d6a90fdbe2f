"""Whether a path may lead to a route of Flask or Starlette, before the app has matched it."""

from __future__ import annotations

import pytest

from meterkit.governance.route_patterns import MAX_PATH_LENGTH, may_lead_to


@pytest.mark.parametrize(
    ("route", "leads", "does_not"),
    [
        ("/docs/", ["/docs/", "/docs"], ["/v2/docs/", "/docs/7/", "/docsx", "/"]),
        ("/", ["/", ""], ["/a"]),
        ("/docs/{id}", ["/docs/7", "/docs/new", "/docs/7/"], ["/docs/", "/docs/7/pay", "/v2/docs/7"]),
        ("/docs/{id:int}", ["/docs/7"], ["/docs/new", "/docs/7/pay"]),
        ("/docs/<int:id>/pay", ["/docs/7/pay", "/docs/-7/pay"], ["/docs/7", "/docs/x/pay"]),
        ("/docs/<int(min=3):id>", ["/docs/7"], ["/docs/x"]),
        ("/docs/<id>.json", ["/docs/7.json"], ["/docs/7xjson", "/docs/a/b.json"]),
        ("/files/{rest:path}", ["/files/a", "/files/a/b/c", "/files/"], ["/file", "/v1/files/a"]),
        ("/files/<path:rest>/raw", ["/files/a/b/raw"], ["/files/a/b"]),
        ("/u/<uuid:id>", ["/u/123e4567-e89b-12d3-a456-426614174000"], ["/u/xyz"]),
        ("/at/<float:x>", ["/at/1.5"], ["/at/north"]),
        ("/own/<re('[a-z]+/[0-9]'):x>", ["/own/a/1"], ["/owner/a"]),
        ("/odata/Products({id})", ["/odata/Products(5)"], ["/odata/Products5"]),
        (r"/^documents/(\d+)/$", [], ["/documents/7/", "/free/"]),  # Django's, which says the route itself
    ],
)
def test_where_a_path_leads(route, leads, does_not):
    """By its parameters, and to the end."""
    matches = may_lead_to(route)

    assert leads == [path for path in [*leads, *does_not] if matches(path)]


def test_a_path_that_is_too_long_may_lead_anywhere():
    """Nobody passes a quota by it; and it costs nothing to say so."""
    matches = may_lead_to("/{a:path}/{b:path}/{c:path}/end")

    assert matches("/" * (MAX_PATH_LENGTH + 1))
