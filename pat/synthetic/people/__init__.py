"""People who do not exist, in three dimensions: bodies, clothes, poses and a renderer in numpy and numba."""

from importlib.util import find_spec

from pat.base.errors import UserError

if find_spec("numba") is None:
    raise UserError("people in 3D need numba: pip install 'pat-reid[people]'")
