# The small regular network with the keypoint head of Keypoint R-CNN.
_base_ = './multitask-rcnn_r26-w16_fpn-ms_regular.py'

model = dict(
    roi_head=dict(
        keypoint_head=dict(
            type='KeypointSoftmaxHead',
            refine=False,
            codec=dict(_delete_=True, type='RoISoftmaxCodec', heatmap_size=28),
            loss_weight=0.3,
        )
    )
)
