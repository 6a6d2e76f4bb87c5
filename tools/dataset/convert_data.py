#!/usr/bin/env python
"""Convert datasets of YOLO, LabelMe, CVAT and Label Studio: ``multitask convert-data``."""

import sys

from multitask_cli.convert_data import main

if __name__ == '__main__':
    sys.exit(main())
