"""Name and instruction sets of the processor, from /proc/cpuinfo."""

import pytest

from multitask_runtime.utils import processor
from multitask_runtime.utils.processor import describe_processor, read_processor


@pytest.mark.parametrize(
    'text, expected',
    [
        ('model name\t: Old\nflags\t\t: fpu sse4_2 avx\n', ('Old', ())),
        ('model name\t: EPYC\nflags\t\t: fpu avx2 fma\n', ('EPYC', ('AVX2',))),
        (
            # Two processors, the second with flags in another order.
            'model name\t: Xeon 8488C\nflags\t\t: avx2 avx512f avx512_vnni avx512_bf16 amx_tile\n'
            '\nmodel name\t: Xeon 8488C\nflags\t\t: amx_tile avx2\n',
            ('Xeon 8488C', ('AVX2', 'AVX-512', 'VNNI', 'bfloat16', 'AMX')),
        ),
        ('model name\t: Core\nflags\t\t: avx2 avx_vnni\n', ('Core', ('AVX2', 'VNNI'))),
        ('Features\t: fp asimd bf16\n', ('', ('bfloat16', 'NEON'))),
        (None, ('', ())),
    ],
)
def test_instruction_sets(tmp_path, monkeypatch, text, expected):
    monkeypatch.setattr(processor, 'CPUINFO', tmp_path / 'cpuinfo')
    monkeypatch.setattr(processor.platform, 'processor', lambda: '')
    if text is not None:
        (tmp_path / 'cpuinfo').write_text(text)
    assert read_processor() == expected
    name, instructions = expected
    assert describe_processor() == (
        ', '.join([name, *instructions]).strip(', ') or 'an unknown one'
    )
