"""The model in the box, made anew from nothing: people, training, bundle, scores, card."""
