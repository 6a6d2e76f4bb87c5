"""Install the pinned stack and the project; `make setup` calls this.

The environment is that of the Python that runs the script (`--current`), or else `.venv` in the
checkout, which is made if needed. `.venv` gets the versions of requirements.txt; in another
environment everything installed stays, torch above all, and only missing packages are added.
mmcv and xtcocotools have no wheels that fit: they are compiled once per torch or numpy version.
A second call returns at once. Every failure ends in one sentence that says what to do.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib.metadata import distributions, files
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV, LOG = ROOT / '.venv', ROOT / 'work_dirs/setup.log'
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'multitask_refine'
COMPILED = ('mmcv', 'xtcocotools')
PROGRESS_INTERVAL = 20  # seconds
FAILURES = {
    r'No space left on device|Disk quota exceeded': 'The disk is full: free some space, or set '
    'TMPDIR to a folder on another disk, and run again.',
    r'No module named .?(venv|ensurepip)|ensurepip is not\s+available': 'This Python has no venv '
    'module: install it (Debian, Ubuntu: apt install python3-venv) and run again.',
    r'(Connection|Timeout|Proxy|SSL)Error|resolution|timed out': 'pip cannot reach its index: '
    'connect to the network, or set PIP_INDEX_URL or PIP_FIND_LINKS, and run again.',
    r'externally-managed-environment|Permission denied': 'The packages of this Python cannot be '
    'changed: bring an environment made by `-m venv --system-site-packages FOLDER`.',
    r'No matching distribution found for': 'The package index lacks a pinned package for this '
    'Python and machine: set PIP_INDEX_URL or PIP_FIND_LINKS to one that has it, and run again.',
    r'Python\.h: No such file': 'This Python has no headers to compile with: install them '
    '(Debian, Ubuntu: apt install python3-dev; Fedora: python3-devel) and run again.',
    r"No such file or directory: '\S*(cc|\+\+)'|command '\S+' failed: No such": 'No C++ compiler '
    'was found: install one (Debian, Ubuntu: apt install g++) or set CC and CXX, and run again.',
    r'need C\+\+\d+|option .-std=c\+\+': 'The C++ compiler is too old for torch: install GCC 9 or '
    'later, or name one by CC and CXX, and run again.',
    r'Killed signal|out of memory|Cannot allocate memory': 'The memory did not suffice to '
    'compile: run again with fewer compilers at a time, as in `MAX_JOBS=1 make setup`.',
}
VERIFY = (
    'import mim, torch.utils.tensorboard, multitask_runtime, multitask_refine, mmcv.ops; '
    'import mmdet.apis, mmpose.evaluation; mmcv.ops.nms(torch.ones(1, 4), torch.ones(1), 0.5)'
)


def say(text: str) -> None:
    """Print a line at once."""
    print(f'[setup] {text}', flush=True)


def run(*command: str, **environ: str) -> None:
    """Run a command with its output in LOG; end it and its children when interrupted."""
    # Unset what would install other packages, or elsewhere; indexes and proxies stay.
    unset = ('TARGET', 'PREFIX', 'ROOT', 'CONSTRAINT', 'REQUIREMENT', 'NO_BINARY', 'ONLY_BINARY')
    environ = {**os.environ, **{f'PIP_{name}': '' for name in unset}, 'PIP_USER': '0', **environ}
    shown, lines = time.monotonic(), []
    with LOG.open('a') as log, subprocess.Popen(
        command, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, errors='replace', start_new_session=True,
    ) as process:  # fmt: skip
        try:
            for line in process.stdout:
                log.write(line)
                lines.append(line)
                step = re.match(r'\s*\[(\d+)/(\d+)\]', line)  # of ninja
                if step and time.monotonic() - shown >= PROGRESS_INTERVAL:
                    shown = time.monotonic()
                    say(f'  {step[1]} of {step[2]} files compiled')
                elif re.match(r'\s*Downloading .*\d\d(\.\d)? [MG]B', line):
                    say(f'  {line.strip()}')
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode:
        text = ''.join(lines).strip()
        print(*(f'  | {line[:300]}' for line in text.splitlines()[-6:]), sep='\n', file=sys.stderr)
        known = [sentence for pattern, sentence in FAILURES.items() if re.search(pattern, text)]
        known.append(f'{" ".join(command)[:200]!r}: fix what its last lines say and run again.')
        sys.exit(f'Set-up failed: {known[0]} The whole log: {LOG}')


def pip(*arguments: str, **environ: str) -> None:
    """Run the environment's pip."""
    run(sys.executable, '-m', 'pip', *arguments, **environ)
    importlib.invalidate_caches()


def installed() -> dict[str, str]:
    """Return the version of every installed package."""
    found = [item for item in distributions() if item.metadata['Name']]
    # Reversed, because the first on sys.path is the one that is imported.
    return {item.metadata['Name'].lower().replace('_', '-'): item.version for item in found[::-1]}


def read_pins() -> dict[str, list[str]]:
    """Read requirements.txt: the lines of each package, with their markers for pip."""
    pins: dict[str, list[str]] = {}
    lines = (ROOT / 'requirements.txt').read_text()
    for line, name in re.findall(r'^(([\w.-]+)==[^#\n]*[^#\s])', lines, re.M):
        pins.setdefault(name.lower().replace('_', '-'), []).append(line)
    return pins


def missing(pins: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return what an environment of the user lacks, or refuse one that does not fit."""
    versions = installed()
    wrong = [name for name in versions if re.fullmatch('mmcv-lite|mmcv-full|onedl-mm.*', name)]
    for name in {'mmcv', 'mmengine', 'mmdet', 'mmpose', 'openmim', 'xtcocotools'} & {*versions}:
        wrong += [name] if f'{name}=={versions[name]}' not in pins[name] else []
    if 'mmcv' in versions and not any('_ext.' in str(file) for file in files('mmcv') or ()):
        wrong.append('mmcv without its ops')
    if re.match(r'1\.|2\.[0-5]\.', versions.get('torch', '')):
        wrong.append('a torch older than 2.6')
    if wrong:
        sys.exit(
            f'Set-up failed: {sys.executable} has {", ".join(wrong)}, which do not fit and stay: '
            'uninstall or update them, or bring another environment, and run again.'
        )
    absent = {name: lines for name, lines in pins.items() if name not in versions}
    if importlib.util.find_spec('cv2'):  # not one OpenCV over another
        absent.pop('opencv-python-headless', None)
    if not 77 <= int(versions.get('setuptools', '0').split('.')[0]) <= 80:
        absent['setuptools'] = pins['setuptools']  # 81 lacks pkg_resources, which mmcv needs
    return absent


def find_nvcc() -> str | None:
    """Return the CUDA compiler, looked for where torch looks for it."""
    path = os.path.expandvars('$CUDA_HOME/bin:$PATH:/usr/local/cuda/bin')
    return shutil.which('nvcc', path=path)


def cuda_target() -> str:
    """Return the CUDA version and GPU architectures to compile for; '' for the CPU only."""
    import torch

    cuda = torch.version.cuda or ''
    release = subprocess.getoutput(f'"{find_nvcc()}" --version') if cuda else ''
    if cuda and f'release {cuda.split(".")[0]}.' not in release:
        say(f'compiling mmcv for the CPU only: no nvcc of CUDA {cuda} was found (see CUDA_HOME)')
        return ''
    devices = map(torch.cuda.get_device_capability, range(torch.cuda.device_count()))
    seen = ';'.join(sorted({f'{major}.{minor}' for major, minor in devices}))
    return cuda and f'{cuda}-sm{os.environ.get("TORCH_CUDA_ARCH_LIST") or seen or "all"}'


def compiled_wheel(name: str, version: str) -> Path:
    """Return the wheel of mmcv or xtcocotools from the cache, compiling it if it is not there."""
    import psutil
    import torch

    cuda = cuda_target() if name == 'mmcv' else ''
    numpy = f'numpy{installed()["numpy"].split(".")[0]}'
    built_for = f'torch{torch.__version__}' if name == 'mmcv' else numpy
    python, libc = sysconfig.get_python_version(), ''.join(platform.libc_ver())
    key = f'{name}-{version}-{built_for}-cp{python}-{platform.machine()}-{libc}'
    folder = CACHE / re.sub(r'[^\w.+-]', '_', f'{key}-cuda{cuda}' if cuda else key)
    if not list(folder.glob('*.whl')):
        jobs = min(len(os.sched_getaffinity(0)), psutil.virtual_memory().available >> 31) or 1
        jobs = os.environ.get('MAX_JOBS') or str(jobs)  # 2 GB of memory for each
        say(f'compiling {name} {version} with MAX_JOBS={jobs} (mmcv: 10 minutes of a core)')
        # No debug symbols: half the time. No GPU: mmcv compiles for CUDA whenever it sees one.
        environ = dict(
            CFLAGS='-g0', MAX_JOBS=jobs, MMCV_WITH_OPS='1', FORCE_CUDA=f'{bool(cuda):d}'
        )
        environ |= {} if cuda else {'CUDA_VISIBLE_DEVICES': ''}
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
            # pip's own cache might hold a wheel built against another torch.
            options = f'-v --no-deps --no-cache-dir --no-build-isolation --no-binary {name} -w'
            pip('wheel', *options.split(), temporary, f'{name}=={version}', **environ)
            for wheel in Path(temporary).glob('*.whl'):
                wheel.replace(folder / wheel.name)
    return next(folder.glob('*.whl'))


def set_up(own: bool) -> None:
    """Make the environment fit, unless it did the last time and nothing changed since."""
    purelib = Path(sysconfig.get_path('purelib'))
    if own:  # another environment may well consist of a PYTHONPATH
        os.environ.pop('PYTHONPATH', None)
        for info in purelib.glob('*.dist-info'):
            if not (info / 'RECORD').exists():  # pip, interrupted: it writes this file last
                shutil.rmtree(info)
    stamp = purelib / 'multitask_refine-setup.json'
    old = json.loads(stamp.read_text()) if stamp.exists() else {}
    sources = (ROOT / 'requirements.txt', ROOT / 'pyproject.toml', Path(__file__))
    digest = hashlib.sha256(b''.join(file.read_bytes() for file in sources)).hexdigest()
    cuda = bool(find_nvcc()) or '-cuda' in str(old)  # CUDA ops stay where there is no nvcc
    new = dict(checkout=str(ROOT), digest=digest, cuda=cuda, packages=installed())
    if old == {**new, 'wheels': old.get('wheels')}:
        return
    LOG.write_text('')
    if not importlib.util.find_spec('pip'):
        run(sys.executable, '-m', 'ensurepip')
    pins = read_pins()
    wanted = pins if own else missing(pins)
    say('installing what is missing')
    now = [wanted[name] for name in sorted({*wanted} - {'torch', *COMPILED})]
    pip('install', '--no-deps', *sum(now, []))
    if not importlib.util.find_spec('torch'):
        pip('install', *pins['torch'])
    wheels, before = {}, old.get('wheels', {})
    for name in COMPILED:
        if name in wanted or name in before:  # else it is the user's own
            wheels[name] = str(compiled_wheel(*pins[name][0].split('==')))
            if name not in installed() or wheels[name] != before.get(name):
                pip('install', '--no-deps', '--force-reinstall', wheels[name])
    if old.get('checkout', str(ROOT)) != str(ROOT):
        say(f'the environment used the checkout {old["checkout"]} and now uses {ROOT}')
    pip('install', '--no-deps', '--no-build-isolation', '-e', '.')
    say('checking that everything works together')
    run(sys.executable, '-W', 'ignore', '-c', VERIFY)
    stamp.write_text(json.dumps({**new, 'packages': installed(), 'wheels': wheels}))


def main(argv: list[str]) -> None:
    """Set up the current environment or `.venv`, which is made if it is not there."""
    own, python = Path(sys.prefix) == VENV, VENV / 'bin/python'
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not (3, 10) <= sys.version_info < (3, 13):
        cure = f'remove {VENV}' if own else 'name another Python'
        sys.exit(f'Set-up failed: Python 3.10, 3.11 or 3.12 is needed: {cure} and run again.')
    try:
        LOG.parent.mkdir(exist_ok=True)
        with LOG.with_suffix('.lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one set-up of a checkout at a time
            if own or '--current' in argv:
                return set_up(own)
            if not python.exists():
                run(sys.executable, '-m', 'venv', '--clear', '--without-pip', str(VENV))
            os.execv(python, [str(python), '-I', __file__])
    except KeyboardInterrupt:
        sys.exit('Set-up interrupted: run again to go on.')
    except (OSError, ImportError) as error:
        sys.exit(f'Set-up failed: {error}: make that possible and run again.')


if __name__ == '__main__':
    main(sys.argv[1:])
