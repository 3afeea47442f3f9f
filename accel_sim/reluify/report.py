"""A label as a page that people read, and its curve as a picture."""

from __future__ import annotations

from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from accel_sim.evaluation.corpora import ALL
from accel_sim.reluify.label import Label
from accel_sim.study.figures import SERIES_COLOURS, light_bytes, new_figure, style
from accel_sim.study.text import markdown_table

_STATES = ("dense", "swapped", "refitted", "distilled")


def markdown(label: Label) -> str:
    """The report, with the statement that may be made of the model first."""
    parts = [label.statement + ".\n"]
    if not label.finished:
        parts.append("The training was to go on from here.\n")
    kinds = list(label.dense.perplexity)
    rows = [
        [name, *(_perplexity(getattr(label, name).perplexity[kind]) for kind in kinds), f"{one.kl[ALL]:.3f}",
         f"{one.mean_gate_zeros:.1%}", f"{one.mean_down_zeros:.1%}"]
        for name in _STATES if (one := getattr(label, name))
    ]  # fmt: skip
    parts.append("Perplexity by kind of held-out text, KL(dense ‖ this) in nats, zeros of all layers:\n")
    parts.append(markdown_table(["state", *kinds, "KL", "zeros behind the gate", "zeros into down"], rows))
    parts.append("As the distillation went on:\n")
    rows = [
        [f"{each.tokens:,}", f"{each.seconds / 60:.1f}", "–" if each.loss is None else f"{each.loss:.3f}",
         *(_perplexity(each.measured.perplexity[kind]) for kind in kinds), f"{each.measured.mean_gate_zeros:.1%}"]
        for each in label.curve
    ]  # fmt: skip
    parts.append(markdown_table(["tokens", "minutes", "loss, nats", *kinds, "zeros behind the gate"], rows))
    parts.append("By layer:\n")
    rows = [
        [str(layer), f"{gate:.1%}", f"{down:.1%}"]
        for layer, (gate, down) in enumerate(zip(label.distilled.gate_zeros, label.distilled.down_zeros, strict=True))
    ]
    parts.append(markdown_table(["layer", "zeros behind the gate", "zeros into down"], rows))
    parts.append(_method(label))
    return "\n".join(parts)


def curve_picture(label: Label) -> bytes:
    """PNG: perplexity by kind of text above, zeros behind the gates below, both over tokens."""
    tokens = [each.tokens for each in label.curve]
    with style():
        figure = new_figure((7, 6), label.statement)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        for colour, kind in zip(SERIES_COLOURS, [kind for kind in label.dense.perplexity if kind != ALL], strict=False):
            above.plot(tokens, [each.measured.perplexity[kind] for each in label.curve], color=colour, label=kind)
            above.axhline(label.dense.perplexity[kind], color=colour, linestyle=":", linewidth=1)
        above.set_yscale("log")
        above.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)))
        above.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        above.yaxis.set_minor_formatter(NullFormatter())
        above.set_ylabel("perplexity, held out (dotted: dense)")
        above.legend(frameon=False)
        below.plot(tokens, [100 * each.measured.mean_gate_zeros for each in label.curve], color=SERIES_COLOURS[0])
        below.set_ylabel("zeros behind\nthe gates, %")
        below.set_xlabel("tokens of distillation")
        return light_bytes(figure, "png")


def _method(label: Label) -> str:
    settings = label.settings
    lines = [
        f"model: {label.source.id}, fingerprint `{label.source.fingerprint}`"
        + (f", file sha256 `{label.source.file_sha256}`" if label.source.file_sha256 else ""),
        f"learnt: {label.trained}; Adam at {settings['learning_rate']:g}, {settings['batch']} × {settings['window']} "
        f"tokens a step, weight of the gates' L1 norm {settings['l1']:g}, seed {settings['seed']}",
        f"forward passes in {label.arithmetic} on {label.device}, those that measure too",
        f"windows, in turn: {', '.join(f'{count:,} of {kind}' for kind, count in label.windows.items())}; "
        f"sha256 `{label.windows_sha256}`",
    ]
    listed = "".join(f"* {line}\n" for line in lines)
    learnt = [
        [each.kind, each.name, f"{each.characters:,}", f"{each.dropped_characters:,}", f"`{each.sha256[:16]}`"]
        for each in label.text
    ]
    held = [[each.kind, each.name, f"{each.tokens:,}", f"`{each.sha256[:16]}`"] for each in label.held_out]
    return (
        f"{listed}\nLearnt from, without paragraphs that are held out:\n\n"
        + markdown_table(["kind", "text", "characters", "left out", "sha256"], learnt)
        + "\nHeld out:\n\n"
        + markdown_table(["kind", "text", "tokens", "sha256 of the cuts"], held)
    )


def _perplexity(value: float) -> str:
    return f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"
