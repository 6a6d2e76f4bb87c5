"""Hypothesis strategies that mutate files, as bytes or as JSON."""

import copy
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st

ODD = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            False,
            0,
            -1,
            1,
            2,
            3,
            10**9,
            2**31,
            2**63,
            -(2**64),
            10**400,
            0.5,
            -0.0,
            1e-320,
            1e308,
            float('nan'),
            float('inf'),
            -float('inf'),
            '',
            'x',
            '1',
            'nan',
            '..',
            '../x',
            '/',
            'a\0b',
            '\ud800',
            [],
            {},
            [[]],
            [None],
            [{}],
            {'': None},
            [0] * 100,
        ]
    ),
    st.integers(-100, 100),
    st.floats(-100, 100),
    st.text(max_size=3),
)


def portion(share: float) -> int:
    """Return a fraction of the number of examples of the profile, for slow properties."""
    return max(5, int(settings.default.max_examples * share))


@st.composite
def mutated_json(draw: Callable, content: object) -> object:
    """Replace, remove, duplicate or add up to four nodes of a copy."""
    content = [copy.deepcopy(content)]
    for _ in range(draw(st.integers(1, 4))):
        _mutate(draw, content)
    return content[0] if content else None


def _mutate(draw: Callable, owner: object) -> None:
    """Descend to a random container and change it."""
    while True:
        keys = list(owner) if isinstance(owner, dict) else range(len(owner))
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        inner = owner[key]
        if not isinstance(inner, (dict, list)) or not draw(st.integers(0, 4)):
            break
        owner = inner
    action = draw(st.sampled_from(['replace', 'replace', 'remove', 'add']))
    if action == 'replace':
        owner[key] = copy.deepcopy(draw(ODD))
    elif action == 'remove':
        del owner[key]
    elif isinstance(owner, dict):
        owner[draw(st.text(max_size=3))] = copy.deepcopy(draw(ODD))
    else:
        owner.insert(key, copy.deepcopy(draw(st.one_of(ODD, st.just(owner[key])))))


@st.composite
def mutated_bytes(draw: Callable, content: bytes, pieces: tuple = (b'',)) -> bytes:
    """Overwrite, cut or fill up to six positions of a copy.

    Args:
        content: A valid file.
        pieces: Bytes to insert, besides random ones.
    """
    content = bytearray(content)
    some = st.one_of(st.sampled_from(pieces), st.binary(max_size=4))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 1, 1, 2, 8, len(content)]))
        content[place : place + length] = draw(some)
    return bytes(content)
