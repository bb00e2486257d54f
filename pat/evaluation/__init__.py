"""Scoring of an embedder: features, ranking (CMC, mAP, mINP), pictures, and a report in one file."""
