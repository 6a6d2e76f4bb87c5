"""The words at the end of the analysis page: how its numbers come about."""
from html import escape

from projects.multitask_refine.evaluation.breakdown import SIZES
from projects.multitask_refine.evaluation.diagnosis import GOOD, MATCH, NEAR

from .report_html import Section


def method_section(threshold: float) -> Section:
    """Definitions.

    Args:
        threshold (float): Of the score, in the gallery.
    """
    body = ''.join(f'<dt>{escape(what)}</dt><dd>{escape(how)}</dd>'
                   for what, how in _definitions(threshold).items())
    return Section('method', 'How it is computed', f'<dl>{body}</dl>')


def _definitions(threshold: float) -> dict:
    small, medium = (high for _, high in (SIZES['small'], SIZES['medium']))
    return {
        'Average precision':
        'The numbers of the test\'s results file, by pycocotools: IoU of '
        'boxes and masks, OKS of joints, thresholds 0.50 to 0.95, at most 100 '
        'people an image (20 for keypoints).',
        'Precision and recall':
        'pycocotools\' precision at the recalls 0, 0.01, ..., 1, which is the '
        'highest at this recall or a higher one.',
        'Matched people':
        f'Detections are matched to people as COCO does, the surest first, '
        f'but from an OKS of {MATCH} on, so that bad poses belong to somebody '
        'too. Crowds and people without labelled joints do not count.',
        'Kinds of errors':
        'After Ronchi and Perona, "Benchmarking and error diagnosis in '
        'multi-instance pose estimation", 2017. The similarity of a joint to '
        'a true one is OKS\'s exp(−d² / (2 s² k²)), with the distance d, the '
        'area s² of the person whose true joint it is, and k twice the '
        'joint\'s sigma. The most similar true joint decides: the own one '
        f'({GOOD} or more is good, {NEAR} to {GOOD} is jitter), the mirrored '
        'one of the same person (inversion), the same or the mirrored one of '
        f'somebody else (swap). Below {NEAR} to all of them it is a miss. '
        'Joints that are not labelled are left out.',
        'Size':
        'As in COCO: people of other sizes, detections of them, and unmatched '
        'detections of another size themselves are ignored. The area is the '
        f'annotation\'s: small to {small}, medium to {medium} square pixels.',
        'Number of people':
        'The images with so many people (crowd regions not counted) are '
        'evaluated by themselves. Images without people are in no group.',
        'Occlusion of the person':
        'Evaluated on all images; people of the other groups are ignored as '
        'COCO ignores crowds, that is, who finds them gains and loses '
        'nothing. A person has occluded joints if at least one has COCO\'s '
        'visibility 1.',
        'Visibility of the joints':
        'All joints of the other visibility are taken as not labelled, in '
        'OKS, too; people with no joint left are ignored.',
        'Score of an image':
        f'Of the people with a score of {threshold} or more: twice the right '
        'ones, divided by all that were found and all that are there; '
        'averaged over the ten thresholds, then over the tasks, times 100. '
        'A task in which nobody is to be found and nobody was, of joints for '
        'instance, is left out. Of images with equal scores those with more '
        'people come first.',
    }
