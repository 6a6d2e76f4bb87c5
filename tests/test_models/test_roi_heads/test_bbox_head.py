"""Box head with a classifier of many classes."""

import pytest
import torch

from multitask_refine.models import PersonBBoxHead


def test_score_is_the_softmax_over_all_classes():
    """Logits log 1, log 2, log 3, log 4 of the person, two other classes and the background."""
    head = PersonBBoxHead(num_other_classes=2, num_classes=1, in_channels=1, fc_out_channels=1)
    with torch.no_grad():
        head.fc_cls.weight.zero_()
        head.fc_cls.bias.copy_(torch.arange(1.0, 5.0).log())
    logits, deltas = head(torch.zeros(5, 1, 7, 7))
    assert logits.shape == (5, 2) and deltas.shape == (5, 4)
    torch.testing.assert_close(logits.softmax(1)[0], torch.tensor([0.1, 0.9]))


def test_other_num_classes_is_rejected():
    with pytest.raises(ValueError, match='expected 1, the person, found 80'):
        PersonBBoxHead(num_other_classes=79, num_classes=80)
