"""`limner train`: everything that the painter was made with, one command each.

A command passes its arguments to the module in the table, which reads them itself; that module, and the packages of the
train extra, are imported when the command runs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import typer

PAINTER, EVALUATION = "limner.painter.training", "limner.evaluation.training"
COMMANDS = {  # the panel of help that it stands in, the module, what it does; in the order of use
    "preview": (
        "Look",
        f"{PAINTER}.preview",
        "A sheet of random scenes: drafts, pictures to paint from them, captions.",
    ),
    "bank": ("Drawings and words", f"{PAINTER}.build_bank", "Build the bank of drawings and NOTICE."),
    "words": ("Drawings and words", f"{PAINTER}.build_words", "Build the text encoder, or the bank's words in it."),
    "evaluate-words": ("Drawings and words", f"{PAINTER}.evaluate_words", "Measure the look-up by meaning."),
    "data": ("Denoiser", f"{PAINTER}.data", "Draw and paint the training set."),
    "denoiser": ("Denoiser", f"{PAINTER}.train", "Train; goes on where it was stopped."),
    "distill": ("Denoiser", f"{PAINTER}.distill", "Distil guidance away, then steps."),
    "shrink": ("Denoiser", f"{PAINTER}.portable", "Shrink a checkpoint to what travels between machines."),
    "export": ("Denoiser", f"{PAINTER}.export", "Write the files that ship from a checkpoint."),
    "evaluate-denoiser": ("Denoiser", f"{PAINTER}.evaluate", "Measure it against held-out targets."),
    "worth": ("Denoiser", f"{PAINTER}.worth", "Strengths, seeds, and a blind look at drafts and paintings."),
    "planner": ("Planner", f"{PAINTER}.planner_train", "Train the reader of prompts."),
    "export-planner": ("Planner", f"{PAINTER}.planner_export", "Write the files that ship from a checkpoint."),
    "evaluate-planner": ("Planner", f"{PAINTER}.planner_evaluate", "Score readings of prompts written by hand."),
    "matting-data": ("Cut-outs", f"{PAINTER}.matting_subjects", "Draw the subjects."),
    "matting": ("Cut-outs", f"{PAINTER}.matting_train", "Train the matting network."),
    "export-matting": ("Cut-outs", f"{PAINTER}.matting_export", "Write the files that ship from a checkpoint."),
    "evaluate-matting": ("Cut-outs", f"{PAINTER}.matting_evaluate", "Judge cut-outs of held-out composites."),
    "fullsize-data": ("Full size", f"{PAINTER}.fullsize_data", "Paint the training set."),
    "fullsize": ("Full size", f"{PAINTER}.fullsize_train", "Train the full-size network."),
    "evaluate-fullsize": ("Full size", f"{PAINTER}.fullsize_evaluate", "Measure it against interpolation and filter."),
    "detector-sprites": ("Evaluation", f"{EVALUATION}.sprites", "Render what the detector learns from."),
    "detector-data": ("Evaluation", f"{EVALUATION}.windows", "Make shards of windows from them."),
    "detector": ("Evaluation", f"{EVALUATION}.detector_train", "Train the detector."),
    "export-detector": ("Evaluation", f"{EVALUATION}.detector_export", "Write the files that ship from a checkpoint."),
    "evaluate-detector": ("Evaluation", f"{EVALUATION}.detector_score", "Score the detector on held-out composites."),
    "characters": ("Evaluation", f"{EVALUATION}.identity_characters", "Pack the characters of the reference task."),
    "identity-data": ("Evaluation", f"{EVALUATION}.identity_sprites", "Render what the identity network learns from."),
    "identity": ("Evaluation", f"{EVALUATION}.identity_train", "Train the identity network and export it."),
}

train = typer.Typer(no_args_is_help=True, help="Make the painter: its data, its networks, their measurements.")


def _command(name: str, module: str) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        sys.argv = [f"limner train {name}", *context.args]
        try:
            importlib.import_module(module).main()
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] == "limner":
                raise
            typer.echo(
                f"limner: Training needs the train extra: pip install 'limner[train]' ({missing.name} is missing).",
                err=True,
            )
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo("limner: stopped.", err=True)
            raise typer.Exit(130) from None

    return run


for _name, (_panel, _module, _about) in COMMANDS.items():
    train.command(
        _name,
        help=_about,
        rich_help_panel=_panel,
        add_help_option=False,  # the module has a help of its own
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_command(_name, _module))
