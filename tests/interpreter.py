"""Where CPython may run another thread or a signal handler: what our code does without a lock relies on it."""

from __future__ import annotations

import dis
from functools import cache

QUIET = (
    "BINARY_",
    "CACHE",
    "COMPARE_OP",
    "COPY",
    "DUP_TOP",
    "INPLACE_",
    "IS_OP",
    "JUMP_IF_FALSE_OR_POP",
    "LOAD_",
    "NOP",
    "POP_JUMP_FORWARD_IF_",
    "POP_JUMP_IF_",
    "PUSH_NULL",
    "ROT_",
    "STORE_",
    "SWAP",
    "TO_BOOL",
    "UNPACK_SEQUENCE",
)
"""
Instructions after which the next one follows at once, unless they jump.

CPython 3.10 to 3.13 look for other threads and signals where a function begins, after calls, and where they jump (3.10
always, the others only back). Where one of these calls a function of Python's, that begins, so it is no matter here:
what we do without a lock is to integers and to memory.
"""


@cache
def gaps(code):
    """The offsets of the instructions of *code* before which something else may run."""
    found = set(dis.findlabels(code.co_code))
    after = None
    for instruction in dis.get_instructions(code):
        if after is None or not after.opname.startswith(QUIET):
            found.add(instruction.offset)
        after = instruction
    return found
