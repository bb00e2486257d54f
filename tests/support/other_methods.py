"""Methods of others beside PAT, all at once, as changes of the configuration."""

OTHERS = {
    "loss__camera": 0.1, "loss__alignment": 1.5, "loss__uniformity": 1.0, "loss__domain_uniformity": 1.0,
    "augment__mix_style": 0.5, "augment__erasing": 0.5, "sampling": "graph", "model__neck": "renorm",
    "loss__bank_queue": 12,
}  # fmt: skip
