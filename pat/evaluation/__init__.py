"""Scoring of an embedder: features, ranking (CMC, mAP, mINP), images, and a report in one file."""
