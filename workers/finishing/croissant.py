"""``croissant.json`` of a finished run: its files and columns for machines, as Croissant 1.0 describes datasets.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

import pyarrow as pa

from ddim_core.contracts.manifest import FileEntry
from ddim_core.contracts.plan import RunPlan
from ddim_core.contracts.record import RECORD_SCHEMA

CROISSANT = "croissant.json"
LISTED_LIMIT = 10_000
"""Of a run with more files than these, only the sets are described: each file with its hash stands in the manifest."""

_TYPES = {pa.string(): "sc:Text", pa.int64(): "sc:Integer", pa.float64(): "sc:Float"}
_FORMATS = {"tar": "application/x-tar", "parquet": "application/x-parquet"}
_CROISSANT_TERMS = (
    "citeAs",
    "column",
    "equivalentProperty",
    "extract",
    "field",
    "fileObject",
    "fileProperty",
    "fileSet",
    "format",
    "includes",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _CROISSANT_TERMS},
}


def croissant(plan: RunPlan, images: int, files: Iterable[FileEntry]) -> bytes:
    """Return the description of a run with these files; images that are files of their own are described together."""
    listed = [_file(entry) for entry in islice(filter(is_listed, files), LISTED_LIMIT + 1)]
    model = f"{plan.model.name}, {plan.model.digest}"
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"ddim-fleet-{plan.run_id}",
        "description": f"Images made with DDIM by {model}: {images} of them.",
        "url": "./",
        "version": "1.0.0",
        "datePublished": plan.created_at,
        "distribution": [*(listed if len(listed) <= LISTED_LIMIT else ()), *_file_sets(plan)],
        "recordSet": [_record_set()],
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    # Sites put it into a page as it is, in an element of its own, which no model's name shall end.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode(errors="replace") + b"\n"


def is_listed(entry: FileEntry) -> bool:
    """Return whether a file is described by itself; images are not."""
    return entry.path.rpartition(".")[2] in _FORMATS


def _file(entry: FileEntry) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": entry.path,
        "name": entry.path,
        "contentUrl": entry.path,
        "contentSize": f"{entry.size_bytes} B",
        "encodingFormat": _FORMATS[entry.path.rpartition(".")[2]],
        "sha256": entry.sha256,
    }


def _file_sets(plan: RunPlan) -> list[dict[str, Any]]:
    sets = [_file_set("parts", "parts/*.parquet", _FORMATS["parquet"])]
    if plan.container == "webdataset":
        sets.append(_file_set("shards", "shards/*.tar", _FORMATS["tar"]))
    else:
        sets.append(_file_set("images", f"images/*.{plan.image_format}", plan.encoding.media_type))
    return sets


def _file_set(name: str, includes: str, encoding_format: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "encodingFormat": encoding_format,
        "includes": includes,
    }


def _record_set() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "rows",
        "name": "rows",
        "description": "A row for each image, failed ones too: how it came to be, and where it is.",
        "key": {"@id": "rows/key"},
        "field": [_field(column) for column in RECORD_SCHEMA],
    }


def _field(column: pa.Field[Any]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"rows/{column.name}",
        "name": f"rows/{column.name}",
        "dataType": _TYPES[column.type],
        "source": {"fileSet": {"@id": "parts"}, "extract": {"column": column.name}},
    }
