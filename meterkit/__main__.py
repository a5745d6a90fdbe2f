"""``python -m meterkit`` runs the same command line as ``meterkit``. A worker starts its flusher like this."""

from __future__ import annotations

import sys
import traceback

from meterkit.cli import main
from meterkit.flusher import role
from meterkit.flusher.parent import leave

try:
    code = main()
except Exception:
    if not role.is_child:
        raise
    traceback.print_exc()
    code = 1
if role.is_child:
    leave(code)
sys.exit(code)
