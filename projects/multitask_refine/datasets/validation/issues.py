"""Issues that the validation finds in annotations and images."""

from collections.abc import Sequence
from typing import NamedTuple

from multitask_refine.utils.errors import ExplainedError


class AnnotationError(ExplainedError, ValueError):
    """Annotations that cannot be used; the message says why and how to repair them."""


class Issue(NamedTuple):
    """An entry of an annotation file, or an image, that breaks a rule.

    Attributes:
        rule: Name of the rule, as listed in docs/dataset-validation.md.
        found: Found value, in words or as in the file.
        expected: Expected value, in words.
        fix: Repair, in words.
        change: Repaired fields by name; None if the entry is removed.
        fatal_in_test: Whether an evaluation would fail or give wrong numbers because of it.
        image_id: Id of the image, None if the entry has none.
        annotation_id: Id of the annotation, None for other entries.
    """

    rule: str
    found: str
    expected: str
    fix: str = 'annotation removed'
    change: dict | None = None
    fatal_in_test: bool = True
    image_id: object = None
    annotation_id: object = None

    def __str__(self) -> str:
        names = [
            f'{kind} {format_value(value, 30)}'
            for kind, value in (('annotation', self.annotation_id), ('image', self.image_id))
            if value is not None
        ]
        entry = ' of '.join(names) or 'the file'
        return f'{entry}: expected {self.expected}, found {self.found} ({self.fix})'


def format_value(value: object, max_length: int = 60) -> str:
    """Format a value for a message."""
    text = repr(value)
    return text if len(text) <= max_length else text[: max_length - 3] + '...'


def group_by_rule(issues: Sequence[Issue]) -> dict[str, list[Issue]]:
    """Group issues by their rule, in order of the first issue of each."""
    groups: dict[str, list[Issue]] = {}
    for issue in issues:
        groups.setdefault(issue.rule, []).append(issue)
    return groups


def format_issues(issues: Sequence[Issue], max_shown: int = 3) -> str:
    """Format a table with a line for each rule: name, count and first issues.

    Args:
        issues: At least one issue.
        max_shown: Number of issues to write out for each rule.
    """
    groups = group_by_rule(issues)
    width = max(map(len, groups))
    lines = []
    for rule, members in groups.items():
        shown = '; '.join(map(str, members[:max_shown]))
        more = '; ...' if len(members) > max_shown else ''
        lines.append(f'{rule:{width}} {len(members):7}  {shown}{more}')
    return '\n'.join(lines)
