"""What capturing a trace costs a model's forward pass.

    python -m benchmarks.capture [--model FOLDER | --random llama3.1-8b] [--device cuda] [--tokens 2048] [--sequences 4]
                                 [--new-tokens N] [--dtype int8] [--folder DIR] [--rounds 3] [--json FILE]

The same passes run plain and captured, in turns, and the median of the rounds counts. A captured pass quantises every
projection's activations, sends them to the host and writes them to files; *until on disk* also waits for the last of
them (a page cache may still hold what a file was given). With `--new-tokens` the decode steps behind each prompt are
captured and the prompt is not; it takes its time in both. A model of a published size has random weights, which cost
the same.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel_sim.errors import AccelSimError
from benchmarks.progress import say
from benchmarks.random_models import SIZES, random_model
from benchmarks.rows import Row, markdown, write_json
from benchmarks.versions import versions

COMMAND = "python -m benchmarks.capture"


@dataclass(frozen=True)
class Taken:
    """Seconds of one round's recorded passes."""

    forward: float
    """Until the last pass has ended on the device."""
    on_disk: float
    """Until the last row is in its file."""
    waited: float
    """In which the model stood still for the disk before its last pass had ended."""
    bytes: int


def rows(loaded: Any, options: Any, rounds: int, folder: Path, name: str) -> Iterator[Row]:
    """All rows of a model that is loaded, captured into `folder`, which is emptied."""
    import torch

    prompts = _prompts(loaded, options)
    plain, captured, written = [], [], []
    for turn in range(rounds + 1):
        plain.append(_plain(loaded, prompts, options))
        captured.append(_captured(loaded, prompts, options, folder / "trace"))
        written.append(_written(folder / "bytes", captured[-1].bytes))
        say(f"round {turn}: plain {plain[-1]:.3f} s, captured {captured[-1].forward:.3f} s")
    recorded = options.sequences * (options.new_tokens or options.tokens)
    forward, on_disk, waited = (
        statistics.median(getattr(each, part) for each in captured[1:]) for part in ("forward", "on_disk", "waited")
    )
    bare = statistics.median(plain[1:])
    device = torch.cuda.get_device_name() if loaded.device.type == "cuda" else "cpu"
    used = versions(torch=torch.__version__, device=device)
    group = f"Capturing {name}, {options.phase}, {recorded} tokens in {options.dtype}, on {device}"
    if options.dtype == "int8":
        group += f", quantised by {_quantiser(loaded.device)}"

    def row(what: str, ours: float, peer: float, unit: str) -> Row:
        say(f"{what}: {ours:.4g} / {peer:.4g} {unit}")
        return Row(group, what, ours, peer, unit, COMMAND, used)

    yield row("the forward passes while captured, against plain", recorded / forward, recorded / bare, "tokens/s")
    yield row("until the last row is on disk, against plain passes", recorded / on_disk, recorded / bare, "tokens/s")
    yield row("the model stood still for the disk, of the passes' time", waited, forward, "s")
    size = captured[-1].bytes
    peer = size / statistics.median(written[1:]) / 1e9
    yield row("rows and scales to files, against plain writing of as many bytes", size / on_disk / 1e9, peer, "GB/s")


def _quantiser(device: Any) -> str:
    """What makes INT8 codes: without Triton a GPU takes several passes for them, which these times then contain."""
    from accel_sim.quantize.tensors import quantises_with

    return "numpy on the host" if device.type == "cpu" else f"{quantises_with(device)} on the device"


def _prompts(loaded: Any, options: Any) -> tuple[Any, ...]:
    import numpy as np

    from accel_sim.capture.text import Prompt
    from accel_sim.trace.format import TextCut

    draw = np.random.default_rng(0)
    cut = TextCut(source="drawn", start=0, characters=0, sha256="", tokens=options.tokens)
    shape = (options.sequences, options.tokens)
    return tuple(Prompt(ids, cut) for ids in draw.integers(0, loaded.model.config.vocab_size, shape))


def _plain(loaded: Any, prompts: tuple[Any, ...], options: Any) -> float:
    begin = time.perf_counter()
    _passes(loaded, prompts, options, None)
    _wait(loaded)
    return time.perf_counter() - begin


def _captured(loaded: Any, prompts: tuple[Any, ...], options: Any, folder: Path) -> Taken:
    from accel_sim.capture.projections import decoder_blocks, experts_per_token, find_projections
    from accel_sim.capture.recorder import Recorder
    from accel_sim.capture.stream import TraceStream
    from accel_sim.trace.writer import TraceWriter

    model = loaded.model
    blocks = decoder_blocks(model)
    parameters = find_projections(model, blocks)
    writer = TraceWriter.start(folder, {}, force=True)
    begin = time.perf_counter()
    with TraceStream(writer, options.buffer_bytes) as stream:
        recorder = Recorder(model, blocks, parameters, stream, options.dtype, experts_per_token(model) is not None)
        _passes(loaded, prompts, options, recorder)
        _wait(loaded)
        forward, waited = time.perf_counter() - begin, stream.streamed.waited_seconds
    on_disk = time.perf_counter() - begin
    shutil.rmtree(folder)
    return Taken(forward, on_disk, waited, stream.streamed.bytes)


def _passes(loaded: Any, prompts: tuple[Any, ...], options: Any, recorder: Any) -> None:
    from accel_sim.capture.forward import SequenceRun, pieces

    for sequence, prompt in enumerate(prompts):
        run = SequenceRun(loaded.model, options)
        for piece in pieces(prompt, options, run, loaded.device):
            run.feed(piece.token_ids, recorder if piece.recorded else None, piece.position, sequence)


def _wait(loaded: Any) -> None:
    if loaded.device.type == "cuda":
        import torch

        torch.cuda.synchronize()


def _written(file: Path, size: int) -> float:
    """Seconds that writing `size` bytes takes, in one file, to where capturing writes: to the page cache at first."""
    piece = bytes(1 << 24)
    begin = time.perf_counter()
    with file.open("wb") as out:
        for _ in range(size // len(piece)):
            out.write(piece)
        out.write(piece[: size % len(piece)])
    seconds = time.perf_counter() - begin
    file.unlink()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--model", help="as `capture-traces --model`; default: the default model")
    chosen.add_argument("--random", choices=SIZES, help="a Llama of this size with random weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compute-dtype", default="auto", help="auto: bfloat16 on CUDA, float32 on a CPU")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--chunk", type=int, default=2048)
    parser.add_argument("--new-tokens", type=int)
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--buffer-gib", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="on the disk to write to; default: a temporary one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    try:
        made = _run(parser.parse_args())
    except AccelSimError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(markdown(made))


def _run(arguments: argparse.Namespace) -> list[Row]:
    from accel_sim.cli.model_options import keep_libraries_quiet

    keep_libraries_quiet()
    from accel_sim.capture.load import LoadedModel, choose_device, load_model
    from accel_sim.capture.options import CaptureOptions

    device = str(choose_device(arguments.device))
    dtype = arguments.compute_dtype
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    options = CaptureOptions(
        out=Path(),
        model=arguments.model,
        tokens=arguments.tokens,
        sequences=arguments.sequences,
        phase="prefill" if arguments.new_tokens is None else "decode",
        new_tokens=arguments.new_tokens,
        chunk=arguments.chunk,
        dtype=arguments.dtype,
        device=device,
        compute_dtype=dtype,
        buffer_gib=arguments.buffer_gib,
    )
    say(f"loading, {dtype} on {device}")
    name = f"random {arguments.random}" if arguments.random else options.model_name
    if arguments.random:
        loaded = LoadedModel(random_model(arguments.random, device, dtype), None, name, None)
    else:
        loaded = load_model(options, say)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        made = list(rows(loaded, options, arguments.rounds, Path(folder), name))
    if arguments.json:
        write_json(made, arguments.json)
    return made


if __name__ == "__main__":
    main()
