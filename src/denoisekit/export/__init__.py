"""A network for other programs: ONNX and TorchScript."""
