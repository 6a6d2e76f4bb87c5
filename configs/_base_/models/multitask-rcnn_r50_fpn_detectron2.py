# Detectron2's Mask and Keypoint R-CNN with an FPN, number for number.
_base_ = './multitask-rcnn_r50_fpn_regular.py'

# mmdet limits how far a box may grow and shrink, Detectron2 only how far it
# may grow. This setting of mmdet's coder does that; its limit of the center's
# shift (in pixels) is never reached.
bbox_coder = dict(add_ctr_clamp=True, ctr_clamp=1000000)

model = dict(
    rpn_head=dict(type='LogitRankedRPNHead', bbox_coder=bbox_coder),
    roi_head=dict(
        bbox_head=dict(bbox_coder=bbox_coder, loss_bbox=dict(beta=0.5)),
        keypoint_head=dict(
            type='KeypointSoftmaxHead',
            refine=False,
            codec=dict(_delete_=True, type='RoISoftmaxCodec', heatmap_size=56),
            loss_weight=1.0,
        ),
    ),
    train_cfg=dict(
        rpn=dict(assigner=dict(type='ArgmaxIoUAssigner')), rpn_proposal=dict(max_per_img=1500)
    ),
)
