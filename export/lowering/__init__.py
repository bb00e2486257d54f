"""From an fp32 graph to a lower precision: casts, Q/DQ nodes, their ranges, and which layers stay as they are."""
