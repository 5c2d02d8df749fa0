"""Schedules as sets of steps written out, and a budget kept on a clock that we turn by hand."""

import pytest
import torch
from torch import nn

import theodolite as th
from theodolite.errors import SettingError
from theodolite.record import RecorderWarning
from theodolite.record.schedule import Ledger, parse


def due(every, steps, epochs=0):
    marks = [parse(every)(step, epochs) for step in range(steps + 1)]
    return [step for step in range(1, steps + 1) if marks[step] > marks[step - 1]]


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        (5, [1, 5, 10]),
        ("5 steps", [1, 5, 10]),
        ("1 step", list(range(1, 13))),
        ("1 per decade", [1, 10]),
        ("2 per decade", [1, 4, 10]),  # √10 is passed at 4
        ("2 epochs", []),
        (lambda step, epoch: step // 6, [6, 12]),
    ],
)
def test_a_schedule_asks_after_these_steps(every, expected):
    assert due(every, 12) == expected


def test_a_logarithmic_schedule_hits_every_power_of_ten():
    found = due("7 per decade", 100_000)
    assert set(found) >= {1, 10, 100, 1_000, 10_000, 100_000}
    assert len(found) <= 7 * 5 + 1


def test_a_schedule_in_epochs_asks_at_their_ends():
    marks = [parse("3 epochs")(100, epoch) for epoch in range(10)]
    assert [epoch for epoch in range(1, 10) if marks[epoch] > marks[epoch - 1]] == [3, 6, 9]


@pytest.mark.parametrize("every", [0, -1, True, 2.5, None, "often", "0 epochs", "3 per minute", "-2 steps"])
def test_what_is_no_schedule_is_refused_with_those_there_are(every):
    with pytest.raises(SettingError, match="expected every as an integer"):
        parse(every)


def test_a_mark_that_was_jumped_over_still_asks():
    ledger = Ledger(marks=parse(10)(9, 0))
    assert ledger.asks(parse(10)(12, 0))


def test_the_first_measurement_is_taken_and_the_next_once_training_has_earned_it():
    assert Ledger().affords(0.0, left=0.0)
    spent = Ledger().take(1, seconds=2.0, failed=False)
    assert not spent.affords(3.9, left=9.0)  # 2 s spent and 2 s more
    assert not spent.affords(4.1, left=1.9)
    assert spent.affords(4.1, left=2.1)


class Clock:
    """Seconds that pass only when somebody lets them."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def train(recorder, clock, steps, seconds=1.0):
    model, batch = nn.Linear(2, 1), (torch.eye(2), torch.zeros(2, 1))
    for _ in range(steps):
        clock.now += seconds  # one step of training
        recorder.step(model, nn.MSELoss(), batch)


def taking(clock, seconds):
    def instrument(model, loss, data):
        clock.now += seconds
        return seconds

    return instrument


def test_a_budget_holds_over_a_training_and_the_recorder_says_that_it_thins_itself_out():
    clock = Clock()
    recorder = th.Recorder({"slow": taking(clock, 3.0)}, every=1, budget=0.05, out=None, clock=clock)
    with pytest.warns(RecorderWarning, match="slow takes 3 s.*measured less often than asked"):
        train(recorder, clock, 1_000)
    costs, ledger = recorder.table("costs"), recorder.table("ledger").iloc[0]
    assert costs["seconds"].sum() == 3.0 * len(costs)
    assert len(costs) == 14  # 3 s each into 4.5 % of 999 s: a tenth of the budget is for writing
    assert (ledger["asked"], ledger["measured"], ledger["skipped"]) == (1_000, 14, 986)
    after_the_first = costs.iloc[1:]
    taken = 3.0 * (after_the_first.index + 1)
    assert (taken <= 0.05 * (after_the_first["training_seconds"] + 1e-9)).all()
    assert "986 left out to keep the budget" in repr(recorder)


def costs_of_two(quick, slow, steps):
    """What a budget of a tenth lets two instruments of so many seconds do, asked at every step."""
    clock = Clock()
    both = {"quick": taking(clock, quick), "slow": taking(clock, slow)}
    recorder = th.Recorder(both, every=1, budget=0.1, out=None, clock=clock)
    with pytest.warns(RecorderWarning):
        train(recorder, clock, steps)
    return recorder.table("costs")


def test_a_slow_instrument_does_not_starve_for_a_quick_one_and_the_sum_stays_within_the_budget():
    costs = costs_of_two(quick=0.01, slow=4.0, steps=500).groupby("instrument")["seconds"]
    assert costs.count()["slow"] == 5  # 4 s each into 4.5 % of 499 s
    assert costs.count()["quick"] == 456  # from step 46 on, when training has earned the first 4 s
    assert costs.sum().sum() <= 0.1 * 500


def test_what_a_first_measurement_took_too_much_is_earned_before_any_instrument_is_measured_again():
    costs = costs_of_two(quick=0.1, slow=9.0, steps=150)
    again = costs[costs["step"] > 1]
    assert set(again["instrument"]) == {"quick"}  # 4.5 % of 150 s never pay for another 9 s
    assert again["step"].iloc[0] == 104  # 9.1 s spent and 0.1 s more are 9 % of 102.2 s, and step 104 comes after 103 s
    assert costs["seconds"].sum() <= 0.09 * 150


def test_an_instrument_within_its_budget_is_never_thinned_and_nothing_is_said():
    clock = Clock()
    recorder = th.Recorder({"quick": taking(clock, 0.3)}, every=20, budget=0.05, out=None, clock=clock)
    clock.now += 100.0  # a data set is loaded: not training
    train(recorder, clock, 200)
    assert recorder.table("costs")["step"].tolist() == [1, *range(20, 201, 20)]
    assert recorder.table("costs")["training_seconds"].iloc[-1] == pytest.approx(199.0)


def test_each_instrument_can_have_a_schedule_of_its_own():
    clock = Clock()
    both = {"a": taking(clock, 0.0), "b": taking(clock, 0.0)}
    recorder = th.Recorder(both, every={"a": 4, "b": "1 per decade"}, out=None)
    train(recorder, clock, 12)
    steps = recorder.table("costs").groupby("instrument")["step"].apply(list)
    assert steps["a"] == [1, 4, 8, 12]
    assert steps["b"] == [1, 10]


def test_schedules_for_other_instruments_than_those_given_are_refused():
    with pytest.raises(SettingError, match="expected every for each of sharpness, got it for gradient_norm"):
        th.Recorder("sharpness", every={"gradient_norm": 1}, out=None)


def test_epochs_are_counted_by_their_own_call():
    recorder = th.Recorder("gradient_norm", every="2 epochs", out=None)
    model, batch = nn.Linear(2, 1), (torch.eye(2), torch.ones(2, 1))
    for _ in range(5):
        for _ in range(3):
            recorder.step(model, nn.MSELoss(), batch)
        recorder.epoch(model, nn.MSELoss(), batch)
    assert recorder.table("costs")[["step", "epoch"]].to_numpy().tolist() == [[6, 2], [12, 4]]
