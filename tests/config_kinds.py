"""Shipped configs by what they are made of."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from mmengine.config import ConfigDict

from tests.conftest import CONFIGS, ROOT

LEAVES = sorted(file for file in CONFIGS.rglob('*.py') if '_base_' not in file.parts)
# Reading all configs takes ten seconds; the test of the pins compares these with them.
SETTINGS = {
    name: ConfigDict(settings)
    for name, settings in json.loads(
        gzip.decompress((ROOT / 'tests/pins/settings.json.gz').read_bytes())
    ).items()
}


def module_types(settings: object) -> Iterator[str]:
    """Registered names of all modules."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            if key == 'type':
                yield value
            elif key not in ('train_cfg', 'init_cfg'):
                yield from module_types(value)
    elif isinstance(settings, list):
        for each in settings:
            yield from module_types(each)


def parts_of_network(cfg: ConfigDict) -> frozenset:
    """Names of the modules of a network, and which heads it has."""
    roi_head = cfg.model.roi_head
    heads = {(name, bool(roi_head.get(name))) for name in ('mask_head', 'keypoint_head')}
    return frozenset({*module_types(cfg.model), *heads})


def parts_of_run(cfg: ConfigDict) -> frozenset:
    """The same with data, metrics and hooks."""
    data = [cfg.train_dataloader, cfg.test_dataloader, cfg.test_evaluator, cfg.get('custom_hooks')]
    format_only = 'format_only' in cfg.test_evaluator
    return parts_of_network(cfg) | {*module_types(data), ('format_only', format_only)}


def one_of_each_kind(parts_of: Callable[[ConfigDict], frozenset]) -> dict[Path, frozenset]:
    """The first config with each combination of parts."""
    kinds: dict[frozenset, Path] = {}
    for leaf in LEAVES:
        if leaf.stem in SETTINGS:  # a new config is not pinned yet
            kinds.setdefault(parts_of(SETTINGS[leaf.stem]), leaf)
    return {leaf: parts for parts, leaf in kinds.items()}


def few_with_all_parts(parts_of_leaf: dict[Path, frozenset]) -> list[Path]:
    """Configs that have all parts among them: each time the one with the most new parts."""
    chosen, missing = [], frozenset().union(*parts_of_leaf.values())
    while missing:
        leaf = max(parts_of_leaf, key=lambda leaf: len(parts_of_leaf[leaf] & missing))
        missing -= parts_of_leaf[leaf]
        chosen.append(leaf)
    return chosen


KINDS_OF_NETWORK = one_of_each_kind(parts_of_network)
NETWORKS_WITH_ALL_PARTS = few_with_all_parts(KINDS_OF_NETWORK)
RUNS_WITH_ALL_PARTS = few_with_all_parts(one_of_each_kind(parts_of_run))
