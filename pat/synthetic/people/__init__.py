"""People who do not exist, in three dimensions: bodies, clothes, poses and a renderer in numpy and numba."""
