#!/usr/bin/env python
"""Export a trained model as one ONNX file: ``multitask export``."""

import sys

from multitask_cli.export import main

if __name__ == '__main__':
    sys.exit(main())
