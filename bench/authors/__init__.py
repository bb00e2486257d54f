"""What the paper's authors compute, the way their release computes it: the other side of the comparison.

Written from the description of the method and of that release's known defects, not from its code. The results
are the same as ours (the benchmarks check it); what differs is the way:

- `memory`: Python lists of vectors on the host, found by the image's path; features come to the host one by one,
  and in each step the lists are stacked and moved to the device as a whole; distances to the whole bank are sorted
  completely to find the K nearest, and autograd runs through them; soft targets are counted image by image;
- `network`: attention is a chain of eager operations, with scores and probabilities as [B, H, N, N] in memory and
  a mask [N, N], made on the host from one draw of regions a batch;
- `images`: worker processes decode, resize and augment each image each time it is seen;
- `step`: the training step made of these.
"""
