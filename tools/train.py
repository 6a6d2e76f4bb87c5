#!/usr/bin/env python
"""Train a config: ``multitask train``."""

import sys

from multitask_cli.train import main

if __name__ == '__main__':
    sys.exit(main())
