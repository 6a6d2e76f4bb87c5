# 1500 iterations from the pretrained base, at a rate that is usual for AdamW.
_base_ = ['./schedule_1500.py', '../base_checkpoint.py']

optim_wrapper = dict(optimizer=dict(lr=3e-4))
