#!/usr/bin/env python
"""Evaluate a checkpoint or an exported model: ``multitask test``."""

import sys

from multitask_cli.test import main

if __name__ == '__main__':
    sys.exit(main())
