"""A kit with a wallet of credits, and one of dollars."""

from __future__ import annotations

from wallet_kits import prepaid

__all__ = ["prepaid"]
