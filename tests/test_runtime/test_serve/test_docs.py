"""docs/web-page.md and the Dockerfile: limits, statuses, commands."""

import re

from multitask_runtime.serve import Limits
from tests.conftest import ROOT

PAGE = (ROOT / 'docs/web-page.md').read_text()
README = (ROOT / 'README.md').read_text()


def test_limits_of_the_page_are_those_of_the_server():
    rows = re.findall(r'^\| `--([\w-]+)` \| ([\d.]+) \| (.+) \|$', PAGE, re.M)
    assert rows == [
        (name.replace('_', '-'), str(field.default), field.description)
        for name, field in Limits.model_fields.items()
    ]


def test_endpoints_and_statuses_of_the_page(client):
    paths = client.get('/openapi.json').json()['paths']
    rows = re.findall(r'^\| `(GET|POST) (\S+)` \|', PAGE, re.M)
    assert sorted(rows) == sorted((verb.upper(), path) for path in paths for verb in paths[path])
    described = set(re.findall(r'^\| (4\d\d|5\d\d) \|', PAGE, re.M))
    assert described == set(paths['/v1/predict']['post']['responses']) - {'200'} | {'403', '500'}


def test_steps_of_the_dockerfile_are_those_of_the_readme():
    section = README.split('## Web page and HTTP API')[1].split('\n## ')[0]
    steps = re.findall(r'^    (.+)$', section, re.M)
    dockerfile = (ROOT / 'Dockerfile').read_text()
    *installs, serve = steps[:3]
    assert re.findall(r'^RUN (.+)$', dockerfile, re.M) == installs
    command = re.findall(r'"([^"]+)"', re.search(r'^CMD (.+)$', dockerfile, re.M)[1])
    # Ports of a container are reached from outside of it.
    assert command == [*serve.split(), '--host', '0.0.0.0']
    # The same file at the place where the container starts.
    folder = re.findall(r'^WORKDIR (.+)$', dockerfile, re.M)[-1]
    assert f'/{command[2]}:{folder}/{command[2]}:ro' in steps[4]
    assert steps[3:] == re.findall(r'^    (docker .+)$', PAGE, re.M)


def test_dockerfile_copies_what_is_there_and_not_ignored():
    copied = [
        name
        for line in re.findall(r'^COPY (.+)$', (ROOT / 'Dockerfile').read_text(), re.M)
        for name in line.split()[:-1]
    ]
    kept = re.findall(r'^!(.+)$', (ROOT / '.dockerignore').read_text(), re.M)
    assert {'projects', 'requirements-serve.txt'} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists()
        assert any((ROOT / name).match(pattern) for pattern in kept), name
    # Each requirements file that another one names is copied, too.
    for name in copied:
        if name.startswith('requirements'):
            named = re.findall(r'^-[rc] (\S+)$', (ROOT / name).read_text(), re.M)
            assert set(named) <= set(copied)
