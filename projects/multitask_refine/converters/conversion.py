"""Convert the weights of another framework to a model of this project.

A converter says what it knows of its source as a ``Layout``. The rest is
here: every weight of the file is accounted for, and so is every weight of
the network that the config builds; what does not fit is refused, and then
nothing is written.
"""

import argparse
import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch import nn

from multitask_refine.engine import explained_errors, read_config

from .layout import Layout, Rule, arrange
from .report import COUNTER, HEADS, PARTS, Conversion, Match, refusal, report
from .weights_file import Checkpoint, ConversionError, read_checkpoint, save

_OFFSETS = r'.*\.(conv_offset|offset_pred)\.'


def run(doc: str, describe: Callable[[Checkpoint], Layout], argv: list[str] | None) -> int:
    """Run the command line of a converter.

    Args:
        doc (str): Description of the converter.
        describe (Callable): From the source's file to its layout.
        argv (list[str], optional): CONFIG SOURCE OUT.

    Raises:
        SystemExit: If the weights cannot be converted; says why.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument('config', help='config whose network gets the weights')
    parser.add_argument('source', help='file to convert: .pkl, .pth or .pt')
    parser.add_argument('out', help='checkpoint to write')
    args = parser.parse_args(argv)
    with explained_errors():
        convert(describe, args.config, args.source, args.out)
    return 0


def convert(describe: Callable[[Checkpoint], Layout], config: str, source: str, out: str) -> None:
    """Convert a checkpoint, print a report and write the result.

    Args:
        describe (Callable): From the source's file to its layout.
        config (str): Config whose network gets the weights.
        source (str): File to convert.
        out (str): Checkpoint to write, with all weights of the network; its
            ``meta['untrained']`` names those that keep the network's start.

    Raises:
        ConversionError: If the weights cannot be converted; says why.
    """
    if os.path.lexists(out):
        raise ConversionError(
            f'{out}: expected the name of a new file, found one that exists. Name another one.'
        )
    checkpoint = read_checkpoint(source)
    conversion = plan(checkpoint, describe(checkpoint), config)
    print('\n'.join(report(conversion)))
    save(out, fill(conversion))
    print(f'Written: {out}')


def plan(checkpoint: Checkpoint, layout: Layout, config: str) -> Conversion:
    """Match the weights of a checkpoint to the model of a config.

    Args:
        checkpoint (Checkpoint): The file.
        layout (Layout): What is known of it.
        config (str): Config whose network gets the weights.

    Returns:
        Conversion: With the network's own start in ``target``.

    Raises:
        ConversionError: If a weight of the file or of the network has no counterpart; names them.
    """
    cfg, network = build_network(config)
    target = network.state_dict()
    match = match_names(checkpoint, layout, target)
    values = arrange(checkpoint, layout, match.found, network)
    starts = {name: why_new(name, values) for name in target if name not in values}
    conversion = Conversion(checkpoint, layout, cfg, target, match, values, starts)
    if conversion.problems:
        raise ConversionError('\n'.join(refusal(conversion)))
    return conversion


def fill(conversion: Conversion) -> dict:
    """Load the weights into the model and record their origin in ``meta``.

    Args:
        conversion (Conversion): One without problems.

    Returns:
        dict: ``meta`` and ``state_dict``.
    """
    checkpoint, target = conversion.checkpoint, conversion.target
    for name, value in conversion.values.items():
        target[name].copy_(value)
    meta = dict(
        converted_from=Path(checkpoint.path).name,
        source_kind=conversion.layout.kind,
        source_sha256=checkpoint.sha256,
        config=Path(conversion.cfg.filename).name,
        untrained=conversion.untrained,
    )
    return dict(meta=meta, state_dict=dict(target))


def build_network(config: str) -> tuple[Config, nn.Module]:
    """Build the model of a config with an initialization from a fixed seed.

    Nothing is downloaded: pretrained weights are left out.

    Args:
        config (str): A config file of this project.

    Raises:
        ConversionError: If there is no such config.
    """
    if Path(config).suffix != '.py' or not Path(config).is_file():
        raise ConversionError(f'{config}: there is no such config file (.py)')
    cfg = read_config(config)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    _drop_pretrained(cfg.model)
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # MMEngine would tell of every weight
    try:
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            torch.manual_seed(0)
            network = MODELS.build(cfg.model)
            network.init_weights()
    finally:
        logger.setLevel(level)
    return cfg, network


def _drop_pretrained(part: dict) -> None:
    for key, value in list(part.items()):
        if key == 'init_cfg' and 'Pretrained' in str(value):
            part[key] = None
        elif isinstance(value, dict):
            _drop_pretrained(value)


def match_names(checkpoint: Checkpoint, layout: Layout, target: Collection[str]) -> Match:
    """Match the weights of a checkpoint to names of the model.

    Args:
        checkpoint (Checkpoint): The file.
        layout (Layout): What is known of it.
        target (Collection[str]): Names of the network's weights.

    Raises:
        ConversionError: If two weights have the same place.
    """
    match = Match({}, {}, [])
    for key in checkpoint.weights:
        name = _first(layout.rules, key)
        why = _first(layout.derived, key)
        for head in HEADS:
            if not why and name and name.startswith(head) and not _any_of(head, target):
                why = f'the config has no {PARTS[head]}'
        if name in match.found:
            raise ConversionError(
                f'{checkpoint.path}: not converted. {match.found[name]} and '
                f'{key} are both {name} here: remove one of them.'
            )
        if name in target:
            match.found[name] = key
        elif why:
            match.left[key] = why
        else:
            match.unknown.append(key)
    return match


def _first(rules: Sequence[Rule], key: str) -> str | None:
    for pattern, name in rules:
        found = re.fullmatch(pattern, key)
        if found:
            return found.expand(name)
    return None


def _any_of(prefix: str, names: Collection[str]) -> bool:
    return any(name.startswith(prefix) for name in names)


def why_new(name: str, found: Collection[str]) -> str | None:
    """Return why a weight of the model need not be in the source.

    Args:
        name (str): The weight.
        found (Collection[str]): Names of those that are.

    Returns:
        str, optional: The reason; None if there is none.
    """
    if name.endswith(COUNTER):
        return 'counters of batch norm: 0'
    for head in HEADS:
        if name.startswith(head) and not _any_of(head, found):
            return f'the source has no {PARTS[head]}: it must be trained'
    layer = re.match(_OFFSETS, name)
    if layer and not _any_of(layer[0], found):
        return 'refinement: starts at zero, which changes nothing'
    return None
