from __future__ import annotations

from followed_account import api, events, kit, make_following_kit, make_shown_kit, price, shown, stripe, tell

__all__ = ["api", "events", "kit", "make_following_kit", "make_shown_kit", "price", "shown", "stripe", "tell"]
