"""Benchmarks: `python -m bench gpu | train | compare | static`, and the pytest-benchmark suites here."""
