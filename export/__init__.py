"""From a trained model to what a camera runs: ONNX bundle, lower precisions, TensorRT engine, comparison.

Nothing is imported here: `export.to_onnx` and `export.trace` need PyTorch, everything else runs without it.
"""
