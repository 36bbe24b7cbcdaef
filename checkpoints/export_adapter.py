"""Writes the adapter of a training checkpoint in peft's format: python -m checkpoints.export_adapter
runs/NAME/checkpoints/last.ckpt FOLDER
"""

import argparse
from pathlib import Path

from checkpoints.files import read_checkpoint_file
from checkpoints.lora.files import KEY, WEIGHTS, read_adapter, write_adapter
from common.errors import UserError, run_cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "checkpoint", type=Path, help="a .ckpt that lightning_modules.lora_fine_tuning.LoRAFineTuning wrote"
    )
    parser.add_argument("folder", type=Path, help="where adapter_config.json and adapter_model.safetensors go")
    parser.add_argument("--weights", choices=("ema", "raw"), default="ema")
    args = parser.parse_args()
    if args.checkpoint.suffix != ".ckpt":
        raise UserError(
            f"'{args.checkpoint}' is no checkpoint of training, which ends in .ckpt: an adapter in peft's format needs"
            " no export"
        )
    adapter = read_adapter(args.checkpoint, weights=args.weights)
    base = read_checkpoint_file(args.checkpoint)[KEY]["base"]["path"]
    folder = write_adapter(args.folder, adapter, base_name=base)
    numbers = sum(t.numel() for t in adapter.tensors.values())
    print(f"{folder}  {numbers} numbers, {(folder / WEIGHTS).stat().st_size} bytes")


if __name__ == "__main__":
    run_cli(main)
