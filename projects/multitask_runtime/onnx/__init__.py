"""Run exported models with onnxruntime."""
