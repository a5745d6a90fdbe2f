"""The kit of a project: what the setting ``METERKIT`` names."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from meterkit.errors import ConfigurationError
from meterkit.kit import MeterKit
from meterkit.metering.recorder import recorder_of


def kit_of_settings() -> MeterKit:
    """
    Return the kit that ``settings.METERKIT`` names.

    Raises:
        ImproperlyConfigured: ``METERKIT`` is missing, or is not a MeterKit.
    """
    kit = getattr(settings, "METERKIT", None)
    if kit is None:
        raise ImproperlyConfigured(
            'METERKIT is missing from the settings; set it to the dotted path of your kit, METERKIT = "billing.kit"'
        )
    try:
        if isinstance(kit, str):
            kit = import_string(kit.replace(":", "."))
        recorder_of(kit)
    except (ImportError, ConfigurationError) as error:
        raise ImproperlyConfigured(
            f"METERKIT = {settings.METERKIT!r:.200}: {error}; set it to the dotted path of your kit, "
            'METERKIT = "billing.kit"'
        ) from error
    return kit  # type: ignore[no-any-return]
