"""Train the PyTorch model of this sample for a few seconds and convert it to a signed int8 bundle.

    python samples/pytorch_model/convert.py -o build/pytorch_model

Works in the output folder: `model.py` is copied there, because `model:digits` is looked for in the current folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import numpy as np

import edgeloop as el
from edgeloop_converters.demo.digits import load_split

SEED = 7


def train(images: np.ndarray, labels: np.ndarray, epochs: int) -> None:
    """Write `digits.pth`. images: uint8 [n, 8, 8]."""
    import torch
    from model import WEIGHTS, DigitsNet

    torch.manual_seed(SEED)
    x = torch.from_numpy(images).float().div(255)[:, None]
    y = torch.from_numpy(labels).long()
    model = DigitsNet()
    steps = epochs * (len(x) // 32)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(x))[: len(x) // 32 * 32].split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    torch.save(model.state_dict(), WEIGHTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/pytorch_model"))
    parser.add_argument("--target", default="rpi4")
    parser.add_argument("--epochs", type=int, default=6)
    args = parser.parse_args()
    missing = [name for name in ("torch", "litert_torch") if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"this sample needs {' and '.join(missing)} -> scripts/setup --torch")
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).parent / "model.py", folder / "model.py")
    os.chdir(folder)
    sys.path.insert(0, str(Path.cwd()))

    split = load_split()
    names = np.array(list("0123456789"))
    np.savez_compressed("calibration.npz", x=split.train_images, y=split.train_labels, label_names=names)
    np.savez_compressed("held_out.npz", x=split.held_out_images, y=split.held_out_labels, label_names=names)
    train(split.train_images, split.train_labels, args.epochs)

    result = el.convert(
        "model:digits",
        target=args.target,
        data="calibration.npz",
        evaluate="held_out.npz",
        goals=el.Goals(max_drop=0.01),
        name="digits-torch",
    )
    if not result.gate.passed:
        raise SystemExit("; ".join(result.gate.reasons))
    bundle = args.output / result.bundle.save("digits-torch.bundle")
    result.write_report(Path.cwd())
    metrics = result.variants[0].quality.metrics
    print(f"{bundle}: float {metrics.float_:.2%}, int8 {metrics.this:.2%}, agreement {metrics.agreement:.2%}")


if __name__ == "__main__":
    main()
