"""
Models that stand for the ledger's tables in Django's admin and in its permissions, such as ``meterkit.view_usage``.

They have no tables of Django's, no migrations, and no rows: `meterkit.django.admin` reads the ledger by the kit.
"""

from __future__ import annotations

from typing import Any

from django.db import models


class _NoRows(models.Manager[Any]):
    """Finds nothing, and queries nothing: the ledger may be in another database than Django's, as for ``dumpdata``."""

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return nothing."""
        return super().get_queryset().none()


class _InLedger(models.Model):
    id: Any = models.CharField(primary_key=True, max_length=1)

    objects = _NoRows()

    class Meta:
        abstract = True
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view",)


class Usage(_InLedger):
    """Usage, by meter, company, user and hour."""

    class Meta(_InLedger.Meta):
        verbose_name = verbose_name_plural = "usage"


class Company(_InLedger):
    """Companies: customer, plan and standing."""

    class Meta(_InLedger.Meta):
        verbose_name, verbose_name_plural = "company", "companies"


class MeterEvent(_InLedger):
    """Meter events: what was reported to Stripe, and what became of it."""

    class Meta(_InLedger.Meta):
        verbose_name = "meter event"


class Notice(_InLedger):
    """Notices, and their deliveries."""

    class Meta(_InLedger.Meta):
        verbose_name = "notice"


class Correction(_InLedger):
    """Usage that was reversed, and why."""

    class Meta(_InLedger.Meta):
        verbose_name = "correction"
