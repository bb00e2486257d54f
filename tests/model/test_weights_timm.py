"""Files under timm's names: what belongs to a ViT, what may be left out, and how inputs were normalised."""

import pytest
import timm
import torch

import pat
from pat.base.errors import UserError
from pat.model import ModelConfig, PartAwareTransformer, weights

HALF = (0.5, 0.5, 0.5)
IMAGENET = (0.485, 0.456, 0.406)
UNTOLD = "the file does not say: DeiT, DINO, DINOv2, MAE and BEiT-like weights want imagenet"


@pytest.fixture(scope="module")
def vit():
    return timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64, num_classes=0).state_dict()


def test_dinov2_as_published_keeps_cls_position_and_registers(tmp_path):
    torch.manual_seed(0)
    vit = timm.create_model("vit_small_patch14_reg4_dinov2", depth=2, img_size=(56, 56), num_classes=0).eval()
    state = vit.state_dict()
    cls_position = 0.02 * torch.randn(1, 1, 384)
    published = {key: value for key, value in state.items() if key != "reg_token"}
    published["register_tokens"] = state["reg_token"]
    published["mask_token"] = torch.zeros(1, 384)
    published["cls_token"] = state["cls_token"] - cls_position
    published["pos_embed"] = torch.cat([cls_position, state["pos_embed"]], dim=1)
    torch.save(published, tmp_path / "dinov2.pth")
    report = weights.import_weights(tmp_path / "dinov2.pth", tmp_path / "ours.safetensors")
    model = pat.load(tmp_path / "ours.safetensors")
    images = torch.rand(1, 3, 56, 56)
    expected = vit.forward_features((images - model.mean) / model.std)[:, 0]
    torch.testing.assert_close(model(images).global_feature, expected, atol=1e-4, rtol=1e-4)
    assert any("mask_token" in line for line in report)


@pytest.mark.parametrize(("asked", "mean"), [("auto", HALF), ("half", HALF), ("imagenet", IMAGENET)])
def test_normalisation_that_the_file_does_not_tell(vit, imported, asked, mean):
    model, report = imported(vit, normalisation=asked)
    assert model.config.mean == mean
    torch.testing.assert_close(model.mean.flatten(), torch.tensor(mean))
    assert (f"input: mean 0.5 0.5 0.5, std 0.5 0.5 0.5 taken; {UNTOLD}" in report) is (asked == "auto")
    assert (f"normalisation: {asked}, as asked for" in report) is (asked != "auto")


def test_normalisation_supposed_of_upright_images_and_told_by_others(vit, imported):
    upright = {**vit, "pos_embed": torch.zeros(1, 9, 192)}
    model, report = imported(upright)
    assert model.config.mean == IMAGENET
    assert UNTOLD in report
    for told in ({f"base.{key}": value for key, value in upright.items()}, {"teacher": vit}):
        assert UNTOLD not in imported(told)[1]
    assert imported({"teacher": vit}, normalisation="half")[0].config.mean == HALF


def test_training_says_which_normalisation_it_has_where_the_file_does_not_tell(vit, tmp_path):
    torch.save(vit, tmp_path / "vit.pth")
    model = PartAwareTransformer(ModelConfig("vit_tiny_patch16_224", (64, 32), depth=1))
    report = "\n".join(weights.initialise(model, str(tmp_path / "vit.pth")))
    assert f"input: mean 0.5 0.5 0.5, std 0.5 0.5 0.5 here; {UNTOLD}" in report
    assert "--model.mean" in report


BESIDE = [
    "head.weight", "head.fc.weight", "fc.bias", "fc_norm.weight", "pre_logits.fc.weight", "mask_token",
    "masked_embed", "decoder_embed.weight", "decoder_pos_embed", "decoder_blocks.0.norm1.weight",
    "head.mlp.0.weight", "head.last_layer2.weight_v", "linear_head.weight", "classifier.weight", "bottleneck.bias",
]  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_known_heads_and_decoders_are_left_out(vit, imported, prefix):
    named = {prefix + key: value for key, value in (vit | dict.fromkeys(BESIDE, torch.zeros(3))).items()}
    _, report = imported(
        named | {"dino_head.mlp.0.weight": torch.zeros(3), "ibot_head.mlp.0.bias": torch.zeros(3)}
    )
    assert "(the head of the self-supervised training)" in report
    assert "(for images with hidden patches, in the self-supervised training)" in report
    assert "(a head for classes" in report


@pytest.mark.parametrize("key", ["adapter.down.weight", "lora.0.A", "head_dist.weight", "gem.p", "normal.weight"])
@pytest.mark.parametrize("prefix", ["", "backbone.", "base."])
def test_unknown_keys_beside_the_backbone_are_refused(vit, imported, key, prefix):
    for odd in {key, prefix + key}:
        with pytest.raises(UserError, match=f"keys that do not fit: {odd}$"):
            imported({prefix + name: value for name, value in vit.items()} | {odd: torch.zeros(1)})


def test_keys_inside_the_backbone_that_do_not_fit_are_refused(vit, imported):
    with pytest.raises(UserError, match=r"unexpected: blocks\.0\.adapter\.down\.weight"):
        imported(vit | {"blocks.0.adapter.down.weight": torch.zeros(1)})


def test_a_neck_and_classifier_behind_a_projection_of_transreid_are_left_out(vit, imported):
    tuned = {f"base.{key}": value for key, value in vit.items()} | {"fcneck.weight": torch.ones(192, 192)}
    tuned |= {f"bottleneck.{name}": torch.rand(192) for name in ("weight", "bias", "running_mean", "running_var")}
    model, report = imported(tuned | {"classifier.weight": torch.rand(5, 192)})
    assert model.classifier is None
    assert model.bottleneck.running_mean.count_nonzero() == 0
    assert "classifier.weight" in report
    assert "(they stand on the cls token after a projection, fcneck)" in report


@pytest.mark.parametrize("positions", [25, 24], ids=["with cls", "patches alone"])
def test_positions_that_may_be_those_of_a_square_need_the_size(imported, vit, positions):
    """25 are those of cls and 6 x 4 patches, or of 5 x 5 alone, as FlexiViT has them."""
    torch.manual_seed(0)
    state = {**vit, "pos_embed": torch.randn(1, positions, 192)}
    if positions == 25:
        with pytest.raises(UserError, match="25 position embeddings, of 5 x 5 patches alone or of cls and 24"):
            imported(state)
        square, _ = imported(state, image_size=(80, 80))
        assert square.pos_embed[:, 0].count_nonzero() == 0
    model, _ = imported(state, image_size=(96, 64))
    torch.testing.assert_close(model.pos_embed[:, 1:], state["pos_embed"][:, -24:])


def test_training_at_the_files_own_size_tells_what_its_positions_are(vit, tmp_path):
    torch.manual_seed(0)
    torch.save({**vit, "pos_embed": torch.randn(1, 25, 192)}, tmp_path / "vit.pth")
    model = PartAwareTransformer(ModelConfig("vit_tiny_patch16_224", (96, 64), depth=1))
    report = "\n".join(weights.initialise(model, str(tmp_path / "vit.pth")))
    assert "resized" not in report
    expected = torch.load(tmp_path / "vit.pth")["pos_embed"]
    torch.testing.assert_close(model.pos_embed[:, 1 + model.parts :], expected[:, 1:])
