"""The frame of the analysis page, tables and legends: HTML without scripts.

All texts that come from files are escaped here, in :mod:`.svg` or in
:func:`.report_gallery.figure`, and nowhere else.
"""
from html import escape
from typing import List, NamedTuple, Optional, Sequence, Tuple

from projects.multitask_refine.evaluation import percent

# The page may load nothing, not even if something slipped through.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light; --ink: #1f2933; --soft: #5b6773;
  --line: #d9dfe5; --tint: #f5f7f9 }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; color: var(--ink); background: #fff;
  max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px }
h1 { font-size: 28px; line-height: 1.25; margin: 0 0 8px; font-weight: 600 }
h2 { font-size: 21px; font-weight: 600; margin: 48px 0 4px; padding-top: 20px;
  border-top: 1px solid var(--line) }
h3 { font-size: 16px; font-weight: 600; margin: 24px 0 4px }
p { max-width: 46em; margin: 6px 0 12px }
p.note, figcaption, .legend, caption { color: var(--soft); font-size: 14px }
nav { font-size: 14px; margin: 12px 0 20px }
nav a { margin-right: 16px; color: #005a8d }
table { border-collapse: collapse; font-size: 14px; margin: 8px 0 16px;
  font-variant-numeric: tabular-nums }
caption { text-align: left; padding-bottom: 4px }
th, td { padding: 4px 12px; border-bottom: 1px solid var(--line);
  text-align: right; font-weight: 400; white-space: nowrap }
th:first-child, td.text { text-align: left }
thead th { color: var(--soft); border-bottom: 1px solid #9aa5b1 }
tr.total th, tr.total td { background: var(--tint); font-weight: 600 }
table.facts th { color: var(--soft); text-align: left }
table.facts th, table.facts td { vertical-align: top; padding: 2px 12px }
table.facts td { white-space: normal; overflow-wrap: anywhere }
.scroll { overflow-x: auto }
svg.chart { width: 100%; height: auto; display: block; font-family: inherit }
svg.wide { width: auto; margin: 8px 0 }
.three { display: grid; gap: 20px;
  grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)) }
.legend { list-style: none; padding: 0; margin: 6px 0; display: flex;
  flex-wrap: wrap; gap: 4px 20px }
.legend i { display: inline-block; width: 14px; height: 14px;
  margin-right: 6px; vertical-align: -2px; border-radius: 2px }
svg.sample { margin-right: 6px; vertical-align: 1px }
details { margin: 8px 0 } summary { cursor: pointer; font-size: 14px }
.gallery { display: grid; gap: 20px 24px; margin: 12px 0;
  grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)) }
.gallery.pair { grid-template-columns: 1fr }
figure { margin: 0 }
.panels { display: flex; gap: 6px }
.panels div { flex: 1 1 0; min-width: 0; font-size: 12px;
  color: var(--soft) }
.panels img { width: 100%; height: auto; display: block;
  background: var(--tint) }
figcaption { overflow-wrap: anywhere; margin-top: 2px }
figcaption b { color: var(--ink); font-weight: 600 }
dt { font-weight: 600; margin-top: 10px } dd { margin: 0; max-width: 46em }
code { font-size: 13px; overflow-wrap: anywhere }
@media (max-width: 520px) { .gallery { grid-template-columns: 1fr } }
"""


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        name: Its anchor, a word.
        title: Plain text.
        body: HTML.
    """

    name: str
    title: str
    body: str


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document.

    Args:
        title (str): Plain text.
        lead (str): HTML under the title.
        sections (Sequence[Section]): In their order.
    """
    links = ''.join(f'<a href="#{s.name}">{escape(s.title)}</a>'
                    for s in sections)
    bodies = ''.join(
        f'<section id="{s.name}"><h2>{escape(s.title)}</h2>{s.body}</section>'
        for s in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>{lead}<nav>{links}</nav></header>
<main>{bodies}</main>
</body>
</html>
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]],
          caption: str = '', totals: Sequence[int] = ()) -> str:
    """Numbers aligned to the right, the first column to the left.

    Args:
        head (Sequence[str]): The headings.
        rows (Sequence[Sequence[str]]): As many cells each, plain text.
        caption (str): Plain text.
        totals (Sequence[int]): Rows that stand out.
    """
    heading = ''.join(f'<th scope="col">{escape(c)}</th>' for c in head)
    lines = ''.join(
        _row(row, 'total' if index in totals else '')
        for index, row in enumerate(rows))
    return (f'<div class="scroll"><table>{_caption(caption)}'
            f'<thead><tr>{heading}</tr></thead><tbody>{lines}</tbody>'
            '</table></div>')


def facts(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts: what, and how it is in each run."""
    heading = ''.join(f'<th scope="col">{escape(c)}</th>' for c in head)
    lines = ''.join(
        f'<tr><th scope="row">{escape(row[0])}</th>' +
        ''.join(f'<td class="text">{escape(c)}</td>' for c in row[1:]) +
        '</tr>' for row in rows)
    start = f'<thead><tr>{heading}</tr></thead>' if any(head) else ''
    return f'<table class="facts">{start}<tbody>{lines}</tbody></table>'


def differences(first: Sequence[Optional[float]],
                second: Sequence[Optional[float]],
                digits: int = 2) -> List[str]:
    """Cells of the second less the first; a dash where either is missing."""
    return [
        percent(None if a is None or b is None else b - a, True, digits)
        for a, b in zip(first, second)
    ]


def paragraph(text: str, kind: str = '') -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>'


def legend(samples: Sequence[Tuple[str, str]]) -> str:
    """What the marks of a chart mean.

    Args:
        samples (Sequence[tuple[str, str]]): A CSS colour or SVG, and text.
    """
    items = ''.join(
        f'<li>{mark if mark.startswith("<") else _patch(mark)}'
        f'{escape(text)}</li>' for mark, text in samples)
    return f'<ul class="legend">{items}</ul>'


def folded(summary: str, body: str) -> str:
    """HTML that opens on a click, without a script."""
    return (f'<details><summary>{escape(summary)}</summary>{body}</details>')


def _patch(color: str) -> str:
    return f'<i style="background: {color}"></i>'


def _row(cells: Sequence[str], kind: str) -> str:
    return (f'<tr class="{kind}"><th scope="row">{escape(cells[0])}</th>' +
            ''.join(f'<td>{escape(cell)}</td>' for cell in cells[1:]) +
            '</tr>')


def _caption(text: str) -> str:
    return f'<caption>{escape(text)}</caption>' if text else ''
