import pytest
import torch

from denoisekit.learn.trainee import new_network
from denoisekit.methods import get_method


@pytest.fixture
def image():
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_student_begins_as_the_identity(image):
    method = get_method("aprrd")
    net = new_network(method, {**method.config, "width": 4}, 0)
    assert torch.equal(net(image), image)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sdap", {"blocks": ["single"] * 2}),
        ("ssbsn", {"blocks": ["attention"] * 2}),
        ("aprrd", {"net": "bsn"}),
    ],
)
@pytest.mark.parametrize("white", [1, 255])
def test_blind_spot_networks_begin_as_the_mean_of_the_neighbours(name, config, white, image):
    method = get_method(name)
    net = new_network(method, {**method.config, "width": 8, **config}, 0)
    with torch.no_grad():
        denoised = net(white * image)
    around = [
        image[..., 1 + down : 63 + down, 1 + across : 63 + across]
        for down in (-1, 0, 1)
        for across in (-1, 0, 1)
        if (down, across) != (0, 0)
    ]
    inner = denoised[..., 1:-1, 1:-1] / white
    torch.testing.assert_close(inner, torch.stack(around).mean(0))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("aprrd", {"width": 2}),
        ("aprrd", {"width": 1, "net": "bsn"}),
        ("aprrd", {"width": 4, "variant": "1.00M"}),
        ("sdap", {"width": 4, "blocks": ["single"]}),
    ],
)
def test_networks_that_cannot_pass_the_image_on_begin_at_random(name, config, image):
    method = get_method(name)
    nets = [new_network(method, {**method.config, **config}, seed) for seed in (0, 1)]
    one, other = (net(image) for net in nets)
    assert not torch.allclose(one, other)


def test_all_other_weights_differ_by_seed_so_that_they_can_learn_different_things():
    method = get_method("aprrd")
    one, other = (new_network(method, {**method.config, "width": 8}, seed) for seed in (0, 1))
    for key, value in one.state_dict().items():
        if value.ndim == 4 and value.shape[0] > 3:
            assert not torch.equal(value[3:], other.state_dict()[key][3:]), key
