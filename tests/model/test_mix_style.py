"""MixStyle: statistics by hand, and what it leaves alone."""

import torch

from pat.model.mix_style import Style, draw_style, mix_style


def test_half_of_two_styles_by_hand():
    patches = torch.tensor([[[0.0], [2.0]], [[10.0], [14.0]]])  # means 1, 12; deviations sqrt 2, sqrt 8
    mixed = mix_style(patches, Style(torch.tensor([1, 0]), torch.tensor([0.5, 1.0])))
    mean, deviation = 6.5, (2**0.5 + 8**0.5) / 2
    expected = torch.tensor([[[mean - deviation / 2**0.5], [mean + deviation / 2**0.5]], [[10.0], [14.0]]])
    torch.testing.assert_close(mixed, expected, atol=1e-4, rtol=1e-5)


def test_all_of_a_partners_style_leaves_the_content():
    torch.manual_seed(0)
    patches = torch.randn(3, 8, 4, dtype=torch.float64).float()
    style = Style(torch.tensor([1, 2, 0]), torch.zeros(3))
    mixed = mix_style(patches, style)
    torch.testing.assert_close(mixed.mean(1), patches.mean(1)[style.partners], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mixed.std(1), patches.std(1)[style.partners], atol=1e-5, rtol=1e-4)
    own, other = (each - each.mean(1, keepdim=True) for each in (patches, mixed))
    torch.testing.assert_close(own / patches.std(1, keepdim=True), other / mixed.std(1, keepdim=True))


def test_statistics_carry_no_gradient():
    torch.manual_seed(0)
    patches = torch.randn(2, 5, 3, requires_grad=True)
    style = Style(torch.tensor([1, 0]), torch.tensor([0.3, 0.7]))
    mix_style(patches, style).sum().backward()
    deviation = (patches.detach().var(1) + 1e-6).sqrt()
    kept = style.kept[:, None]
    scale = (kept * deviation + (1 - kept) * deviation[style.partners]) / deviation
    torch.testing.assert_close(patches.grad, scale[:, None].expand_as(patches))


def test_draws_are_a_partner_each_and_shares_near_the_ends():
    generator = torch.Generator().manual_seed(5)
    drawn = [draw_style(64, 0.5, generator) for _ in range(200)]
    used = [style for style in drawn if style is not None]
    assert 70 < len(used) < 130
    assert all(sorted(style.partners.tolist()) == list(range(64)) for style in used)
    kept = torch.cat([style.kept for style in used])
    assert 0.45 < kept.mean() < 0.55
    assert ((kept < 0.1) | (kept > 0.9)).float().mean() > 0.7  # Beta(0.1, 0.1)
    assert draw_style(4, 0.0, generator) is None
