"""Checkpoints of others, renamed to ours, their architecture read from shapes. One file for each format."""
