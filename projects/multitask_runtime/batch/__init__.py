"""Prediction over large datasets: resumable, in this process or on a Ray cluster."""

from .dataset import predict_dataset
from .engines import predict_here, predict_on_ray

__all__ = ['predict_dataset', 'predict_here', 'predict_on_ray']
