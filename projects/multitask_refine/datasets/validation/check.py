"""Check a COCO annotation file and its images, and repair it."""

import os
import unicodedata
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
from PIL import ImageFile
from tqdm import tqdm

from multitask_refine.datasets import AnnotationError, load_meta_file, read_annotations, repair
from multitask_refine.datasets.annotation_file import select_images, write_json
from multitask_refine.utils.errors import ConfigError

from .images import NOTES, check_image, list_missing
from .issues import Issue, group_by_rule


@dataclass
class CheckResult:
    """Result of a check.

    Attributes:
        content: Repaired annotations.
        issues: Issues of the annotations and images.
        notes: Ids of the images that each of NOTES applies to.
    """

    content: dict
    issues: list[Issue]
    notes: dict[str, list[int]] = field(default_factory=dict)


def check(
    content: dict, num_keypoints: int | dict[str, int], images: Path | None, workers: int
) -> CheckResult:
    """Apply the rules for annotations and, with a folder, for images.

    Args:
        content: Content of the annotation file.
        num_keypoints: Number of keypoints of all categories, or by the name of the category.
        images: Folder of the images.
        workers: Number of images to decode in parallel.
    """
    if not images:
        return CheckResult(*repair(content, num_keypoints))

    def measure(file_name: str) -> tuple[int, int] | None:
        issue, _ = check_image(str(images / file_name), 0, 0)
        return (issue.change['width'], issue.change['height']) if issue.change else None

    content, issues = repair(content, num_keypoints, measure)
    entries = match_file_names(content['images'], images, issues)
    annotated = {ann['image_id'] for ann in content.get('annotations', ())}
    notes: dict[str, list[int]] = {}
    kept = []
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(
            lambda entry: check_image(
                str(images / entry['file_name']), entry['width'], entry['height']
            ),
            entries,
        )
        results = tqdm(results, 'images', len(entries), mininterval=1)
        for entry, (issue, own_notes) in zip(entries, results, strict=True):
            for note in own_notes:
                notes.setdefault(note, []).append(entry['id'])
            if issue:
                found = f'{entry["file_name"]}: {issue.found}'
                issue = issue._replace(found=found, image_id=entry['id'])
                # Annotations of an image of another size are in the wrong place.
                if issue.change and entry['id'] not in annotated:
                    issue = issue._replace(fix='width and height corrected')
                    kept.append(entry | issue.change)
                issues.append(issue)
            else:
                kept.append(entry)
    content = select_images(content, {entry['id'] for entry in kept})
    return CheckResult(content | dict(images=kept), issues, notes)


def match_file_names(entries: list[dict], folder: Path, issues: list[Issue]) -> list[dict]:
    """Replace file names that differ from the disk only in case or Unicode normalization.

    Args:
        entries: Image entries.
        folder: Folder of the images.
        issues: Extended by an issue for each replaced name.
    """

    def normalize(name: str) -> str:
        return unicodedata.normalize('NFC', name).casefold()

    missing = list_missing(str(folder / entry['file_name']) for entry in entries)
    used = {entry['file_name'] for entry in entries}
    listings: dict[Path, dict[str, list[str]]] = {}  # names by their normal form, by folder
    matched = []
    for entry in entries:
        name = entry['file_name']
        parent = (folder / name).parent
        if str(folder / name) in missing and parent.is_dir():
            if parent not in listings:
                listings[parent] = {}
                for each in os.listdir(parent):
                    listings[parent].setdefault(normalize(each), []).append(each)
            similar = listings[parent].get(normalize(Path(name).name), [])
            found = str(Path(name).with_name(similar[0])) if similar else name
            if len(similar) == 1 and found not in used:
                issue = Issue(
                    'file_name',
                    repr(name),
                    f'the name of the file on the disk, {found!r}',
                    'written as on the disk',
                    dict(file_name=found),
                    image_id=entry['id'],
                )
                issues.append(issue)
                entry = entry | issue.change
        matched.append(entry)
    return matched


def format_result(result: CheckResult, path: Path, max_shown: int | None) -> str:
    """Format the issues and notes, rule by rule.

    Args:
        result: Result of the check.
        path: Annotation file.
        max_shown: Number of issues to write out for each rule, None for all.
    """
    lines = []
    for rule, members in group_by_rule(result.issues).items():
        lines.append(f'{rule}: {len(members)}')
        lines += [f'    {issue}' for issue in members[:max_shown]]
        if max_shown is not None and len(members) > max_shown:
            lines.append(f'    ... and {len(members) - max_shown} more (--all)')
    for note, ids in result.notes.items():
        shown = ', '.join(map(str, ids[:max_shown]))
        more = ', ...' if max_shown is not None and len(ids) > max_shown else ''
        lines.append(f'note: {len(ids)} images: {note}, which {NOTES[note]}: {shown}{more}')
    count = len(result.issues)
    lines.append(f'{path}: {count or "no"} issue{"" if count == 1 else "s"}')
    return '\n'.join(lines)


def write_repaired(path: Path, content: dict, original: dict) -> None:
    """Write the repaired annotations and print how many entries are left.

    Raises:
        AnnotationError: If no image is left.
    """
    if not content['images']:
        raise AnnotationError(
            f'{path}: not written, because no image would be left. All of the file is invalid: '
            'write it again.'
        )
    write_json(path, content)
    kept = ', '.join(
        f'{len(content[name])} of {len(original[name])} {name}'
        for name in ('images', 'annotations', 'categories')
        if name in content
    )
    print(f'{path}: written, with {kept}')


def load_num_keypoints(files: Sequence[str]) -> int | dict[str, int]:
    """Load the number of keypoints from a meta file, or from one of each category.

    Args:
        files: One FILE.py, or CATEGORY=FILE.py of each category.

    Raises:
        ConfigError: If there are several files, but not all with a category.
    """
    if len(files) == 1 and '=' not in files[0]:
        return load_meta_file(files[0])['num_keypoints']
    counts = {}
    for each in files:
        category, has_name, file = each.partition('=')
        if not has_name:
            raise ConfigError(
                'expected one FILE.py, or CATEGORY=FILE.py for each category, found '
                f'{each}. Name its category.'
            )
        counts[category] = load_meta_file(file)['num_keypoints']
    return counts


def check_file(
    annotations: Path,
    images: Path | None,
    num_keypoints: int | dict[str, int],
    workers: int,
    fix: Path | None = None,
    results_file: Path | None = None,
    max_shown: int | None = 3,
) -> int:
    """Check an annotation file and print its issues.

    Args:
        annotations: The file.
        images: Folder of the images, which are checked, too.
        num_keypoints: Number of keypoints of all categories, or by the name of the category.
        workers: Number of images to decode in parallel.
        fix: File to write the repaired annotations to.
        results_file: File to write the issues to, as JSON.
        max_shown: Number of issues to print for each rule, None for all.

    Returns:
        int: The number of issues.

    Raises:
        AnnotationError: If the file cannot be read, or no image would be left in ``fix``.
        OSError: If a file cannot be written.
    """
    # Pillow must report a damaged image by an error.
    warnings.simplefilter('ignore')
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    cv2.setNumThreads(1)
    issues: list[Issue] = []
    content = read_annotations(str(annotations), issues)
    result = check(content, num_keypoints, images, workers)
    result.issues[:0] = issues
    print(format_result(result, annotations, max_shown))
    if results_file:
        record = dict(file=str(annotations), issues=[], notes=result.notes)
        for issue in result.issues:
            record['issues'].append(issue._asdict())
            del record['issues'][-1]['change']
        write_json(results_file, record)
    if fix:
        write_repaired(fix, result.content, content)
    return len(result.issues)
