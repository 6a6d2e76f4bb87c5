#!/usr/bin/env python
"""Evaluate a checkpoint or an exported network."""

import sys

from multitask_refine.apis.test import main

if __name__ == '__main__':
    sys.exit(main())
