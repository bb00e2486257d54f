"""Many sites on one Qdrant server or cluster: each sends what its gallery holds, and asks for people
it has not seen.

A site's own gallery stays the truth for its cameras, and needs nobody: the cluster may be away for days.
"""
