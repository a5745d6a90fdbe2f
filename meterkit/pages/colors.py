"""Shades of the vendor's color that can be read on a light and on a dark page, as a stylesheet."""

from __future__ import annotations

COLOR = "#0b6e99"
"""Color of a vendor who has set none."""

LIGHT, DARK = "#f6f8fa", "#1e2328"
"""Backgrounds of a panel, on which text is a little harder to read than on the page itself."""

READABLE = 4.5
"""Least contrast of text, as WCAG 2 has it for level AA."""


def stylesheet(color: str | None) -> str:
    """
    Return the stylesheet that sets ``--accent`` and ``--on-accent``, light and dark.

    Args:
        color: ``#rrggbb``, checked; None for meterkit's own.
    """
    light, dark = (_readable(color or COLOR, on) for on in (LIGHT, DARK))
    return f":root{{{_properties(light)}}}\n@media (prefers-color-scheme:dark){{:root{{{_properties(dark)}}}}}\n"


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colors, 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _properties(accent: str) -> str:
    text = max(("#ffffff", "#000000"), key=lambda each: contrast(each, accent))
    return f"--accent:{accent};--on-accent:{text}"


def _readable(color: str, background: str) -> str:
    """Return *color*, or the nearest shade of it that can be read on *background*."""
    end = 0 if _luminance(background) > 0.5 else 255
    channels = _channels(color)
    for step in range(101):
        shade = "#" + "".join(f"{round(each + (end - each) * step / 100):02x}" for each in channels)
        if contrast(shade, background) >= READABLE:
            return shade
    raise AssertionError("black is readable on white, and white on black")


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _luminance(color: str) -> float:
    parts = (each / 255 for each in _channels(color))
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
