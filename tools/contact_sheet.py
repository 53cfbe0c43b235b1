"""Lays a run's images out on one sheet with their captions: ``python -m tools.contact_sheet RUN_URL SHEET.png``."""

from __future__ import annotations

import sys
import textwrap

from PIL import Image, ImageDraw, ImageFont

from tools.run_images import run_images

COLUMNS = 8
SIDE_PX = 128
CAPTION_PX = 40
GAP_PX = 8


def main() -> None:
    """Write the sheet of the run that the command line names."""
    run_url, sheet = sys.argv[1:]
    made = [(record.prompt, image) for record, image in run_images(run_url)]
    rows = -(-len(made) // COLUMNS)
    size = (COLUMNS * (SIDE_PX + GAP_PX) + GAP_PX, rows * (SIDE_PX + CAPTION_PX + GAP_PX) + GAP_PX)
    page = Image.new("RGB", size, "white")
    for place, (prompt, image) in enumerate(made):
        left = GAP_PX + place % COLUMNS * (SIDE_PX + GAP_PX)
        top = GAP_PX + place // COLUMNS * (SIDE_PX + CAPTION_PX + GAP_PX)
        page.paste(image.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS), (left, top))
        caption = "\n".join(textwrap.wrap(prompt, 24)[:3])
        font = ImageFont.load_default(size=10)
        ImageDraw.Draw(page).multiline_text((left, top + SIDE_PX + 2), caption, fill="#333", font=font, spacing=1)
    page.save(sheet, optimize=True)


if __name__ == "__main__":
    main()
