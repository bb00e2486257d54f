"""The person detector in the box, made anew from nothing: frames, training, scores, manifest, card."""
