"""Which projection runs which pattern."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.workload import gemm_workload, load_policy, preset_workload, shipped_policies, workload_from_trace
from accel_sim.workload.policy import Policy, Rule

SMALL = preset_workload("smollm2-135m", 4)


def policy(tmp_path, text: str) -> Policy:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    return load_policy(tmp_path / "mine.yaml")


def gemm(name: str):
    return next(each for each in SMALL.gemms if each.name == f"model.layers.{name}")


# The published share of linear computation that becomes sparse (arXiv 2508.02128).
@pytest.mark.parametrize(
    ("name", "model", "published"),
    [
        ("amber-llama-3.1-8b", "llama-3.1-8b", 0.561),
        ("amber-qwen2-7b", "qwen2-7b", 0.576),
        ("amber-qwen3-30b-a3b", "qwen3-30b-a3b", 0.569),
    ],
)
def test_amber_pruners_coverage_comes_out_of_the_shapes(name, model, published):
    chosen, workload = load_policy(name), preset_workload(model, 2048)
    chosen.check(workload)
    assert round(chosen.coverage(workload), 3) == published


@pytest.mark.parametrize("name", shipped_policies())
def test_every_shipped_policy_says_where_it_comes_from_and_fits_a_model(name):
    chosen = load_policy(name)
    assert "arXiv" in chosen.description
    model = name.removeprefix("amber-") if name.startswith("amber-") else "qwen2.5-7b"
    chosen.check(preset_workload(model, 4))


def test_the_last_matching_rule_decides(tmp_path):
    chosen = policy(
        tmp_path,
        """
default: "2:4"
rules:
  - {projections: "mlp.*", pattern: "4:8"}
  - {layers: 3-5, pattern: "8:16"}
  - {layers: [4, 10-12], projections: [down_proj], pattern: dense}
""",
    )
    assert chosen.pattern_for(gemm("0.self_attn.q_proj")) == Pattern("2:4")
    assert chosen.pattern_for(gemm("0.mlp.up_proj")) == Pattern("4:8")
    assert chosen.pattern_for(gemm("3.mlp.up_proj")) == Pattern("8:16")
    assert chosen.pattern_for(gemm("4.mlp.down_proj")) is None
    assert chosen.pattern_for(gemm("11.mlp.down_proj")) is None
    assert chosen.patterns == {Pattern("2:4"), Pattern("4:8"), Pattern("8:16")}


def test_a_name_matches_whole_or_at_its_end_never_in_part(tmp_path):
    chosen = policy(tmp_path, 'default: dense\nrules: [{projections: ["proj", "up_*"], pattern: "8:16"}]')
    assert chosen.pattern_for(gemm("0.self_attn.q_proj")) is None
    assert chosen.pattern_for(gemm("0.mlp.up_proj")) == Pattern("8:16")


def test_what_never_runs_pruned_is_not_touched():
    mixture = preset_workload("qwen3-30b-a3b", 4)
    everything = Policy("all", "", Pattern("8:16"), ())
    routers = [each for each in mixture.gemms if each.name.endswith(".gate")]
    assert len(routers) == 48
    assert all(everything.pattern_for(each) is None for each in routers)
    assert everything.coverage(mixture) == 1
    dense = [each for each in mixture.operations("model") if getattr(each, "kind", "") in ("attention", "lm_head")]
    assert all(everything.pattern_for(each) is None for each in dense)


def test_another_default_leaves_the_rules(tmp_path):
    chosen = policy(tmp_path, 'default: "8:16"\nrules: [{projections: up_proj, pattern: dense}]')
    other = chosen.with_default(Pattern("2:4"))
    assert other.pattern_for(gemm("0.mlp.down_proj")) == Pattern("2:4")
    assert other.pattern_for(gemm("0.mlp.up_proj")) is None


@given(layers=st.frozensets(st.integers(0, 29)))
def test_coverage_is_the_work_of_the_layers_that_are_pruned(layers):
    # Every layer of SmolLM2 is the same, so a share of layers is that share of the work.
    rules = (Rule(layers=sorted(layers), pattern="8:16"),) if layers else ()
    assert Policy("some", "", None, rules).coverage(SMALL) == pytest.approx(len(layers) / 30)


def test_keeping_all_is_not_covered():
    assert Policy("none", "", Pattern("16:16"), ()).coverage(SMALL) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: []", "default: Field required"),
        ('default: "8:16"\nrule: []', "rule: unknown key; accepted here: description, default, rules"),
        (
            'default: dense\nrules: [{projection: up_proj, pattern: "8:16"}]',
            r"rules\[0\].projection: unknown key; accepted here: layers, projections, pattern",
        ),
        ('default: "9:8"', "default: pattern '9:8': N:M needs"),
        ("default: 8", "default: 8: expected N:M in quotes, or dense"),
        ('default: dense\nrules: [{layers: 5-3, pattern: "8:16"}]', r"rules\[0\].layers: .*lower to its higher end"),
        ('default: dense\nrules: [{layers: all, pattern: "8:16"}]', r"rules\[0\].layers: layers all: expected indices"),
        ('default: dense\nrules: [{projections: [], pattern: "8:16"}]', r"rules\[0\].projections: "),
        ("default: dense\nrules: [{layers: 3}]", r"rules\[0\].pattern: Field required"),
        ("- 8:16", "expected default and rules"),
        ("default: [", "line 1, column 11: not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_naming_file_and_key(tmp_path, text, message):
    with pytest.raises(AccelSimError, match=rf"^policy .*mine\.yaml.*{message}") as error:
        policy(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_rule_that_matches_no_projection_is_refused_with_those_there_are(tmp_path):
    chosen = policy(tmp_path, 'default: dense\nrules: [{pattern: "8:16"}, {projections: fc1, pattern: "8:16"}]')
    with pytest.raises(
        AccelSimError, match=r"mine.yaml: rules\[1\]: projections fc1: none in .*; it has q_proj, k_proj"
    ):
        chosen.check(SMALL)


def test_a_rule_for_a_layer_the_model_lacks_is_refused(tmp_path):
    chosen = policy(tmp_path, 'default: dense\nrules: [{layers: 28-31, pattern: "8:16"}]')
    with pytest.raises(AccelSimError, match=r"rules\[0\]: layers: no layer 30; the model has layers 0-29"):
        chosen.check(SMALL)
    with pytest.raises(AccelSimError, match="has no layers"):
        chosen.check(gemm_workload(["4x64x8"]))


def test_layers_that_a_trace_did_not_capture_are_no_error(tmp_path):
    from accel_sim.cli.inputs import shipped_trace
    from accel_sim.trace import Trace

    captured = workload_from_trace(Trace.open(shipped_trace()))  # layers 0, 15 and 29
    policy(tmp_path, 'default: dense\nrules: [{layers: 3, pattern: "8:16"}]').check(captured)


def test_an_unknown_policy_is_refused_with_the_shipped_ones():
    with pytest.raises(AccelSimError, match=r"policy amber: no such file; shipped: amber-llama-3.1-8b, "):
        load_policy("amber")
