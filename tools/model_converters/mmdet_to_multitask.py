#!/usr/bin/env python
"""Convert a checkpoint of MMDetection, or of this project into another of its configs."""

import sys

from multitask_refine.converters.mmdet import main

if __name__ == '__main__':
    sys.exit(main())
