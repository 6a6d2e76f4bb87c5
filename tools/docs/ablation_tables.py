#!/usr/bin/env python
"""Print the tables of small-scale runs: means over seeds and their differences.

The folder holds results files of tools/test.py, named CONFIG_seedN.json.
"""

import argparse
import sys
from pathlib import Path

from multitask_refine.analysis.ablation.seeds import render
from multitask_refine.utils.errors import explained_errors


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='folder of results files')
    parser.add_argument('--out', type=Path, help='write to this file instead')
    args = parser.parse_args(argv)
    text = render(args.folder)
    if args.out:
        args.out.write_text(text)
    else:
        print(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
