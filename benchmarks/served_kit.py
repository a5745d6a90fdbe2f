"""
The variant that `benchmarks.served_app` serves, in a module of its own that imports no framework.

Meterkit's flusher is a process that imports this module for its kit, as a kit has it that says nothing about it.
"""

from __future__ import annotations

import os

from benchmarks.variants import VARIANTS

wrap = VARIANTS[os.environ["BENCHMARK_VARIANT"]]()
kit = wrap.kit
