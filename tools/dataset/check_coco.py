#!/usr/bin/env python
"""Checks a COCO annotation file, and mends it.

    python tools/dataset/check_coco.py ANNOTATIONS.json --images FOLDER

says what is wrong, rule by rule. With --fix OUT.json a new file is written in
which problems are mended or taken out. The exit status is 0 if the file is in
order, 1 if it has problems, 2 if the command cannot be carried out.
"""

import argparse
import os
import sys
import time
import unicodedata
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
from PIL import ImageFile

from multitask_refine.datasets import load_meta_file
from multitask_refine.datasets.validation.annotations import (
    count_keypoints,
    mend,
    read_annotations,
    remove_images,
    write_json,
)
from multitask_refine.datasets.validation.images import (
    NOTES,
    ImageFault,
    inspect_image,
    list_missing,
)
from multitask_refine.datasets.validation.issues import AnnotationError, Problem
from multitask_refine.datasets.validation.summary import group
from multitask_refine.utils.errors import ConfigError


@dataclass
class Outcome:
    """What a check found.

    Attributes:
        content: The annotations, mended.
        problems: What fails the check.
        notes: For each of NOTES the ids of the images it is true of.
    """

    content: dict
    problems: list[Problem]
    notes: dict[str, list[int]] = field(default_factory=dict)


def check(
    content: dict, num_joints: int | dict[str, int], images: Path | None, workers: int
) -> Outcome:
    """Applies the rules for annotations, and for images if there is a folder.

    Args:
        content: Of the annotation file.
        num_joints: Joints of every category, or of categories by their
            names; others say it themselves.
        images: Folder of the images.
        workers: Images looked at at a time.
    """
    joints = count_keypoints(content, num_joints)
    measure = None
    if images:

        def measure(file_name: str) -> tuple[int, int] | None:
            fault, _ = inspect_image(str(images / file_name), 0, 0)
            return fault.size

    outcome = Outcome(*mend(content, joints, measure))
    if images:
        _check_images(outcome, images, workers)
    return outcome


def _check_images(outcome: Outcome, folder: Path, workers: int) -> None:
    """Adds what is wrong with the files, and mends the entries."""
    used = {ann['image_id'] for ann in outcome.content.get('annotations', ())}
    entries = _correct_spelling(outcome.content['images'], folder, outcome.problems)
    removed, sizes = set(), {}

    def look(entry: dict) -> tuple[ImageFault | None, list[str]]:
        return inspect_image(str(folder / entry['file_name']), entry['width'], entry['height'])

    with ThreadPoolExecutor(workers) as pool:
        results = _progress(pool.map(look, entries), len(entries))
        for entry, (fault, notes) in zip(entries, results):
            for note in notes:
                outcome.notes.setdefault(note, []).append(entry['id'])
            if fault is None:
                continue
            fix = 'image and its annotations removed'
            if fault.size and entry['id'] not in used:
                fix = 'width and height corrected'
                sizes[entry['id']] = dict(zip(('width', 'height'), fault.size))
            else:
                removed.add(entry['id'])
            outcome.problems.append(
                Problem(
                    fault.rule,
                    entry['id'],
                    None,
                    f'{entry["file_name"]}: {fault.found}',
                    fault.expected,
                    fix,
                )
            )
    content = remove_images(outcome.content, removed)
    outcome.content = content | dict(
        images=[
            entry | sizes.get(entry['id'], {}) for entry in entries if entry['id'] not in removed
        ]
    )


def _correct_spelling(entries: list[dict], folder: Path, problems: list[Problem]) -> list[dict]:
    """Write file names as the disk does where only upper and lower case, or
    the Unicode form of accents, differ."""
    missing = list_missing(str(folder / each['file_name']) for each in entries)
    taken = {each['file_name'] for each in entries}
    listed: dict[Path, dict[str, list[str]]] = {}
    corrected = []
    for entry in entries:
        name = entry['file_name']
        parent = (folder / name).parent
        if str(folder / name) in missing and parent.is_dir():
            if parent not in listed:
                listed[parent] = {}
                for each in os.listdir(parent):
                    listed[parent].setdefault(_fold(each), []).append(each)
            alike = listed[parent].get(_fold(Path(name).name), [])
            found = str(Path(name).with_name(alike[0])) if alike else name
            if len(alike) == 1 and found not in taken:
                problems.append(
                    Problem(
                        'file_name',
                        entry['id'],
                        None,
                        repr(name),
                        f'the name of the file on the disk, {found!r}',
                        'written as on the disk',
                    )
                )
                entry = entry | dict(file_name=found)
        corrected.append(entry)
    return corrected


def _fold(name: str) -> str:
    return unicodedata.normalize('NFC', name).casefold()


def _progress(results: Iterator, count: int, step: float = 5.0) -> Iterator:
    """Passes results on and says every `step` seconds how far it is."""
    start = said = time.monotonic()
    for done, result in enumerate(results, 1):
        yield result
        now = time.monotonic()
        if now - said >= step and done < count:
            left = (now - start) / done * (count - done)
            print(f'{done}/{count} images, {left:.0f} s left', flush=True)
            said = now


def describe(outcome: Outcome, path: Path, most: int | None) -> str:
    """The findings, rule by rule.

    Args:
        outcome: Of the check.
        path: The annotation file.
        most: How many cases of a rule are shown; None for all.
    """
    lines = []
    for rule, members in group(outcome.problems).items():
        lines.append(f'{rule}: {len(members)}')
        lines += [f'    {problem}' for problem in members[:most]]
        if most is not None and len(members) > most:
            lines.append(f'    ... and {len(members) - most} more (--all)')
    for note, ids in outcome.notes.items():
        shown = ', '.join(map(str, ids[:most]))
        more = ', ...' if most is not None and len(ids) > most else ''
        lines.append(f'note: {len(ids)} images: {note}, which {NOTES[note]}: {shown}{more}')
    count = len(outcome.problems)
    lines.append(f'{path}: {count or "no"} problem{"" if count == 1 else "s"}')
    return '\n'.join(lines)


def write_fixed(path: Path, content: dict, before: dict) -> None:
    """Writes the mended annotations and says what is left.

    Raises:
        AnnotationError: If no image is left.
    """
    if not content['images']:
        raise AnnotationError(
            f'{path}: not written, because no image would be left. The '
            'problems are of the file as a whole: write it anew.'
        )
    write_json(path, content)
    kept = ', '.join(
        f'{len(content[name])} of {len(before[name])} {name}'
        for name in ('images', 'annotations', 'categories')
        if name in content
    )
    print(f'{path}: written, with {kept}')


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'annotations', type=Path, metavar='ANNOTATIONS', help='COCO annotation file'
    )
    parser.add_argument(
        '--images', type=Path, metavar='FOLDER', help='also look at every image in this folder'
    )
    parser.add_argument(
        '--fix',
        type=Path,
        metavar='OUT.json',
        help='write the mended annotations to this new file',
    )
    parser.add_argument(
        '--meta',
        metavar='FILE.py',
        action='append',
        default=[],
        help='meta file that says how many joints there are, '
        "a path or one of mmpose's, such as coco.py, or one "
        'of each category, as --meta person=coco.py --meta '
        'dog=dog.py (default: what the categories say)',
    )
    parser.add_argument(
        '--json', type=Path, metavar='FILE', help='also write the findings as JSON'
    )
    parser.add_argument(
        '--all', action='store_true', help='show every case, not the first three of a rule'
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=os.cpu_count() or 1,
        help='images looked at at a time (default: %(default)s)',
    )
    args = parser.parse_args(argv)
    _check_args(args, parser)
    return args


def _check_args(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Ends with status 2 if something named is not as it must be."""
    if not args.annotations.is_file():
        parser.error(f'{args.annotations}: there is no such annotation file')
    if args.images and not args.images.is_dir():
        parser.error(f'--images: expected a folder, found none at {args.images}')
    if args.fix and (args.fix.exists() or args.fix.is_symlink()):
        parser.error(f'--fix: {args.fix} exists already; name a new file')
    for name in ('fix', 'json'):
        path = getattr(args, name)
        if path and not path.parent.is_dir():
            parser.error(f'--{name}: there is no folder {path.parent}')
    if args.json and args.json.resolve() in (
        args.annotations.resolve(),
        args.fix and args.fix.resolve(),
    ):
        parser.error(f'--json: {args.json} is one of the annotation files; name another file')
    if args.workers < 1:
        parser.error(f'--workers: expected at least 1, got {args.workers}')


def count_joints(files: list[str]) -> int | dict[str, int]:
    """The number of joints that a meta file has, or by the name of each
    category what its own meta file has.

    Raises:
        ConfigError: If there are several files, not all for a category.
    """
    if len(files) == 1 and '=' not in files[0]:
        return load_meta_file(files[0])['num_keypoints']
    counts = {}
    for each in files:
        category, has_name, file = each.partition('=')
        if not has_name:
            raise ConfigError(
                'expected one FILE.py, or CATEGORY=FILE.py for each category, '
                f'found {each}. Name its category.'
            )
        counts[category] = load_meta_file(file)['num_keypoints']
    return counts


def main(argv: list[str] | None = None) -> int:
    """Checks. Returns 0, 1 if there are problems, 2 if it cannot check."""
    args = parse_args(argv)
    # Pillow is to say what is wrong with a picture by an error.
    warnings.simplefilter('ignore')
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    cv2.setNumThreads(1)
    try:
        num_joints = count_joints(args.meta)
    except (FileNotFoundError, ConfigError) as error:
        print(f'check_coco: --meta: {error}', file=sys.stderr)
        return 2
    try:
        numbers: list[Problem] = []
        content = read_annotations(str(args.annotations), numbers)
        outcome = check(content, num_joints, args.images, args.workers)
        outcome.problems[:0] = numbers
        print(describe(outcome, args.annotations, None if args.all else 3))
        if args.json:
            write_json(
                args.json,
                dict(
                    file=str(args.annotations),
                    problems=[each._asdict() for each in outcome.problems],
                    notes=outcome.notes,
                ),
            )
        if args.fix:
            write_fixed(args.fix, outcome.content, content)
    except AnnotationError as error:
        print(f'check_coco: {error}', file=sys.stderr)
        return 1
    except OSError as error:
        print(f'check_coco: {error}', file=sys.stderr)
        return 2
    return 1 if outcome.problems else 0


if __name__ == '__main__':
    sys.exit(main())
