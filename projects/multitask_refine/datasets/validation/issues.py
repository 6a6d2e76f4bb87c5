"""How the rules say what is wrong with annotations and images."""

from typing import NamedTuple, Optional

from multitask_refine.utils.errors import ExplainedError


class AnnotationError(ExplainedError, ValueError):
    """Annotations that cannot be used as they are; the message says why."""


class Finding(NamedTuple):
    """One thing that is wrong with an entry.

    Attributes:
        rule: Name of the rule.
        found: In words or as in the file.
        expected: In words.
        fix: How it is mended, in words.
        change: Fields and their new values; None if the entry is removed.
        stops_test: Whether an evaluation with it would fail or count
            something that is not so.
    """

    rule: str
    found: str
    expected: str
    fix: str = 'annotation removed'
    change: Optional[dict] = None
    stops_test: bool = True


class Problem(NamedTuple):
    """A finding and the entry that it is about.

    Attributes:
        rule: Name of the rule.
        image_id: Id of the image, None if the entry has none.
        annotation_id: Id of the annotation, None for other entries.
        found: What was found, in words or as in the file.
        expected: What was expected.
        fix: How it is mended.
        stops_test: Whether an evaluation with it would fail or count
            something that is not so.
    """

    rule: str
    image_id: object
    annotation_id: object
    found: str
    expected: str
    fix: str
    stops_test: bool = True

    def __str__(self) -> str:
        names = [
            f'{kind} {shorten(value, 30)}'
            for kind, value in (('annotation', self.annotation_id), ('image', self.image_id))
            if value is not None
        ]
        where = ' of '.join(names) or 'the file'
        return f'{where}: expected {self.expected}, found {self.found} ({self.fix})'


def shorten(value: object, length: int = 60) -> str:
    """A value in a message."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + '...'
