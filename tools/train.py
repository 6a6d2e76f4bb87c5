#!/usr/bin/env python
"""Train a config."""

import sys

from multitask_refine.apis.train import main

if __name__ == '__main__':
    sys.exit(main())
