"""The shapes of grown-up bodies, from bodies.npz (made by tools/make_bodies.py; licences: BODIES-LICENCE.md)."""

from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Bodies:
    """One topology for every body. Metres, z up, soles at z = 0, the face looks along -y, the left side is +x."""

    tables: dict[str, NDArray]

    @cached_property
    def bones(self) -> list[str]:
        return [str(name) for name in self.tables["bones"]]

    def shape(self, phenotypes: dict[str, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rest vertices f64 [V, 3] and joints f64 [J, 3]; a phenotype that is not given is in the middle.

        Raises KeyError for an unknown phenotype, ValueError for one outside the sampled range.
        """
        names = [str(name) for name in self.tables["phenotypes"]]
        low, high = self.tables["ranges"].astype(np.float64).T
        values = dict(zip(names, (low + high) / 2, strict=True)) | {"african": 1 / 3, "asian": 1 / 3}
        if unknown := set(phenotypes) - set(names):
            raise KeyError(f"no phenotype {sorted(unknown)[0]!r}; there are {', '.join(names)}")
        point = np.array([{**values, **phenotypes}[name] for name in names])
        if (point < low - 1e-6).any() or (point > high + 1e-6).any():
            raise ValueError(f"phenotypes outside {dict(zip(names, self.tables['ranges'].tolist(), strict=True))}")
        x = [1.0, *((point - low) / (high - low) * 2 - 1)]
        terms = np.array([x[a] * x[b] * x[c] for a, b, c in combinations_with_replacement(range(len(x)), 3)])
        components = self.tables["components"].astype(np.float64)
        points = (self.tables["mean"] + (terms @ self.tables["scores"]) @ components).reshape(-1, 3)
        return points[: len(self.tables["template"])], points[len(self.tables["template"]) :]


@cache
def bodies() -> Bodies:
    with (files("pat.synthetic.people") / "bodies.npz").open("rb") as file, np.load(file) as stored:
        return Bodies({name: stored[name] for name in stored.files})
