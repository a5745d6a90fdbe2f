"""The kit of a project: what the setting ``METERKIT`` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from meterkit.errors import ConfigurationError
from meterkit.kit import MeterKit
from meterkit.metering.recorder import recorder_of
from meterkit.project_settings import check_keys
from meterkit.runtime.settings import without_effect

CURE = 'set it to the dotted path of your kit, METERKIT = "billing.kit"'


class KeyWithoutEffectError(ImproperlyConfigured):
    """``METERKIT`` says something that its kit was built without."""


def kit_of_settings() -> MeterKit:
    """
    Return the kit that ``settings.METERKIT`` names, which may import it.

    Raises:
        ImproperlyConfigured: ``METERKIT`` is missing, or is not a MeterKit, or the kit cannot be imported.
        KeyWithoutEffectError: ``METERKIT`` says something that the kit was built without.
    """
    given = getattr(settings, "METERKIT", None)
    if given is None:
        raise ImproperlyConfigured(f"METERKIT is missing from the settings; {CURE}")
    is_dictionary = isinstance(given, Mapping)
    named = _kit_in(given) if is_dictionary else given
    shown = f"METERKIT = {{'KIT': {named!r:.200}, ...}}" if is_dictionary else f"METERKIT = {named!r:.200}"
    try:
        kit: Any = import_string(named.replace(":", ".")) if isinstance(named, str) else named
    except ImportError as error:
        raise ImproperlyConfigured(f"{shown}: {error}; {CURE}") from error
    except ConfigurationError as error:  # of the kit, which says how to correct it
        raise ImproperlyConfigured(f"{shown}: {error}") from error
    try:
        recorder_of(kit)
    except ConfigurationError as error:
        raise ImproperlyConfigured(f"{shown}: {error}; {CURE}") from error
    if is_dictionary:
        _check_effect(given, kit)
    return kit  # type: ignore[no-any-return]


def _kit_in(given: Mapping[str, Any]) -> Any:
    try:
        check_keys(given)
    except ConfigurationError as error:
        raise ImproperlyConfigured(str(error)) from error
    if not given.get("KIT"):
        raise ImproperlyConfigured(
            'METERKIT has no "KIT"; add the dotted path of your kit, METERKIT = {"KIT": "billing.kit", ...}'
        )
    return given["KIT"]


def _check_effect(given: Mapping[str, Any], kit: MeterKit) -> None:
    missed = without_effect(given, kit._settings, kit.webhook)  # noqa: SLF001 - what it was built with
    if missed is not None:
        key, argument = missed
        raise KeyWithoutEffectError(
            f"METERKIT has {key!r}, but the kit was built without it: MeterKit() itself has {argument}, which "
            "wins; or the settings module imports the kit, before METERKIT is known. Say it in one of them, and "
            "name the kit by its dotted path"
        )
