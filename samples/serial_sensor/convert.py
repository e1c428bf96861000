"""Convert the network of `train.py` to a signed int8 bundle through the Python API.

python samples/serial_sensor/convert.py -o build/serial_sensor
"""

from __future__ import annotations

import argparse
from pathlib import Path

import edgeloop as el


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/serial_sensor"))
    parser.add_argument("--target", default="rpi-zero2w")
    args = parser.parse_args()
    folder: Path = args.output

    result = el.convert(
        folder / "motor.keras",
        target=args.target,
        data=folder / "calibration.npz",
        evaluate=folder / "held_out.npz",
        contract=Path(__file__).with_name("contract.toml"),
        goals=el.Goals(max_drop=0.01),
    )
    if not result.gate.passed:
        raise SystemExit("; ".join(result.gate.reasons))
    bundle = result.bundle.save(folder / "motor.bundle")
    result.write_report(folder)
    metrics = result.variants[0].quality.metrics
    print(f"{bundle}: float {metrics.float_:.2%}, int8 {metrics.this:.2%}, agreement {metrics.agreement:.2%}")


if __name__ == "__main__":
    main()
