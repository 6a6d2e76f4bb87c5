"""Install the pinned stack and the project; `make setup` calls this.

`.venv` in the checkout gets the versions of requirements.txt. In another environment (`--current`:
that of the Python that runs the script) only what is missing is added; everything else stays. mmcv
and xtcocotools have no wheels that fit: they are compiled once per torch or numpy version.
"""

import fcntl
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
from functools import partial
from importlib.metadata import distributions, files
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV, LOG = ROOT / '.venv', ROOT / 'work_dirs/setup.log'
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'multitask_refine'
NVCC_PATH = os.path.expandvars('$CUDA_HOME/bin:$PATH:/usr/local/cuda/bin')  # as torch looks
COMPILED = ('mmcv', 'xtcocotools')
FAILURES = json.loads((ROOT / 'tools/setup_failures.json').read_text())  # advice by output
VERIFY = """import mim, mmdet.apis, mmpose.evaluation, multitask_refine, torch.utils.tensorboard
import mmcv.ops; mmcv.ops.nms(torch.ones(1, 4), torch.ones(1), 0.5)"""
say = partial(print, '[setup]', flush=True)


def run(*arguments: str, **environ: str) -> None:
    """Run this Python with its output in LOG; end it and its children when interrupted."""
    # Unset what would install other packages, or elsewhere; indexes and proxies stay.
    unset = ('TARGET', 'PREFIX', 'ROOT', 'CONSTRAINT', 'REQUIREMENT', 'NO_BINARY', 'ONLY_BINARY')
    environ = {**os.environ, **{f'PIP_{name}': '' for name in unset}, 'PIP_USER': '0', **environ}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environ, start_new_session=True, **pipes)
    output = ''
    with process, LOG.open('a') as log:
        try:
            for line in process.stdout:
                log.write(line)
                output += line
                # Large downloads and every tenth file that ninja compiles
                if found := re.match(r'\s*(Downloading .*\d\d(\.\d)? [MG]B\)|\[\d*0/\d+\])', line):
                    say(' ', found[1])
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode:
        last = output.strip().splitlines()[-6:]
        print(*(f'  | {line[:300]}' for line in last), sep='\n', file=sys.stderr)
        known = [advice for pattern, advice in FAILURES.items() if re.search(pattern, output)]
        known.append(f'{" ".join(command)[:200]!r}: fix what its last lines say and run again.')
        sys.exit(f'Set-up failed: {known[0]} The whole log: {LOG}')
    importlib.invalidate_caches()  # for what pip installed


def installed() -> dict[str, str]:
    """Return the version of every installed package."""
    # Reversed, because the first on sys.path is the one that is imported.
    found = [(str(item.metadata['Name']), item.version) for item in distributions()][::-1]
    return {name.lower().replace('_', '-'): version for name, version in found}


def read_pins() -> dict[str, list[str]]:
    """Read requirements.txt: the lines of each package, with their markers for pip."""
    pins: dict[str, list[str]] = {}
    text = (ROOT / 'requirements.txt').read_text()
    for line, name in re.findall(r'^(([\w.-]+)==[^#\n]*[^#\s])', text, re.M):
        pins.setdefault(name.lower().replace('_', '-'), []).append(line)
    return pins


def missing(pins: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return what an environment of the user lacks, or refuse one that does not fit."""
    versions = installed()
    unfit = r'mmcv-lite|mmcv-full|onedl-mm|torch==(1|2\.[0-5])\.'
    pinned = r'(mmcv|mmengine|mmdet|mmpose|openmim|xtcocotools)=='
    lines = [f'{name}=={version}' for name, version in versions.items()]
    wrong = [line for line in lines if re.match(unfit, line)]
    wrong += [line for line in lines if re.match(pinned, line) and [line] not in pins.values()]
    if 'mmcv' in versions and not any('_ext.' in str(file) for file in files('mmcv') or ()):
        wrong.append('mmcv without its ops')
    if wrong:
        sys.exit(
            f'Set-up failed: {sys.executable} has {", ".join(wrong)}, which do not fit '
            '(torch: 2.6 or later) and stay: uninstall them, or bring another environment.'
        )
    absent = {name: lines for name, lines in pins.items() if name not in versions}
    if importlib.util.find_spec('cv2'):  # not one OpenCV over another
        absent.pop('opencv-python-headless', None)
    if not 77 <= int(versions.get('setuptools', '0').split('.')[0]) <= 80:
        absent['setuptools'] = pins['setuptools']  # 81 lacks pkg_resources, which mmcv needs
    return absent


def cuda_target() -> str:
    """Return the CUDA version and GPU architectures to compile for; '' for the CPU only."""
    import torch

    cuda = torch.version.cuda or ''
    nvcc = subprocess.getoutput(f'PATH="{NVCC_PATH}" nvcc --version')
    if cuda and f'release {cuda.split(".")[0]}.' not in nvcc:
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
    numpy = installed()['numpy'].split('.')[0]
    built_for = f'torch{torch.__version__}' if name == 'mmcv' else f'numpy{numpy}'
    machine = f'{platform.machine()}-{"".join(platform.libc_ver())}'
    key = f'{name}-{version}-{built_for}-cp{sysconfig.get_python_version()}-{machine}'
    folder = CACHE / re.sub(r'[^\w.+-]', '_', f'{key}-cuda{cuda}' if cuda else key)
    if not list(folder.glob('*.whl')):
        most = min(len(os.sched_getaffinity(0)), psutil.virtual_memory().available >> 31)  # 2 GB
        jobs = os.environ.get('MAX_JOBS') or str(most or 1)
        say(f'compiling {name} {version} with MAX_JOBS={jobs} (mmcv: 10 minutes of a core)')
        # No debug symbols: half the time. No GPU: mmcv compiles for CUDA whenever it sees one.
        environ = dict(CFLAGS='-g0', MAX_JOBS=jobs, MMCV_WITH_OPS='1')
        environ |= dict(FORCE_CUDA='1') if cuda else dict(FORCE_CUDA='0', CUDA_VISIBLE_DEVICES='')
        # pip's own cache might hold a wheel built against another torch.
        options = f'-v --no-deps --no-cache-dir --no-build-isolation --no-binary {name} -w'
        run('-m', 'pip', 'wheel', *options.split(), str(folder), f'{name}=={version}', **environ)
    return next(folder.glob('*.whl'))


def set_up(own: bool) -> None:
    """Make the environment fit, unless it did the last time and nothing changed since."""
    purelib = Path(sysconfig.get_path('purelib'))
    for info in purelib.glob('*.dist-info') if own else ():
        if not (info / 'RECORD').exists():  # pip, interrupted: it writes this file last
            shutil.rmtree(info)
    stamp = purelib / 'multitask_refine-setup.json'
    old = json.loads(stamp.read_text()) if stamp.exists() else {}
    cuda = bool(shutil.which('nvcc', path=NVCC_PATH)) or old.get('cuda', False)  # ops stay
    inputs = [(ROOT / name).read_text() for name in ('requirements.txt', 'pyproject.toml')]
    new = dict(checkout=str(ROOT), inputs=inputs, cuda=cuda)
    if old == {**new, 'packages': installed(), 'wheels': old.get('wheels')}:
        return
    LOG.write_text('')
    pins = read_pins()
    wanted = pins if own else missing(pins)
    say('installing what is missing')
    ready = [wanted[name] for name in wanted if name not in ('torch', *COMPILED)]
    run('-m', 'pip', 'install', '--no-deps', *sum(ready, []))
    if not importlib.util.find_spec('torch'):
        run('-m', 'pip', 'install', *pins['torch'])
    wheels, before = {}, old.get('wheels', {})
    for name in COMPILED:
        if name in wanted or name in before:  # else it is the user's own
            wheels[name] = str(compiled_wheel(*pins[name][0].split('==')))
            if name not in installed() or wheels[name] != before.get(name):
                run('-m', 'pip', 'install', '--no-deps', '--force-reinstall', wheels[name])
    run('-m', 'pip', 'install', '--no-deps', '--no-build-isolation', '-e', '.')
    say('checking that everything works together')
    run('-W', 'ignore', '-c', VERIFY)
    stamp.write_text(json.dumps({**new, 'packages': installed(), 'wheels': wheels}))


def main(argv: list[str]) -> None:
    """Set up the current environment or `.venv`, which is made if it is not there."""
    own, python = Path(sys.prefix) == VENV, str(VENV / 'bin/python')
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not (3, 10) <= sys.version_info < (3, 13):
        advice = f'remove {VENV}' if own else 'name another Python'
        sys.exit(f'Set-up failed: Python 3.10, 3.11 or 3.12 is needed: {advice} and run again.')
    try:
        LOG.parent.mkdir(exist_ok=True)
        with LOG.with_suffix('.lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one set-up of a checkout at a time
            if own or '--current' in argv:
                return set_up(own)
            if not (VENV / 'bin/pip').exists():
                run('-m', 'venv', '--clear', str(VENV))
            os.environ.pop('PYTHONPATH', None)  # another environment may well consist of one
            os.execv(python, [python, '-I', __file__])
    except KeyboardInterrupt:
        sys.exit('Set-up interrupted: run again to go on.')
    except (OSError, ImportError) as error:
        sys.exit(f'Set-up failed: {error}: make that possible and run again.')


if __name__ == '__main__':
    main(sys.argv[1:])
