"""Run exported models with onnxruntime or OpenVINO."""
