"""
Read-only pages in Django's admin: usage, companies, meter events, notices and corrections.

They read the kit's ledger, wherever it is, and need no database of Django's. Each needs the permission to view it, such
as ``meterkit.view_usage``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path

from meterkit.django import models
from meterkit.django.admin.companies import CompanyList
from meterkit.django.admin.lists import (
    Asked,
    CorrectionList,
    Filter,
    LedgerList,
    Listed,
    MeterEventList,
    NoticeList,
)
from meterkit.django.admin.usage import UsageList
from meterkit.django.configuration import kit_of_settings
from meterkit.errors import LedgerError

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin  # Django's own cannot be subscripted

__all__ = ["LedgerAdmin"]

LONGEST_SHOWN = 200
"""Characters of a text that are shown; a company's name or an error may be longer."""


class LedgerAdmin(_ModelAdmin):
    """
    A read-only page of the ledger. It counts no rows, so it is as fast with ten million.

    Attributes:
        ledger_list: What the page lists; set by the subclasses that `meterkit.django.admin` registers.
    """

    ledger_list: LedgerList

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Return False: usage is counted, not typed in."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: `MeterKit.correct` corrects usage, and says so to Stripe."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: the ledger says what was billed."""
        return False

    def get_urls(self) -> list[Any]:
        """Return the one address of this page."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return [path("", self.admin_site.admin_view(self.changelist_view), name=name)]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Return the page, with a message if the ledger cannot be read."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        kit = kit_of_settings()
        filters = list(self.ledger_list.filters(kit))
        chosen = {
            each.name: request.GET[each.name] for each in filters if request.GET.get(each.name, "") in each.choices
        }
        asked = Asked(request.GET.get("q", "").strip()[:500], chosen, request.GET.get("after", ""))
        try:
            listed = self.ledger_list.page(kit, asked)
        except LedgerError as error:
            messages.error(request, f"The ledger cannot be read: {error}")
            listed = Listed()
        context = {
            **self.admin_site.each_context(request),
            "title": str(self.opts.verbose_name_plural).capitalize(),
            "subtitle": None,
            "opts": self.opts,
            "columns": self.ledger_list.columns,
            "rows": [[_short(cell) for cell in row] for row in listed.rows],
            "search": asked.search,
            "search_help": self.ledger_list.search_help,
            "chosen": chosen,
            "filters": [_shown(each, asked) for each in filters],
            "first": _address(asked) if asked.after else None,
            "next": _address(asked, after=listed.after) if listed.after else None,
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/meterkit/ledger_list.html", context)


def _short(cell: Any) -> Any:
    return f"{cell[:LONGEST_SHOWN]}\u2026" if isinstance(cell, str) and len(cell) > LONGEST_SHOWN else cell


def _shown(choice: Filter, asked: Asked) -> tuple[str, Iterable[tuple[str, str, bool]]]:
    """Return the title of a filter; and the address and label of each choice, and whether it is chosen."""
    rest = {name: value for name, value in asked.chosen.items() if name != choice.name}
    found = [(_address(asked, chosen=rest), "All", choice.name not in asked.chosen)]
    for value, label in choice.choices.items():
        address = _address(asked, chosen={**rest, choice.name: value})
        found.append((address, label, asked.chosen.get(choice.name) == value))
    return choice.title, found


def _address(asked: Asked, *, chosen: Any = None, after: str = "") -> str:
    given = {"q": asked.search, **(asked.chosen if chosen is None else chosen), "after": after}
    return "?" + urlencode({name: value for name, value in given.items() if value})


def _register(model: Any, listing: LedgerList) -> None:
    admin.site.register(model, type(f"{model.__name__}Admin", (LedgerAdmin,), {"ledger_list": listing}))


_register(models.Usage, UsageList())
_register(models.Company, CompanyList())
_register(models.MeterEvent, MeterEventList())
_register(models.Notice, NoticeList())
_register(models.Correction, CorrectionList())
