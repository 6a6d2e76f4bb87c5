"""Classes of processors in results files: the instructions on which speed depends."""

import re
from collections.abc import Callable

NOT_RECORDED = 'not recorded'
_VECTORS = ('AVX-512', 'AVX2', 'NEON')  # the widest first
_EXTENSIONS = ('VNNI', 'bfloat16', 'AMX')  # products of small types


def processor_class(machine: dict) -> str:
    """Name the class of the processor that a benchmark ran on.

    Args:
        machine (dict): From ``multitask_refine.utils.results_file.describe_machine``. Files of
            earlier versions have the instruction set in the text of ``device`` only, or nowhere.

    Returns:
        str: Such as 'AVX2' or 'AVX-512 (VNNI, bfloat16)', the name of a GPU, or
        :data:`NOT_RECORDED`.
    """
    device = machine['device']
    if not device.startswith('CPU'):
        return str(device)
    instructions = machine.get('instructions')
    if instructions is None:
        # 'CPU (AMD EPYC, AVX2), 2 cores', PyTorch's name for the vectors last
        text = re.match(r'CPU \((.*)\),', device)
        words = re.split(r', ?', text[1]) if text else []
        instructions = [word.replace('AVX512', 'AVX-512') for word in words]
    vectors = next((each for each in _VECTORS if each in instructions), None)
    if vectors is None:
        return NOT_RECORDED
    more = [each for each in instructions if each in _EXTENSIONS]
    return f'{vectors} ({", ".join(more)})' if more else vectors


def with_processor(tabulate: Callable[[dict], str]) -> Callable[[dict], str]:
    """Put the class of the processor above the tables of a results file."""

    def tabulate_with_processor(found: dict) -> str:
        return f'Processor: {processor_class(found["run"]["machine"])}.\n\n{tabulate(found)}'

    return tabulate_with_processor
