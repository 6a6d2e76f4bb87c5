"""Code, configs, tests and pages use the field's terms in American spelling."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.docs.build_docs import BEGIN, END

# What was written here once, or is no American spelling: the usual term. The sides of a word are
# whatever is no letter, so that parts of an identifier count as words.
TERMS = {
    # networks
    'rate_boxes|select_boxes': 'bbox_forward, predict_bbox',
    'pool_people': 'extract_instance_feats',
    'idle_loss': 'zero_loss',
    'joints_per_image|mean_over_ranks': 'loss_normalizer, reduce_avg_factor',
    'SharedMeanRPNHead|StretchedAnchorGenerator|RefinedRoIAlign': 'the names in CHANGELOG.md',
    'joints?(?!_weights)': 'keypoint',  # joint_weights: of MMPose's meta files
    # ops and codecs
    'refine_heatmaps|(?<=def )suppress': 'resample_heatmaps, nms',
    '(sum|turn)_bags|Bags': 'csr_matmul, csr_transpose, CSRMatrix',
    'use_fast_convs|keep_factors|of_weight|of_x': 'convert_to_winograd, prepack, grad_weight',
    'cut_pixels|put_results': 'extract_input_tiles, scatter_output_tiles',
    'mirror_back|PoseBoxes': 'unflip, KeypointBoxes',
    # data and engine
    'mend(s|ed|ing)?': 'fix or repair',
    'spoil(s|ed|t|ing)?': 'corrupt or invalid',
    'ShapeBatchSampler|KeepingCheckpointHook|WholeFileBackend': 'the names in CHANGELOG.md',
    'RESUME_ME|plain_arrays|PEACE': 'EX_TEMPFAIL, numpy_stubs, a name that says what it is',
    # inference, tools and benchmarks
    'PeopleFinder|ExportedNetwork': 'BaseInferencer, OnnxModel',
    'contestants?|entrants?': 'baseline or model',
    "pictures(?=[=']|.:)": 'image_sizes, images',  # as a key
    'pieces-cpu': 'micro-cpu',
    'like_trained': 'synthetic_weights',
    # spelling
    'grey(scale)?|(col|behavi|neighb|fav)our(s|ed|ing)?|centre(s|d)?': 'gray, color, center',
    '(un)?labell(ed|ing)|modell(ed|ing)|analys(ed|ing)|artefacts?': 'labeled, analyzed, artifact',
    '(de)?(quant|normal|initial|summar|optim|recogn|organ|visual|serial|synchron|minim|maxim|'
    'special|random|regular|vector)is(e|es|ed|ing|ation|ations|er|ers)': 'the spelling with z',
}
# Former names that are still read.
ALLOWED = {
    'projects/multitask_refine/deployment/quantize.py': ['quantisation'],
    'projects/multitask_refine/engine/inference_settings.py': ['joint'],
    'projects/multitask_refine/evaluation/coco_metric.py': ['joint'],
    'projects/multitask_refine/utils/results_file.py': ['quantisation'],
    'projects/multitask_runtime/onnx/metadata.py': ['joint'],
    'projects/multitask_runtime/schemas.py': ['joints'],
    'tools/analysis_tools/show_offsets.py': ['joint'],
    'tests/fuzz/test_result_files.py': ['joints'],
    'tests/test_apis/test_inferencer.py': ['joint'],
    'tests/test_deployment/test_quantize.py': ['quantisation'],
    'tests/test_evaluation/test_coco_metric.py': ['joint'],
    'tests/test_runtime/test_onnx/test_inferencer.py': ['joint'],
    'tests/test_tools/test_predictions_to_coco.py': ['joints'],
    'tests/test_utils/test_untrusted_files.py': ['joints'],
}
PATTERN = re.compile(
    '|'.join(f'(?<![A-Za-z])(?P<t{i}>{term})(?![A-Za-z])' for i, term in enumerate(TERMS)),
    re.IGNORECASE,
)
FOLDERS = ('projects', 'tools', 'benchmarks', 'demo', 'configs', 'docs', 'tests')


def find_terms(text):
    """Line, found term and usual term of everything in a text that has another name."""
    # Generated parts of pages quote the commands of former commits.
    text = re.sub(f'{BEGIN}.*?{END}', lambda part: '\n' * part[0].count('\n'), text, flags=re.S)
    usual = list(TERMS.values())
    for match in PATTERN.finditer(text):
        line = text.count('\n', 0, match.start()) + 1
        yield line, match[0], usual[int(match.lastgroup[1:])]


@pytest.mark.parametrize(
    'text, found',
    [
        ('joint_shift = 0', ['joint']),
        ('FIVE_joints', ['joints']),
        ('jointly trained, disjoint, adjoint', []),
        ('joint_weights=[1.0]', []),
        ('self.rate_boxes(x)', ['rate_boxes']),
        ('with contextlib.suppress(OSError): pass', []),
        ('def suppress(boxes, scores):', ['suppress']),
        ("found['pictures'], dict(pictures=[])", ['pictures', 'pictures']),
        ('pictures of people', []),
        ('boxes are suppressed', []),
        ('recommended amendments', []),
        ('how to mend it', ['mend']),
        ('Quantise, normalised and initialises', ['Quantise', 'normalised', 'initialises']),
        ('is_labelled', ['labelled']),
        (f'{BEGIN} x -->\na contestant\n{END}\nan entrant', ['entrant']),
    ],
)
def test_words_are_told_apart(text, found):
    assert [term for _, term, _ in find_terms(text)] == found


def test_every_name_is_the_fields():
    files = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'Makefile']
    for folder in FOLDERS:
        files += [
            path for path in (ROOT / folder).rglob('*') if path.suffix in ('.py', '.md', '.html')
        ]
    assert len(files) > 200
    problems = []
    for path in sorted({*files} - {Path(__file__)}):
        name = str(path.relative_to(ROOT))
        problems += [
            f'{name}:{line}: {term}, usually: {usual}'
            for line, term, usual in find_terms(path.read_text())
            if term not in ALLOWED.get(name, ())
        ]
    assert not problems, '\n'.join(problems)
