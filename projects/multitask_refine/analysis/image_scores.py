"""F-measure of single images."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from multitask_refine.evaluation.coco_scores import ALL_SIZES, CocoData


class ImageScore(NamedTuple):
    """Score of an image.

    Attributes:
        tasks: F-measure in percent by task; a task in which nobody is to be
            found and nobody was is left out.
        people: How many are to be found.
        found: How many were, rightly or not.
    """

    tasks: dict[str, float]
    people: int
    found: int

    @property
    def mean(self) -> float:
        """float: Over the tasks; 100 if there is none."""
        values = self.tasks.values()
        return sum(values) / len(values) if values else 100.0


def image_scores(data: CocoData, threshold: float) -> dict[int, ImageScore]:
    """Score each image.

    The F-measure of a task is 2 TP / (people found + people to be found), as
    the average over COCO's ten thresholds. COCO's rules say who matches and
    who is ignored, crowds for instance.

    Args:
        data (CocoData): What to evaluate.
        threshold (float): Only people with such a score or a higher one
            count, by the first of box, mask and keypoint score that there is.

    Returns:
        dict[int, ImageScore]: By image id.
    """
    first = next(iter(data.entries.values()))
    sure = [entry['score'] >= threshold for entry in first]
    data = data._replace(
        entries={
            task: [e for e, keep in zip(entries, sure, strict=True) if keep]
            for task, entries in data.entries.items()
        }
    )
    values = {image: {} for image in data.images}
    people = Counter()
    for task in data.entries:
        right, counted, annotated = {}, {}, Counter()  # by image, over its categories
        for result in filter(None, data.run(task, **ALL_SIZES).evalImgs):
            image = result['image_id']
            counts = np.logical_not(result['dtIgnore'])  # (thresholds, detections)
            matched = (np.asarray(result['dtMatches']) > 0) & counts
            here = int(np.equal(result['gtIgnore'], 0).sum())
            annotated[image] += here
            right[image] = right.get(image, 0) + 2 * matched.sum(1)  # (thresholds)
            counted[image] = counted.get(image, 0) + counts.sum(1) + here
        for image in right:
            if counted[image].any():
                shares = right[image] / np.maximum(counted[image], 1)
                values[image][task] = 100 * float(np.mean(shares))
                people[image] = max(people[image], annotated[image])
    found = Counter(e['image_id'] for e in next(iter(data.entries.values())))
    return {
        image: ImageScore(tasks, people[image], found[image]) for image, tasks in values.items()
    }
