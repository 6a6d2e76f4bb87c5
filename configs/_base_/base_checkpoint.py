# The pretrained base: the small regular network after long training on drawn
# people. Its model card is checkpoints/README.md.
load_from = 'checkpoints/multitask-rcnn_r26-w24_fpn-ms_regular_sample-1f990483.pth'
