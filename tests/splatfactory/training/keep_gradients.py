"""`splatfactory.train` that writes the gradients of its first step to `$GRADIENTS`."""

import os
import sys

import torch

from splatfactory import train
from splatfactory.training import trainer

gradient_norm = trainer.gradient_norm


def keep(parameters):
    path = os.environ["GRADIENTS"]
    if os.environ.get("RANK", "0") == "0" and not os.path.exists(path):
        present = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        torch.save([gradient.clone() for gradient in present], path)
    return gradient_norm(parameters)


if __name__ == "__main__":
    trainer.gradient_norm = keep
    sys.exit(train.main(sys.argv[1:]))
