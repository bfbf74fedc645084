"""diptych embed: images or texts to a store of vectors."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli import parse
from diptych.cli.common import announce, app, examples
from diptych.cli.options import Activation, Backend, Device, Heads, ImageColumn, ModelOption, Offline, Option, Precision
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.data.source import Source
    from diptych.embed.stage_times import StageTimes
    from diptych.embed.store import Store

_PROGRESS = {"auto": None, "lines": 10.0}
_SHOWN_BROKEN = 3
_BACKENDS = {"torch": "torch", "onnxruntime": "onnx", "openvino": "openvino"}


def open_source_of_command(
    inputs: list[Path],
    urls: str | None,
    texts: Path | None,
    columns: tuple[str | None, str | None],
    allow_private: bool,
) -> "Source":
    """The images or texts that the command names.

    Args:
        columns: names of the image column and of the text column.
    Raises:
        InputError: not exactly one of the three is given, or nothing is found.
    """
    if sum([bool(inputs), urls is not None, texts is not None]) != 1:
        raise InputError("name images (files, folders, shards), or --urls FILE, or --texts FILE: one of the three")
    if texts is not None:
        from diptych.data.texts import open_texts

        return open_texts(texts, columns[1])
    if urls is not None:
        from diptych.data.fetching import FetchLimits
        from diptych.data.urls import UrlSource, read_urls

        return UrlSource(read_urls(urls), FetchLimits(allow_private=allow_private))
    from diptych.data.columns import ColumnNames
    from diptych.data.open_images import open_images

    return open_images(inputs, ColumnNames(image=columns[0]))


def back_end_of_store(out: Path, backend: str, precision: str) -> tuple[str, str]:
    """What "auto" means for a store that an earlier run began: the back end and the precision of that run."""
    from diptych.embed.store import open_store

    if (backend, precision) != ("auto", "auto") or not (out / "manifest.json").exists():
        return backend, precision
    manifest = open_store(out).manifest
    library = manifest.backend.partition(" ")[0]
    if library not in _BACKENDS or manifest.precision not in ("fp32", "bf16", "int8"):
        return backend, precision
    return _BACKENDS[library], manifest.precision


def run_embed_command(
    model_name: str, source: "Source", out: Path, load: dict[str, str], options: dict[str, Any]
) -> tuple["Store", "StageTimes", int, float]:
    """Load the model and embed; returns the store, the times, the number of new rows, and the seconds."""
    from diptych.embed.embed_inputs import TEXT_BATCH_SIZE, embed_images
    from diptych.embed.engine import TEXT_EMBEDDINGS
    from diptych.embed.resolver import load as load_any
    from diptych.embed.stage_times import StageTimes
    from diptych.embed.store import open_store

    backend, precision = back_end_of_store(out, load["backend"], load["precision"])
    model = load_any(model_name, load["device"], precision, backend=backend)
    num_before = len(open_store(out)) if (out / "manifest.json").exists() else 0
    if options["kind"] == TEXT_EMBEDDINGS:
        options["batch_size"] = options["batch_size"] or TEXT_BATCH_SIZE
    times, start = StageTimes(), time.perf_counter()
    try:
        store = embed_images(model, source, out, times=times, **options)
    except KeyboardInterrupt:
        announce(f"stopped; finished shards are kept in {out}: run the same command again to resume")
        raise
    return store, times, len(store) - num_before, time.perf_counter() - start


def print_end(store: "Store", times: "StageTimes", num_new: int, seconds: float) -> None:
    """What the store holds, how fast it was made, where the time went, and which inputs are broken."""
    from diptych.embed.broken_samples import broken_samples

    manifest = store.manifest
    what = "texts" if manifest.kind == "text embeddings" else "images"
    origin = " ".join(part for part in (manifest.model, manifest.backend, manifest.precision) if part)
    print(f"{store.folder}: {len(store):,} {what}, {manifest.dim} numbers each, {origin}")
    if num_new:
        print(f"{num_new:,} {what} in {seconds:.1f} s, {num_new / seconds:.3g} {what}/s: {times}")
    if store.num_broken:
        print(f"{store.num_broken:,} {what} are broken; all are listed in {store.folder}/*/broken.jsonl")
        for key, reason in broken_samples([store], _SHOWN_BROKEN).items():
            print(f"  {key}: {reason}")


Images = Annotated[
    list[Path] | None,
    typer.Argument(
        parser=parse.path,
        help="Images: files, folders, tar shards, parquet with images, or a CSV with paths. No captions are needed.",
    ),
]
Out = Annotated[Path, Option(parser=parse.path, help="Folder of the vectors; the same command again resumes.")]
Urls = Annotated[str | None, Option(parser=parse.path, help="File with one URL of an image per line, or - for stdin.")]
Texts = Annotated[
    Path | None,
    Option(parser=parse.path, help="Embed texts: a .txt with one per line, or a .csv, .tsv, .jsonl or .parquet."),
]
TextColumn = Annotated[str | None, Option(help="Column of --texts that holds the texts.")]
Kind = Annotated[str, Option(help="embeddings (unit norm), or features (before the projection).")]
BatchSize = Annotated[int | None, Option(min=1, help="Per batch; by default 64 images, 256 on a GPU, or 1024 texts.")]
Threads = Annotated[int | None, Option(min=0, help="Threads that decode; by default one per core.")]
Workers = Annotated[
    int, Option(min=0, help="Processes that decode, instead of threads: an image that crashes them is only broken.")
]
Processes = Annotated[int, Option(min=1, help="Processes that encode, with one thread each, on the CPU.")]
FastDecoding = Annotated[
    bool, typer.Option("--fast-decoding", help="Decode large JPEGs at a reduced size; vectors differ slightly.")
]
Ray = Annotated[
    str | None,
    Option(help="Work on a Ray cluster: auto (the one of this machine), HOST:PORT, or local. It shares the folders."),
]
Parquet = Annotated[Path | None, Option(parser=parse.path, help="Also write a Parquet table: key, vector.")]
Npy = Annotated[Path | None, Option(parser=parse.path, help="Also write a .npy matrix, with its keys beside it.")]
Progress = Annotated[str, Option(help="auto (a bar on a terminal), or lines (one in ten seconds).")]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private", help="Also fetch URLs from this machine and private networks.")
]
AllowOtherBackend = Annotated[
    bool,
    typer.Option(
        "--allow-other-backend",
        help="Add to a store of another back end or precision, if some vectors agree to a cosine of 0.999.",
    ),
]


def write_views(store: "Store", parquet: Path | None, npy: Path | None) -> None:
    """Write the store as one file for other tools."""
    from diptych.embed.store_views import write_npy, write_parquet

    if parquet is not None:
        write_parquet(store, parquet)
        print(f"{parquet}: key, vector")
    if npy is not None:
        print(f"{npy}: the vectors; their keys are in {write_npy(store, npy)}")


@app.command(
    epilog=examples(
        "diptych embed photos/ --out vectors/",
        "diptych embed shards/ --model runs/quickstart/model --out shard-vectors/ --parquet vectors.parquet",
        "diptych embed photo.jpg holiday/ --out holiday-vectors/ --npy vectors.npy",
        "diptych embed --texts captions.txt --out text-vectors/",
        "diptych embed shards/ --out cluster-vectors/ --ray auto",
        "diptych embed --urls urls.txt --out url-vectors/ --progress lines",
    )
)
def embed(
    out: Out,
    inputs: Images = None,
    model: ModelOption = "default",
    urls: Urls = None,
    texts: Texts = None,
    text_column: TextColumn = None,
    image_column: ImageColumn = None,
    kind: Kind = "embeddings",
    backend: Backend = "auto",
    precision: Precision = "auto",
    device: Device = "auto",
    batch_size: BatchSize = None,
    threads: Threads = None,
    workers: Workers = 0,
    processes: Processes = 1,
    fast_decoding: FastDecoding = False,
    parquet: Parquet = None,
    npy: Npy = None,
    progress: Progress = "auto",
    allow_private: AllowPrivate = False,
    allow_other_backend: AllowOtherBackend = False,
    ray: Ray = None,
    activation: Activation = None,
    heads: Heads = None,
    offline: Offline = False,
) -> None:
    """Turn images or texts into vectors, in a folder that search, and other tools, can read.

    Keys are paths below the folder, shard names, URLs or line numbers. Broken images are left out and listed. Memory
    stays bounded. A stopped or killed run resumes with the same command and ends with the same bytes.
    """
    from diptych.embed.model_names import check_name

    if progress not in _PROGRESS:
        raise InputError(f"--progress is {' or '.join(_PROGRESS)}, not {progress!r}")
    check_name(str(model))
    source = open_source_of_command(inputs or [], urls, texts, (image_column, text_column), allow_private)
    options: dict[str, Any] = {
        "kind": kind if texts is None else "text embeddings",
        "batch_size": batch_size,
        "num_threads": threads,
        "num_workers": workers,
        "num_processes": processes,
        "fast_decoding": fast_decoding,
        "allow_other_backend": allow_other_backend,
        "seconds_per_line": _PROGRESS[progress],
    }
    if ray is not None:
        from diptych.embed.ray_executor import ray_executor

        options["executor"] = ray_executor(ray)
    load = {"backend": backend, "precision": precision, "device": device}
    run = run_embed_command(str(model), source, Path(out), load, options)
    print_end(*run)
    write_views(run[0], parquet, npy)
    if not len(run[0]):
        raise typer.Exit(1)
