"""The comparison with other libraries times only what computes the same."""

import json
from argparse import Namespace

import peers
import pytest
import torch
from beside import library, measure, rows, same
from beside.bare import BareMim, BareVae, log_likelihood
from beside.table import markdown

ALL_OTHERS = frozenset(rows.OTHERS)
TINY = {
    "mim": rows.Training((1, 2), steps=2, hidden=5),
    "vae": rows.Training((1, 2), steps=2, hidden=5, is_vae=True),
    "ten mims": rows.Training((1, 2), steps=2, models=10, hidden=5),
}
KINDS = [BareMim, BareVae]


def model(kind):
    torch.manual_seed(0)
    if kind is BareMim:
        return BareMim(torch.randn(40, 3), 7)
    return BareVae(torch.rand(40, 9).round(), 4, 7)


class Shifted(BareVae):
    """A VAE with another loss and the same gradient."""

    def losses(self, x):
        return super().losses(x) + 1


class Steeper(BareVae):
    """A VAE with the same loss and another gradient."""

    def losses(self, x):
        value = super().losses(x)
        return value + 1e-3 * (value - value.detach())


OTHERS = [(Shifted, "loss differs by"), (Steeper, "gradient 0 of")]


@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_loss_and_its_gradient_are_the_librarys(kind):
    bare = model(kind)
    assert same.library(bare, bare.x) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_of_a_plain_loss_is_what_it_draws(kind):
    bare = model(kind)
    torch.manual_seed(1)
    bare.losses(bare.x)
    after = torch.get_rng_state()
    torch.manual_seed(1)
    bare.noise(len(bare.x))
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize(("kind", "message"), OTHERS)
def test_another_loss_is_not_timed(kind, message):
    bare = kind(torch.rand(40, 9).round(), 4, 7)
    with pytest.raises(same.NotTheSame, match=message):
        same.library(bare, bare.x)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([1.0, 2.001], r"differs by 5\.0e-04"),
        ([1.0, float("nan")], "differs by nan"),
        ([1.0], "has shape"),
    ],
)
def test_a_difference_above_the_tolerance_or_without_a_number_is_refused(found, message):
    with pytest.raises(same.NotTheSame, match=f"^a number {message}"):
        same.check("a number", found, [1.0, 2.0])


def test_a_gradient_is_compared_relative_to_its_own_size():
    small = torch.tensor([1e-6, 2e-6])
    assert same.check_gradients("a loss", [small], [small]) == 0
    with pytest.raises(same.NotTheSame, match="gradient 0 of a loss"):
        same.check_gradients("a loss", [2 * small], [small])


def test_the_closed_divergence_is_the_mean_of_the_sampled_one():
    bare = model(BareVae)
    x = bare.x[:1].expand(200_000, -1)
    with torch.no_grad():
        gap = bare.losses(x) - bare.losses_by_closed_divergence(x)
    assert abs(float(gap.mean())) < 5 * float(gap.std()) / len(x) ** 0.5


def test_the_careful_likelihood_of_a_model_without_latents_is_exact():
    bare = model(BareVae)
    torch.nn.init.zeros_(bare.decoder[-1].weight)
    values, _ = log_likelihood(bare, bare.x[:3], 100, at_once=30)
    logits = bare.decoder[-1].bias.expand(3, -1)
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(bare.x[:3]).sum(1)
    # Weights p(z) / q(z|x) remain, whose mean is 1.
    many, errors = log_likelihood(bare, bare.x[:3], 20_000)
    assert ((many - expected).abs() < 5 * errors).all()
    assert values.shape == (3,)


@pytest.mark.parametrize("name", TINY)
def test_all_ways_train_the_models_but_those_of_other_libraries(name):
    options = rows.Options(1, ALL_OTHERS)
    ways, checked = rows.ways_to_train(TINY[name], options)
    expected = {rows.FIT, rows.COMPILED, rows.LOOP} | ({rows.MEDIUM} if name == "vae" else set())
    assert set(ways) == expected
    assert set(checked) == {"library"}
    before = torch.get_float32_matmul_precision()
    for way in expected - {rows.COMPILED}:
        ways[way](1)
    assert torch.get_float32_matmul_precision() == before


def test_likelihoods_and_neighbours_are_measured_beside_what_is_installed():
    options = rows.Options(1, ALL_OTHERS)
    likelihood = rows.likelihoods(rows.Likelihoods(2, 200, 10, 1), options)
    assert [way["way"] for way in likelihood["ways"]] == [rows.ESTIMATE, rows.CAREFUL]
    search = rows.neighbours(rows.Neighbours(300, 250, 4), options)
    assert search["wrong"] == {"mimachine nearest": 0, "scikit-learn": 0}
    assert [way["way"] for way in search["ways"]] == ["mimachine nearest", "scikit-learn"]


@pytest.mark.slow
def test_a_row_of_trainings_has_all_ways_and_a_second_training_compiles_nothing():
    options = rows.Options(1, ALL_OTHERS)
    found = rows.trained(TINY["mim"], options)
    assert [way["way"] for way in found["ways"]] == [rows.FIT, rows.COMPILED, rows.LOOP]
    assert rows.second_fit(TINY["mim"], options)["graphs"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_jax_computes_the_loss_the_gradient_and_the_steps_of_torch(kind):
    pytest.importorskip("jax")
    bare = model(kind)
    assert same.scan(bare, bare.x) < 1e-4


@pytest.mark.parametrize(("kind", "message"), OTHERS)
def test_another_loss_in_jax_is_not_timed(kind, message):
    pytest.importorskip("jax")
    bare = kind(torch.rand(40, 9).round(), 4, 7)
    with pytest.raises(same.NotTheSame, match=message):
        same.scan(bare, bare.x)


@pytest.mark.parametrize("name", TINY)
def test_training_in_jax_lowers_the_loss_of_each_model(name):
    pytest.importorskip("jax")
    from beside.of_jax import Scan

    torch.manual_seed(0)
    scan = Scan(TINY[name].plain())
    scan.train(1)
    first = scan.mean_loss
    scan.train(100)
    assert first.shape == (() if TINY[name].models == 1 else (10,))
    assert (scan.mean_loss < first).all()


def test_pythae_computes_the_plain_loss_and_likelihood():
    pytest.importorskip("pythae")
    from beside import of_pythae

    bare = model(BareVae)
    assert same.pythae(bare, bare.x) < 1e-5
    values, errors = log_likelihood(bare, bare.x[:4], 5000)
    found = of_pythae.log_likelihood(of_pythae.model(bare), bare.x[:4], 5000)
    error = (2 * errors.square().sum()).sqrt() / 4
    assert abs(found - values.mean()) < 5 * error


def test_a_slope_leaves_out_what_a_training_costs_once():
    lengths, calls = (2, 5), []
    slopes, in_excess = measure.by_slope({"way": calls.append}, lengths, steps=10, repeats=3)
    assert calls == [2] + 4 * [2, 5]
    assert len(slopes["way"]) == 1 + 3
    assert set(in_excess) == {"way"}


def test_ratios_are_those_of_the_best_and_their_range_is_that_of_the_rounds():
    seconds = {"ours": [2.0, 2.0, 3.0], "other": [4.0, 5.0, 4.0]}
    ours, other = measure.compared(seconds, "other", {"ours": 1.25})
    assert ours == {
        "way": "ours",
        "seconds": 2.0,
        "over_baseline": 0.5,
        "range": [0.4, 0.75],
        "compile_seconds": 1.25,
    }
    assert other == {"way": "other", "seconds": 4.0, "over_baseline": 1.0, "range": [1.0, 1.0]}


def stored(key, seconds=(0.002, 0.004), title="a step"):
    first, second = seconds
    ways = measure.compared({"ours": [first, first], "other": [second, second]}, "other")
    return {
        "row": key,
        "title": title,
        "unit": "ms a step",
        "baseline": "other",
        "processor": "a processor",
        "threads": 1,
        "load_average_at_start": 0.1,
        "versions": {"torch": "2.13.0"},
        "ways": ways,
    }


def test_the_table_shows_times_ratios_and_machines():
    assert markdown([stored("a"), stored("b", (0.001, 0.001), "another")]) == (
        "| work | way | time | relative | compiling |\n"
        "|---|---|---:|---:|---:|\n"
        "| a step | ours | 2 ms a step | 0.5 | |\n"
        "| | *other* | 4 ms a step | 1 | |\n"
        "| another | ours | 1 ms a step | 1 | |\n"
        "| | *other* | 1 ms a step | 1 | |\n"
        "\n"
        "a, b: a processor, one thread; torch 2.13.0\n"
        "Load average at the start: 0.1 (a), 0.1 (b)\n"
    )


def test_a_row_that_is_measured_again_replaces_the_older_one(tmp_path):
    file = tmp_path / "peers.json"
    assert peers.rows_of(file) == []
    file.write_text(json.dumps({"rows": [stored("a"), stored("c")]}))
    changed = peers.with_row(peers.rows_of(file), stored("a", (1.0, 2.0)))
    changed = peers.with_row(changed, stored("b"))
    assert [row["row"] for row in changed] == ["a", "b", "c"]
    assert changed[0]["ways"][0]["seconds"] == 1.0


def test_rows_that_the_file_has_are_not_measured_again(tmp_path):
    file = tmp_path / "peers.json"
    text = json.dumps({"rows": [stored(key) for key in rows.ROWS]})
    file.write_text(text)
    arguments = Namespace(out=file, rows=None, repeats=1, without=[])
    assert peers.measure_rows(arguments) == 0
    assert file.read_text() == text


def test_a_row_runs_on_one_thread_with_an_empty_cache(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    made = peers.environment("an empty folder")
    assert made["OMP_NUM_THREADS"] == "1"
    assert made["TORCHINDUCTOR_CACHE_DIR"] == "an empty folder"
    assert "OPENBLAS_CORETYPE" not in made


def test_the_ways_of_the_library_start_from_the_weights_of_the_plain_ones():
    bare = model(BareVae)
    made = library.model(bare)
    for own, other in zip(made.encoder.parameters(), bare.encoder.parameters(), strict=True):
        assert torch.equal(own, other)
        assert own is not other
