"""Measures of the code's grain on sources whose functions and lines can be counted."""

import pytest

from tools.docs import code_measures

SOURCE = '''"""Two public functions, one private one with a single caller."""


def outer(x):
    """Documented; four lines below this one."""
    # A comment.
    def inner(y):  # another one
        return y

    return inner(_helper(x))


def _helper(x):
    return x


def undocumented(x):
    text = '# no comment'
    return text
CONSTANT = 3
'''


def test_functions_and_comments_are_counted():
    """Four functions in 20 lines; bodies of 1, 1, 2 and 4 lines, of which the comment before the
    first statement is not one; the helper is one of four functions; two of the 20 lines have
    comments; of the module, outer and undocumented, two have docstrings."""
    found = code_measures.measure([SOURCE])
    assert found == pytest.approx(
        {
            'lines': 20,
            'functions per 1000 lines': 200,
            'median body': 1.5,
            'p90 body': 2,
            'private, one caller %': 25,
            'comment %': 10,
            'public docstrings %': 200 / 3,
        }
    )


def test_a_helper_with_two_callers_is_none_with_one():
    other = 'from a import _helper\n\nprint(_helper(1))\n'
    assert code_measures.measure([SOURCE, other])['private, one caller %'] == 0


def test_areas_are_measured_apart_and_together(tmp_path, capsys):
    for area in code_measures.AREAS:
        (tmp_path / area).mkdir(parents=True)
        (tmp_path / area / 'a.py').write_text(SOURCE)
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'docs/a.md').write_text('1\n2\n3\n')
    code_measures.main([str(tmp_path)])
    rows = [line.strip('| ').split(' | ') for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[2:]] == [
        *([area, '20'] for area in code_measures.AREAS),
        ['all of these', str(20 * len(code_measures.AREAS))],
        ['tests', '0'],
        ['configs', '0'],
        ['docs', '3'],
    ]
