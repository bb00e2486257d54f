"""What is measured of the kernels, one plan a row; `python -m bench gpu` and `pytest bench` measure them."""
