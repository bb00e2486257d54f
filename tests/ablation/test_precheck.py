"""What a study looks at before anything is trained; `pat ablate`'s own tests have the rest."""

import pytest

from pat.ablation.precheck import check_images
from pat.base.errors import UserError
from pat.base.mapping import overlay


def test_a_source_to_search_alone_is_refused(base, market, tmp_path):
    images = (next((market / folder).iterdir()) for folder in ("query", "bounding_box_test"))
    rows = [f"{image},{image.name[:4]},{image.name[5:7]}" for image in images]
    searched = tmp_path / "searched.csv"
    searched.write_text(f"path,identity,camera,split\n{rows[0]},query\n{rows[1]},gallery\n")
    check_images(base, (0,), 0.2)
    both = overlay(base, {"data": {"source": [*base.data.source, str(searched)]}}, "a test")
    with pytest.raises(UserError, match="searched holds no training image"):
        check_images(both, (0,), 0.2)
