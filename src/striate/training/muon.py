"""Muon: momentum whose direction is orthogonalised for matrices and kernels, plain for everything else.

K. Jordan, Y. Jin, V. Boza, J. You, F. Cesista, L. Newhouse, J. Bernstein 2024, "Muon: An optimizer for hidden layers in
neural networks". torch's own (`torch.optim.Muon`) takes matrices alone, refuses kernels of four dimensions, and leaves
all other parameters to a second optimiser; this one is a single optimiser with a single state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# A quintic whose repetition drives singular values from (0, 1] to about 1: steep at 0, no exact fixed point needed.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Momentum; the step of parameters in groups with `orthogonal` has singular values of about one.

    A kernel [maps, ...] counts as the matrix [maps, rest]; its step is lr * sqrt(max(1, maps / rest)) times the
    orthogonal matrix nearest to the direction, and its decay is apart from the gradient (p *= 1 - lr * weight_decay).
    All other groups move as by SGD, decay included.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float, nesterov: bool, weight_decay: float = 0.0
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "orthogonal": False,
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, decay = group["lr"], group["weight_decay"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group["orthogonal"]:
                    direction = orthogonalised(self._direction(parameter, parameter.grad, group))
                    parameter.mul_(1 - lr * decay).add_(direction, alpha=-lr)
                else:
                    gradient = parameter.grad.add(parameter, alpha=decay) if decay else parameter.grad
                    parameter.add_(self._direction(parameter, gradient, group), alpha=-lr)
        return loss

    def _direction(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        momentum = group["momentum"]
        if not momentum:
            return gradient
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = gradient.clone()
        else:
            state["momentum_buffer"].mul_(momentum).add_(gradient)
        velocity = state["momentum_buffer"]
        return gradient.add(velocity, alpha=momentum) if group["nesterov"] else velocity


def orthogonalised(direction: Tensor, steps: int = STEPS) -> Tensor:
    """[maps, ...] to the same shape: about the orthogonal matrix nearest to [maps, rest], longer for tall ones.

    Newton and Schulz's iteration in float32; singular values come to lie between about 0.7 and 1.2.
    """
    matrix = direction.flatten(1).float()
    tall = matrix.shape[0] > matrix.shape[1]
    factor = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
    x = matrix.T if tall else matrix
    x = x / (x.norm() + EPSILON)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.T if tall else x
    return x.mul(factor).view(direction.shape).to(direction.dtype)
