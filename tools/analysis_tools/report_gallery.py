"""Pictures of the images that are done worst, best, or most differently."""
import os
from html import escape
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from projects.multitask_refine.apis import InputError
from projects.multitask_refine.apis.frames import ImageFile
from projects.multitask_refine.evaluation import ImageScore

from .report_people import (data_uri, display_size, fit, instances,
                            make_painter, predicted_people, truth_people)
from .report_runs import Analysis

_TITLES = dict(bbox='boxes', segm='masks', keypoints='keypoints')


class Ranking(NamedTuple):
    """Some images and why they are shown.

    Attributes:
        title: Plain text.
        images: Ids, the most telling first.
    """

    title: str
    images: List[int]


def rank_single(scores: Dict[int, ImageScore]) -> List[Ranking]:
    """The worse and the better half of the images with people.

    Of equal ones, those with more people come first.

    Args:
        scores (dict[int, ImageScore]): By image id.
    """
    images = [image for image, score in scores.items() if score.people]
    worst = sorted(images, key=lambda i: (scores[i].mean, -scores[i].people))
    worst = worst[:(len(images) + 1) // 2]
    best = sorted(
        set(images) - set(worst),
        key=lambda i: (-scores[i].mean, -scores[i].people, i))
    return [Ranking('Worst images', worst), Ranking('Best images', best)]


def rank_pair(first: Dict[int, ImageScore],
              second: Dict[int, ImageScore]) -> List[Ranking]:
    """The images with people in which one run is better by most.

    Compared is the mean over the tasks that both runs have.

    Args:
        first (dict[int, ImageScore]): Of run A, by image id.
        second (dict[int, ImageScore]): Of run B.
    """
    gain = {
        image: _gain(score.tasks, second[image].tasks)
        for image, score in first.items() if score.people
    }
    order = sorted(gain, key=lambda i: (-abs(gain[i]), -first[i].people))
    return [
        Ranking('B is better by most', [i for i in order if gain[i] > 0]),
        Ranking('A is better by most', [i for i in order if gain[i] < 0])
    ]


def _gain(first: Dict[str, float], second: Dict[str, float]) -> float:
    common = [task for task in first if task in second]
    return sum(second[t] - first[t] for t in common) / max(len(common), 1)


class Pictures:
    """Finds images and draws people on them with the project's visualizer.

    Args:
        analyses (Sequence[Analysis]): One or two runs on the same images.
        folder (str, optional): The images' folder; None for the one that the
            first run names.
        threshold (float): People with a lower score are not drawn.

    Attributes:
        missing (dict[str, str]): Images that cannot be shown, and why.
    """

    def __init__(self, analyses: Sequence[Analysis], folder: Optional[str],
                 threshold: float) -> None:
        content = analyses[0].run.content
        self.analyses = analyses
        self.data = analyses[0].run.data
        self.threshold = threshold
        self.folder = folder or content['image_folder']
        self.names = {
            image['image_id']: image['file_name'] or str(
                self.data.truth.imgs[image['image_id']]['file_name'])
            for image in content['images']
        }
        self.missing: Dict[str, str] = {}
        if self.folder is not None:
            for name in self.names.values():
                self._note_if_missing(name)
        self._read = ImageFile(dict(type='LoadImageFromFile'))
        self._painter = make_painter(content['joints'])
        self._people = [{image['image_id']: image
                         for image in a.run.content['images']}
                        for a in analyses]

    def _note_if_missing(self, name: str) -> None:
        path = os.path.join(self.folder, name)
        if os.path.relpath(path, self.folder or '.').split(os.sep)[0] == '..':
            self.missing[name] = 'outside of the folder'
        elif not os.path.isfile(path):
            self.missing[name] = 'not there'

    def figures(self, images: Sequence[int], limit: int) -> List[str]:
        """HTML of the first images that can be shown.

        Args:
            images (Sequence[int]): Ids, the most telling first.
            limit (int): At most so many.
        """
        drawn: List[str] = []
        for image in images:
            photo = self._load(image) if len(drawn) < limit else None
            if photo is not None:
                drawn.append(self._figure(image, photo))
        return drawn

    def _load(self, image: int) -> Optional[np.ndarray]:
        """The image in RGB; None, and noted, if it cannot be shown."""
        name = self.names[image]
        if self.folder is None or name in self.missing:
            return None
        try:
            photo = self._read(os.path.join(self.folder, name))
        except InputError:
            self.missing[name] = 'no readable image'
            return None
        return photo[..., ::-1]

    def _figure(self, image: int, photo: np.ndarray) -> str:
        known = self.data.truth.imgs[image]
        size = display_size(known['width'], known['height'])
        scale = np.array([size[0] / known['width'], size[1] / known['height']])
        photo, name = fit(photo, size), self.names[image]
        pictures = []
        for title, people, is_truth in self._panels(image):
            drawn = self._painter.paint(
                photo, instances(people, scale, size, is_truth))
            alt = f'{title} of {name}: {len(people)} people'
            pictures.append((title, alt, drawn))
        return figure(name, self._caption(image), pictures)

    def _panels(self, image: int) -> List[Tuple[str, List[dict], bool]]:
        """Titles, people, and whether they are the true ones."""
        people = truth_people(self.data.truth, image, self.data.categories)
        truth = [('Ground truth', people, True)]
        runs = [
            (f'Run {a.run.name}' if a.run.name else 'Predictions',
             predicted_people(people[image], self.threshold), False)
            for a, people in zip(self.analyses, self._people)
        ]
        return runs + truth if len(runs) > 1 else truth + runs

    def _caption(self, image: int) -> str:
        texts = []
        for analysis in self.analyses:
            score = analysis.scores[image]
            name = f'{analysis.run.name}: ' if analysis.run.name else ''
            parts = ', '.join(f'{_TITLES[task]} {value:.0f}'
                              for task, value in score.tasks.items())
            texts.append(f'{name}score {score.mean:.1f} ({parts})')
        return '; '.join(texts)


def figure(name: str, caption: str,
           pictures: Sequence[Tuple[str, str, np.ndarray]]) -> str:
    """Pictures side by side with a caption.

    Args:
        name (str): Of the image, plain text.
        caption (str): Plain text.
        pictures (Sequence[tuple[str, str, np.ndarray]]): Title and
            description in plain text, and (H, W, 3) RGB.
    """
    panels = ''.join(
        f'<div><img src="{data_uri(picture)}" alt="{escape(alt)}" '
        f'width="{picture.shape[1]}" height="{picture.shape[0]}">'
        f'{escape(title)}</div>' for title, alt, picture in pictures)
    return (f'<figure><div class="panels">{panels}</div><figcaption>'
            f'<b>{escape(name)}</b> {escape(caption)}</figcaption></figure>')
