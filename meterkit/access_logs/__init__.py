"""
Usage from the access logs of gateways, which ``meterkit tail`` reads.

    files      find and read log files, also rotated, truncated and compressed ones
    formats    turn a line into its parts
    counter    count them with the meters of the kit, as the middleware counts requests
    positions  how far each file has been counted; kept in the ledger, in the transaction with the counts
    tail       do all of this again and again
    check      do it once, and count nothing
"""

from __future__ import annotations

from meterkit.access_logs.exchange import LogExchange

__all__ = ["LogExchange"]
