"""``python -m multitask_cli`` is the command ``multitask``."""

import sys

from .main import main

if __name__ == '__main__':
    sys.exit(main())
