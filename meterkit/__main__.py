"""Faces: ``python -m meterkit``, the same as ``meterkit``."""

from __future__ import annotations

import sys

from meterkit.cli import main

sys.exit(main())
