"""Teachers: what a batch's logits are according to somebody who does not learn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgeprune.data.batches import Batch, Batches
from edgeprune.progress import Tick

# batch -> logits (b, C), float32, without a gradient
Teacher = Callable[[Batch], Tensor]


def live(network: nn.Module) -> Teacher:
    """A teacher that runs `network` on each batch, always in `eval()`: its batch-norm statistics stand still."""

    def teach(batch: Batch) -> Tensor:
        network.eval()  # each time: whoever else holds the network may have changed its mode
        with torch.no_grad():
            logits: Tensor = network(batch.images)
        return logits.float()

    return teach


def cached(logits: Tensor) -> Teacher:
    """A teacher that looks its logits (2, n, C) up by [mirrored, index]; see `answers`.

    It is the live one as long as mirror images are all that augmentation makes.
    """
    kept = {logits.device: logits}

    def teach(batch: Batch) -> Tensor:
        device = batch.indices.device
        if device not in kept:
            kept[device] = logits.to(device)  # once, not at every step
        return kept[device][batch.mirrored.long(), batch.indices]

    return teach


def answers(network: nn.Module, batches: Batches, on_step: Tick | None = None) -> Tensor:
    """The logits of `network` in `eval()` on all images of a split and on their mirror images: (2, n, C), float32.

    `batches` give the images in order, without a seed. What lies between the indices they cover is not a number.
    """
    network.eval()
    indices, plain, mirrored = list[Tensor](), list[Tensor](), list[Tensor]()
    with torch.no_grad():
        for step, batch in enumerate(batches.epoch(0), start=1):
            indices.append(batch.indices)
            plain.append(network(batch.images).float())
            mirrored.append(network(batch.images.flip(3)).float())
            if on_step is not None:
                on_step(step, len(batches), "the teacher's answers")
    places, logits = torch.cat(indices), torch.stack([torch.cat(plain), torch.cat(mirrored)])
    answered = logits.new_full((2, int(places.max()) + 1, logits.shape[2]), torch.nan)
    answered[:, places] = logits
    return answered
