"""Run exported networks by onnxruntime."""
