"""The picture of README.md: from an evaluation with several tasks, one row of each task's sheet.

    python evaluate.py --config configs/evaluate/mnist.yaml --limit 5 --output results/front
    python examples/front_picture.py results/front docs/front.png

Row k shows image k of the test set, so that nothing is selected.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HEAD, TILE, GAP, MARGIN = 30, 112, 10, 130
TASKS = ["box_inpainting", "random_inpainting", "super_resolution_x4", "deblurring", "denoising"]


def front_picture(results: Path, tasks: list[str] = TASKS) -> Image.Image:
    """Row k of the sheet of task k, each with its task beside it, under the labels of the first sheet."""
    sheets = [Image.open(results / "images" / f"{task}.png") for task in tasks]
    width, pitch = sheets[0].width, TILE + GAP
    page = Image.new("RGB", (MARGIN + width, HEAD + pitch * len(tasks)), sheets[0].getpixel((0, 0)))
    page.paste(sheets[0].crop((0, 0, width, HEAD)), (MARGIN, 0))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for k, (task, sheet) in enumerate(zip(tasks, sheets, strict=True)):
        top = HEAD + pitch * k
        page.paste(sheet.crop((0, top, width, top + pitch)), (MARGIN, top))
        words = task.replace("super_resolution_x4", "super-resolution\n4 times").replace("_", "\n")
        draw.multiline_text((GAP, top + TILE / 2), words, (30, 30, 30), font, anchor="lm")
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the output folder of the evaluation")
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    args = parser.parse_args()
    front_picture(args.results).save(args.picture, optimize=True)
