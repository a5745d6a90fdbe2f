"""Set up a Django project, before its kit is imported."""

from __future__ import annotations

import django
from django.apps import apps


def set_up() -> None:
    """Load the settings and the apps that DJANGO_SETTINGS_MODULE names, unless that has been done."""
    if not apps.ready:
        django.setup()
