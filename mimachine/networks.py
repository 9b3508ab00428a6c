"""Networks: tensors in, tensors out. They know nothing of distributions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Sequential):
    """Multi-layer perceptron, linear in its last layer.

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        hidden: Sizes of the hidden layers, from input to output.
        activation: Makes the non-linearity that follows each hidden layer.

    Shape:
        (..., in_features) to (..., out_features).

    Example:
        >>> MLP(784, 80, hidden=(300,))(torch.zeros(5, 784)).shape
        torch.Size([5, 80])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (300,),
        activation: Callable[[], nn.Module] = nn.Tanh,
    ) -> None:
        sizes = (in_features, *hidden, out_features)
        if min(sizes) < 1:
            raise ValueError(f"MLP: every layer needs a size of 1 or more, got {sizes}")
        layers: list[nn.Module] = []
        for size, following in itertools.pairwise(sizes[:-1]):
            layers += [nn.Linear(size, following), activation()]
        super().__init__(*layers, nn.Linear(sizes[-2], sizes[-1]))

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        result: Tensor = super().forward(input)
        return result
