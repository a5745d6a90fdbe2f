"""
Django: ``INSTALLED_APPS = ["meterkit.django", ...]`` and ``MIDDLEWARE = ["meterkit.django.MeterMiddleware", ...]``.

The kit comes from the settings: ``METERKIT = "billing.kit"``. Importing this package needs no configured settings.
"""

from __future__ import annotations

from meterkit.django.identity import company_of
from meterkit.django.middleware import DjangoExchange, MeterMiddleware, agovern, govern

__all__ = ["DjangoExchange", "MeterMiddleware", "agovern", "company_of", "govern"]
