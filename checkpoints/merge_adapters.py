"""Writes a prior with its adapters merged: python -m checkpoints.merge_adapters PRIOR ADAPTER [ADAPTER ...] --output
X.safetensors

    python -m checkpoints.merge_adapters assets/ddpm_mnist.safetensors runs/NAME/adapter --output fashion.safetensors
    python -m checkpoints.merge_adapters PRIOR ONE TWO --scales 1 0.5 --output X.safetensors
    python -m checkpoints.merge_adapters runs/NAME/checkpoints/last.ckpt --output fashion.safetensors

A checkpoint of adapters alone is merged into the prior that it names. The result is a prior like any other, and as fast
as the one without adapters.
"""

import argparse
from pathlib import Path

from checkpoints.export import DTYPES, which_weights
from checkpoints.files import write_safetensors
from checkpoints.foreign.detect import refuse_preset
from checkpoints.load import describes_cold_restorer, load_cold_restorer, load_prior
from checkpoints.lora.files import AdapterEntry, read_adapter
from checkpoints.lora.merging import merged
from common.errors import UserError, run_cli
from common.files import sha256_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "prior", type=Path, help="a .ckpt or .safetensors, a folder of diffusers, a .pt of guided-diffusion"
    )
    parser.add_argument(
        "adapters",
        type=Path,
        nargs="*",
        metavar="ADAPTER",
        help="folders of adapters in peft's format, or checkpoints that hold one",
    )
    parser.add_argument("--scales", type=float, nargs="+", metavar="C", help="a factor for each adapter (default: 1)")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--weights", choices=("ema", "raw"), default="ema", help="of checkpoints (default: ema)")
    parser.add_argument(
        "--preset", metavar="NAME", help="what a .pt prior of guided-diffusion does not say; see docs/checkpoints.md"
    )
    parser.add_argument(
        "--dtype",
        choices=tuple(DTYPES),
        default="float32",
        help="of the file; the sum is made in float32 (default: float32)",
    )
    parser.add_argument(
        "--any_base",
        action="store_true",
        help="merge into other weights of the same network than the adapter was trained beside, too",
    )
    args = parser.parse_args()
    if args.output.suffix != ".safetensors":
        raise UserError(f"--output must end in .safetensors, got '{args.output}'")
    scales = args.scales or [1.0] * len(args.adapters)
    if len(scales) != len(args.adapters):
        raise UserError(f"--scales must have one number for each adapter, got {len(scales)} for {len(args.adapters)}")
    entries = [AdapterEntry(path=str(path), scale=scale) for path, scale in zip(args.adapters, scales, strict=True)]
    adapters = [(read_adapter(e.path, weights=args.weights), e.scale) for e in entries]
    if describes_cold_restorer(args.prior, weights=args.weights):
        refuse_preset(args.prior, args.preset)
        cold = load_cold_restorer(args.prior, weights=args.weights)
        network, description = cold.restorer.network, cold.description
    else:
        prior = load_prior(args.prior, weights=args.weights, preset=args.preset)
        network, description = prior.denoiser.network, prior.description
    where = " and ".join(f"the adapter '{e.path}'" for e in entries)
    network.load_state_dict(merged(network.state_dict(), adapters, where=where, any_base=args.any_base))
    which = which_weights(args.prior, description, args.weights)
    said = {
        **description,
        "weights": which,
        "dtype": args.dtype,
        "adapters": [{"path": e.path, "scale": e.scale} for e in entries],
    }
    write_safetensors(args.output, network, said, dtype=DTYPES[args.dtype])
    print(f"{args.output}  {args.output.stat().st_size} bytes  sha256 {sha256_of(args.output)}")


if __name__ == "__main__":
    run_cli(main)
