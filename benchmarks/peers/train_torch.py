"""Training steps as PyTorch users usually write them: torchvision's network, SGD, a plain loop; one mode a process."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from train_networks import network
from train_timing import finish, measure, options


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--bf16", action="store_true", help="autocast")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = network(args.network)
    images = torch.randn(args.batch_size, 3, args.side, args.side)
    targets = torch.randint(10, (args.batch_size,))
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    model.train()
    forward = torch.compile(model) if args.compile else model

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = F.cross_entropy(forward(images), targets)
        loss.backward()
        optimizer.step()
        loss.item()

    record = measure(step, args)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    finish({**record, "parameters": parameters, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
