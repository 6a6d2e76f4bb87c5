"""Progress bar, notes and summary."""

import sys

import pytest

from multitask_runtime.utils.errors import InputError
from multitask_runtime.utils.progress import Progress


class Terminal:
    """A standard error that remembers what was written."""

    def __init__(self, is_terminal):
        self.text = ''
        self.isatty = lambda: is_terminal
        self.encoding = 'utf-8'

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def replace_stderr(monkeypatch, is_terminal=True):
    # Not in a fixture: pytest replaces it, too, before the test is called.
    monkeypatch.setattr(sys, 'stderr', Terminal(is_terminal))
    return sys.stderr


@pytest.mark.parametrize('is_terminal', [True, False])
def test_progress_bar_and_summary(monkeypatch, is_terminal):
    stderr = replace_stderr(monkeypatch, is_terminal)
    progress = Progress(3, 3, remarks=['ignored in a: 1 .txt files.'])
    for source in 'abc':
        progress.step()
        progress.count_source(source)
    progress.close()
    assert '0/3' in stderr.text and '3/3' in stderr.text
    assert stderr.text.count('\n') == 3
    lines = stderr.text.splitlines()
    assert lines[-2].startswith('inputs done: 3 of 3 (3 images in 00:0')
    assert lines[-1] == 'ignored in a: 1 .txt files.'


def test_few_updates_in_a_file(monkeypatch):
    stderr = replace_stderr(monkeypatch, is_terminal=False)
    progress = Progress(1, 1000)
    for _ in range(1000):
        progress.step()
    progress.close()
    assert stderr.text.count('\r') <= 4  # the first and the last state


def test_single_image_is_silent(monkeypatch):
    stderr = replace_stderr(monkeypatch)
    progress = Progress(1, 1)
    progress.step()
    progress.close()
    assert stderr.text == ''


def test_skipped_inputs_are_noted_and_summarized(monkeypatch):
    stderr = replace_stderr(monkeypatch)
    progress = Progress(2, 2, show_progress=False)
    progress.step()
    progress.count_source('a')
    progress.skip('b.png: expected an image')
    progress.fail('c', 'c.png', MemoryError('too large\nand more'))
    progress.fail('c', 'c.png', MemoryError('reported once'))
    progress.close()
    assert progress.skipped == ['b.png: expected an image', 'c.png: MemoryError: too large']
    noted, failed, summary, *skipped = stderr.text.splitlines()
    assert noted == 'skipped: b.png: expected an image'
    assert failed == 'skipped: c.png: MemoryError: too large'
    assert summary.startswith('inputs done: 1 of 2 (1 images in') and 'skipped: 2' in summary
    assert skipped == ['  b.png: expected an image', '  c.png: MemoryError: too large']


def test_errors_of_a_run_without_results():
    progress = Progress(1, None)
    progress.skip('a.png: expected an image')
    with pytest.raises(InputError, match='^a.png: expected an image$'):
        progress.raise_if_nothing()
    progress.skip('b.png: expected an image')
    with pytest.raises(InputError, match='none of the 1 inputs could be read'):
        progress.raise_if_nothing()
    progress.fail('c', 'c.png', KeyError('a bug'))
    with pytest.raises(KeyError, match='a bug'):
        progress.raise_if_nothing()


def test_model_is_at_fault_if_the_first_ten_images_fail():
    progress = Progress(20, 20)
    for number in range(9):
        progress.fail(str(number), 'an image', KeyError('a bug'))
    with pytest.raises(KeyError, match='a bug'):
        progress.fail('9', 'an image', ValueError('another one'))
