"""Building and inspecting TensorRT engines, without PyTorch: what `build_trt.py` is made of."""
