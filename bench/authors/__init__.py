"""What the paper's authors compute, the way their release computes it: the other side of the comparison.

Written from the description of the method and of that release's known defects, not from its code. The results
are the same as ours (the benchmarks check it); what differs is the way:

- `memory`: Python lists of vectors, found by the picture's path, copied as a whole in each step; distances to the
  whole bank are sorted completely to find the K nearest, and autograd runs through them;
- `network`: attention is a chain of eager operations, with scores, mask and probabilities as [B, H, N, N] in
  memory;
- `pictures`: worker processes decode, resize and augment each picture each time it is seen;
- `step`: the training step made of these.
"""
