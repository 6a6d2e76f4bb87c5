"""Gallery of the images with the worst and best, or most different, scores."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from multitask_refine.analysis import ImageScore
from multitask_refine.apis import InputError
from multitask_refine.apis.image_loader import ImageFile

from .instances import (
    data_uri,
    display_size,
    fit,
    instances,
    make_painter,
    predicted_people,
    truth_people,
)
from .runs import Analysis

_TITLES = dict(bbox='boxes', segm='masks', keypoints='keypoints')


class Ranking(NamedTuple):
    """Images in the order in which they are shown.

    Attributes:
        title: Plain text.
        images: Ids, the most telling first.
    """

    title: str
    images: list[int]


def rank_single(scores: dict[int, ImageScore]) -> list[Ranking]:
    """Split the images with people into the worse and the better half.

    Of equal ones, those with more people come first.

    Args:
        scores (dict[int, ImageScore]): By image id.
    """
    images = [image for image, score in scores.items() if score.people]
    worst = sorted(images, key=lambda i: (scores[i].mean, -scores[i].people))
    worst = worst[: (len(images) + 1) // 2]
    best = sorted(set(images) - set(worst), key=lambda i: (-scores[i].mean, -scores[i].people, i))
    return [Ranking('Worst images', worst), Ranking('Best images', best)]


def rank_pair(first: dict[int, ImageScore], second: dict[int, ImageScore]) -> list[Ranking]:
    """Rank the images with people by how much one run is better.

    Compared is the mean over the tasks that both runs have.

    Args:
        first (dict[int, ImageScore]): Of run A, by image id.
        second (dict[int, ImageScore]): Of run B.
    """
    gain = {}
    for image, score in first.items():
        if score.people:
            other = second[image].tasks
            gains = [other[t] - score.tasks[t] for t in score.tasks if t in other]
            gain[image] = sum(gains) / max(len(gains), 1)
    order = sorted(gain, key=lambda i: (-abs(gain[i]), -first[i].people))
    return [
        Ranking('B is better by most', [i for i in order if gain[i] > 0]),
        Ranking('A is better by most', [i for i in order if gain[i] < 0]),
    ]


class Gallery:
    """Draw ground truth and predictions on images with the project's visualizer.

    Args:
        analyses (Sequence[Analysis]): One or two runs on the same images.
        folder (str, optional): The images' folder; None for the one that the
            first run names.
        threshold (float): People with a lower score are not drawn.

    Attributes:
        missing (dict[str, str]): Images that cannot be shown, and why.
    """

    def __init__(self, analyses: Sequence[Analysis], folder: str | None, threshold: float) -> None:
        content = analyses[0].run.content
        self.analyses = analyses
        self.data = analyses[0].run.data
        self.threshold = threshold
        self.folder = folder or content['image_folder']
        self.names = {
            image['image_id']: image['file_name']
            or str(self.data.truth.imgs[image['image_id']]['file_name'])
            for image in content['images']
        }
        self.missing: dict[str, str] = {}
        for name in self.names.values() if self.folder is not None else ():
            path = os.path.join(self.folder, name)
            inside = os.path.relpath(path, self.folder or '.')
            if inside.split(os.sep)[0] == '..':
                self.missing[name] = 'outside of the folder'
            elif not os.path.isfile(path):
                self.missing[name] = 'not there'
        self._read = ImageFile(dict(type='LoadImageFromFile'))
        self._painter = make_painter(content['keypoints'])
        self._people = [
            {image['image_id']: image for image in a.run.content['images']} for a in analyses
        ]

    def figures(self, images: Sequence[int], limit: int) -> list[dict]:
        """Draw the first images that can be shown.

        Args:
            images (Sequence[int]): Ids, the most telling first.
            limit (int): At most so many.

        Returns:
            list[dict]: ``name``, ``caption`` and ``panels``; each of these
            has ``title``, ``alt``, ``uri``, ``width`` and ``height``.
        """
        drawn: list[dict] = []
        for image in images:
            name = self.names[image]
            if len(drawn) >= limit or self.folder is None or name in self.missing:
                continue
            try:
                pixels = self._read(os.path.join(self.folder, name))
            except InputError:
                self.missing[name] = 'no readable image'
                continue
            captions = []
            for analysis in self.analyses:
                score = analysis.scores[image]
                run = f'{analysis.run.name}: ' if analysis.run.name else ''
                tasks = ', '.join(
                    f'{_TITLES[task]} {value:.0f}' for task, value in score.tasks.items()
                )
                captions.append(f'{run}score {score.mean:.1f} ({tasks})')
            panels = self._panels(image, pixels[..., ::-1])  # BGR to RGB
            drawn.append(dict(name=name, caption='; '.join(captions), panels=panels))
        return drawn

    def _panels(self, image: int, pixels: np.ndarray) -> list[dict]:
        """Draw the ground truth and each run on an RGB image."""
        known = self.data.truth.imgs[image]
        size = display_size(known['width'], known['height'])
        scale = np.array([size[0] / known['width'], size[1] / known['height']])
        truth = truth_people(self.data.truth, image, self.data.categories)
        contents = [
            (
                f'Run {a.run.name}' if a.run.name else 'Predictions',
                predicted_people(people[image], self.threshold),
                False,
            )
            for a, people in zip(self.analyses, self._people, strict=True)
        ]
        # One run stands right of the ground truth, two stand left of it.
        contents.insert(2 * (len(contents) > 1), ('Ground truth', truth, True))
        panels, pixels = [], fit(pixels, size)
        for title, people, is_truth in contents:
            drawn = self._painter.paint(pixels, instances(people, scale, size, is_truth))
            panels.append(
                dict(
                    title=title,
                    uri=data_uri(drawn),
                    width=size[0],
                    height=size[1],
                    alt=f'{title} of {self.names[image]}: {len(people)} people',
                )
            )
        return panels


def gallery_section(
    analyses: Sequence[Analysis], img_dir: str | None, threshold: float, limit: int
) -> dict:
    """Draw the gallery and list the images that could not be shown.

    Args:
        analyses (Sequence[Analysis]): One or two runs.
        img_dir (str, optional): The images' folder, if not as in the test.
        threshold (float): People with a lower score are not drawn.
        limit (int): Images in each ranking.
    """
    gallery = Gallery(analyses, img_dir, threshold)
    scores = [a.scores for a in analyses]
    rankings = rank_pair(*scores) if len(scores) > 1 else rank_single(*scores)
    empty = []  # images without people, and the detections in them
    for analysis in analyses:
        images = [s for s in analysis.scores.values() if not s.people]
        empty.append((analysis, len(images), [s.found for s in images if s.tasks]))
    return dict(
        folder=gallery.folder,
        images=len(gallery.names),
        rankings=[(r, gallery.figures(r.images, limit)) for r in rankings],
        missing=list(gallery.missing.items()),  # known after the drawing
        empty=empty,
    )
