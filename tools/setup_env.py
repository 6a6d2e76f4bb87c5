"""Install what the project needs, once: `make quickstart` and `make test` call this first.

Without `--python` the environment is `.venv` in the checkout, and it gets exactly the versions of
requirements.txt. With `--python` it is one that the user brings: what is there stays (torch above
all), and only what is missing is added. mmcv and xtcocotools have no ready-made wheels that fit;
they are compiled here and kept in a cache, so that a second checkout need not compile them again.

A call that finds nothing changed returns at once. Every failure is one sentence that says what to
do. Standard library only, Python 3.8 or later, so that any Python at hand can say what is wrong.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / 'requirements.txt'
VENV = ROOT / '.venv'
LOG = ROOT / 'work_dirs' / 'setup.log'
PROJECT = 'multitask_refine'
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')) / PROJECT
GIGABYTE = 2**30

PYTHONS = ((3, 10), (3, 11), (3, 12))
OLDEST_TORCH = (2, 6)  # the first that loads checkpoints without running what they hold
OPENMMLAB = ('mmcv', 'mmengine', 'mmdet', 'mmpose', 'openmim', 'xtcocotools')
# Other packages with the same import names.
RIVALS = ('mmcv-lite', 'mmcv-full', 'onedl-mmcv', 'onedl-mmengine', 'onedl-mmdetection')
# Of the user's pip settings, those that say where packages come from. The others (PIP_USER,
# PIP_TARGET, PIP_CONSTRAINT, ...) would install other things or elsewhere.
PIP_SETTINGS = (
    'INDEX_URL',
    'EXTRA_INDEX_URL',
    'FIND_LINKS',
    'NO_INDEX',
    'CERT',
    'CLIENT_CERT',
    'PROXY',
    'TRUSTED_HOST',
    'DEFAULT_TIMEOUT',
    'TIMEOUT',
    'RETRIES',
    'CONFIG_FILE',
    'CACHE_DIR',
    'KEYRING_PROVIDER',
    'BREAK_SYSTEM_PACKAGES',
)

# Runs in the Python in question and imports none of the packages: importing torch takes seconds.
PROBE = r"""
import glob, json, os, sys
facts = {'version': list(sys.version_info[:2]), 'executable': sys.executable}
if sys.version_info >= (3, 10):
    import importlib.metadata, importlib.util, runpy, sysconfig, urllib.parse
    find = importlib.util.find_spec
    facts.update(purelib=sysconfig.get_path('purelib'), versions={}, origins={}, torch=None,
                 headers=os.path.exists(sysconfig.get_path('include') + '/Python.h'),
                 venv=bool(find('venv') and find('ensurepip')),
                 pkg_resources=bool(find('pkg_resources')))
    for name in sys.argv[1:]:
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        facts['versions'][name] = package.version
        origin = package.read_text('direct_url.json')
        if origin:
            facts['origins'][name] = urllib.parse.unquote(json.loads(origin)['url'])
    torch, mmcv = find('torch'), find('mmcv')
    if torch and torch.origin:
        version = runpy.run_path(os.path.join(os.path.dirname(torch.origin), 'version.py'))
        facts['torch'] = [str(version['__version__']), version.get('cuda')]
    facts['ops'] = bool(mmcv and mmcv.origin and
                        glob.glob(os.path.dirname(mmcv.origin) + '/_ext*.so'))
print(json.dumps(facts))
"""

# Ends with the sentence of what does not work.
VERIFY = r"""
import importlib, sys
for name in ('numpy', 'scipy', 'cv2', 'matplotlib', 'pandas', 'torch', 'pycocotools.mask', 'mim',
             'mmcv.ops', 'mmdet.apis', 'xtcocotools.coco', 'mmpose.models', 'mmpose.evaluation',
             'torch.utils.tensorboard'):
    try:
        importlib.import_module(name)
    except Exception as error:
        reason = str(error).split('\n')[0]
        sys.exit('%s cannot be imported (%s: %s)' % (name, type(error).__name__, reason))
import torch
from mmcv.ops import deform_conv2d, get_compiling_cuda_version
on_gpu = torch.cuda.is_available() and get_compiling_cuda_version() != 'not available'
for device in ('cpu', 'cuda') if on_gpu else ('cpu',):
    ones, offset = torch.ones(1, 1, 3, 3, device=device), torch.zeros(1, 18, 1, 1, device=device)
    if deform_conv2d(ones, offset, ones).item() != 9:
        sys.exit('deform_conv2d of mmcv computes wrong numbers on ' + device)
"""


class SetupError(Exception):
    """Why the set-up cannot go on: a sentence that says what to do, and last lines of the log."""

    def __init__(self, sentence: str, details: Tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.details = details


def say(text: str) -> None:
    print(f'[setup] {text}', flush=True)


def read_requirements(python: Tuple[int, int]) -> Dict[str, Dict[str, str]]:
    """Read the sections of requirements.txt for one Python: {section: {package: version}}."""
    sections: Dict[str, Dict[str, str]] = {}
    for line in REQUIREMENTS.read_text().splitlines():
        header = re.match(r'# \[(\w+)\]', line)
        if header:
            pins = sections.setdefault(header.group(1), {})
        requirement = line.split('#')[0].strip()
        if not requirement:
            continue
        pin = re.match(
            r'([\w.-]+)==([\w.+]+)(?:; python_version (<|>=) "3\.(\d+)")?$', requirement
        )
        if not pin:
            raise SetupError(f'{REQUIREMENTS} has a line that is no exact pin: {requirement}')
        name, version, sign, minor = pin.groups()
        if sign is None or (sign == '<') == (python < (3, int(minor))):
            pins[re.sub(r'[-_.]+', '-', name).lower()] = version
    return sections


# --- the environment ------------------------------------------------------------------------------


def clean_environ(own: bool) -> Dict[str, str]:
    """The user's environment without what would make Python or pip look or write elsewhere."""
    kept = {f'PIP_{name}' for name in PIP_SETTINGS}
    environ = {
        name: value
        for name, value in os.environ.items()
        if name in kept or not name.startswith('PIP_')
    }
    environ.pop('PYTHONHOME', None)
    if own:  # a brought environment may well consist of a PYTHONPATH
        environ.pop('PYTHONPATH', None)
    environ.update(
        PIP_USER='0',
        PIP_NO_INPUT='1',
        PIP_DISABLE_PIP_VERSION_CHECK='1',
        PIP_ROOT_USER_ACTION='ignore',
        PYTHONUNBUFFERED='1',
    )
    return environ


def probe(python: str, own: bool) -> Optional[dict]:
    """What a Python is and has (see PROBE), or None if it does not run."""
    names = {
        name
        for version in PYTHONS
        for pins in read_requirements(version).values()
        for name in pins
    }.union(RIVALS)
    answer = output_of([python, '-c', PROBE, *sorted(names)], clean_environ(own))
    return json.loads(answer) if answer.startswith('{') else None


class Environment:
    """A Python environment: the project's own `.venv`, or one that the user brings."""

    def __init__(self, python: str, own: bool) -> None:
        self.python, self.own = python, own
        self.refresh()

    def refresh(self) -> None:
        """Look (again) at what is installed."""
        facts = probe(self.python, self.own)
        cure = (
            f'remove the folder {VENV} and run again.'
            if self.own
            else 'name another one, as in `make test PYTHON=/path/to/bin/python`.'
        )
        if facts is None:
            raise SetupError(f'{self.python} is no Python that runs: {cure}')
        if tuple(facts['version']) not in PYTHONS:
            raise SetupError(
                f'{self.python} is Python {dotted(facts["version"])}, and 3.10, 3.11 '
                f'or 3.12 is needed: {cure}'
            )
        self.facts = facts
        self.versions: Dict[str, str] = facts['versions']
        self.purelib = Path(facts['purelib'])
        self.stamp = self.purelib / f'{PROJECT}.setup'  # the digest of a set-up that went well

    def digest(self) -> str:
        """Changes when the set-up has something to do again."""
        torch = self.facts['torch']
        gains_cuda = bool(
            torch and torch[1] and '-cuda' not in self.origin('mmcv') and find_nvcc()
        )
        sources = [REQUIREMENTS.read_text(), Path(__file__).read_text(), self.facts, gains_cuda]
        return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()

    def origin(self, name: str) -> str:
        """The key under which the installed package lies in the cache; '' if it is not ours."""
        folder = Path(self.facts['origins'].get(name, '').replace('file://', '')).parent
        return folder.name if folder.parent.name == PROJECT else ''

    def imports(self, module: str) -> bool:
        return bool(
            output_of([self.python, '-c', f'import {module}; print(1)'], clean_environ(self.own))
        )


def dotted(version: List[int]) -> str:
    return '.'.join(map(str, version))


def output_of(command: List[str], environ: Optional[Dict[str, str]] = None) -> str:
    """What a command prints; nothing if it is not there or fails."""
    try:
        return subprocess.run(
            command,
            env=environ,
            cwd=ROOT,
            check=True,
            universal_newlines=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ''


def candidates() -> Iterator[str]:
    """Pythons that could make `.venv`: the running one, then those on PATH."""
    yield sys.executable
    for name in ('python3.12', 'python3.11', 'python3.10', 'python3'):
        for folder in os.environ.get('PATH', '').split(os.pathsep):
            if os.path.exists(os.path.join(folder, name)):
                yield os.path.join(folder, name)


def choose_python() -> str:
    """The first candidate that can make an environment and compile for it."""
    others, problem = set(), ''
    for python in candidates():
        facts = probe(python, own=True)
        if facts is None:  # a pyenv shim, say, of a version that is not there
            continue
        if tuple(facts['version']) not in PYTHONS:
            others.add(dotted(facts['version']))
            continue
        lack = lacks(facts)
        if not lack:
            return facts['executable']
        problem = problem or lack
    raise SetupError(
        problem
        or 'Python 3.10, 3.11 or 3.12 is needed, and only '
        f'{", ".join(sorted(others)) or "none"} was found: install one of them with '
        'its venv module and headers, put it on PATH, and run again.'
    )


def lacks(facts: dict) -> str:
    """The sentence for a Python that lacks its venv module or headers, or an empty one."""
    python, package = facts['executable'], 'python' + dotted(facts['version'])
    if not facts['venv']:
        return (
            f'{python} has no venv module: install it (Debian, Ubuntu: apt install '
            f'{package}-venv) and run again.'
        )
    if not facts['headers']:
        return (
            f'{python} has no headers (Python.h) to compile with: install them (Debian, '
            f'Ubuntu: apt install {package}-dev; Fedora: {package}-devel) and run again.'
        )
    return ''


def own_environment() -> Environment:
    """The environment `.venv`, made if it is not there."""
    python = VENV / 'bin' / 'python'
    if not os.path.lexists(python):
        base = choose_python()
        check_disk(with_torch=True)
        find_compilers()
        say(f'making {VENV} with {base}')
        run_logged([base, '-m', 'venv', '--without-pip', str(VENV)], clean_environ(own=True))
    return Environment(str(python), own=True)


def brought_environment(python: str) -> Environment:
    """The environment of a Python that the user names by a path or a command."""
    return Environment(shutil.which(python) or python, own=False)


# --- running commands, and what their failures mean -----------------------------------------------

FAILURES = (
    (
        r'No space left on device|Disk quota exceeded',
        'The disk is full: free some space, or set TMPDIR to a folder on another disk, and run '
        'again.',
    ),
    (
        r'NewConnectionError|Name or service not known|name resolution|Connection (?:refused|reset)|'
        r'Read timed out|ConnectTimeout|ProxyError|SSLError|Network is unreachable',
        'pip cannot reach its package index: connect this machine to the network, or point pip to a '
        'mirror or folder that it reaches (PIP_INDEX_URL, PIP_FIND_LINKS or pip.conf), and run '
        'again.',
    ),
    (
        r'externally-managed-environment',
        'This Python belongs to the operating system and lets nobody install into it: bring an '
        'environment made from it by `-m venv --system-site-packages FOLDER`.',
    ),
    (
        r'No matching distribution found for (\S+)',
        'The package index has no {0} for this Python and machine: give pip an index that has it '
        '(PIP_INDEX_URL, PIP_FIND_LINKS), and run again.',
    ),
    (
        r'Killed signal|out of memory|Cannot allocate memory',
        'The memory did not suffice to compile: run again with fewer compilers at a time, as in '
        '`MAX_JOBS=1 make setup`.',
    ),
)


def explain(command: List[str], output: str) -> SetupError:
    """Turn the output of a command that failed into one sentence and its last lines."""
    last = tuple(line for line in output.splitlines() if line.strip())[-6:]
    for pattern, sentence in FAILURES:
        match = re.search(pattern, output)
        if match:
            return SetupError(sentence.format(*match.groups()), last)
    return SetupError(
        f'`{" ".join(command)[:200]}` failed: mend what its last lines say and run again.', last
    )


def run_logged(
    command: List[str], environ: Dict[str, str], on_line: Callable[[str], None] = lambda line: None
) -> None:
    """Run a command with its output in LOG; end all its processes when interrupted."""
    output = []
    with open(LOG, 'a') as log:
        log.write('$ ' + ' '.join(command) + '\n')
        process = subprocess.Popen(
            command,
            env=environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            errors='replace',
            start_new_session=True,
        )
        try:
            for line in process.stdout:
                log.write(line)
                output.append(line)
                on_line(line)
            code = process.wait()
        except BaseException:
            end_group(process)
            raise
    if code != 0:
        raise explain(command, ''.join(output))


def end_group(process: subprocess.Popen) -> None:
    """End a process and its children; at SIGINT pip removes its temporary folders."""
    os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def show_download(line: str) -> None:
    """Name the large files that pip fetches: one of them can take minutes."""
    match = re.match(r'\s*Downloading (\S+) \((\d{2,}(?:\.\d)? MB|[\d.]+ GB)', line)
    if match:
        say(f'  downloading {match.group(1).split("/")[-1]} ({match.group(2)})')


class CompileProgress:
    """Turns ninja's `[12/77] c++ ...` lines into a line now and then."""

    def __init__(self, interval: float = 20, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval, self.clock = interval, clock
        self.start = self.last = clock()

    def __call__(self, line: str) -> None:
        match = re.match(r'\s*\[(\d+)/(\d+)\]', line)
        now = self.clock()
        if not match or now - self.last < self.interval:
            return
        self.last = now
        done, total = map(int, match.groups())
        elapsed = now - self.start
        say(
            f'  {done} of {total} files after {minutes(elapsed)}, about '
            f'{minutes(elapsed / max(done, 1) * (total - done))} left'
        )


def minutes(seconds: float) -> str:
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d} min'


# --- what the machine offers ----------------------------------------------------------------------


def check_disk(with_torch: bool) -> None:
    """Refuse to begin what the disk cannot hold (a CUDA build of torch needs more still)."""
    needs = ((ROOT, 3 if with_torch else 1), (Path(tempfile.gettempdir()), 1))
    for folder, need in needs:
        free = shutil.disk_usage(folder).free / GIGABYTE
        if free < need:
            cure = (
                'free some space' if folder == ROOT else 'set TMPDIR to a folder with more space'
            )
            raise SetupError(
                f'The disk of {folder} has {free:.1f} GB free and {need} GB are '
                f'needed: {cure} and run again.'
            )


def find_compilers() -> Tuple[str, str]:
    """The C and the C++ compiler: CC and CXX, or what is on PATH, tried on a line of C++17."""
    cc = os.environ.get('CC') or next(filter(shutil.which, ('cc', 'gcc', 'clang')), '')
    cxx = os.environ.get('CXX') or next(filter(shutil.which, ('c++', 'g++', 'clang++')), '')
    if not cc or not cxx:
        raise SetupError(
            'No C++ compiler was found, and mmcv has to be compiled: install one '
            '(Debian, Ubuntu: apt install g++; Fedora: gcc-c++) and run again.'
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, 'test.cpp')
        source.write_text(
            '#include <cstdio>\n#include <optional>\nint main() { puts("works"); }\n'
        )
        output_of([*cxx.split(), '-std=c++17', str(source), '-o', f'{folder}/test'])
        if not output_of([f'{folder}/test']):
            raise SetupError(
                f'The C++ compiler {cxx} does not compile C++17: install GCC 9 or '
                'later, or name a compiler by CC and CXX, and run again.'
            )
    return cc, cxx


def find_nvcc() -> Optional[str]:
    """CUDA's compiler, looked for where torch looks for it."""
    homes = (os.environ.get('CUDA_HOME'), os.environ.get('CUDA_PATH'))
    places = [f'{home}/bin/nvcc' for home in homes if home] + ['nvcc', '/usr/local/cuda/bin/nvcc']
    return next(filter(None, map(shutil.which, places)), None)


def cuda_target(torch_cuda: Optional[str]) -> str:
    """The CUDA version and GPU kinds to compile for, as in `13.0-sm9.0`; '' for the CPU only."""
    if not torch_cuda:
        return ''
    nvcc = find_nvcc()
    release = re.search(r'release (\d+)\.', output_of([nvcc, '--version']) if nvcc else '')
    if not release or release.group(1) != torch_cuda.split('.')[0]:
        say(
            f'torch is built for CUDA {torch_cuda}, but no nvcc of that CUDA was found: mmcv is '
            'compiled for the CPU only. To use it on the GPU, install the CUDA toolkit '
            f'{torch_cuda} (or set CUDA_HOME) and run again.'
        )
        return ''
    seen = output_of(['nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader']).split()
    kinds = os.environ.get('TORCH_CUDA_ARCH_LIST') or ';'.join(sorted(set(seen)))
    return f'{torch_cuda}-sm{kinds or "all"}'


def compile_jobs() -> int:
    """Compilers at a time: one per core, with 2 GB of memory for each."""
    available = re.search(r'MemAvailable:\s+(\d+)', Path('/proc/meminfo').read_text())
    memory = [int(available.group(1)) * 1024]
    with contextlib.suppress(OSError, ValueError):  # a container's limit; `max` if it has none
        memory.append(int(Path('/sys/fs/cgroup/memory.max').read_text()))
    return max(1, min(len(os.sched_getaffinity(0)), min(memory) // (2 * GIGABYTE)))


# --- installing -----------------------------------------------------------------------------------


def check_torch(env: Environment) -> None:
    """Refuse a torch that cannot load a checkpoint safely."""
    version = env.facts['torch'][0] if env.facts['torch'] else None
    if version and tuple(map(int, re.findall(r'\d+', version)[:2])) < OLDEST_TORCH:
        raise SetupError(
            f'{env.python} has torch {version}, and {dotted(OLDEST_TORCH)} or later '
            'is needed to load checkpoints safely: update torch there, or bring '
            'another environment.'
        )


def check_brought(env: Environment, pins: Dict[str, str]) -> None:
    """Refuse a brought environment in which something would have to be replaced."""
    if not os.access(env.purelib, os.W_OK):
        raise SetupError(
            f'{env.purelib} cannot be written to: bring an environment of your own, '
            f'made by `{env.python} -m venv --system-site-packages FOLDER`.'
        )
    wrong = {name: f'{name} {env.versions[name]}' for name in RIVALS if name in env.versions}
    for name in OPENMMLAB:
        if env.versions.get(name, pins[name]) != pins[name]:
            wrong[name] = f'{name} {env.versions[name]} where {pins[name]} is needed'
    if 'mmcv' in env.versions and 'mmcv' not in wrong and not env.facts['ops']:
        wrong['mmcv'] = 'mmcv without its compiled ops'
    if wrong:
        raise SetupError(
            f'{env.python} has {", ".join(wrong.values())}; nothing was changed: '
            f'uninstall that (`{env.python} -m pip uninstall {" ".join(wrong)}`) and '
            'run again, or bring another environment.'
        )


def clear_half_installed(purelib: Path) -> None:
    """Forget packages whose installation was interrupted: pip writes RECORD last."""
    for info in purelib.glob('*.dist-info'):
        if not (info / 'RECORD').exists():
            shutil.rmtree(info)


def missing(env: Environment, pins: Dict[str, str]) -> Dict[str, str]:
    """The pins to install: all that differ in `.venv`, those that are not there elsewhere."""
    if env.own:
        return {name: pin for name, pin in pins.items() if env.versions.get(name) != pin}
    absent = {name: pin for name, pin in pins.items() if name not in env.versions}
    if not env.facts['pkg_resources'] and 'setuptools' not in absent:
        say(
            f'replacing setuptools {env.versions["setuptools"]} by {pins["setuptools"]}: mmcv and '
            'mim need pkg_resources, which newer ones lack'
        )
        absent['setuptools'] = pins['setuptools']
    if 'opencv-python-headless' in absent and env.imports('cv2'):
        del absent['opencv-python-headless']
    return absent


def pip(env: Environment, *arguments: str, **settings: str) -> None:
    """Run the environment's pip; `settings` are environment variables for what it compiles."""
    on_line = CompileProgress() if arguments[0] == 'wheel' else show_download
    environ = {**clean_environ(env.own), **settings}
    run_logged([env.python, '-m', 'pip', *arguments], environ, on_line)


def install_pins(env: Environment, pins: Dict[str, str]) -> None:
    if not env.imports('pip'):
        run_logged([env.python, '-m', 'ensurepip'], clean_environ(env.own))
    wanted = [f'{name}=={pin}' for name, pin in missing(env, pins).items()]
    if wanted:
        say(f'installing {len(wanted)} packages')
        pip(env, 'install', '--no-deps', *wanted)


def install_torch(env: Environment, version: str) -> None:
    if not env.facts['torch']:
        say(f'installing torch {version}')
        pip(env, 'install', f'torch=={version}')


def cache_key(name: str, version: str, facts: dict, cuda: str = '') -> str:
    """Name all that a compiled package depends on, so that none is used where it does not fit."""
    against = (
        'torch' + facts['torch'][0]
        if name == 'mmcv'
        else 'numpy' + facts['versions']['numpy'].split('.')[0]
    )
    parts = [
        name,
        version,
        against,
        'cp' + dotted(facts['version']),
        platform.machine(),
        ''.join(platform.libc_ver()),
    ]
    if cuda:
        parts.append('cuda' + cuda)
    return re.sub(r'[^\w.+-]', '_', '-'.join(parts))


def fits(env: Environment, name: str, version: str, cuda: str) -> bool:
    """Whether the installed package is the one that would be installed now."""
    origin = env.origin(name)
    if env.versions.get(name) != version:
        return False
    if not origin:
        return True  # the user's own
    # It must have been compiled against this torch. One made for CUDA stays without an nvcc.
    return origin.startswith(cache_key(name, version, env.facts)) and (
        '-cuda' in origin or not cuda
    )


def install_compiled(env: Environment, name: str, version: str, cuda: str) -> None:
    """Install mmcv or xtcocotools from the cache, compiling it if it is not there."""
    if fits(env, name, version, cuda):
        return
    folder = CACHE / cache_key(name, version, env.facts, cuda)
    if not list(folder.glob('*.whl')):
        compile_wheel(env, name, version, folder, cuda)
    pip(env, 'install', '--no-deps', '--force-reinstall', str(next(folder.glob('*.whl'))))


def compile_settings(jobs: str, cuda: str) -> Dict[str, str]:
    """The environment variables that mmcv's set-up and the compilers read."""
    cc, cxx = find_compilers()
    settings = {
        'CC': cc,
        'CXX': cxx,
        'MAX_JOBS': jobs,
        'MMCV_WITH_OPS': '1',
        'CFLAGS': os.environ.get('CFLAGS', '') + ' -g0',  # no debug symbols: half the time
        'FORCE_CUDA': '1' if cuda else '0',
    }
    if not cuda:
        settings['CUDA_VISIBLE_DEVICES'] = ''  # mmcv compiles for a GPU whenever it sees one
    return settings


def compile_wheel(env: Environment, name: str, version: str, folder: Path, cuda: str) -> None:
    """Compile a package and put its wheel into the folder.

    pip's own cache is kept out of it: it would hand over a wheel compiled against another torch.
    """
    jobs = os.environ.get('MAX_JOBS') or str(compile_jobs())
    say(
        f'compiling {name} {version} with MAX_JOBS={jobs}'
        + (' (about 10 minutes of one core; far longer with CUDA)' if name == 'mmcv' else '')
    )
    with tempfile.TemporaryDirectory(prefix=PROJECT) as temporary:
        pip(
            env,
            'wheel',
            '-v',
            '--no-deps',
            '--no-cache-dir',
            '--no-build-isolation',
            '--no-binary',
            name,
            '-w',
            temporary,
            f'{name}=={version}',
            **compile_settings(jobs, cuda),
        )
        wheel = next(Path(temporary).glob('*.whl'))
        if not any(file.endswith('.so') for file in zipfile.ZipFile(wheel).namelist()):
            raise SetupError(f'{name} was built without its compiled part: see {LOG} for why.')
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f'{os.getpid()}.part'
        shutil.copy(wheel, part)
        os.replace(part, folder / wheel.name)


def install(env: Environment) -> None:
    """Bring the environment to what requirements.txt says."""
    pins = read_requirements(tuple(env.facts['version']))
    check_torch(env)
    if not env.own:
        check_brought(env, {**pins['wheels'], **pins['compiled']})
    check_disk(with_torch=not env.facts['torch'])
    if not all(name in env.versions for name in pins['compiled']):
        find_compilers()
        if not env.facts['headers']:
            raise SetupError(lacks({**env.facts, 'venv': True}))
    if env.own:
        clear_half_installed(env.purelib)
        env.refresh()
    install_pins(env, pins['wheels'])
    install_torch(env, pins['torch']['torch'])
    env.refresh()
    cuda = {'mmcv': cuda_target(env.facts['torch'][1])}
    for name, version in pins['compiled'].items():
        install_compiled(env, name, version, cuda.get(name, ''))
    env.refresh()


def link_checkout(env: Environment) -> None:
    """Make `projects` importable from anywhere: mim runs mmdet's scripts, not the project's."""
    link = env.purelib / f'{PROJECT}.pth'
    linked = link.read_text().strip() if link.exists() else ''
    if linked == str(ROOT):
        return
    if os.path.isdir(linked):
        say(
            f'{env.python} used the checkout {linked} and from now on uses {ROOT}: run `make '
            'setup` there to switch back, or give each checkout its own environment.'
        )
    link.write_text(f'{ROOT}\n')


def verify(env: Environment) -> None:
    """Import everything and run one of mmcv's ops."""
    say('checking that everything works together')
    try:
        run_logged([env.python, '-W', 'ignore', '-c', VERIFY], clean_environ(env.own))
    except SetupError as error:
        reason = error.details[-1] if error.details else 'Python ended without a word'
        cure = (
            f'remove {VENV} and {CACHE} and run again.'
            if env.own
            else f'mend or uninstall that package in the environment of {env.python} and run '
            'again, or bring another environment.'
        )
        raise SetupError(
            f'The installed packages do not work together, {reason}: {cure}', error.details
        ) from None


def set_up(python: Optional[str]) -> None:
    """Make the environment fit, unless it did the last time and nothing changed since."""
    env = own_environment() if python is None else brought_environment(python)
    if not env.stamp.exists() or env.stamp.read_text() != env.digest():
        started = time.monotonic()
        LOG.write_text('')
        install(env)
        verify(env)
        env.stamp.write_text(env.digest())
        say(f'done in {minutes(time.monotonic() - started)}')
    link_checkout(env)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait for another set-up of this checkout to end."""
    with open(LOG.with_suffix('.lock'), 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say('another set-up of this checkout is running: waiting for it to end')
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        yield


def interrupt(*signal_and_frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: Optional[List[str]] = None) -> int:
    """Set up and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--python', help='an environment of your own to use in place of .venv')
    arguments = parser.parse_args(argv)
    try:
        LOG.parent.mkdir(exist_ok=True)
        with one_at_a_time():
            set_up(arguments.python)
        return 0
    except KeyboardInterrupt:
        print('\nSet-up interrupted: run again to go on.', file=sys.stderr)
        return 130
    except OSError as error:
        print(f'Set-up failed: {error}: make that possible and run again.', file=sys.stderr)
    except SetupError as error:
        for line in error.details:
            print(f'  | {line.strip()[:300]}', file=sys.stderr)
        log = f' The whole log: {LOG}' if error.details else ''
        print(f'Set-up failed: {error}{log}', file=sys.stderr)
    return 1


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, interrupt)
    sys.exit(main())
