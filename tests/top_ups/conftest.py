"""A kit whose company has a saved card, and has agreed to be topped up."""

from __future__ import annotations

from followed_account import api, events, stripe, tell
from topped_up import kit, make_selling_kit, shop

__all__ = ["api", "events", "kit", "make_selling_kit", "shop", "stripe", "tell"]
