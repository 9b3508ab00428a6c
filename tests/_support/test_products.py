"""Float32 products by oneDNN keep single precision, and the process's setting is restored."""

import threading

import pytest
import torch
from torch import nn

import mimachine as mm
from mimachine._support.products import faster_products, products_pay

needs_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="changes nothing beside a GPU")


@pytest.fixture(autouse=True)
def default_setting():
    assert torch.get_float32_matmul_precision() == "highest"
    yield
    torch.set_float32_matmul_precision("highest")


def setting() -> str:
    return torch.get_float32_matmul_precision()


def is_used() -> bool:
    with faster_products():
        return setting() == "medium"


def test_products_have_single_precision():
    a, b = torch.randn(500, 700), torch.randn(700, 300)
    with faster_products():
        found = a @ b
    assert (found.double() - a.double() @ b.double()).abs().max() < 1e-5 * 700**0.5


def test_the_setting_is_restored_after_an_error():
    with pytest.raises(KeyError), faster_products():
        raise KeyError
    assert setting() == "highest"


def test_another_setting_stays():
    torch.set_float32_matmul_precision("high")
    with faster_products():
        assert setting() == "high"
    assert setting() == "high"


def test_a_setting_made_meanwhile_stays():
    with faster_products():
        torch.set_float32_matmul_precision("high")
    assert setting() == "high"


def test_without_need_nothing_changes():
    with faster_products(pay=False):
        assert setting() == "highest"


@needs_cpu
def test_the_last_of_several_threads_restores():
    if not is_used():
        pytest.skip("oneDNN has no single precision on this processor")
    inside, leave = threading.Barrier(5), threading.Event()

    def work() -> None:
        with faster_products():
            inside.wait()
            leave.wait()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    inside.wait()
    with faster_products():
        pass
    assert setting() == "medium"
    leave.set()
    for thread in threads:
        thread.join()
    assert setting() == "highest"


def test_small_products_of_another_type_or_of_no_weights_do_not_pay():
    assert products_pay(mm.MLP(784, 784, (400,)), 128)
    assert not products_pay(mm.MLP(64, 64, (100,)), 128)
    assert not products_pay(mm.MLP(784, 784, (400,)).double(), 128)
    assert not products_pay(nn.BatchNorm1d(10_000), 128)
    assert not products_pay(lambda z: z, 128)


@needs_cpu
@pytest.mark.parametrize("hidden", [4, 2000])
def test_fit_uses_them_for_large_networks_only(hidden):
    model = mm.Joint(
        mm.Gaussian(mm.MLP(50, 8, (hidden,))),
        mm.Gaussian(mm.MLP(4, 100, (hidden,))),
        mm.StandardNormal(4),
    )
    seen = []
    mm.fit(
        mm.Loss(model, mm.VAE),
        torch.randn(256, 50),
        training=mm.Training(1, 128, warmup=0),
        on_epoch=lambda epoch: seen.append(setting()),
        progress=False,
    )
    assert seen == ["medium" if hidden > 100 and is_used() else "highest"]
    assert setting() == "highest"


def test_likelihoods_have_single_precision():
    model = mm.Joint(
        mm.Gaussian(mm.MLP(784, 40, (400,))),
        mm.Bernoulli(mm.MLP(20, 784, (400,))),
        mm.StandardNormal(20),
    )
    x, z = torch.rand(1, 784).round(), torch.randn(1000, 20)
    with torch.no_grad():
        expected = model.double().decoder(z.double()).log_prob(x.double())
        model.float()
        assert products_pay(model.decoder, 5000)
        with faster_products():
            found = model.decoder(z).log_prob(x)
    assert (found - expected).abs().max() < 1e-3
