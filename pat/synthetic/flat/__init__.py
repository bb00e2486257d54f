"""Synthetic people seen by synthetic street cameras, written in Market-1501 layout.

An identity is a combination of parts (top, bottom, shoes, bag, hat, hair, skin, build) that other identities
also wear, so that people look alike locally and differ as a whole. A domain is a set of cameras, places and
a wardrobe.
"""

from pat.synthetic.flat.domains import DomainStyle, style_named
from pat.synthetic.flat.generate import Summary, generate

__all__ = ["DomainStyle", "Summary", "generate", "style_named"]
