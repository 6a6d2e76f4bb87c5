"""A COCO dataset of drawn people and of what is rare: crowds, holes, missing labels, odd names."""

import cv2
import numpy as np

from multitask_refine.testing.synthetic_people.coco import annotation, category, run_lengths
from multitask_refine.testing.synthetic_people.scene import compose, render
from multitask_runtime.formats import to_mask, to_rle

# Seeds of scenes with several people, several polygons of one, RLEs, and nobody.
SEEDS = {3: 'several polygons.jpg', 5: 'nobody.png', 7: 'sub/<übér> & "x".png', 11: 'a.b.png'}
NAMES = [*SEEDS.values(), 'by hand.png']


def make_dataset():
    """Return a valid COCO content and its images (BGR) by name; annotation ids count from 1."""
    images, annotations, arrays = [], [], {}
    for number, (seed, name) in enumerate(SEEDS.items(), 1):
        array, instances = render(compose(np.random.default_rng(seed), 96, 128))
        arrays[name] = array
        images.append(dict(id=number, file_name=name, width=128, height=96))
        annotations += [annotation(each, id=0, image_id=number) for each in instances]
    images.append(dict(id=9, file_name='by hand.png', width=61, height=203))
    arrays['by hand.png'] = np.full((203, 61, 3), 90, np.uint8)
    annotations += _by_hand()
    for number, each in enumerate(annotations, 1):
        each['id'] = number
    content = dict(
        images=images, annotations=annotations, categories=[category(), dict(id=4, name='dog')]
    )
    return content, arrays


def _by_hand():
    """A crowd, a mask with a hole, boxes alone, no labeled keypoint, a box beyond its mask."""
    shared = dict(image_id=9, category_id=1, iscrowd=0)
    crowd, ring = np.zeros((2, 203, 61), bool)
    crowd[150:200, 3:60] = crowd[0, 0] = True
    ring[10:50, 10:40] = True
    ring[20:30, 20:30] = False
    keypoints = [0.0] * 51
    keypoints[:6] = [12.25, 60.5, 1, 60.5, 202.5, 2]  # the last one at the corner of the image
    rle = dict(size=[203, 61], counts=run_lengths(crowd))
    return [
        dict(shared, iscrowd=1, bbox=[0, 0, 60, 200], area=2851, segmentation=rle),
        dict(shared, bbox=[10, 10, 30, 40], area=1100, segmentation=to_rle(ring)),
        dict(
            shared,
            bbox=[0.5, 1.25, 60.5, 200.75],
            area=12145.375,
            keypoints=keypoints,
            num_keypoints=2,
        ),
        dict(shared, bbox=[1, 2, 30, 40], area=1200, keypoints=[0] * 51, num_keypoints=0),
        dict(shared, category_id=4, bbox=[7.5, 60, 1, 1], area=1),
        dict(
            shared,
            bbox=[4, 60, 31, 40],
            area=1000,
            segmentation=[[5, 60, 30, 60, 30, 80], [5, 85.5, 30, 90.25, 10, 99]],
        ),
    ]


def write_images(folder, arrays):
    """Write the images under their names."""
    for name, array in arrays.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name), array)
    return folder


def summarize(content, fields=('bbox', 'segmentation', 'keypoints', 'iscrowd')):
    """Return by the name of the image what its annotations say, comparable by ==."""
    names = {category['id']: category['name'] for category in content['categories']}
    images = {image['id']: image for image in content['images']}
    summary = {
        image['file_name']: [(image['width'], image['height'])] for image in content['images']
    }
    for each in content['annotations']:
        image = images[each['image_id']]
        said = dict(category=names[each['category_id']])
        for field in fields:
            value = each.get(field)
            if isinstance(value, dict):
                value = to_mask(value, image['height'], image['width']).tobytes()
            elif field == 'segmentation' and value:
                value = [np.round(polygon, 3).tolist() for polygon in value]
            elif isinstance(value, list):
                value = np.round(value, 3).tolist()
            said[field] = value
        summary[image['file_name']].append(said)
    return summary
