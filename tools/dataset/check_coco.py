#!/usr/bin/env python
"""Check a COCO annotation file, and repair it: ``multitask check``."""

import sys

from multitask_cli.check import main

if __name__ == '__main__':
    sys.exit(main())
