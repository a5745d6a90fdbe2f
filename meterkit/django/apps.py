"""The app, for ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig


class MeterkitConfig(AppConfig):
    """The app ``meterkit.django``. Its label is ``meterkit``."""

    name = "meterkit.django"
    label = "meterkit"
    verbose_name = "Usage and billing"

    def ready(self) -> None:
        """Register the system checks."""
        from meterkit.django import checks  # noqa: F401 - which registers them
