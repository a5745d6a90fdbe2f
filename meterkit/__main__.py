"""``python -m meterkit`` runs the same command line as ``meterkit``."""

from __future__ import annotations

import sys

from meterkit.cli import main

sys.exit(main())
