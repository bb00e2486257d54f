"""Benchmarks: `python -m bench gpu | compare | static`, and the pytest-benchmark suites beside this file."""
