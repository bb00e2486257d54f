"""From folders on disk to batches on the training device."""
