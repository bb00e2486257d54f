"""The floor under every package but `kernels`: errors, whole files, settings from files, command lines, progress.

Standard library and numpy alone, Python 3.10 or newer: cameras and `export/build_trt.py` stand on it too.
"""
