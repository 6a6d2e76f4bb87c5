"""The class of a processor from the machine record of a results file."""

import pytest

from tools.docs.processors import processor_class


@pytest.mark.parametrize(
    'machine, expected',
    [
        (dict(device='CPU, 2 cores, 2 threads'), 'not recorded'),
        (dict(device='CPU (AMD EPYC, AVX2), 2 cores, 2 threads'), 'AVX2'),
        (dict(device='CPU (Intel(R) Xeon(R) CPU, AVX512), 2 cores'), 'AVX-512'),
        (dict(device='CPU (AVX2), 2 cores'), 'AVX2'),  # a processor without a name
        (dict(device='CPU (AMD EPYC), 2 cores'), 'not recorded'),
        (dict(device='CPU (Xeon, AVX2, AVX-512, VNNI), 2 cores'), 'AVX-512 (VNNI)'),
        (
            dict(device='CPU (Xeon, x), 2 cores', instructions=['AVX2', 'AVX-512', 'bfloat16']),
            'AVX-512 (bfloat16)',
        ),
        (dict(device='CPU (Xeon, AVX2), 2 cores', instructions=[]), 'not recorded'),
        (
            dict(device='CPU (Neoverse, x), 2 cores', instructions=['bfloat16', 'NEON']),
            'NEON (bfloat16)',
        ),
        (dict(device='NVIDIA H100'), 'NVIDIA H100'),
    ],
)
def test_class_of_old_and_new_records(machine, expected):
    assert processor_class(machine) == expected
