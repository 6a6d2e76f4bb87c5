"""Today's behavior as numbers in files, to be kept by any restructuring.

``python -m tests.pins`` writes the files anew; the test compares. A difference
that is meant goes into the files together with a line under "Migration" in
CHANGELOG.md.
"""
