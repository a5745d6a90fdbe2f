"""A server over stdio: python stdio_server.py SDK COMPANY; the kit's directory is in the environment."""

from __future__ import annotations

import os
import sys

from tool_servers import METERS, SERVERS

from meterkit import MeterKit

kit = MeterKit(meters=METERS, clock=lambda: float(os.environ["TEST_NOW"]))

if __name__ == "__main__":
    name, company = sys.argv[1:]
    server = SERVERS[name](kit, company=company)
    try:
        server.run("stdio") if name == "sdk" else server.run(transport="stdio", show_banner=False)
    finally:
        kit.close()
