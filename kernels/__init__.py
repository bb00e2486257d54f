"""Operators for the exact work of PAT, each as `api` (validation), `reference` (plain torch) and `triton` (GPU).

Nothing is imported here: `import kernels.<operator>` loads torch, and Triton only where `impl="triton"` is
asked for.
"""
