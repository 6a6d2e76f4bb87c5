"""Write the files of pinned behavior."""

import argparse
import gzip
import json
import tempfile
from pathlib import Path

import torch

from tests.pins.behavior import PINS, pin_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*', metavar='PART', help=f'of {", ".join(PINS)}; all')
    names = parser.parse_args().names or list(PINS)
    torch.set_num_threads(1)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            content = PINS[name](Path(folder))
        text = json.dumps(content, indent=1, sort_keys=True)
        # Without the time of writing, the same content gives the same bytes.
        pin_file(name).write_bytes(gzip.compress(text.encode(), mtime=0))
        print(f'{pin_file(name)}: {pin_file(name).stat().st_size} bytes', flush=True)


if __name__ == '__main__':
    main()
