"""MNIST the way PyTorch users usually write it: torchvision's data set and transforms, a DataLoader, a plain loop."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from record import Record, options
from torch import nn, optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


class LeNet5(nn.Module):
    """The LeNet-5 of today: dense C3, ReLU, max-pooling; padded so that 28x28 images fit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 1, 28, 28] to log-probabilities [B, 10]."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return F.log_softmax(self.fc3(x), dim=1)


class ExampleNet(nn.Module):
    """The wider net of PyTorch's own MNIST example: 32 and 64 filters of 3x3, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(64 * 12 * 12, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 1, 28, 28] to log-probabilities [B, 10]."""
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return F.log_softmax(self.fc2(self.dropout2(x)), dim=1)


def train(model: nn.Module, loader: DataLoader, optimizer: optim.Optimizer, device: torch.device) -> None:
    model.train()
    for images, targets in loader:
        images, targets = images.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = F.nll_loss(model(images), targets)
        loss.backward()
        optimizer.step()


def test(model: nn.Module, loader: DataLoader, device: torch.device) -> float:
    model.eval()
    correct = seen = 0
    with torch.no_grad():
        for images, targets in loader:
            images, targets = images.to(device), targets.to(device)
            correct += int((model(images).argmax(dim=1) == targets).sum())
            seen += len(targets)
    return correct / seen


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--net", choices=("lenet5", "example"), default="lenet5")
    parser.add_argument("--optimizer", choices=("adadelta", "adam"), default="adadelta", help="the example's: adadelta")
    parser.add_argument("--workers", type=int, default=0, help="loader processes; the example has none without a GPU")
    args = parser.parse_args()
    record = Record(args.target, args.max_epochs)
    record.mark("import")

    torch.manual_seed(args.seed)
    device = torch.device("cpu")
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train_set = datasets.MNIST(args.data, train=True, transform=transform)
    test_set = datasets.MNIST(args.data, train=False, transform=transform)
    if args.limit:
        train_set, test_set = Subset(train_set, range(args.limit)), Subset(test_set, range(args.limit))
    workers = {"num_workers": args.workers, "persistent_workers": True} if args.workers else {}
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True, **workers)
    test_loader = DataLoader(test_set, batch_size=1000, **workers)
    model = (LeNet5() if args.net == "lenet5" else ExampleNet()).to(device)
    if args.optimizer == "adadelta":
        optimizer = optim.Adadelta(model.parameters(), lr=1.0)
    else:
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.7)
    record.mark("load")

    done = False
    while not done:
        train(model, train_loader, optimizer, device)
        done = record.epoch(test(model, test_loader, device))
        scheduler.step()
    record.finish()


if __name__ == "__main__":
    main()
