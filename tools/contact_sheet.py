"""Lays a run's images out on one sheet with their captions: ``python tools/contact_sheet.py RUN_URL SHEET.png``."""

from __future__ import annotations

import io
import sys
import tarfile
import textwrap

from PIL import Image, ImageDraw, ImageFont

from ddim_core.contracts.record import SUCCESS, Record
from ddim_core.storage.run_folder import RunFolder

COLUMNS = 8
SIDE_PX = 128
CAPTION_PX = 40
GAP_PX = 8


def main() -> None:
    """Write the sheet of the run that the command line names."""
    run_url, sheet = sys.argv[1:]
    folder = RunFolder(run_url)
    made = [record for record in folder.records() if record.status == SUCCESS]
    rows = -(-len(made) // COLUMNS)
    size = (COLUMNS * (SIDE_PX + GAP_PX) + GAP_PX, rows * (SIDE_PX + CAPTION_PX + GAP_PX) + GAP_PX)
    page = Image.new("RGB", size, "white")
    for place, record in enumerate(made):
        left = GAP_PX + place % COLUMNS * (SIDE_PX + GAP_PX)
        top = GAP_PX + place // COLUMNS * (SIDE_PX + CAPTION_PX + GAP_PX)
        _draw(page, left, top, record, _read(folder, record))
    page.save(sheet, optimize=True)


def _draw(page: Image.Image, left: int, top: int, record: Record, data: bytes) -> None:
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    page.paste(image, (left, top))
    caption = "\n".join(textwrap.wrap(record.prompt, 24)[:3])
    font = ImageFont.load_default(size=10)
    ImageDraw.Draw(page).multiline_text((left, top + SIDE_PX + 2), caption, fill="#333", font=font, spacing=1)


def _read(folder: RunFolder, record: Record) -> bytes:
    assert record.path is not None
    data = folder.store.get(record.path)
    if not record.path.endswith(".tar"):
        return data
    with tarfile.open(fileobj=io.BytesIO(data)) as shard:
        member = shard.extractfile(f"{record.key}.{record.format}")
        assert member is not None
        return member.read()


if __name__ == "__main__":
    main()
