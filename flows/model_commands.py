"""The commands about the model: training data, training, measuring, ablations."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.display import Display, finish
from flows.options import ConfigOption, JsonOption, SetOption

DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Folder with FILM.npy and FILM-1.npy ..., or with *movie_shot_embs and *trailer_shot_embs (CMTD, MMSC).",
    ),
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", metavar="N", min=1, max=10**9, help="Training steps. [default: 5000]")
]
EpochsOption = Annotated[
    float | None, typer.Option("--epochs", metavar="N", min=0.001, max=1e6, help="Length in epochs instead of steps.")
]
TrainSeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Seed of every random choice.")
]
PresetOption = Annotated[str, typer.Option("--preset", help="Size of the model: small, paper or paper-5.")]

TRAIN_EXAMPLES = """\b
Examples:
  trailer train features --out small.safetensors --steps 5000
  trailer train CMTD --out ssmp.safetensors --preset paper-5 --epochs 500 --exclude test-8.txt --exclude test-74.txt
  trailer train CMTD --out tgt.safetensors --model tgt --preset paper --epochs 500
  trailer train features --out small.safetensors --steps 5000 --resume
  torchrun --nproc-per-node 4 -m flows.cli train CMTD --out ssmp.safetensors --preset paper --epochs 500
"""
EVALUATE_EXAMPLES = """\b
Examples:
  trailer evaluate ssmp.safetensors CMTD --only test-8.txt --films movie-idx.csv
  trailer evaluate ssmp.safetensors CMTD --against tgt.safetensors --against ranker.safetensors --markdown table.md
  trailer evaluate made-elsewhere.json CMTD --json
"""
ABLATE_EXAMPLES = """\b
Examples:
  trailer ablate features --out ablation --seeds 3 --steps 1500
  trailer ablate CMTD --out ablation --preset paper --epochs 500 --test test-8.txt --test test-74.txt
  trailer ablate features --out ablation --table schedules --table loss
"""


def train(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="CKPT", help="The checkpoint, .safetensors.")],
    steps: StepsOption = None,
    epochs: EpochsOption = None,
    seed: TrainSeedOption = 0,
    preset: PresetOption = "small",
    model: Annotated[
        str, typer.Option("--model", help="What to train: ssmp, or the baselines tgt or ranker.")
    ] = "ssmp",
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, max=100, help="Layers, in place of the preset's.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What made the features; the checkpoint reads no other. [default: descriptor where the width is its own]",
        ),
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option("--exclude", metavar="LIST", help="File of films never to be seen, one a line; again for more."),
    ] = None,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(
            "--held-out", metavar="LIST", help="File of films that choose the best checkpoint. [default: a tenth]"
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="Mask rate: self_paced, self_paced_ema, linear_up, linear_down, random or fixed."),
    ] = None,
    loss: Annotated[str | None, typer.Option(help="cross_entropy or mse.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", min=0, help="Learning rate. [default: 1e-4; small: 3e-3]")] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Trailers a step. [default: 5; small: 16]")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--start", metavar="CKPT", help="Begin with this checkpoint's weights.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same command was interrupted.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files too, in CKPT's .training folder (needs [train]).")
    ] = False,
) -> None:
    """Train the model that chooses and orders shots. Use it with `--set selection.checkpoint=CKPT`.

    Leaves the best checkpoint at CKPT; in CKPT's .training folder the last one, history.jsonl (loss, accuracy, mask rate of
    every step), mask-rate.svg, and what --resume needs. On a GPU where there is one, in bfloat16.
    """
    from flows.training import check_words, train_checkpoint
    from pipeline.settings import Site

    check_words(schedule, loss)
    values = {"steps": steps, "seed": seed, "schedule": schedule, "loss": loss, "lr": lr, "batch_size": batch}
    with Display() as display:
        made = train_checkpoint(
            data, out, Site(), values=values, epochs=epochs, preset=preset, kind=model, layers=layers, encoder=encoder,
            exclude=exclude or [], held_out=held_out or [], start=start, resume=resume, tensorboard=tensorboard,
            command=_command(), say=display.say, bar=display.bar,
        )  # fmt: skip
    if made.rank:
        return  # one of several processes speaks
    score = f"{100 * made.held_out:.1f} % of hidden slots as the editor filled them"
    if model != "ssmp":
        score = f"held-out accuracy {100 * made.held_out:.1f} %"
    finish(f"{made.checkpoint}\n  best of {made.steps} steps: {made.best_step}; {score}")


def evaluate(
    subject: Annotated[
        Path,
        typer.Argument(metavar="CKPT", help="Checkpoint (.safetensors), or trailers made elsewhere (.json)."),
    ],
    data: DataArgument,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against", metavar="CKPT", help="Another checkpoint or .json in the same table; again for more."
        ),
    ] = None,
    only: Annotated[
        list[Path] | None,
        typer.Option("--only", metavar="LIST", help="File of the films or trailers to measure, one a line."),
    ] = None,
    films: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Columns film,year,genres, or title,film. [default: DATA/films.csv if there]"),
    ] = None,
    decoder: Annotated[
        list[str] | None,
        typer.Option(help="self_corrective, confidence, greedy or left_to_right; again for more. [default: all]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of every random choice.")] = 0,
    max_rounds: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Most rounds of self-correction.")] = 32,
    scale: Annotated[
        float | None, typer.Option(min=1, max=100, help="Generate at this softmax scale, not the trained one.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="F.json", help="Write CKPT's trailers: trailer -> film shots from 0.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="F.md", help="Write the tables as Markdown.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure generated trailers against the real ones. Always beside random, uniform and chronological order.

    Precision, recall and F1 within 0, 1, 2 and 4 shots, LD, both AA, SLD, slot accuracy, by period and genre where years
    and genres are known. JSON has all tolerances, any-match and one-to-one.
    """
    from flows.evaluating import check_output, choose_decoders, draw_tables, evaluate_files
    from pipeline.settings import Site
    from pipeline.workdir import deliver_text

    inputs = [subject, *(against or []), *(only or []), *([films] if films else [])]
    check_output("--keep", keep, ".json", inputs, data)
    check_output("--markdown", markdown, ".md", inputs, data)
    with Display() as display:
        found = evaluate_files(
            subject, against or [], data, Site(), only=only or [], films=films, decoders=choose_decoders(decoder or []),
            seed=seed, max_rounds=max_rounds, scale=scale, keep=keep, bar=display.bar,
        )  # fmt: skip
    tables = draw_tables(found)
    if markdown is not None:
        deliver_text("\n".join(table.markdown() for table in tables), markdown)
    finish(found.tell() if as_json else "\n\n".join(table.draw() for table in tables))


def ablate(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the trainings and of ablation.md.")],
    table: Annotated[
        list[str] | None,
        typer.Option(help="schedules, mu_a, mu_t, layers, decoders, loss or systems; again for more. [default: all]"),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Trainings of each row.")] = 3,
    steps: StepsOption = None,
    epochs: EpochsOption = None,
    preset: PresetOption = "small",
    test: Annotated[
        list[Path] | None,
        typer.Option("--test", metavar="LIST", help="File of the films to measure on. [default: a tenth]"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rerun the supplement's tables on a data set. Schedules, mu_a, mu_t, layers, decoding, loss, and the baselines.

    Every row is trained with several seeds and stands, with its spread, beside the paper's figure. What was trained and
    measured before is not done again: the same command goes on where it was interrupted.
    """
    from flows.ablating import ablate as run_ablation
    from pipeline.settings import Site

    with Display() as display:
        tables, told = run_ablation(
            data, out, Site(), test=test or [], tables=table or [], seeds=seeds, steps=steps, epochs=epochs,
            preset=preset, say=display.say, bar=display.bar,
        )  # fmt: skip
    finish(told if as_json else "\n\n".join([told["about"], *(one.draw() for one in tables), told["markdown"]]))


def simulate(
    out: Annotated[Path, typer.Option("--out", metavar="DATA", help="Folder to write; empty or new.")],
    films: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILM]...", help="Films to vary; without any, films are invented."),
    ] = None,
    count: Annotated[int, typer.Option("--films", metavar="N", min=2, help="Films to write.")] = 200,
    trailers: Annotated[
        int | None, typer.Option("--trailers", metavar="N", min=1, help="Trailers of each film. [default: 2]")
    ] = None,
    excerpts: Annotated[
        float, typer.Option("--excerpts", min=0, max=1, help="Share of trailers that are runs of consecutive shots.")
    ] = 0.0,
    planted: Annotated[
        bool,
        typer.Option("--planted", help="Write the generated benchmark, whose rules are known; one trailer a film."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of every random choice.")] = 0,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Write training data. Films are varied from the named ones, and cut by a simulated editor."""
    from flows.training import simulate_data
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site, load_config

    settings = load_config(config, assignments or [])
    trailers = trailers or (1 if planted else 2)
    with Display() as display:
        runner = LocalRunner(display.say, display.bar)
        simulate_data(
            films or [], out, settings, Site(), runner,
            count=count, trailers=trailers, excerpts=excerpts, planted=planted, seed=seed,
        )  # fmt: skip
    finish(f"{out}\n  {count} films, {count * trailers} trailers")


def _command() -> str:
    """What was asked for, for a checkpoint's card, without the folders of this machine."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return shlex.join(["trailer", *(word for word in words if word != "--resume")])
