"""Augmented images are crops of the padded image, perhaps mirrored; masks move along; normalising is the usual one."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from toolkit.image_augment import augmented, normalised
from toolkit.images import IGNORED

IMAGES = torch.randint(0, 256, (64, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crops(image: np.ndarray, flip: bool) -> dict[bytes, tuple[int, int, bool]]:
    """Every crop of an image [8, 8, …] padded by 4, by its bytes."""
    padded = np.pad(image, ((4, 4), (4, 4)) + ((0, 0),) * (image.ndim - 2))
    found = {}
    for top in range(9):
        for left in range(9):
            crop = padded[top : top + 8, left : left + 8]
            for mirrored in (False, True)[: 1 + flip]:
                found[(crop[:, ::-1] if mirrored else crop).tobytes()] = (top, left, mirrored)
    return found


def as_bytes(images: torch.Tensor) -> np.ndarray:
    """uint8 [batch, height, width, 3] again."""
    return np.rint((images.permute(0, 2, 3, 1).numpy() + 1) * 127.5).astype(np.uint8)


def test_normalised_is_mean_and_deviation_of_one_half() -> None:
    expected = (IMAGES.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    found = normalised(IMAGES)
    assert found.dtype == torch.float32 and found.is_contiguous()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert (as_bytes(found) == IMAGES.numpy()).all()


def test_an_augmented_image_is_one_of_its_crops_and_all_kinds_occur() -> None:
    for flip in (False, True):
        images, labels = augmented(IMAGES, LABELS, seeded(), flip=flip)
        assert images.shape == (64, 3, 8, 8) and images.dtype == torch.float32 and labels is LABELS
        tables = [crops(image, flip) for image in IMAGES.numpy()]
        drawn = [table[image.tobytes()] for table, image in zip(tables, as_bytes(images), strict=True)]
        tops, lefts, mirrored = (set(column) for column in zip(*drawn, strict=True))
        assert tops == lefts == set(range(9))  # 64 draws of 9 places
        assert mirrored == ({False, True} if flip else {False})
        assert len(set(drawn)) > 40  # each image is moved on its own


def test_a_mask_moves_with_its_image() -> None:
    masks = IMAGES[..., 0].long()  # the mask is the red channel: so it has to stay
    images, moved = augmented(IMAGES, masks, seeded(), flip=True)
    red, known = as_bytes(images)[..., 0], moved.numpy() != IGNORED
    assert moved.dtype == torch.int64 and (moved.numpy()[known] == red[known]).all()
    assert (red[~known] == 0).all() and not known.all(), "black comes in, of which nothing is known"
    assert known.sum((1, 2)).min() >= 16 and known.all((1, 2)).any(), "4 of 8 pixels each way at most"


def test_the_generator_decides() -> None:
    first, again, other = (augmented(IMAGES, LABELS, seeded(seed), flip=True)[0] for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    generator = seeded(5)
    augmented(IMAGES, LABELS, generator, flip=True)
    assert not torch.equal(augmented(IMAGES, LABELS, generator, flip=True)[0], first)


def test_what_comes_in_is_black() -> None:
    white = torch.full((64, 8, 8, 3), 255, dtype=torch.uint8)
    images, _ = augmented(white, LABELS, seeded(), flip=False)
    assert set(images.unique().tolist()) == {-1.0, 1.0}
    assert functional.avg_pool2d(images, 8).min() < 0.5
