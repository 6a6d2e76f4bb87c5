"""docs/command-line.md: its verbs, scripts and examples."""

import re
import shlex

import pytest

from multitask_cli.main import VERBS, multitask
from tests.conftest import ROOT

TEXT = (ROOT / 'docs/command-line.md').read_text()
EXAMPLES = re.findall(r'^    (multitask \w+ .*)$', TEXT.partition('## Examples')[2], re.M)


def test_table_has_every_verb():
    assert re.findall(r'^\| `([\w-]+)` \|', TEXT, re.M) == list(VERBS)


@pytest.mark.parametrize('example', EXAMPLES)
def test_examples_are_accepted(example):
    """Their arguments are parsed, which refuses wrong ones; nothing is run."""
    _, verb, *argv = shlex.split(example)
    context = multitask.get_command(None, verb).make_context(verb, argv)
    assert len(context.params) > 0
