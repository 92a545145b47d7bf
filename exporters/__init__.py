"""Write and verify ONNX, and open what was written."""
