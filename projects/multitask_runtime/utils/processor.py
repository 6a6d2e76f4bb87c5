"""Name and instruction sets of the processor, on which speed and precision depend."""

import platform
import re
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path('/proc/cpuinfo')
# Names in /proc/cpuinfo of x86 and Arm; where one has two, either counts.
_INSTRUCTIONS = {
    'AVX2': ('avx2',),
    'AVX-512': ('avx512f',),
    'VNNI': ('avx512_vnni', 'avx_vnni'),
    'bfloat16': ('avx512_bf16', 'bf16'),
    'AMX': ('amx_tile',),
    'NEON': ('asimd', 'neon'),
}


class Processor(NamedTuple):
    """A processor.

    Attributes:
        name (str): Name of the model, '' if unknown.
        instructions (tuple[str, ...]): Those of AVX2, AVX-512, VNNI (int8 products), bfloat16,
            AMX (matrices in bfloat16 and int8) and NEON that it has; empty where the system
            does not tell.
    """

    name: str
    instructions: tuple[str, ...]


def read_processor() -> Processor:
    """Read name and instruction sets of the processor from /proc/cpuinfo."""
    text = CPUINFO.read_text() if CPUINFO.exists() else ''
    name = re.search(r'^model name\s*:\s*(.+)$', text, re.MULTILINE)
    found = re.search(r'^(?:flags|Features)\s*:\s*(.+)$', text, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    return Processor(
        name[1].strip() if name else platform.processor(),
        tuple(each for each, names in _INSTRUCTIONS.items() if flags.intersection(names)),
    )


def describe_processor() -> str:
    """Describe the processor in words, as in 'AMD EPYC, AVX2'."""
    name, instructions = read_processor()
    return ', '.join(filter(None, [name, *instructions])) or 'an unknown one'
