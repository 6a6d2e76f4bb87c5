"""docs/reliability.md: what is promised, and which test holds it."""
import json
import textwrap
from pathlib import Path
from typing import List, Optional

from projects.multitask_refine.evaluation import markdown_table

HEAD = """# Reliability

What goes wrong in trainings of days and in data sets that grew, what this
project does then, and the test that holds it. This page is made by
`python tools/analysis_tools/pages.py`; its figures are from files in
`docs/results` that the commands beside them wrote.
"""

# Heading, then promises with the tests that hold them.
PROMISES = (
    ('Dirty data', (
        ('every rule for annotations and images finds its fault, and '
         '`--fix` mends it into a new file ([docs/data.md](data.md))',
         'tests/test_tools/test_check_coco.py'),
        ('the loader goes by the same rules, says in one table what it left '
         'out, and refuses with `strict=True`', 'tests/test_dataset.py'),
        ('an image that turns unreadable is replaced and counted; past a '
         'share (1 %) all ranks stop with one sentence',
         'tests/test_datasets_bad_images.py'),
    )),
    ('Faults ([docs/training.md](training.md#when-something-goes-wrong))', (
        ('a loader worker that is killed is replaced; the result is the same '
         'to the last bit', 'tests/test_faults.py'),
        ('a full disk leaves the former checkpoints and no half of a new one',
         'tests/test_faults.py'),
        ('SIGTERM and SIGUSR1, to one process, one of two ranks or the '
         'scripts: checkpoint, then status 75', 'tests/test_faults.py'),
        ('SIGKILL at any moment leaves a whole checkpoint, and the resumed '
         'run ends as an unbroken one',
         'tests/test_faults.py, tests/test_tools/test_long_runs.py'),
        ('averaged weights (EMA) go on as in an unbroken run, also after a '
         'stop in a validation', 'tests/test_engine/test_ema_hook.py'),
        ('`--resume` passes over what is cut, zeroed or flipped',
         'tests/test_faults.py'),
        ('a loss that is not finite stops the run before the weights change, '
         'names terms and images, and can be repeated; overflow of mixed '
         'precision does not', 'tests/test_faults.py'),
        ('no CUDA, no memory on it, an mmcv without operators or for another '
         'torch: a sentence each', 'tests/test_environment.py'),
    )),
    ('Files from strangers', (
        ('live payloads as checkpoint, pickle, dump, predictions, results and '
         'download are refused at every way in, and do not run',
         'tests/test_untrusted_files.py'),
        ('pickles of arrays are read without running anything',
         'tests/test_converters/test_safe_pickle.py'),
        ('names in files do not lead out of their folder; bombs of pictures, '
         'JSON and archives end in a sentence',
         'tests/test_untrusted_files.py, tests/test_tools/test_check_coco.py'),
        ('random and spoilt inputs of every reader, the codecs, the metric '
         'and the operators end in the documented errors or in nothing',
         'tests/test_fuzz/'),
    )),
)

NOT_PROMISED = """
## Not promised

- A loader worker that dies in a validation ends the run; a resumed one begins
  with that validation.
- Several ranks look for signals in training only.
- Nothing of this page was tried on CUDA: the sentences about it are tested
  with errors raised in its place.
- Programs of other projects read files by their own rules.
"""


def render(folder: Path) -> str:
    """The whole page.

    Args:
        folder (Path): Where the results files are.
    """
    parts = [HEAD, *[_promises(*each) for each in PROMISES],
             _endurance(_read(folder / 'performance/endurance.json')),
             _fuzzing(_read(folder / 'fuzzing/fuzzing.json')), NOT_PROMISED]
    return ''.join(parts)


def _read(path: Path) -> Optional[dict]:
    return json.loads(path.read_text()) if path.exists() else None


def _promises(heading: str, rows: tuple) -> str:
    lines = []
    for promise, tests in rows:
        names = ', '.join(f'`{test}`' for test in tests.split(', '))
        lines += textwrap.wrap(f'{promise}: {names}', 80,
                               initial_indent='- ', subsequent_indent='  ',
                               break_long_words=False, break_on_hyphens=False)
    return f'\n## {heading}\n\n' + '\n'.join(lines) + '\n'


def _origin(run: dict) -> str:
    machine = run['machine']
    return (f'`{run["command"]}`, commit {run["commit"]}, {run["date"]}, '
            f'{machine["device"]}, torch {machine["torch"]}')


def _endurance(found: Optional[dict]) -> str:
    title = '\n## Under load\n\n'
    if found is None:
        return title + 'Not measured.\n'
    damage = found['damage']
    faults = sum(damage['annotations'].values())
    rows = [[f'{leg}', row['process'], *row['quarters'],
             f'{row["growth_percent"]:+.1f}']
            for leg, members in enumerate(found['memory'], 1)
            for row in members]
    table = markdown_table(
        ['start', 'process', '1st', '2nd', '3rd', '4th', 'growth in %'],
        [[str(cell) for cell in row] for row in rows])
    return f"""{title}\
{found['ranks']} ranks with {found['workers']} loader workers each trained the
smallest network for {found['iterations']} iterations on {damage['images']} drawn
images, of which {damage['missing']} were missing and {damage['files_before']}
damaged, with {faults} damaged annotations; after {found['stopped_after']}
iterations the run got SIGTERM (status {found['status'][0]}), another
{damage['files_between']} images were damaged, and it was resumed (status
{found['status'][1]}). Of {found['images_drawn']} images drawn
**{found['replaced']} were replaced and counted; {found['replaced_expected']} were
expected** from loading the same images again. Memory of each process, its own
pages (USS and swap), in MiB: medians of the quarters of its life, and the
growth from the third to the last. Rank 0 grows once, when it has written some
checkpoints, and then stays:

{table}

{_origin(found['run'])}
"""


def _fuzzing(found: Optional[dict]) -> str:
    title = '\n## Random inputs\n\n'
    if found is None:
        return title + 'Not measured.\n'
    run = found['run']
    rows: List[List[str]] = [
        [f'`tests/test_fuzz/{module}.py`', str(len(properties)),
         str(sum(properties.values())),
         'yes' if module in run['failed'] else 'no']
        for module, properties in run['inputs'].items()
    ]
    table = markdown_table(['module', 'properties', 'inputs', 'failed'], rows)
    return (f'{title}`make fuzz` draws thousands of inputs for each property; '
            '`make test` draws a hundred.\nWhat broke something before '
            f'stays among them.\n\n{table}\n\n{_origin(run)}, seed '
            f'{run["seed"]}, {run["seconds"]:.0f} s\n')
