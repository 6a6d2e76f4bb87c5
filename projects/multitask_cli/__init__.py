"""Command line ``multitask``: one verb per module, and the tools that share them.

Nothing here imports PyTorch before a verb runs, so that ``--help`` and shell completion are
immediate, and exported models run where PyTorch is not installed.
"""
