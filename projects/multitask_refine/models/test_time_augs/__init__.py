from .multitask_tta import MultitaskTTAModel, mirrored_pipeline

__all__ = ['MultitaskTTAModel', 'mirrored_pipeline']
