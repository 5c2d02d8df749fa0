"""Which job is next, without any process."""

from theodolite.execute.schedule import TRIES, Schedule


def halves(job: str) -> list[str]:
    return [job[: len(job) // 2], job[len(job) // 2 :]] if len(job) > 1 else [job]


def test_a_job_that_always_dies_is_tried_three_times_ever_smaller_and_then_its_parts_fail():
    plan = Schedule(["abcd"], split=halves)
    tried, events = [], []
    while (job := plan.take()) is not None:
        tried.append(plan.jobs[job])
        events += plan.died(job, "exit code -9")
    assert tried == ["abcd", "ab", "a", "b", "cd", "c", "d"]
    failed = [event for event in events if event.kind == "failed"]
    assert [plan.jobs[event.job] for event in failed] == ["a", "b", "c", "d"]
    assert f"died {TRIES} times (exit code -9" in failed[0].value
    assert not plan.left


def test_what_waits_for_a_split_job_waits_for_all_of_its_parts():
    plan = Schedule(["ab", "later"], after={1: {0}}, split=halves)
    list(plan.died(plan.take(), "exit code -9"))
    first, second = plan.take(), plan.take()
    assert [plan.jobs[first], plan.jobs[second], plan.take()] == ["a", "b", None]
    list(plan.done(first, None))
    assert plan.take() is None
    list(plan.done(second, None))
    assert plan.take() == 1


def test_a_failure_takes_with_it_all_that_wait_for_it_and_those_that_wait_for_them():
    plan = Schedule("abcd", after={1: {0}, 2: {1}})
    events = list(plan.failed(plan.take(), "why"))
    assert [(event.job, event.value) for event in events] == [
        (0, "why"), (1, "what it needs failed"), (2, "what it needs failed"),
    ]  # fmt: skip
    assert plan.take() == 3


def test_a_job_put_back_is_first_again_and_has_lost_no_try():
    plan = Schedule("ab")
    for _ in range(2 * TRIES):
        plan.back(plan.take())
    assert plan.take() == 0
    assert [event.kind for event in plan.died(0, "how")] == ["died"]
