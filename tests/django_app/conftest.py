"""Django, with the app: configured once per process, and changed for each test."""

from __future__ import annotations

import django
import pytest
from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"], DATABASES={}, LOGGING_CONFIG=None, MIDDLEWARE=[], ROOT_URLCONF="urls", SECRET_KEY="x"
    )
    django.setup()

from django.test import override_settings


@pytest.fixture
def with_settings(request):
    """A function that sets settings for the rest of the test."""

    def change(**changed):
        changing = override_settings(**changed)
        changing.enable()
        request.addfinalizer(changing.disable)

    change(INSTALLED_APPS=["meterkit.django"])
    return change
