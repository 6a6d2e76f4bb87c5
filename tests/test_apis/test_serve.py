"""A checkpoint on the server: predictions of the inferencer and pictures of its offsets."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from multitask_refine.apis.serve import load_served_model
from multitask_runtime.serve import create_app

pytestmark = pytest.mark.slow


def test_checkpoint_predicts_and_draws_its_offsets(network, inferencer, photos):
    model = load_served_model(network.config, network.checkpoint, 'cpu')
    with TestClient(create_app([model], batch_size=2)) as client:
        info = client.get('/v1/models').json()['models'][0]
        assert info['name'] == 'tiny' and info['offsets'] is None
        assert info['keypoint_names'][:2] == ['nose', 'left_eye']
        files = [('files', Path(path).read_bytes()) for path in photos]
        images = client.post('/v1/predict', files=files, data=dict(score_thr=0)).json()['images']
        for image, result in zip(images, inferencer(photos), strict=True):
            boxes = [each['bbox'] for each in image['instances']]
            np.testing.assert_allclose(boxes, result.boxes, rtol=1e-4, atol=1e-3)

        def draw(**fields):
            files = dict(file=Path(photos[0]).read_bytes())
            return client.post('/v1/offsets', files=files, data=fields)

        response = draw(instance=1, keypoint='left_wrist')
        assert response.headers['content-type'] == 'image/png'
        picture = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)
        # Two rows of panels; sampling points are red, the arrows of the heatmap cyan.
        assert picture.shape[0] > 1000 and picture.shape[1] > 1500
        for color in ((0x2A, 0x2A, 0xFF), (0xFF, 0xE5, 0x00)):
            assert (abs(picture.astype(int) - color).max(-1) < 10).sum() > 100
        for fields, sentence in (
            (dict(keypoint='tail'), 'keypoint: expected one of nose'),
            (dict(instance=99), 'instance: expected 1 to'),
        ):
            refused = draw(**fields)
            assert refused.status_code == 422
            assert refused.json()['detail'].startswith(sentence)
