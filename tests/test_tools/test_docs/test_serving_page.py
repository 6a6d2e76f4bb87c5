"""The table of the page on the server, from numbers by hand."""

from tools.docs.serving_page import load_table, sections


def test_groups_statuses_and_times(tmp_path):
    assert sections(tmp_path) == {'load': 'Not measured.'}
    group = dict(
        requests='all at once',
        at_once=5,
        statuses={'200': 3, '429': 1, '503': 2},
        median_s={'200': 0.5, '429': 0.1, '503': 0.2},
        longest_s={'200': 1.25, '429': 0.125, '503': 0.25},
        peak_mib=123.4,
        passed=True,
    )
    refused = dict(
        group, requests='bombs', statuses={'413': 2}, median_s={'413': 0.1},
        longest_s={'413': 0.2}, passed=False,
    )  # fmt: skip
    found = dict(groups=[group, refused], image='4 x 3', load_average=[0.5, 1.5])
    table, note = load_table(found).split('\n\n')
    cells = [
        [cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()[2:]
    ]
    assert cells == [
        ['all at once', '6', '5', '3 x 200, 1 x 429, 2 x 503', '0.50', '1.25', '0.25', '123'],
        ['bombs (NOT passed)', '2', '5', '2 x 413', '-', '-', '0.20', '123'],
    ]
    assert note.startswith('An image of 4 x 3 pixels; load average') and '0.5, at the' in note
