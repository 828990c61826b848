"""Access to the recorded numbers of the reference implementation."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

TRAINING = Path(__file__).parents[1] / "golden" / "training"


def load(name: str) -> dict[str, Tensor]:
    with np.load(TRAINING / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
