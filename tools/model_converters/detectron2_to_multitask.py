#!/usr/bin/env python
"""Convert a checkpoint of Detectron2."""

import sys

from multitask_refine.converters.detectron2 import main

if __name__ == '__main__':
    sys.exit(main())
