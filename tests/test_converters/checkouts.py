"""Git checkouts of other frameworks, for the scripts that write golden files."""

import subprocess
from pathlib import Path


def read_commit(checkout: Path) -> str:
    """Return the commit that is checked out."""
    return subprocess.run(
        ['git', '-C', str(checkout), 'rev-parse', 'HEAD'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
