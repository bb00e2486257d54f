"""One bundle in the forms of other programs: DeepStream, Triton Inference Server, trackers, OpenVINO."""
