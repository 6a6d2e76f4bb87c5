"""Peak memory of a process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def measure_peak(call: Callable[[], object]) -> dict[str, Any]:
    """Measure the peak resident memory of this process during a call.

    Returns:
        ``peak_bytes``; ``peak_of_task``, whether it is of this call alone: where the system
        cannot reset the peak, it is of the whole life of the process.
    """
    try:
        Path('/proc/self/clear_refs').write_text('5')  # resets VmHWM, the peak
        is_reset = True
    except OSError:
        is_reset = False
    call()
    peak = Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]  # KiB
    return dict(peak_bytes=1024 * int(peak), peak_of_task=is_reset)
