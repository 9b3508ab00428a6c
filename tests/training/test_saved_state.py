"""Training states and weights that were edited, and those that may have values without meaning."""

import io
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save

import mimachine as mm
from mimachine.training.records import Epoch
from mimachine.training.saved_state import with_digest
from mimachine.training.state import State


def make_loss(seed=0):
    torch.manual_seed(seed)
    encoder, decoder = mm.Gaussian(mm.MLP(3, 4, (5,))), mm.Gaussian(mm.MLP(2, 6, (5,)))
    return mm.Loss(mm.Joint(encoder, decoder, mm.StandardNormal(2)), mm.MIM)


def recipe(epochs, **options):
    return mm.Training(epochs, batch_size=10, warmup=1, patience=50, **options)


X = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    run = mm.Run.create(tmp_path_factory.mktemp("stopped") / "run", {})
    mm.fit(make_loss(), X, X[:10], recipe(2, ema_decay=0.5), run=run)
    return run


@pytest.fixture
def run(stopped, tmp_path):
    """A copy of a run that was stopped, to change."""
    return mm.Run(shutil.copytree(stopped.path, tmp_path / "run"))


def resume(run, epochs=4):
    loss = make_loss()
    history = mm.fit(loss, X, X[:10], recipe(epochs, ema_decay=0.5), run=run)
    return history, loss.state_dict()


def edit(run, change, is_sealed=False):
    """Change a saved state, which then has no digest, or the right one."""
    file = run.path / "state.ckpt"
    saved = torch.load(file, weights_only=True)
    del saved["digest"]
    change(saved)
    torch.save(with_digest(saved) if is_sealed else saved, file)


def moments(saved):
    return saved["optimizer"]["state"][0]


def put(holder, name, value):
    holder[name] = value


EDITS = {
    "no moments": lambda s: moments(s).pop("exp_avg"),
    "another moment": lambda s: put(moments(s), "max_exp_avg_sq", moments(s)["exp_avg_sq"]),
    "moments of another shape": lambda s: put(moments(s), "exp_avg", torch.zeros(1)),
    "moments of another type": lambda s: put(moments(s), "exp_avg", moments(s)["exp_avg"].double()),
    "moments of another parameter": lambda s: put(s["optimizer"]["state"], 99, moments(s)),
    "sparse moments": lambda s: put(moments(s), "exp_avg", moments(s)["exp_avg"].to_sparse()),
    "moments that are numbers": lambda s: put(moments(s), "exp_avg", 1.0),
    "negative squares": lambda s: moments(s)["exp_avg_sq"].neg_(),
    "moments that are NaN": lambda s: moments(s)["exp_avg"].fill_(torch.nan),
    "infinite moments": lambda s: moments(s)["exp_avg_sq"].fill_(torch.inf),
    "several steps": lambda s: put(moments(s), "step", torch.zeros(3)),
    "negative steps": lambda s: moments(s)["step"].neg_(),
    "no number of steps": lambda s: put(moments(s), "step", 1),
    "weights that are NaN": lambda s: s["tensors"][0].fill_(torch.nan),
    "best weights that are NaN": lambda s: s["best"]["saved"][0].fill_(torch.nan),
    "averages that are NaN": lambda s: s["average"]["values"][0].fill_(torch.nan),
    "averages of another shape": lambda s: put(s["average"]["values"], 0, torch.zeros(2)),
    "a negative count": lambda s: put(s["average"], "count", -1),
    "no best losses": lambda s: s["best"].pop("loss"),
    "best losses of several models": lambda s: put(s["best"], "loss", torch.zeros(2)),
    "a best loss that is NaN": lambda s: s["best"]["loss"].fill_(torch.nan),
    "a best epoch to come": lambda s: s["best"]["epoch"].fill_(9),
    "fewer best weights": lambda s: s["best"]["saved"].pop(),
    "weights of another type": lambda s: put(s["tensors"], 0, s["tensors"][0].double()),
    "weights of a parameter": lambda s: put(s["tensors"], 0, torch.nn.Parameter(s["tensors"][0])),
    "weights without memory": lambda s: put(s["tensors"], 0, s["tensors"][0].to("meta")),
    "a negative epoch": lambda s: put(s, "epoch", -1),
    "true as epoch": lambda s: put(s, "epoch", True),
    "an earlier epoch": lambda s: put(s, "epoch", 1),
    "a later epoch": lambda s: put(s, "epoch", 7),
    "a stranger": lambda s: put(s, "stranger", 1),
}


# Tensors whose bytes cannot be read have no digest.
WITHOUT_DIGEST = {"sparse moments", "weights without memory"}
CASES = [(name, sealed) for name in EDITS for sealed in {False, name not in WITHOUT_DIGEST}]


@pytest.mark.parametrize(("name", "is_sealed"), CASES)
def test_an_impossible_state_is_refused_and_nothing_of_it_is_used(run, name, is_sealed):
    edit(run, EDITS[name], is_sealed)
    loss = make_loss()
    state = State(loss, torch.optim.Adam(loss.parameters(), fused=True), 5, 0.5)
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    with pytest.raises(ValueError, match=r"state\.ckpt (is damaged|cannot be used): ") as refused:
        run.resume(state)
    assert "\n" not in str(refused.value)
    assert state.epoch == 0
    assert not state.optimizer.state
    for name, tensor in loss.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_one_changed_bit_is_noticed(run):
    saved = torch.load(run.path / "state.ckpt", weights_only=True)
    moments(saved)["exp_avg"].view(torch.int32)[0, 0] ^= 1
    torch.save(saved, run.path / "state.ckpt")
    with pytest.raises(ValueError, match=r"state\.ckpt cannot be used: it was changed after"):
        resume(run)


def test_hyperparameters_of_a_saved_optimiser_are_not_used(tmp_path, run):
    state = (run.path / "state.ckpt").read_bytes()
    expected = resume(run)
    (run.path / "state.ckpt").write_bytes(state)
    wrong = {"lr": 9.0, "betas": (0.0, 0.0), "eps": 9.0, "weight_decay": 9.0, "maximize": True}
    edit(run, lambda saved: saved["optimizer"]["param_groups"][0].update(wrong, amsgrad=True))
    history, weights = resume(run)
    assert history == expected[0]
    for name, tensor in weights.items():
        assert torch.equal(tensor, expected[1][name])


def test_tensors_of_a_state_have_memory_of_their_own_in_the_layout_of_the_weights(run):
    def twist(saved):
        for name in ("exp_avg", "exp_avg_sq"):
            wide = torch.stack([moments(saved)[name]] * 2, -1)
            moments(saved)[name] = wide[..., 0]
        saved["best"]["saved"] = [t.t().contiguous().t() for t in saved["best"]["saved"]]

    state = (run.path / "state.ckpt").read_bytes()
    expected = resume(run)
    (run.path / "state.ckpt").write_bytes(state)
    edit(run, twist, is_sealed=True)
    history, weights = resume(run)
    assert history == expected[0]
    for name, tensor in weights.items():
        assert torch.equal(tensor, expected[1][name])


def test_a_compressed_state_is_refused_before_it_is_unpacked(run):
    import zipfile

    file = run.path / "state.ckpt"
    with zipfile.ZipFile(file) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content + bytes(1 << 20))
    with pytest.raises(ValueError, match=r"state\.ckpt is damaged: it cannot be read"):
        resume(run)


def ensemble_state(stopped=(False, True), losses=(1.0, None)):
    ensemble = mm.Ensemble([make_loss(0), make_loss(1)])
    state = State(ensemble, torch.optim.Adam(ensemble.parameters(), fused=True), 5)
    state.epochs = [Epoch(1, 1.0, 0.1, list(losses), list(losses))]
    state.best.update(1, torch.tensor([1.0, 2.0]))
    state.best.done = torch.tensor(stopped)
    return ensemble, state


@pytest.mark.parametrize("index", [0, 1])
def test_only_a_model_that_has_stopped_may_have_lost_its_weights(tmp_path, index):
    run = mm.Run.create(tmp_path / "run", {})
    ensemble, state = ensemble_state()
    with torch.no_grad():
        for parameter in ensemble.parameters():
            parameter[index] = torch.nan
    run.append_metrics(state.epochs[0])
    run.save_state(state)
    fresh = ensemble_state()[1]
    fresh.epochs = []
    if index == 1:
        run.resume(fresh)
        assert fresh.epoch == 1
        assert all(p[1].isnan().all() and p[0].isfinite().all() for p in fresh.loss.parameters())
    else:
        with pytest.raises(ValueError, match="its weights are not finite"):
            run.resume(fresh)


def test_epochs_of_one_model_are_not_those_of_several(tmp_path, run):
    _, state = ensemble_state()
    with pytest.raises(ValueError, match="belongs to another model"):
        run.resume(state)
    other = mm.Run.create(tmp_path / "other", {})
    other.append_metrics(Epoch(1, 1.0, 0.1, 1.0, 1.0))
    other.save_state(state)
    with pytest.raises(ValueError, match="another number of models"):
        other.resume(ensemble_state()[1])


# --- weights -------------------------------------------------------------------------------------


def stored(run):
    return run.path / "model.safetensors"


def test_equal_weights_are_equal_files(tmp_path):
    for name in ("a", "b"):
        mm.Run.create(tmp_path / name, {}).save_weights(make_loss().model)
    assert (
        stored(mm.Run(tmp_path / "a")).read_bytes() == stored(mm.Run(tmp_path / "b")).read_bytes()
    )


def header_of(content):
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(text, data):
    return len(text).to_bytes(8, "little") + text.encode() + data


def test_one_changed_bit_of_the_weights_is_noticed_and_nothing_is_loaded(run):
    content = bytearray(stored(run).read_bytes())
    content[-1] ^= 1
    stored(run).write_bytes(content)
    model = make_loss(3).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"model\.safetensors was changed after it was written"):
        run.load_weights(model)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_weights_without_a_digest_are_accepted_if_they_are_finite_and_of_the_model(run):
    weights = load_file(stored(run))
    stored(run).write_bytes(save(weights))
    run.load_weights(make_loss(1).model)
    name = next(name for name in weights if weights[name].dim())
    for wrong, message in (
        (weights[name].double(), "must be torch.float32, got torch.float64"),
        (weights[name][:1], "must have shape"),
        (torch.full_like(weights[name], torch.nan), "weights that are not finite"),
        (torch.full_like(weights[name], torch.inf), "weights that are not finite"),
    ):
        stored(run).write_bytes(save({**weights, name: wrong}))
        with pytest.raises(ValueError, match=message):
            run.load_weights(make_loss(1).model)
    stored(run).write_bytes(save({**weights, "stranger": torch.zeros(1)}))
    with pytest.raises(ValueError, match="it has 'stranger'"):
        run.load_weights(make_loss(1).model)


def test_a_repeated_entry_of_the_header_is_refused(run):
    header, data = header_of(stored(run).read_bytes())
    name = next(name for name in header if name != "__metadata__")
    text = json.dumps(header)
    again = f"{text[:-1]}, {json.dumps(name)}: {json.dumps(header[name])}}}"
    stored(run).write_bytes(with_header(again, data))
    with pytest.raises(ValueError, match="occurs twice"):
        run.load_weights(make_loss().model)


def test_masks_may_be_infinite_where_those_of_a_fresh_model_are(tmp_path):
    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    run = mm.Run.create(tmp_path / "run", {})
    for values, accepted in (
        ([0.0, -torch.inf], True),
        ([-torch.inf, -torch.inf], False),
        ([0.0, torch.nan], False),
    ):
        model = Masked()
        model.mask.copy_(torch.tensor(values))
        run.save_weights(model)
        if accepted:
            run.load_weights(Masked())
        else:
            with pytest.raises(ValueError, match="not finite"):
                run.load_weights(Masked())


def test_weights_of_an_ensemble_may_be_lost_for_some_but_not_for_all(tmp_path):
    run, ensemble = mm.Run.create(tmp_path / "run", {}), mm.Ensemble([make_loss(0), make_loss(1)])
    for index, accepted in ((1, True), (0, False)):
        with torch.no_grad():
            for parameter in ensemble.parameters():
                parameter[index] = torch.nan
        run.save_weights(ensemble)
        fresh = mm.Ensemble([make_loss(0), make_loss(1)])
        if accepted:
            run.load_weights(fresh)
            assert all(p[0].isfinite().all() for p in fresh.parameters())
        else:
            with pytest.raises(ValueError, match="not finite"):
                run.load_weights(fresh)


def test_a_state_is_read_from_a_file_alone(run):
    stream = io.BytesIO()
    torch.save({"epoch": 0}, stream)
    (run.path / "state.ckpt").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match=r"state\.ckpt is damaged: it is incomplete"):
        resume(run)
