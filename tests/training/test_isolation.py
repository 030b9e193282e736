"""The random state of a fit does not depend on what others draw, nor they on it."""

import torch

from taskgroup.training.isolation import Isolation

CPU = torch.device("cpu")


def _draw(isolation, n=3):
    with isolation.active():
        return torch.rand(n)


def test_draws_go_on_where_the_fit_left_off_whatever_is_drawn_outside():
    alone = Isolation(7, CPU)
    expected = torch.cat([_draw(alone), _draw(alone)])
    other, mine = Isolation(8, CPU), Isolation(7, CPU)
    first = _draw(mine)
    torch.rand(5)
    _draw(other)
    assert torch.equal(torch.cat([first, _draw(mine)]), expected)


def test_the_state_outside_is_left_as_it_was():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    _draw(Isolation(0, CPU))
    assert torch.equal(torch.rand(4), expected)


def test_a_saved_state_is_restored():
    isolation = Isolation(1, CPU)
    _draw(isolation)
    saved = isolation.random.tensors()
    expected = _draw(isolation)
    other = Isolation(99, CPU)
    other.random.restore(saved)
    assert torch.equal(_draw(other), expected)
