"""The tables of docs/performance.md about CUDA that need no GPU."""

from collections import Counter
from pathlib import Path

from multitask_refine.analysis.results_files import measured
from multitask_refine.evaluation import markdown_table

NAMES = {
    'regular': 'regular',
    'rb_h': 'RB+H',
    'detectron2-converted': "this project's network for Detectron2's weights",
    'detectron2': "Detectron2's Keypoint R-CNN with a mask head",
    'mmdet': "MMDetection's Mask R-CNN, 80 classes",
}
TASKS = {'step': 'training step', 'predict': 'inference'}
WAITS = {
    'item': 'number read',
    'nonzero': 'indices of a mask',
    'boolean index': 'indices of a mask',
    'masked_select': 'indices of a mask',
    'nms': 'NMS',
}
OTHER = 'other'
# Why a place of this project's network waits, by module and function.
REASONS = {
    ('multitask_refine.models.task_modules.sync_free', '_sample'): (
        'the numbers of positive and negative anchors or RoIs of an image are sizes'
    ),
    ('multitask_refine.models.dense_heads.rpn_heads', '_bbox_post_process'): (
        'the number of proposals that are not too small is a size'
    ),
    ('multitask_refine.models.roi_heads.roi_extractor', 'group_by_level'): (
        'the numbers of RoIs of the levels are sizes; once for each RoI extractor'
    ),
    ('multitask_refine.models.roi_heads.multitask_roi_head', '_find_labeled'): (
        'the numbers of RoIs with a mask and with a keypoint are sizes; one copy for both heads'
    ),
    ('multitask_refine.models.roi_heads.multitask_roi_head', 'predict_bbox'): (
        'the number of detections that are not empty is a size'
    ),
    ('multitask_refine.models.roi_heads.keypoint_heads', 'loss_by_feat'): (
        'the number of labeled keypoints is a size'
    ),
    ('multitask_refine.codecs.roi_softmax', 'get_heatmap_maximum'): (
        'the size of the largest person decides how many fit into memory'
    ),
    ('multitask_refine.codecs.roi_softmax', '_bicubic_matrix'): (
        'the size of the largest person is that of the resized maps'
    ),
    ('multitask_refine.models.detectors.multitask_rcnn', 'parse_losses'): (
        'one copy for the log and for the check that the loss is finite, before the step'
    ),
    ('mmcv.ops.nms', 'forward'): 'the number of boxes that are left is a size',
    ('mmcv.ops.nms', 'batched_nms'): 'mmcv copies the number 1 to the device',
    ('mmdet.models.layers.bbox_nms', 'multiclass_nms'): (
        'the number of boxes above the score threshold is a size'
    ),
    ('mmdet.models.losses.cross_entropy_loss', '_expand_onehot_labels'): (
        "mmdet's loss, on each level of the RPN"
    ),
    ('mmdet.models.losses.smooth_l1_loss', 'forward'): (
        "mmdet's loss asks whether any weight is positive, on each level of the RPN and in the "
        'box head'
    ),
    ('mmdet.models.roi_heads.bbox_heads.bbox_head', 'loss'): (
        "mmdet's loss finds the foreground RoIs anew"
    ),
    ('mmdet.models.task_modules.coders.delta_xywh_bbox_coder', 'bbox2delta'): (
        'mmdet copies means and deviations to the device'
    ),
    ('mmdet.models.task_modules.coders.delta_xywh_bbox_coder', 'delta2bbox'): (
        'mmdet copies means and deviations to the device'
    ),
    ('mmdet.models.roi_heads.mask_heads.fcn_mask_head', '_predict_by_feat_single'): (
        'mmdet copies the scale and the threshold to the device'
    ),
    ('mmdet.models.roi_heads.mask_heads.fcn_mask_head', '_do_paste_mask'): (
        'mmdet asks whether a coordinate is infinite'
    ),
    ('mmengine.optim.optimizer.optimizer_wrapper', 'backward'): (
        "gradient of a boolean index in mmdet's box head"
    ),
}


def sections(folder: Path) -> dict[str, str]:
    """Make the generated parts of the page.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    folder = folder / 'performance'
    return {
        'synchronizations': measured(folder / 'synchronizations.json', _synchronizations),
        'memory-estimate': measured(folder / 'memory-estimate.json', _memory),
        'compilation': measured(folder / 'compilation.json', _compilation),
    }


def _synchronizations(found: dict) -> str:
    rows = []
    for name, tasks in found['networks'].items():
        kinds = {task: Counter() for task in tasks}
        for task, places in tasks.items():
            for place in places:
                kinds[task][WAITS.get(place['kind'], place['kind'])] += place['count']
        rows += [
            [
                NAMES[name],
                f'{TASKS[task]}, {found["images"] if task == "step" else 1} image'
                + ('s' if task == 'step' else ''),
                str(sum(counts.values())),
                ', '.join(f'{count} {kind}' for kind, count in counts.most_common()),
            ]
            for task, counts in kinds.items()
        ]
    summary = markdown_table(['network', 'task', 'waits', 'of these'], rows)
    places = [
        [TASKS[task], f'`{module}.{function}`', str(count), reason]
        for task, listed in found['networks']['rb_h'].items()
        for (module, function, reason), count in _group(listed).items()
    ]
    table = markdown_table(['task', 'place', 'waits', 'reason'], places)
    return f'{summary}\n\n### Where RB+H waits\n\n{table}'


def _group(places: list[dict]) -> Counter:
    """Sum up the lines of each function, which has one reason."""
    counts: Counter = Counter()
    for place in places:
        key = (place['module'], place['function'])
        counts[(*key, REASONS.get(key, OTHER))] += place['count']
    return counts


def _memory(found: dict) -> str:
    size = found['size']
    networks: dict[str, dict] = {}
    for row in found['rows']:
        networks.setdefault(row['network'], {})[row['task'], row['images']] = row
    batches = sorted(
        {images for row in networks.values() for task, images in row if task == 'step'}
    )
    rows = []
    for name, tasks in networks.items():
        last = tasks['step', batches[-1]]
        sizes = [tasks['predict', 1]['peak'], *(tasks['step', each]['peak'] for each in batches)]
        rows.append(
            [
                f'`{name}`',
                *(f'{each / 2**30:.2f}' for each in (last['weights'], last['states'], *sizes)),
            ]
        )
    names = [f'step, {each} image{"s" if each > 1 else ""}' for each in batches]
    table = markdown_table(['config', 'weights', 'optimizer', 'inference, 1 image', *names], rows)
    return (
        f'GiB; images of {size["height"]} x {size["width"]} pixels with {size["people"]} people.'
        f'\n\n{table}'
    )


def _compilation(found: dict) -> str:
    rows = [
        [
            NAMES[row['network']],
            row['part'],
            str(row['graphs']),
            '; '.join(f'{each["reason"]} in `{each["place"]}`' for each in row['breaks']) or '-',
            str(row['waits']),
        ]
        for row in found['parts']
    ]
    return markdown_table(['network', 'part', 'graphs', 'breaks', 'waits'], rows)
