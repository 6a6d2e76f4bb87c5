#!/usr/bin/env python
"""Convert a checkpoint of torchvision."""

import sys

from multitask_refine.converters.torchvision import main

if __name__ == '__main__':
    sys.exit(main())
