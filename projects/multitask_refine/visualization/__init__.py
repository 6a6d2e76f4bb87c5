from .visualizer import MultitaskVisualizer

__all__ = ['MultitaskVisualizer']
