"""Convert both networks of `train.py` to int8, measure what asking the light one first trades, and pack one bundle.

python samples/smart_camera/convert.py -o build/smart_camera
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import edgeloop as el
from edgeloop.bundle import claim_version, load_or_create_signing_key, write_bundle
from edgeloop.bundle.packer import pack
from edgeloop.contract import load_contract
from edgeloop.targets import load_target
from edgeloop_converters.cascades import cascade_lines
from edgeloop_converters.data import open_data
from edgeloop_converters.measured_draft import with_measurements

NAME = "smart_camera"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/smart_camera"))
    parser.add_argument("--target", default="rpi4")
    args = parser.parse_args()
    folder: Path = args.output
    contract = Path(__file__).with_name("contract.toml")

    models = {}
    for name in ("heavy", "light"):  # the first one is meant for the board
        result = el.convert(
            folder / f"{name}.keras", target=args.target, data=folder / "calibration.npz",
            evaluate=folder / "test.npz", contract=contract, goals=el.Goals(max_drop=0.02), name=f"{NAME}_{name}",
        )  # fmt: skip
        if not result.gate.passed:
            raise SystemExit(f"{name}: " + "; ".join(result.gate.reasons))
        models[name] = folder / f"{name}.tflite"
        models[name].write_bytes(result.variants[0].model)
        result.write_report(folder / f"report-{name}")
        metrics = result.variants[0].quality.metrics
        print(f"{models[name]}: float {metrics.float_:.2%}, int8 {metrics.this:.2%}")

    samples = open_data(str(folder / "calibration.npz"))
    frames = (samples.sample(i) for i in range(32))
    packed = pack(NAME, 1, load_target(args.target), load_contract(contract), models, frames)
    draft = with_measurements(packed.draft, str(folder / "test.npz"))
    path = folder / f"{NAME}.bundle"
    write_bundle(path, replace(draft, version=claim_version(NAME, None)), load_or_create_signing_key())
    print(f"{path}:")
    print("\n".join(cascade_lines(draft.report["cascade"])))


if __name__ == "__main__":
    main()
